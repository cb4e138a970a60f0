"""The report on a sweep: content of the page, which fetches nothing, and reasons for unavailable parts."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from click.testing import CliRunner

from fgdlab.lab.checkpoints.safetensors_io import save_weights
from fgdlab.lab.commands.cli import main
from fgdlab.lab.datasets import open_split
from fgdlab.lab.detectors.builder import build
from fgdlab.lab.reports import run_table
from fgdlab.lab.reports.row_figures import LoadedRows, losses_by_row, mean_loss_ratio
from fgdlab.lab.reports.sweep_report import Report, write_report
from fgdlab.lab.reports.sweep_runs import SweepRuns, unused_by_run
from fgdlab.lab.sweeps.collection import SCORE_COLUMNS, collect, write_results
from fgdlab.lab.sweeps.planning import plan
from fgdlab.lab.sweeps.spec import load_sweep

NOTEBOOK = Path(__file__).parents[3] / "ablations" / "report.ipynb"
SWEEP = {
    "title": "Which <area>?",
    "question": "Where to look & why?",
    "source": "a paper",
    "tuning": "none",
    "baseline": "none",
    "seeds": [0, 1],
    "contrasts": [["split", "fg"]],
    "rows": {
        "none": {"label": "no distillation", "paper": {"AP": 37.4}, "set": {"method": "none"}},
        "fg": {"label": "foreground", "set": {"area": "fg"}},
        "split": {"label": "both, split", "set": {"temperature": 0.1}},
        "late": {"label": "broke down", "set": {"area": "bg"}},
    },
}
ERROR = "UserError: method <mgd>: a student must have two heads"


def untrained(path: Path, seed: int) -> None:
    torch.manual_seed(seed)
    save_weights(build("retinanet", "compact_s", 10), path, settings={}, classes=list("0123456789"), AP=1.0)


def metrics(scale: float) -> list[dict]:
    terms = (("classification", "all", 2.0), ("fg", "P3", 0.5), ("fg", "P4", 0.5))
    return [
        {"step": step, "name": name, "level": level, "raw": 1.0, "weighted": scale * value / step}
        for step in (1, 2, 4)
        for name, level, value in terms
    ]


def fabricate(run, home: Path) -> None:
    """What a run leaves, of students that never learned: AP is 10 and a bit more for each row and seed."""
    run.folder.mkdir(parents=True)
    if run.row == "late":
        if run.seed == 0:
            (run.folder / "failed.json").write_text(json.dumps({"error": ERROR}))
            (run.folder / "run.ipynb").write_text("{}")
        return
    place = list(SWEEP["rows"]).index(run.row)
    untrained(run.folder / "student.safetensors", 10 * place + run.seed)
    (run.folder / "metrics.jsonl").write_text(
        "".join(
            json.dumps(line) + "\n" for line in metrics(1 + run.seed) if run.row != "none" or line["level"] == "all"
        )
    )
    eval_set = open_split(run.config, run.config.eval_split, progress=False)
    found = [
        {"image_id": image, "category_id": 1, "bbox": [4.0, 4.0, 20.0, 20.0], "score": 0.9}
        for image in eval_set.image_ids
    ]
    (run.folder / "detections.json").write_text(json.dumps(found))
    run.here.begin(run.config.dict(), {})
    eval_hash = eval_set.content_hash()
    packages = {"torch": "2.11", "numpy": "2.0"}
    (run.folder / "result.json").write_text(
        json.dumps(
            {
                **dict.fromkeys(SCORE_COLUMNS, 10.0 + place + run.seed / 2),
                "teacher_AP": 30.0 if run.row != "none" else None,
                "seconds": 60.0 + run.seed,
                "train_seconds": 50.0,
                "eval_seconds": 5.0,
                "images_per_second": 100.0,
                "peak_memory_gb": 1.5,
                "data_line": "tiny scenes",
                "data_hashes": {"train": "aa", "eval": eval_hash},
                "teacher": {"origin": "given", "weights": "cafe"} if run.row != "none" else None,
                "settings": run.config.dict(),
                "provenance": {
                    "commit": "0123456789ab",
                    "dirty": run.seed == 1,
                    "device": "a processor",
                    "cores": 2,
                    "python": "3.11",
                    "system": "Linux",
                    "packages": packages,
                    "finished": "2026-01-01",
                },
            }
        )
    )


@pytest.fixture(scope="module")
def swept(scene_cache, tmp_path_factory):
    """A folder with mine.yaml, a teacher and runs/mine: three rows done with two seeds, one row failed and not run."""
    from tests.helpers.lab_fixtures import TINY

    here = tmp_path_factory.mktemp("swept")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        (here / "home").mkdir()
        (here / "home/data").symlink_to(scene_cache / "data")
        patch.setenv("FGDLAB_HOME", str(here / "home"))
        untrained(here / "teacher.safetensors", 99)
        base = {name: value for name, value in TINY.items() if name != "scale"} | {
            "method": "fgd",
            "teacher_checkpoint": str(here / "teacher.safetensors"),
        }
        (here / "mine.yaml").write_text(yaml.safe_dump({**SWEEP, "base": base}, sort_keys=False))
        sweep = load_sweep("mine.yaml")
        runs = plan(sweep, here / "runs/mine")
        for run in runs:
            fabricate(run, here)
        write_results(collect(runs, sweep), here / "runs/mine/results.csv")
        yield here


@pytest.fixture(scope="module")
def report(swept) -> Report:
    return Report(SweepRuns.of("mine.yaml"))


@pytest.fixture(scope="module")
def page(swept) -> str:
    """The page of the command, made once for all tests: it starts a kernel."""
    done = CliRunner().invoke(main, ["report", "mine.yaml"])
    assert done.exit_code == 0 and done.output == "report: runs/mine/report.html\n", done.output
    return (swept / "runs/mine/report.html").read_text(encoding="utf-8")


@pytest.fixture
def alone(swept, tmp_path) -> Path:
    """Only results.csv, as it is committed."""
    shutil.copy(swept / "runs/mine/results.csv", tmp_path / "results.csv")
    return tmp_path


class Page(HTMLParser):
    """What a browser would see: words, images, and whether every opened tag is closed."""

    def __init__(self, text: str):
        super().__init__()
        self.words, self.title, self.images, self.ids, self.links, self.stack, self.wrong = "", "", [], [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.links += [attrs["href"]] if "href" in attrs else []
        if tag == "img":
            self.images.append(attrs)
        elif tag not in ("meta", "br"):
            self.stack.append(tag)

    def handle_endtag(self, tag):
        if tag not in ("meta", "br", "img") and (not self.stack or self.stack.pop() != tag):
            self.wrong.append(tag)

    def handle_data(self, data):
        if self.stack[-1:] != ["style"]:
            self.words += data
        if self.stack[-1:] == ["title"]:
            self.title += data


def squeezed(text: str) -> str:
    return " ".join(text.split())


# --- the page ---------------------------------------------------------------------------------------------------------


def test_the_page_fetches_nothing_and_its_scripts_are_its_own(page):
    outside = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", page).replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|//[a-z]|src=\"(?!\")|<link|<iframe|@import|url\(|\\bon[a-z]+=|\bimport\b", outside)
    assert page.count("<script") == 1 and len(page) < 3e6 and len(outside) < 70_000


def lines_of(page: str) -> list[dict]:
    """The lines of the table of runs, as its script reads them."""
    return json.loads(re.search(r"^const data = (.*);$", page, re.MULTILINE)[1])["lines"]


def test_a_watched_sweep_has_states_time_left_curves_and_links(swept, monkeypatch):
    threads, pending = [], next(run for run in plan(load_sweep("mine.yaml"), swept / "runs/mine") if run.seed == 1
                                and run.row == "late")
    thread = SimpleNamespace(Thread=lambda target, daemon: threads.append(target) or SimpleNamespace(start=list))
    monkeypatch.setattr(run_table, "threading", thread)
    table = run_table.watch("mine.yaml")
    lines = {(line["row"], line["seed"]): line for line in table.data["lines"]}
    assert len(lines) == 8 and lines["broke down", 0]["error"] == ERROR and lines["broke down", 1]["state"] == "pending"
    assert [step for step, _ in lines["foreground", 0]["curve"]] == [1, 2, 4] and "curve" not in lines["broke down", 1]
    assert table.data["status"].startswith("to do: 1 of 8 runs")
    json.dumps(table.data, allow_nan=False)
    monkeypatch.setattr(run_table.time, "sleep", lambda seconds: pending.here.fail("ended"))  # while it waits
    try:
        threads[0]()  # looks again, until all runs have ended
        assert {line["state"] for line in table.data["lines"]} == {"done", "failed"}
    finally:
        (pending.folder / "failed.json").unlink()


def test_the_page_is_valid_html_with_inline_images_that_have_alternative_texts(page):
    seen = Page(page)
    assert seen.stack == [] and seen.wrong == [] and len(seen.ids) == len(set(seen.ids))
    assert len(seen.images) == 3 + 2 * 3  # points, losses, outcomes; masks, attention, detections of two images
    assert all(image["src"].startswith("data:image/png;base64,") for image in seen.images)
    assert len({image["alt"] for image in seen.images}) == len(seen.images) and seen.title == "Which <area>?"
    assert all(link[1:] in seen.ids for link in seen.links)


def test_the_page_has_question_table_paper_settings_cost_and_origin(page):
    words = squeezed(Page(page).words)
    for part in (
        "Which <area>?",
        "Where to look & why?",
        "37.4",
        "10.2 ± 0.4 (2)",
        "both, split minus foreground",
        "tiny scenes",
        "0123456789ab",
        "torch 2.11, numpy 2.0",
        "weights cafe, given, AP 30.0",
        "train aa, eval ",
        "seed variance",
        "fgdlab report mine",
        "student of seed 0",
    ):
        assert part in words, part


def test_the_page_lists_what_failed_with_its_error_and_notebook(page):
    words = squeezed(Page(page).words)
    assert "Not done, 2 of 8 runs:" in words and ERROR in words
    failed = [line for line in lines_of(page) if line["state"] != "done"]
    assert [(line["row"], line["seed"], line["state"], line["error"]) for line in failed] == [
        ("broke down", 0, "failed", ERROR),
        ("broke down", 1, "pending", None),
    ]
    assert failed[1]["files"] == {} and Path("runs/mine", failed[0]["files"]["notebook"]).is_file()


def test_every_run_has_its_scores_and_the_settings_that_it_uses(page):
    lines = {(line["row"], line["seed"]): line for line in lines_of(page)}
    assert len(lines) == 8 and lines["foreground", 1]["AP"] == 11.5 and lines["foreground", 1]["seconds"] == 61
    assert lines["no distillation", 0]["area"] is None and lines["both, split", 0]["temperature"] == "0.1"


def test_weights_that_an_area_does_not_use_are_no_settings_of_its_row():
    row = pd.Series({"method": "fgd", "area": "fg", "inherit": False, "alpha": 1.0, "beta": 2.0})
    assert "beta" in unused_by_run(row) and "alpha" not in unused_by_run(row)
    assert "alpha" in unused_by_run(row.replace("fg", "bg")) and "beta" in unused_by_run(row.replace("fg", "both"))
    assert not {"alpha", "beta"} & {*unused_by_run(row.replace("fg", "split"))}


def test_own_runs_of_fewer_seeds_miss_none_and_seeds_can_be_chosen(swept, tmp_path):
    frame = pd.read_csv(swept / "runs/mine/results.csv")
    frame[frame["seed"] == 0].to_csv(tmp_path / "results.csv", index=False)
    assert SweepRuns.of("mine.yaml", runs=tmp_path).sweep.seeds == [0]
    chosen = SweepRuns.of("mine.yaml", seeds=[1])
    assert chosen.sweep.seeds == [1] and set(chosen.frame["seed"]) == {1}
    assert "Seeds: 1." in " ".join(Report(chosen).table.caption)


def test_without_the_runs_folders_the_figures_are_unavailable_for_a_reason(alone):
    report = Report(SweepRuns.of("mine.yaml", runs=alone))
    for part in (report.losses(), report.rows_shown(), report.masks(0), report.attention(0), report.detections(1)):
        assert part.data.startswith("<p><em>Not available: these figures need the runs&#x27; own folders")
        assert "run `fgdlab sweep mine`" in part.data
    assert report.images() == []


@pytest.mark.slow
def test_without_the_runs_folders_the_page_has_one_figure_and_two_reasons(alone):
    seen = Page(write_report("mine.yaml", runs=alone, out=alone / "page.html").read_text(encoding="utf-8"))
    assert len(seen.images) == 1 and seen.words.count("Not available: ") == 2 and "torch 2.11" in squeezed(seen.words)


def test_results_that_give_no_table_are_one_line_and_no_kernel_is_started(alone, monkeypatch):
    monkeypatch.setattr("papermill.execute_notebook", None)
    frame = pd.read_csv(alone / "results.csv").assign(state="failed")
    frame.to_csv(alone / "results.csv", index=False)
    done = CliRunner().invoke(main, ["report", "mine.yaml", "--runs", str(alone)])
    assert done.exit_code == 1 and done.stderr.count("\n") == 1 and "must have a run that is done" in done.stderr
    assert not (alone / "report.html").exists()


def test_a_missing_teacher_is_not_trained_for_a_figure(swept):
    (swept / "teacher.safetensors").rename(swept / "away")
    try:
        loaded = Report(SweepRuns.of("mine.yaml")).loaded
        assert [row.label for row in loaded.rows] == ["no distillation"]
        assert "the teacher's weights (cafe) must be on this machine" in loaded.left_out["foreground"]
    finally:
        (swept / "away").rename(swept / "teacher.safetensors")


# --- its parts --------------------------------------------------------------------------------------------------------


def test_settings_that_differ_tell_the_rows_apart(report):
    settings = report.runs.settings().set_index("row")
    assert set(settings.columns) == {"method", "area", "temperature"}
    assert (
        settings.loc["no distillation", "method"] == "none"
        and settings.loc["no distillation", ["area", "temperature"]].isna().all()
    )  # it uses neither
    assert (
        settings.loc["foreground", "area"] == "fg"
        and settings.loc["both, split", "temperature"] == "0.1"
        and settings.loc["broke down"].isna().all()
    )


def test_cost_is_the_mean_over_a_rows_runs_and_the_sum_of_all(report):
    cost = report.runs.cost().set_index("row")
    assert cost.loc["foreground", ["runs", "seconds per run", "images / s"]].to_list() == [2, 60.5, 100.0]
    assert cost.loc["broke down", "runs"] == 0 and cost.loc["all together", ["runs", "seconds per run"]].to_list() == [
        6,
        363.0,
    ]


def test_provenance_lists_different_values_with_their_number_of_runs(report):
    facts = report.runs.provenance().set_index("fact")["value"]
    assert (
        facts["commit"]
        == "0123456789ab, no change left uncommitted (3 runs) | 0123456789ab, with uncommitted changes (3 runs)"
    )
    assert facts["device"] == "a processor, 2 cores" and facts["read from"] == "runs/mine/results.csv"


def test_a_failed_runs_error_joins_the_results_and_the_caption(swept):
    runs = SweepRuns.of("mine.yaml")
    assert runs.frame.loc[runs.frame["state"] == "failed", "error"].to_list() == [ERROR]
    assert f"broke down: seed 0 failed ({ERROR})" in " ".join(Report(runs).table.caption)


def test_a_notebook_in_a_folder_below_finds_the_runs(swept, monkeypatch):
    (swept / "below").mkdir(exist_ok=True)
    monkeypatch.chdir(swept / "below")
    assert SweepRuns.of("../mine.yaml").path == Path("../runs/mine/results.csv")


def test_losses_have_a_panel_a_row_with_the_mean_over_seeds(report):
    figure = report.losses()
    titles = [ax.get_title() for ax in figure.axes if ax.axison]
    assert [title.split(" (2 seeds)")[0] for title in titles] == ["no distillation", "foreground", "both, split"]
    assert "task loss only" in titles[0] and "distillation ends at 0.5 x the task loss" in titles[1]
    (mean,) = (line for line in figure.axes[1].lines if line.get_gid() == "term-fg")
    assert mean.get_xdata().tolist() == [1, 2, 4] and mean.get_ydata() == pytest.approx([1.5, 0.75, 0.375])
    assert len({ax.get_ylim() for ax in figure.axes[:3]}) == 1 and figure.axes[0].get_yscale() == "log"


def test_the_share_of_distillation_is_of_the_last_quarter():
    frame = pd.DataFrame(
        [
            {"step": step, "name": name, "level": level, "weighted": value}
            for step, fg in ((1, 90.0), (10, 3.0))
            for name, level, value in (("classification", "all", 2.0), ("fg", "P3", fg))
        ]
    )
    assert mean_loss_ratio([frame]) == 1.5 and mean_loss_ratio([frame[frame["level"] == "all"]]) == 0


def test_one_row_alone_can_be_drawn():
    assert losses_by_row({"a": [pd.DataFrame(metrics(1.0))]}).axes[0].get_title().startswith("a (1 seed)")


def drawn(figure) -> list:
    return [ax for ax in figure.axes if ax.axison and ax.get_title()]


def test_rows_that_weigh_cells_alike_share_a_panel(report):
    image, fg, bg = drawn(report.masks(0))
    assert "foreground; both, split" in fg.get_title() and bg.get_title().endswith("\nboth, split")
    shown = fg.images[0].get_array().filled(0)
    assert (
        shown.shape == (8, 8)
        and (shown[:] > 0).any()
        and ((shown > 0) != (bg.images[0].get_array().filled(0) > 0)).all()
    )


def test_attention_has_the_teacher_at_every_temperature_and_every_student_on_one_scale(report):
    panels = drawn(report.attention(0))
    assert [ax.get_title().split("\n")[0] for ax in panels] == [
        "teacher, T = 0.5",
        "teacher, T = 0.1",
        "no distillation",
        "foreground",
        "both, split",
    ]
    assert len({ax.images[0].get_clim() for ax in panels}) == 1
    assert np.ptp(panels[1].images[0].get_array()) > np.ptp(
        panels[0].images[0].get_array()
    )  # sharper at a lower temperature


def test_detections_of_every_row_are_on_the_same_image(report):
    panels = drawn(report.detections(1))
    assert [ax.get_title().split("\n")[0] for ax in panels] == [
        "teacher",
        "no distillation",
        "foreground",
        "both, split",
    ]
    assert all((ax.images[0].get_array() == panels[0].images[0].get_array()).all() for ax in panels)
    assert len(set(report.images())) == 2


@pytest.mark.parametrize(
    "objects, chosen",
    [((0, 1, 2, 0, 0, 3), [2, 5]), ((5, 5, 5, 5), [0, 2]), ((1, 0, 1), [0, 1]), ((0, 9), [1, 0]), ((1,), [0])],
)
def test_images_are_spread_over_the_split_and_have_several_objects_if_possible(objects, chosen):
    boxes = {image_id: [None] * count for image_id, count in enumerate(objects)}
    dataset = SimpleNamespace(annotations=SimpleNamespace(boxes=boxes), image_ids=list(boxes))
    assert LoadedRows([], dataset, {}).images(2) == chosen


# --- command line and notebook ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def test_the_notebook_is_committed_without_outputs_and_with_literal_parameters(notebook):
    nbformat.validate(notebook)
    assert [
        cell.id
        for cell in notebook.cells
        if cell.cell_type == "code" and (cell.outputs or cell.execution_count is not None)
    ] == []
    import papermill

    assert list(papermill.inspect_notebook(str(NOTEBOOK))) == ["sweep", "scale", "runs", "seeds", "page"]


def test_the_notebook_shows_every_part_of_the_report(notebook):
    source = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    parts = [name for name in vars(Report) if not name.startswith("_") and name != "loaded"]
    parts += [f"runs.{name}" for name in ("settings", "cost", "provenance")]
    assert [part for part in parts if f"report.{part}(" not in source] == [] and "report.table" in source
