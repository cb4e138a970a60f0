# %% [markdown]
# # 09 · Your own loss
#
# **Question** You have an idea for a distillation loss. How does it become a file, how do you know that it computes what you meant, and how does it become a row of a table that may be believed?
#
# **Equations** one of our own; of the paper's, 1 (the plain feature loss) as what it has to beat
#
# **Code** [`PyramidLoss`](../fgdlab/pyramid.py), [`custom_loss_class`](../fgdlab/lab/training/custom_loss.py), [`make_loss`](../fgdlab/lab/training/losses.py), [`parse_sweep`](../fgdlab/lab/sweeps/spec.py), [`plan`](../fgdlab/lab/sweeps/planning.py), [`execute`](../fgdlab/lab/sweeps/execution.py), [`collect`](../fgdlab/lab/sweeps/collection.py), [`render`](../fgdlab/lab/tables/numbers.py)
#
# **Needs** notebooks 04, 06 and 07; 08 for the pull of a cell
#
# **Cost** about four minutes on 2 cores, most of it six small trainings; 1.0 GB of memory, no download
#
# **You will** write a loss in thirteen lines, check it in five ways, run it beside no distillation and FGD with two seeds each, and say what the table does not show

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
FOLDER_OF_MINE = ""  # where your file and its runs are kept; "" = a temporary folder, gone when the kernel ends
JOBS = 2             # runs side by side

# %%
temporary = tempfile.TemporaryDirectory(prefix="own_loss_", ignore_cleanup_errors=True)
folder = Path(FOLDER_OF_MINE or temporary.name)
folder.mkdir(parents=True, exist_ok=True)
os.chdir(folder)
scenes = open_split(RunConfig(train_images=64, eval_images=64), "val", progress=False)
teacher, student = pretrained_detector("teacher"), pretrained_detector("baseline")

# %% [markdown]
# From here on the notebook works in a folder of its own, as you would for a project: one file with a loss, one with a table, and the runs.
#
# ## 1 · The idea
#
# Plain imitation (1) asks for the teacher's numbers:
#
# $$L_{fea} = \frac{1}{CHW} \sum_{k,i,j} \left(F^T_{k,i,j} - f(F^S_{k,i,j})\right)^2 \tag{1}$$
#
# (code: [`RelationTerm`](../fgdlab/relation.py) with `kind="mse"`). But a cell's 48 numbers are a vector, and what a cell *is* may lie in where the vector **points**, not in how long it is: a head can rescale. So compare directions, by the cosine.
#
# Smallest example: a cell of two channels. The teacher has (3, 4), of length 5.
#
# **Predict.** 1 - cos for three students: (6, 8), (4, 3), (-3, -4).

# %%
of_teacher, of_students = torch.tensor([[3.0, 4.0]]), torch.tensor([[6.0, 8.0], [4.0, 3.0], [-3.0, -4.0]])
angle = 1 - F.cosine_similarity(of_students, of_teacher, dim=1)
plain = (of_students - of_teacher).square().mean(dim=1)
assert torch.allclose(angle, torch.tensor([0.0, 0.04, 2.0]), atol=1e-6) and plain[0] > 12 * plain[1]
both = pd.DataFrame({"student": ["(6, 8)", "(4, 3)", "(-3, -4)"], "1 - cos": angle.tolist(), "plain (1)": plain.tolist()})
both.style.format(precision=2).set_uuid("angle")

# %% [markdown]
# 0, 0.04 and 2: the cosine of (4, 3) with (3, 4) is 24/25. The plain loss finds the doubled vector (6, 8) twelve times worse than the turned (4, 3); ours finds it perfect. Which of the two is right is no question of taste: it
# can be run.
#
# Cells in which the teacher has little to say have a direction, too, and it is noise. So weigh by the teacher's length, which needs no boxes and no temperature:
#
# $$L_{dir} = \frac{1}{N} \sum_{n=1}^{N} \sum_{i,j} w_{nij} \left(1 - \frac{F^T_{nij} \cdot f(F^S)_{nij}}{\lVert F^T_{nij} \rVert\, \lVert f(F^S)_{nij} \rVert}\right)
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
# A method is a class on [`PyramidLoss`](../fgdlab/pyramid.py) with one function, `on_level`; levels, f, float32 and the constant teacher are taken care of. It returns [`Term`](../fgdlab/terms.py)s: unweighted sums beside their
# weights. Nothing is registered anywhere.

# %%
# %%writefile direction.py
"""Every cell's feature vector points where the teacher's points; how long it is does not matter."""
import torch.nn.functional as F

