"""Figures of the notebooks: numbers in cells, shared scales, boxes, and photographs."""
import pytest
import torch
from matplotlib.colors import CenteredNorm, LogNorm
from PIL import Image

from fgdlab.lab.course.maps import (
    NOTEBOOK_DPI,
    chart_figure,
    finish_chart,
    map_table,
    matrices,
    number_grid,
    photograph,
)
from fgdlab.lab.errors import UserError

BOX = torch.tensor([[16.0, 8.0, 40.0, 32.0]])
GRID = torch.arange(12.0).view(3, 4)


def texts(ax):
    return [text.get_text() for text in ax.texts]


def maps_of(figure):
    return [ax for ax in figure.axes if ax.images and ax.images[0].get_array().ndim == 2]


def test_every_number_stands_in_the_middle_of_its_cell():
    (ax,) = number_grid({"all": GRID}, label="n").axes
    written = {text.get_position(): text.get_text() for text in ax.texts}
    assert written == {(column + 0.5, row + 0.5): str(4 * row + column) for row in range(3) for column in range(4)}


def test_fractions_decimals_and_whole_numbers():
    values = torch.tensor([[0.0, 1 / 9, 1 / 37]])
    assert texts(number_grid({"f": values}, label="n", digits=None).axes[0]) == ["0", "1/9", "1/37"]
    assert texts(number_grid({"f": values}, label="n", digits=2).axes[0]) == ["0", "0.11", "0.03"]
    maps = {"whole numbers": torch.tensor([[0.0, -3.0]]), "fractions": torch.tensor([[1.0, 0.25]])}
    first, second = number_grid(maps, label="n").axes[:2]
    assert texts(first) == ["0", "-3"] and texts(second) == ["1.00", "0.25"]


def test_panels_of_a_number_grid_share_their_limits():
    figure = number_grid({"low": GRID, "high": GRID * 10}, label="n")
    assert [ax.images[0].get_clim() for ax in figure.axes[:2]] == [(0, 110), (0, 110)]


def test_numbers_are_dark_on_light_and_light_on_dark():
    (ax,) = number_grid({"m": torch.tensor([[0.0, 1.0]])}, label="n").axes
    assert [text.get_color() for text in ax.texts] == ["white", "black"]


def test_boxes_lie_at_their_pixels():
    (ax,) = number_grid({"m": torch.zeros(6, 8)}, BOX, label="n").axes
    (box,) = [patch for patch in ax.patches if patch.get_gid() == "box"]
    assert (box.get_x(), box.get_y(), box.get_width(), box.get_height()) == (2, 1, 3, 3)


def test_numbers_fit_their_cells():
    figure = number_grid({name: torch.rand(6, 8) for name in "abc"}, label="n")
    figure.canvas.draw()
    for ax in figure.axes[:3]:
        cell = ax.get_window_extent().width / 8
        assert max(text.get_window_extent().width for text in ax.texts) < cell


@pytest.mark.parametrize("maps", [
    {"a": torch.zeros(2, 3), "b": torch.zeros(3, 2)}, {"a": torch.zeros(17, 2)}, {"a": torch.zeros(2, 17)},
])
def test_maps_without_room_for_numbers_are_refused(maps):
    with pytest.raises(ValueError, match="16 x 16"):
        number_grid(maps, label="n")


def test_each_row_of_a_table_has_one_scale_of_its_own():
    rows = {level: {"a": torch.rand(size, size), "b": torch.rand(size, size)} for level, size in (("P3", 4), ("P4", 2))}
    rows["P3"]["b"] += 5
    figure = map_table(rows, torch.rand(3, 32, 32), BOX[:, [1, 0, 3, 2]], label="n")
    limits = [ax.images[0].get_clim() for ax in maps_of(figure)]
    assert limits[0] == limits[1] and limits[2] == limits[3] and limits[0][1] > 5 > 1 > limits[2][1]


