"""The command line: every mistake is one line that says what, where and what to do; every option is explained; every setting is a flag."""
import json
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import click
import pytest
import torch
import yaml
from click.testing import CliRunner
from PIL import Image

import fgdlab
from fgdlab.lab import sweep as lab_sweep
from fgdlab.lab.cli import main
from fgdlab.lab.config import RunConfig

ROOT = Path(fgdlab.__file__).parents[1]
BAR = re.compile(r"\d+%\||\d+\w* \[\d+:\d+|\?\w+/s\]")              # what tqdm writes to stderr
SIDE = 64


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Every test stands in an empty folder with an empty cache, on a machine without CUDA, and leaves torch's threads as they were."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FGDLAB_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def call(*arguments):
    return CliRunner().invoke(main, [str(each) for each in arguments], prog_name="fgdlab")


def write_pets(name: str = "pets") -> Path:
    """A COCO folder: four images to learn from, two to tune on, two to judge, each with a white box on black."""
    folder = Path(name)
    (folder / "images").mkdir(parents=True)
    numbers = range(1, 9)
    for n in numbers:
        image = Image.new("RGB", (SIDE, SIDE))
        image.paste((255, 255, 255), (8, 8, 32, 40))
        image.save(folder / f"images/{n}.jpg")
    write(folder / "annotations.json", {
        "images": [{"id": n, "file_name": f"{n}.jpg", "width": SIDE, "height": SIDE} for n in numbers],
        "annotations": [{"id": n, "image_id": n, "category_id": 1, "bbox": [8, 8, 24, 32], "area": 768, "iscrowd": 0} for n in numbers],
        "categories": [{"id": 1, "name": "cat"}],
    })
    write(folder / "splits.json", {"train": [1, 2, 3, 4], "tune": [5, 6], "val": [7, 8]})
    return folder


def write(path: str | Path, value) -> None:
    Path(path).write_text(value if isinstance(value, str) else json.dumps(value))


def change(edit) -> None:
    """Spoil the annotations of pets."""
    data = json.loads(Path("pets/annotations.json").read_text())
    edit(data)
    write("pets/annotations.json", data)


def cut(name: str) -> None:
    """Keep the first half of an image file."""
    path = Path("pets/images", name)
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])


def complaint(result) -> str:
    """The one line that a mistake gives: the only thing on stderr besides bars, and no traceback anywhere."""
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code != 0 and "Traceback" not in result.output
    lines = [line for line in re.split(r"[\r\n]+", result.stderr) if line.strip() and not BAR.search(line)]
    assert len(lines) == 1 and lines[0].startswith("Error: "), result.stderr
    return lines[0]


# --- mistakes ---------------------------------------------------------------------------------------------------------------------

PETS = ["--data", "pets", "--image-size", "0", "--train-images", "0", "--eval-images", "0", "--epochs", "1", "--batch-size", "2"]
TABLE = ["sweep", "table1_areas", "--scale", "smoke"]
OF_PETS = [*TABLE, *(word for pair in ("data=pets", "image_size=0", "train_images=0", "eval_images=0", "batch_size=2", "teacher_batch_size=2") for word in ("--set", pair))]
TAUGHT = ["run", *PETS, "--method", "fgd", "--teacher", "compact_s", "--teacher-epochs", "1", "--teacher-batch-size", "2"]
ROWS = {"none": {"set": {"area": "none"}}, "fg": {"set": {"area": "fg"}}}


def own_sweep(**changes):
    return lambda: write("mine.yaml", yaml.safe_dump({"title": "t", "question": "q?", "baseline": "none", "seeds": [0], "rows": ROWS, **changes}))


def taken() -> None:
    """A file where a folder is asked for."""
    write("taken", "")