from fgdlab.pyramid import PyramidLoss, check_same_shape
from fgdlab.terms import Term


class Direction(PyramidLoss):
    """L = sum_ij w_ij (1 - cos(F^T_ij, f(F^S)_ij)), w_ij = |F^T_ij| over its sum; the mean over images."""

    def on_level(self, level, scene, teacher):
        student = self.aligned(scene, level)                          # (N, C, H, W)
        check_same_shape(student, teacher)
        angle = 1 - F.cosine_similarity(student, teacher, dim=1)      # (N, H, W), 0 to 2
        weight = teacher.norm(dim=1)                                  # (N, H, W), the teacher's loud cells count more
        loss = (weight * angle).sum(dim=(1, 2)) / weight.sum(dim=(1, 2))
        return [Term("direction", level, loss.mean(), 1.0)]

# %%
lines = Path("direction.py").read_text().splitlines()
print(f"{sum(bool(line.strip()) for line in lines)} lines")
assert sum(bool(line.strip()) for line in lines) == 13

# %% [markdown]
# Its name in a run's settings is `FILE.py:CLASS`. [`make_loss`](../fgdlab/lab/training/losses.py), which every run calls, builds it like any other method.

# %%
DIRECTION = RunConfig(method="direction.py:Direction")
loss = make_loss(DIRECTION, ("P3", "P4", "P5"), student, teacher)
scene, maps = scene_and_teacher_maps(student, teacher, *scenes[3])
[(term.name, term.level, round(term.raw.item(), 4), term.weight) for term in loss(scene, maps)]

# %% [markdown]
# A misspelt class, a file that is not there, a class that is no loss: each is one line that says what to do.

# %%
try:
    make_loss(RunConfig(method="direction.py:Directoin"), ("P3",), student, teacher)
except Exception as error:
    print(f"{type(error).__name__}: {error}")
    assert "did you mean 'Direction'" in str(error)

# %% [markdown]
# ## 3 · Five checks before it costs anything
#
# A wrong loss trains without an error; the student even improves. So it must be caught here.
#
# **Check 1: a student that has arrived has no loss.** And the one that the idea calls perfect, the doubled teacher, has none either.

# %%
def value(of, F_s, F_t):
    """The loss on one pair of maps (N, C, H, W), as a tensor."""
    (term,) = of(type(scene)(torch.zeros(len(F_s), 3, 8, 8), scene.boxes, scene.image_sizes, {"P3": F_s}), {"P3": F_t})
    return term.raw


on_p3 = make_loss(DIRECTION, ("P3",), student, teacher)
F_s, F_t = scene.features["P3"], maps["P3"]
tried = {"teacher": F_t, "doubled": 2 * F_t, "negated": -F_t, "student": F_s}
found = {name: value(on_p3, each, F_t) for name, each in tried.items()}
{name: round(each.item(), 4) for name, each in found.items()}

# %%
assert abs(found["teacher"]) < 1e-5 and abs(found["doubled"]) < 1e-5 and abs(found["negated"] - 2) < 1e-5
assert 0 < found["student"] < 2

# %% [markdown]
# **Check 2: the gradient reaches the student and stops at the teacher.** Run the student's own forward, so that the way down to its first convolution is there.

# %%
image, target = scenes[3]
through = look(student, [image], [target])                            # with gradient, unlike `seen`
sum(term.weight * term.raw for term in loss(through, maps)).backward()
first = next(student.backbone.parameters()).grad.norm()
assert first > 0 and all(each.grad is None for each in teacher.parameters())
print(f"gradient at the student's first convolution {first:.3g}, at the teacher none")
student.zero_grad()

# %% [markdown]
# **Check 3: the gradient is the slope.** `gradcheck` moves every number of a small map up and down in float64 and compares the slope with what backward says. It finds a `detach` too many, and functions with a kink.

# %%
draw = torch.Generator().manual_seed(0)
small_s, small_t = (torch.randn(2, 48, 2, 3, generator=draw, dtype=torch.float64) for _ in range(2))
torch.autograd.gradcheck(lambda each: value(on_p3, each, small_t), small_s.requires_grad_())

# %% [markdown]
# **Check 4: a slow version agrees.** Loops over images and cells, written from the equation and not from the file.

# %%
def by_loops(F_s, F_t):
    total = 0.0
    for s, t in zip(F_s, F_t, strict=True):                           # an image: (C, H, W)
        cells = [(s[:, i, j], t[:, i, j]) for i in range(s.shape[1]) for j in range(s.shape[2])]
        lengths = [v.dot(v).sqrt() for _, v in cells]
        total += sum(w * (1 - u.dot(v) / (u.dot(u).sqrt() * w)) for w, (u, v) in zip(lengths, cells, strict=True)) / sum(lengths)
    return total / len(F_s)


