# %% [markdown]
# # 09 · Your own loss
#
# **Question** You have an idea for a distillation loss. How do you write it, test that it computes what you meant,
# and evaluate it in a table?
#
# **Equations** one of our own; of the paper's, 1 (the plain feature loss) for comparison
#
# **Code** [`PyramidLoss`](../fgdlab/pyramid.py), [`custom_loss_class`](../fgdlab/lab/training/custom_loss.py),
# [`make_loss`](../fgdlab/lab/training/losses.py), [`parse_sweep`](../fgdlab/lab/sweeps/spec.py),
# [`plan`](../fgdlab/lab/sweeps/planning.py), [`execute`](../fgdlab/lab/sweeps/execution.py),
# [`collect`](../fgdlab/lab/sweeps/collection.py), [`render`](../fgdlab/lab/tables/numbers.py)
#
# **Needs** notebooks 04, 06 and 07; 08 for the effective weight of a cell
#
# **Cost** about four minutes on 2 cores, most of it six small training runs; 1.0 GB of memory, no download
#
# **You will** write a loss in thirteen lines, test it in five ways, run it together with the baseline and FGD with
# two seeds each, and say what the table does not show

# %%
import os
import tempfile
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from IPython.display import Markdown

from fgdlab import focal_masks, look
from fgdlab.lab.config import RunConfig
from fgdlab.lab.course import Answer, pretrained_detector, pretrained_file, schematic
from fgdlab.lab.course.exercises import custom_loss as check
from fgdlab.lab.datasets import open_split
from fgdlab.lab.explorer import gradient_maps, gradient_maps_figure
from fgdlab.lab.plots import scene_and_teacher_maps, show
from fgdlab.lab.run import prepare
from fgdlab.lab.stats import estimate, seed_differences
from fgdlab.lab.sweeps import collect, execute, load_sweep, plan
from fgdlab.lab.tables import render, table_figure
from fgdlab.lab.training import make_loss

# %% tags=["parameters"]
QUICK = False
FOLDER_OF_MINE = ""  # your file and its runs; "" = a folder that is deleted at the end
JOBS = 2             # runs at a time

# %%
schematic("imitation")

# %% [markdown]
# *FGD in one picture.* Highlighted: your loss, which stands in place of the two terms in the middle.

# %%
temporary = tempfile.TemporaryDirectory(prefix="own_loss_", ignore_cleanup_errors=True)
folder = Path(FOLDER_OF_MINE or temporary.name)
folder.mkdir(parents=True, exist_ok=True)
os.chdir(folder)
settings = RunConfig(train_images=64, eval_images=64)
dataset = open_split(settings, "val", progress=False)
teacher, student = pretrained_detector("teacher"), pretrained_detector("baseline")

# %% [markdown]
# From here on the notebook works in its own folder, as you would in a project: one file with a loss, one with a
# table, and the runs.
#
# ## 1 · The idea
#
# Plain imitation (1) compares all numbers:
#
# $$L_{fea} = \frac{1}{CHW} \sum_{k,i,j} \left(F^T_{k,i,j} - f(F^S_{k,i,j})\right)^2 \tag{1}$$
#
# (code: [`RelationTerm`](../fgdlab/relation.py) with `kind="mse"`). The 48 numbers of a cell are a vector. Perhaps
# its **direction** matters and not its length, because a head can rescale it. So compare directions, by the cosine.
#
# Smallest example: a cell of two channels. The teacher has (3, 4), of length 5.
#
# **Predict.** 1 - cos for three students: (6, 8), (4, 3), (-3, -4).

# %%
of_teacher = torch.tensor([[3.0, 4.0]])
of_students = torch.tensor([[6.0, 8.0], [4.0, 3.0], [-3.0, -4.0]])
angle = 1 - F.cosine_similarity(of_students, of_teacher, dim=1)
plain = (of_students - of_teacher).square().mean(dim=1)
assert torch.allclose(angle, torch.tensor([0.0, 0.04, 2.0]), atol=1e-6)
assert plain[0] > 12 * plain[1]
names = ["(6, 8)", "(4, 3)", "(-3, -4)"]
both = {"student": names, "1 - cos": angle.tolist(), "plain (1)": plain.tolist()}
pd.DataFrame(both).style.format(precision=2).set_uuid("angle")

