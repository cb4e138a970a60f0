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
# # 02 · Where: the masks M and S
#
# **Question** Which cells of a feature map belong to an object, and how much does each cell weigh?
#
# **Equations** (2) the binary mask M, (3) the scale mask S, (4) the number of background cells.
#
# **Code** [`cell_ranges`](../fgdlab/masks.py), [`box_weights`](../fgdlab/masks.py),
# [`focal_masks`](../fgdlab/masks.py): one file, the whole of this notebook.
#
# **Needs** Notebook 01, or sections 1 to 3 of 00 (levels and strides). Indexing of tensors.
#
# **Cost** About 25 seconds on 2 cores, 0.8 GB of memory; no download.
#
# **You will** project boxes onto a grid by hand, write both masks in ten lines, move boxes by mouse or keys while M
# and S follow, and read what the details of the masks change in trained students. Three appendices have one error
# each that implementations of these masks have had.

# %%
import pandas as pd
import torch
from IPython.display import Markdown
from matplotlib.colors import LogNorm

from fgdlab import focal_masks, look
from fgdlab.lab.config import RunConfig
from fgdlab.lab.course import Answer, map_table, movable_boxes, number_grid
from fgdlab.lab.course import pretrained_detector, schematic
from fgdlab.lab.course.exercises import where as check
from fgdlab.lab.datasets import foreground_fractions, open_split
from fgdlab.masks import box_weights, cell_ranges

# %% tags=["parameters"]
QUICK = False

# %%
schematic("masks")

# %% [markdown]
# *FGD in one picture.* This notebook is about the highlighted part: from ground-truth boxes to the masks M and S.
#
# A student that imitates its teacher compares two maps cell by cell. Two things have to be known for every cell: is
# it part of an object, and how much does it weigh? Neither needs a network. The ground-truth boxes and the size of
# the grid are enough.
#
# ## 1 From pixels to cells
#
# An image of 48 x 64 pixels (height x width) gives a map of 6 x 8 cells at stride 8. It contains two boxes. A box is
# `x1, y1, x2, y2` in pixels, **x first**; a tensor is indexed `[row, column]`, **y first**. Appendix C shows what
# happens when the two are exchanged.
#
# **Predict.** `large` is 16, 8, 40, 32. Which columns and rows does it cover? Cell 2 begins at pixel 16 and ends
# where cell 3 begins.

# %%
IMAGE, GRID, STRIDE = (48, 64), (6, 8), 8
large = torch.tensor([16.0, 8.0, 40.0, 32.0])
small = torch.tensor([50.0, 20.0, 54.0, 30.0])
large / STRIDE

# %% [markdown]
# Columns 2, 3, 4 and rows 1, 2, 3: the far edge at 5 is where column 4 ends, and no pixel of column 5 is inside. That
# is 3 x 3 = 9 cells. Python's ranges count the same way: `2:5` is 2, 3, 4.
#
# **Predict.** `small` is 50, 20, 54, 30: 4 pixels wide, half a cell. How many cells does it get: none, one, two?

# %%
near, far = (small[:2] / STRIDE).floor(), (small[2:] / STRIDE).ceil()
assert (far - near).prod() == 2
assert round(6.6) == round(7.2) == 7                  # rounded to the nearest line
for side, axis in enumerate(("columns", "rows")):
    edges = f"{small[side] / STRIDE} to {small[side + 2] / STRIDE}"
    print(f"{axis} {edges} -> {near[side]:.0f}:{far[side]:.0f}")

# %% [markdown]
# Two. The near edge is rounded down and the far edge up, so every cell that the box touches belongs to it. Rounding
# to the nearest line is unsafe. A box that is narrower than a cell can get a width of 0: from 6.6 to 7.2, both edges
# round to 7. A small object must not vanish on a coarse map.
#
# [`cell_ranges`](../fgdlab/masks.py) does this for K boxes at once. Its `rounding="exact"` is what we just did. The
# default is the authors' rounding, which adds a cell (section 5 and appendix A).

