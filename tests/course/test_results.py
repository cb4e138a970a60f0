"""Answers of notebooks from committed results: better rows are named, old results are refused with the reason."""
import numpy as np
import pandas as pd
import pytest

from fgdlab.lab.course import Answer, results
from fgdlab.lab.sweeps import load_sweep

GAINS = {"none": 0.0, "fg": 2.0, "bg": 0.1, "both": -2.0, "split": 2.0}


def runs():
    noise = np.random.default_rng(0).normal(scale=0.3, size=(len(GAINS), 5))
    return pd.DataFrame([
        {"sweep": "table1_areas", "row": row, "seed": seed, "state": "done", "AP": 20 + gain + noise[i, seed]}
        for i, (row, gain) in enumerate(GAINS.items()) for seed in range(5)
    ])


@pytest.fixture
def answer(monkeypatch):
    def with_runs(why="", *contrasts):
        monkeypatch.setattr(results, "current_results", lambda name: (runs(), why))
        return Answer("table1_areas", *contrasts)
    return with_runs


def test_the_better_row_is_named_only_where_the_interval_does_not_contain_0(answer):
    each = answer()
    assert each.sentence("fg", "none").endswith("**foreground** is better.")
    assert each.sentence("both", "none").endswith("**no distillation** is better.")
    assert "no difference is shown" in each.sentence("bg", "none")


def test_it_shows_every_row_and_the_contrasts_asked_for_or_those_of_the_sweep(answer):
    text, contrasts = answer()._repr_markdown_(), load_sweep("table1_areas").contrasts
    assert text.count("| 1") + text.count("| 2") == 5 and text.count("\n- ") == len(contrasts)
    assert answer("", ("fg", "none"))._repr_markdown_().count("\n- ") == 1


def test_a_contrast_with_a_row_that_has_no_runs_is_left_out(answer):
    each = answer("", ("fg", "none"), ("split", "none"))
    each.runs = each.runs[each.runs["row"] != "split"]
    assert each._repr_markdown_().count("\n- ") == 1 and "foreground minus" in each._repr_markdown_()


def test_runs_with_other_settings_are_no_answer_and_the_reason_is_named(answer):
    old = answer("epochs was 2, is now 8")
    assert old.runs is None and "epochs was 2, is now 8" in old._repr_markdown_()
    assert "20." not in old._repr_markdown_() and "fgdlab sweep table1_areas" in old._repr_markdown_()
