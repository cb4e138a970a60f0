"""The state of a run follows from its folder: marker files, a live process, a heartbeat, the code that it began
with."""
import ast
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from fgdlab.lab.run import folder as lab_folder
from fgdlab.lab.run.folder import BEAT, SILENCE, RunFolder, this_process
from fgdlab.lab.sweeps.execution import outcome_text

NOBODY = 2**22 + 1                                                   # no process has this id: Linux gives at most 2**22


def write(path: Path, value) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def claim(folder: Path, pid: int, host: str | None = None, **changes) -> Path:
    return write(
        folder / "running.json", {"pid": pid, "host": host or socket.gethostname(), "started": time.time(), **changes},
    )


def aged(path: Path, seconds: float) -> Path:
    path.touch()
    os.utime(path, (time.time() - seconds,) * 2)
    return path


def test_done_is_result_json_and_nothing_else_counts_then(tmp_path):
    claim(tmp_path, os.getpid())
    write(tmp_path / "failed.json", {"error": "x"})
    write(tmp_path / "run.ipynb", {})
    assert RunFolder(tmp_path).state() == "running"
    RunFolder(tmp_path).begin({"method": "fgd"}, {})
    write(tmp_path / "result.json", {})
    assert RunFolder(tmp_path).state() == "done"


def test_running_is_a_claim_of_a_process_that_lives(tmp_path):
    claim(tmp_path, os.getpid())
    assert RunFolder(tmp_path).state() == "running"


def test_a_claim_of_a_dead_process_is_an_interrupted_run(tmp_path):
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        pass
    for pid in (child.pid, NOBODY):
        claim(tmp_path, pid)
        assert RunFolder(tmp_path).state() == "interrupted"


def test_a_claim_of_another_host_holds_while_its_heart_beats(tmp_path):
    claimed = claim(tmp_path, NOBODY, host="another")
    assert RunFolder(tmp_path).state() == "running"  # claimed a moment ago: the first beat may be on its way
    aged(claimed, SILENCE + 1)
    assert RunFolder(tmp_path).state() == "interrupted"                       # stale
    aged(tmp_path / "heartbeat", BEAT)
    assert RunFolder(tmp_path).state() == "running"
    aged(tmp_path / "heartbeat", SILENCE + 1)
    RunFolder(tmp_path).begin({"method": "fgd"}, {})
    write(tmp_path / "metrics.jsonl", "")                            # not every file is a heartbeat
    assert RunFolder(tmp_path).state() == "interrupted" and not RunFolder(tmp_path).is_running()