# what is wrong: (what makes it so, the command, words that the line must hold: what, where, what to do)
MISTAKES = {
    # data
    "run: no data folder": (None, ["run", "--data", "nowhere"], ("nowhere must be a folder", "nothing there", "correct the path")),
    "sweep: no data folder": (None, [*TABLE, "--set", "data=nowhere"], ("data must be 'digits' or a folder", "'nowhere'", "--set data=FOLDER")),
    "check: no data folder": (None, ["data", "check", "nowhere"], ("nowhere must be a folder", "correct the path")),
    "check: an empty folder": (lambda: Path("empty").mkdir(), ["data", "check", "empty"], ("empty must hold annotations.json", "an empty folder", "give the folder that holds them")),
    "check: a missing key": (lambda: change(lambda data: data.pop("categories")), ["data", "check", "pets"], ("pets/annotations.json", "'categories'", "export it")),
    "check: a box outside": (
        lambda: change(lambda data: data["annotations"][2].update(bbox=[70, 8, 5, 5])), ["data", "check", "pets"],
        ("pets/annotations.json: annotation 3 of image 3 '3.jpg'", "overlaps its image of 64 x 64", "[70, 8, 5, 5]", "correct or remove the box"),
    ),
    "run: a box outside": (lambda: change(lambda data: data["annotations"][2].update(bbox=[70, 8, 5, 5])), ["run", *PETS], ("annotation 3", "correct or remove the box")),
    "check: an unknown category": (
        lambda: change(lambda data: data["annotations"][1].update(category_id=9)), ["data", "check", "pets"],
        ("annotation 2 of image 2", "'category_id' among [1]", "got 9", "correct it, or add the category"),
    ),
    "check: a broken JPEG": (lambda: cut("3.jpg"), ["data", "check", "pets"], ("pets/images/3.jpg must be an image", "copy it again")),
    "run: a broken JPEG": (lambda: cut("3.jpg"), ["run", *PETS], ("pets/images/3.jpg must be an image", "copy it again")),
    "sweep: a broken JPEG": (lambda: cut("3.jpg"), OF_PETS, ("pets/images/3.jpg must be an image", "copy it again")),
    "run: an unknown split": (None, ["run", *PETS, "--train-split", "trian"], ("unknown split 'trian'", "did you mean 'train'?")),
    "run: numbers that run away": (None, ["run", *PETS, "--lr", "1e30", "--epochs", "3"], ("must be finite", "at step ", "lower the learning rate")),
    "run: fewer images than a batch": (None, ["run", *PETS, "--batch-size", "5"], ("at least one batch of 5 images", "got 4", "lower batch_size")),
    # settings
    "--set: an unknown parameter": (None, [*TABLE, "--set", "epoch=3"], ("unknown parameter 'epoch'", "did you mean 'epochs'?", "known: ")),
    "--set: a wrong type": (None, [*TABLE, "--set", "epochs=two"], ("epochs must be a whole number", "got 'two'", "passes over")),
    "--set: a wrong word": (None, [*TABLE, "--set", "area=object"], ("area must be one of split, fg", "got 'object'")),
    "--set: nothing after =": (None, [*TABLE, "--set", "epochs="], ("epochs must be a whole number", "got ''")),
    "--set: no =": (None, [*TABLE, "--set", "epochs"], ("--set must be key=value", "got 'epochs'", "for example --set epochs=2")),
    "--set: seed": (None, [*TABLE, "--set", "seed=3"], ("seed", "--seeds")),
    "--set: scale": (None, [*TABLE, "--set", "scale=laptop"], ("scale", "--scale")),
    "run: a wrong type": (None, ["run", "--epochs", "two"], ("--epochs", "'two'", "--help")),
    "run: a wrong word": (None, ["run", "--area", "object"], ("--area", "'object'", "'split'", "--help")),
    "run: a number out of range": (None, ["run", "--lr", "-1"], ("lr must be a finite number of at least 0", "got -1.0")),
    "run: an unknown flag": (None, ["run", "--epoch", "3"], ("--epoch", "--help")),
    "run: cuda without a card": (None, ["run", *PETS, "--device", "cuda"], ("device=cuda must find a CUDA card", "use device=auto")),
    "sweep: cuda without a card": (None, [*OF_PETS, "--set", "device=cuda"], ("device=cuda must find a CUDA card", "use device=auto")),
    "run: another scale": (None, ["run", "--scale", "labtop"], ("unknown scale 'labtop'", "did you mean 'laptop'?")),
    # sweeps
    "an unknown command": (None, ["swep"], ("'swep'", "--help")),
    "sweep: no name": (None, ["sweep"], ("NAME", "--help")),
    "sweep: a misspelt name": (None, ["sweep", "table1_area"], ("unknown sweep 'table1_area'", "did you mean 'table1_areas'?", ".yaml")),
    "sweep: a misspelt scale": (None, ["sweep", "table1_areas", "--scale", "smok"], ("unknown scale 'smok'", "did you mean 'smoke'?")),
    "sweep: seeds that are no numbers": (None, [*TABLE, "--seeds", "0;1"], ("--seeds", "whole numbers", "commas", "'0;1'")),
    "sweep: a seed twice": (None, [*TABLE, "--seeds", "0,0"], ("--seeds", "'0,0'")),
    "sweep: a seed below 0": (None, [*TABLE, "--seeds", "-1"], ("seed", "-1")),
    "sweep: a card that is not there": (None, [*TABLE, "--gpus", "0,99", "--set", "device=cuda"], ("--gpus must name cards of this machine", "99", "nvidia-smi")),
    "sweep: cards and jobs": (None, [*TABLE, "--gpus", "0", "--jobs", "2"], ("one place", "--gpus and --jobs", "choose one")),
    "sweep: a cluster and Slurm": (None, [*TABLE, "--slurm", "--cluster", "tcp://x:1"], ("one place", "--cluster and --slurm")),
    "sweep: a partition of nothing": (None, [*TABLE, "--slurm-partition", "gpu"], ("--slurm-partition", "add --slurm")),
    "sweep: no Slurm here": (None, [*TABLE, "--slurm"], ("--slurm must find Slurm's commands here", "sbatch")),
    "sweep: no scheduler": (None, [*TABLE, "--cluster", "tcp://127.0.0.1:9"], ("address of a Dask scheduler that answers, got 'tcp://127.0.0.1:9'", "dask scheduler")),
    "sweep: no jobs": (None, [*TABLE, "--jobs", "0"], ("--jobs", "0")),
    "yaml: a misspelt row": (own_sweep(scales={"laptop": {"rows": {"nome": {"lr": 0.1}}}}), ["sweep", "mine.yaml"], ("mine.yaml: unknown row", "'nome'", "did you mean 'none'?")),
    "yaml: a misspelt setting": (own_sweep(base={"aera": "fg"}), ["sweep", "mine.yaml"], ("mine.yaml: unknown parameter 'aera'", "did you mean 'area'?")),
    "yaml: a wrong type": (own_sweep(base={"epochs": "two"}), ["sweep", "mine.yaml"], ("mine.yaml: ", "epochs must be a whole number", "got 'two'")),
    "yaml: a mistake in the text": (lambda: write("mine.yaml", "title: A\nseeds: [0\nrows: {}\n"), ["sweep", "mine.yaml"], ("mine.yaml: must be YAML", "in line 3")),
    "yaml: no such file": (None, ["sweep", "mine.yaml"], ("unknown sweep 'mine.yaml'", "or give the path of a .yaml file")),
    "table: nothing was run": (own_sweep(), ["table", "mine.yaml"], ("results of mine must be in runs/mine/results.csv", "run `fgdlab sweep mine` first")),
    "table: a misspelt scale": (None, ["table", "table1_areas", "--scale", "smok"], ("unknown scale 'smok'", "did you mean 'smoke'?")),
    # teachers
    "no teacher checkpoint": (None, [*TAUGHT, "--teacher-checkpoint", "t.safetensors"], ("weights must be a file", "'t.safetensors'", "check the path")),
    "sweep: no teacher checkpoint": (None, [*OF_PETS, "--set", "teacher_checkpoint=t.safetensors"], ("weights must be a file", "'t.safetensors'", "check the path")),
    "no safetensors": (lambda: write("t.safetensors", "junk"), [*TAUGHT, "--teacher-checkpoint", "t.safetensors"], ("t.safetensors must be a .safetensors file", "export it anew")),
    "sweep: a teacher below its floor": (
        None, [*OF_PETS, "--set", "teacher_floor=99"],
        ("the teacher's AP on 'val' must be at least 99", "train it longer (teacher_epochs) or give another (teacher_checkpoint)"),
    ),
    # places
    "run: out is a file": (taken, ["run", *PETS, "--out", "taken"], ("taken", "another folder")),
    "run: out cannot be made": (taken, ["run", *PETS, "--out", "taken/x"], ("taken", "another folder")),
    "sweep: out cannot be made": (taken, [*OF_PETS, "--out", "taken/x"], ("taken", "another folder")),
    "digits: out is there": (taken, ["data", "digits", "--out", "taken"], ("--out must be a folder that is not there yet", "'taken'", "choose another")),
    "teacher: weights cannot be written": (taken, ["teacher", *PETS, *TAUGHT[-6:], "--weights", "taken/t.safetensors"], ("taken/t.safetensors", "another")),
}
OPEN = {}


