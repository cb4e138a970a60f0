"""Every row of the table of bad inputs on the command line.

Each gives one clear line, a status that is not 0, and no half-written file.
"""
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import fgdlab
from fgdlab.lab.commands.cli import main
from fgdlab.lab.sweeps import execution as lab_sweep
from tests.robustness.bad_inputs.page import PAGE, with_rows
from tests.robustness.bad_inputs.table import TABLE
from tests.robustness.bad_inputs.world import RUN, TAUGHT, make_pets

ROOT = Path(fgdlab.__file__).parents[1]
BAR = re.compile(r"\d+%\||\d+\w* \[\d+:\d+|\?\w+/s\]")              # what tqdm writes to stderr
ROWS = {f"{kind}: {row.name}": row for kind, rows in TABLE.items() for row in rows}
HERE = {name: row for name, row in ROWS.items() if not row.elsewhere}


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    """{trained: a folder with pets, and with a finished run and a filled cache where trained}."""
    made = {False: tmp_path_factory.mktemp("good"), True: tmp_path_factory.mktemp("trained")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FGDLAB_HOME", "home")
        for trained, folder in made.items():
            patch.chdir(folder)
            make_pets()
            if trained:
                assert call(*TAUGHT).exit_code == 0
    return made


@pytest.fixture
def world(worlds, tmp_path, monkeypatch):
    """world(row) makes tmp_path/here the world in which a row begins, spoils it, and stands in it."""
    threads = torch.get_num_threads()

    def make(row) -> Path:
        shutil.copytree(worlds[row.trained], tmp_path / "here")
        monkeypatch.chdir(tmp_path / "here")
        monkeypatch.setenv("FGDLAB_HOME", "home")
        if row.spoil:
            row.spoil()
        return tmp_path / "here"

    yield make
    torch.set_num_threads(threads)


def call(*arguments):
    return CliRunner().invoke(main, list(arguments), prog_name="fgdlab")


def contents(folder: Path) -> dict[str, str]:
    """{path: hash} of every file; lock files aside, which hold nothing, and a file that holds gigabytes of nothing."""
    return {
        str(
            path.relative_to(folder)
        ): hashlib.sha256(path.read_bytes()).hexdigest() if path.stat().st_size < 10**8 else "large"
        for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock" and path.name != "lock"
    }


def half_written(before: dict[str, str], folder: Path) -> list[str]:
    """What a failed command may not leave: a file of the user's that is not as it was, an unfinished one, a result,
    JSON that is cut off.

    New files may lie in the run's folder (its settings, the log) and in the cache, whole.
    """
    after = contents(folder)
    found = [
        path
        for path in before
        if after.get(path) != before[path] and not path.endswith(("metrics.jsonl", "params.json"))
    ]
    for path in after.keys() - before.keys():
        name = Path(path).name
        if not path.startswith(("home/", "runs/", "mine/", "again/")) or "unfinished" in path or name == "result.json":
            found.append(path)
        elif name.endswith(".json"):
            json.loads((folder / path).read_text())
    return found


def matches(pattern: str, line: str) -> bool:
    """Whether a line is the pattern, in which ``...`` stands for anything."""
    return re.fullmatch(".*".join(re.escape(part) for part in pattern.split("...")), line) is not None


def error_line(result) -> str:
    """The one line that a mistake gives: the only thing on stderr besides bars, and no traceback anywhere."""
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code in (1, 2) and "Traceback" not in result.output
    lines = [line for line in re.split(r"[\r\n]+", result.stderr) if line.strip() and not BAR.search(line)]
    assert len(lines) == 1 and lines[0].startswith("Error: "), result.stderr
    return lines[0].removeprefix("Error: ")


@pytest.mark.parametrize("name", HERE)
def test_a_bad_input_is_one_line_and_an_unusual_one_works(name, world, monkeypatch):
    def must_not_run(*arguments):
        raise AssertionError("a bad input got as far as starting a run")

    row = HERE[name]
    folder = world(row)
    monkeypatch.setattr(lab_sweep, "launch", must_not_run)
    if "data=pets" not in row.command:  # nothing may be made before the mistake is found
        monkeypatch.setattr(lab_sweep, "prepare_shared", must_not_run)
    before = contents(folder)
    with row.around() if row.around else nullcontext():
        result = call(*row.command)
    if row.says:
        line = error_line(result)
        assert matches(row.says, line), line
        assert half_written(before, folder) == []
    else:
        assert result.exit_code == 0, result.output
    if row.check:
        row.check(result.output)


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.says])
def test_a_line_names_expected_value_actual_value_and_remedy(name):
    """The grammar of the project's errors, on the table itself: must ..., got ...; remedy.

    Or: unknown name; what is known. Or click's own words.
    """
    line = ROWS[name].says
    assert re.search(
        r"must .*(got|, but |: there are no )|^(mine\.yaml: )?unknown |; see `fgdlab", line,
    ) and "; " in line, line


