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
# **Question** What is in the feature maps that a student should imitate, and how do the maps of teacher and student
# differ?
#
# **Equations** (1), the plain distance between two maps.
#
# **Code** [`look`](../fgdlab/scene.py), [`Scene`](../fgdlab/scene.py), [`RelationTerm`](../fgdlab/relation.py).
#
# **Needs** Notebook 00. What a convolution and a channel are.
#
# **Cost** About 25 seconds on 2 cores, 1.1 GB of memory; no download. On first use 192 scenes are made, in five
# seconds.
#
# **You will** look at a detector's maps between backbone and head, compare single channels with the magnitude of all,
# compare a teacher with two students, find that their channels do not correspond, and use your own photograph.

# %%
import pandas as pd
import torch
from matplotlib.colors import CenteredNorm, Normalize
from scipy.optimize import linear_sum_assignment
from sklearn.datasets import load_sample_image

from fgdlab import look
from fgdlab.lab.config import RunConfig
from fgdlab.lab.course import map_table, matrices, photograph
from fgdlab.lab.course import pretrained_detector, pretrained_facts, schematic
from fgdlab.lab.course.exercises import features as check
from fgdlab.lab.datasets import open_split
from fgdlab.lab.plots import detections_figure, padded_image
from fgdlab.lab.training import detections
from fgdlab.masks import focal_masks
from fgdlab.relation import RelationTerm

# %% tags=["parameters"]
QUICK = False
PHOTO = ""

# %%
schematic("maps")

# %% [markdown]
# *FGD in one picture.* This notebook is about the highlighted part: the maps of teacher and student.
#
# `PHOTO` is the path of an image of yours, for section 7; empty means one that comes with scikit-learn.
#
# ## 1 From an image to maps
#
# Three detectors come with the project, all trained on digits pasted over photographs: a **teacher**, a small
# **baseline** student, and the same student **distilled** from the teacher. `AP` is the score of a detector, from 0
# to 100.

# %%
networks = {name: pretrained_detector(name)
            for name in ("teacher", "baseline", "distilled")}
size = {name: sum(p.numel() for p in network.parameters())
        for name, network in networks.items()}
ap = {name: pretrained_facts(name)["AP"] for name in networks}
assert ap["teacher"] > ap["distilled"] > ap["baseline"]
assert size["distilled"] == size["baseline"]
formats = {"parameters": "{:,}", "AP": "{:.1f}"}
pd.DataFrame({"parameters": size, "AP": ap}).style.format(formats)

# %%
settings = RunConfig(train_images=64, eval_images=64)
dataset = open_split(settings, "val", progress=False)
some = (dataset[i] for i in range(16 if QUICK else 50))
images, targets = map(list, zip(*some, strict=True))

# %% [markdown]
# The two students have the same size; only their training differs. How does the difference appear in their feature
# maps? The scenes are from a split that no network was trained on.
#
# A detector has a **backbone** with a pyramid (FPN), which turns pixels into maps, and a **head**, which turns maps
# into boxes. [`look`](../fgdlab/scene.py) runs only the first part and returns a [`Scene`](../fgdlab/scene.py). Level
# P3 has stride 8: one cell covers 8 x 8 pixels. P4 has stride 16, P5 stride 32.
#
# **Predict.** The images have 128 x 128 pixels. How many cells has P5?

# %%
with torch.no_grad():
    views = {name: look(network, images, targets) for name, network in networks.items()}
