# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 00 · Start
# **Question** What does a small detector gain by imitating the inside of a large one, and where does this series lead?
#
# **Equations** 1 (the plain feature loss) and 14 (the total); 2 to 13 have notebooks of their own.
#
# **Code** [`pretrained_detector`](../fgdlab/lab/course/pretrained.py), [`Tap`](../fgdlab/scene.py), [`FGDLoss`](../fgdlab/fgd.py), [`Distiller`](../fgdlab/distill.py),
# [`table_figure`](../fgdlab/lab/tables/figure.py)
#
# **Needs** torch: tensors, modules, a training loop. Nothing of detection, nothing of distillation.
#
# **Cost** about 35 s on 2 cores, 1.0 GB of memory, no download.
#
# **You will** see a student and its teacher look at the same picture, distil in ten lines, and read the table that the whole project is about.

# %%
import pandas as pd
import torch
from IPython.display import Markdown

from fgdlab import Distiller, FGDLoss, Tap, look, rows
from fgdlab.lab import plots
from fgdlab.lab.course.exercises import start as check
from fgdlab.lab.course import pretrained_detector, pretrained_facts

# %% tags=["parameters"]
QUICK = False
SCENE = 1            # which scene the pictures show
SEED = 0             # of the ten lines' student

# %% [markdown]
# ## 1 · The task
# A *detector* gets an image and says what is where: a list of boxes, each with a class and a score. The images here are made: handwritten digits
# pasted over photographs, among **look-alikes**, shapes that are no digits: letters, mirrored and turned digits. Only digits count. A laptop learns
# this in a minute, and it is hard enough that detectors differ.

# %%
from fgdlab.lab.config import RunConfig
from fgdlab.lab.datasets import open_split

scenes = open_split(RunConfig(train_images=16, eval_images=16 if QUICK else 100), "val", progress=False)
image, target = scenes[SCENE]
image.shape, target["boxes"].shape, [scenes.classes[label - 1] for label in target["labels"].tolist()]

# %%
figure, axes = plots.panel_grid(1, 4, 1.0, width=2.1)
for ax, i in zip(axes[0], range(SCENE, SCENE + 4), strict=True):
    boxes = scenes[i][1]["boxes"]
    plots.draw_image(ax, scenes[i][0], boxes, f"scene {i}, 128 x 128 pixels\nobjects: {len(boxes)}")
figure

# %% [markdown]
# *Figure 1.* Four scenes; an orange box is an object, and everything else is background, however much it looks like a digit. To check: every glyph
# without a box is a letter, or a digit that is mirrored or turned.

# %% [markdown]
# **How a detector is judged.** A detection hits an object when the class is right and the two boxes overlap enough: intersection over union (IoU)
# at or above a threshold. Sort detections by score; *precision* is the share that hit, *recall* the share of objects that were hit. **AP** averages
# precision over recall, over classes and over ten IoU thresholds from 0.50 to 0.95; **AR** is the recall with 100 detections an image, averaged
# over the same thresholds. Both are in percent here and come from pycocotools, by [`coco_scores`](../fgdlab/lab/training/evaluate.py).
#
# **Exercise 1** (easy, 5 minutes). Write the overlap that all of this rests on.

# %%
def iou(first, second):
    """Two boxes x1, y1, x2, y2 -> area of the intersection over area of the union."""
    raise NotImplementedError

check.iou(iou)


# %% [markdown]
# Solution (unfold the cell below)

