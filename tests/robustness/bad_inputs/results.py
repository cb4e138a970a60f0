"""Bad results: a sweep, a table or a comparison meets files of earlier runs that came to harm."""
import json
import os
from collections.abc import Callable
from pathlib import Path

from .annotations import says
from .world import RUN, SWEEP, Row, cut, holds, write

NAMED = ("table1_areas", "--scale", "smoke", "--out", "mine")
DRY = (*SWEEP, "--dry-run")
COMPARE = ("compare", "mine", "mine")
RESULT = {
    "AP": 20.0, "AP50": 40.0, "AP75": 15.0, "AR": 30.0, "teacher_AP": 32.0, "seconds": 20.0, "train_seconds": 15.0,
    "eval_seconds": 3.0, "images_per_second": 100.0,
    "peak_memory_gb": 1.0, "parameters": 1000, "steps": 40, "data_line": "pets",
    "teacher": {"origin": "trained now", "weights": "abc"}, "provenance": {"device": "a processor"},
}
SPOILT = ".../mine/.../result.json must be whole, got: ...; delete it, and it is made again"
COLUMNS = "row,label,seed,state,AP,AR\n"


def swept(spoil: Callable[[Path], object] = lambda folder: None):
    """A spoiler that finishes every run of ``SWEEP`` in ``mine``, and then spoils the folder of one."""
    def make() -> None:
        from fgdlab.lab.io import load_yaml
        from fgdlab.lab.sweeps.planning import plan
        from fgdlab.lab.sweeps.spec import load_sweep

        pairs = (pair.split("=", 1) for flag, pair in zip(SWEEP, SWEEP[1:], strict=False) if flag == "--set")
        runs = plan(
            load_sweep("table1_areas").at("smoke"), Path("mine"), scale="smoke",
            overrides={name: load_yaml(value) for name, value in pairs},
        )
        for run in runs:
            os.makedirs(run.folder, exist_ok=True)
            run.here.begin(run.config.dict(), {})
            write(run.folder / "result.json", RESULT)
        spoil(runs[0].folder)

    return make


def result(content):
    """A spoiler that gives one finished run another result.json."""
    return swept(lambda folder: write(folder / "result.json", content))


def instead(name: str, content):
    """A spoiler that takes the result of one run away and leaves another file there."""
    return swept(lambda folder: (os.unlink(folder / "result.json"), write(folder / name, content)))


def table(content):
    """A spoiler that leaves a results.csv."""
    return lambda: (os.mkdir("mine"), write("mine/results.csv", content))


def done(name, spoil, line, command=COMPARE) -> Row:
    """A row that finds a finished run in ``mine``."""
    return Row(name, spoil, command, line, trained=True)


def stranger() -> None:
    found = json.loads(Path("mine/detections.json").read_text())
    write("mine/detections.json", [*found, {"image_id": 99, "category_id": 3, "bbox": [1, 1, 2, 2], "score": 0.5}])


UNREADABLE = "mine/results.csv must be whole, got: ...; delete it, and it is made again"