teacher = views["teacher"].features
shapes = {level: tuple(features.shape) for level, features in teacher.items()}
pd.DataFrame({
    level: {"stride": 128 // w, "N, C, H, W": (n, c, h, w), "cells": h * w}
    for level, (n, c, h, w) in shapes.items()
}).T

# %% [markdown]
# 4 x 4 = 16, a sixteenth of P3. Each cell holds 48 numbers, one per channel. These maps are the only input of the
# head, and FGD compares them.
#
# ## 2 One channel, and all of them
#
# **Predict.** In these detectors a batch norm ends the pyramid, so the features have mean 0 and variance 1. (Standard
# FPNs have none; this one keeps the values of teacher and student comparable.) What fraction of the features is
# negative?

# %%
chosen = 3
image, boxes = images[chosen], targets[chosen]["boxes"]
first = {f"channel {k}": teacher["P3"][chosen, k] for k in (0, 1, 2, 3)}
map_table({"P3": first}, image, boxes, label="F", norms={"P3": CenteredNorm()},
          cmap="PuOr")

# %% [markdown]
# *Figure 1.* Four of the 48 channels of the teacher's P3, purple positive, orange negative, white 0, one scale.
# Orange rectangles are ground truth. Check: the channels differ in where they respond and with which sign.

# %%
negative = (teacher["P3"] < 0).float().mean().item()
assert 0.45 < negative < 0.55
assert abs(teacher["P3"].mean()) < 0.1
assert 0.9 < teacher["P3"].var() < 1.1
mean, variance = teacher["P3"].mean(), teacher["P3"].var()
print(f"{negative:.0%} are negative, mean {mean:.2f}, variance {variance:.2f}")

# %% [markdown]
# Half. A large negative response is as much a response as a positive one. To show all channels in one map, take the
# mean of |F| over the channels, the **activation magnitude** of a cell.
#
# **Predict.** Would the plain mean of F, without absolute values, show the objects too?

# %%
magnitude = teacher["P3"].abs().mean(dim=1)
both = {"mean of |F|": magnitude[chosen],
        "mean of F": teacher["P3"][chosen].mean(dim=0)}
map_table({"P3": both}, image, boxes, label="mean over 48 channels",
          norms={"P3": CenteredNorm()}, cmap="PuOr")

# %% [markdown]
# *Figure 2.* The mean over the same 48 channels with and without absolute values, on one scale. Check: the left map
# is dark in the box of the 0 and in a part of the box of the 2 (the small 8 is missing; see figure 5); the right map is
# pale everywhere, because signs cancel.

# %%
seen = views["teacher"]
on_object = focal_masks(seen.boxes, seen.frame_sizes(), (16, 16),
                        rounding="exact").binary.bool()
maps = {"mean of |F|": magnitude, "mean of F": teacher["P3"].mean(dim=1)}
areas = {"objects": on_object, "background": ~on_object}
means = pd.DataFrame({
    area: {name: values[mask].mean().item() for name, values in maps.items()}
    for area, mask in areas.items()
})
ratio = means.loc["mean of |F|", "objects"] / means.loc["mean of |F|", "background"]
assert 1.8 < ratio < (2.1 if QUICK else 2)
assert means.loc["mean of F"].abs().max() < 0.1
means.style.format("{:.2f}")

# %% [markdown]
# Over all scenes, the magnitude of a cell on an object is almost twice that of a background cell. The plain mean shows
# nothing. FGD's attention is built on the mean of |F| (notebook 03).
#
# ## 3 Levels
#
# **Predict.** A digit of 16 pixels and one of 40: on which of the levels P3, P4, P5 does the small one stand out?

# %%
by_level = {f"{level}, teacher": features[chosen].abs().mean(dim=0)
            for level, features in teacher.items()}
map_table({"magnitude": by_level}, image, boxes, label="mean |F|",
          norms={"magnitude": Normalize(0)})

# %% [markdown]
# *Figure 3.* Magnitude on the three levels, one scale from 0. Check: on P3 two boxes have bright cells; P4 is a little
# brighter around them than elsewhere, without their shape; on P5, where a cell is about as large as a box, the objects
# are not visible.

# %%
def contrast_of(level, low, high):
    """Magnitude on boxes of low..high pixels height over the mean of their image."""
    ratios = []
    for features, target in zip(teacher[level].abs().mean(dim=1), targets, strict=True):
        height = target["boxes"][:, 3] - target["boxes"][:, 1]
        for box in target["boxes"][(height >= low) & (height < high)]:
            cells = focal_masks([box[None]], [(128, 128)], tuple(features.shape),
                                rounding="exact").binary[0].bool()
            ratios.append((features[cells].mean() / features.mean()).item())
    return sum(ratios) / len(ratios)


sizes = {"below 20 px": (0, 20), "20 to 28 px": (20, 28), "above 28 px": (28, 99)}
contrast = pd.DataFrame({level: {name: contrast_of(level, *ends)
                                 for name, ends in sizes.items()} for level in teacher})
styled = contrast.style.format("{:.2f}")
styled.set_caption("magnitude on an object over the mean of its image, by height")

# %%
assert QUICK or (contrast["P3"] > contrast["P4"]).all()
assert QUICK or (contrast["P4"] > contrast["P5"]).all()
assert QUICK or contrast["P3"].min() > 1.4
assert QUICK or contrast["P4"].iloc[0] < 1.12
assert QUICK or contrast["P4"].iloc[1:].min() > 1.3
assert QUICK or (contrast["P5"] - 1).abs().max() < 0.1

# %% [markdown]
# On P3, where the magnitude on a small digit is 1.5 times the mean of its image. P4 shows those of 20 pixels and more,
# and hardly the small ones (1.1). The magnitude on P5 shows none: one of its cells covers a digit and its
# surroundings. This does not make P5 useless, because magnitude is only one property of the features.
#
# ## 4 A large response is not a detection
#
# **Predict.** The next scene holds two digits, among letters and a turned digit that are not objects. Where is the
# teacher's cell of largest magnitude on P3?

# %%
with_letter = 4
at_letter = {name: view.features["P3"][with_letter].abs().mean(dim=0)
             for name, view in views.items()}
map_table({"P3": at_letter}, images[with_letter], targets[with_letter]["boxes"],
          label="mean |F|")

# %% [markdown]
# *Figure 4.* Magnitude on P3 of the three networks, one scale. Check: the teacher's brightest cell is at the letter H
# in the upper right, which is not an object.

# %%
found_boxes = detections(networks["teacher"], dataset)
figure = detections_figure(found_boxes, dataset, [with_letter, chosen], threshold=0.3)
figure.set_dpi(110)
figure

# %% [markdown]
# *Figure 5.* The teacher's detections in two scenes: ground truth dashed, detections of score 0.3 or more in blue.
# Check: on the left there is no detection at the H; the upper digit, a 6, is mistaken for a 4. On the right the 8,
# which had a low magnitude in figure 2, is missed.

# %%
def found_in(index, left, top, right, bottom):
    """Classes of the detections of score 0.3 or more that overlap a rectangle."""
    classes, image_id = [], dataset.image_ids[index]
    for box in found_boxes:
        x, y, width, height = box["bbox"]
        inside = x < right and y < bottom and left < x + width and top < y + height
        if inside and box["image_id"] == image_id and box["score"] >= 0.3:
            classes.append(dataset.classes[box["category_id"] - 1])
    return classes


row, column = divmod(at_letter["teacher"].argmax().item(), 16)
letter, missed = (90, 20, 124, 56), boxes[0].tolist()
upper = targets[with_letter]["boxes"][1].tolist()
assert letter[0] <= 8 * column < letter[2] and letter[1] <= 8 * row < letter[3]
assert not on_object[with_letter, row, column]
assert found_in(with_letter, *letter) == [] and found_in(with_letter, *upper) == ["4"]
assert dataset.classes[targets[with_letter]["labels"][1] - 1] == "6"
assert found_in(chosen, *missed) == []
assert dataset.classes[targets[chosen]["labels"][0] - 1] == "8"
print(f"largest magnitude: row {row}, column {column}, no detection there")
print(f"pixels {8 * column}-{8 * column + 8} x {8 * row}-{8 * row + 8}")

# %% [markdown]
# In this scene the teacher responds strongly to the H and still does not detect it. So the background of its maps may
# carry information about look-alikes (or only contrast: one scene is no proof). The runs of notebook 00 show that
# imitating the background helps in scenes with look-alikes, less than imitating the objects.
#
# ## 5 Teacher and students
#
# **Predict.** Which student's magnitude is more similar to the teacher's, and is the similarity of the other near 0?

# %%
def magnitudes(views, index):
    """{level: {network: magnitude (H, W)}} of one image."""
    def of_level(level):
        return {name: view.features[level][index].abs().mean(dim=0)
                for name, view in views.items()}

    return {level: of_level(level) for level in teacher}


map_table(magnitudes(views, chosen), image, boxes, label="mean |F|")

# %% [markdown]
# *Figure 6.* Magnitude of teacher, baseline and distilled student; one scale per row. Check on P3: the distilled
# student's largest values are lower than its teacher's, and both have their brightest cell in the box of the 0; the
# baseline student is less bright there and brighter on the tree in the upper right.

# %%
def correlation(a, b):
    """Pearson's correlation of all numbers of two tensors."""
    return torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].item()


