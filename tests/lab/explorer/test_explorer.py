"""The explorer without a browser: its arguments, states, exports and cache."""

import ast
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from fgdlab import FGDConfig, FGDLoss, attention
from fgdlab.lab.checkpoints.safetensors_io import save_weights
from fgdlab.lab.config.run_config import RunConfig
from fgdlab.lab.detectors.builder import build
from fgdlab.lab.errors import UserError
from fgdlab.lab.explorer import explorer as explorer_module
from fgdlab.lab.explorer import widget
from fgdlab.lab.explorer.explorer import EXPORTS, Explorer, explore, static_figure
from fgdlab.lab.explorer.state import State
from fgdlab.lab.plots.attention_maps import scene_and_teacher_maps
from fgdlab.lab.plots.map_panels import NotebookFigure
from fgdlab.lab.run.one_run import run
from fgdlab.lab.teachers.teachers import Teacher

CONFIG = FGDConfig(1e-3, 5e-4, 1e-2, 1e-4)


def detector(seed: int, backbone: str = "compact_s"):
    torch.manual_seed(seed)
    return build("retinanet", backbone, 10, score_thresh=0.0).eval()


@pytest.fixture(scope="module")
def trio():
    return {"baseline": detector(0), "distilled": detector(1)}, detector(2)


@pytest.fixture
def opened(trio, tiny_scenes) -> Explorer:
    students, teacher = trio
    return explore(students, teacher, tiny_scenes("val"), CONFIG, score=0.011)


@pytest.fixture(scope="module")
def snapshots(trio, tmp_path_factory) -> Path:
    """A folder of three checkpoints between two students, as a run leaves it."""
    folder = tmp_path_factory.mktemp("run") / "snapshots"
    first, last = (each.state_dict() for each in trio[0].values())
    for i, step in enumerate((50, 100, 1000)):
        module = detector(9)
        module.load_state_dict(
            {name: torch.lerp(first[name].float(), last[name].float(), i / 2).to(first[name].dtype) for name in first}
        )
        folder.mkdir(exist_ok=True)
        save_weights(module, folder / f"step_{step:06d}.safetensors", settings=RunConfig(student="compact_s").dict())
    return folder