# %% [markdown]
# 0, 0.04 and 2: the cosine of (4, 3) with (3, 4) is 24/25. For the plain loss the doubled vector (6, 8) is twelve
# times worse than the turned (4, 3); for ours it is perfect. A run can show which of the two helps more.
#
# Cells where the teacher's magnitude is small have a direction too, and it is mostly noise. So weight each cell by
# the length of the teacher's vector. This needs no boxes and no temperature:
#
# $$L_{dir} = \frac{1}{N} \sum_{n=1}^{N} \sum_{i,j} w_{nij} \left(1 - \frac{F^T_{nij} \cdot f(F^S)_{nij}}
#   {\lVert F^T_{nij} \rVert\, \lVert f(F^S)_{nij} \rVert}\right)
#   \qquad w_{nij} = \frac{\lVert F^T_{nij} \rVert}{\sum_{i'j'} \lVert F^T_{ni'j'} \rVert}$$
#
# | symbol | code | shape |
# |:--|:--|:--|
# | $F^T$ | `teacher` | (N, C, H, W) |
# | $f(F^S)$ | `self.aligned(scene, level)` | (N, C, H, W) |
# | $1 - \cos$ | `angle` | (N, H, W) |
# | $w$ | `weight`, divided by its sum | (N, H, W) |
#
# ## 2 · The file
#
# A method is a subclass of [`PyramidLoss`](../fgdlab/pyramid.py) with one function, `on_level`. The base class takes
# care of levels, f, float32 and the teacher's maps as constants. The function returns [`Term`](../fgdlab/terms.py)s:
# unweighted sums and their weights. No registration is needed.

# %%
# %%writefile direction.py
"""Every cell's features have the teacher's direction; their length does not matter."""
import torch.nn.functional as F

from fgdlab.pyramid import PyramidLoss, check_same_shape
from fgdlab.terms import Term


class Direction(PyramidLoss):
    """L = sum_ij w_ij (1 - cos(F^T_ij, f(F^S)_ij)), w_ij = |F^T_ij| over its sum."""

    def on_level(self, level, scene, teacher):
        student = self.aligned(scene, level)                          # (N, C, H, W)
        check_same_shape(student, teacher)
        angle = 1 - F.cosine_similarity(student, teacher, dim=1)      # (N, H, W)
        weight = teacher.norm(dim=1)                                  # (N, H, W)
        loss = (weight * angle).sum(dim=(1, 2)) / weight.sum(dim=(1, 2))
        return [Term("direction", level, loss.mean(), 1.0)]

# %%
lines = Path("direction.py").read_text().splitlines()
print(f"{sum(bool(line.strip()) for line in lines)} lines")
assert sum(bool(line.strip()) for line in lines) == 13

# %% [markdown]
# Its name in the settings of a run is `FILE.py:CLASS`. [`make_loss`](../fgdlab/lab/training/losses.py), which every
# run calls, builds it like any other method.

# %%
DIRECTION = RunConfig(method="direction.py:Direction")
loss = make_loss(DIRECTION, ("P3", "P4", "P5"), student, teacher)
scene, maps = scene_and_teacher_maps(student, teacher, *dataset[3])
[(x.name, x.level, round(x.raw.item(), 4), x.weight) for x in loss(scene, maps)]

# %% [markdown]
# A misspelt class, a missing file, a class that is not a loss: each gives one line that says what to do.

# %%
try:
    make_loss(RunConfig(method="direction.py:Directoin"), ("P3",), student, teacher)
except Exception as error:
    print(f"{type(error).__name__}: {error}")
    assert "did you mean 'Direction'" in str(error)

# %% [markdown]
# ## 3 · Five checks before training
#
# A wrong loss trains without an error, and the student may even improve. So find errors before training.
#
# **Check 1: the loss of a student equal to its teacher is 0.** The doubled teacher, which is perfect for this loss,
# must have loss 0 too.