def similarity(name, level):
    return correlation(teacher[level].abs().mean(1),
                       views[name].features[level].abs().mean(1))


alike = {name: {level: similarity(name, level) for level in teacher}
         for name in ("baseline", "distilled")}
alike = pd.DataFrame(alike)
assert QUICK or (alike["distilled"] > alike["baseline"] + 0.1).all()
assert QUICK or alike["baseline"].min() > 0.3
assert QUICK or alike.loc[["P3", "P4"], "baseline"].min() > 0.65
alike.style.format("{:.2f}").set_caption("correlation of mean |F| with the teacher's")

# %%
at_chosen = magnitudes(views, chosen)["P3"]
brightest = {name: divmod(values.argmax().item(), 16)
             for name, values in at_chosen.items()}
highest = {name: values.max().item() for name, values in at_chosen.items()}
assert brightest["teacher"] == brightest["distilled"]
assert on_object[chosen][brightest["teacher"]]
assert highest["baseline"] < highest["distilled"] < 0.9 * highest["teacher"]
tree = {name: values[:7, 10:].mean().item() for name, values in at_chosen.items()}
assert tree["baseline"] > 1.15 * max(tree["teacher"], tree["distilled"])
pd.DataFrame({"brightest cell": brightest, "its magnitude": highest, "tree": tree})