def test_a_row_may_have_a_norm():
    rows = {"P3": {"a": torch.tensor([[0.1, 10.0]])}, "P4": {"a": torch.tensor([[1.0, 2.0]])}}
    figure = map_table(rows, torch.rand(3, 8, 16), torch.zeros(0, 4), label="n", norms={"P3": LogNorm()})
    first, second = maps_of(figure)
    assert isinstance(first.images[0].norm, LogNorm) and not isinstance(second.images[0].norm, LogNorm)


def test_a_table_shows_the_image_once_and_names_and_boxes_in_every_row():
    figure = map_table({"P3": {"a": GRID}, "P4": {"a": GRID}}, torch.rand(3, 48, 64), BOX, label="n")
    (photo,) = [ax for ax in figure.axes if ax.images and ax.images[0].get_array().ndim == 3]
    empty = figure.axes[2]
    assert photo.get_ylabel() == "P3" and texts(empty) == ["P4"] and not empty.axison
    assert all(sum(patch.get_gid() == "box" for patch in ax.patches) == 1 for ax in [photo, *maps_of(figure)])


def test_matrices_share_their_limits_and_say_what_they_count():
    maps, labels = {"a": torch.eye(5), "b": -2 * torch.eye(5)}, {"rows": "of the teacher", "columns": "of the student"}
    figure = matrices(maps, **labels, label="r", norm=CenteredNorm())
    assert [ax.images[0].get_clim() for ax in figure.axes[:2]] == [(-2, 2), (-2, 2)]
    assert figure.axes[0].get_ylabel() == "of the teacher"
    assert {ax.get_xlabel() for ax in figure.axes[:2]} == {"of the student"}


def test_all_pictures_have_the_notebooks_dots_an_inch():
    chart = chart_figure()
    finish_chart(chart.subplots())
    for figure in (
        chart, number_grid({"m": GRID}, label="n"),
        matrices({"a": GRID}, rows="", columns="", label="", norm=CenteredNorm()),
        map_table({"P3": {"a": GRID}}, torch.rand(3, 8, 8), BOX, label="n"),
    ):
        assert figure.get_dpi() == NOTEBOOK_DPI == 110 and figure.get_figwidth() < 8.6


def test_the_photograph_without_a_path_is_there():
    image = photograph()
    assert image.shape == (3, 427, 640) and 0 <= image.min() < 0.1 and 0.9 < image.max() <= 1


def test_a_photograph_is_shrunk_to_its_long_side_and_never_enlarged(tmp_path):
    Image.new("RGB", (800, 400), (255, 0, 0)).save(tmp_path / "red.png")
    assert photograph(tmp_path / "red.png").shape == (3, 320, 640)
    assert photograph(tmp_path / "red.png", long_side=1000).shape == (3, 400, 800)
    assert photograph(str(tmp_path / "red.png"))[:, 0, 0].tolist() == [1.0, 0.0, 0.0]


def test_a_photograph_that_was_turned_by_exif_stands_upright(tmp_path):
    image = Image.new("RGB", (60, 40))
    exif = image.getexif()
    exif[0x0112] = 6                                                 # turn by 90 degrees
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert photograph(tmp_path / "turned.jpg").shape == (3, 60, 40)


def test_grey_and_transparent_photographs_have_three_channels(tmp_path):
    Image.new("L", (30, 20), 128).save(tmp_path / "grey.png")
    Image.new("RGBA", (30, 20), (0, 255, 0, 10)).save(tmp_path / "clear.png")
    assert photograph(tmp_path / "grey.png").shape == photograph(tmp_path / "clear.png").shape == (3, 20, 30)


def test_no_file_and_no_image_are_one_line_that_names_the_parameter(tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    for name, message in (
        ("none.jpg", "No such file"), ("text.jpg", "cannot identify image"), ("", "Is a directory"),
    ):
        with pytest.raises(UserError, match=message) as error:
            photograph(tmp_path / name)
        assert "PHOTO" in str(error.value) and "\n" not in str(error.value)
