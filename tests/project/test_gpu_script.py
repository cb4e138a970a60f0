"""benchmarks/gpu.sh without a card: what it calls, what it copies, and that the arithmetic in its head is that of the scale."""
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from fgdlab.lab.commands.cli import main
from fgdlab.lab.config.run_config import RunConfig
from fgdlab.lab.config.scales import scale_settings
from fgdlab.lab.datasets.image_cache import MAX_BYTES
from fgdlab.lab.provenance import environment as provenance
from fgdlab.lab.sweeps.spec import load_sweep

SCRIPT = Path(__file__).parents[2] / "benchmarks/gpu.sh"
HEAD = " ".join(line.lstrip("# ") for line in SCRIPT.read_text().splitlines() if line.startswith("#"))
PYTHON = """#!/usr/bin/env bash
[[ "$1" == -c ]] && exit 0
echo "$FGDLAB_COMMIT|$*" >>calls
case "$3" in
  sweep) mkdir -p "runs/$4-gpu"; echo part >"runs/$4-gpu/results.csv"; sleep "${SLEEP:-0}"; exit "${FAIL:-0}" ;;
  table) mkdir -p ablations/results; for kind in csv md png; do echo whole >"ablations/results/$4-gpu.$kind"; done ;;
esac
"""


@pytest.fixture
def script(tmp_path):
    """Run the script in a folder where Python is a stand-in that notes how it is called: (exit status, calls, {name: text} in $OUT, what it said)."""
    (tmp_path / "benchmarks").mkdir()
    shutil.copy(SCRIPT, tmp_path / "benchmarks")
    python = tmp_path / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    out = tmp_path / "out"
    out.mkdir()

    def run(*parts: str, **environment: str):
        done = subprocess.run(
            ["bash", str(tmp_path / "benchmarks/gpu.sh"), *parts], capture_output=True, text=True,
            env={"PATH": os.environ["PATH"], "PYTHON": str(python), "OUT": str(out), **environment},
        )
        calls = (tmp_path / "calls").read_text().splitlines() if (tmp_path / "calls").exists() else []
        return done.returncode, calls, {path.name: path.read_text().strip() for path in out.iterdir()}, done.stderr

    return run


def test_a_table_is_run_published_and_copied_under_the_name_of_its_scale(script):
    code, calls, out, _ = script("table1", "table7", COMMIT="0123456789ab")
    assert code == 0
    assert calls == [
        f"0123456789ab|-m fgdlab {words}" for name in ("table1_areas", "table7_temperature")
        for words in (f"sweep {name} --scale gpu --jobs 5", f"table {name} --scale gpu --publish")
    ]
    assert out == {f"{name}-gpu.{kind}": "whole" for name in ("table1_areas", "table7_temperature") for kind in ("csv", "md", "png")}


@pytest.mark.parametrize("trouble", [{"FAIL": "1"}, {"SLEEP": "20", "LIMIT": "0.2"}], ids=["a run fails", "the time is over"])
def test_a_table_that_is_not_whole_is_copied_and_not_published(script, trouble):
    code, calls, out, said = script("table1", "table7", **trouble)
    assert code == 1 and [call.split()[2] for call in calls] == ["sweep"] and out == {"table1_areas-gpu-unfinished.csv": "part"}
    assert "table1_areas is not whole and was not published" in said


def test_parts_are_named_or_stand_in_steps_and_a_misspelt_one_is_told_before_anything_runs(script):
    assert script("table1", "tabel7")[:3] == (2, [], {}) and "parts must be among tests step loss table1 table7, got tabel7" in script("tabel7")[3]
    assert [call.removeprefix("|") for call in script(STEPS="tests step")[1]] == ["-m pytest -m cuda", "-m benchmarks.gpu_step"]


def test_no_more_files_are_copied_than_eight(script):
    """Two tables and two benchmarks; some machines give no more back."""
    assert len(script()[2]) + len(re.findall(r"copied benchmarks/\S+\.json", SCRIPT.read_text())) <= 8


def test_the_commands_of_the_script_are_those_of_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, runs in (("table1_areas", 15), ("table7_temperature", 18)):
        done = CliRunner().invoke(main, ["sweep", name, "--scale", "gpu", "--jobs", "5", "--dry-run"])
        assert done.exit_code == 0 and f"to do: {runs} of {runs} runs" in done.stdout


def test_the_arithmetic_in_the_head_is_that_of_the_scale():
    config = RunConfig.of(scale_settings("gpu"))
    scenes, images = config.train_images + 2 * config.eval_images, config.train_images
    assert f"{scenes:,} of {config.image_size} px x 9 ms" in HEAD and f"{config.teacher_epochs} epochs x {images:,} images at 450/s" in HEAD
    assert f"15 runs x {config.epochs} epochs x {images:,} images at 1,000/s" in HEAD and f"judging {config.eval_images} images" in HEAD
    seconds = [scenes * 9e-3, config.teacher_epochs * images / 450, 15 * config.epochs * images / 1000, 15 * 15 / 5]
    said = [int(each) for each in re.findall(r" (\d+) s(?= |$)", HEAD.partition("fgdlab/lab/config/scales.py")[2])][:5]
    assert said[:4] == pytest.approx(seconds, abs=5) and said[4] == sum(said[:4])
    assert f"--size {config.image_size} --train {images} --tune {config.eval_images} --val {config.eval_images}" in HEAD
    assert 3 * config.image_size**2 * images <= MAX_BYTES < 3 * config.image_size**2 * 20_000
    assert all(len(load_sweep(name).at("gpu").seeds) == 3 for name in ("table1_areas", "table7_temperature"))


def test_a_copy_without_git_is_of_the_commit_that_its_maker_names(monkeypatch, tmp_path):
    monkeypatch.setenv("FGDLAB_COMMIT", "0123456789ab")
    ours = provenance.git_state()
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "copy/fgdlab/lab/provenance/environment.py"))
    assert provenance.git_state() == {"commit": "0123456789ab", "dirty": False} and ours["commit"] != "0123456789ab"
    monkeypatch.delenv("FGDLAB_COMMIT")
    assert provenance.git_state() == {"commit": None, "dirty": None}