# %% [markdown]
# The distilled one, on every level. But the baseline student is far from 0, at about 0.7 on P3 and P4 and 0.3 on P5: it
# was trained on the same task and has learned *where* to respond. Is it therefore close to its teacher?
#
# ## 6 Channels do not correspond
#
# The plain way to compare two maps, equation (1) of the paper, is the mean of squared differences:
#
# $$L_{fea} = \frac{1}{CHW} \sum_{k=1}^{C} \sum_{i=1}^{H} \sum_{j=1}^{W}
#   \left( F^T_{k,i,j} - f(F^S)_{k,i,j} \right)^2 \tag{1}$$
#
# Code: [`RelationTerm`](../fgdlab/relation.py) with `kind="mse"`, which sums instead of averaging.
#
# | symbol | code | shape |
# |:--|:--|:--|
# | $F^T, F^S$ | `teacher`, `student` | (N, C, H, W) |
# | $f$ | a 1 x 1 convolution where the channels differ in number; here both have 48, and f is the identity | |
# | $L_{fea}$ | mean over N, C, H, W | scalar |
#
# **Predict.** Which is nearest to the teacher by (1): the baseline student, the baseline student with shuffled
# channels, or a map of zeros?

# %%
one_map, other_map = views["distilled"].features["P5"], teacher["P5"]
plain_sum = RelationTerm(48, "mse")(one_map, other_map)
assert torch.isclose(plain_sum / other_map[0].numel(),
                     (other_map - one_map).square().mean())

