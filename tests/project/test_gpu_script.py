"""benchmarks/gpu.sh without a GPU: what it calls, what it copies, and what its machine must have."""
import ast
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from fgdlab.lab.commands.cli import main
from fgdlab.lab.provenance import code

ROOT = Path(__file__).parents[2]
SCRIPT, REHEARSAL = ROOT / "benchmarks/gpu.sh", ROOT / "benchmarks/gpu_rehearsal.sh"
PYTHON = """#!/usr/bin/env bash
[[ "$1" == -c ]] && exit 0
echo "$FGDLAB_COMMIT|$*" >>calls
[[ "$2" == "${BREAK:-}" ]] && exit 1
case "$3" in
  sweep) mkdir -p "runs/$4-gpu/run"; echo {} >"runs/$4-gpu/run/result.json"; sleep "${SLEEP:-0}"; exit "${FAIL:-0}" ;;
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
        done = subprocess.run(command(*parts), env=settings(**environment), capture_output=True, text=True)
        calls = (tmp_path / "calls").read_text().splitlines() if (tmp_path / "calls").exists() else []
        return done.returncode, calls, {
            path.name: path.read_text().strip() for path in out.iterdir() if path.suffix not in (".log", ".tgz")
        }, done.stderr

    def command(*parts: str) -> list[str]:
        return ["bash", str(tmp_path / "benchmarks/gpu.sh"), *parts]

    def settings(**environment: str) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "PYTHON": str(python), "OUT": str(out), **environment}

    run.command, run.settings, run.runs = command, settings, out / "runs.tgz"
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
def test_an_unfinished_table_is_not_published_and_its_finished_runs_are_copied(script, trouble):
    code, calls, out, stderr = script("table1", "table7", **trouble)
    assert code == 1 and [call.split()[2] for call in calls] == ["sweep", "sweep"]
    assert out == {} and members(script.runs) == [
        f"runs/{name}-gpu/run/result.json" for name in ("table1_areas", "table7_temperature")]
    assert "table1_areas is unfinished and was not published" in stderr
    assert "these parts failed: table1 table7" in stderr


def members(path: Path) -> list[str]:
    with tarfile.open(path) as archive:
        return archive.getnames()


def test_what_is_finished_is_copied_while_a_part_runs(script):
    """A machine may be taken away, and its time may end, without a signal that a script could answer."""
    running = subprocess.Popen(
        script.command("table1"), env=script.settings(SLEEP="60", EVERY="0.05"), start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while not script.runs.exists() and time.monotonic() < until:
            time.sleep(0.02)
    finally:
        os.killpg(running.pid, 9)
        running.wait()
    assert members(script.runs) == ["runs/table1_areas-gpu/run/result.json"]


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
    text = SCRIPT.read_text().split("Estimated time", 1)[1].split("So a quarter of an hour", 1)[0]
    seconds = [int(each) for each in re.findall(r"(?m) (\d+) s$", text)]
    assert len(seconds) == 4 and sum(seconds) <= 15 * 60


def test_parts_and_a_table_beside_them_fit_into_a_quarter_of_an_hour_and_a_table_alone_has_its_time(script, tmp_path):
    clock = tmp_path / "bin/timeout"
    clock.parent.mkdir()
    clock.write_text('#!/usr/bin/env bash\necho "$3" >>seconds\nshift 3; exec "$@"\n')
    clock.chmod(0o755)
    both = {"PATH": f"{clock.parent}:{os.environ['PATH']}"}
    script(**both)
    assert sum(map(int, (tmp_path / "seconds").read_text().split())) <= 15 * 60
    (tmp_path / "seconds").unlink()
    script("table1", **both)
    assert int((tmp_path / "seconds").read_text()) >= 3600


def test_only_files_with_tests_for_a_gpu_are_collected(tmp_path, script):
    """Files of other tests import packages that a borrowed machine may lack."""
    (tmp_path / "tests/deep").mkdir(parents=True)
    (tmp_path / "tests/deep/test_card.py").write_text("@pytest.mark.cuda")
    (tmp_path / "tests/test_plain.py").write_text("import nbformat")
    assert script("tests")[1] == ["|-m pytest -v -m cuda tests/deep/test_card.py"]


def test_a_rehearsal_runs_the_same_parts_on_the_cpu_and_writes_no_result(script):
    code, calls, out, _ = script(REHEARSAL="small")
    assert (code, out) == (0, {})
    assert [call.removeprefix("|-m ") for call in calls if "pytest" not in call] == [
        "benchmarks.fgd_loss --quick", "benchmarks.gpu_step --device cpu --quick",
        "fgdlab sweep table1_areas --scale smoke --jobs 1 --out small/table1_areas",
    ]


# ---- what the machine must have ----

def names_in(file: str) -> set[str]:
    lines = (SCRIPT.parent / file).read_text().splitlines()
    assert all(re.fullmatch(r"[a-z0-9-]+(==[\w.]+)?", line) for line in lines)
    return {line.split("==")[0] for line in lines}


def packages_of(paths: list[Path]) -> set[str]:
    """What files import on their own import, as names of distributions."""
    found = set()
    for path in paths:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(node.module.split(".")[0])
    other = {"PIL": "pillow", "sklearn": "scikit-learn", "yaml": "pyyaml"}
    return {other.get(name, name) for name in found - {"fgdlab", "benchmarks", "tests", *sys.stdlib_module_names}}


def test_machine_and_wheels_have_what_the_parts_import():
    modules = code.closure(["fgdlab.lab.commands.sweep", "fgdlab.lab.commands.table", "fgdlab.lab.run.one_run"], set())
    benches = [SCRIPT.parent / f"{name}.py" for name in ("fgd_loss", "gpu_step", "plain_fgd", "timing")]
    tests = [path for path in ROOT.glob("tests/**/test_*.py") if "\n@pytest.mark.cuda" in path.read_text()]
    own = [code.all_modules()[name] for name in modules]
    needed = packages_of([*own, *benches, *tests, ROOT / "tests/conftest.py"])
    assert {"torch", "pycocotools", "pytest", "safetensors"} <= needed and len(tests) > 3
    assert needed | {"papermill", "ipykernel"} <= names_in("gpu_machine.txt") | names_in("gpu_wheels.txt")


def test_wheels_are_exact_versions_of_what_the_machine_has_not():
    wheels = (SCRIPT.parent / "gpu_wheels.txt").read_text().splitlines()
    assert all("==" in line for line in wheels)
    assert not names_in("gpu_machine.txt") & names_in("gpu_wheels.txt")
    assert {"papermill", "ipykernel", "pycocotools"} <= names_in("gpu_wheels.txt")


def test_the_rehearsal_fetches_wheels_and_runs_parts_as_the_script_says(script):
    fetching = [
        re.search(r"pip download (.*?) -d ", re.sub(r"\\\n[# ]*", "", path.read_text()), re.S)[1].split()
        for path in (SCRIPT, REHEARSAL)]
    assert fetching[0] == [word for word in fetching[1] if word != "--quiet"]
    rehearsed = re.search(r'(?m)^bash "\$folder/copy/benchmarks/gpu.sh"(.*)\|\|', REHEARSAL.read_text())
    assert rehearsed and not rehearsed[1].strip()  # all parts


def test_the_rehearsal_touches_no_folder_of_yours(tmp_path):
    (tmp_path / "runs").mkdir()
    done = subprocess.run(["bash", str(REHEARSAL), str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 2 and "the folder must be new, or an earlier rehearsal" in done.stderr
    assert (tmp_path / "runs").exists()


def test_at_most_eight_files_are_copied(script):
    """One table, its runs, two benchmarks and the log: some machines give back no more."""
    assert len(script()[2]) + len(["gpu_fgd_loss.json", "gpu_step.json", "runs.tgz", "gpu.log"]) <= 8


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