# %%
def value(loss, F_s, F_t):
    """The loss on one pair of maps (N, C, H, W), as a tensor."""
    pixels = torch.zeros(len(F_s), 3, 8, 8)
    with_map = type(scene)(pixels, scene.boxes, scene.image_sizes, {"P3": F_s})
    (term,) = loss(with_map, {"P3": F_t})
    return term.raw


on_p3 = make_loss(DIRECTION, ("P3",), student, teacher)
F_s, F_t = scene.features["P3"], maps["P3"]
students = {"teacher": F_t, "doubled": 2 * F_t, "negated": -F_t, "student": F_s}
values = {name: value(on_p3, each, F_t).item() for name, each in students.items()}
assert abs(values["teacher"]) < 1e-5 and abs(values["doubled"]) < 1e-5
assert abs(values["negated"] - 2) < 1e-5 and 0 < values["student"] < 2
{name: round(each, 4) for name, each in values.items()}

# %% [markdown]
# **Check 2: the student gets a gradient, the teacher does not.** Use the student's own forward pass, so that the
# gradient can reach its first convolution.

# %%
image, target = dataset[3]
through = look(student, [image], [target])                            # with gradient
sum(term.weight * term.raw for term in loss(through, maps)).backward()
first = next(student.backbone.parameters()).grad.norm()
assert first > 0 and all(each.grad is None for each in teacher.parameters())
print(f"gradient at the student's first convolution {first:.3g}, at the teacher none")
student.zero_grad()

# %% [markdown]
# **Check 3: the gradient is the slope.** `gradcheck` moves every number of a small map up and down in float64 and
# compares the slope with the gradient of backward. It finds a wrong `detach`, and functions with a kink.

# %%
draw, shape = torch.Generator().manual_seed(0), (2, 48, 2, 3)
small_s, small_t = torch.randn(2, *shape, generator=draw, dtype=torch.float64)
small_s.requires_grad_()
torch.autograd.gradcheck(lambda each: value(on_p3, each, small_t), small_s)

# %% [markdown]
# **Check 4: a slow implementation agrees.** Loops over images and cells, written from the equation and not from the
# file.

# %%
def by_loops(F_s, F_t):
    total = 0.0
    for s, t in zip(F_s, F_t, strict=True):                           # one image
        of_image, lengths = 0.0, 0.0
        for i in range(s.shape[1]):
            for j in range(s.shape[2]):
                u, v = s[:, i, j], t[:, i, j]
                length = v.dot(v).sqrt()
                of_image += length * (1 - u.dot(v) / (u.dot(u).sqrt() * length))
                lengths += length
        total += of_image / lengths
    return total / len(F_s)


slow, fast = by_loops(small_s, small_t).item(), value(on_p3, small_s, small_t).item()
assert abs(slow / fast - 1) < 1e-10
print(f"{slow:.12f}\n{fast:.12f}")

# %% [markdown]
# **Check 5: the checks can fail.** A check that finds no error is useless. Here is the file with one error: weights
# that sum to 1 over the *batch* and not over each image.
#
# **Predict.** Which of the checks 1, 3 and 4 finds it?

# %%
text = Path("direction.py").read_text()
text = text.replace("weight.sum(dim=(1, 2))", "weight.sum()")
Path("wrong.py").write_text(text.replace("loss.mean()", "loss.sum()"))
wrong = make_loss(RunConfig(method="wrong.py:Direction"), ("P3",), student, teacher)
times = torch.tensor([1.0, 3.0])[:, None, None, None]                 # images differ
uneven = small_t * times
passes = {
    "1 identical maps": abs(value(wrong, uneven, uneven)) < 1e-5,
    "3 gradcheck": torch.autograd.gradcheck(lambda x: value(wrong, x, uneven), small_s),
    "4 loops": torch.isclose(by_loops(small_s, uneven), value(wrong, small_s, uneven)),
}
assert [bool(each) for each in passes.values()] == [True, True, False]
{name: "passes" if each else "fails" for name, each in passes.items()}

