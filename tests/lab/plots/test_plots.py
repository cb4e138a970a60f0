"""The figures of a run: contents, scales, and nothing cut off."""

import ast
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from IPython.core.formatters import PNGFormatter
from matplotlib.colors import CenteredNorm, LogNorm
from matplotlib.figure import Figure

from fgdlab import focal_masks
from fgdlab.lab import plots
from fgdlab.lab.config.run_config import RunConfig
from fgdlab.lab.datasets.annotations import read_split
from fgdlab.lab.datasets.dataset import DetectionDataset
from fgdlab.lab.datasets.digits import DigitScenes, digit_folder
from fgdlab.lab.detectors.builder import build
from fgdlab.lab.errors import UserError

PNG = b"\x89PNG"
BOXES = torch.tensor([[8.0, 16.0, 24.0, 40.0], [40.0, 4.0, 60.0, 12.0]])
FGD = RunConfig(method="fgd")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Three digit images of 64 pixels in the evaluation set."""
    return digit_folder(
        DigitScenes(64, train=1, tune=1, val=3), tmp_path_factory.mktemp("digits") / "scenes", progress=False
    )


@pytest.fixture(scope="module")
def scenes(folder) -> DetectionDataset:
    return DetectionDataset(read_split(folder, "val"))


@pytest.fixture(scope="module")
def detectors():
    torch.manual_seed(0)
    return build("retinanet", "compact_s", 10), build("retinanet", "compact_s", 10)


class WithoutBoxes:
    """The same images without an object on them."""

    def __init__(self, scenes: DetectionDataset):
        self.scenes, self.image_ids = scenes, scenes.image_ids

    def __getitem__(self, index: int):
        image, target = self.scenes[index]
        return image, {**target, "boxes": target["boxes"][:0], "labels": target["labels"][:0]}


class OfSize(WithoutBoxes):
    """Random images of one size, with one box."""

    def __init__(self, height: int, width: int):
        self.image_ids, self.size = [1], (height, width)

    def __getitem__(self, index: int):
        return torch.rand(3, *self.size), {"boxes": torch.tensor([[2.0, 3.0, 20.0, 30.0]]), "labels": torch.tensor([1])}


def drawn(ax):
    (image,) = ax.get_images()
    return image


def rectangles(ax, gid="box") -> np.ndarray:
    """(K, 4) x1 y1 x2 y2 of the rectangles on a panel, in its own units."""
    return np.array([each.get_bbox().extents for each in ax.patches if each.get_gid() == gid]).reshape(-1, 4)


def cut_off(figure) -> bool:
    """Whether anything of a figure reaches past its edge."""
    figure.draw_without_rendering()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    return box.x0 < -0.001 or box.y0 < -0.001 or box.x1 > width + 0.001 or box.y1 > height + 0.001


# --- pictures


def test_a_figure_displays_itself_without_pyplot():
    picture = plots.show_maps({"a": torch.rand(4, 4)}, torch.rand(3, 32, 32), BOXES[:0], label="a")
    assert PNGFormatter()(picture).startswith(PNG)
    rooms = [*Path(plots.__file__).parent.glob("*.py")]
    assert len(rooms) >= 4
    imported = [
        node
        for room in rooms
        for node in ast.walk(ast.parse(room.read_text()))
        if isinstance(node, (ast.Import, ast.ImportFrom))
    ]
    assert imported and not any("pyplot" in ast.unparse(node) for node in imported)


def test_show_makes_an_image_of_any_figure():
    figure = Figure()
    figure.subplots().plot([1, 2])
    assert plots.show(figure).data.startswith(PNG)


# --- maps


def test_maps_share_their_limits():
    maps = {"teacher": torch.rand(8, 8), "student": 5 * torch.rand(4, 4) - 2}
    figure = plots.show_maps(maps, torch.rand(3, 64, 64), BOXES, label="weight")
    image, *panels = figure.axes
    both = torch.cat([each.flatten() for each in maps.values()])
    assert len(panels) == 2 and drawn(image).get_array().shape == (64, 64, 3)
    assert all(drawn(ax).get_clim() == (both.min().item(), both.max().item()) for ax in panels)
    assert [drawn(ax).get_array().shape for ax in panels] == [(8, 8), (4, 4)]
    assert not cut_off(figure)


def test_a_title_says_shape_and_range():
    figure = plots.show_maps({"teacher": torch.tensor([[0.5, 2.0, 1.0]])}, torch.rand(3, 32, 96), BOXES[:0], label="a")
    assert figure.axes[1].get_title() == "teacher\n1 x 3: 0.5 to 2"


def test_boxes_are_scaled_to_the_grid_of_each_map():
    figure = plots.show_maps(
        {"fine": torch.rand(8, 12), "coarse": torch.rand(2, 3)}, torch.rand(3, 64, 96), BOXES, label="a"
    )
    image, fine, coarse = figure.axes
    assert np.allclose(rectangles(image), BOXES)
    assert np.allclose(rectangles(fine), BOXES / 8)
    assert np.allclose(rectangles(coarse), BOXES / 32)


def test_a_grid_that_does_not_fit_the_image_is_drawn_as_wide_as_the_image():
    figure = plots.show_maps({"P7": torch.rand(1, 2)}, torch.rand(3, 64, 96), BOXES, label="a")
    figure.draw_without_rendering()
    image, coarse = (ax.get_window_extent() for ax in figure.axes)
    assert np.allclose((image.width, image.height), (coarse.width, coarse.height))
    assert np.allclose(rectangles(figure.axes[1]), BOXES / torch.tensor([48, 64, 48, 64]))


def on_scale(maps, norm, image=(32, 64)):
    figure, axes = plots.panel_grid(1, 1 + len(maps), image[0] / image[1], [len(maps)], left=plots.BOTTOM_MARGIN)
    plots.draw_image(axes[0, 0], torch.rand(3, *image), BOXES[:0], "image")
    plots.draw_maps(axes[0, 1:], maps, image, BOXES[:0], "difference", norm)
    return figure


def test_zero_is_the_middle_of_a_difference_over_all_maps_together():
    maps = {"a": torch.tensor([[0.0, 1.0]]), "b": torch.tensor([[-3.0, 2.0]])}
    for ax in on_scale(maps, CenteredNorm()).axes[1:]:
        assert drawn(ax).get_clim() == (-3, 3)


def test_zero_is_no_value_on_a_logarithmic_scale():
    figure = on_scale({"a": torch.tensor([[0.0, 0.1, 2.0]])}, LogNorm(), (32, 96))
    assert np.allclose(drawn(figure.axes[1]).get_clim(), (0.1, 2.0))
    assert drawn(figure.axes[1]).get_array().mask.tolist() == [[True, False, False]]


@pytest.mark.parametrize("size", [1e-9, 1.23456e-4, 123456.0])
def test_numbers_of_any_size_fit_at_the_colour_bar(size):
    figure = on_scale({"a": size * torch.tensor([[-1.0, 1.0]])}, CenteredNorm())
    assert not cut_off(figure)


@pytest.mark.parametrize("norm", [None, LogNorm, CenteredNorm])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_map_of_one_value_can_be_drawn(norm, value):
    figure = on_scale({"a": torch.full((4, 4), value)}, norm and norm(), (32, 32))
    low, high = drawn(figure.axes[1]).get_clim()
    assert low < high and plots.png(figure).startswith(PNG)


# --- masks and attention


def test_a_row_per_level_shows_image_masks_attention_and_difference(detectors, scenes):
    figure = plots.masks_and_attention(*detectors, scenes, 0, FGD)
    rows = np.reshape(figure.axes, (3, 6))
    assert [row[0].get_ylabel() for row in rows] == ["P3, stride 8", "P4, stride 16", "P5, stride 32"]
    for row in rows:
        fg, bg, teacher, student, difference = (drawn(ax) for ax in row[1:])
        assert fg.get_clim() == bg.get_clim()
        assert teacher.get_clim() == student.get_clim()
        assert np.allclose(difference.get_array(), teacher.get_array() - student.get_array())
        assert difference.get_clim()[0] == -difference.get_clim()[1] == -np.abs(difference.get_array()).max()
    assert not cut_off(figure)


@pytest.mark.parametrize("rounding", ["authors", "exact"])
def test_masks_are_those_of_the_loss(detectors, scenes, rounding):
    figure = plots.masks_and_attention(*detectors, scenes, 1, FGD.but(rounding=rounding))
    expected = focal_masks([scenes[1][1]["boxes"]], [(64, 64)], (8, 8), rounding=rounding)
    fg, bg = (drawn(ax).get_array().filled(0) for ax in figure.axes[1:3])
    assert np.allclose(fg, expected.fg[0]) and np.allclose(bg, expected.bg[0])


def test_without_a_teacher_its_panels_are_left_out(detectors, scenes):
    figure = plots.masks_and_attention(detectors[0], None, scenes, 0, FGD.but(method="none"))
    assert len(figure.axes) == 3 * 4 and "student" in figure.axes[3].get_title()
    assert not cut_off(figure)


def test_an_image_without_boxes_has_masks_too(detectors, scenes):
    figure = plots.masks_and_attention(*detectors, WithoutBoxes(scenes), 0, FGD)
    fg, bg = (drawn(ax).get_array() for ax in figure.axes[1:3])
    assert fg.mask.all() and np.allclose(bg, 1 / 64)
    assert plots.png(figure).startswith(PNG)


@pytest.mark.parametrize(
    ("settings", "unused"),
    [
        ({}, ""),
        ({"method": "none"}, "fg bg teacher student"),
        ({"area": "fg", "gamma": 0}, "bg student"),
        ({"area": "both"}, "bg"),
        ({"spatial_attention": False}, "teacher student"),
        ({"area": "none", "gamma": 0, "lambda_": 0}, "fg bg teacher student"),
    ],
)
def test_what_the_loss_does_not_use_is_called_unused(settings, unused):
    assert [
        name for name, words in plots.unused_suffixes(FGD.but(**settings)).items() if words == ", unused"
    ] == unused.split()


def test_a_title_says_what_is_unused(detectors, scenes):
    first_row = plots.masks_and_attention(*detectors, scenes, 0, FGD.but(area="fg", gamma=0)).axes[:6]
    assert ["unused" in ax.get_title() for ax in first_row] == [False, False, True, False, True, False]


def test_detectors_stay_unchanged(detectors, scenes):
    student, teacher = detectors[0].train(), detectors[1].eval()
    student.head.eval()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    plots.masks_and_attention(student, teacher, scenes, 0, FGD)
    assert student.training and not student.head.training and not teacher.training
    assert all(torch.equal(before[name], value) for name, value in student.state_dict().items())


@pytest.mark.parametrize("size", [(40, 90), (150, 40)])
def test_padding_is_white_and_boxes_stay_where_they_were(detectors, size):
    figure = plots.masks_and_attention(*detectors, OfSize(*size), 0, FGD)
    height, width = size
    pixels = drawn(figure.axes[0]).get_array()
    assert pixels.shape[0] % 32 == pixels.shape[1] % 32 == 0
    assert (
        (pixels[height:] == 1).all()
        and (pixels[:, width:] == 1).all()
        and (pixels[:height, :width] < 1).any(axis=2).all()
    )
    assert np.allclose(rectangles(figure.axes[0]), [[2, 3, 20, 30]])
    assert np.allclose(rectangles(figure.axes[3]), np.array([[2, 3, 20, 30]]) / 8)
    assert not cut_off(figure)


# --- losses


def metrics(*terms: tuple[str, str, float], steps=(1, 2)) -> pd.DataFrame:
    """Rows of (name, level, weighted) at each step, with their total; at the last step every value is halved."""
    rows = []
    for step in steps:
        values = [(name, level, value / (2 if step == steps[-1] else 1)) for name, level, value in terms]
        rows += [
            {"step": step, "name": name, "level": level, "raw": 7.0, "weighted": value} for name, level, value in values
        ]
        rows.append(
            {
                "step": step,
                "name": "total",
                "level": "all",
                "raw": 0.0,
                "weighted": sum(value for *_, value in values),
                "lr": 0.1,
            }
        )
    return pd.DataFrame(rows)


def curve(figure, gid) -> list[float]:
    (line,) = (line for line in figure.axes[0].lines if line.get_gid() == gid)
    return list(line.get_ydata())


DISTILLING = metrics(
    ("classification", "all", 2.0),
    ("bbox_regression", "all", 1.0),
    ("fg", "P3", 0.5),
    ("fg", "P4", 0.3),
    ("bg", "P3", 0.2),
)


def test_curves_are_weighted_terms_summed_over_levels():
    figure = plots.loss_terms(DISTILLING)
    assert curve(figure, "term-fg") == pytest.approx([0.8, 0.4])
    assert curve(figure, "term-total") == pytest.approx([4.0, 2.0])
    assert not cut_off(figure)


def test_percentages_of_the_last_step_sum_to_100():
    bars = {
        (bar.get_gid(), row): bar.get_width()
        for term in plots.loss_terms(DISTILLING).axes[1].containers
        for row, bar in enumerate(term.patches)
    }
    assert sum(bars.values()) == pytest.approx(100)
    assert bars["percent-fg", 1] == pytest.approx(12.5) and bars["percent-classification", 0] == pytest.approx(50)


def test_losses_of_different_size_get_a_logarithmic_scale():
    assert plots.loss_terms(DISTILLING).axes[0].get_yscale() == "log"
    assert (
        plots.loss_terms(metrics(("classification", "all", 2.0), ("bbox_regression", "all", 1.0))).axes[0].get_yscale()
        == "linear"
    )


def test_a_baseline_and_a_single_step_can_be_drawn():
    figure = plots.loss_terms(metrics(("classification", "all", 2.0), ("bbox_regression", "all", 0.0), steps=(1,)))
    assert [each.get_text() for each in figure.axes[1].get_yticklabels()] == ["task loss"]
    assert plots.png(figure).startswith(PNG)


def test_unknown_terms_get_different_styles():
    names = ["feature", "channel", "spatial", "relation", "logits", "mask"]
    figure = plots.loss_terms(metrics(*((name, "P3", 1.0) for name in names)))
    terms = [line for line in figure.axes[0].lines if line.get_gid() != "term-total"]
    styles = {(line.get_color(), line.get_linestyle()) for line in terms}
    assert len(styles) == len(names) and not cut_off(figure)


def test_an_incomplete_last_line_of_metrics_is_skipped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    whole = [
        {"step": 1, "name": "fg", "level": "P3", "raw": 2.0, "weighted": 0.2},
        {"step": 1, "name": "total", "level": "all", "raw": 0.2, "weighted": 0.2},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in whole) + '{"step": 2, "na')
    assert plots.read_metrics(path).to_dict("records") == whole


@pytest.mark.parametrize("text", [None, "", '{"step"'])
def test_missing_metrics_are_refused_in_one_line(tmp_path, text):
    path = tmp_path / "metrics.jsonl"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match="must .* got no"):
        plots.read_metrics(path)


# --- detections


def found(scenes: DetectionDataset, index: int, score: float, box=(1.0, 2.0, 10.0, 20.0), label: int = 1) -> dict:
    return {
        "image_id": scenes.image_ids[index],
        "category_id": scenes.category_ids[label - 1],
        "bbox": list(box),
        "score": score,
    }


def words(ax) -> set[str]:
    return {each.get_text() for each in ax.texts}


def test_ground_truth_and_detections_above_the_threshold_are_drawn_on_their_image(scenes):
    three = [found(scenes, 0, 0.9), found(scenes, 0, 0.2), found(scenes, 1, 0.5, label=4)]
    first, second = plots.detections_figure(three, scenes, [0, 1], threshold=0.3).axes
    assert np.allclose(rectangles(first, "truth"), scenes[0][1]["boxes"])
    assert np.allclose(rectangles(first, "detection"), [[1, 2, 11, 22]])
    assert f"{scenes.classes[0]} 0.90" in words(first) and f"{scenes.classes[3]} 0.50" in words(second)
    assert words(first) >= {scenes.classes[label - 1] for label in scenes[0][1]["labels"]}


def test_detections_in_pixels_of_the_file_land_on_the_shrunk_image(folder):
    small = DetectionDataset(read_split(folder, "val"), long_side=32)
    (ax,) = plots.detections_figure([found(small, 0, 0.9)], small, [0]).axes
    assert np.allclose(rectangles(ax, "detection"), [[0.5, 1, 5.5, 11]])
    assert np.allclose(rectangles(ax, "truth"), small[0][1]["boxes"])


def test_the_best_score_is_written_if_no_detection_is_above_the_threshold(scenes):
    first, second = plots.detections_figure([found(scenes, 0, 0.21), found(scenes, 0, 0.04)], scenes, [0, 1]).axes
    assert first.get_title().endswith("0 detections (best score 0.21)")
    assert second.get_title().endswith("0 detections")


def test_labels_stay_inside_the_image_and_do_not_overlap(scenes):
    corners = [
        (-2.0, -3.0, 12.0, 9.0),
        (0.0, 0.0, 12.0, 9.0),
        (55.0, 0.0, 9.0, 9.0),
        (56.0, 58.0, 9.0, 8.0),
        (20.0, 30.0, 9.0, 9.0),
        (20.0, 30.5, 9.0, 9.0),
    ]
    figure = plots.detections_figure(
        [found(scenes, 0, 0.9 - i / 10, box) for i, box in enumerate(corners)], scenes, [0, 1, 2]
    )
    figure.draw_without_rendering()
    ax = figure.axes[0]
    inside, texts = ax.get_window_extent(), [each for each in ax.texts if "0." in each.get_text()]
    boxes = [each.get_window_extent() for each in texts]
    assert len(texts) == len(corners)
    assert all(
        box.x0 >= inside.x0 - 2 and box.x1 <= inside.x1 + 2 and box.y0 >= inside.y0 - 2 and box.y1 <= inside.y1 + 2
        for box in boxes
    )
    assert not any(a.padded(-2).overlaps(b.padded(-2)) for i, a in enumerate(boxes) for b in boxes[:i])
    assert not cut_off(figure)


def test_more_images_than_fit_in_a_row_go_to_the_next_one(scenes):
    figure = plots.detections_figure([], scenes, [0, 1, 2, 0, 1])
    tops = {round(ax.get_position().y1, 3) for ax in figure.axes if ax.axison}
    assert len([ax for ax in figure.axes if ax.axison]) == 5 and len(tops) == 2 and not cut_off(figure)
