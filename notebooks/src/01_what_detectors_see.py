# ---
# jupyter:
#   jupytext:
#     formats: ipynb,src//py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 01 · What detectors see
#
# **Question** What is in the feature maps that a student shall imitate, and how do the maps of teacher and student
# differ?
#
# **Equations** (1), the plain distance between two maps, from which everything else starts.
#
# **Code** [`look`](../fgdlab/scene.py), [`Scene`](../fgdlab/scene.py), [`RelationTerm`](../fgdlab/relation.py).
#
# **Needs** Notebook 00. What a convolution and a channel are.
#
# **Cost** About 25 seconds on 2 cores, 1.0 GB of memory; nothing is downloaded. On first use 192 scenes are made, in
# five seconds.
#
# **You will** open a detector between backbone and head, tell one channel from the strength of all, compare a teacher
# with two students, find out that channels have no names, and look at a photograph of yours.

# %%
import pandas as pd
import torch
from matplotlib.colors import CenteredNorm, Normalize

from fgdlab import look
from fgdlab.lab.config import RunConfig
from fgdlab.lab.datasets import open_split
from fgdlab.lab.training import detections
from fgdlab.lab.course.exercises import features as check
from fgdlab.lab.course import map_table, matrices, photograph
from fgdlab.lab.course import pretrained_detector, pretrained_facts
from fgdlab.lab.plots import padded_image, detections_figure
from fgdlab.masks import focal_masks
from fgdlab.relation import RelationTerm

# %% tags=["parameters"]
QUICK = False
PHOTO = ""

# %% [markdown]
# `PHOTO` is the path of an image of yours, for section 7; empty means one that comes with scikit-learn.
#
# ## 1 From an image to maps
#
# Three detectors come with the project, all trained on digits pasted over photographs: a **teacher**, a small
# **baseline** student, and the same student **distilled** from the teacher. `AP` is the score that detectors are
# judged by, from 0 to 100.

# %%
networks = {name: pretrained_detector(name) for name in ("teacher", "baseline", "distilled")}
size = {name: sum(each.numel() for each in network.parameters()) for name, network in networks.items()}
ap = {name: pretrained_facts(name)["AP"] for name in networks}
assert ap["teacher"] > ap["distilled"] > ap["baseline"] and size["distilled"] == size["baseline"]
pd.DataFrame({"parameters": size, "AP": ap}).style.format({"parameters": "{:,}", "AP": "{:.1f}"})

# %%
settings = RunConfig(train_images=64, eval_images=64)
scenes = open_split(settings, "val", progress=False)
images, targets = (list(each) for each in zip(*(scenes[i] for i in range(8 if QUICK else 50)), strict=True))

# %% [markdown]
# The two students are equal in size; only their training differs. How much of that difference can be seen inside? The
# scenes are from the split that none of the networks learned from.
#
# A detector is a **backbone** with a pyramid (FPN), which turns pixels into maps, and a **head**, which turns maps
# into boxes. [`look`](../fgdlab/scene.py) runs only the first part and returns a [`Scene`](../fgdlab/scene.py). Level
# P3 has stride 8: one cell for 8 x 8 pixels. P4 has stride 16, P5 stride 32.
#
# **Predict.** The images have 128 x 128 pixels. How many cells has P5?

# %%
with torch.no_grad():
    views = {name: look(network, images, targets) for name, network in networks.items()}
