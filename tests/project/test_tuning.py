"""A tuning table in ablations/tuning has the results of its YAML."""
from pathlib import Path

import pandas as pd
import pytest

import fgdlab
from fgdlab.lab.sweeps import load_sweep

TUNING = Path(fgdlab.__file__).parents[1] / "ablations/tuning"


@pytest.mark.parametrize("name", ["laptop_ratios", "detectors_ratios"])
def test_each_line_of_a_tuning_table_is_a_row_of_its_sweep_with_the_seed_of_the_sweep(name):
    sweep = load_sweep(str(TUNING / f"{name}.yaml"))
    lines = pd.read_csv(TUNING / f"{name}.csv")
    pairs = zip(lines.row, lines.loss_ratio, strict=True)
    names = [row if row in sweep.rows else f"{row}_{ratio:g}" for row, ratio in pairs]
    assert len(names) > 40 and set(names) - {*sweep.rows} == set()
    given = [sweep.rows[each].set.get("loss_ratio", 0) for each in names]
    assert lines.loss_ratio.tolist() == given
    assert {*lines.seed} == {*sweep.at("laptop").seeds} and {*lines.eval_split} == {"tune"}