# %%
shuffle = torch.randperm(48, generator=torch.Generator().manual_seed(0))
distance = {}
for level, target in teacher.items():
    compared = {name: views[name].features[level] for name in ("baseline", "distilled")}
    compared |= {"baseline, shuffled": compared["baseline"][:, shuffle],
                 "zeros": torch.zeros_like(target)}
    distance[level] = {name: (target - features).square().mean().item()
                       for name, features in compared.items()}
distance = pd.DataFrame(distance)
distance.style.format("{:.2f}").set_caption("equation (1), distance to the teacher")

# %%
assert (distance.loc["zeros"] < 0.6 * distance.loc["baseline"]).all()
ratio = distance.loc["baseline"] / distance.loc["baseline, shuffled"]
assert ((ratio - 1).abs() < 0.1).all()
assert (distance.loc["distilled"] < 0.4 * distance.loc["baseline"]).all()
assert (distance.loc["distilled"] < 0.75 * distance.loc["zeros"]).all()

# %% [markdown]
# Zeros, by a factor of two, and shuffling changes the distance by less than a tenth. Both maps have a variance of about
# 1. If channel k of one is uncorrelated with channel k of the other, the squared difference is 1 + 1 = 2; against zeros
# it is 1. The two networks started from different weights, and nothing made them put the same feature into the same
# channel. Only the distilled student is nearer to its teacher than zeros are, by a quarter or more. The next cell
# correlates every channel of the teacher with every channel of a student.

# %%
def channel_table(student, level):
    """Correlations (48, 48) of the teacher's channels (rows) with a student's."""
    rows = [view.features[level].transpose(0, 1).flatten(1)
            for view in (views["teacher"], views[student])]
    return torch.corrcoef(torch.cat(rows))[:48, 48:]


tables = {name: channel_table(name, "P3") for name in ("baseline", "distilled")}
sides = {"rows": "channel of the teacher", "columns": "channel of the student"}
matrices(tables, **sides, label="correlation", norm=CenteredNorm(halfrange=1))

# %% [markdown]
# *Figure 7.* Correlation of each of the teacher's 48 channels with each of the student's, P3. Check: the distilled
# student has a dark diagonal (channel k corresponds to channel k); the baseline student has none, and its largest
# entries are scattered.

# %%
def agreement(table):
    """Correlation with the same and with the best channel, and how often they agree."""
    best = (table.argmax(dim=1) == torch.arange(48)).float()
    means = (table.diag().mean(), table.amax(dim=1).mean(), best.mean())
    return dict(zip(("same channel", "best channel", "best is the same"),
                    map(float, means), strict=True))


agreements = pd.DataFrame({name: agreement(table) for name, table in tables.items()}).T
of_baseline = agreements.loc["baseline"]
assert QUICK or abs(of_baseline["same channel"]) < 0.1 < of_baseline["best channel"]
assert agreements.loc["distilled", "best is the same"] == 1
assert 0.5 < agreements.loc["distilled", "same channel"] < 0.62
agreements.style.format("{:.2f}")

# %% [markdown]
# This is the first effect of feature imitation: it makes the student's channels correspond to the teacher's. The
# magnitude, a mean over channels, does not depend on their order; so the baseline student could look similar in
# figure 6 and be far away by (1). Remember this when you compare feature distances *before* distillation: they mostly
# measure that the channels do not correspond.
#
# ## 7 Your photograph
#
# The backbone accepts any image. Set `PHOTO` in the second code cell to a path of yours, for instance
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
padded_size = at_photo["teacher"].padded_size
print(f"{tuple(photo.shape[-2:])} pixels, padded to {padded_size}, P3 has {grid} cells")
padded = padded_image(networks["teacher"], at_photo["teacher"])
map_table(magnitudes(at_photo, 0), padded, torch.zeros(0, 4), label="mean |F|")

# %% [markdown]
# *Figure 8.* Magnitude of the three networks on a photograph without digits; one scale per row, the white margin of
# the image is padding. Check: on P3 the top of the pagoda and the outlines of the trees are bright, the sky is dark; on
# P5 the top row of both students is brighter than the sky below, that of the teacher is not.

