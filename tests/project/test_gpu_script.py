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
        return done.returncode, calls, {path.name: path.read_text().strip() for path in out.iterdir()}, done.stderr

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
    assert code == 1 and [call.split()[2] for call in calls] == ["sweep"]
    assert out == {"table1_areas-gpu-unfinished.csv": "part"}
    assert "table1_areas is unfinished and was not published" in stderr


def test_parts_come_from_arguments_or_steps_and_an_unknown_one_is_refused_before_anything_runs(script):
    assert script("table1", "tabel7")[:3] == (2, [], {})
    assert "parts must be among tests step loss table1 table7, got tabel7" in script("tabel7")[3]
    assert [call.removeprefix("|") for call in script(STEPS="tests step")[1]] == [
        "-m pytest -m cuda",
        "-m benchmarks.gpu_step",
    ]


def test_at_most_eight_files_are_copied(script):
    """Two tables and two benchmarks: some machines give back no more."""
    assert len(script()[2]) + len(re.findall(r"copied benchmarks/\S+\.json", SCRIPT.read_text())) <= 8


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
