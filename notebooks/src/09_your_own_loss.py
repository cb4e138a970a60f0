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

from fgdlab import look
from fgdlab.lab.config import RunConfig
from fgdlab.lab.datasets import open_split
from fgdlab.lab.course.exercises import custom_loss as check
from fgdlab.lab.explorer import gradient_maps_figure, gradient_maps
from fgdlab.lab.training import make_loss
from fgdlab.lab.run import prepare
from fgdlab.lab.course import pretrained_detector, pretrained_file
from fgdlab.lab.stats import estimate, seed_differences
from fgdlab.lab.sweeps import collect, execute, plan
from fgdlab.lab.sweeps import load_sweep
from fgdlab.lab.tables import render
from fgdlab.lab.plots import scene_and_teacher_maps, show

# %% tags=["parameters"]
QUICK = False
FOLDER_OF_MINE = ""  # folder of your file and its runs; "" = a temporary folder, deleted when the kernel ends
JOBS = 2             # runs at a time

# %%
temporary = tempfile.TemporaryDirectory(prefix="own_loss_", ignore_cleanup_errors=True)
folder = Path(FOLDER_OF_MINE or temporary.name)
folder.mkdir(parents=True, exist_ok=True)
os.chdir(folder)
dataset = open_split(RunConfig(train_images=64, eval_images=64), "val", progress=False)
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
of_teacher, of_students = torch.tensor([[3.0, 4.0]]), torch.tensor([[6.0, 8.0], [4.0, 3.0], [-3.0, -4.0]])
angle = 1 - F.cosine_similarity(of_students, of_teacher, dim=1)
plain = (of_students - of_teacher).square().mean(dim=1)
assert torch.allclose(angle, torch.tensor([0.0, 0.04, 2.0]), atol=1e-6) and plain[0] > 12 * plain[1]
names = ["(6, 8)", "(4, 3)", "(-3, -4)"]
both = pd.DataFrame({"student": names, "1 - cos": angle.tolist(), "plain (1)": plain.tolist()})
both.style.format(precision=2).set_uuid("angle")

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
"""The feature vector of every cell has the direction of the teacher's; its length does not matter."""
import torch.nn.functional as F

from fgdlab.pyramid import PyramidLoss, check_same_shape
from fgdlab.terms import Term


class Direction(PyramidLoss):
    """L = sum_ij w_ij (1 - cos(F^T_ij, f(F^S)_ij)), w_ij = |F^T_ij| over its sum; the mean over images."""

    def on_level(self, level, scene, teacher):
        student = self.aligned(scene, level)                          # (N, C, H, W)
        check_same_shape(student, teacher)
        angle = 1 - F.cosine_similarity(student, teacher, dim=1)      # (N, H, W), 0 to 2
        weight = teacher.norm(dim=1)                                  # (N, H, W), long vectors weigh more
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
[(term.name, term.level, round(term.raw.item(), 4), term.weight) for term in loss(scene, maps)]

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
    student_scene = type(scene)(torch.zeros(len(F_s), 3, 8, 8), scene.boxes, scene.image_sizes, {"P3": F_s})
    (term,) = loss(student_scene, {"P3": F_t})
    return term.raw


on_p3 = make_loss(DIRECTION, ("P3",), student, teacher)
F_s, F_t = scene.features["P3"], maps["P3"]
students = {"teacher": F_t, "doubled": 2 * F_t, "negated": -F_t, "student": F_s}
values = {name: value(on_p3, each, F_t) for name, each in students.items()}
{name: round(each.item(), 4) for name, each in values.items()}

# %%
assert abs(values["teacher"]) < 1e-5 and abs(values["doubled"]) < 1e-5 and abs(values["negated"] - 2) < 1e-5
assert 0 < values["student"] < 2

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
draw = torch.Generator().manual_seed(0)
small_s, small_t = (torch.randn(2, 48, 2, 3, generator=draw, dtype=torch.float64) for _ in range(2))
torch.autograd.gradcheck(lambda each: value(on_p3, each, small_t), small_s.requires_grad_())

# %% [markdown]
# **Check 4: a slow implementation agrees.** Loops over images and cells, written from the equation and not from the
# file.

# %%
def by_loops(F_s, F_t):
    total = 0.0
    for s, t in zip(F_s, F_t, strict=True):                           # one image: (C, H, W)
        cells = [(s[:, i, j], t[:, i, j]) for i in range(s.shape[1]) for j in range(s.shape[2])]
        lengths = [v.dot(v).sqrt() for _, v in cells]
        angles = [1 - u.dot(v) / (u.dot(u).sqrt() * w) for w, (u, v) in zip(lengths, cells, strict=True)]
        total += sum(w * angle for w, angle in zip(lengths, angles, strict=True)) / sum(lengths)
    return total / len(F_s)