slow, fast = by_loops(small_s.detach(), small_t), value(on_p3, small_s.detach(), small_t)
assert torch.isclose(slow, fast, rtol=1e-10)
print(f"{slow:.12f}\n{fast:.12f}")

# %% [markdown]
# **Check 5: the checks can fail.** A check that no mistake could fail checks nothing. Here is the file with one slip, weights that sum to 1 over the *batch* and not over each image.
#
# **Predict.** Which of the checks 1, 3 and 4 finds it?

# %%
slip = Path("direction.py").read_text().replace("weight.sum(dim=(1, 2))", "weight.sum()").replace("loss.mean()", "loss.sum()")
Path("slip.py").write_text(slip)
wrong = make_loss(RunConfig(method="slip.py:Direction"), ("P3",), student, teacher)
uneven = small_t * torch.tensor([1.0, 3.0])[:, None, None, None]      # the second image is three times as loud
passes = {
    "1 identical maps": abs(value(wrong, uneven, uneven)) < 1e-5,
    "3 gradcheck": torch.autograd.gradcheck(lambda each: value(wrong, each, uneven), small_s),
    "4 loops": torch.isclose(by_loops(small_s.detach(), uneven), value(wrong, small_s.detach(), uneven)),
}
assert [bool(each) for each in passes.values()] == [True, True, False]
{name: "passes" if each else "fails" for name, each in passes.items()}

# %% [markdown]
# Only the loops: 0 at the goal and a true gradient are properties of many wrong losses, too. And only with images that differ in loudness; symmetric test data hide mistakes.
#
# **Where does it look?** The pull of notebook 08, beside plain imitation and PKD.

# %%
methods = {"hint": RunConfig(method="hint"), "direction": DIRECTION, "pkd": RunConfig(method="pkd")}
glances = gradient_maps(student, teacher, scenes, 3, methods)
gradient_maps_figure(glances, student, scenes, 3, "P3")

# %% [markdown]
# *Figure 1.* Pull and gradient of three losses on P3 of one scene, each map over its own mean. Check: hint's pull is one colour. The least and largest value in the titles say how uneven a method is: direction has no boxes and
# pulls nearly everywhere, since a cell's gradient is its weight times the sine of the angle over the student's length.

# %%
ratio = (glances["direction"].gradient["P3"].max() / glances["direction"].gradient["P3"].mean()).item()
assert glances["direction"].gradient["P3"].min() > 0
print(f"the nms_top_k cell has {ratio:.1f} times the average gradient")

# %% [markdown]
# ## 4 · One row of a table
#
# A table is a YAML: a question, rows, seeds. Ours has three rows. What is said in `base` holds for all of them: a small scale, so that six runs end while you wait, and `loss_ratio: 2`, which brings each loss to twice the detector's own over the
# first steps. Without it the table would compare how loud two authors are. The row of our loss is one line.

# %%
# %%writefile mine.yaml
title: Direction against FGD's areas, at a small scale
question: Does the direction of a cell's features teach as much as FGD's split feature term?
tuning: none; every distillation starts at twice the detector's own loss
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
pd.DataFrame([{"row": run.row, "seed": run.seed, "method": run.config.method, "images": run.config.train_images, "loss_ratio": run.config.loss_ratio}
              for run in runs])

# %% [markdown]
# [`plan`](../fgdlab/lab/sweeps/planning.py) turns rows and seeds into runs. `teacher_checkpoint` is the teacher that comes with the project, said in so many words: a teacher belongs to its training images, and with 1000 of them the lab would train a new one first. A run's
# name is a hash of its settings and, for a loss of your own, of the file: change a line of `direction.py`, and its runs, no others, run anew.
#
# **Predict.** Six runs at this small scale. Will the distilled rows be above the baseline one, and will two seeds be enough to tell `mine` from `split`?

# %%
prepare(runs[1].config, progress=False)                               # images, teacher and its maps: made once, used by all
states = execute(runs, jobs=JOBS, say=lambda line: None)
assert len(states["done"]) == len(runs)
frame = collect(runs, sweep)
by_seed = frame.pivot(index="row", columns="seed", values="AP").loc[list(sweep.rows)]
by_seed.style.format("{:.2f}").set_uuid("runs").set_caption("AP of each run")

