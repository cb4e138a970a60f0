"""benchmarks/gpu.sh without a GPU: what it calls and what it copies."""
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from fgdlab.lab.commands.cli import main
from fgdlab.lab.provenance import code

SCRIPT = Path(__file__).parents[2] / "benchmarks/gpu.sh"
PYTHON = """#!/usr/bin/env bash
[[ "$1" == -c ]] && exit 0
echo "$FGDLAB_COMMIT|$*" >>calls
[[ "$2" == "${BREAK:-}" ]] && exit 1
case "$3" in
  sweep) mkdir -p "runs/$4-gpu"; echo part >"runs/$4-gpu/results.csv"; sleep "${SLEEP:-0}"; exit "${FAIL:-0}" ;;
  table) mkdir -p ablations/results; for kind in csv md png; do echo whole >"ablations/results/$4-gpu.$kind"; done ;;
esac
"""


@pytest.fixture
def script(tmp_path):
    """Run the script with a stand-in for Python: (exit status, recorded calls, {name: text} in $OUT, stderr)."""
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
        return done.returncode, calls, {
            path.name: path.read_text().strip() for path in out.iterdir() if path.name != "gpu.log"}, done.stderr

    return run


def test_a_table_is_run_published_and_copied_with_its_scale_in_its_name(script):
    code, calls, out, _ = script("table1", "table7", COMMIT="0123456789ab")
    assert code == 0
    assert calls == [
        f"0123456789ab|-m fgdlab {words}" for name in ("table1_areas", "table7_temperature")
        for words in (f"sweep {name} --scale gpu --jobs 5", f"table {name} --scale gpu --publish")
    ]
    assert out == {
        f"{name}-gpu.{kind}": "whole"
        for name in ("table1_areas", "table7_temperature")
        for kind in ("csv", "md", "png")
    }


@pytest.mark.parametrize(
    "trouble", [{"FAIL": "1"}, {"SLEEP": "20", "LIMIT": "0.2"}], ids=["a run fails", "the time is over"]
)
def test_an_unfinished_table_is_copied_and_not_published(script, trouble):
    code, calls, out, stderr = script("table1", "table7", **trouble)
    assert code == 1 and [call.split()[2] for call in calls] == ["sweep", "sweep"]
    assert out == {f"{name}-gpu-unfinished.csv": "part" for name in ("table1_areas", "table7_temperature")}
    assert "table1_areas is unfinished and was not published" in stderr
    assert "these parts failed: table1 table7" in stderr


def test_a_part_that_fails_costs_only_itself(script):
    code, calls, out, stderr = script(BREAK="benchmarks.fgd_loss")
    assert code == 1 and "these parts failed: loss" in stderr and "step" not in stderr.split("failed:")[1]
    parts = ["benchmarks.fgd_loss", "pytest", "benchmarks.gpu_step", "fgdlab", "fgdlab"]
    assert [call.split()[1] for call in calls] == parts
    assert out["table1_areas-gpu.md"] == "whole"


def test_parts_come_from_arguments_or_steps_and_an_unknown_one_is_refused_before_anything_runs(script):
    assert script("table1", "tabel7")[:3] == (2, [], {})
    assert "parts must be among loss tests step table1 table7, got tabel7" in script("tabel7")[3]
    assert [call.removeprefix("|") for call in script(STEPS="loss step")[1]] == [
        "-m benchmarks.fgd_loss --device cuda", "-m benchmarks.gpu_step",
    ]


def test_the_most_valuable_part_is_first_and_all_fit_into_a_quarter_of_an_hour(script):
    assert [call.split()[1] for call in script()[1]][:3] == ["benchmarks.fgd_loss", "pytest", "benchmarks.gpu_step"]
    text = SCRIPT.read_text().split("Estimated time", 1)[1].split("All four fit", 1)[0]
    seconds = [int(each) for each in re.findall(r"(?m) (\d+) s$", text)]
    assert len(seconds) == 4 and sum(seconds) <= 15 * 60


def test_only_files_with_tests_for_a_gpu_are_collected(tmp_path, script):
    """Files of other tests import packages that a borrowed machine may lack."""
    (tmp_path / "tests/deep").mkdir(parents=True)
    (tmp_path / "tests/deep/test_card.py").write_text("@pytest.mark.cuda")
    (tmp_path / "tests/test_plain.py").write_text("import nbformat")
    assert script("tests")[1] == ["|-m pytest -m cuda tests/deep/test_card.py"]


def test_a_rehearsal_runs_the_same_parts_on_the_cpu_and_writes_no_result(script):
    code, calls, out, _ = script(REHEARSAL="small")
    assert (code, out) == (0, {})
    assert [call.removeprefix("|-m ") for call in calls if "pytest" not in call] == [
        "benchmarks.fgd_loss --quick", "benchmarks.gpu_step --device cpu --quick",
        "fgdlab sweep table1_areas --scale smoke --jobs 1 --out small/table1_areas",
    ]


def test_the_list_of_wheels_has_what_runs_need_in_exact_versions():
    lines = (SCRIPT.parent / "gpu_wheels.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.]+", line) for line in lines)
    assert {"papermill", "ipykernel", "pycocotools"} <= {line.split("==")[0] for line in lines}


def test_at_most_eight_files_are_copied(script):
    """One table, two benchmarks and the log: some machines give back no more."""
    assert len(script()[2]) + len(re.findall(r"gpu_\w+\.json", SCRIPT.read_text())) + 1 <= 8


def test_the_command_line_accepts_the_commands_of_the_script(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, runs in (("table1_areas", 15), ("table7_temperature", 18)):
        done = CliRunner().invoke(main, ["sweep", name, "--scale", "gpu", "--jobs", "5", "--dry-run"])
        assert done.exit_code == 0 and f"to do: {runs} of {runs} runs" in done.stdout


def test_a_copy_without_git_has_the_commit_given_in_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("FGDLAB_COMMIT", "0123456789ab")
    own = code.git_state()
    monkeypatch.setattr(code, "ROOT", tmp_path)
    assert code.git_state() == {"commit": "0123456789ab", "dirty": False} and own["commit"] != "0123456789ab"
    monkeypatch.delenv("FGDLAB_COMMIT")
    assert code.git_state() == {"commit": None, "dirty": None}