# %% [markdown]
# Only the loops: many wrong losses are 0 for equal maps and have a correct gradient. And the loops find it only if
# the images differ in magnitude; symmetric test data hide errors.
#
# **Which cells does it weight?** The effective weight of notebook 08, compared with plain imitation and PKD.

# %%
methods = {"hint": RunConfig(method="hint"), "direction": DIRECTION,
           "pkd": RunConfig(method="pkd")}
by_method = gradient_maps(student, teacher, dataset, 3, methods)
gradient_maps_figure(by_method, student, dataset, 3, "P3", columns=3)

# %% [markdown]
# *Figure 1.* Effective weight and gradient of three losses on P3 of one scene, each map divided by its own mean; the
# colours end at 0.1 and 10. Check: the effective weight of hint has one colour, and direction has a gradient at every
# cell. But is its gradient large on the digits, as $w$ was meant to do?

# %%
inside = focal_masks(scene.boxes, scene.frame_sizes(), (16, 16), rounding="exact")
inside = inside.binary[0]
length, gradient = F_t.norm(dim=1)[0], by_method["direction"].gradient["P3"]
parts = {"cells": inside * 0 + 1, "weight w": length, "gradient": gradient}
parts = {name: ((x * inside).sum() / x.sum()).item() for name, x in parts.items()}
assert gradient.min() > 0 and parts["weight w"] > parts["gradient"]
{name: f"{each:.0%} in the box" for name, each in parts.items()}

# %% [markdown]
# It is smaller there than $w$. A cell's gradient is its weight times the sine of the angle, **divided by the length of
# the student's vector**, because a long vector turns slowly. Cells with long vectors in the student, such as digits,
# get a smaller gradient than $w$ alone suggests. The loss is the one that we wrote, but it is not what we meant.
# Exercise 2 repairs it; here we go on with the loss as it is.
#
# ## 4 · One row of a table
#
# A table is a YAML file: a question, rows, seeds. Ours has three rows. The settings in `base` hold for all of them: a
# small scale, so that six runs end while you wait, and `loss_ratio: 2`, which brings each distillation loss to twice
# the task loss, measured over the first steps. Without it the table would mostly compare loss sizes. The row of our
# loss is one line.

# %%
# %%writefile mine.yaml
title: Direction against FGD's areas, at a small scale
question: Does the direction of a cell's features teach as much as FGD's feature term?
tuning: none; every distillation loss starts at twice the task loss
baseline: none
contrasts: [[mine, split]]
seeds: [0, 1]
base: {train_images: 1000, eval_images: 100, epochs: 2, rounding: exact, loss_ratio: 2}
rows:
  none: {label: no distillation, set: {method: none}}
  split: {label: "FGD, both areas, split", set: {method: fgd, gamma: 0, lambda_: 0}}
  mine: {label: direction of each cell, set: {method: "direction.py:Direction"}}
scales:
  smoke: {seeds: [0], base: {train_images: 48, eval_images: 16, epochs: 1}}

# %%
scale = "smoke" if QUICK else "laptop"
sweep = load_sweep("mine.yaml").at(scale)
overrides = {"teacher_checkpoint": str(pretrained_file("teacher"))}
overrides = {} if QUICK else overrides
runs = plan(sweep, folder / "runs", scale=scale, overrides=overrides)
columns = ("method", "train_images", "loss_ratio")
pd.DataFrame([[run.row, run.seed, *(getattr(run.config, x) for x in columns)]
              for run in runs], columns=["row", "seed", *columns])

# %% [markdown]
# [`plan`](../fgdlab/lab/sweeps/planning.py) turns rows and seeds into runs. `teacher_checkpoint` names the teacher of
# the project explicitly, because a teacher belongs to its training images, and with 1000 of them a new one would be
# trained first. A run's id is a hash that includes its settings and the file of a custom loss: change a line of
# `direction.py`, and only its runs are repeated.
#
# **Predict.** Six runs at this small scale. Will the distilled rows be above the baseline, and will two seeds be
# enough to separate `mine` from `split`?