slow, fast = by_loops(small_s.detach(), small_t), value(on_p3, small_s.detach(), small_t)
assert torch.isclose(slow, fast, rtol=1e-10)
print(f"{slow:.12f}\n{fast:.12f}")

# %% [markdown]
# **Check 5: the checks can fail.** A check that finds no error is useless. Here is the file with one error: weights
# that sum to 1 over the *batch* and not over each image.
#
# **Predict.** Which of the checks 1, 3 and 4 finds it?

# %%
text = Path("direction.py").read_text()
text = text.replace("weight.sum(dim=(1, 2))", "weight.sum()").replace("loss.mean()", "loss.sum()")
Path("wrong.py").write_text(text)
wrong = make_loss(RunConfig(method="wrong.py:Direction"), ("P3",), student, teacher)
uneven = small_t * torch.tensor([1.0, 3.0])[:, None, None, None]      # the second image has three times the magnitude
passes = {
    "1 identical maps": abs(value(wrong, uneven, uneven)) < 1e-5,
    "3 gradcheck": torch.autograd.gradcheck(lambda each: value(wrong, each, uneven), small_s),
    "4 loops": torch.isclose(by_loops(small_s.detach(), uneven), value(wrong, small_s.detach(), uneven)),
}
assert [bool(each) for each in passes.values()] == [True, True, False]
{name: "passes" if each else "fails" for name, each in passes.items()}

# %% [markdown]
# Only the loops: many wrong losses are 0 for equal maps and have a correct gradient. And the loops find it only if
# the images differ in magnitude; symmetric test data hide errors.
#
# **Which cells does it weight?** The effective weight of notebook 08, compared with plain imitation and PKD.

# %%
methods = {"hint": RunConfig(method="hint"), "direction": DIRECTION, "pkd": RunConfig(method="pkd")}
by_method = gradient_maps(student, teacher, dataset, 3, methods)
gradient_maps_figure(by_method, student, dataset, 3, "P3")

# %% [markdown]
# *Figure 1.* Effective weight and gradient of three losses on P3 of one scene, each map divided by its own mean.
# Check: the effective weight of hint has one colour. The smallest and largest value in the titles show how uneven a
# method is: direction uses no boxes and has a gradient nearly everywhere. A cell's gradient is its weight times the
# sine of the angle, divided by the length of the student's vector. So cells with long vectors in the student, such as
# the digit, get a smaller gradient than the weight $w$ alone suggests.

# %%
gradient = by_method["direction"].gradient["P3"]
ratio = (gradient.max() / gradient.mean()).item()
assert gradient.min() > 0
print(f"the largest gradient is {ratio:.1f} times the average")

# %% [markdown]
# ## 4 · One row of a table
#
# A table is a YAML file: a question, rows, seeds. Ours has three rows. The settings in `base` hold for all of them: a
# small scale, so that six runs end while you wait, and `loss_ratio: 2`, which brings each distillation loss to twice
# the task loss, measured over the first steps. Without it the table would mostly compare loss sizes. The row of our
# loss is one line.

# %%
# %%writefile mine.yaml
title: Direction against FGD's areas, at a small scale
question: Does the direction of a cell's features teach as much as FGD's split feature term?
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
overrides = {} if QUICK else {"teacher_checkpoint": str(pretrained_file("teacher"))}
runs = plan(sweep, folder / "runs", scale=scale, overrides=overrides)
settings = ("method", "train_images", "loss_ratio")
pd.DataFrame([
    {"row": run.row, "seed": run.seed, **{name: getattr(run.config, name) for name in settings}} for run in runs
])

# %% [markdown]
# [`plan`](../fgdlab/lab/sweeps/planning.py) turns rows and seeds into runs. `teacher_checkpoint` names the teacher of
# the project explicitly, because a teacher belongs to its training images, and with 1000 of them a new one would be
# trained first. A run's id is a hash that includes its settings and the file of a custom loss: change a line of
# `direction.py`, and only its runs are repeated.
#
# **Predict.** Six runs at this small scale. Will the distilled rows be above the baseline, and will two seeds be
# enough to separate `mine` from `split`?

# %%
prepare(runs[1].config, progress=False)                               # images, teacher and its maps, once for all runs
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
from fgdlab.lab.tables import table_figure

show(table_figure(frame, sweep))

# %% [markdown]
# *Figure 2.* Every run is a point: on the left its AP, on the right its difference to the baseline run of the same
# seed, with t-intervals. Check: two points per row, and intervals far wider than the distance between the points,
# because they are computed from two values.
#
# **Predict.** With n seeds the interval's half-width is $t_{0.975;\,n-1}\, s / \sqrt{n}$. How many standard
# deviations s is that for n = 2, and for n = 3?

# %%
widths = {n: (estimate(range(n)).high - estimate(range(n)).mean) / estimate(range(n)).std for n in (2, 3, 5, 10)}
assert round(widths[2], 2) == 8.98 and round(widths[3], 2) == 2.48
pd.Series(widths, name="half-width in s").to_frame().T.style.format("{:.2f}").set_uuid("widths")

