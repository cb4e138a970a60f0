"""LD (CVPR 2022): distributions of box sides in the main and the valuable region."""
import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from fgdlab.config import FGDConfig
from fgdlab.lab.detectors.gfl import BINS, GFL, GFLHead
from fgdlab.methods import method_class
from fgdlab.methods.fgd_ld import FGDWithLD
from fgdlab.methods.ld import LD
from fgdlab.scene import Scene
from fgdlab.terms import total

LEVELS, GRIDS, CLASSES = ("P3", "P4", "P5"), {"P3": (8, 8), "P4": (4, 4), "P5": (2, 2)}, 3
BOXES = [torch.tensor([[6.0, 9, 41, 50], [22, 18, 60, 61]]).double(), torch.tensor([[10.0, 12, 33, 40]]).double()]


class Gfl(GFL):
    STRIDES = (8, 16, 32)


class Backbone(nn.Module):
    out_channels = 4


def small_gfl(seed, classes=CLASSES):
    torch.manual_seed(seed)
    head = GFLHead(4, classes, convs=1, levels=3, norm=lambda channels: nn.GroupNorm(2, channels))
    for module in head.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=0.4)
    return Gfl(Backbone(), head, anchor_scale=3.0).double()


def small_scene(boxes=BOXES, seed=0):
    generator = torch.Generator().manual_seed(seed)
    maps = {
        level: torch.randn(len(boxes), 4, *grid, generator=generator, dtype=torch.float64)
        for level, grid in GRIDS.items()
    }
    return Scene(torch.zeros(len(boxes), 3, 64, 64, dtype=torch.float64), boxes, [(64, 64)] * len(boxes), maps)


def made(student=0, teacher=1, **settings):
    return LD(LEVELS, small_gfl(student), small_gfl(teacher), **settings)


def teacher_maps(seed=5):
    return small_scene(seed=seed).features


def raws(terms):
    return {(term.name, term.level): term.raw for term in terms}


# ---- gradient ----

@pytest.mark.parametrize("part, layer", [("main", "box_out"), ("valuable", "box_out"), ("class", "class_out")])
def test_the_gradient_is_the_slope_of_the_term(part, layer):
    """Along weights of the layer that the term is about; scores of the class are constant weights of the sides."""
    loss, scene, teacher = made(), small_scene(), teacher_maps()
    weight = getattr(loss.student.head, layer).weight

    def term():
        return sum(each.raw for each in loss(scene, teacher) if each.name == part)

    (gradient,) = torch.autograd.grad(term(), weight)
    direction, step, ends = torch.randn_like(weight), 1e-6, []
    with torch.no_grad():
        for sign in (1, -2):
            weight += sign * step * direction
            ends.append(term())
    assert_close((ends[0] - ends[1]) / (2 * step), (gradient * direction).sum(), rtol=1e-5, atol=1e-7)
    assert gradient.abs().sum() > 0


# ---- loops ----

def naive_softmax(logits, temperature):
    powers = [math.exp(each / temperature) for each in logits]
    return [each / sum(powers) for each in powers]


def naive_kl(ours, theirs, temperature):
    p, q = naive_softmax(ours, temperature), naive_softmax(theirs, temperature)
    return temperature ** 2 * sum(t * (math.log(t) - math.log(s)) for s, t in zip(p, q, strict=True)) / len(p)


def naive_iou_and_diou(a, b):
    inter = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    iou = inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter)
    diagonal = (max(a[2], b[2]) - min(a[0], b[0])) ** 2 + (max(a[3], b[3]) - min(a[1], b[1])) ** 2
    apart = ((a[0] + a[2] - b[0] - b[2]) / 2) ** 2 + ((a[1] + a[3] - b[1] - b[3]) / 2) ** 2
    return iou, iou - apart / diagonal


