"""The movable boxes of notebook 02: the script computes M, S and ranges as fgdlab/masks.py does."""
import html
import json
import re

import pytest
import torch

from fgdlab import focal_masks
from fgdlab.lab.course.boxes import SCRIPT, movable_boxes
from fgdlab.masks import cell_ranges
from tests.lab.explorer.node import run_scripts

IMAGE, GRID = (48, 64), (6, 8)
CASES = {
    "a large and a small box": [[16, 8, 40, 32], [50, 20, 54, 30]],
    "overlap, the larger one first": [[16, 8, 48, 40], [24, 16, 32, 24]],
    "overlap, the smaller one first": [[24, 16, 32, 24], [16, 8, 48, 40]],
    "in the corner": [[48, 32, 64, 48]],
    "the whole image": [[0, 0, 64, 48]],
    "a pixel": [[63, 47, 64, 48]],
    "no box": [],
    "random": [[3, 5, 21, 30], [20, 1, 59, 17], [33, 11, 34, 47], [0, 40, 64, 44]],
}
BODY = "return given.cases.map((boxes) => [masksOf(boxes, ...given.sizes), cellRanges(boxes, ...given.sizes)]);"


@pytest.mark.parametrize("sizes", [(IMAGE, GRID), ((60, 100), (3, 10)), ((64, 64), (5, 7))], ids=str)
@pytest.mark.parametrize("rounding", ["exact", "authors"])
def test_the_script_computes_the_masks_of_the_package(rounding, sizes):
    cases = list(CASES.values())
    found = run_scripts((SCRIPT,), BODY, cases=cases, sizes=[*sizes, rounding])
    for boxes, (masks, ranges) in zip(cases, found, strict=True):
        boxes = torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4)
        ours = focal_masks([boxes], [sizes[0]], sizes[1], rounding=rounding, dtype=torch.float64)
        binary = torch.tensor(masks["m"]).view(sizes[1])
        assert torch.tensor(ranges).view(-1, 4).equal(cell_ranges(boxes, *sizes, rounding=rounding))
        assert binary.equal(ours.binary[0].long()) and masks["background"] == int((1 - binary).sum())
        assert torch.allclose(1 / torch.tensor(masks["count"]).double().view(sizes[1]), (ours.fg + ours.bg)[0])


def test_a_moved_box_keeps_its_size_and_stays_in_the_image():
    moves = [[dx, dy, resize] for dx in (-99, -3, 0, 7, 99) for dy in (-99, 5, 99) for resize in (False, True)]
    body = "return given.moves.map((move) => moved([16, 8, 40, 32], ...move, given.image));"
    for (_, _, resize), (x1, y1, x2, y2) in zip(moves, run_scripts((SCRIPT,), body, moves=moves, image=IMAGE),
                                                strict=True):
        assert 0 <= x1 < x2 <= 64 and 0 <= y1 < y2 <= 48
        assert (x1, y1) == (16, 8) if resize else (x2 - x1, y2 - y1) == (24, 24)
    assert run_scripts((SCRIPT,), body, moves=[[3, -2, False], [3, -2, True]], image=IMAGE) == [
        [19, 6, 43, 30], [16, 8, 43, 30]]


def test_the_page_carries_script_and_examples_and_needs_no_network():
    text = movable_boxes({"it's <one>": [[1, 2, 3, 4]]}, IMAGE, GRID).data
    given = json.loads(html.unescape(re.search(r'data-given="(.*?)"', text)[1]))
    assert given == {"examples": {"it's <one>": [[1, 2, 3, 4]]}, "image_size": [48, 64], "grid_size": [6, 8]}
    assert SCRIPT.read_text() in text and text.count("</script>") == 1
    assert re.findall(r"https?://[^\"]*", text) == ["http://www.w3.org/2000/svg"]
