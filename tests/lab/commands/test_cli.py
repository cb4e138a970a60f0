"""The command line: every error is one line, every option has a description, every setting is a flag."""
import json
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import click
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import fgdlab
from fgdlab.lab.commands.cli import main
from fgdlab.lab.commands.settings_flags import config_of
from fgdlab.lab.config.run_config import RunConfig
from fgdlab.lab.config.scales import scale_settings
from fgdlab.lab.run import STATES, RunFolder
from fgdlab.lab.sweeps import execution as lab_sweep
from fgdlab.lab.sweeps.collection import SCORE_COLUMNS

ROOT = Path(fgdlab.__file__).parents[1]
BAR = re.compile(r"\d+%\||\d+\w* \[\d+:\d+|\?\w+/s\]")              # what tqdm writes to stderr
SIDE = 64


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Every test runs in an empty folder with an empty cache, without CUDA; torch's threads are restored."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FGDLAB_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def call(*arguments):
    return CliRunner().invoke(main, [str(each) for each in arguments], prog_name="fgdlab")


def write_pets(name: str = "pets") -> Path:
    """A COCO folder: four training images, two of tune, two of val, each with a white box on black."""
    folder = Path(name)
    (folder / "images").mkdir(parents=True)
    numbers = range(1, 9)
    for n in numbers:
        image = Image.new("RGB", (SIDE, SIDE))
        image.paste((255, 255, 255), (8, 8, 32, 40))
        image.save(folder / f"images/{n}.jpg")
    write(
        folder / "annotations.json",
        {
            "images": [{"id": n, "file_name": f"{n}.jpg", "width": SIDE, "height": SIDE} for n in numbers],
            "annotations": [
                {"id": n, "image_id": n, "category_id": 1, "bbox": [8, 8, 24, 32], "area": 768, "iscrowd": 0}
                for n in numbers
            ],
            "categories": [{"id": 1, "name": "cat"}],
        },
    )
    write(folder / "splits.json", {"train": [1, 2, 3, 4], "tune": [5, 6], "val": [7, 8]})
    return folder


def write(path: str | Path, value) -> None:
    Path(path).write_text(value if isinstance(value, str) else json.dumps(value))


def error_line(result) -> str:
    """The one line of an error: nothing else is on stderr besides progress bars, and there is no traceback."""
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code != 0 and "Traceback" not in result.output
    lines = [line for line in re.split(r"[\r\n]+", result.stderr) if line.strip() and not BAR.search(line)]
    assert len(lines) == 1 and lines[0].startswith("Error: "), result.stderr
    return lines[0]


# Errors are in the table of tests/robustness/bad_inputs.

PETS = [
    "--data",
    "pets",
    "--image-size",
    "0",
    "--train-images",
    "0",
    "--eval-images",
    "0",
    "--epochs",
    "1",
    "--batch-size",
    "2",
]
TABLE = ["sweep", "table1_areas", "--scale", "smoke"]


def environment() -> dict:
    """This process's variables with the checkout on the path, because the current folder is another one."""
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT)}


# ---- help ----

def commands(group=main, path=()):
    """(path, command) of every command, groups included."""
    yield path, group
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*path, name))


ALL = [pytest.param(path, command, id=" ".join(path) or "fgdlab") for path, command in commands()]


@pytest.mark.parametrize("path, command", ALL)
def test_help_lists_every_option_with_a_description(path, command):
    shown = call(*path, "--help")
    assert shown.exit_code == 0 and shown.stderr == "" and command.help
    assert call(*path, "-h").output == shown.output
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, f"{option.name} has no description"
            assert all(flag in shown.output for flag in (*option.opts, *option.secondary_opts))
            assert " ".join(option.help.split())[:30] in " ".join(shown.output.split())
        else:
            assert option.name.upper() in shown.output


@pytest.mark.parametrize("path, command", [each for each in ALL if each.values[0]])
def test_the_help_of_a_group_names_its_commands(path, command):
    assert path[-1] in call(*path[:-1], "--help").output