def test_a_zombie_is_not_alive(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", ""])
    while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    claim(tmp_path, child.pid)
    assert RunFolder(tmp_path).state() == "interrupted"
    child.wait()


def test_a_process_that_got_the_id_of_a_dead_one_is_not_it(tmp_path):
    mine = this_process()
    write(tmp_path / "running.json", mine)
    assert RunFolder(tmp_path).state() == "running"
    aged(write(tmp_path / "running.json", {**mine, "created": mine["created"] - 100}), SILENCE + 1)
    assert RunFolder(tmp_path).state() == "interrupted"


def test_a_clock_that_was_set_does_not_kill_a_run_that_beats(tmp_path):
    claim(tmp_path, os.getpid(), created=psutil.Process().create_time() - 3600)
    aged(tmp_path / "heartbeat", BEAT)
    assert RunFolder(tmp_path).state() == "running"


def test_a_process_that_may_not_be_looked_at_is_believed_by_its_heartbeat(tmp_path, monkeypatch):
    def denied(pid):
        raise psutil.AccessDenied(pid)

    monkeypatch.setattr(lab_folder.psutil, "Process", denied)
    aged(claim(tmp_path, 1), SILENCE + 1)
    assert not RunFolder(tmp_path).is_running()
    (tmp_path / "heartbeat").touch()
    assert RunFolder(tmp_path).is_running()


HERE = {"pid": os.getpid(), "host": socket.gethostname()}


@pytest.mark.parametrize("claimed", [
    "", "{\"pid\": 1", "[1]", "3", "[" * 100_000, {"pid": os.getpid()}, {**HERE, "pid": str(os.getpid())},
    {**HERE, "pid": -1}, {**HERE, "pid": 0},
    {**HERE, "pid": 2**40}, {**HERE, "pid": True}, {**HERE, "host": None}, {**HERE, "created": "yesterday"},
], ids=["empty", "cut off", "list", "number", "deep", "pid alone", "pid in quotes", "negative", "zero", "large", "true",
"no host", "no moment"])
def test_a_claim_that_is_not_whole_is_an_interrupted_run_and_nobodys(tmp_path, claimed):
    write(tmp_path / "running.json", claimed)
    assert RunFolder(tmp_path).state() == "interrupted" and RunFolder(tmp_path).at_work() == "no process"


def test_the_claim_that_the_broken_ones_are_made_of_is_whole(tmp_path):
    write(tmp_path / "running.json", HERE)
    assert RunFolder(tmp_path).state() == "running"


def test_failed_interrupted_and_pending_are_told_by_their_files(tmp_path):
    folder = tmp_path / "run"
    assert RunFolder(folder).state() == "pending"                             # not even a folder
    write(folder / "job.json", {})
    assert RunFolder(folder).state() == "pending"
    aged(folder / "heartbeat", 3600)
    assert RunFolder(folder).state() == "interrupted"                         # its kernel died before it wrote anything
    (folder / "heartbeat").unlink()
    write(folder / "params.json", {})
    assert RunFolder(folder).state() == "interrupted"
    write(folder / "run.ipynb", {"metadata": {"papermill": {"exception": None}}})
    assert RunFolder(folder).state() == "interrupted"                         # papermill's own word is never believed
    write(folder / "failed.json", {"error": "x"})
    assert RunFolder(folder).state() == "failed"


def metrics(folder: Path, *steps: int, of: int = 40, terms: int = 22) -> Path:
    """metrics.jsonl as a run writes it: per step one line per term, then the total with the number of steps."""
    lines = []
    for step in steps:
        lines += [
            {"step": step, "name": "fg", "level": f"P{n}", "raw": 1 / 3, "weight": 1e-3, "weighted": 1 / 3000}
            for n in range(terms)
        ]
        lines.append(
            {
                "step": step, "name": "total", "level": "all", "raw": 1 / 3, "weighted": 1 / 3, "steps": of,
                "lr": 1 / 3, "grad_norm": 1 / 3,
            }
        )
    return write(folder / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines))


def test_the_share_done_follows_the_last_logged_step_and_ends_at_1_with_the_result(tmp_path):
    assert RunFolder(tmp_path).progress() == RunFolder(tmp_path / "nowhere").progress() == 0
    metrics(tmp_path, 1, 10, 20)
    assert RunFolder(tmp_path).progress() == pytest.approx(0.95 / 2)
    metrics(tmp_path, 1, 10, 20, 40)
    assert RunFolder(tmp_path).progress() == pytest.approx(0.95)               # training is over, the evaluation is not
    write(tmp_path / "result.json", {})
    assert RunFolder(tmp_path).progress() == 1


def test_the_share_done_outlives_half_a_line_and_an_empty_file(tmp_path):
    path = metrics(tmp_path, 10)
    with path.open("a") as file:
        file.write('{"step": 20, "na')
    assert RunFolder(tmp_path).progress() == pytest.approx(0.95 / 4)
    path.write_text("")
    assert RunFolder(tmp_path).progress() == 0


@pytest.mark.parametrize(
    "result", ["", "{", "[1]", "null", {"AP": 1.0, "AR": 2.0}, {"AP": "high", "AR": 2.0, "seconds": 1}], ids=str,
)
def test_a_spoilt_result_is_one_line_that_says_what_to_do_and_takes_no_other_run_with_it(tmp_path, refusal, result):
    write(tmp_path / "result.json", result)
    text = refusal(RunFolder(tmp_path).result)
    assert (
        text.startswith(f"{tmp_path / 'result.json'} must be whole, got: ")
        and text.endswith("; delete it, and it is made again")
    )
    assert outcome_text(RunFolder(tmp_path), "done") == f": {text}"


def test_a_failure_without_words_is_told_as_such(tmp_path):
    write(tmp_path / "failed.json", "[]")
    assert (
        RunFolder(tmp_path).error() is None
        and outcome_text(RunFolder(tmp_path), "failed") == f": the error is not known (see {tmp_path / 'run.ipynb'})"
    )