@pytest.mark.parametrize("mistake", [pytest.param(each, marks=pytest.mark.xfail(strict=True, reason=OPEN[each])) if each in OPEN else each for each in MISTAKES])
def test_a_mistake_is_one_line_that_says_what_where_and_what_to_do(mistake, monkeypatch):
    def too_far(*arguments):
        raise AssertionError("a mistake went as far as this")

    spoil, command, words = MISTAKES[mistake]
    monkeypatch.setattr(lab_sweep, "launch", too_far)
    if "data=pets" not in command:                                   # nothing may be trained for a mistake that can be seen at once
        monkeypatch.setattr(lab_sweep, "make_ready", too_far)
    write_pets()
    if spoil:
        spoil()
    line = complaint(call(*command))
    assert [word for word in words if word not in line] == [], line
    assert len(line) < 1200                                          # a list of all settings is the longest


def test_a_cache_that_cannot_be_made_is_one_line(monkeypatch):
    write_pets()
    taken()
    monkeypatch.setenv("FGDLAB_HOME", "taken/home")
    assert "taken" in complaint(call(*TAUGHT))


def test_a_mistake_in_a_process_of_its_own_is_one_line_too():
    done = subprocess.run([sys.executable, "-m", "fgdlab", "sweep", "table1_area"], capture_output=True, text=True, env=environment())
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("Error: unknown sweep 'table1_area'; did you mean 'table1_areas'?")