@pytest.mark.parametrize("command", ["run", "teacher"])
def test_every_setting_is_a_flag_with_its_help_its_default_and_its_choices(command):
    options = {option.name: option for option in main.commands[command].params}
    shown = " ".join(call(command, "--help").output.split())
    for each in fields(RunConfig):
        option = options[each.name]
        assert option.default is None and f"[default: {each.default!r}]" in option.help
        assert each.metadata["help"] in option.help
        assert option.opts == ["--" + each.name.strip("_").replace("_", "-")]
        assert all(value in shown for value in each.metadata["choices"])


def test_a_flag_reaches_its_setting(monkeypatch):
    from fgdlab.lab.run import one_run as lab_run

    seen = []

    def stop(config, folder):
        seen.append(config)
        raise lab_run.UserError("seen")

    monkeypatch.setattr(lab_run, "run", stop)
    call(
        "run",
        "--lambda",
        "1e-3",
        "--no-spatial-attention",
        "--relation",
        "mse",
        "--train-images",
        "7",
        "--scale",
        "smoke",
        "--teacher-checkpoint",
        "a b",
    )
    call("run")
    config = seen[0]
    assert (
        config.lambda_,
        config.spatial_attention,
        config.relation,
        config.train_images,
        config.teacher_checkpoint,
    ) == (1e-3, False, "mse", 7, "a b")
    assert (config.scale, config.eval_images, seen[1]) == ("smoke", 16, RunConfig.of(scale_settings("laptop")))


@pytest.mark.parametrize(("flags", "names"), [
    (("--temperature", "0.8"), "with method none, nothing uses temperature"),
    (("--method", "hint", "--alpha", "1e-3", "--beta", "1e-3"), "with method hint, nothing uses alpha, beta"),
    (("--method", "fgd", "--alpha", "1e-3"), ""), (("--method", "none", "--teacher-lr", "1e-3"), "uses teacher_lr"),
])
def test_flags_that_a_run_does_not_use_are_named(flags, names, capsys):
    given = dict(zip([flag[2:].replace("-", "_") for flag in flags[::2]], flags[1::2], strict=True))
    config_of(None, None, given)
    assert names in capsys.readouterr().out if names else capsys.readouterr().out == ""


def test_two_flags_for_one_folder_are_refused(refusal):
    assert "got a and b; give one of them" in refusal(config_of, None, "a", {"data": "b"})


def test_a_tilde_behind_an_equals_sign_is_the_users_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    done = call("data", "digits", "--out=~/scenes", "--train", "2", "--tune", "1", "--val", "1", "--size", "64")
    assert done.exit_code == 0 and (tmp_path / "scenes/annotations.json").is_file(), done.output