def test_lines_on_the_screen_say_who_is_at_work_and_what_came_out(tmp_path):
    assert RunFolder(tmp_path).at_work() == "no process"
    claim(tmp_path, 7, host="node3")
    assert RunFolder(tmp_path).at_work() == "process 7 on node3"
    write(tmp_path / "result.json", {"AP": 12.34, "AR": 50, "seconds": 61})
    write(tmp_path / "failed.json", {"error": "ValueError: no good"})
    assert outcome_text(RunFolder(tmp_path), "done") == ": AP 12.3, AR 50.0, 61 s"
    assert outcome_text(RunFolder(tmp_path), "failed") == f": ValueError: no good (see {tmp_path / 'run.ipynb'})"
    write(tmp_path / "result.json", {"AP": None, "AR": None, "seconds": 61})
    assert outcome_text(RunFolder(tmp_path), "done") == ": AP –, AR –, 61 s"  # no ground truth


# --- stale ------------------------------------------------------------------------------------------------------------

def begun(folder: Path, files: dict[str, str] | None = None) -> RunFolder:
    """A run that has trained; ``files`` changes the recorded hashes of source files."""
    here = RunFolder(folder)
    here.path.mkdir(parents=True, exist_ok=True)
    here.begin({"method": "fgd", "lr": 0.1}, {"settings": {"lr": 0.1}, "data": "mine"})
    write(folder / "metrics.jsonl", "")
    if files:
        code = here.read("code.json")
        write(folder / "code.json", {"hash": "of older code", "files": {**code["files"], **files}})
    return here


def test_a_finished_and_an_interrupted_run_of_other_code_are_stale_and_name_the_files(tmp_path):
    here = begun(tmp_path / "run", {"fgdlab/focal.py": "another", "fgdlab/gone.py": "x"})
    assert here.state() == "stale" and here.stale_files() == ["fgdlab/focal.py", "fgdlab/gone.py"]
    here.finish({"AP": 1.0, "AR": 1.0, "seconds": 1.0})
    assert here.state() == "stale"


def test_a_run_without_a_record_of_its_code_is_stale(tmp_path):
    write(tmp_path / "result.json", {"AP": 1.0, "AR": 1.0, "seconds": 1.0})
    assert RunFolder(tmp_path).state() == "stale" and "did not record" in RunFolder(tmp_path).stale_files()[0]


def test_a_run_of_other_code_is_not_continued(tmp_path, refusal):
    here = begun(tmp_path, {"fgdlab/focal.py": "another"})
    same = {"settings": {"lr": 0.1}, "data": "mine"}
    assert "other versions of fgdlab/focal.py" in refusal(here.begin, {"method": "fgd", "lr": 0.1}, same)


def test_a_run_with_other_settings_is_not_continued_but_one_with_other_machine_settings_is(tmp_path, refusal):
    here = begun(tmp_path)
    assert "got other values for lr" in refusal(here.begin, {"method": "fgd", "lr": 0.2}, {"settings": {"lr": 0.2}})
    here.begin({"method": "fgd", "lr": 0.1, "workers": 4}, {"settings": {"lr": 0.1}, "data": "mine"})


def test_a_run_on_other_contents_of_the_same_data_is_not_continued(tmp_path, refusal):
    here = begun(tmp_path)
    other = {"settings": {"lr": 0.1}, "data": "mended"}
    assert "same contents of data" in refusal(here.begin, {"method": "fgd", "lr": 0.1}, other)


def test_what_is_set_aside_is_kept(tmp_path):
    here = begun(tmp_path / "run")
    first = here.set_aside()
    assert here.state() == "pending" and (first / "metrics.jsonl").exists()
    begun(tmp_path / "run")
    assert here.set_aside() != first and first.exists()


def test_nothing_else_writes_or_removes_marker_files():
    """Their names stand in folder.py alone, but for lines that read or mention them."""
    markers, writes = (
        "running.json", "failed.json", "result.json", "code.json", "heartbeat", "'stop'",
    ), ("write", "touch", "unlink", "rename", "open(")
    root = Path(lab_folder.__file__).parents[2]
    calls = [
        f"{path.relative_to(root)}: {call}" for path in root.rglob("*.py") if path != Path(lab_folder.__file__)
        for call in map(
            ast.unparse, (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)),
        )
        if any(name in call for name in markers) and any(word in call for word in writes)
    ]
    assert calls == []