def environment() -> dict:
    """This process's variables, with the checkout on the path, as the current folder is another."""
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT)}


# --- help -------------------------------------------------------------------------------------------------------------------------

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
def test_every_setting_is_a_flag_with_its_words_its_default_and_its_values(command):
    options = {option.name: option for option in main.commands[command].params}
    shown = " ".join(call(command, "--help").output.split())
    for each in fields(RunConfig):
        option = options[each.name]
        assert option.default is None and f"[default: {each.default!r}]" in option.help and each.metadata["help"] in option.help
        assert option.opts == ["--" + each.name.strip("_").replace("_", "-")]
        assert all(value in shown for value in each.metadata["among"])


def test_a_flag_reaches_its_setting(monkeypatch):
    from fgdlab.lab import run as lab_run

    seen = []

    def stop(config, folder):
        seen.append(config)
        raise lab_run.UserError("seen")

    monkeypatch.setattr(lab_run, "run", stop)
    call("run", "--lambda", "1e-3", "--no-spatial-attention", "--relation", "mse", "--train-images", "7", "--scale", "smoke", "--teacher-checkpoint", "a b")
    call("run")
    config = seen[0]
    assert (config.lambda_, config.spatial_attention, config.relation, config.train_images, config.teacher_checkpoint) == (1e-3, False, "mse", 7, "a b")
    assert (config.scale, config.eval_images, seen[1]) == ("smoke", 16, RunConfig(device="cpu"))


