"""The schematic of FGD: every part highlights its blocks, and blocks do not overlap."""
from itertools import combinations

import pytest

from fgdlab.lab.course.schematics import BLOCKS, CHAINS, PARTS, schematic
from fgdlab.lab.errors import UserError


@pytest.mark.parametrize("part", PARTS)
def test_a_part_highlights_its_blocks_and_no_other(part):
    (ax,) = schematic(part).axes
    texts = [text for text in ax.texts if text.get_text()]
    edges = {name: text.get_bbox_patch().get_edgecolor() for name, text in zip(BLOCKS, texts, strict=True)}
    grey = edges["image^S"]
    assert {name for name, edge in edges.items() if edge != grey} == set(PARTS[part].split())


def test_blocks_keep_clear_of_each_other_and_inside_the_picture():
    figure = schematic("all")
    boxes = [text.get_bbox_patch().get_window_extent() for text in figure.axes[0].texts if text.get_text()]
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    assert all(figure.bbox.contains(*corner) for box in boxes for corner in (box.min, box.max))


def test_every_block_has_an_arrow_and_every_name_a_block():
    named = {name for chain in (*CHAINS, *PARTS.values()) for name in chain.split()}
    assert named == set(BLOCKS)


def test_an_unknown_part_is_named_with_the_known_ones():
    with pytest.raises(UserError, match="did you mean 'masks'"):
        schematic("mask")