# %% [markdown]
# On the command line the same is `fgdlab sweep mine.yaml --set teacher_checkpoint=FILE`; killed, it goes on where it stopped. Each run is a process with a folder of its own: settings, log, the text of the loss, its detections.

# %%
mine = next(run for run in runs if run.row == "mine")
assert (mine.folder / "method.py").read_text() == Path("direction.py").read_text()
sorted(path.name for path in mine.folder.iterdir() if path.suffix in {".json", ".jsonl", ".py", ".ipynb", ".safetensors"})

# %% [markdown]
# ## 5 · Reading it

# %%
Markdown(render(frame, sweep, "markdown"))

# %%
from fgdlab.lab.tables import table_figure

show(table_figure(frame, sweep))

# %% [markdown]
# *Figure 2.* Every run as a point, on the left its AP, on the right its difference to the baseline run of the same seed, with t-intervals. Check: two points a row, and intervals far wider than the distance between the points,
# for two values are all they rest on.
#
# **Predict.** With n seeds the interval's half-width is $t_{0.975;\,n-1}\, s / \sqrt{n}$. How many standard deviations s is that for n = 2, and for n = 3?

# %%
widths = {n: (estimate(range(n)).high - estimate(range(n)).mean) / estimate(range(n)).std for n in (2, 3, 5, 10)}
assert round(widths[2], 2) == 8.98 and round(widths[3], 2) == 2.48
pd.Series(widths, name="half-width in s").to_frame().T.style.format("{:.2f}").set_uuid("widths")

# %% [markdown]
# 8.98 against 2.48: the third seed is worth more than any other. What the six runs say, in numbers:

# %%
words = []
for row, against in [("split", "none"), ("mine", "none"), ("mine", "split")]:
    of = estimate(seed_differences(frame, row, against, "AP"))
    verdict = "excludes 0" if of.low > 0 or of.high < 0 else "includes 0" if of.n > 1 else "is no interval at all"
    what = f"{sweep.rows[row].label} minus {sweep.rows[against].label}"
    words.append(f"- {what}: {of.mean:+.1f} AP [{of.low:+.1f}, {of.high:+.1f}] over {of.n} seeds, which {verdict}.")
Markdown("\n".join(words))

# %% [markdown]
# **What this table does not show**, whichever way it came out:
#
# - *Few seeds.* Two differences of the same sign happen by luck in one case of two. And s itself is hardly known from two values: an interval of two
#   seeds is mostly useless, and one that comes out narrow came out so by luck, too.
# - *Small scale.* Less than a third of the images of the laptop scale, and a student far from done. A loss that helps early need not help in the end, and the other way round.
# - *One share.* Twice the detector's own loss may suit one method and not the other. A fair table tunes each on the **tune** split with the same small budget, as `ablations/sweeps/methods.yaml` says.
# - *One teacher, one data set.* The interval covers the seed of the student's training and nothing else.
# - *100 images to judge.* AP moves with the images, too; the same ones judge every row, so differences suffer less than levels.
# - *You chose to look.* Of ten ideas, the best of ten tables looks good. Say how many were tried.
#
# To settle it: `fgdlab sweep mine.yaml --seeds 0,1,2,3,4 --set train_images=3600 --set eval_images=400`, which is the laptop scale of this project's tables. Only settings that changed are run.
#
# ## Exercises
#
# **Exercise 1** (easy, 5 minutes) What gradcheck does for one number: `slope(function, values, index, step)` by central differences. `values` is a tensor (n,), to be left as it was.

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
# **Exercise 2** (medium, 10 minutes) What Direction leaves out: `length_loss(student, teacher)`, the mean over images of $\sum_{ij} w_{ij} \left| \log \left( \lVert F^S_{ij} \rVert / \lVert F^T_{ij} \rVert \right) \right|$ with the
# same $w$. Maps (N, C, H, W) in, a scalar out.

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
assert length_loss_solution(2 * F_t, F_t) > 0.69 and value(on_p3, 2 * F_t, F_t) < 1e-5          # log 2: what one is blind to the other sees

# %% [markdown]
# **Exercise 3** (easy, 5 minutes) Write the row: `yaml_row(name, file, cls, loss_ratio)` returns the text that stands under `rows:` for a class of a file, at a share of the detector's own loss.

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
# ## What to keep
#
# - A loss is one class with one function; a run names it as `FILE.py:CLASS`.
# - Identical maps, gradient, gradcheck, loops; and one slip to see that the checks can fail.
# - Same detectors, data, schedule and share for every row; then count seeds before you count points of AP.
#
# Next: [10 the full scale](10_full_scale.ipynb).