def test_help_imports_no_torch():
    code = (
        "import sys\nfrom fgdlab.lab.cli import main\ntry:\n    main(['--help'], prog_name='fgdlab')\nexcept SystemExit:\n    pass\n"
        "print('slow:', sorted({'torch', 'torchvision', 'pandas', 'matplotlib', 'papermill', 'sklearn', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment())
    assert "fgdlab sweep table1_areas" in done.stdout and done.stdout.endswith("slow: []\n"), done.stderr


def test_python_dash_m_is_the_same_program():
    done = subprocess.run([sys.executable, "-m", "fgdlab", "--version"], capture_output=True, text=True, env=environment())
    assert done.returncode == 0 and done.stdout.startswith("fgdlab, version ")


# --- what goes well ---------------------------------------------------------------------------------------------------------------

def test_a_run_prints_its_scores_and_again_without_training_and_refuses_other_settings_in_its_folder():
    write_pets()
    command = ["run", *PETS, "--out", "mine"]
    first = call(*command)
    assert first.exit_code == 0 and re.search(r"^AP \d+\.\d  AP50 \d+\.\d  AR \d+\.\d   \(pets; 4 images to learn from, 2 of split val to judge\)$", first.stdout, re.MULTILINE)
    written = Path("mine/result.json").stat().st_mtime_ns
    again = call(*command)
    assert again.stdout.splitlines()[-2:] == first.stdout.splitlines()[-2:] and Path("mine/result.json").stat().st_mtime_ns == written
    line = complaint(call(*command, "--lr", "0.1"))
    assert "mine must hold a run with the same settings" in line and "lr" in line and "choose another folder" in line


def test_check_says_what_a_folder_holds():
    write_pets()
    done = call("data", "check", "pets")
    assert done.exit_code == 0
    for split, images in (("all", 8), ("train", 4), ("tune", 2), ("val", 2)):
        assert re.search(rf"^ *{split}: +{images} images +{images} boxes +1 classes +cells in a box: P3 \d+%, P4 \d+%, P5 \d+%$", done.stdout, re.MULTILINE)


def test_a_dry_run_lists_the_runs_and_writes_nothing():
    done = call("sweep", "table1_areas", "--dry-run", "--seeds", "3,4")
    lines = done.stdout.splitlines()
    assert done.exit_code == 0 and len(lines) == 11 and not Path("runs").exists()
    assert re.match(r"to do: 10 of 10 runs, about \d+ min on one slot, .* slots \(measured on \d+ runs of table1_areas.csv in ablations/results", lines.pop())
    assert [line.split("  ")[-3] for line in lines] == [f"{row}, seed {seed}" for seed in (3, 4) for row in ("none", "fg", "bg", "both", "split")]
    assert all(line.split()[0] == "pending" for line in lines)


@pytest.fixture
def fake(monkeypatch):
    """Runs that train nothing: fake[row] is "done" or "failed". What a run leaves is what the command reads."""
    ends = {}

    def launch(folder, environment):
        row = json.loads(Path(folder, "job.json").read_text())["row"]
        if ends.get(row) == "failed":
            write(Path(folder, "failed.json"), {"error": "ValueError: no good"})
            return 1
        scores = {name: 20.0 for name in lab_sweep.SCORE_COLUMNS}
        write(Path(folder, "result.json"), {**scores, "seconds": 1.0, "teacher_AP": 40.0, "data_line": "scenes", "provenance": {"device": "a processor"}})
        return 0

    monkeypatch.setattr(lab_sweep, "launch", launch)
    monkeypatch.setattr(lab_sweep, "make_ready", lambda todo, say: None)
    return ends


def test_a_sweep_with_a_failed_run_lists_it_and_exits_with_1_until_it_is_retried(fake):
    fake["bg"] = "failed"
    done = call(*TABLE)
    assert done.exit_code == 1 and "Traceback" not in done.output
    assert re.search(r"^1 runs? (is|are) missing:$", done.stderr, re.MULTILINE) and "ValueError: no good" in done.stderr and "--retry-failed" in done.stderr
    assert "SMOKE SCALE: these numbers mean nothing" in done.stdout and "foreground" in done.stdout      # the table of what is done
    assert Path("runs/table1_areas-smoke/results.csv").read_text().count("failed") == 1
    fake.clear()
    assert call(*TABLE).exit_code == 1                               # failed runs are not retried unasked
    done = call(*TABLE, "--retry-failed")
    assert done.exit_code == 0 and done.stderr == "" and "All 5 runs are done." in done.stdout
    assert Path("runs/table1_areas-smoke/table1_areas.png").is_file()


def test_a_table_is_printed_from_the_readers_runs_in_every_format(fake):
    assert call(*TABLE).exit_code == 0
    table = ["table", "table1_areas", "--scale", "smoke"]
    for format, words in (("text", "no distillation"), ("markdown", "| no distillation"), ("csv", "none,no distillation,none,37.4")):
        shown = call(*table, "--format", format)
        assert shown.exit_code == 0 and words in shown.stdout and shown.stderr == "from runs/table1_areas-smoke/results.csv\n"


def test_jobs_follow_the_cores_and_threads(fake, monkeypatch):
    seen = []
    monkeypatch.setattr(lab_sweep, "execute", lambda runs, jobs, **settings: seen.append(jobs) or {state: runs if state == "pending" else [] for state in lab_sweep.STATES})
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    for options in ([], ["--set", "threads=4"], ["--set", "threads=2"], ["--jobs", "5"], ["--set", "device=cuda"]):
        call(*TABLE, *options)
    assert seen == [6, 1, 3, 5, 1]


def test_ctrl_c_while_data_are_made_ends_with_one_line_and_status_130(monkeypatch):
    def interrupted(todo, say):
        raise KeyboardInterrupt

    monkeypatch.setattr(lab_sweep, "make_ready", interrupted)
    done = call(*TABLE)
    assert done.exit_code == 130 and done.stderr == "interrupted; the same command goes on where it stopped\n"