# %% [markdown]
# 8.98 against 2.48: the third seed narrows the interval more than any later one. The result of the six runs in
# numbers:

# %%
words = []
for row, against in [("split", "none"), ("mine", "none"), ("mine", "split")]:
    d = estimate(seed_differences(frame, row, against, "AP"))
    verdict = "excludes 0" if d.low > 0 or d.high < 0 else "includes 0" if d.n > 1 else "is not an interval"
    what = f"{sweep.rows[row].label} minus {sweep.rows[against].label}"
    words.append(f"- {what}: {d.mean:+.1f} AP [{d.low:+.1f}, {d.high:+.1f}] over {d.n} seeds, which {verdict}.")
Markdown("\n".join(words))

# %% [markdown]
# **What this table does not show**, whatever its result:
#
# - *Few seeds.* Two differences have the same sign by chance in one case of two. And two values hardly determine s:
#   an interval of two seeds is mostly useless, and a narrow one is narrow by chance.
# - *Small scale.* Less than a third of the images of the laptop scale, and a student far from converged: the AP is
#   near the floor. A loss that helps early need not help at the end, and vice versa.
# - *One loss ratio.* Twice the task loss may suit one method and not the other. A fair table tunes each on the
#   **tune** split with the same small budget, as `ablations/sweeps/methods.yaml` says.
# - *One teacher, one data set.* The interval covers the seed of the student's training and nothing else.
# - *100 images for evaluation.* AP depends on the images too; all rows use the same ones, so differences suffer less
#   than single values.
# - *Selection.* If you test ten ideas, the best of ten tables looks good by chance. Report how many you tested.
#
# For a better answer: `fgdlab sweep mine.yaml --seeds 0,1,2,3,4 --set train_images=3600 --set eval_images=400`, which
# is the laptop scale of this project's tables. Only runs whose settings changed are executed.
#
# ## Exercises
#
# **Exercise 1** (easy, 5 minutes) What gradcheck does for one number: `slope(function, values, index, step)` by
# central differences. `values` is a tensor (n,) that must not be changed.

# %%
def slope(function, values, index, step):
    raise NotImplementedError


check.slope(slope)

# %% [markdown]
# Solution (unfold the cell below)

# %% jupyter={"source_hidden": true} tags=["solution"]
def slope_solution(function, values, index, step):
    up, down = values.clone(), values.clone()
    up[index] += step
    down[index] -= step
    return (function(up) - function(down)) / (2 * step)


assert check.slope(slope_solution).right

# %% [markdown]
# **Exercise 2** (medium, 10 minutes) The part that Direction ignores: `length_loss(student, teacher)`, the mean over
# images of $\sum_{ij} w_{ij} \left| \log \left( \lVert F^S_{ij} \rVert / \lVert F^T_{ij} \rVert \right) \right|$ with
# the same $w$. Maps (N, C, H, W) in, a scalar out.

# %%
def length_loss(student, teacher):
    raise NotImplementedError


check.length_loss(length_loss)

# %% [markdown]
# Solution (unfold the cell below)

# %% jupyter={"source_hidden": true} tags=["solution"]
def length_loss_solution(student, teacher):
    s, t = student.norm(dim=1), teacher.norm(dim=1)                   # (N, H, W)
    weight = t / t.sum(dim=(1, 2), keepdim=True)
    return (weight * (s / t).log().abs()).sum(dim=(1, 2)).mean()


assert check.length_loss(length_loss_solution).right
assert length_loss_solution(2 * F_t, F_t) > 0.69                      # log 2
assert value(on_p3, 2 * F_t, F_t) < 1e-5                              # Direction ignores the length

# %% [markdown]
# **Exercise 3** (easy, 5 minutes) Write the row: `yaml_row(name, file, cls, loss_ratio)` returns the text under
# `rows:` for a class of a file, at a ratio to the task loss.

# %%
def yaml_row(name, file, cls, loss_ratio):
    raise NotImplementedError


check.yaml_row(yaml_row)

# %% [markdown]
# Solution (unfold the cell below)

# %% jupyter={"source_hidden": true} tags=["solution"]
def yaml_row_solution(name, file, cls, loss_ratio):
    return f'{name}: {{label: {cls}, set: {{method: "{file}:{cls}", loss_ratio: {loss_ratio}}}}}'


assert check.yaml_row(yaml_row_solution).right

# %% [markdown]
# ## Summary
#
# - A loss is one class with one function; a run names it as `FILE.py:CLASS`.
# - Check it: equal maps, gradient, gradcheck, loops; and one deliberate error to see that the checks can fail.
# - Use the same detectors, data, schedule and loss ratio for every row; and enough seeds before you compare AP.
#
# Next: [10 Full scale](10_full_scale.ipynb).