# %%
prepare(runs[1].config, progress=False)        # images, teacher, maps: once for all
states = execute(runs, jobs=JOBS, say=lambda line: None)
assert len(states["done"]) == len(runs)
frame = collect(runs, sweep)
by_seed = frame.pivot(index="row", columns="seed", values="AP").loc[list(sweep.rows)]
by_seed.style.format("{:.2f}").set_uuid("runs").set_caption("AP of each run")

# %% [markdown]
# On the command line the same is `fgdlab sweep mine.yaml --set teacher_checkpoint=FILE`; if it is stopped, it
# resumes. Each run is a process with its own folder: settings, log, the text of the loss, its detections.

# %%
mine = next(run for run in runs if run.row == "mine")
assert (mine.folder / "method.py").read_text() == Path("direction.py").read_text()
suffixes = {".json", ".jsonl", ".py", ".ipynb", ".safetensors"}
sorted(path.name for path in mine.folder.iterdir() if path.suffix in suffixes)

# %% [markdown]
# ## 5 · Reading the table

# %%
Markdown(render(frame, sweep, "markdown"))

# %%
show(table_figure(frame, sweep))

# %% [markdown]
# *Figure 2.* Every run is a point: on the left its AP, on the right its difference to the baseline run of the same
# seed, with t-intervals. Check: two points per row, and intervals far wider than the distance between the points,
# because they are computed from two values.
#
# **Predict.** With n seeds the interval's half-width is $t_{0.975;\,n-1}\, s / \sqrt{n}$. How many standard
# deviations s is that for n = 2, and for n = 3?

# %%
widths = {n: estimate(range(n)) for n in (2, 3, 5, 10)}
widths = {n: (each.high - each.mean) / each.std for n, each in widths.items()}
assert round(widths[2], 2) == 8.98 and round(widths[3], 2) == 2.48
halves = pd.Series(widths, name="half-width in s").to_frame().T
halves.style.format("{:.2f}").set_uuid("widths")

# %% [markdown]
# 8.98 against 2.48: the third seed narrows the interval more than any later one.
#
# ## The answer of the runs
#
# Did the idea help? The six runs in numbers:

# %%
words = []
for row, against in [("split", "none"), ("mine", "none"), ("mine", "split")]:
    d = estimate(seed_differences(frame, row, against, "AP"))
    verdict = "excludes 0" if d.low > 0 or d.high < 0 else "includes 0"
    verdict = verdict if d.n > 1 else "is not an interval"
    what = f"{sweep.rows[row].label} minus {sweep.rows[against].label}"
    words.append(f"- {what}: {d.mean:+.1f} AP [{d.low:+.1f}, {d.high:+.1f}], which "
                 f"{verdict} ({d.n} seeds).")
whole = Answer("table1_areas").runs.groupby("row")["AP"].mean()
fraction = (by_seed.mean(axis=1) / whole).dropna()
assert list(fraction.index) == ["none", "split"]
assert QUICK or fraction.between(0.25, 0.35).all()
Markdown("\n".join(words))

# %% [markdown]
# **What this table does not show**, whatever its result:
#
# - *Few seeds.* Two differences have the same sign by chance in one case of two. And two values hardly determine s:
#   an interval of two seeds is mostly useless, and a narrow one is narrow by chance.
# - *Small scale.* About half of the images of the laptop scale and a quarter of its epochs: the students reach about
#   30 % of the AP of Table 1. A loss that helps early need not help at the end, and vice versa.
# - *One loss ratio.* Twice the task loss may suit one method and not the other. A fair table tunes each on the
#   **tune** split with the same small budget, as `ablations/sweeps/methods.yaml` says.
# - *One teacher, one data set.* The interval covers the seed of the student's training and nothing else.
# - *100 images for evaluation.* AP depends on the images too; all rows use the same ones, so differences suffer less
#   than single values.
# - *Selection.* If you test ten ideas, the best of ten tables looks good by chance. Report how many you tested.
#
# For a better answer: `fgdlab sweep mine.yaml --seeds 0,1,2,3,4 --set train_images=1800 --set epochs=8 --set
# eval_images=400`, which is the laptop scale of this project's tables. All runs are new then,
# because their settings are others.
#
# ## Exercises
#
# Solutions are at the end of the notebook.
#
# **Exercise 1** (easy, 5 minutes) What gradcheck does for one number: `slope(function, values, index, step)` by
# central differences. `values` is a tensor (n,) that must not be changed.