def test_the_table_has_no_row_twice_and_at_least_seventy():
    names = [row.name for rows in TABLE.values() for row in rows]
    assert len(ROWS) == len(names) >= 70


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.elsewhere])
def test_a_row_that_is_tried_elsewhere_is_tried_there(name):
    file, test = ROWS[name].elsewhere.split("::")
    assert f"def {test}(" in next(Path(__file__).parents[1].rglob(file)).read_text()


def test_the_page_shows_the_table():
    page = PAGE.read_text(encoding="utf-8")
    assert with_rows(page) == page, "run python -m tests.robustness.bad_inputs"


def test_the_doctor_says_a_mistake_in_a_red_line(world):
    """It looks at all that it can, so its lines go to stdout, good and bad."""
    (row,) = [row for row in ROWS.values() if row.elsewhere.endswith("test_the_doctor_says_a_mistake_in_a_red_line")]
    folder = world(row)
    before = contents(folder)
    done = call(*row.command)
    assert done.exit_code == 1 and done.stderr == "" and isinstance(done.exception, SystemExit)
    assert [line for line in done.stdout.splitlines() if line.startswith("WRONG")] == [row.says]
    assert done.stdout.splitlines()[-1] == "1 must be corrected before a run" and half_written(before, folder) == []


# --- what needs a process of its own ----------------------------------------------------------------------------------

def program(code: str, *arguments: str, **settings) -> subprocess.CompletedProcess:
    """``fgdlab`` with these arguments in a process of its own, in the current folder, after some code."""
    script = (
        f"import sys\n{code}\nfrom fgdlab.lab.commands.cli import main\nsys.argv = ['fgdlab', "
        f"*sys.argv[1:]]\nmain(prog_name='fgdlab')"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FGDLAB_HOME": "home"}
    return subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, env=environment, **settings,
    )


@pytest.fixture
def good(world):
    """The current folder holds pets."""
    return world(next(row for row in ROWS.values() if row.name == "an unknown command"))


def test_a_mistake_in_a_process_of_its_own_is_one_line_on_stderr_and_nothing_on_stdout(good):
    done = program("", "sweep", "table1_area")
    assert done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 1
    assert done.stderr.startswith("Error: unknown sweep 'table1_area'; did you mean 'table1_areas'?")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")
def test_a_real_limit_on_the_size_of_files_is_one_line(good):
    before = contents(good)
    done = program(
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))", *RUN, "--out", "mine",
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    (row,) = [
        row for row in ROWS.values() if row.elsewhere.endswith("test_a_real_limit_on_the_size_of_files_is_one_line")
    ]
    assert matches(f"Error: {row.says}", last), last
    assert half_written(before, good) == [] and not (good / "mine/checkpoint.pt").exists()


def test_a_reader_that_has_seen_enough_is_no_error(good):
    read, write = os.pipe()
    os.close(read)                                                   # as `| head -1` does when it has its line
    script = "from fgdlab.lab.commands.cli import main; main(['data', 'check', 'pets'], prog_name='fgdlab')"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script], stdout=write, stderr=subprocess.PIPE, text=True, env=environment,
    )
    os.close(write)
    assert (
        done.returncode == 1 and "Traceback" not in done.stderr and "Error" not in done.stderr
        and "Exception" not in done.stderr
    )