# %%
boxes = torch.stack([large, small])
cells = cell_ranges(boxes, IMAGE, GRID, rounding="exact")
assert cells.tolist() == [[2, 1, 5, 4], [6, 2, 7, 4]]
columns = ["col0", "row0", "col1", "row1"]
pd.DataFrame(cells.tolist(), index=["large", "small"], columns=columns)

# %% [markdown]
# ## 2 The binary mask M
#
# $$M_{i,j} = \begin{cases} 1 & \text{if } (i,j) \in r \\ 0 & \text{otherwise} \end{cases} \tag{2}$$
#
# where r is any ground-truth box. Code: [`FocalMasks.binary`](../fgdlab/masks.py), computed from the ranges of
# [`cell_ranges`](../fgdlab/masks.py).
#
# | symbol | code | shape |
# |:--|:--|:--|
# | $M$ | `masks.binary` | (N, H, W), for N images |
# | $r$ | a row of `cells`: col0, row0, col1, row1 | (K, 4) |
# | $(i,j)$ | an index `[row, column]` | |

# %%
binary = torch.zeros(GRID)
for col0, row0, col1, row1 in cells.tolist():
    binary[row0:row1, col0:col1] = 1
masks = focal_masks([boxes], [IMAGE], GRID, rounding="exact")
assert masks.binary[0].equal(binary)
number_grid({"binary mask M": binary}, boxes, label="M")

# %% [markdown]
# *Figure 1.* M on the grid of 6 x 8 cells; the orange rectangles are the boxes at their exact place. Check: `large`
# covers exactly nine cells, `small` touches two, and every touched cell is 1. The cell asserts that the package gives
# the same numbers.
#
# ## 3 The scale mask S
#
# If every cell of M weighs 1, a box weighs as much as it has cells.
#
# **Predict.** By what factor does `large` outweigh `small`?