# %% jupyter={"source_hidden": true} tags=["solution"]
def iou_solution(first, second):
    width = max(0.0, min(first[2], second[2]) - max(first[0], second[0]))      # a negative side means: apart
    height = max(0.0, min(first[3], second[3]) - max(first[1], second[1]))
    areas = sum((x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (first, second))
    return width * height / (areas - width * height)                           # what both share was counted twice

assert check.iou(iou_solution).right

# %% [markdown]
# ## 2 · Three detectors
# The project comes with three that are trained: a large one, the **teacher**; a small one that learned from labels alone, the **baseline**
# student; and its twin, equal in size, first weights, data and order of data, that also imitated the teacher while it learned, the **distilled**
# student.
#
# **Predict.** How many times as many parameters as a student has the teacher: 2, 9, or 40?

# %%
detectors = {name: pretrained_detector(name) for name in ("baseline", "distilled", "teacher")}
facts = pd.DataFrame({
    "parameters": {name: sum(each.numel() for each in detector.parameters()) for name, detector in detectors.items()},
    "AP, 400 scenes": {name: pretrained_facts(name)["AP"] for name in detectors},
})
facts.style.format({"parameters": "{:,}", "AP, 400 scenes": "{:.1f}"})

# %%
ratio = facts.parameters["teacher"] / facts.parameters["distilled"]
assert facts.parameters["baseline"] == facts.parameters["distilled"] and round(ratio) == 9
print(f"{ratio:.1f} times")

# %% [markdown]
# Nine times. The two students are the *same* network: at work they cost the same, and nothing of the teacher is left in either. The AP stands in
# the header of each weights file, from the run that made it. Do not believe it: judge all three again, here, on scenes that none of them has
# learned from.
#
# **Predict.** The order of the three by AP is easy. But how much of the way from its baseline twin to the teacher has the distilled student
# come: a tenth, a third, or a half?

# %%
from fgdlab.lab.training import coco_scores, detections

found = {name: detections(detector, scenes) for name, detector in detectors.items()}
scores = pd.DataFrame({name: coco_scores(scenes.ground_truth(), found[name], scenes.image_ids) for name in detectors}).T
scores = scores[["AP", "AP50", "AR"]].astype(float)
scores.style.format("{:.1f}").set_caption(f"{len(scenes)} scenes of the val split, in percent")

# %%
AP = scores.AP
way = (AP["distilled"] - AP["baseline"]) / (AP["teacher"] - AP["baseline"])
if not QUICK:
    assert 0.4 < way < 0.6
Markdown(f"On these scenes imitation took the student from AP {AP['baseline']:.1f} to {AP['distilled']:.1f}; "
         f"the teacher has {AP['teacher']:.1f}. That is {way:.0%} of the way.")

# %%
figure, axes = plots.panel_grid(1, 3, 1.0, width=2.9, bottom=0.05)
for ax, (name, boxes) in zip(axes[0], found.items(), strict=True):
    plots.draw_detections(ax, boxes, scenes, SCENE, threshold=0.35)
    ax.set_title(f"{name}\n{ax.get_title().splitlines()[1]}, score 0.35 or more", fontsize=8)
figure

# %% [markdown]
# *Figure 2.* One scene through three detectors: objects dashed orange with their class below, detections blue with class and score above. What to
# compare: does a box sit on an object, is its class right, how sure is it? This scene was picked because the three differ on it. To check: set
# `SCENE` to another number; the table above judges all of them.

# %% [markdown]
# ## 3 · What there is to imitate
# Before a detector names a box, its backbone turns pixels into *feature maps*: a pyramid of grids, each coarser than the last. On level P3 a cell
# stands for 8 x 8 pixels, on P5 for 32 x 32, and each cell holds 48 numbers, the channels. Teacher and student give maps of the same shape, so one
# can be subtracted from the other.

# %%
images, targets = map(list, zip(*(scenes[i] for i in range(16)), strict=True))
with torch.no_grad():
    maps = {name: look(detector, images, targets).features for name, detector in detectors.items()}
pd.DataFrame({name: {level: str(tuple(each.shape)) for level, each in features.items()} for name, features in maps.items()})

# %%
strength = {name: features["P3"][SCENE].abs().mean(dim=0) for name, features in maps.items()}
plots.show_maps(strength, image, target["boxes"], label="mean of |F| over 48 channels")

# %% [markdown]
# *Figure 3.* How strongly each P3 cell answers, the mean over channels, on one colour scale: all three answer where there is a glyph. What such a
# picture cannot show is *which* channels answer, and that is where the students part, as the numbers below say. To check:
# `strength["teacher"].max()` is the upper end of the title.

# %% [markdown]
# The simplest way to say "imitate" is the mean of the squared differences, the paper's plain feature loss on one level:
#
# $$L_{fea} = \frac{1}{CHW}\sum_{k=1}^{C}\sum_{i=1}^{H}\sum_{j=1}^{W}\left(F^T_{k,i,j} - f(F^S_{k,i,j})\right)^2 \tag{1}$$
#
# | symbol | code | shape |
# |---|---|---|
# | $F^T$ | `maps["teacher"]["P3"]`, for 16 scenes at once | (N, C, H, W) = (16, 48, 16, 16) |
# | $F^S$ | `maps["distilled"]["P3"]` | (N, C, H, W) |
# | $f$ | none: it adapts the student's channels where they differ, and here they agree | |
# | $L_{fea}$ | `plain(...)`; as a sum over values, [`RelationTerm`](../fgdlab/relation.py) with `kind="mse"` | scalar |

# %%
def plain(student, teacher):
    """Eq. 1, for one image or the mean over a batch."""
    return (teacher - student).square().mean()

# %% [markdown]
# **Predict.** The teacher's values have a mean square of about 0.9. How far from them is the baseline student by equation 1: about 0.1, about
# 0.9, or about 1.9?

# %%
distance = pd.DataFrame({
    "teacher, mean square": {level: float(each.square().mean()) for level, each in maps["teacher"].items()},
    **{name: {level: float(plain(each, maps["teacher"][level])) for level, each in maps[name].items()} for name in ("baseline", "distilled")},
})
distance.style.format("{:.2f}")

# %%
own_square = pd.Series({level: float(each.square().mean()) for level, each in maps["baseline"].items()})
unrelated = own_square + distance["teacher, mean square"]
assert ((distance["baseline"] / unrelated - 1).abs() < (0.3 if QUICK else 0.1)).all()
assert QUICK or 1.8 < distance["baseline"]["P3"] < 2.0
assert (distance["distilled"] < 0.5 * distance["baseline"]).all()

# %% [markdown]
# About 1.9 on P3 and P4: for two unrelated maps the squared difference is the *sum* of both mean squares, as the cell above asserts to a tenth.
# Left alone, a student invents channels of its own, and its channel 7 has nothing to do with the teacher's channel 7. The distilled student speaks
# the teacher's language, and less than half of that distance is left on every level.
#
# **Exercise 2** (easy, 3 minutes). Equation 1 as it stands, for maps (C, H, W).

# %%
def plain_feature_loss(student, teacher):
    """Two maps (C, H, W) -> a scalar."""
    raise NotImplementedError

check.plain_feature_loss(plain_feature_loss)


# %% [markdown]
# Solution (unfold the cell below)

# %% jupyter={"source_hidden": true} tags=["solution"]
def plain_feature_loss_solution(student, teacher):
    channels, height, width = teacher.shape
    return ((teacher - student) ** 2).sum() / (channels * height * width)

assert check.plain_feature_loss(plain_feature_loss_solution).right

# %% [markdown]
# ## 4 · Distillation in ten lines
# A fresh student, a few scenes, two teachers at once: the labels, through the detector's own loss, and the large detector, through its maps.
# [`Tap`](../fgdlab/scene.py) reads the maps off the student's own forward. It is all there is to the idea.

# %%
from fgdlab.lab.detectors import build

torch.manual_seed(SEED)
student, teacher = build("retinanet", "compact_s", classes=10), detectors["teacher"].requires_grad_(False)
images, targets = images[:8], targets[:8]
steps, history = 5 if QUICK else 20, []

# %%
optimizer = torch.optim.AdamW(student.train().parameters(), lr=5e-3)
for _ in range(steps):
    with Tap(student) as tap:
        own = sum(student(images, targets).values())                           # what the labels say
    with torch.no_grad():
        seen = look(teacher, images).features                                  # the same images, through the teacher
    imitation = sum(plain(each, seen[level]) for level, each in tap.scene.features.items())
    optimizer.zero_grad()
    (own + imitation).backward()                                               # what both say
    optimizer.step()
    history.append({"labels": own.item(), "imitation": imitation.item()})

# %%
curve = pd.DataFrame(history)
assert curve.imitation.iloc[-1] < (0.95 if QUICK else 0.6) * curve.imitation.iloc[0]
curve.iloc[[0, len(curve) // 2, -1]].rename_axis("step").style.format("{:.2f}")

# %% [markdown]
# Both fall, on eight scenes and in seconds. Whether a student *detects* better on scenes it has not seen is another question, and a table answers
# it, not a falling loss.

# %% [markdown]
# ## 5 · What FGD asks of it
# Equation 1 takes all cells as equal. They are not: most show background, a large object has many more cells than a small one, and some channels
# say more than others.
#
# **Predict.** Which share of the cells of P3 lies in a box in these scenes: 1 in 2, 1 in 4, or about 1 in 9?

# %%
from fgdlab.lab.datasets import foreground_shares

shares = foreground_shares(scenes)
assert 0.07 < shares["P3"] < 0.16
print({level: f"{share:.0%}" for level, share in shares.items()})

# %% [markdown]
# About 1 in 9, so a plain mean asks mostly for background. *Focal and global distillation* (FGD, Yang et al., CVPR 2022) answers with three ideas:
# **where** (masks $M$ and $S$ keep objects and background apart, and give a small object the weight of a large one), **how much** (attention $A^S$,
# $A^C$ weighs pixels and channels by how strongly the teacher answers), and **relations** between pixels, kept by a global term. The student
# minimises all of it beside its own loss:
#
# $$L = L_{original} + L_{focal} + L_{global}, \qquad L_{focal} = \alpha L_{fg} + \beta L_{bg} + \gamma L_{at} \tag{14}$$
#
# | symbol | code | shape |
# |---|---|---|
# | $L$ | [`total`](../fgdlab/terms.py)`(terms)` | scalar |
# | $L_{original}$ | terms `classification`, `bbox_regression`: the detector's own | scalars |
# | $L_{fg}, L_{bg}$ | terms `fg`, `bg`: the two sums of equation 9, notebook 04 | a scalar a level |
# | $L_{at}$, $L_{global}$ | terms `attention`, `global`, notebooks 04 and 05 | a scalar a level |
#
# [`Distiller`](../fgdlab/distill.py) is the loop's inside, and [`FGDLoss`](../fgdlab/fgd.py) stands in for `imitation`. Every term comes out with
# its name, so nothing is hidden in a sum:

# %%
distiller = Distiller(student, teacher, FGDLoss(student.levels, 48, 48)).train()
terms = pd.DataFrame(rows(0, distiller(images, targets)))
table = terms.pivot_table(index="name", columns="level", values="weighted", sort=False)
table.style.format("{:.3f}", na_rep="").set_caption("each term after its weight, by pyramid level; 'all' is the detector's own")

# %%
assert set(terms.name) == {"classification", "bbox_regression", "fg", "bg", "attention", "global"}

# %% [markdown]
# ## 6 · Table 1 in one picture
# Is it the objects that a student should imitate, or the background, or both, and does it help to keep the two apart? That is Table 1 of the paper,
# and the question this lab repeats on a laptop: five students that differ in nothing but the cells whose imitation counts, each trained with five
# seeds.
#
# **Predict.** Without distillation the students reach AP 5.7. One row may imitate the *background alone*, cells that hold no object at all. What
# does it gain: nothing, about 1 AP, or about 9?

# %%
from fgdlab.lab.sweeps import load_sweep
from fgdlab.lab.tables import table_figure

sweep = load_sweep("table1_areas").at("laptop")
results = pd.read_csv("../ablations/results/table1_areas.csv")
plots.show(table_figure(results, sweep))

# %% [markdown]
# *Figure 4.* Table 1 on a laptop. Left: AP of each run, a point a seed, and the mean with its interval; the dashed line is the teacher. Right: what
# a run gains over the baseline run of the same seed; the diamond is the paper's own gain on COCO, which is another data set: compare directions,
# not values. To check: the next cell computes the right panel from the runs.

# %%
from fgdlab.lab.tables import ablation_table

gains = ablation_table(results, sweep).set_index("label")[["AP_mean", "AP_n", "AP_delta", "AP_delta_low", "AP_delta_high"]]
gains.style.format("{:.1f}", na_rep="baseline").format("{:.0f}", subset="AP_n")

# %%
assert round(gains.AP_mean["no distillation"], 1) == 5.7 and round(gains.AP_delta["background"], 1) == 9.5
assert (gains.AP_delta_low.dropna() > 0).all()

# %% [markdown]
# About 9: +9.5 AP, for imitating cells without any object. Every area helps here, and no interval of a gain reaches 0. The background of these
# scenes is full of look-alikes, and a teacher that has learned what is *not* a digit can say so; notebook 07 takes the look-alikes away and watches
# the gain shrink.
#
# **What the picture does not say.** Which of the two best rows is better: five seeds do not tell, as notebook 07 works out. That this holds for
# other data, other teachers, other weights of the loss. Notebook 07 is about this: what a handful of runs allows one to say.
#
# **Exercise 3** (easy, 3 minutes). A gain of 13 AP sounds large. How much of the way to the teacher is it?

# %%
def gap_closed(baseline, distilled, teacher):
    """Three APs -> the share of the way from the baseline student to the teacher."""
    raise NotImplementedError

check.gap_closed(gap_closed)


# %% [markdown]
# Solution (unfold the cell below)

# %% jupyter={"source_hidden": true} tags=["solution"]
def gap_closed_solution(baseline, distilled, teacher):
    return (distilled - baseline) / (teacher - baseline)

assert check.gap_closed(gap_closed_solution).right
share = gap_closed_solution(gains.AP_mean["no distillation"], gains.AP_mean["both, split"], results.teacher_AP.max())
assert 0.45 < share < 0.55
print(f"both, split: {share:.0%} of the way to the teacher")

# %% [markdown]
# ## 7 · The map
# An afternoon from the first box to the last table. Each notebook needs the ones before it, except that 08 to 10 may be read in any order.
#
# | notebook | its question | equations |
# |---|---|---|
# | [01 What detectors see](01_what_detectors_see.ipynb) | what is in the maps of a teacher and of a student? | 1 |
# | [02 Where](02_where.ipynb) | which cells are objects, and how much does each weigh? | 2–4 |
# | [03 How much](03_how_much.ipynb) | which pixels and channels does a network attend to? | 5–8 |
# | [04 Focal](04_focal.ipynb) | what does the loss of the two masks ask of the student? | 9–11 |
# | [05 Global](05_global.ipynb) | what can the global term see that the focal one cannot? | 12–13 |
# | [06 Train](06_train.ipynb) | what happens in a training run, term by term? | 14 |
# | [07 Read an ablation](07_read_an_ablation.ipynb) | what may one conclude from a table, and what not? | |
# | [08 Methods](08_methods.ipynb) | what do other methods ask of the same image? | FBKD and others |
# | [09 Your own loss](09_your_own_loss.ipynb) | can you do better? | yours |
# | [10 Full scale](10_full_scale.ipynb) | what changes with COCO and a GPU, and what does it cost? | |
#
# Three habits run through all of them. **Predict** before you run the cell below a prediction: a wrong guess teaches more than a right one. Every
# claim is **asserted** in a cell, so a notebook that ran is a notebook whose sentences hold. **Exercises** have a checker that says what is wrong,
# and a folded solution.

# %% [markdown]
# ## 8 · How to go on
# The tables are sweeps: a question, rows, seeds, in a YAML file. These come with the project:

# %%
from fgdlab.lab.sweeps import sweep_names

pd.set_option("display.max_colwidth", None)
sweeps = {name: load_sweep(name) for name in sweep_names()}
listed = pd.DataFrame({name: {"question": each.question.strip(), "rows": len(each.rows)} for name, each in sweeps.items()}).T
listed.style.set_properties(**{"text-align": "left"})

# %% [markdown]
# | you want to | say, in the project's folder |
# |---|---|
# | see the figure above come out of your own machine, in four minutes on two recent cores, ten on older ones | `make table1` |
# | train one student with any setting | `fgdlab run --method fgd --area split --alpha 1.7e-3 --beta 1.4e-2` |
# | look at that run: losses, masks, attention, detections | open [run_one.ipynb](../ablations/run_one.ipynb) in JupyterLab (`make lab`) |
# | use images of your own | `fgdlab data check FOLDER`, then notebook 10 |
# | read the method itself | [`FGDLoss`](../fgdlab/fgd.py): the head of its file lists where each equation lives |
#
# **In short.** A student that imitates its teacher's maps detects better at no cost when it works. FGD says where, how much and in which relation
# to imitate. A table with several seeds says whether it helped. Go on with [01](01_what_detectors_see.ipynb).
