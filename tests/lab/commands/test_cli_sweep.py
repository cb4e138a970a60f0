"""Where `fgdlab sweep` runs: one place at a time; a missing place is an error of one line."""
import pytest
from click.testing import CliRunner

from fgdlab.lab.commands.cli import main
from fgdlab.lab.commands.sweep import parse_pairs
from fgdlab.lab.run import STATES
from fgdlab.lab.sweeps import execution as lab_sweep

TABLE = ["sweep", "table1_areas", "--scale", "smoke", "--seeds", "0"]


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FGDLAB_HOME", str(tmp_path / "home"))


MISTAKES = {
    "a GPU that does not exist": (
        ["--gpus", "0,99", "--set", "device=cuda"],
        ("--gpus must name GPUs of this machine", "99", "nvidia-smi"),
    ),
    "a GPU for runs on the CPU": (["--gpus", "0"], ("--gpus must",)),
    "GPUs that are not numbers": (["--gpus", "a"], ("--gpus", "whole numbers", "'a'")),
    "GPUs and jobs": (["--gpus", "0", "--jobs", "2"], ("one place", "--gpus and --jobs", "choose one")),
    "a cluster and Slurm": (["--slurm", "--cluster", "tcp://x:1"], ("one place", "--cluster and --slurm")),
    "a partition without Slurm": (["--slurm-partition", "gpu"], ("--slurm-partition", "add --slurm")),
    "no Slurm here": (["--slurm"], ("--slurm must find Slurm's commands here", "sbatch")),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_missing_place_is_an_error_of_one_line_before_anything_is_written(mistake, monkeypatch, tmp_path):
    options, words = MISTAKES[mistake]
    monkeypatch.setenv("PATH", str(tmp_path))                        # no srun, wherever these tests run
    monkeypatch.setattr(lab_sweep, "execute", lambda *args, **settings: pytest.fail("an error was found too late"))
    done = CliRunner().invoke(main, [*TABLE, *options])
    assert done.exit_code in (1, 2) and done.stdout == "" and done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert [word for word in words if word not in done.stderr] == [], done.stderr
    assert not (tmp_path / "runs").exists()


def chosen(monkeypatch, *options: str) -> dict:
    """How :func:`execute` is called."""
    seen = {}
    monkeypatch.setattr(
        lab_sweep,
        "execute",
        lambda runs, **settings: (
            seen.update(settings) or {state: runs if state == "pending" else [] for state in STATES}
        ),
    )
    CliRunner().invoke(main, [*TABLE, *options])
    return seen


def test_runs_stay_on_this_machine_by_default_and_gpus_are_slots(monkeypatch):
    here = chosen(monkeypatch, "--jobs", "3", "--retry-failed", "--fail-fast")
    assert (here["executor"], here["jobs"], here["elsewhere"], here["retry_failed"], here["fail_fast"]) == (
        None,
        3,
        False,
        True,
        True,
    )
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    gpus = chosen(monkeypatch, "--gpus", "1,3", "--set", "device=cuda")
    assert (gpus["jobs"], gpus["elsewhere"]) == (2, True)
    assert sorted(gpus["executor"].free.get()["CUDA_VISIBLE_DEVICES"] for _ in range(2)) == ["1", "3"]


def test_a_cluster_runs_as_many_as_it_has_workers_or_as_jobs_allows(monkeypatch):
    from fgdlab.lab.sweeps import dask_executor as lab_cluster

    class Cluster:
        def __init__(self, address, gpu):
            self.asked = (address, gpu)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def room(self) -> int:
            return 5

    monkeypatch.setattr(lab_cluster, "DaskExecutor", Cluster)
    seen = chosen(monkeypatch, "--cluster", "tcp://x:1")
    assert seen["executor"].asked == ("tcp://x:1", False) and seen["jobs"]() == 5 and seen["elsewhere"]
    assert chosen(monkeypatch, "--cluster", "tcp://x:1", "--jobs", "2")["jobs"]() == 2
    assert chosen(monkeypatch, "--cluster", "tcp://x:1", "--set", "device=cuda")["executor"].asked[1]


def test_the_scale_paper_needs_a_folder_with_coco_and_plans_the_authors_pairs(coco_folder):
    done = CliRunner().invoke(main, ["sweep", "table2_same_family", "--scale", "paper", "--dry-run"])
    assert done.exit_code == 1
    assert done.stderr == "Error: scale paper must know where COCO is, got no folder; add --set data=FOLDER\n"
    data = coco_folder(
        [(64, 64)] * 2, {1: [(1, 1, 20, 20, 3, 0)], 2: [(1, 1, 20, 20, 3, 0)]}, splits={"train": [1], "val": [2]}
    )
    done = CliRunner().invoke(
        main, ["sweep", "table2_same_family", "--scale", "paper", "--set", f"data={data}", "--dry-run"]
    )
    assert done.exit_code == 0 and "fcos_fgd_inherit, seed 2" in done.stdout and "to do: 60 of 60 runs" in done.stdout


def test_a_folder_of_ones_own_is_run_at_the_scale_photos_with_settings_that_fit_it(coco_folder):
    """The README's line. The scale changes neither digits, nor another scale, nor a sweep that names its data."""
    boxes = {i: [(5, 5, 60, 40, 3, 0), (90, 90, 30, 45, 7, 0)] for i in range(1, 7)}
    data = coco_folder([(200, 150)] * 6, boxes, splits={"train": [1, 2, 3, 4], "test": [5, 6]})

    def plan(*arguments) -> str:
        done = CliRunner().invoke(main, ["sweep", *arguments, "--dry-run"])
        assert done.exit_code == 0, done.stderr
        return done.stdout

    own = plan("table1_areas", "--set", f"data={data}")
    assert "folder: 4 training images, 8 boxes, 2 classes; evaluation on test" in own and "to do: 15 of 15 runs" in own
    assert all(part in own for part in ("image_size 160", "of the boxes meet one at IoU 0.5", "min of compact_t on"))
    ids = [line.split()[-1] for line in own.splitlines() if "pending" in line]
    again = plan("table1_areas", "--set", f"data={data}")
    assert [line.split()[-1] for line in again.splitlines() if "pending" in line] == ids
    assert "image_size 96" in plan("table1_areas", "--set", f"data={data}", "--set", "image_size=96")
    for other in (
        ["table1_areas"],
        ["table1_areas", "--set", f"data={data}", "--scale", "smoke", "--set", "eval_split=test"],
        ["table1_areas", "--set", f"data={data}", "--scale", "laptop", "--set", "eval_split=test"],
    ):
        assert "boxes meet one" not in plan(*other)


@pytest.mark.parametrize("name, pair, count", [
    ("table1_areas", "area=fg", "5 become 2"), ("schedule", "epochs=1", "15 become 3"),
    ("methods", "method=none", "14 become 1"),
])
def test_set_must_not_make_one_run_of_several_rows(name, pair, count):
    """The table would show the same numbers under each of their labels."""
    done = CliRunner().invoke(main, ["sweep", name, "--set", pair, "--dry-run"])
    assert done.exit_code == 1
    assert done.stderr == f"Error: --set must keep rows different, got {pair}: {count}; leave it out\n"


@pytest.mark.parametrize("value", ["2024", "a=b #1", "yes", "1e3", "~", "", "off", "[x]"])
def test_texts_of_set_are_taken_as_they_are(value):
    assert parse_pairs((f"data={value}", "threads=2", "lr=1e-3")) == {"data": value, "threads": 2, "lr": "1e-3"}


def test_a_folder_with_an_odd_name_is_read(coco_folder):
    boxes = {i: [(5, 5, 60, 40, 3, 0)] for i in range(1, 5)}
    for name in ("2024", "a=b #1"):
        coco_folder([(200, 150)] * 4, boxes, splits={"train": [1, 2], "val": [3, 4]}, name=name)
        done = CliRunner().invoke(main, ["sweep", "table1_areas", "--set", f"data={name}", "--dry-run"])
        assert done.exit_code == 0 and f"{name}: 2 training images, 2 boxes, 2 classes" in done.stdout, done.output


def test_a_run_at_the_scale_photos_needs_a_folder():
    done = CliRunner().invoke(main, ["run", "--scale", "photos"])
    assert done.exit_code == 1 and "scale photos must know your data, got no folder; give data=DIR" in done.stderr