# %%
counts = (cells[:, 2] - cells[:, 0]) * (cells[:, 3] - cells[:, 1])
background = GRID[0] * GRID[1] - int(binary.sum())
assert (counts[0] / counts[1], background) == (4.5, 37)
assert (400 // 8) ** 2 == 2500 and (16 // 8) ** 2 == 4
pd.DataFrame({"cells": [*counts.tolist(), background]},
             index=["large", "small", "background"])

# %% [markdown]
# 9 to 2, a factor of 4.5, and the background outweighs both together. In a large photograph the factor is larger: at
# stride 8 an object of 400 x 400 pixels has 2500 cells, one of 16 x 16 pixels has 4. S removes the effect of size:
#
# $$S_{i,j} = \begin{cases} 1 / (H_r W_r) & \text{if } (i,j) \in r \\
#   1 / N_{bg} & \text{otherwise} \end{cases} \tag{3}$$
#
# $$N_{bg} = \sum_{i=1}^{H} \sum_{j=1}^{W} \left(1 - M_{i,j}\right) \tag{4}$$
#
# Code: [`box_weights`](../fgdlab/masks.py) for the boxes, [`focal_masks`](../fgdlab/masks.py) for the background and
# the count (4).
#
# | symbol | code | shape |
# |:--|:--|:--|
# | $S$ inside boxes, $M \cdot S$ | `masks.fg` | (N, H, W) |
# | $S$ outside, $(1 - M) \cdot S$ | `masks.bg` | (N, H, W) |
# | $H_r, W_r$ | `row1 - row0`, `col1 - col0` | (K,) |
# | $N_{bg}$ | `num_bg` | (N, 1, 1) |
#
# **Predict.** What is the weight of a background cell? There are 48 cells.

# %%
num_bg = int((1 - binary).sum())
scale = torch.full(GRID, 1 / num_bg)
for col0, row0, col1, row1 in cells.tolist():
    scale[row0:row1, col0:col1] = 1 / ((row1 - row0) * (col1 - col0))
assert num_bg == 37 and torch.allclose(masks.fg[0], binary * scale)
assert torch.allclose(masks.bg[0], (1 - binary) * scale)
assert round(masks.fg.sum().item(), 5) == 2 and round(masks.bg.sum().item(), 5) == 1
weights = {"foreground M S": masks.fg[0], "background (1 - M) S": masks.bg[0]}
number_grid(weights, boxes, label="weight of a cell", digits=None)

# %% [markdown]
# *Figure 2.* The two weights of FGD's focal loss, written as fractions, on one colour scale. Check: nine cells of 1/9
# and two cells of 1/2 on the left; 48 - 11 = 37 cells of 1/37 on the right; no cell has weight in both.
#
# The package agrees, by assertion. `fg` sums to 2, the number of boxes, whatever their size. `bg` sums to 1, whatever
# its area. The coefficients $\alpha$ and $\beta$ of equation (9), notebook 04, scale the two sums.
#
# ## 4 Boxes that overlap
#
# A third box covers part of `large`.
#
# **Predict.** The shared cells may get 1/9 from `large`, 1/12 from `third`, or the sum. Which would you choose, and
# what do the cells of `third` then sum to?

# %%
third = torch.tensor([24.0, 16.0, 56.0, 40.0])
pair = torch.stack([large, third])
sets = {"large only": pair[:1], "large and third": pair}
sets["third and large"] = pair.flip(0)
fg = {name: focal_masks([each], [IMAGE], GRID, rounding="exact").fg[0]
      for name, each in sets.items()}
assert fg["large and third"].equal(fg.pop("third and large"))
assert torch.isclose(fg["large and third"].sum(), torch.tensor(1 + 8 / 12))
number_grid(fg, pair, label="M S", digits=None)

# %% [markdown]
# *Figure 3.* Where boxes overlap, the smallest wins. Check: the four cells that both boxes cover keep 1/9, the weight
# of the smaller box; `third` is left with eight cells of 1/12.
#
# The paper says so: a cell in several boxes belongs to the smallest. In code it is `amax` in
# [`box_weights`](../fgdlab/masks.py), because the smallest box has the largest weight. Two facts follow, and the cell
# above asserts them: the order of the boxes does not matter, and a large box with other boxes on it sums to less than
# 1, here to 8/12.
#
# ## 5 Move the boxes
#
# The numbers below are computed in your browser by the rules of this notebook. Drag a box, or drag its corner.
# Choose *authors' rounding*: the authors' code adds one more row and one more column of cells to every box.
#
# **Predict, then try.** (1) Move `small` over `large`: when does the sum of the foreground change? (2) Shrink a box
# to one pixel and move it over a line of the grid: how many cells can it have? (3) Under the authors' rounding, move a
# box into the lower right corner: what happens to the sum?

# %%
movable_boxes({
    "a large and a small box": [[16, 8, 40, 32], [50, 20, 54, 30]],
    "overlapping boxes": [[16, 8, 40, 32], [24, 16, 56, 40]],
    "a box of one cell": [[24, 16, 32, 24]],
    "a box in the corner": [[48, 32, 64, 48]],
}, IMAGE, GRID)


# %% [markdown]
# The next cell computes the answers. (1) `small` wins the cells that it shares. `large` keeps fewer cells of 1/9, so
# the sum falls below 2. (2) One pixel has one cell, exactly rounded. (3) The added cells are outside of the map, but
# they count in the area, so the box sums to 4/9.

# %%
def sum_of(boxes, rounding="exact"):
    """Sum of M S over the grid."""
    boxes = torch.tensor(boxes, dtype=torch.float)
    return focal_masks([boxes], [IMAGE], GRID, rounding=rounding).fg.sum().item()


on_large = sum_of([[16, 8, 40, 32], [26, 12, 30, 22]])
pixels = [focal_masks([torch.tensor([[x, 9.0, x + 1, 10]])], [IMAGE], GRID,
                      rounding="exact").binary.sum().item() for x in range(10, 30)]
in_corner = sum_of([[48, 32, 64, 48]], "authors")
assert abs(on_large - (1 + 7 / 9)) < 1e-6 and set(pixels) == {1}
assert abs(in_corner - 4 / 9) < 1e-6
print(f"(1) {on_large:.2f}  (2) {set(pixels)}  (3) {in_corner:.2f}")

# %% [markdown]
# ## 6 All levels of a real scene
#
# FGD computes the masks on every level of the pyramid from the same boxes.

# %%
settings = RunConfig(train_images=64, eval_images=64)
dataset = open_split(settings, "val", progress=False)
levels = {"P3": (16, 16), "P4": (8, 8), "P5": (4, 4)}
image, target = dataset[1]
of_level = {level: focal_masks([target["boxes"]], [(128, 128)], grid)
            for level, grid in levels.items()}
rows = {level: {"foreground M S": each.fg[0], "background (1 - M) S": each.bg[0]}
        for level, each in of_level.items()}
norms = {level: LogNorm() for level in rows}
map_table(rows, image, target["boxes"], label="weight (log)", norms=norms)

# %% [markdown]
# *Figure 4.* Masks of a digit scene on P3, P4 and P5 with the package's default, the authors' rounding; each row has
# its own scale, grey is 0. Check: on P3 and P4 the smaller box is brighter; on P5 the extra cells spread the two boxes
# over most of the map, and a background cell weighs as much as a cell of the smaller box.

# %%
ratio = {level: (each.fg.max() / each.bg.max()).item()
         for level, each in of_level.items()}
assert ratio["P3"] > ratio["P4"] > 4 and abs(ratio["P5"] - 1) < 1e-6
sums = {level: (each.fg.sum(), each.bg.sum(), each.binary.mean())
        for level, each in of_level.items()}
table = pd.DataFrame(sums, index=["fg", "bg", "fraction of fg cells"]).T.astype(float)
assert table["bg"].sub(1).abs().max() < 1e-5 and len(target["boxes"]) == 2
assert (table["fg"][["P3", "P4"]] - 2).abs().max() < 1e-5
assert 1.4 < table["fg"]["P5"] < 1.5
table.style.format("{:.2f}").set_caption("sums of weights, 2 boxes")

# %% [markdown]
# On every level the background sums to 1. The foreground sums to the number of boxes, less what overlaps and borders
# take away. So P3 and P4 have the same total weight, and P5 a fifth less, although P3 has sixteen times as many cells.
#
# ## 7 Do the details matter to a student?
#
# Two details of the authors' code can be tested on scenes of one size. **Authors' rounding** adds a row and a column of
# cells to every box (appendix A). **Swapped axes**: until January 2022 the code wrote columns as rows, so on these
# scenes most of the mask lay on background (appendix C). Students are trained with each, from the same initial weights.
# The package's default is the authors' rounding, as in their results; most cells of these notebooks use exact cells.
#
# **Predict.** Is any of FGD's gain left if the masks are at wrong places?

# %%
pairs = ("exact", "none"), ("authors", "exact"), ("transposed", "none")
answer = Answer("control_masks", *pairs)
answer

# %%
if answer.runs is None:
    text = "The question stays open here until the sweep has run with today's settings."
else:
    gain, authors, swapped = (answer.difference(*pair) for pair in pairs)
    text = (f"Exact masks gain {gain.mean:+.1f} AP; masks with swapped axes "
            f"{swapped.mean:+.1f}, from {swapped.low:+.1f} to {swapped.high:+.1f}. "
            f"The rounding changes AP by {authors.mean:+.1f}, "
            f"with an interval from {authors.low:+.1f} to {authors.high:+.1f}.")
Markdown(text)

# %% [markdown]
# The interval of swapped axes is above 0. So imitation helps also at cells that are not on the objects, and the exact
# place of the masks matters less than the idea of the paper suggests. The paper's own
# Table 1 points the same way: foreground only and background only gain about the same (39.3 and 39.2 mAP from 37.4).
# The Table 1 of this project (notebook 00, figure 4) does not: background only gains less. Notebook 07 says what an
# interval allows you to conclude. These runs have the attention term (eq. 10) and the global term, too, which do not
# use the masks.
#
# ## Exercises
#
# Solutions are at the end of the notebook.
#
# **Exercise 1** (medium, 10 minutes) Write `scale_mask(cells, grid_size)`: S of equations (3) and (4) as one tensor
# (H, W). The smallest box wins, in any order of the boxes; a box that reaches over the edge of the map is divided by
# its whole area.

# %%
def scale_mask(cells, grid_size):
    raise NotImplementedError


check.scale_mask(scale_mask)


# %% [markdown]
# **Exercise 2** (hard, 25 minutes, an experiment) Take S away, so that every foreground cell weighs 1.
#
# *Predict first:* one box of four is less than 20 pixels high. Without S, does the part of the foreground's weight on
# these small boxes rise, fall or stay? By what factor, on P3? And is the change stronger or weaker on P5?
#
# *Write* `part_of_small(cells, small, grid_size, scale)`: this part for one image. `cells` are the ranges (K, 4),
# `small` says which boxes are small (K,). With `scale` a cell weighs S, without it 1. A cell in several boxes belongs
# to the smallest. *Run* `on_scenes(part_of_small, "P3", True)` and its variants, and *read*: was your sign right?

# %%
def part_of_small(cells, small, grid_size, scale):
    raise NotImplementedError


def on_scenes(answer, level, scale):
    """``answer`` on 64 scenes side by side, as one wide grid."""
    (height, width), cells, small = levels[level], [], []
    for i, boxes in enumerate(dataset[i][1]["boxes"] for i in range(64)):
        ranges = cell_ranges(boxes, (128, 128), (height, width), rounding="exact")
        cells.append(ranges + torch.tensor([width, 0, width, 0]) * i)
        small.append(boxes[:, 3] - boxes[:, 1] < 20)
    grid = height, 64 * width
    return float(answer(torch.cat(cells), torch.cat(small), grid, scale))


check.part_of_small(part_of_small)


# %% [markdown]
# **Exercise 3** (easy, 3 minutes) You review a new implementation of the masks and may run one test. Write
# `off_diagonal_box()`: a box `x1, y1, x2, y2` in a **square** image of 64 x 64 pixels whose correct mask at stride 8
# shares no cell with its transpose. (A square image is the hard case: with any other, a wrong shape may already
# reveal the error.)

# %%
def off_diagonal_box():
    raise NotImplementedError


check.transposition_test(off_diagonal_box)

# %% [markdown]
# ## Recap
#
# - M says which cells are foreground. S gives every box the sum 1, whatever its size, and the background the sum 1.
# - Where boxes overlap the smallest wins; the authors' rounding adds cells that are background.
# - Section 7 asks what correct and wrong masks change for a student; its sweep is `control_masks`.
#
# Next: cells in a box are not equally important. In [03 How much](03_how_much.ipynb) the teacher decides; on the core
# path go on with [04 Focal](04_focal.ipynb).
#
# ## Appendix A: the authors' extra cell
#
# The paper says that M is 1 inside a box, but not how box edges are rounded. The authors' code rounds the near edge
# down and the far edge up, as we did, and then slices up to the far edge **plus one**: the next cell belongs to the
# box, too.
#
# **Predict.** A box of exactly one cell, 24 to 32 in x and 16 to 24 in y: how many cells does it get?

# %%
one = torch.tensor([[24.0, 16.0, 32.0, 24.0]])
ROUNDINGS = ("exact", "authors")
grids = {rounding: focal_masks([one], [IMAGE], GRID, rounding=rounding).fg[0]
         for rounding in ROUNDINGS}
number_grid(grids, one, label="M S", digits=None)

# %% [markdown]
# *Figure 5.* One box of one cell under both roundings. Check: one cell of weight 1 on the left; on the right 2 x 2
# cells of weight 1/4, three of which are background.
#
# Each side grows by one cell, so a box of n x n cells grows to (n + 1) x (n + 1): by a factor of 4 for n = 1 and of
# 1.27 for n = 8. The effect is largest for small objects, and on coarse levels, where every object is small.
#
# **Predict.** By what factor does the foreground of the digit scenes grow on P3, P4 and P5?

# %%
fractions = {rounding: foreground_fractions(dataset, rounding=rounding)
             for rounding in ROUNDINGS}
fractions = pd.DataFrame(fractions)
fractions["factor"] = fractions["authors"] / fractions["exact"]
assert fractions["factor"].between(1.45, 1.8).all()
assert abs(fractions["factor"]["P5"] - fractions["factor"]["P4"]) < 0.05
assert round((8 + 1) ** 2 / 8**2, 2) == 1.27
fractions.style.format("{:.2f}").set_caption("foreground, fraction of the cells")

# %% [markdown]
# By 1.5 on P3 and by 1.7 on P4 and P5. From P4 to P5 the factor hardly rises, because a map of 4 x 4 cells is too
# small: extra cells fall outside of the map or onto other boxes. At the border the weights are still divided by the
# area of the whole box (question 3 of section 5). `FGDConfig(rounding="exact")` removes both effects. The default of
# the package is `authors`, so that its numbers equal theirs.
#
# ## Appendix B: padding
#
# Images of different size share a batch by padding: each is placed in the upper left corner of the **padded batch**.
# The map spans the padded size. The authors' code divides boxes by the size of the **image** before padding. Here an
# image of 48 x 40 pixels is padded to 48 x 64.
#
# **Predict.** The box is at x = 24 to 40, at the right end of the image, in columns 3 and 4 of the map. In which
# columns does it land when x is divided by 40 instead of 64?

# %%
box = torch.tensor([[24.0, 16.0, 40.0, 32.0]])
edge = torch.tensor([[0.0, 0.0, 40.0, 48.0]])
sizes = {"divided by the padded size": (48, 64), "divided by the image size": (48, 40)}
placed = {name: focal_masks([box], [size], GRID, rounding="exact").fg[0]
          for name, size in sizes.items()}
number_grid(placed, torch.cat([box, edge]), label="M S", digits=None)

# %% [markdown]
# *Figure 6.* The smaller rectangle is the box, the larger one the image; columns 5 to 7 are padding. Check: divided
# by the padded size, the weights are inside the box; divided by the image size, they are in columns 4 to 7, three of
# which contain only padding.
#
# [`Scene.frame_sizes`](../fgdlab/scene.py) returns either size for a batch: `"canvas"` is the padded size (default),
# `"image"` the authors' way. The next cell does it with a scene cut to 80 columns together with a whole one.

# %%
def iou(one, other):
    """Intersection over union of two binary masks (H, W)."""
    return ((one * other).sum() / (one + other).clamp(max=1).sum()).item()


(first, target), (second, other) = dataset[2], dataset[3]
keep = target["boxes"][:, 0] < 76                      # at least 4 pixels are left
narrow = {name: values[keep].clamp(max=80) for name, values in target.items()
          if name in ("boxes", "labels")}
with torch.no_grad():
    batch = [first[:, :, :80], second], [narrow, other]
    scene = look(pretrained_detector("teacher"), *batch)
sizes = {name: scene.frame_sizes(name) for name in ("canvas", "image")}
wrong = {name: focal_masks(scene.boxes, each, (16, 16), rounding="exact").binary
         for name, each in sizes.items()}
narrow_iou, whole_iou = (iou(*(each[i] for each in wrong.values())) for i in (0, 1))
assert sizes["canvas"][0] == (128, 128) and sizes["image"][0] == (128, 80)
assert round(iou(*((each > 0).float() for each in placed.values())), 3) == 0.2
assert 0.25 < narrow_iou < 0.29 and whole_iou == 1
print(f"IoU {narrow_iou:.2f} on the narrow image, {whole_iou:.2f} on the other")

# %% [markdown]
# In figure 6 two of ten cells are shared, an IoU of 0.2. In the batch, the narrow image has an IoU of 0.27, and the
# whole one is not affected. So the error is easy to miss: a test with square images of one size finds nothing. COCO's
# images have many sizes.
#
# ## Appendix C: x exchanged with y
#
# The authors' code, as first published in November 2021, wrote the weights into `mask[x1:x2, y1:y2]`, but the mask
# has rows first. Commit c22b81d of 4 January 2022 corrected the axes. The trained weights had been published before
# that; we do not know which version they were trained with.
#
# **Predict.** `large` has columns 2 to 4 and rows 1 to 3, `small` column 6 and rows 2 to 3. Where do they land when
# rows and columns are exchanged? The grid has 6 rows.

# %%
def transposed(cells):
    """The ranges of the authors' first version: columns as rows, rows as columns."""
    return cells[:, [1, 0, 3, 2]]


both = {"rows from y": box_weights(cells, GRID),
        "rows from x": box_weights(transposed(cells), GRID)}
yx = focal_masks([boxes], [IMAGE], GRID, rounding="exact", axes="yx")
assert yx.fg[0].equal(both["rows from x"]) and yx.fg[0, :, 4:].sum() == 0
number_grid(both, boxes, label="M S", digits=None)

# %% [markdown]
# *Figure 7.* Correct and transposed weights of the same two boxes. Check: `large` lands one row lower and one column
# to the left; `small`, in column 6, would need row 6, which the grid does not have, so it vanishes.
#
# The package keeps the error as an option, `axes="yx"` of [`focal_masks`](../fgdlab/masks.py), so that runs can
# measure its effect (section 7). There is no error message: a slice past the end of a tensor is empty. The loss still
# falls, and the student still learns from its teacher, but at other cells.
#
# **Predict.** What is the mean IoU of transposed and correct masks on P3 over the digit scenes: about 0.8, 0.5, or
# below 0.2?

# %%
found = []
for _, target in (dataset[i] for i in range(8 if QUICK else 64)):
    on_p3 = cell_ranges(target["boxes"], (128, 128), (16, 16), rounding="exact")
    right, wrong = ((box_weights(each, (16, 16)) > 0).float()
                    for each in (on_p3, transposed(on_p3)))
    misplaced = (wrong * (1 - right)).sum() / wrong.sum()
    found.append({"IoU": iou(right, wrong), "misplaced": misplaced.item()})
means = pd.DataFrame(found).mean()
print(f"IoU {means['IoU']:.2f}; {means['misplaced']:.0%} of the transposed foreground "
      "is in fact background")
assert QUICK or means["IoU"] < 0.2 and means["misplaced"] > 0.5

# %% [markdown]
# Below 0.2: such masks cover mostly background. One test with a box off the diagonal finds the error (exercise 3).
#
# ## Solutions
#
# Unfold a cell to read it.

# %% jupyter={"source_hidden": true} tags=["solution"]
def scale_mask_solution(cells, grid_size):
    inside = torch.zeros(grid_size)
    for col0, row0, col1, row1 in cells.tolist():
        patch = inside[row0:row1, col0:col1]
        patch.clamp_(min=1 / ((row1 - row0) * (col1 - col0)))
    return torch.where(inside == 0, 1 / (inside == 0).sum(), inside)


assert check.scale_mask(scale_mask_solution).right


# %% jupyter={"source_hidden": true} tags=["solution"]
def part_of_small_solution(cells, small, grid_size, scale):
    weight, on_small = torch.zeros(grid_size), torch.zeros(grid_size)
    area = (cells[:, 2] - cells[:, 0]) * (cells[:, 3] - cells[:, 1])
    for k in area.argsort(descending=True).tolist():   # the smallest box comes last
        col0, row0, col1, row1 = cells[k].tolist()
        weight[row0:row1, col0:col1] = 1 / area[k] if scale else 1
        on_small[row0:row1, col0:col1] = float(small[k])
    return (weight * on_small).sum() / weight.sum()


assert check.part_of_small(part_of_small_solution).right
parts = {name: {level: on_scenes(part_of_small_solution, level, scale)
                for level in levels}
         for name, scale in (("with S", True), ("without S", False))}
parts = pd.DataFrame(parts)
factor = parts["without S"] / parts["with S"]
assert 0.45 < factor["P3"] < 0.5 and 0.7 < factor["P5"] < 0.8
assert parts["with S"].between(0.24, 0.25).all()       # 32 of 131 boxes are small
parts.assign(factor=factor).style.format("{:.2f}")


# %% jupyter={"source_hidden": true} tags=["solution"]
def off_diagonal_box_solution():
    return 40.0, 0.0, 64.0, 24.0                       # its transpose is lower left


assert check.transposition_test(off_diagonal_box_solution).right