@pytest.fixture
def own_images(tmp_path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    draw = np.random.default_rng(0)
    for name, size in {"b.png": (70, 90), "a.jpg": (64, 64), "c.JPEG": (40, 120)}.items():
        Image.fromarray(draw.integers(0, 255, (*size, 3), np.uint8)).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    return folder


def shown(explorer: Explorer):
    return explorer.session.view(explorer.state)


def panels(explorer: Explorer) -> dict[str, np.ndarray]:
    return {panel.title: panel.values for panel in shown(explorer).panels}


# --- views


def test_panels_are_attention_maps_and_their_difference(opened, trio, tiny_scenes):
    students, teacher = trio
    opened.set(image=2, level="P4", temperature=0.2, student_name="baseline")
    scene, maps = scene_and_teacher_maps(students["baseline"], teacher, *tiny_scenes("val")[2])
    a_t, a_s = (attention(each["P4"], 0.2).spatial[0].numpy() for each in (maps, scene.features))
    found = panels(opened)
    assert list(found) == ["teacher", "baseline", "teacher - baseline"]
    assert found["teacher"] == pytest.approx(a_t, rel=1e-4) and found["baseline"] == pytest.approx(a_s, rel=1e-4)
    assert found["teacher - baseline"] == pytest.approx(a_t - a_s, abs=1e-4)


def test_terms_are_those_of_the_loss_times_the_weights_of_the_sliders(opened, trio, tiny_scenes):
    students, teacher = trio
    opened.set(alpha=0.1, beta=0.02, gamma=0.5, lambda_=0.003, temperature=1.5, rounding="exact", image=1)
    scene, maps = scene_and_teacher_maps(students["distilled"], teacher, *tiny_scenes("val")[1])
    loss = FGDLoss(("P3", "P4", "P5"), 48, 48, FGDConfig(0.1, 0.02, 0.5, 0.003, temperature=1.5, rounding="exact"))
    with torch.no_grad():
        expected = {(term.level, term.name): term.weight * term.raw.item() for term in loss(scene, maps)}
    found = {(row["level"], row["term"]): row["weighted"] for row in opened.numbers().to_dict("records")}
    assert found == pytest.approx(expected, rel=1e-3)
    assert opened.numbers()["percent"].sum() == pytest.approx(100)


def test_percentages_of_all_cells_sum_to_100_without_the_attention_term(opened):
    opened.set(gamma=0.0)  # without the attention term every part of the loss belongs to a cell
    shares = [opened.set(level=level).numbers("cells")["percent"].sum() for level in ("P3", "P4", "P5")]
    assert sum(shares) == pytest.approx(100, rel=1e-4) and min(shares) > 0


def test_all_weights_at_zero_show_zero_and_no_nan(opened):
    opened.set(alpha=0.0, beta=0.0, gamma=0.0, lambda_=0.0, quantity="loss")
    assert (opened.numbers()["percent"] == 0).all() and (opened.numbers("cells")["percent"] == 0).all()


def test_shared_limits_span_all_amounts_and_own_limits_each(opened):
    def limits():
        return [(panel.low, panel.high) for panel in opened.session.view(opened.state).panels if panel.kind == "amount"]

    values = list(panels(opened).values())[:2]
    assert limits() == [(min(each.min() for each in values), max(each.max() for each in values))] * 2
    opened.set(limits="own")
    assert limits() == [(each.min(), each.max()) for each in values]


@pytest.mark.parametrize("limits", ["shared", "own"])
def test_zero_is_the_middle_of_every_difference(opened, limits):
    opened.set(view="before_after", limits=limits)
    differences = [panel for panel in opened.session.view(opened.state).panels if panel.kind == "difference"]
    assert len(differences) == 2 and all(panel.low == -panel.high for panel in differences)
    same = differences[0].high == differences[1].high
    assert same == (limits == "shared")


def test_before_and_after_shows_every_student_and_the_teacher(opened):
    opened.set(view="before_after")
    assert list(panels(opened)) == ["teacher", "baseline", "distilled", "teacher - baseline", "teacher - distilled"]
    assert opened.numbers("gaps")["student"].tolist() == ["baseline", "distilled"]


def test_a_channel_shows_its_map_in_both_networks(opened, trio, tiny_scenes):
    opened.set(quantity="channel", channel=7)
    scene, maps = scene_and_teacher_maps(trio[0]["distilled"], trio[1], *tiny_scenes("val")[0])
    found = panels(opened)
    assert found["teacher"] == pytest.approx(maps["P3"][0, 7].numpy(), abs=1e-5)
    assert found["distilled"] == pytest.approx(scene.features["P3"][0, 7].numpy(), abs=1e-5)


def test_a_cell_lists_its_channels_by_gap(opened, trio, tiny_scenes):
    opened.set(cell=(3, 5))
    scene, maps = scene_and_teacher_maps(trio[0]["distilled"], trio[1], *tiny_scenes("val")[0])
    found = opened.numbers("channels").set_index("channel").sort_index()
    assert found["teacher"].to_numpy() == pytest.approx(maps["P3"][0, :, 3, 5].numpy(), abs=1e-5)
    assert found["student"].to_numpy() == pytest.approx(scene.features["P3"][0, :, 3, 5].numpy(), abs=1e-5)
    assert opened.numbers("channels")["gap"].abs().is_monotonic_decreasing


def test_another_level_or_image_clears_the_cell(opened):
    assert opened.set(cell=(3, 5)).set(temperature=1.0).state.cell == (3, 5)
    assert opened.set(level="P5").state.cell is None
    assert opened.set(cell=(0, 1)).set(image=1).state.cell is None


def test_context_weights_are_shown_where_r_is_a_gcblock_and_refused_elsewhere(opened, trio, tiny_scenes, refusal):
    opened.set(quantity="context")
    assert panels(opened)["teacher"].mean() == pytest.approx(1, rel=1e-4)
    plain = explore(*trio, tiny_scenes("val"), FGDConfig(relation="mse"))
    assert "context" in refusal(plain.set, quantity="context")
    assert "untrained" in shown(opened).notes[0] and shown(plain).notes == []


def test_f_and_r_of_a_trained_loss_are_used(trio, tiny_scenes, shake):
    loss = shake(FGDLoss(("P3", "P4", "P5"), 48, 48, CONFIG))
    trained, fresh = (
        explore(*trio, tiny_scenes("val"), CONFIG, quantity="context", **given) for given in ({"loss": loss}, {})
    )
    assert shown(trained).notes == [] and not np.allclose(
        panels(trained)["teacher"], panels(fresh)["teacher"], rtol=1e-2
    )
    scene, maps = scene_and_teacher_maps(trio[0]["distilled"], trio[1], *tiny_scenes("val")[0])
    with torch.no_grad():
        expected = {term.level: term.raw.item() for term in loss(scene, maps) if term.name == "global"}
    rows = trained.numbers().query("term == 'global'").set_index("level")["raw"]
    assert dict(rows) == pytest.approx(expected, rel=1e-3)
    assert not np.isclose(
        rows["P3"], fresh.numbers().query("term == 'global'").set_index("level")["raw"]["P3"], rtol=1e-3
    )


def test_students_with_other_channels_are_aligned_and_a_note_says_so(tiny_scenes, retinanet):
    explorer = explore(retinanet(8), retinanet(12), tiny_scenes("val"))
    assert any("f is untrained" in note for note in shown(explorer).notes)
    assert len(explorer.numbers("channels")) == 12 and explorer.session.inference.levels == (
        "P3",
        "P4",
        "P5",
        "P6",
        "P7",
    )


def test_boxes_follow_the_detectors_resize(tiny_scenes, retinanet):
    """Boxes, image and grid are in pixels after resize and padding."""
    net = retinanet(8)
    net.transform.min_size, net.transform.max_size = (80,), 200
    explorer = explore(net, retinanet(8), tiny_scenes("val"), config=FGDConfig())
    sample = explorer.session.view(explorer.state).sample
    original = tiny_scenes("val")[0][1]["boxes"]
    assert sample.padded_size == (96, 96) and sample.image_sizes == [(80, 80)] and sample.rgb.shape == (96, 96, 3)
    assert sample.boxes[0].numpy() == pytest.approx(original.numpy() * 80 / 64, rel=1e-4)
    assert (sample.rgb[80:] == 255).all() and not (sample.rgb[:80, :80] == 255).all()


# --- arguments


def test_one_detector_is_a_student_and_has_no_before_and_after(trio, tiny_scenes, refusal):
    explorer = explore(trio[0]["distilled"], trio[1], tiny_scenes("val"))
    assert explorer.state.student_name == "student"
    assert explorer.info["choices"]["view"] == ["difference"]
    assert "before_after" in refusal(explorer.set, view="before_after")


def test_checkpoints_of_a_folder_are_sorted_by_step(snapshots, trio, tiny_scenes):
    explorer = explore(snapshots, trio[1], tiny_scenes("val"))
    assert (
        explorer.info["students"][0]["checkpoints"] == ["step 50", "step 100", "step 1000"]
        and explorer.state.checkpoint == 2
    )
    curve = explorer.numbers("checkpoints")
    assert (
        curve["checkpoint"].tolist() == ["step 50", "step 100", "step 1000"]
        and curve["feature_fg"].notna().all()
        and curve["feature_fg"].nunique() == 3
    )
    last = explore(trio[0]["distilled"], trio[1], tiny_scenes("val")).numbers("gaps")
    assert curve["feature_bg"].iloc[2] == pytest.approx(last["feature_bg"].iloc[0], rel=1e-4)
    first = explore(trio[0]["baseline"], trio[1], tiny_scenes("val")).numbers("gaps")
    assert curve["feature_bg"].iloc[0] == pytest.approx(first["feature_bg"].iloc[0], rel=1e-4)


def test_the_folder_of_a_run_opens_its_snapshots(snapshots, trio, tiny_scenes):
    assert (
        explore({"run": snapshots.parent}, trio[1], tiny_scenes("val")).info["students"][0]["checkpoints"][-1]
        == "step 1000"
    )


def test_checkpoints_without_settings_are_refused(snapshots, trio, tiny_scenes, tmp_path, refusal):
    for file in snapshots.iterdir():
        save_file(load_file(file), tmp_path / file.name)
    assert "must say its settings" in refusal(explore, tmp_path, trio[1], tiny_scenes("val"))


def test_checkpoints_of_ten_classes_open_on_images_without_classes(snapshots, own_images, trio):
    assert explore(snapshots, trio[1], own_images).info["images"] == 3


def test_another_student_starts_at_its_last_checkpoint(snapshots, trio, tiny_scenes):
    explorer = explore({"plain": trio[0]["baseline"], "run": snapshots}, trio[1], tiny_scenes("val"))
    assert (
        explorer.state.checkpoint == 2
        and explorer.set(student_name="plain").state.checkpoint == 0
        and explorer.set(student_name="run").state.checkpoint == 2
    )


def test_a_folder_of_own_images_needs_no_boxes(own_images, trio):
    explorer = explore(*trio, own_images)
    assert explorer.info["images"] == 3
    assert (explorer.numbers("cells")["fg"] == 0).all() and explorer.numbers("gaps")["feature_fg"].isna().all()
    assert isinstance(explorer.figure(), NotebookFigure)
    assert shown(explorer.set(image=2)).sample.padded_size == (64, 128)  # 40 x 120, padded to a multiple of 32


def test_own_images_are_shrunk_to_long_side(own_images, trio):
    assert shown(explore(*trio, own_images, long_side=60, image=2)).sample.loaded_size == (20, 60)


def test_a_coco_folder_opens_val_or_the_named_split(coco_folder, trio, refusal):
    folder = coco_folder(
        [(64, 64), (64, 48), (64, 64)],
        {1: [(4, 4, 20, 20, 3, 0)], 3: [(8, 8, 30, 30, 7, 0)]},
        splits={"train": [1, 2], "val": [3]},
    )
    assert explore(*trio, folder).info["images"] == 1 and shown(explore(*trio, folder)).sample.boxes[0].tolist() == [
        [8, 8, 38, 38]
    ]
    assert explore(*trio, str(folder), split="train").info["images"] == 2
    assert "unknown split" in refusal(explore, *trio, folder, split="valid")


@pytest.mark.parametrize("inside", ["train", "."])
def test_a_folder_of_roboflow_opens_with_its_boxes(inside, coco_folder, trio, tmp_path):
    made = coco_folder([(64, 64)] * 16, {k: [(4, 4, 20, 20 + k, 3, 0)] for k in range(1, 17)})
    folder = tmp_path / "roboflow" / inside
    shutil.copytree(made / "images", folder)
    shutil.copy(made / "annotations.json", folder / "_annotations.coco.json")
    explorer = explore(*trio, tmp_path / "roboflow")
    assert explorer.info["images"] > 0 and len(shown(explorer).sample.boxes[0]) == 1


def test_ap_comes_from_a_teacher_object_and_from_the_argument(trio, tiny_scenes):
    explorer = explore(trio[0], Teacher(Path("x"), trio[1], "given", 32.1), tiny_scenes("val"), ap={"distilled": 18.8})
    assert explorer.numbers("networks").set_index("name")["AP"].to_dict() == pytest.approx(
        {"teacher": 32.1, "baseline": np.nan, "distilled": 18.8}, nan_ok=True
    )


def test_config_may_be_a_preset_an_fgdconfig_a_runconfig_or_that_of_the_loss(trio, tiny_scenes, refusal):
    scenes = tiny_scenes("val")
    assert explore(*trio, scenes).state.alpha == 1e-3
    assert explore(*trio, scenes, "fcos").state.temperature == 0.8
    assert explore(*trio, scenes, RunConfig(alpha=0.25)).state.alpha == 0.25
    assert explore(*trio, scenes, loss=FGDLoss(("P3", "P4"), 48, 48, CONFIG)).session.inference.levels == ("P3", "P4")
    assert "unknown preset" in refusal(explore, *trio, scenes, "fcoss")
    assert "FGDConfig" in refusal(explore, *trio, scenes, 0.5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image": 8}, "image must be a whole number from 0 to 7"),
        ({"image": True}, "image"),
        ({"level": "P9"}, "unknown level"),
        ({"student_name": "distiled"}, "distilled"),
        ({"temperature": 0}, "temperature must be a finite number > 0"),
        ({"beta": -1}, "beta"),
        ({"alpha": float("nan")}, "alpha"),
        ({"cell": (16, 0)}, "within 8 x 8"),
        ({"channel": 48}, "0 to 47"),
        ({"overlays": ("box",)}, "boxes"),
        ({"quantity": "atention"}, "attention"),
        ({"tempersture": 1}, "temperature"),
        ({"checkpoint": 1}, "checkpoint"),
    ],
)
def test_a_wrong_state_is_refused_and_the_view_stays(opened, refusal, changes, words):
    before = opened.state
    assert words in refusal(opened.set, **changes)
    assert opened.state == before and opened.choice == before.dict()