# %%
def same_channel(student, level):
    """Correlation of channel k with the teacher's channel k, mean over channels."""
    pairs = zip(at_photo["teacher"].features[level][0],
                at_photo[student].features[level][0], strict=True)
    return torch.tensor([correlation(*pair) for pair in pairs]).nanmean().item()


students = ("baseline", "distilled")
on_photo = pd.DataFrame({name: {level: same_channel(name, level) for level in teacher}
                         for name in students})
assert PHOTO or on_photo["baseline"].abs().max() < 0.05
assert PHOTO or on_photo["distilled"].min() > 0.2
in_scenes = agreements.loc["distilled", "same channel"]
assert PHOTO or abs(on_photo.loc["P3", "distilled"] - 0.24) < 0.01
assert QUICK or abs(in_scenes - 0.58) < 0.01
styled = on_photo.style.format("{:.2f}")
styled.set_caption("correlation of channel k with the teacher's channel k")

# %% [markdown]
# The channels correspond on an image without any digit, too, because features are imitated on the background as well.
# But they correspond less: 0.24 on P3, where figure 7 has 0.58 in the scenes. (Parts of scikit-learn's photographs are
# the backgrounds of the training scenes. Your own photograph is the fairer test.)
#
# The bright rows at the top are an artefact: convolutions see zero padding at the border. A plain grey image shows it,
# because without padding every cell of its maps would be the same.

# %%
def cut(magnitude, border):
    """A map (H, W) without the ``border`` outermost cells."""
    height, width = magnitude.shape
    return magnitude[border:height - border, border:width - border]


def on_p5(image):
    """{network: magnitude (H, W) on P5} of one image (3, h, w)."""
    with torch.no_grad():
        return {name: look(network, [image]).features["P5"][0].abs().mean(dim=0)
                for name, network in networks.items()}


borders = {"whole map": 0, "without the border": 2}
grey = on_p5(torch.full((3, 448, 640), 0.5))
spread = {title: {name: (cut(m, border).std() / m.mean()).item()
                  for name, m in grey.items()}
          for title, border in borders.items()}
spread = pd.DataFrame(spread)
assert spread["whole map"].min() > 0.08 and spread["without the border"].max() < 0.02
styled = spread.style.format("{:.3f}")
styled.set_caption("standard deviation of mean |F| over its mean, P5, plain grey image")

# %%
p5 = {name: view.features["P5"][0].abs().mean(dim=0) for name, view in at_photo.items()}
top = {name: (m[0].mean() / cut(m, 2).mean()).item() for name, m in p5.items()}
assert PHOTO or min(top["baseline"], top["distilled"]) > 1.25 and top["teacher"] < 1.05
top = pd.Series(top, name="top row over the rest, P5, photograph")
top.to_frame().style.format("{:.2f}")

# %% [markdown]
# **Predict.** On scikit-learn's other photograph, a flower, the distilled student's magnitude on P5 has a correlation
# of 0.36 with the teacher's. What is left of it without two cells on each side?

# %%
photos = {"your photograph" if PHOTO else "china.jpg": p5}
flower = torch.from_numpy(load_sample_image("flower.jpg").copy()).permute(2, 0, 1)
photos |= {"flower.jpg": on_p5(flower / 255)}


def alike_on(maps, name, border):
    """Correlation of a student's map with the teacher's, without a border."""
    both = [cut(maps[network], border) for network in ("teacher", name)]
    return correlation(*both) if both[0].numel() > 1 else float("nan")


table = pd.DataFrame({
    title: {(photo, name): alike_on(maps, name, border)
            for photo, maps in photos.items() for name in students}
    for title, border in borders.items()
})
distilled = table.loc[("flower.jpg", "distilled")]
assert abs(distilled["whole map"] - 0.36) < 0.01
assert abs(distilled["without the border"] - 0.04) < 0.01
assert PHOTO or table.loc["china.jpg"].abs().max(axis=None) < 0.15
styled = table.style.format("{:.2f}")
styled.set_caption("correlation of the magnitude with the teacher's on P5")