# %%
def slope(function, values, index, step):
    raise NotImplementedError


check.slope(slope)

# %% [markdown]
# **Exercise 2** (medium, 15 minutes, an experiment) Repair the loss: let the weight of a cell be the product of both
# lengths, divided by its sum over the cells of each image, and treat it as a **constant** for the gradient. Maps (N, C,
# H, W) in, a scalar out, the mean over images. Predict first: is the fraction of the gradient in the boxes larger than
# before?

# %%
def weighted_by_both(student, teacher):
    raise NotImplementedError


check.weighted_by_both(weighted_by_both)

# %% [markdown]
# **Exercise 3** (hard, 25 minutes, an experiment) Write the test. `passes(loss)` gets a function of two maps (N, C, H,
# W) that claims to be $L_{dir}$, and returns whether it is. The checker gives it a right loss, which may return float32
# or float64, and wrong ones. Predict before you run it: which wrong loss will be hardest to find?

# %%
def passes(loss):
    raise NotImplementedError


check.passes(passes)

# %% [markdown]
# ## Recap
#
# - A loss is one class with one function; a run names it as `FILE.py:CLASS`.
# - Check it: equal maps, gradient, gradcheck, loops; make one deliberate error to see that the checks can fail; then
#   look at the cells that it really weights.
# - Use the same detectors, data, schedule and loss ratio for every row; and enough seeds before you compare AP.
#
# Next: [10 Full scale](10_full_scale.ipynb).
#
# ## Solutions
#
# Unfold the cells.

# %% jupyter={"source_hidden": true} tags=["solution"]
def slope_solution(function, values, index, step):
    up, down = values.clone(), values.clone()
    up[index] += step
    down[index] -= step
    return (function(up) - function(down)) / (2 * step)


assert check.slope(slope_solution).right

# %% jupyter={"source_hidden": true} tags=["solution"]
def weighted_by_both_solution(student, teacher):
    weight = (student.norm(dim=1) * teacher.norm(dim=1)).detach()     # (N, H, W)
    weight = weight / weight.sum(dim=(1, 2), keepdim=True)
    angle = 1 - F.cosine_similarity(student, teacher, dim=1)
    return (weight * angle).sum(dim=(1, 2)).mean()


assert check.weighted_by_both(weighted_by_both_solution).right
own = F_s.clone().requires_grad_()
cells = torch.autograd.grad(weighted_by_both_solution(own, F_t), own)[0].norm(dim=1)[0]
repaired = ((cells * inside).sum() / cells.sum()).item()
assert repaired > parts["gradient"]
print(f"in the box: {parts['gradient']:.0%} before, {repaired:.0%} after")

# %% jupyter={"source_hidden": true} tags=["solution"]
def passes_solution(loss):
    draw = torch.Generator().manual_seed(1)
    s, t = torch.randn(2, 3, 4, 2, 5, generator=draw)
    t = t * torch.tensor([1.0, 3.0, 9.0])[:, None, None, None]        # uneven images
    t[:, :, 0] *= 4                                                   # and uneven cells
    return bool(torch.isclose(loss(s, t).float(), by_loops(s, t), rtol=1e-4))


assert check.passes(passes_solution).right

def on_48_channels(loss):
    return lambda s, t: value(loss, s.repeat(1, 12, 1, 1), t.repeat(1, 12, 1, 1))

assert passes_solution(on_48_channels(on_p3))
assert not passes_solution(on_48_channels(wrong))