def naive_ld(loss, scene, teacher):
    ours = loss.student.head(list(scene.features.values()))
    theirs = loss.teacher.head(list(teacher.values()))
    sums, first, images = {}, 0, len(scene.boxes)
    for level, (logits, bins), (t_logits, t_bins) in zip(LEVELS, ours, theirs, strict=True):
        rows, cols = GRIDS[level]
        main = valuable = by_class = 0.0
        count = 0
        for n, boxes in enumerate(scene.boxes):
            anchors, owner, thresholds = loss.student.assign([logits for logits, _ in ours], boxes)
            for cell in range(rows * cols):
                i, j = divmod(cell, cols)
                sides = [
                    naive_kl(*(each[n, e * BINS:(e + 1) * BINS, i, j].tolist() for each in (bins, t_bins)), 10)
                    for e in range(4)
                ]
                anchor = anchors[first + cell].tolist()
                if owner[first + cell] >= 0:
                    score = max(1 / (1 + math.exp(-x)) for x in logits[n, :, i, j].tolist())
                    main += score * sum(sides) / 4 / images
                    by_class += naive_kl(logits[n, :, i, j].tolist(), t_logits[n, :, i, j].tolist(), 2)
                    count += 1
                best = 0.0
                for box, threshold in zip(boxes.tolist(), thresholds.tolist(), strict=True):
                    iou, diou = naive_iou_and_diou(anchor, box)
                    if 0.25 * threshold <= diou < threshold:
                        best = max(best, iou)
                valuable += best * sum(sides) / 16 / images
        sums["main", level], sums["valuable", level], sums["class", level] = main, valuable, by_class / max(count, 1)
        first += rows * cols
    return sums


@pytest.mark.parametrize("seed", range(2))
def test_ld_equals_the_loops(seed):
    loss, scene, teacher = made(), small_scene(seed=seed), teacher_maps()
    found, wanted = raws(loss(scene, teacher)), naive_ld(loss, scene, teacher)
    assert list(found) == [(part, level) for level in LEVELS for part in ("main", "valuable", "class")]
    assert wanted["main", "P3"] > 0 and wanted["valuable", "P3"] > 0 and wanted["class", "P3"] > 0
    assert_close({key: value.item() for key, value in found.items()}, wanted, rtol=1e-9, atol=1e-12)


# ---- one fact each ----

def test_fgd_with_ld_gives_the_terms_of_both():
    detectors, scene, teacher = (small_gfl(0), small_gfl(1)), small_scene(), teacher_maps()
    both = FGDWithLD(LEVELS, *detectors, config=FGDConfig(alpha=0.5)).double()
    terms = [(term.name, term.level, term.raw.item(), term.weight) for term in both(scene, teacher)]
    alone = [*both.fgd(scene, teacher), *LD(LEVELS, *detectors)(scene, teacher)]
    assert terms == [(term.name, term.level, term.raw.item(), term.weight) for term in alone]
    assert {"fg", "bg", "attention", "global", "main", "valuable", "class"} == {name for name, *_ in terms}


def test_ld_is_a_method_with_the_authors_weights():
    assert method_class("ld") is LD
    assert made().weights == {"main": 0.5, "valuable": 0.5, "class": 10.0}


def test_a_student_that_is_its_teacher_loses_nothing():
    loss, scene = made(0, 0), small_scene()
    terms = loss(scene, {level: maps.clone() for level, maps in scene.features.items()})
    assert all(abs(term.raw.item()) < 1e-12 for term in terms)


def test_without_boxes_every_term_is_zero_and_has_a_gradient():
    loss, scene = made(), small_scene([torch.zeros(0, 4).double()] * 2)
    for maps in scene.features.values():
        maps.requires_grad_()
    terms = loss(scene, teacher_maps())
    assert len(terms) == 9 and not any(term.raw for term in terms)
    total(terms).backward()


def test_only_the_named_levels_and_parts_are_compared():
    loss = LD(("P4",), small_gfl(0), small_gfl(1), class_weight=0.0)
    found, every = raws(loss(small_scene(), teacher_maps())), raws(made()(small_scene(), teacher_maps()))
    assert list(found) == [("main", "P4"), ("valuable", "P4")]
    assert all(found[key] == every[key] for key in found)


def test_the_teacher_is_frozen_and_no_detector_is_a_parameter_of_the_loss():
    loss, scene = made(), small_scene()
    for maps in scene.features.values():
        maps.requires_grad_()
    total(loss(scene, teacher_maps())).backward()
    assert all(maps.grad.abs().sum() > 0 for maps in scene.features.values())
    assert loss.student.head.box_out.weight.grad is not None and loss.teacher.head.box_out.weight.grad is None
    assert list(loss.parameters()) == [] and loss.state_dict() == {}


def test_other_detectors_and_other_classes_are_refused():
    with pytest.raises(ValueError, match="the student of LD must be a GFL"):
        LD(LEVELS, nn.Sequential(), small_gfl(0))
    with pytest.raises(ValueError, match="the same number of classes, got 3 and 4"):
        LD(LEVELS, small_gfl(0), small_gfl(1, classes=4))
