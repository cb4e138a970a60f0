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
# **Question** What does a small detector gain by imitating the feature maps of a large one, and what does this series
# teach?
#
# **Equations** 1 (the plain feature loss) and 14 (the total loss); 2 to 13 have their own notebooks.
#
# **Code** [`pretrained_detector`](../fgdlab/lab/course/pretrained.py), [`Tap`](../fgdlab/scene.py),
# [`FGDLoss`](../fgdlab/fgd.py), [`Distiller`](../fgdlab/distill.py), [`table_figure`](../fgdlab/lab/tables/figure.py)
#
# **Needs** torch: tensors, modules, a training loop. No knowledge of detection or distillation.
#
# **Cost** about 50 s on 2 cores, 1.0 GB of memory, no download.
#
# **You will** follow an image through a detector, compare a student with its teacher, distil in ten lines, and read
# the main table of this project. Section 8 marks a core path through the series and says how long it takes.

# %%
import re
from pathlib import Path

import pandas as pd
import torch
from IPython.display import Markdown
from torchvision.ops import box_convert, box_iou

from fgdlab import Distiller, FGDLoss, Tap, look, rows
from fgdlab.lab import plots
from fgdlab.lab.config import RunConfig
from fgdlab.lab.course import pretrained_detector, pretrained_facts, schematic
from fgdlab.lab.course.exercises import start as check
from fgdlab.lab.datasets import foreground_fractions, open_split
from fgdlab.lab.detectors import build
from fgdlab.lab.reports import current_results
from fgdlab.lab.sweeps import load_sweep, sweep_names
from fgdlab.lab.tables import ablation_table, contrast_table, table_figure
from fgdlab.lab.training import coco_scores, detections

# %% tags=["parameters"]
QUICK = False
SCENE = 5            # the scene in the figures
SEED = 0             # of the student in section 5

# %% [markdown]
# ## 1 · The task
# A *detector* takes an image and returns a list of boxes, each with a class and a score. The images here are
# synthetic: handwritten digits pasted onto photographs, together with **look-alikes**: letters, mirrored digits and
# turned digits. Only upright digits are objects. A small detector learns this task on a laptop in a few minutes, and
# the task is hard enough to show differences between detectors.

# %%
settings = RunConfig(train_images=16, eval_images=16 if QUICK else 100)
dataset = open_split(settings, "val", progress=False)
image, target = dataset[SCENE]
names = [dataset.classes[label - 1] for label in target["labels"].tolist()]
image.shape, target["boxes"].shape, names

# %%
figure, axes = plots.panel_grid(1, 4, 1.0, width=2.1)
for ax, i in zip(axes[0], range(SCENE, SCENE + 4), strict=True):
    boxes = dataset[i][1]["boxes"]
    title = f"scene {i}, 128 x 128 pixels\nobjects: {len(boxes)}"
    plots.draw_image(ax, dataset[i][0], boxes, title)
figure

# %% [markdown]
# *Figure 1.* Four scenes. Orange boxes are ground truth; everything else is background, even where it looks like a
# digit. Check: every glyph without a box is a letter, or a digit that is mirrored or turned.

# %% [markdown]
# ## 2 · A one-stage detector in one picture

# %%
schematic("detector")

# %% [markdown]
# *FGD in one picture.* The upper row is a one-stage detector, such as RetinaNet. The lower row is a second one. What
# is between the rows is the subject of this series.
#
# | part | what it does |
# |:--|:--|
# | **backbone** | a convolutional network; it turns pixels into *feature maps*, each coarser than the one before |
# | **FPN** | feature pyramid network; it merges the maps into levels P3, P4, P5 with equally many channels |
# | **anchors** | boxes of fixed sizes at every cell, the starting points of detections |
# | **head** | a small network on every level; per anchor a score for each class, and four numbers that adjust the box |
# | **NMS** | non-maximum suppression; of overlapping boxes of one class only the one with the highest score stays |
#
# On P3 a cell covers 8 x 8 pixels, on P4 16 x 16, on P5 32 x 32.
#
# A *two-stage* detector, such as Faster R-CNN, first has a region proposal network (RPN): a head that only says where
# any object may be. Its second stage classifies these regions.
#
# **Predict.** The teacher of this project has two anchors per cell. How many has an image of 128 x 128 pixels? And how
# many boxes are left at the end?

