"""``fgdlab seeds``: one line per contrast with the numbers of seeds_needed.py, and notes on their meaning."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

from fgdlab.lab.commands.cli import main
from fgdlab.lab.reports.seeds import SeedTargets, seeds_report
from fgdlab.lab.stats.seeds_needed import anytime_interval, group_sequential_interval, seeds_for_power, seeds_for_width
from fgdlab.lab.sweeps.spec import load_sweep

AP = {"none": [20.0, 21.0, 22.5], "fg": [30.0, 32.0, 31.5], "bg": [25.0, 26.5, 27.0]}
FG = [10.0, 11.0, 9.0]  # fg minus none, seed by seed


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = {"none": {"label": "no distillation"}, "fg": {"label": "foreground"}, "bg": {"label": "background"}}
    Path("mine.yaml").write_text(
        yaml.safe_dump(
            {
                "title": "t",
                "question": "q?",
                "baseline": "none",
                "seeds": [0, 1, 2],
                "rows": rows,
                "contrasts": [["fg", "bg"]],
            },
            sort_keys=False,
        )
    )
    return load_sweep("mine.yaml").at("laptop")


@pytest.fixture
def results():
    return pd.DataFrame(
        [
            {"sweep": "mine", "row": row, "seed": seed, "state": "done", "AP": value, "AR": 50.0}
            for row, values in AP.items()
            for seed, value in enumerate(values)
        ]
    )


def lines_of(text: str) -> list[str]:
    """The lines of the table's body that begin a contrast."""
    return [line for line in text.split("\n\n")[0].splitlines() if re.search(r"\d ± [\d–]", line)]


def test_a_line_holds_the_numbers_of_seeds_needed(sweep, results):
    text = seeds_report(results, sweep, SeedTargets(half_width=0.5), "fg")
    (line,) = lines_of(text)
    low, high = anytime_interval(FG)
    need, told = seeds_for_width(1.0, 3, 0.5), seeds_for_power(1.0, 3, 10.0)
    assert (
        "+10.00 ± 1.00" in line
        and f"[{low:+.2f}, {high:+.2f}]" in line
        and f"{need.seeds}, {need.seeds - 3} more" in line
    )
    assert f"({need.low} to {need.high})" in text and line.rstrip().endswith(f"{told.seeds}, enough")


def test_every_row_is_compared_with_the_baseline_and_then_come_the_sweeps_contrasts(sweep, results):
    text = seeds_report(results, sweep, SeedTargets())
    assert [line.split("  ")[0] for line in lines_of(text)] == [
        "foreground minus no",
        "background minus no",
        "foreground minus",
    ]
    assert len(lines_of(seeds_report(results, sweep, SeedTargets(), against="bg"))) == 2


def test_a_planned_analysis_has_a_bonferroni_interval_and_other_seeds_have_none(sweep, results):
    low, high = group_sequential_interval(FG, [3, 6])
    assert f"[{low:+.2f}, {high:+.2f}]" in seeds_report(results, sweep, SeedTargets(analyses=(3, 6)), "fg")
    elsewhere = seeds_report(results, sweep, SeedTargets(analyses=(4, 8)), "fg")
    assert "no analysis" in elsewhere and "planned here" in elsewhere


def test_the_smallest_difference_that_matters_replaces_the_mean_so_far(sweep, results):
    need = seeds_for_power(1.0, 3, 0.5, 0.9)
    named = seeds_report(results, sweep, SeedTargets(difference=0.5, power=0.9), "fg")
    assert f"{need.seeds}, {need.seeds - 3} more" in named and "a power of 90 %." in named and "optimistic" not in named
    assert "optimistic" in seeds_report(results, sweep, SeedTargets(), "fg")


def test_one_pair_shows_its_difference_and_none_a_dash(sweep, results):
    results.loc[(results.row == "fg") & (results.seed > 0), "state"] = "failed"
    results.loc[results.row == "bg", "state"] = "failed"
    table = seeds_report(results, sweep, SeedTargets()).split("\n\n")[0]
    assert "+10.00 ± –" in table and table.count("–") >= 4 + 5