def test_help_imports_no_torch():
    code = (
        "import sys\nfrom fgdlab.lab.commands.cli import main\n"
        "try:\n    main(['--help'], prog_name='fgdlab')\nexcept SystemExit:\n    pass\n"
        "slow = {'torch', 'torchvision', 'pandas', 'matplotlib', 'papermill', 'sklearn', 'scipy'}\n"
        "print('slow:', sorted(slow & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment())
    assert "fgdlab sweep table1_areas" in done.stdout and done.stdout.endswith("slow: []\n"), done.stderr


def test_python_dash_m_is_the_same_program():
    done = subprocess.run(
        [sys.executable, "-m", "fgdlab", "--version"], capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 0 and done.stdout.startswith("fgdlab, version ")


# ---- commands that succeed ----

def test_a_run_prints_its_scores_and_again_without_training_and_refuses_other_settings_in_its_folder():
    write_pets()
    command = ["run", *PETS, "--out", "mine"]
    first = call(*command)
    assert first.exit_code == 0
    assert re.search(
        r"^AP \d+\.\d  AP50 \d+\.\d  AR \d+\.\d   \(pets; 4 training images, 2 evaluation images of split val\)$",
        first.stdout,
        re.MULTILINE,
    )
    written = Path("mine/result.json").stat().st_mtime_ns
    again = call(*command)
    assert again.stdout.splitlines()[-2:] == first.stdout.splitlines()[-2:]
    assert Path("mine/result.json").stat().st_mtime_ns == written
    line = error_line(call(*command, "--lr", "0.1"))
    assert "mine must hold a run with the same settings" in line and "lr" in line and "choose another folder" in line


def test_check_prints_what_is_in_a_folder():
    write_pets()
    done = call("data", "check", "pets")
    assert done.exit_code == 0
    for split, images in (("all", 8), ("train", 4), ("tune", 2), ("val", 2)):
        assert re.search(
            rf"^ *{split}: +{images} images +{images} boxes +1 classes +cells in a box: P3 \d+%, P4 \d+%, P5 \d+%$",
            done.stdout,
            re.MULTILINE,
        )


def test_a_dry_run_lists_the_runs_and_writes_nothing():
    done = call("sweep", "table1_areas", "--dry-run", "--seeds", "3,4")
    lines = done.stdout.splitlines()
    assert done.exit_code == 0 and len(lines) == 11 and not Path("runs").exists()
    assert re.match(
        r"to do: 10 of 10 runs, about \d+ min on one slot, "
        r".* slots \(measured on \d+ runs of table1_areas.csv in ablations/results",
        lines.pop(),
    )
    assert [line.split("  ")[-3] for line in lines] == [
        f"{row}, seed {seed}" for seed in (3, 4) for row in ("none", "fg", "bg", "both", "split")
    ]
    assert all(line.split()[0] == "pending" for line in lines)


@pytest.fixture
def fake(monkeypatch):
    """Runs that train nothing: fake[row] is "done" or "failed". What a run leaves is what the command reads."""
    ends = {}

    def launch(folder, environment):
        job = json.loads(Path(folder, "job.json").read_text())
        row = job["row"]
        RunFolder(folder).begin(job["parameters"], {})
        if ends.get(row) == "failed":
            write(Path(folder, "failed.json"), {"error": "ValueError: no good"})
            return 1
        scores = {name: 20.0 for name in SCORE_COLUMNS}
        write(
            Path(folder, "result.json"),
            {
                **scores,
                "seconds": 1.0,
                "teacher_AP": 40.0,
                "data_line": "scenes",
                "provenance": {"device": "a processor"},
            },
        )
        return 0

    monkeypatch.setattr(lab_sweep, "launch", launch)
    monkeypatch.setattr(lab_sweep, "prepare_shared", lambda todo, say: None)
    monkeypatch.setattr("fgdlab.lab.teachers.teachers.kept_teacher_hash", lambda config: None)
    return ends


def test_a_sweep_with_a_failed_run_lists_it_and_exits_with_1_until_it_is_retried(fake):
    fake["bg"] = "failed"
    done = call(*TABLE)
    assert done.exit_code == 1 and "Traceback" not in done.output
    assert re.search(r"^1 runs? (is|are) missing:$", done.stderr, re.MULTILINE)
    assert "ValueError: no good" in done.stderr and "--retry-failed" in done.stderr
    assert (
        "SMOKE SCALE: these numbers mean nothing" in done.stdout and "foreground" in done.stdout
    )  # the table of what is done
    assert Path("runs/table1_areas-smoke/results.csv").read_text().count("failed") == 1
    fake.clear()
    assert call(*TABLE).exit_code == 1                               # failed runs are not retried without the flag
    done = call(*TABLE, "--retry-failed")
    assert done.exit_code == 0 and done.stderr == "" and "All 5 runs are done." in done.stdout
    assert Path("runs/table1_areas-smoke/table1_areas.png").is_file()


def test_a_table_is_printed_from_the_readers_runs_in_every_format(fake):
    assert call(*TABLE).exit_code == 0
    table = ["table", "table1_areas", "--scale", "smoke"]
    formats = {
        "text": "no distillation",
        "markdown": "| no distillation",
        "latex": "no distillation & 37.4",
        "csv": "none,no distillation,none,37.4",
        "html": "<!DOCTYPE html>",
    }
    for format, words in formats.items():
        shown = call(*table, "--format", format)
        assert shown.exit_code == 0 and words in shown.stdout
        assert shown.stderr.startswith("from runs/table1_areas-smoke/results.csv\n")
    assert "ours: AP50" in call(*table, "--metrics", "AP50, AR_S").stdout


def test_seeds_that_are_done_stay_in_the_results_of_a_call_with_others(fake):
    sweep = ("sweep", "table1_areas", "--scale", "smoke", "--jobs", "1")
    assert call(*sweep, "--seeds", "0,1").exit_code == 0
    fake["bg"] = "failed"
    shown = call(*sweep, "--seeds", "7")
    assert "bg, seed 7" in shown.stderr and "seed 0" not in shown.stderr and "Seeds: 0, 1, 7" in shown.stdout
    frame = pd.read_csv("runs/table1_areas-smoke/results.csv")
    assert frame["seed"].tolist() == [0] * 5 + [1] * 5 + [7] * 5 and (frame["state"] == "done").sum() == 14
    assert "20.0 ± 0.0 (3)" in call("table", "table1_areas", "--scale", "smoke").stdout
    assert call(*sweep, "--seeds", "7", "--set", "lr=0.1").exit_code == 1  # other settings: their seeds alone
    assert set(pd.read_csv("runs/table1_areas-smoke/results.csv")["seed"]) == {7}


@pytest.mark.parametrize(("text", "said"), [
    ("class Other(torch.nn.Module): pass", "unknown class of mine.py 'Mine'"), ("1 / 0", "must be importable"),
    ("Mine = 3", "unknown class of mine.py 'Mine'"),
])
def test_a_mistake_in_a_loss_of_ones_own_is_found_before_a_row_trains(text, said):
    Path("mine.py").write_text(f"import torch\n{text}\n")
    rows = {"none": {"set": {"method": "none"}}, "mine": {"set": {"method": "mine.py:Mine"}}}
    content = {"title": "Mine", "question": "Does it help?", "baseline": "none", "seeds": [0], "rows": rows}
    Path("mine.yaml").write_text(json.dumps(content))
    done = call("sweep", "mine.yaml", "--scale", "smoke", "--dry-run")
    assert done.exit_code == 1 and said in done.stderr and "Traceback" not in done.output


def test_a_table_names_the_error_of_a_failed_run(fake):
    fake["bg"] = "failed"
    assert call(*TABLE).exit_code == 1
    assert "background: seed 0 failed (ValueError: no good)" in " ".join(
        call("table", "table1_areas", "--scale", "smoke").stdout.split()
    )


def test_jobs_follow_the_cores_and_threads(fake, monkeypatch):
    seen = []
    monkeypatch.setattr(
        lab_sweep,
        "execute",
        lambda runs, jobs, **settings: (
            seen.append(jobs) or {state: runs if state == "pending" else [] for state in STATES}
        ),
    )
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    for options in ([], ["--set", "threads=4"], ["--set", "threads=2"], ["--jobs", "5"], ["--set", "device=cuda"]):
        call(*TABLE, *options)
    assert seen == [6, 1, 3, 5, 1]


def test_ctrl_c_while_data_are_made_ends_with_one_line_and_status_130(monkeypatch):
    def interrupted(todo, say):
        raise KeyboardInterrupt

    monkeypatch.setattr(lab_sweep, "prepare_shared", interrupted)
    done = call(*TABLE)
    assert done.exit_code == 130 and done.stderr == "interrupted; the same command continues where it stopped\n"


def test_progress_is_a_line_per_tenth_where_the_output_is_no_terminal(tmp_path):
    """`make table1 > log 2>&1` and CI get lines, not hundreds of bars drawn over each other."""
    code = (
        "import click; from tqdm import tqdm; from fgdlab.lab.commands.cli import OneLineErrors\n"
        "@click.group(cls=OneLineErrors)\ndef main(): pass\n"
        "@main.command()\ndef work():\n"
        "    for _ in tqdm(range(1000), desc='train', mininterval=0): pass\n"
        "    for _ in tqdm(range(3), desc='short', mininterval=0): pass\n"
        "    for _ in tqdm(range(5), desc='off', disable=True): pass\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code, "work"], capture_output=True, text=True, check=True)
    lines = done.stderr.splitlines()
    assert "\r" not in done.stderr and len([line for line in lines if line.startswith("train:")]) == 10
    assert lines[0].startswith("train:  10%") and "1000/1000" in lines[9] and len(lines) <= 13
    assert lines[-1].startswith("short: 100%") and "off" not in done.stderr