# %%
NAMES = ("baseline", "distilled", "teacher")
detectors = {name: pretrained_detector(name) for name in NAMES}
teacher, seen = detectors["teacher"].requires_grad_(False), {}
teacher.head.register_forward_hook(lambda _, __, out: seen.update(head=out))
teacher.anchor_generator.register_forward_hook(
    lambda _, __, out: seen.update(anchors=out))
result, = teacher([image])
scores, anchors = seen["head"]["cls_logits"][0].sigmoid(), seen["anchors"][0]
stages = {
    "pixels": 128 * 128,
    "cells of P3, P4, P5": sum((128 // stride) ** 2 for stride in (8, 16, 32)),
    "anchors": len(anchors), "class scores above 0.05": int((scores > 0.05).sum()),
    "boxes after NMS": len(result["boxes"]),
    "of these with score 0.35 or more": int((result["scores"] >= 0.35).sum()),
}
assert stages["anchors"] == 2 * stages["cells of P3, P4, P5"] == 672
assert SCENE != 5 or list(stages.values())[3:] == [18, 5, 3]
pd.Series(stages, name=f"scene {SCENE}").to_frame()

# %% [markdown]
# 672 anchors, and three boxes that one would show. Almost all anchors are background. RetinaNet therefore trains with
# the **Focal Loss**, a task loss in which easy anchors count little. *Focal distillation* of FGD is something else: it
# weighs the *cells of feature maps* when a student imitates a teacher, and it knows nothing of anchors. Both have a
# $\gamma$, and the two have nothing to do with each other.
#
# ## 3 · How a detector is evaluated
# A detection is correct if its class is right and its box overlaps the ground truth enough: the intersection over
# union (**IoU**) is at or above a threshold. Each object counts once; a second detection of the same object is wrong.
# Sort the detections by score. *Precision* is the fraction of detections that are correct, *recall* the fraction of
# objects that are found. **AP** averages precision over recall, over classes, and over ten IoU thresholds from 0.50
# to 0.95. **AR** is the recall with at most 100 detections per image, averaged over the same thresholds. Both are in
# percent here; pycocotools computes them, called by [`coco_scores`](../fgdlab/lab/training/evaluate.py). Exercises 1
# and 2 are about IoU and NMS.
#
# Three trained detectors come with the project: a large one, the **teacher**; a small one trained on the labels
# alone, the **baseline** student; and a second small one, the **distilled** student. The distilled student has the
# same size, the same initial weights, the same data and the same order of data as the baseline, but it also imitated
# the teacher during training.
#
# **Predict.** How many times more parameters does the teacher have than a student: 2, 9, or 40?

# %%
facts = pd.DataFrame({
    "parameters": {name: sum(p.numel() for p in detector.parameters())
                   for name, detector in detectors.items()},
    "AP, 400 scenes": {name: pretrained_facts(name)["AP"] for name in detectors},
})
ratio = facts.parameters["teacher"] / facts.parameters["distilled"]
assert facts.parameters["baseline"] == facts.parameters["distilled"]
assert round(ratio) == 9
facts.style.format({"parameters": "{:,}", "AP, 400 scenes": "{:.1f}"})

# %% [markdown]
# Nine times. The two students are the *same* network, so they cost the same at inference; nothing of the teacher
# remains in the distilled student. The AP in this table comes from the header of each weights file and is measured on
# 400 scenes. The next cell evaluates all three again, on the first 100 of these scenes only. A quarter of the scenes
# gives other numbers; the order should stay.
#
# **Predict.** What part of the AP gap between baseline and teacher does the distilled student close: a seventh, a
# third, or a half?

# %%
found_boxes = {name: detections(detectors[name], dataset) for name in NAMES}
truth, ids = dataset.ground_truth(), dataset.image_ids
scores_of = {name: coco_scores(truth, found_boxes[name], ids) for name in NAMES}
table = pd.DataFrame(scores_of).T[["AP", "AP50", "AR"]].astype(float)
table.style.format("{:.1f}").set_caption(f"{len(dataset)} scenes of val, in percent")

# %%
def closed(ap):
    """The part of the AP gap between baseline and teacher that the student closes."""
    return (ap["distilled"] - ap["baseline"]) / (ap["teacher"] - ap["baseline"])


here, of_all = closed(table.AP), closed(facts["AP, 400 scenes"])
assert table.AP.is_monotonic_increasing and (QUICK or 0.13 < here < 0.17)
assert 0.09 < of_all < 0.12
before, after, best = (f"{table.AP[name]:.1f}" for name in NAMES)
Markdown(f"On these scenes imitation took the student from AP {before} to {after}; "
         f"the teacher has {best}. That closes {here:.0%} of the gap. On all 400 "
         f"scenes it is {of_all:.0%}. This is one pair; section 7 has nine.")

# %%
figure, axes = plots.panel_grid(1, 3, 1.0, width=2.9, bottom=0.05)
for ax, (name, boxes) in zip(axes[0], found_boxes.items(), strict=True):
    plots.draw_detections(ax, boxes, dataset, SCENE, threshold=0.35)
    counts = ax.get_title().splitlines()[1]
    ax.set_title(f"{name}\n{counts}, score 0.35 or more", fontsize=8)
figure

# %% [markdown]
# *Figure 2.* One scene and three detectors: ground truth dashed orange with its class below, detections blue with
# class and score above. Compare: is a box on an object, is its class right, how high is its score? This scene was
# chosen because the three differ on it. All find the 7. The baseline also takes a look-alike for a 2. The teacher also
# finds the small 0, and takes the large 0 for an 8. Check: set `SCENE` to another number, up to 12.
#
# **Predict.** In how many of the 100 scenes does the distilled student find more objects than the baseline: in most, in
# about half, or in about one of eight?

# %%
def count(name, index, threshold=0.35):
    """Objects of a scene that a detector finds (class right, IoU 0.5); boxes drawn."""
    boxes, labels = dataset[index][1]["boxes"], dataset[index][1]["labels"].tolist()
    drawn = [d for d in found_boxes[name]
             if d["image_id"] == ids[index] and d["score"] >= threshold]
    missing = set(range(len(labels)))
    for each in sorted(drawn, key=lambda d: -d["score"]):
        box = box_convert(torch.tensor([each["bbox"]]), "xywh", "xyxy")
        overlap = box_iou(box, boxes)[0]
        hits = [k for k in missing
                if overlap[k] >= 0.5 and labels[k] == each["category_id"]]
        missing -= set(hits[:1])
    return len(labels) - len(missing), len(drawn)


counts = {name: [count(name, i) for i in range(len(dataset))] for name in NAMES}
at_scene = [each[SCENE] for each in counts.values()]
assert SCENE != 5 or at_scene == [(1, 2), (1, 1), (2, 3)]
at_scene

# %%
found, drawn = (
    pd.DataFrame({name: [pair[k] for pair in each] for name, each in counts.items()})
    for k in (0, 1))
change = found["distilled"] - found["baseline"]
more, fewer = (change > 0).sum(), (change < 0).sum()
if not QUICK:
    assert 97 <= found["baseline"].sum() <= found["distilled"].sum() <= 105
    assert 140 < found["teacher"].sum() < 152 and 10 <= more <= 16 and 10 <= fewer <= 16
    assert drawn["distilled"].sum() < drawn["baseline"].sum() - 4
    assert sum(len(dataset[i][1]["labels"]) for i in range(len(dataset))) == 201
print(f"more in {more} scenes, fewer in {fewer}, of {len(dataset)}")
pd.DataFrame({"objects found": found.sum(), "boxes drawn": drawn.sum()})

# %% [markdown]
# In about one of eight, and in as many it finds fewer. At score 0.35 both students find about 100 of the 201 objects;
# the distilled one draws fewer wrong boxes. A gain of two AP comes from small changes of scores and boxes on many
# scenes. Single pictures do not show it, so this project compares detectors by AP on 400 scenes, over several seeds.
#
# ## 4 · What can be imitated: logits or features
# **Logits.** Knowledge distillation began with classifiers (Hinton et al., see *References*). A label says *8* and
# nothing else. The teacher's scores for the same object also say what it could be mistaken for. Such scores are *soft
# targets*; the numbers before the sigmoid or softmax are the *logits*.
#
# **Features.** A detector's logits tell little: almost all anchors are background for both networks. The feature maps
# before the head have numbers at every cell. FitNets and most methods for detectors, FGD among them, imitate these.
#
# **Predict.** How many numbers does the teacher offer per image in its maps of P3 to P5 (48 channels), and how many do
# the labels of a scene with two objects give?

# %%
_ = teacher([dataset[4][0]])
at_8 = box_iou(dataset[4][1]["boxes"][:1], seen["anchors"][0])[0].argmax()
soft = seen["head"]["cls_logits"][0, at_8].sigmoid()[1:]   # class 0 is not used
hard = torch.zeros(10)
hard[dataset[4][1]["labels"][0] - 1] = 1
numbers = {"labels, two objects": 2 * (4 + 1),
           "maps of P3, P4, P5": 48 * (256 + 64 + 16)}
assert soft.argsort(descending=True)[:2].tolist() == [8, 5] and 0.15 < soft[5] < 0.2
assert numbers["maps of P3, P4, P5"] == 16128
print(numbers)
targets_of = pd.DataFrame({"label": hard, "teacher's scores": soft}, dataset.classes).T
targets_of.style.format("{:.2f}").set_caption("an 8 of scene 4, at its best anchor")

# %% [markdown]
# 16,128 against 10. The teacher also says that this 8 resembles a 5. **Why imitation helps** is not settled, but
# three reasons are plausible: the maps give a target at every cell, also where no label is; they say how a larger
# network sees look-alikes and borders of objects; and they are smooth targets that a small network can reach step by
# step. Whether it helps is a question for runs (section 7).
#
# Teacher and student maps have the same shape here, so one can be subtracted from the other.

# %%
images, targets = map(list, zip(*(dataset[i] for i in range(16)), strict=True))
with torch.no_grad():
    maps = {name: look(detector, images, targets).features
            for name, detector in detectors.items()}
magnitude = {name: each["P3"][SCENE].abs().mean(dim=0) for name, each in maps.items()}
plots.show_maps(magnitude, image, target["boxes"], label="mean of |F| over 48 channels")

# %% [markdown]
# *Figure 3.* Activation magnitude of each P3 cell (mean of |F| over channels), on one colour scale: all three
# networks respond to glyphs, objects or not. The figure does not show *which* channels respond. The students differ in
# that, as the numbers below show. Check: `magnitude["teacher"].max()` is the upper end of the range in the title.
#
# The simplest imitation loss is the mean of the squared differences, the paper's plain feature loss on one level:
#
# $$L_{fea} = \frac{1}{CHW}\sum_{k=1}^{C}\sum_{i=1}^{H}\sum_{j=1}^{W}
#   \left(F^T_{k,i,j} - f(F^S_{k,i,j})\right)^2 \tag{1}$$
#
# | symbol | code | shape |
# |---|---|---|
# | $F^T$ | `maps["teacher"]["P3"]`, for 16 scenes at once | (N, C, H, W) = (16, 48, 16, 16) |
# | $F^S$ | `maps["distilled"]["P3"]` | (N, C, H, W) |
# | $f$ | none: it adapts the number of channels where they differ; here they agree | |
# | $L_{fea}$ | `plain(...)`; as a sum: [`RelationTerm`](../fgdlab/relation.py) with `kind="mse"` | scalar |
#
# **Predict.** The teacher's features have a mean square of about 1. How large is equation 1 for the baseline student:
# about 0.1, about 1, or about 2?

# %%
def plain(student, teacher):
    """Eq. 1, for one image or the mean over a batch."""
    return (teacher - student).square().mean()


def by_level(value):
    return {level: float(value(level)) for level in maps["teacher"]}


zero = torch.zeros(())
distance = pd.DataFrame({
    "mean square of the teacher": by_level(lambda p: plain(zero, maps["teacher"][p])),
    "baseline": by_level(lambda p: plain(maps["baseline"][p], maps["teacher"][p])),
    "distilled": by_level(lambda p: plain(maps["distilled"][p], maps["teacher"][p])),
})
distance.style.format("{:.2f}").set_caption("equation 1")

# %%
teacher_square = distance["mean square of the teacher"]
baseline_square = pd.Series(by_level(lambda p: plain(zero, maps["baseline"][p])))
uncorrelated = distance["baseline"] / (baseline_square + teacher_square)
assert ((uncorrelated - 1).abs() < (0.3 if QUICK else 0.1)).all()
assert ((teacher_square - 1).abs() < 0.15).all()
assert ((distance.loc[["P3", "P4"], "baseline"] - 2.1).abs() < 0.05).all()
assert (distance["distilled"] < 0.5 * distance["baseline"]).all()

# %% [markdown]
# About 2.1 on P3 and P4. For two uncorrelated maps the squared difference is the *sum* of both mean squares, as the
# cell above asserts to a tenth. A student trained on labels alone learns its own channels: its channel 7 has nothing
# to do with the teacher's channel 7. The distilled student has learned the teacher's channels: less than half of the
# distance is left on every level.
#
# ## 5 · Distillation in ten lines
# A new student learns from a few scenes with two losses: the **task loss** (the detector's loss on the labels) and
# the imitation loss on the teacher's maps. [`Tap`](../fgdlab/scene.py) reads the maps during the student's forward
# pass.

# %%
torch.manual_seed(SEED)
student = build("retinanet", "compact_s", classes=10)
images, targets = images[:8], targets[:8]
steps, history = 5 if QUICK else 20, []

# %%
optimizer = torch.optim.AdamW(student.train().parameters(), lr=5e-3)
for _ in range(steps):
    with Tap(student) as tap:
        task_loss = sum(student(images, targets).values())     # loss on the labels
    with torch.no_grad():
        teacher_maps = look(teacher, images).features          # of the same images
    imitation = sum(plain(each, teacher_maps[level])
                    for level, each in tap.scene.features.items())
    optimizer.zero_grad()
    (task_loss + imitation).backward()
    optimizer.step()
    history.append({"task loss": task_loss.item(), "imitation": imitation.item()})

# %%
curve = pd.DataFrame(history)
assert curve.imitation.iloc[-1] < (0.95 if QUICK else 0.6) * curve.imitation.iloc[0]
assert QUICK or curve["task loss"].iloc[-1] < curve["task loss"].iloc[0]
curve.iloc[[0, len(curve) // 2, -1]].rename_axis("step").style.format("{:.2f}")

# %% [markdown]
# Both losses fall, on eight scenes and in seconds. Whether a student *detects* better on new scenes is another
# question. A table of evaluated runs answers it, not a falling loss.
#
# ## 6 · What FGD adds
# Equation 1 treats all cells alike. But most cells show background, a large object has many more cells than a small
# one, and some channels carry more information than others.
#
# **Predict.** What fraction of the P3 cells is inside a ground-truth box in these scenes: 1 in 2, 1 in 4, or about 1
# in 9?

# %%
fractions = foreground_fractions(dataset)
assert 0.07 < fractions["P3"] < 0.16
print({level: f"{fraction:.0%}" for level, fraction in fractions.items()})

# %%
schematic("training")

# %% [markdown]
# *FGD in one picture.* The terms of the total loss are highlighted; each notebook from 02 to 05 explains one part.
#
# About 1 in 9, so most of a plain mean comes from the background. *Focal and global distillation* (FGD, Yang et al.,
# CVPR 2022) has three ideas. **Where**: masks $M$ and $S$ separate objects from background and give a small object
# the weight of a large one. **How much**: attention $A^S$, $A^C$ weights cells and channels by the teacher's
# activation magnitude. **Relations**: a global term adds a vector of context, the same at all cells, to each map and
# then compares the whole maps. The student minimises the sum of these terms and its task loss:
#
# $$L = L_{original} + L_{focal} + L_{global} \tag{14}$$
#
# | symbol | code | shape |
# |---|---|---|
# | $L$ | [`total`](../fgdlab/terms.py)`(terms)`: the sum of `weight * raw` | scalar |
# | $L_{original}$ | terms `classification`, `bbox_regression`: the task loss | scalars |
# | $L_{focal}$ | `fg`, `bg` (eq. 9, $\alpha$, $\beta$), `attention` (eq. 10, $\gamma$): 04 | one scalar per level |
# | $L_{global}$ | `global` (eq. 12, $\lambda$): notebook 05 | one scalar per level |
#
# [`Distiller`](../fgdlab/distill.py) does what the loop above did in each step, with [`FGDLoss`](../fgdlab/fgd.py) as
# the imitation loss. The teacher is frozen. Beside the student, the optimiser trains the layers of the loss: a block
# $R$ for each network and level, and a convolution $f$ where channels differ. After training they are not needed. The
# distiller returns every term with its name:

# %%
loss = FGDLoss(student.levels, 48, 48)
distiller = Distiller(student, teacher, loss).train()
terms = pd.DataFrame(rows(0, distiller(images, targets)))
assert set(terms.name) == {
    "classification", "bbox_regression", "fg", "bg", "attention", "global"}
weighted = terms.pivot_table("weighted", "name", "level", sort=False)
weighted.style.format("{:.3f}", na_rep="").set_caption("weighted; 'all': task loss")

# %% [markdown]
# ## 7 · Table 1 as a figure
# Should a student imitate the objects, the background, or both, and does it help to keep the two apart? This is Table
# 1 of the paper, repeated here on a laptop. Five kinds of students differ only in the feature loss: which cells it
# covers, and its weights. Each is trained for 8 epochs with nine seeds, which learn from three teachers in turn.
# (*Both, not split* is one sum with one weight; the sweep `control_unsplit` asks whether this weight decides its rank.)
#
# **Predict.** Without distillation the students reach AP 26.6. One row imitates the *background only*, cells without
# any object. How much does it gain: nothing, about 1 AP, or as much as imitation of the objects?

# %%
sweep = load_sweep("table1_areas").at("laptop")
results = pd.read_csv("../ablations/results/table1_areas.csv")
plots.show(table_figure(results, sweep))

# %% [markdown]
# *Figure 4.* Table 1 on a laptop. Left: AP of each run, one point per seed, and the mean with its interval; the
# dashed lines are the three teachers. Right: gain over the baseline run of the same seed; a digit is the mean over the
# seeds of that teacher. The diamond is the paper's gain on COCO, which is another data set: compare directions, not
# values. Check: the next cell computes the right panel from the runs.

# %%
gains = ablation_table(results, sweep).set_index("label")
gains = gains[["AP_mean", "AP_n", "AP_delta", "AP_delta_low", "AP_delta_high"]]
deltas = gains.AP_delta.dropna().round(1).tolist()
assert (gains.AP_n == 9).all() and results.teacher_AP.nunique() == 3
assert set(results.epochs) == {8}
assert round(gains.AP_mean["no distillation"], 1) == 26.6
assert deltas == [2.2, 0.8, 1.8, 2.3]
assert (gains.AP_delta_low.dropna() > 0).all()
gains.style.format("{:.1f}", na_rep="baseline").format("{:.0f}", subset="AP_n")

# %%
columns = ["AP_delta", "AP_delta_low", "AP_delta_high"]
contrasts = contrast_table(results, sweep).set_index("label")[columns]
contrasts = contrasts.astype(float).round(1)
assert contrasts.loc["background minus foreground", "AP_delta_high"] < 0
assert contrasts.loc["both, split minus foreground"].tolist() == [0.1, -0.5, 0.7]
contrasts.style.format("{:+.1f}")

# %% [markdown]
# About 1: +0.8 AP from imitating cells without any object. Every area helps here, and no interval of a gain includes
# 0. The background of these scenes is full of look-alikes, so the teacher's features there may encode what is *not* a
# digit. The objects teach more: +2.2 AP, from a ninth of the cells. Notebook 07 asks what is left of the background's
# gain without look-alikes.
#
# **What the figure does not show.** It does not show which of the two best rows is better: *both, split* minus
# *foreground* is +0.1 AP, with an interval from -0.5 to +0.7, see notebook 07. It does not show that the result holds
# for other data, for other pairs of networks or for other loss weights.
#
# ## 8 · The series
# The **core path** is marked with a star: it takes about three hours without exercises. The other notebooks go deeper.
# The cell after the table computes the times.
#
# | | notebook | question | equations |
# |---|---|---|---|
# | ★ | 00 Start | this notebook | 1, 14 |
# | | [01 What detectors see](01_what_detectors_see.ipynb) | what is in the maps of a teacher and of a student? | 1 |
# | ★ | [02 Where](02_where.ipynb) | which cells are objects, and how much does each weigh? | 2–4 |
# | | [03 How much](03_how_much.ipynb) | which cells and channels does a network attend to? | 5–8 |
# | ★ | [04 Focal](04_focal.ipynb) | how do masks and attention form a loss? | 9–11 |
# | ★ | [05 Global](05_global.ipynb) | what does the global term measure that the focal term does not? | 12–13 |
# | | [06 Train](06_train.ipynb) | what happens in a training run, term by term? | 14 |
# | ★ | [07 Read an ablation](07_read_an_ablation.ipynb) | what may one conclude from a table, and what not? | |
# | | [08 Methods](08_methods.ipynb) | what do other methods compare on the same image? | FBKD and others |
# | | [09 Your own loss](09_your_own_loss.ipynb) | how do you add, test and evaluate a new loss? | yours |
# | | [10 Full scale](10_full_scale.ipynb) | what changes with COCO and a GPU, and what does it cost? | |

# %%
CORE, NUMBERS = ("00", "02", "04", "05", "07"), {"two": 2, "four": 4}


def minutes(source):
    """150 words or 1 1/3 code cells per minute, run time, times of the exercises."""
    cells = re.split(r"(?m)^# %%", source.read_text(encoding="utf-8"))[1:]
    text = "\n".join(cell for cell in cells if cell.startswith(" [markdown]"))
    code = [cell for cell in cells if not cell.startswith((" [markdown]", " jupyter="))]
    number, unit = re.search(r"\*\*Cost\*\* [Aa]bout (\w+) (s|minute)", text).groups()
    run = (NUMBERS.get(number) or int(number)) / (60 if unit == "s" else 1)
    words = len(re.findall(r"[A-Za-z]{2,}", text))
    exercises = re.findall(r"\*\*Exercise \d\*\*\s\([^)]*?(\d+)\sminutes", text)
    return {"words": words, "code cells": len(code), "run": run,
            "reading and running": words / 150 + 0.75 * len(code) + run,
            "exercises": sum(map(int, exercises))}


# %%
sources = sorted(Path("src").glob("[01]?_*.py"))
marks = {each: "★ " if each.stem[:2] in CORE else "" for each in sources}
times = {mark + each.stem: minutes(each) for each, mark in marks.items()}
times = pd.DataFrame(times).T
total = times[times.index.str.startswith("★")].sum()
assert len(times) == 11 and 150 < total["reading and running"] < 210
print(f"core path: {total['reading and running'] / 60:.1f} hours, "
      f"and {total['exercises'] / 60:.1f} hours of exercises")
times.style.format("{:.0f}").format("{:.1f}", subset="run").set_caption("minutes")

# %% [markdown]
# Three conventions hold in all notebooks. **Predict**: write down a guess before you run the next cell. **Assert**:
# what a text says about the detectors, scenes and results of this project is asserted or computed by a cell next to
# it, so it is true in a notebook that ran. What it says about papers is quoted. **Exercises** have a checker that says
# what is wrong; the solutions are the last section.
#
# The tables are sweeps: a YAML file with a question, rows and seeds. These come with the project. A result counts if
# its runs have the settings that the sweep has today.

# %%
listed = {}
for name in sweep_names():
    frame, why = current_results(name)
    state = "yes" if not why else "none" if frame is None else "of earlier settings"
    listed[name] = {"question": load_sweep(name).question.strip(), "results": state}
assert not current_results("table1_areas")[1]
with pd.option_context("display.max_colwidth", None):
    styled = pd.DataFrame(listed).T.style.set_properties(**{"text-align": "left"})
styled

# %% [markdown]
# | you want to | command, in the project's folder |
# |---|---|
# | reproduce figure 4 with three seeds (nine minutes on two cores) | `make table1` |
# | train one student with any setting | `fgdlab run --method fgd --area split --loss-ratio 2 --equal-terms` |
# | see losses, masks and detections of a run | open [run_one.ipynb](../ablations/run_one.ipynb) (`make lab`) |
# | use your own images | `fgdlab data check FOLDER`, then notebook 10 |
# | read the method itself | [`FGDLoss`](../fgdlab/fgd.py): the head of its file says where each equation is |
#
# ## References
#
# - **FGD** Yang et al., [Focal and Global Knowledge Distillation for Detectors](https://arxiv.org/abs/2111.11837), 2022
# - **FBKD** Zhang and Ma, [Improve Object Detection with Feature-based Knowledge
#   Distillation](https://openreview.net/forum?id=uKhGRvM8QNH), 2021
# - **Soft targets** Hinton et al., [Distilling the Knowledge in a Neural
#   Network](https://arxiv.org/abs/1503.02531), 2015
# - **FitNets** (hint) Romero et al., [FitNets: Hints for Thin Deep Nets](https://arxiv.org/abs/1412.6550), 2015
# - **Attention transfer** Zagoruyko and Komodakis, [Paying More Attention to
#   Attention](https://arxiv.org/abs/1612.03928), 2017
# - **GCNet**, the block of eq. 13: Cao et al., [GCNet: Non-local Networks Meet Squeeze-Excitation
#   Networks and Beyond](https://arxiv.org/abs/1904.11492), 2019
# - **Non-local blocks** Wang et al., [Non-local Neural Networks](https://arxiv.org/abs/1711.07971), 2018
# - **FPN** Lin et al., [Feature Pyramid Networks for Object Detection](https://arxiv.org/abs/1612.03144), 2017
# - **RetinaNet, Focal Loss** Lin et al., [Focal Loss for Dense Object
#   Detection](https://arxiv.org/abs/1708.02002), 2017
# - **Faster R-CNN, RPN** Ren et al., [Faster R-CNN](https://arxiv.org/abs/1506.01497), 2015
# - Methods of notebook 08:
#   [Chen](https://papers.nips.cc/paper/2017/hash/e1e32e235eee1f970470a3a6658dfdd5-Abstract.html) 2017,
#   [Mimick](https://openaccess.thecvf.com/content_cvpr_2017/html/Li_Mimicking_Very_Efficient_CVPR_2017_paper.html),
#   [FGFI](https://arxiv.org/abs/1906.03609) 2019, [TADF](https://arxiv.org/abs/2006.13108) 2020,
#   [DeFeat](https://arxiv.org/abs/2103.14475) 2021, [GID](https://arxiv.org/abs/2103.02340) 2021,
#   [CWD](https://arxiv.org/abs/2011.13256) 2021, [MGD](https://arxiv.org/abs/2205.01529) 2022,
#   [PKD](https://arxiv.org/abs/2207.02039) 2022, [CrossKD](https://arxiv.org/abs/2306.11369) 2024
# - For the detector GFL only: [LD](https://arxiv.org/abs/2102.12252) 2022
#
# ## Glossary
# The words of the series, as [CONTRIBUTING.md](../CONTRIBUTING.md) defines them:

# %%
glossary = Path("../CONTRIBUTING.md").read_text(encoding="utf-8")
glossary = glossary.split("**Terms.**")[1].split("**Licence.**")[0]
assert "| loss term |" in glossary
Markdown(glossary)

# %% [markdown]
# ## Exercises
#
# Solutions are at the end of the notebook.
#
# **Exercise 1** (easy, 5 minutes) Write the IoU of two boxes.

# %%
def iou(first, second):
    """Two boxes x1, y1, x2, y2 -> area of the intersection over area of the union."""
    raise NotImplementedError


check.iou(iou)


# %% [markdown]
# **Exercise 2** (hard, 25 minutes, an experiment) Run the teacher without NMS.
#
# *Predict first:* do AP and AR rise, fall or stay? (Look up in section 3 what a second detection of an object counts.)
# *Run* `score_with(None)` and *read* both. *Then write* `nms(boxes, scores, labels, threshold)`, which returns the
# indices of the kept boxes, highest score first, and run `score_with(nms)`: AP must return to its old value.

# %%
def nms(boxes, scores, labels, threshold):
    """(K, 4) boxes, (K,) scores and classes -> indices of the boxes that stay."""
    raise NotImplementedError


def score_with(suppress):
    """AP and AR of the teacher with ``suppress`` as its NMS; None: without NMS."""
    teacher.nms_thresh = 1.0                               # every box stays
    raw = detections(teacher, dataset)
    teacher.nms_thresh = 0.5
    kept = raw if suppress is None else []
    for i in ids if suppress else ():
        each = pd.DataFrame([d for d in raw if d["image_id"] == i] or None)
        if len(each):
            boxes = box_convert(torch.tensor(each.bbox.tolist()), "xywh", "xyxy")
            columns = (torch.tensor(each[name]) for name in ("score", "category_id"))
            kept += each.iloc[list(suppress(boxes, *columns, 0.5))].to_dict("records")
    return {name: coco_scores(truth, kept, ids)[name] for name in ("AP", "AR")}


check.nms(nms)

# %% [markdown]
# ## Recap
#
# - A student that imitates its teacher's maps can detect better, and costs no more at inference.
# - FGD says where (masks), how much (attention) and in which relation (global term) to imitate; a table with several
#   seeds shows whether it helped.
# - Next: [01 What detectors see](01_what_detectors_see.ipynb); on the core path [02 Where](02_where.ipynb).
#
# ## Solutions
#
# Unfold a cell to read it.

# %% jupyter={"source_hidden": true} tags=["solution"]
def iou_solution(first, second):
    width = max(0.0, min(first[2], second[2]) - max(first[0], second[0]))
    height = max(0.0, min(first[3], second[3]) - max(first[1], second[1]))
    areas = sum((x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (first, second))
    return width * height / (areas - width * height)       # shared area counts once


assert check.iou(iou_solution).right


# %% jupyter={"source_hidden": true} tags=["solution"]
def nms_solution(boxes, scores, labels, threshold):
    overlaps, kept = box_iou(boxes, boxes), []
    for k in scores.argsort(descending=True).tolist():
        if not any(labels[j] == labels[k] and overlaps[j, k] > threshold for j in kept):
            kept.append(k)
    return kept


assert check.nms(nms_solution).right
without, own = score_with(None), score_with(nms_solution)
if not QUICK:
    assert without["AP"] < table.AP["teacher"] - 8         # duplicates are wrong
    assert without["AR"] > table.AR["teacher"] + 4         # some fit an object better
assert abs(own["AP"] - table.AP["teacher"]) < 1e-6
pd.DataFrame({"without NMS": without, "your NMS": own}).style.format("{:.1f}")