ROWS = [
    # a sweep
    Row("sweep: every run is done", swept(), SWEEP, "", says("no distillation", "20.0")),
    Row("sweep: a result, truncated", swept(lambda folder: cut(f"mine/{folder.name}/result.json")()), SWEEP, SPOILT),
    Row("sweep: a result of no bytes", result(""), SWEEP, SPOILT),
    Row("sweep: a result that is a list", result([1, 2]), SWEEP, SPOILT),
    Row("sweep: a result without AP", result({name: value for name, value in RESULT.items() if name != "AP"}), SWEEP,
        ".../result.json must be whole, got: no AP; delete it, and it is made again"),
    Row("sweep: a word for AP", result({**RESULT, "AP": "high"}), SWEEP,
        ".../result.json must be whole, got: 'high' for AP; delete it, and it is made again"),
    Row("sweep: a word for a lesser score", result({**RESULT, "AP50": "high"}), SWEEP, SPOILT),
    Row("sweep: a word for the machine", result({**RESULT, "provenance": "here"}), SWEEP, SPOILT),
    Row(
        "sweep --dry-run: a result, truncated", swept(lambda folder: cut(f"mine/{folder.name}/result.json")()), DRY,
        SPOILT,
    ),
    Row(
        "sweep --dry-run: the claim of a process, truncated", instead("running.json", '{"pid": 1'), DRY, "",
        says("interrupted"),
    ),
    Row(
        "sweep --dry-run: the claim of a process is a list", instead("running.json", [1]), DRY, "", says("interrupted"),
    ),
    Row(
        "sweep --dry-run: a claim with a word for the process", instead("running.json", {"pid": "me", "host": "here"}),
        DRY, "", says("interrupted"),
    ),
    Row(
        "sweep --dry-run: a claim of process -1", instead("running.json", {"pid": -1, "host": "here"}), DRY, "",
        says("interrupted"),
    ),
    Row("sweep --dry-run: a failure without words", instead("failed.json", "[]"), DRY, "", says("failed")),
    Row(
        "sweep --dry-run: a log of other lines",
        instead("metrics.jsonl", '{"a": 1}\n{"steps": 0, "step": 1}\n{"steps": "x"}\n'), DRY, "", says("interrupted"),
    ),
    # a run
    Row(
        "run: a folder in which a refused run left its settings",
        lambda: (os.mkdir("mine"), write("mine/params.json", {"lr": 1.0})), (*RUN, "--out", "mine"), "", says("AP "),
    ),
    # a table
    Row("table: results of no bytes", table(""), ("table", *NAMED), UNREADABLE),
    Row(
        "table: results that are an image", table(b"\x89PNG\r\n\x1a\n" + bytes(range(256))), ("table", *NAMED),
        UNREADABLE,
    ),
    Row("table: results without the scores", table("row,seed,state\nnone,0,done\n"), ("table", *NAMED),
        "mine/results.csv must be whole, got: no column AP, AR; delete it, and it is made again"),
    Row("table: a word for a score", table(f"{COLUMNS}none,none,0,done,high,30\n"), ("table", *NAMED), UNREADABLE),
    Row("table: a word for a seed", table(f"{COLUMNS}none,none,x,done,20,30\n"), ("table", *NAMED), UNREADABLE),
    Row("table: no seed", table(f"{COLUMNS}none,none,,done,20,30\n"), ("table", *NAMED), UNREADABLE),
    Row(
        "report: results of no bytes", table(""),
        ("report", "table1_areas", "--scale", "smoke", "--runs", "mine", "--out", "mine/page.html"), UNREADABLE,
    ),
    Row("seeds: results of no bytes", table(""), ("seeds", *NAMED), UNREADABLE),
    # a comparison
    Row(
        "compare: no such run", None, COMPARE,
        "mine must be the folder of a finished run, with result.json and detections.json, got another path; correct "
        "it, or run it first",
    ),
    done(
        "compare: a result, truncated", cut("mine/result.json"),
        "mine/result.json must be whole, got: ...; delete it, and it is made again",
    ),
    done("compare: a result of another make", holds("mine/result.json", {"AP": 1, "AR": 2, "seconds": 3}),
        "mine/result.json must be whole, got: 'data_hashes'; delete it, and it is made again"),
    done("compare: detections, truncated", cut("mine/detections.json"),
        "mine/detections.json must be whole JSON, got a fault at line ...; copy or export it again"),
    done("compare: a detection in an unknown image", stranger,
        "mine/detections.json: detection 11 must have the 'image_id' of one of the 2 images of the ground truth, got "
        "99; give a list in COCO's result format, as a run's detections.json, with the ids of the ground truth"),
    done("compare: the data have changed since", lambda: os.unlink("pets/splits.json"),
        "pets must hold the images and labels that mine was evaluated on, got others; bring them back, or run it "
        "again in another folder"),
]