# %% [markdown]
# Almost nothing: 0.04. On the flower the correlation comes from the border cells. On the first photograph there is
# none, with the border or without: on P5, students and teacher agree on *where* in scenes like those of their training,
# and not on these photographs. Check the border before you interpret a correlation.
#
# ## Exercises
#
# Solutions are at the end of the notebook.
#
# **Exercise 1** (medium, 10 minutes) Write `same_channel_correlation(teacher, student)`: for each channel, Pearson's
# correlation of the two networks over all images and cells. (N, C, H, W) twice to (C,). It is the diagonal of figure
# 7; do it without `corrcoef`.

# %%
def same_channel_correlation(teacher, student):
    raise NotImplementedError


check.same_channel_correlation(same_channel_correlation)


# %% [markdown]
# **Exercise 2** (hard, 25 minutes, an experiment) The channels of the baseline student may only be in another *order*.
# Reorder them so that they fit the teacher's as well as possible, on P3. *Predict first:* is the baseline student then
# nearer to its teacher, by (1), than a map of zeros?
#
# *Write* `best_order(table)`: for correlations (K, K), teacher's channels in rows, the column of each row, every
# column once, with the largest sum. (To take the largest of each row would use some columns twice. Look for an
# assignment solver in scipy.) *Run* `distance_in_order(best_order)`, and *read*.

# %%
def best_order(table):
    raise NotImplementedError


def distance_in_order(answer):
    """Equation (1) on P3 with the student's channels in the order of ``answer``."""
    order = torch.as_tensor(answer(tables["baseline"]))
    student = views["baseline"].features["P3"][:, order]
    return (teacher["P3"] - student).square().mean().item()


check.best_order(best_order)

# %% [markdown]
# ## Recap
#
# - A level is a grid of cells with C numbers each. The activation magnitude is the mean of |F|; it is large on objects
#   and on look-alikes, so a large response is not a detection.
# - Two networks that were trained separately agree on *where*, not on *which channel*, so equation (1) is large
#   between them. Imitation makes the channels correspond.
# - Equation (1) treats all cells and channels alike; FGD does not. Check the border before you read a correlation.
#
# Next, the cells: [02 Where](02_where.ipynb).
#
# ## Solutions
#
# Unfold a cell to read it.

# %% jupyter={"source_hidden": true} tags=["solution"]
def same_channel_correlation_solution(teacher, student):
    rows = [features.transpose(0, 1).flatten(1) for features in (teacher, student)]
    rows = [each - each.mean(dim=1, keepdim=True) for each in rows]
    product = (rows[0] * rows[1]).sum(dim=1)
    return product / (rows[0].norm(dim=1) * rows[1].norm(dim=1))


assert check.same_channel_correlation(same_channel_correlation_solution).right


# %% jupyter={"source_hidden": true} tags=["solution"]
def best_order_solution(table):
    return linear_sum_assignment(table.numpy(), maximize=True)[1]


assert check.best_order(best_order_solution).right
of_teacher, of_student = (views[name].features["P3"].transpose(0, 1).flatten(1)
                          for name in ("teacher", "baseline"))
mixed = torch.linalg.lstsq(of_student.T, of_teacher.T).solution.T @ of_student
found = {
    "as it is": distance.loc["baseline", "P3"],
    "best order": distance_in_order(best_order_solution),
    "zeros": distance.loc["zeros", "P3"],
    "best linear mix of channels": (of_teacher - mixed).square().mean().item(),
}
assert QUICK or 1.5 < found["best order"] < 1.7 and found["best order"] > found["zeros"]
assert found["best linear mix of channels"] < 0.9 * found["zeros"]
pd.Series(found, name="distance to the teacher, P3").to_frame().style.format("{:.2f}")

# %% [markdown]
# No: an order alone does not bring it nearer than zeros. A linear mix of channels does, the kind of map that the 1 x 1
# convolution $f$ of equation (1) can learn.