@pytest.mark.parametrize(
    ("student", "teacher", "data", "words"),
    [
        (torch.nn.Linear(1, 1), None, None, "student 'student' must be a detector"),
        (None, torch.nn.Linear(1, 1), None, "teacher must be a detector"),
        ({}, None, None, "empty dict"),
        ("no/such/folder", None, None, "no folder"),
        (None, None, "no/such/folder", "data must be a folder"),
        (None, None, 5, "data must be"),
        (None, None, [], "empty data set"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(trio, tiny_scenes, refusal, student, teacher, data, words):
    assert words in refusal(
        explore,
        trio[0] if student is None else student,
        teacher or trio[1],
        tiny_scenes("val") if data is None else data,
    )


def test_levels_are_those_that_all_networks_have(tiny_scenes, retinanet):
    assert explore(retinanet(48), detector(0), tiny_scenes("val")).session.inference.levels == ("P3", "P4", "P5")


def test_grids_that_differ_are_refused(tiny_scenes, refusal):
    cut = detector(0)
    cut.backbone.register_forward_hook(lambda module, args, maps: {name: each[:, :, 1:] for name, each in maps.items()})
    assert "the same grid on P3, got 7 x 8 and 8 x 8 cells" in refusal(explore, cut, detector(1), tiny_scenes("val"))


# --- exports

VIEWS = {
    "start": {},
    "before and after": {"view": "before_after", "overlays": ("boxes", "mask", "roundings", "detections")},
    "channel of a cell": {"quantity": "channel", "channel": 3, "cell": (2, 2), "overlays": ("scale",)},
    "context": {"quantity": "context", "limits": "own", "level": "P4"},
    "loss": {"quantity": "loss", "temperature": 0.1, "gamma": 0.02, "rounding": "exact"},
    "losses": {"quantity": "loss", "view": "before_after", "image": 5},
}


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(
            changes, id=name, marks=() if name in ("before and after", "channel of a cell") else pytest.mark.slow
        )
        for name, changes in VIEWS.items()
    ],
)
def test_the_code_draws_the_same_figure_and_computes_the_same_arrays(opened, trio, tiny_scenes, changes):
    opened.set(**changes)
    names = {"student": trio[0], "teacher": trio[1], "data": tiny_scenes("val")}
    exec(opened.code(), names)
    assert names["figure"]._repr_png_() == opened.figure()._repr_png_()
    view = opened.session.view(opened.state)
    if opened.state.quantity == "attention":
        assert names["difference"].numpy() == pytest.approx(view.panels[-1].values, abs=1e-4)
    assert names["masks"].fg[0].numpy() == pytest.approx(view.fg) and names["masks"].bg[0].numpy() == pytest.approx(
        view.bg
    )
    raws = {(term.level, term.name): term.raw.item() for term in names["terms"]}
    assert raws == pytest.approx({(row["level"], row["term"]): row["raw"] for row in view.terms}, rel=1e-3)


def test_the_code_uses_no_widget(opened):
    used = {node.id for node in ast.walk(ast.parse(opened.code())) if isinstance(node, ast.Name)}
    assert "Session" in used and not used & {"explore", "Explorer"}


@pytest.mark.slow
def test_the_code_of_folders_and_of_other_channels_runs(snapshots, own_images, trio, retinanet, tiny_scenes, shake):
    explorer = explore(snapshots, trio[1], own_images, checkpoint=1, long_side=50)
    names = {"teacher": trio[1]}
    exec(explorer.code(), names)
    assert names["figure"]._repr_png_() == explorer.figure()._repr_png_()
    assert names["difference"].numpy() == pytest.approx(panels(explorer)["teacher - student"], abs=1e-4)
    names = {
        "student": {"small": retinanet(8)},
        "teacher": retinanet(12),
        "data": tiny_scenes("val"),
        "loss": shake(FGDLoss(("P3", "P5"), 8, 12, CONFIG)),
    }
    explorer = explore(names["student"], names["teacher"], names["data"], CONFIG, loss=names["loss"])
    exec(explorer.code(), names)
    assert names["difference"].numpy() == pytest.approx(panels(explorer)["teacher - small"], abs=1e-4)
    rows = {(row["level"], row["term"]): row["raw"] for row in explorer.numbers().to_dict("records")}
    assert {(term.level, term.name): term.raw.item() for term in names["terms"]} == pytest.approx(rows, rel=1e-3)


def test_a_state_text_of_the_widget_sets_the_view(opened, refusal):
    state = opened.set(state='image=2&level="P4"&overlays=["mask","boxes"]&student_name="baseline"').state
    assert (state.image, state.level, state.overlays, state.student_name) == (2, "P4", ("mask", "boxes"), "baseline")
    assert "state must be a text" in refusal(opened.set, state="image=three")
    assert "unknown setting" in refusal(opened.set, state="imago=3")


def test_static_figure_needs_no_widget_and_is_the_figure(trio, tiny_scenes, opened, monkeypatch):
    monkeypatch.setattr("fgdlab.lab.explorer.widget.ExplorerWidget.__init__", None)
    assert (
        static_figure(*trio, tiny_scenes("val"), CONFIG, score=0.011, level="P3")._repr_png_()
        == opened.figure()._repr_png_()
    )


def test_every_export_is_a_file_of_its_kind(opened, tmp_path, refusal):
    starts = {
        "png": b"\x89PNG",
        "svg": b"<?xml",
        "csv": b"student,level,term,raw,weight,weighted,percent",
        "py": b"import torch",
        "html": b"<!doctype html>",
    }
    assert tuple(starts) == EXPORTS
    for kind, start in starts.items():
        assert opened.save(tmp_path / f"view.{kind}").read_bytes().startswith(start)
    assert ".png" in refusal(opened.save, tmp_path / "view.jpg")


def test_a_cell_shows_the_widget_and_for_readers_without_a_kernel_a_page_and_a_figure(opened, monkeypatch):
    outputs = []
    monkeypatch.setattr(explorer_module, "display", lambda *parts, **kwargs: outputs.extend(parts))
    opened._ipython_display_()
    widget_part, page, figure = outputs
    assert "application/vnd.jupyter.widget-view+json" in widget_part
    assert 'srcdoc="&lt;!doctype html&gt;' in page.data and len(page.data) < 1.5e6
    assert figure._repr_png_() == opened.figure()._repr_png_()


@pytest.mark.slow
def test_figures_of_any_view_stay_within_their_edge(opened):
    for changes in VIEWS.values():
        figure = opened.set(**{**State().dict(), "level": "P3", "student_name": "distilled", **changes}).figure()
        assert figure.get_size_inches()[0] == 11 and len(figure._repr_png_()) > 20_000


def test_each_kind_of_numbers_is_a_table_and_others_are_refused(opened, refusal):
    assert {
        kind: len(opened.numbers(kind)) for kind in ("terms", "gaps", "cells", "channels", "networks", "checkpoints")
    } == {"terms": 12, "gaps": 2, "cells": 64, "channels": 48, "networks": 3, "checkpoints": 1}
    assert "cells" in refusal(opened.numbers, "cell")


# --- kernel and browser


def answers(explorer: Explorer, monkeypatch, *questions: dict, buffers=()) -> list[dict]:
    """What the kernel sends to the browser for these questions."""
    sent = []
    monkeypatch.setattr(Explorer, "send", lambda self, content, buffers=None: sent.append({**content, "got": buffers}))
    for i, question in enumerate(questions):
        explorer._answer(explorer, {"id": str(i), **question}, buffers)
    return sent


def test_the_first_frame_is_there_before_a_question(opened):
    assert opened.frame["image"] == 0 and [each["name"] for each in opened.frame["students"]] == [
        "baseline",
        "distilled",
    ]
    json.dumps(opened.frame, allow_nan=False)
    places = opened.frame["base"]["levels"]["P4"]["spatial"]
    found = np.frombuffer(opened.block, np.float32, 16, places["at"]).reshape(places["shape"])
    assert found == pytest.approx(opened.session.inference.pairs(0, "baseline", 0)["P4"].spatial["teacher"])


def test_a_choice_of_the_browser_changes_the_state(opened):
    opened.choice = {**opened.choice, "temperature": 2, "overlays": ["boxes", "mask"], "cell": [1, 2]}
    assert (opened.state.temperature, opened.state.overlays, opened.state.cell) == (2, ("boxes", "mask"), (1, 2))


def test_a_frame_holds_only_the_parts_that_were_asked_for(opened, monkeypatch):
    ask = {"ask": "frame", "image": 3, "students": {"distilled": 0}}
    whole, part = answers(opened, monkeypatch, {**ask, "base": True}, {**ask, "base": False})
    assert whole["id"] == "0" and whole["image"] == 3 and whole["seconds"] > 0
    assert "base" not in part and [each["name"] for each in part["students"]] == ["distilled"]
    assert 0 < len(part["got"][0]) < len(whole["got"][0])


def test_an_added_image_is_the_last_one_and_has_no_objects(opened, monkeypatch, tmp_path, refusal):
    file = tmp_path / "mine.png"
    Image.fromarray(np.full((50, 70, 3), 200, np.uint8)).save(file)
    (reply,) = answers(opened, monkeypatch, {"ask": "add", "name": "mine.png"}, buffers=[memoryview(file.read_bytes())])
    assert reply["images"] == 9
    view = shown(opened.set(image=8))
    assert view.sample.image_sizes == [(50, 70)] and len(view.sample.boxes[0]) == 0
    assert "added" in refusal(opened.code)
    (reply,) = answers(opened, monkeypatch, {"ask": "add", "name": "no.png"}, buffers=[b"no image"])
    assert "no.png must be an image" in reply["error"] and len(opened.session.dataset) == 9


def test_an_unknown_question_is_answered_so_that_the_browser_knows_the_kernel_lives(opened, monkeypatch):
    assert answers(opened, monkeypatch, {"ask": "ping"}) == [{"id": "0", "got": None}]


def test_a_wrong_choice_of_the_browser_is_reported_and_reverted(opened, monkeypatch):
    sent, before = [], dict(opened.choice)
    monkeypatch.setattr(Explorer, "send", lambda self, content, buffers=None: sent.append(content))
    opened.choice = {**opened.choice, "level": "P9"}
    assert opened.choice == before and "unknown level" in sent[0]["error"]


def test_an_error_of_a_detector_is_reported_and_the_view_stays(opened, monkeypatch):
    sent = []
    monkeypatch.setattr(Explorer, "send", lambda self, content, buffers=None: sent.append(content))
    monkeypatch.setattr("fgdlab.lab.explorer.inference.predictions_of", lambda *args: 1 / 0)
    opened._answer(opened, {"id": "7", "ask": "frame", "image": 6, "students": {"baseline": 0}, "base": True}, [])
    assert {"id": "7", "error": "ZeroDivisionError: division by zero"} in sent and opened.state.image == 0


def test_nan_in_teacher_weights_gives_a_warning_and_valid_json(tiny_scenes, trio):
    broken = detector(3)
    with torch.no_grad():
        for parameter in broken.backbone.parameters():
            parameter.fill_(float("nan"))
    explorer = explore(trio[0], broken, tiny_scenes("val"))
    assert any("NaN" in line for line in shown(explorer).warnings)
    json.dumps(explorer.frame, allow_nan=False)
    assert explorer.figure()._repr_png_().startswith(b"\x89PNG")


def test_every_script_is_part_of_the_widget():
    assert {*widget.SCRIPTS} == {file.name for file in widget.STATIC.glob("*.js")}


# --- cache


def counted_forwards(*modules) -> list[int]:
    count = [0]
    for module in modules:
        module.backbone.register_forward_hook(lambda *args: count.__setitem__(0, count[0] + 1))
    return count


def test_detectors_run_once_per_image_and_never_for_sliders(tiny_scenes):
    students, teacher = {"a": detector(0), "b": detector(1)}, detector(2)
    count = counted_forwards(*students.values(), teacher)
    explorer = explore(
        students, teacher, tiny_scenes("val"), cache_mb=0.001
    )  # far below one image: what is shown is kept all the same
    assert count[0] == 3
    for changes in (
        {"temperature": 0.1},
        {"alpha": 0.5},
        {"level": "P5"},
        {"student_name": "a"},
        {"view": "before_after"},
        {"quantity": "loss"},
        {"rounding": "exact"},
        {"cell": (0, 0)},
    ):
        explorer.set(**changes)
        explorer.numbers()
    explorer.figure()
    assert count[0] == 3
    explorer.set(image=1).numbers()
    assert count[0] == 6


def test_images_come_back_from_the_cache_until_the_bound(tiny_scenes):
    students, teacher = detector(0), detector(1)
    count = counted_forwards(students, teacher)
    explorer = explore(students, teacher, tiny_scenes("val"))
    for image in (1, 2, 0, 1, 2):
        explorer.set(image=image).numbers()
    assert count[0] == 6


def test_modes_and_weights_of_the_detectors_stay(tiny_scenes, bits, same_bits):
    student, teacher = detector(0).train(), detector(1).train()
    teacher.backbone.eval()
    before = bits(student), bits(teacher), torch.random.get_rng_state()
    explore(student, teacher, tiny_scenes("val")).set(image=1)
    assert student.training and teacher.training and not teacher.backbone.training
    same_bits(before[0], student)
    same_bits(before[1], teacher)
    assert torch.equal(before[2], torch.random.get_rng_state())


def test_a_slow_start_shows_a_bar(trio, tiny_scenes, monkeypatch, capsys):
    import time

    monkeypatch.setattr("fgdlab.lab.explorer.inference.BAR_DELAY", 0.05)
    slow = {"one": detector(4), "two": detector(5)}
    slow["one"].backbone.register_forward_hook(lambda *args: time.sleep(0.3))
    explore(slow, trio[1], tiny_scenes("val"))
    assert "first image" in capsys.readouterr().err


def test_user_errors_have_one_line():
    with pytest.raises(UserError) as caught:
        explore("nowhere", detector(0), [1])
    assert "\n" not in str(caught.value)


# --- pages and runs


def test_a_saved_page_needs_no_network_and_stays_within_its_size(opened, tmp_path, refusal):
    small = opened.save(tmp_path / "small.html", max_mb=0.2).read_text()
    whole = opened.save(tmp_path / "whole.html", images=[3, 5]).read_text()
    data = [json.loads(text.split('id="data">')[1].split("</script>")[0]) for text in (small, whole)]
    assert data[0]["info"]["list"] == [0] and data[1]["info"]["list"] == [0, 3, 5]
    assert "https://" not in whole and 'src="' not in whole and len(small) < len(whole) < 6e6
    assert "image must be" in refusal(opened.save, tmp_path / "no.html", images=[8])


def test_a_page_has_every_checkpoint_of_the_image_shown(snapshots, trio, tiny_scenes):
    text = explore(snapshots, trio[1], tiny_scenes("val")).page(images=[])
    frames = json.loads(text.split('id="data">')[1].split("</script>")[0])["frames"]
    assert sorted(each["checkpoint"] for message, _ in frames for each in message["students"]) == [0, 1, 2]


def test_the_folder_of_a_run_brings_what_was_trained(tmp_path, tiny_config, scene_cache, monkeypatch):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "data").symlink_to(scene_cache / "data")
    monkeypatch.setenv("FGDLAB_HOME", str(tmp_path / "home"))
    config = tiny_config(method="fgd", rounding="exact", alpha=0.02, gamma=0.0, epochs=1, snapshot_every=1)
    result = run(config, tmp_path / "run", progress="off")
    explorer = explore(str(tmp_path / "run"))
    assert (explorer.state.alpha, explorer.state.gamma, explorer.state.rounding) == (0.02, 0.0, "exact")
    found = explorer.numbers("networks").set_index("name")["AP"].to_dict()
    assert found == pytest.approx({"teacher": result["teacher_AP"], "student": result["AP"]})
    weights = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["distiller"]
    trained = explorer.session.inference.losses["student"].relation["P3"].state_dict()
    assert trained and all(torch.equal(value, weights[f"loss.relation.P3.{key}"]) for key, value in trained.items())
    assert shown(explorer).notes == [] and explorer.info["students"][0]["checkpoints"][0] == "step 1"
    names: dict = {}
    exec(explorer.code(), names)
    assert names["figure"]._repr_png_() == explorer.figure()._repr_png_()