def test_the_notes_say_which_variance_is_covered_and_fit_a_terminal(sweep, results):
    text = seeds_report(results, sweep, SeedTargets())
    assert "cover the seed variance of the student's training, but not" in " ".join(
        text.split()
    ) and "not corrected for multiple comparisons" in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 110


@pytest.mark.parametrize(
    "options, words",
    [
        (["--row", "fgg"], ("unknown row 'fgg'", "did you mean 'fg'")),
        (["--row", "none"], ("two rows, got 'none' for both",)),
        (["--metric", "APs"], ("unknown metric 'APs'",)),
        (["--half-width", "0"], ("--half-width", "0.0 is not in the range x>0")),
        (["--half-width", "nan"], ("half_width must be above 0", "got nan")),
        (["--half-width", "inf"], ("half_width must be above 0", "got inf")),
        (["--difference", "0"], ("difference not 0", "got 0.5, 0.0")),
        (["--difference", "nan"], ("difference not 0", "0.5, nan")),
        (["--power", "80"], ("--power", "80.0 is not in the range 0<x<1")),
        (["--looks", "3,x"], ("--looks", "whole numbers from 2 up", "'3,x'")),
        (["--looks", "1,5"], ("from 2 up", "'1,5'")),
    ],
)
def test_a_mistake_is_one_clear_line(sweep, results, options, words):
    Path("runs/mine").mkdir(parents=True)
    results.to_csv("runs/mine/results.csv", index=False)
    done = CliRunner().invoke(main, ["seeds", "mine.yaml", *options])
    assert done.exit_code in (1, 2) and done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1
    assert [each for each in words if each not in done.stderr] == []


def test_the_command_prints_the_report_and_says_where_from(sweep, results):
    Path("runs/mine").mkdir(parents=True)
    results.to_csv("runs/mine/results.csv", index=False)
    done = CliRunner().invoke(main, ["seeds", "mine.yaml", "--row", "fg"])
    assert done.exit_code == 0 and "+10.00 ± 1.00" in done.stdout and done.stderr == "from runs/mine/results.csv\n"


def test_a_row_is_compared_with_the_one_that_it_names_and_one_that_cannot_be_run_is_left_out(sweep, results):
    rows = {**sweep.rows, "bg": replace(sweep.rows["bg"], against="fg"), "more": sweep.rows["fg"]}
    told = replace(sweep, rows=rows, contrasts=[], absent={"more": "needs a card"})
    first, second = lines_of(seeds_report(results, told, SeedTargets()))
    assert (
        first.startswith("foreground minus no") and second.startswith("background minus") and "-5.00 ± 0.50" in second
    )
    assert "-5.00 ± 0.50" in lines_of(seeds_report(results, told, SeedTargets(), "bg"))[0]
    assert "+5.00 ±" in seeds_report(results, told, SeedTargets(), "bg", "none")


def test_no_seed_on_both_sides_is_one_line(sweep, results, refusal):
    results["state"] = "failed"
    assert "must have a seed that is done in both rows" in refusal(seeds_report, results, sweep, SeedTargets())


@pytest.mark.parametrize("command, flag", [("seeds", "--out"), ("table", "--out"), ("report", "--runs")])
def test_a_named_folder_without_results_is_not_replaced_by_the_committed_ones(command, flag):
    done = CliRunner().invoke(main, [command, "table1_areas", flag, "nowhere"])
    problem = "results of table1_areas must be in nowhere/results.csv, got none"
    assert done.exit_code == 1 and done.stderr == f"Error: {problem}; run `fgdlab sweep table1_areas` first\n"


def test_the_published_first_table_can_be_asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)                                      # without runs of one's own
    done = CliRunner().invoke(main, ["seeds", "table1_areas"])
    assert (
        done.exit_code == 0
        and len(lines_of(done.stdout)) >= 4
        and np.all(["enough" in done.stdout, "more" in done.stdout])
    )