teacher = views["teacher"].features
shapes = {level: tuple(features.shape) for level, features in teacher.items()}
pd.DataFrame({level: {"stride": 128 // w, "N, C, H, W": (n, c, h, w), "cells": h * w} for level, (n, c, h, w) in shapes.items()}).T

# %% [markdown]
# 4 x 4 = 16, a sixteenth of P3. Each cell holds 48 numbers, one a channel. This is all that the head gets to see, and
# all that FGD compares.
#
# ## 2 One channel, and all of them
#
# **Predict.** A batch norm ends the pyramid, so the features have mean 0 and variance 1. Which share of them is
# negative?

# %%
chosen = 2
image, boxes = images[chosen], targets[chosen]["boxes"]
some = {f"channel {k}": teacher["P3"][chosen, k] for k in (0, 1, 2, 3)}
map_table({"P3": some}, image, boxes, label="F", norms={"P3": CenteredNorm()}, cmap="PuOr")

# %% [markdown]
# *Figure 1.* Four of the 48 channels of the teacher's P3, purple positive, orange negative, white 0, one scale. The
# frames are the objects. Check: the channels disagree about where they respond and with which sign.

# %%
negative = (teacher["P3"] < 0).float().mean().item()
assert 0.45 < negative < 0.55 and abs(teacher["P3"].mean()) < 0.1 and 0.9 < teacher["P3"].var() < 1.1
print(f"{negative:.0%} are negative, mean {teacher['P3'].mean():.2f}, variance {teacher['P3'].var():.2f}")

# %% [markdown]
# Half. A strong negative response is as much a response as a positive one. To see all channels in one picture, take
# the mean of |F| over the channels, the **strength** of a cell.
#
# **Predict.** And without the bars, the plain mean of F: will it show the objects too?

# %%
strength = teacher["P3"].abs().mean(dim=1)
both = {"mean of |F|": strength[chosen], "mean of F": teacher["P3"][chosen].mean(dim=0)}
map_table({"P3": both}, image, boxes, label="mean over 48 channels", norms={"P3": CenteredNorm()}, cmap="PuOr")

# %% [markdown]
# *Figure 2.* The same 48 channels summed up with and without absolute values, on one scale. Check: the left map is
# dark in two of the three frames (the faint 9 is missing; figure 5 comes back to it); the right one is pale
# everywhere, as signs cancel.

# %%
seen = views["teacher"]
on_object = focal_masks(seen.boxes, seen.frame_sizes(), (16, 16), rounding="exact").binary.bool()
maps = {"mean of |F|": strength, "mean of F": teacher["P3"].mean(dim=1)}
areas = {"on objects": on_object, "beside": ~on_object}
means = pd.DataFrame({area: {name: values[where].mean().item() for name, values in maps.items()} for area, where in areas.items()})
assert means.loc["mean of |F|", "on objects"] > 1.4 * means.loc["mean of |F|", "beside"]
assert means.loc["mean of F"].abs().max() < 0.1
means.style.format("{:.2f}")

# %% [markdown]
# On all scenes together, a cell on an object has half as much again of strength as a cell beside one. The plain mean
# tells nothing. FGD's attention is built on the mean of |F| (notebook 03).
#
# ## 3 Levels
#
# **Predict.** A digit of 16 pixels and one of 40: on which of the levels P3, P4, P5 does the small one stand out?

# %%
by_level = {f"{level}, teacher": features[chosen].abs().mean(dim=0) for level, features in teacher.items()}
map_table({"strength": by_level}, image, boxes, label="mean |F|", norms={"strength": Normalize(0)})

# %% [markdown]
# *Figure 3.* Strength on the three levels, one scale from 0. Check: two frames are bright on P3; P4 is brighter
# around them than elsewhere, without their shape; on P5, where a cell is larger than a frame, nothing points at them.

# %%
def stands_out(level, low, high):
    """Strength on boxes of low..high pixels height, over the mean strength of their image; averaged over boxes."""
    ratios = []
    for features, target in zip(teacher[level].abs().mean(dim=1), targets, strict=True):
        height = target["boxes"][:, 3] - target["boxes"][:, 1]
        for box in target["boxes"][(height >= low) & (height < high)]:
            cells = focal_masks([box[None]], [(128, 128)], tuple(features.shape), rounding="exact").binary[0].bool()
            ratios.append((features[cells].mean() / features.mean()).item())
    return sum(ratios) / len(ratios)


sizes = {"below 20 px": (0, 20), "20 to 28 px": (20, 28), "above 28 px": (28, 99)}
contrast = pd.DataFrame({level: {name: stands_out(level, *ends) for name, ends in sizes.items()} for level in teacher})
contrast.style.format("{:.2f}").set_caption("strength on an object over the mean of its image, by its height")

# %%
assert QUICK or (contrast["P3"] > contrast["P4"]).all() and (contrast["P4"] > contrast["P5"]).all()
assert QUICK or contrast["P3"].min() > 1.2 and contrast["P4"].iloc[0] < 1.1 < contrast["P4"].iloc[2]
assert QUICK or (contrast["P5"] - 1).abs().max() < 0.15

# %% [markdown]
# On P3 alone; P4 shows the large ones. P5 shows none by strength: one of its cells covers a digit and what is around
# it. That does not make P5 useless; strength is only one way of looking.
#
# ## 4 Strong is not the same as found
#
# **Predict.** The next scene holds two digits, among letters and mirrored digits that are no objects. Where is the
# teacher's strongest cell on P3?

# %%
with_letter = 1
at_letter = {name: view.features["P3"][with_letter].abs().mean(dim=0) for name, view in views.items()}
map_table({"P3": at_letter}, images[with_letter], targets[with_letter]["boxes"], label="mean |F|")

# %% [markdown]
# *Figure 4.* Strength on P3 of the three networks, one scale. Check: the teacher's brightest spot is the letter E in
# the upper right, which is no object.

# %%
found = detections(networks["teacher"], scenes)
picture = detections_figure(found, scenes, [with_letter, chosen], threshold=0.3)
picture.set_dpi(110)
picture

# %% [markdown]
# *Figure 5.* What the teacher's head makes of two scenes: dashed frames are objects, blue ones detections of score
# 0.3 or more. Check: on the left there is no detection at the E; the look-alike above the upper object is mistaken
# for a digit. On the right the 9, which had no strength in figure 2, is missed.

# %%
def found_in(index, left, top, right, bottom):
    """Detections of score 0.3 or more whose upper left corner lies in a part of one scene, in pixels."""
    ours = [each for each in found if each["image_id"] == scenes.image_ids[index] and each["score"] >= 0.3]
    return [each for each in ours if left <= each["bbox"][0] < right and top <= each["bbox"][1] < bottom]


row, column = divmod(at_letter["teacher"].argmax().item(), 16)
assert column >= 11 and row <= 3 and not on_object[with_letter, row, column]
assert not found_in(with_letter, 85, 0, 128, 30) and not found_in(chosen, 90, 0, 128, 128)
print(f"strongest cell: row {row}, column {column}, pixels {8 * column}-{8 * column + 8} x {8 * row}-{8 * row + 8}; no detection there")

# %% [markdown]
# The teacher looks hard at the E, and rejects it. That knowledge sits in the background of its maps, and it is why
# background is worth imitating where there is something to be mistaken for an object.
#
# ## 5 Teacher and students
#
# **Predict.** Which student's strength maps resemble the teacher's more, and is the resemblance of the other near 0?

# %%
def strengths(views, index):
    """{level: {network: strength (H, W)}} of one image."""
    return {level: {name: view.features[level][index].abs().mean(dim=0) for name, view in views.items()} for level in teacher}


map_table(strengths(views, chosen), image, boxes, label="mean |F|")

# %% [markdown]
# *Figure 6.* Strength of teacher, baseline and distilled student; one scale a row. Check on P3: the distilled
# student is weaker than its teacher and bright in the same places; the baseline student has places of its own, for
# instance the yellow letter.

# %%
def correlation(one, other):
    """Pearson's correlation of two tensors, all of their numbers."""
    return torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1].item()


alike = pd.DataFrame({
    name: {level: correlation(teacher[level].abs().mean(1), views[name].features[level].abs().mean(1)) for level in teacher}
    for name in ("baseline", "distilled")
})
assert QUICK or (alike["distilled"] > alike["baseline"] + 0.15).all() and alike["baseline"].min() > 0.3
alike.style.format("{:.2f}").set_caption("correlation of mean |F| with the teacher's")

# %% [markdown]
# The distilled one, on every level. But the baseline student is far from 0: it was trained on the same task and
# has learned by itself *where* to respond. So is it close to its teacher?
#
# ## 6 Channels have no names
#
# The plain way to compare two maps, and equation (1) of the paper, is the mean of squared differences:
#
# $$L_{fea} = \frac{1}{CHW} \sum_{k=1}^{C} \sum_{i=1}^{H} \sum_{j=1}^{W} \left( F^T_{k,i,j} - f(F^S)_{k,i,j} \right)^2 \tag{1}$$
#
# Code: [`RelationTerm`](../fgdlab/relation.py) with `kind="mse"`, which sums instead of averaging.
#
# | symbol | code | shape |
# |:--|:--|:--|
# | $F^T, F^S$ | `teacher`, `student` | (N, C, H, W) |
# | $f$ | a 1 x 1 convolution where the channels differ in number; here both have 48, and f is nothing | |
# | $L_{fea}$ | mean over N, C, H, W | scalar |
#
# **Predict.** Which is nearest to the teacher by (1): the baseline student, the baseline student with its
# channels shuffled, or a map of zeros?

# %%
one_map, other_map = views["distilled"].features["P5"], teacher["P5"]
plain_sum = RelationTerm(48, "mse")(one_map, other_map)
assert torch.isclose(plain_sum / other_map[0].numel(), (other_map - one_map).square().mean())

# %%
shuffle = torch.randperm(48, generator=torch.Generator().manual_seed(0))
distance = {}
for level, theirs in teacher.items():
    methods = {name: views[name].features[level] for name in ("baseline", "distilled")}
    methods |= {"baseline, shuffled": methods["baseline"][:, shuffle], "zeros": torch.zeros_like(theirs)}
    distance[level] = {name: (theirs - ours).square().mean().item() for name, ours in methods.items()}
distance = pd.DataFrame(distance)
distance.style.format("{:.2f}").set_caption("equation (1), distance to the teacher")

# %%
assert (distance.loc["zeros"] < 0.6 * distance.loc["baseline"]).all()
assert ((distance.loc["baseline"] / distance.loc["baseline, shuffled"] - 1).abs() < 0.1).all()
assert (distance.loc["distilled"] < 0.5 * distance.loc["zeros"]).all()

# %% [markdown]
# Zeros, by a factor of two, and shuffling changes nothing. Both maps have variance 1. If channel k of one has nothing
# to do with channel k of the other, the squared difference is 1 + 1 = 2; against zeros it is 1. The two networks
# started from different random weights, and nothing told them to put the same feature into the same channel. The next
# cell correlates every channel of the teacher with every channel of a student.

# %%
def channel_table(student, level):
    """Correlations (48, 48) of the teacher's channels (rows) with a student's (columns), over scenes and cells."""
    rows = [view.features[level].transpose(0, 1).flatten(1) for view in (views["teacher"], views[student])]
    return torch.corrcoef(torch.cat(rows))[:48, 48:]


tables = {name: channel_table(name, "P3") for name in ("baseline", "distilled")}
sides = {"rows": "channel of the teacher", "columns": "channel of the student"}
matrices(tables, **sides, label="correlation", norm=CenteredNorm(halfrange=1))

# %% [markdown]
# *Figure 7.* Correlation of each of the teacher's 48 channels with each of the student's, P3. Check: the distilled
# student has a dark diagonal, channel k means the same in both; the baseline student has none, and its strongest
# entries lie anywhere.

# %%
def agreement(table):
    """Mean over the teacher's channels: with the same channel, with the best one; how often the best is the same."""
    best = (table.argmax(dim=1) == torch.arange(48)).float()
    means = (table.diag().mean(), table.amax(dim=1).mean(), best.mean())
    return dict(zip(("same channel", "best channel", "best is the same"), map(float, means), strict=True))


agreements = pd.DataFrame({name: agreement(table) for name, table in tables.items()}).T
assert QUICK or abs(agreements.loc["baseline", "same channel"]) < 0.1 < agreements.loc["baseline", "best channel"]
assert agreements.loc["distilled", "best is the same"] > 0.9
agreements.style.format("{:.2f}")

# %% [markdown]
# Here is what imitation of features does first: it gives the channels names, the teacher's. The strength, a mean over
# channels, does not depend on their order; that is why the baseline student could look so similar in figure 6 and
# be so far away by (1). Keep this in mind whenever you compare feature distances *before* distillation: they measure
# how channels happen to be numbered.
#
# ## 7 Your photograph
#
# A detector does not care what you show it. Set `PHOTO` in the second code cell to a path of yours, for instance
# `"../holiday.jpg"`, and run the notebook again.
#
# **Predict.** The photograph that comes with scikit-learn has 427 x 640 pixels. What is the grid of P3? A batch is
# padded to a multiple of 32 pixels.

# %%
photo = photograph(PHOTO)
with torch.no_grad():
    at_photo = {name: look(network, [photo]) for name, network in networks.items()}
grid = tuple(at_photo["teacher"].features["P3"].shape[-2:])
assert grid == tuple(-(-side // 32) * 32 // 8 for side in photo.shape[-2:])
print(f"{tuple(photo.shape[-2:])} pixels, padded to {at_photo['teacher'].padded_size}, P3 has {grid} cells")

# %%
padded = padded_image(networks["teacher"], at_photo["teacher"])
map_table(strengths(at_photo, 0), padded, torch.zeros(0, 4), label="mean |F|")

# %% [markdown]
# *Figure 8.* Strength of the three networks on a photograph without digits; one scale a row, the white edge of the
# image is padding. Check: edges and fine texture are bright on P3, plain areas dark; on P4 and P5 a rim runs along the
# border in all three networks.

# %%
def same_channel(student, level):
    """Correlation of channel k with the teacher's channel k on the photograph, mean over channels."""
    pairs = zip(at_photo["teacher"].features[level][0], at_photo[student].features[level][0], strict=True)
    return torch.tensor([correlation(one, other) for one, other in pairs]).nanmean().item()


students = ("baseline", "distilled")
on_photo = pd.DataFrame({name: {level: same_channel(name, level) for level in teacher} for name in students})
assert PHOTO or on_photo["baseline"].abs().max() < 0.1 and on_photo["distilled"].min() > 0.5
on_photo.style.format("{:.2f}").set_caption("correlation of channel k with the teacher's channel k")

# %% [markdown]
# The names of the channels hold on an image without any digit: features are imitated everywhere. (Pieces of
# scikit-learn's photographs are the backgrounds of the training scenes. A photograph of your own is the fairer test.)
#
# And the rim? At the border of the canvas convolutions see zeros instead of pixels, in every network alike. It can
# pass for likeness:

# %%
def on_p5(name, rim):
    """Correlation with the teacher's strength on P5, without the ``rim`` outermost cells."""
    both = [at_photo[who].features["P5"].abs().mean(dim=1) for who in ("teacher", name)]
    inner = [each[:, rim:each.shape[1] - rim, rim:each.shape[2] - rim] for each in both]
    return correlation(*inner) if inner[0].numel() > 1 else float("nan")


rims = pd.DataFrame({title: {name: on_p5(name, rim) for name in students} for title, rim in {"whole map": 0, "without the rim": 2}.items()})
assert PHOTO or rims.loc["baseline", "whole map"] > 0.5 and abs(rims.loc["baseline", "without the rim"]) < 0.2
rims.style.format("{:.2f}").set_caption("correlation of strength with the teacher's on P5")

# %% [markdown]
# On scikit-learn's photograph the baseline student's likeness to the teacher on P5 is the rim and nothing else;
# take two cells off each side and it is gone. Look at the border before you believe a correlation.
#
# ## Exercises
#
# **Exercise 1** (easy, 5 minutes) Write `grid_size(height, width, stride)`: rows and columns of a level for an image
# that is padded to a multiple of 32 pixels first.

# %%
def grid_size(height, width, stride):
    raise NotImplementedError


check.grid_size(grid_size)

# %% [markdown]
# Solution (unfold the cell below)

# %% jupyter={"source_hidden": true} tags=["solution"]
def grid_size_solution(height, width, stride):
    return tuple(-(-side // 32) * 32 // stride for side in (height, width))


assert check.grid_size(grid_size_solution).right

# %% [markdown]
# **Exercise 2** (easy, 3 minutes) Write `strength_of(features)`: the mean of |F| over the channels, (N, C, H, W) to
# (N, H, W).

# %%
def strength_of(features):
    raise NotImplementedError


check.magnitude(strength_of)

# %% [markdown]
# Solution (unfold the cell below)

# %% jupyter={"source_hidden": true} tags=["solution"]
def strength_solution(features):
    return features.abs().mean(dim=1)


assert check.magnitude(strength_solution).right

# %% [markdown]
# **Exercise 3** (medium, 10 minutes) Write `same_channel_correlation(teacher, student)`: for each channel, Pearson's
# correlation of the two networks over all images and pixels. (N, C, H, W) twice to (C,). It is the diagonal of figure
# 7.

# %%
def same_channel_correlation(teacher, student):
    raise NotImplementedError


check.same_channel_correlation(same_channel_correlation)

# %% [markdown]
# Solution (unfold the cell below)

# %% jupyter={"source_hidden": true} tags=["solution"]
def same_channel_correlation_solution(teacher, student):
    rows = [features.transpose(0, 1).flatten(1) for features in (teacher, student)]
    rows = [each - each.mean(dim=1, keepdim=True) for each in rows]
    return (rows[0] * rows[1]).sum(dim=1) / (rows[0].norm(dim=1) * rows[1].norm(dim=1))


assert check.same_channel_correlation(same_channel_correlation_solution).right

# %% [markdown]
# ## What to keep
#
# - A level is a grid of cells with C numbers each; strength is the mean of |F| (sections 1 and 2).
# - Objects stand out on the level whose cells fit them, and so do look-alikes: strong is not found (sections 3 and
#   4).
# - Two networks trained apart agree on *where*, not on *which channel* (sections 5 and 6).
# - Equation (1) treats all cells and channels alike. FGD does not.
#
# First, the cells: [02 where](02_where.ipynb).
