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
# **Cost** about 40 s on 2 cores, 1.0 GB of memory, no download.
#
# **You will** compare a student with its teacher on the same image, distil in ten lines, and read the main table of
# this project.

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
SCENE = 5            # the scene in the figures
SEED = 0             # of the student in section 4

# %% [markdown]
# ## 1 · The task
# A *detector* takes an image and returns a list of boxes, each with a class and a score. The images here are
# synthetic: handwritten digits pasted onto photographs, together with **look-alikes**: letters, mirrored digits and
# turned digits. Only upright digits are objects. A small detector learns this task on a laptop in one to three minutes,
# and the task is hard enough to show differences between detectors.

# %%
from fgdlab.lab.config import RunConfig
from fgdlab.lab.datasets import open_split

dataset = open_split(RunConfig(train_images=16, eval_images=16 if QUICK else 100), "val", progress=False)
image, target = dataset[SCENE]
image.shape, target["boxes"].shape, [dataset.classes[label - 1] for label in target["labels"].tolist()]

# %%
figure, axes = plots.panel_grid(1, 4, 1.0, width=2.1)
for ax, i in zip(axes[0], range(SCENE, SCENE + 4), strict=True):
    boxes = dataset[i][1]["boxes"]
    plots.draw_image(ax, dataset[i][0], boxes, f"scene {i}, 128 x 128 pixels\nobjects: {len(boxes)}")
figure

# %% [markdown]
# *Figure 1.* Four scenes. Orange boxes are ground truth; everything else is background, even where it looks like a
# digit. Check: every glyph without a box is a letter, or a digit that is mirrored or turned.

# %% [markdown]
# **How a detector is evaluated.** A detection is correct if its class is right and its box overlaps the ground truth
# enough: the intersection over union (IoU) is at or above a threshold. Each object counts once; a second detection of
# the same object is wrong. Sort the detections by score. *Precision* is the fraction of detections that are correct,
# *recall* the fraction of objects that are found. **AP** averages precision over recall, over classes, and over ten
# IoU thresholds from 0.50 to 0.95. **AR** is the recall with at most 100 detections per image, averaged over the same
# thresholds. Both are in percent here; pycocotools computes them, called by
# [`coco_scores`](../fgdlab/lab/training/evaluate.py).
#
# **Exercise 1** (easy, 5 minutes). Write the IoU of two boxes.

# %%
def iou(first, second):
    """Two boxes x1, y1, x2, y2 -> area of the intersection over area of the union."""
    raise NotImplementedError

check.iou(iou)


# %% [markdown]
# Solution (unfold the cell below)

# %% jupyter={"source_hidden": true} tags=["solution"]
def iou_solution(first, second):
    width = max(0.0, min(first[2], second[2]) - max(first[0], second[0]))      # negative: no overlap
    height = max(0.0, min(first[3], second[3]) - max(first[1], second[1]))
    areas = sum((x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (first, second))
    return width * height / (areas - width * height)                           # the intersection was counted twice

assert check.iou(iou_solution).right

# %% [markdown]
# ## 2 · Three detectors
# Three trained detectors come with the project: a large one, the **teacher**; a small one trained on the labels
# alone, the **baseline** student; and a second small one, the **distilled** student. The distilled student has the
# same size, the same initial weights, the same data and the same order of data as the baseline, but it also imitated
# the teacher during training.
#
# **Predict.** How many times more parameters does the teacher have than a student: 2, 9, or 40?

# %%
detectors = {name: pretrained_detector(name) for name in ("baseline", "distilled", "teacher")}
facts = pd.DataFrame({
    "parameters": {name: sum(p.numel() for p in detector.parameters()) for name, detector in detectors.items()},
    "AP, 400 scenes": {name: pretrained_facts(name)["AP"] for name in detectors},
})
facts.style.format({"parameters": "{:,}", "AP, 400 scenes": "{:.1f}"})

# %%
ratio = facts.parameters["teacher"] / facts.parameters["distilled"]
assert facts.parameters["baseline"] == facts.parameters["distilled"] and round(ratio) == 9
print(f"{ratio:.1f} times")

# %% [markdown]
# Nine times. The two students are the *same* network, so they cost the same at inference; nothing of the teacher
# remains in the distilled student. The AP comes from the header of each weights file. Check it: evaluate all three
# again on scenes that none of them was trained on. Here it is the first 100 of the 400 validation scenes, so the
# numbers will differ from those above, but the order should not.
#
# **Predict.** The order of the three by AP is easy to guess. What part of the AP gap between baseline and teacher
# does the distilled student close: a seventh, a third, or a half?

# %%
from fgdlab.lab.training import coco_scores, detections

found_boxes = {name: detections(detector, dataset) for name, detector in detectors.items()}
truth, ids = dataset.ground_truth(), dataset.image_ids
scores = pd.DataFrame({name: coco_scores(truth, boxes, ids) for name, boxes in found_boxes.items()}).T
scores = scores[["AP", "AP50", "AR"]].astype(float)
scores.style.format("{:.1f}").set_caption(f"{len(dataset)} scenes of the val split, in percent")

# %%
AP = scores.AP
closed = (AP["distilled"] - AP["baseline"]) / (AP["teacher"] - AP["baseline"])
stored = facts["AP, 400 scenes"]
closed_of_all = (stored["distilled"] - stored["baseline"]) / (stored["teacher"] - stored["baseline"])
if not QUICK:
    assert AP["baseline"] < AP["distilled"] < AP["teacher"] and 0.13 < closed < 0.17
assert 0.09 < closed_of_all < 0.12
Markdown(f"On these scenes imitation took the student from AP {AP['baseline']:.1f} to {AP['distilled']:.1f}; "
         f"the teacher has {AP['teacher']:.1f}. That closes {closed:.0%} of the gap; "
         f"on all 400 scenes it is {closed_of_all:.0%}. This is one pair of students; section 6 has nine.")

# %%
figure, axes = plots.panel_grid(1, 3, 1.0, width=2.9, bottom=0.05)
for ax, (name, boxes) in zip(axes[0], found_boxes.items(), strict=True):
    plots.draw_detections(ax, boxes, dataset, SCENE, threshold=0.35)
    ax.set_title(f"{name}\n{ax.get_title().splitlines()[1]}, score 0.35 or more", fontsize=8)
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
from torchvision.ops import box_convert, box_iou


def count(name, index, threshold=0.35):
    """How many objects of a scene a detector finds, with the right class and IoU 0.5, and how many boxes it draws."""
    boxes, labels = dataset[index][1]["boxes"], dataset[index][1]["labels"].tolist()
    drawn = [d for d in found_boxes[name] if d["image_id"] == ids[index] and d["score"] >= threshold]
    missing = set(range(len(labels)))
    for each in sorted(drawn, key=lambda d: -d["score"]):
        overlap = box_iou(box_convert(torch.tensor([each["bbox"]]), "xywh", "xyxy"), boxes)[0]
        hits = [k for k in missing if overlap[k] >= 0.5 and labels[k] == each["category_id"]]
        missing -= set(hits[:1])
    return len(labels) - len(missing), len(drawn)


counts = {name: [count(name, index) for index in range(len(dataset))] for name in found_boxes}
found = pd.DataFrame({name: [right for right, _ in each] for name, each in counts.items()})
drawn = pd.DataFrame({name: [boxes for _, boxes in each] for name, each in counts.items()})
more, fewer = ((found["distilled"] - found["baseline"]) * sign > 0 for sign in (1, -1))
pd.DataFrame({"objects found": found.sum(), "boxes drawn": drawn.sum()})

# %%
assert SCENE != 5 or {name: each[SCENE] for name, each in counts.items()} == {
    "baseline": (1, 2), "distilled": (1, 1), "teacher": (2, 3)}
if not QUICK:
    assert 97 <= found["baseline"].sum() <= found["distilled"].sum() <= 105 and 140 < found["teacher"].sum() < 152
    assert drawn["distilled"].sum() < drawn["baseline"].sum() - 4
    assert 10 <= more.sum() <= 16 and 10 <= fewer.sum() <= 16
print(f"the distilled student finds more in {more.sum()} scenes, fewer in {fewer.sum()}, of {len(dataset)}")

# %% [markdown]
# In about one of eight, and in as many it finds fewer. At score 0.35 both students find about 100 of the 201 objects;
# the distilled one draws fewer wrong boxes. A gain of two or three AP comes from small changes of scores and boxes on
# many scenes. Single pictures do not show it, so this project compares detectors by AP on 400 scenes, over several
# seeds.

# %% [markdown]
# ## 3 · What can be imitated
# Before a detector predicts boxes, its backbone turns pixels into *feature maps*: a pyramid of grids, each coarser
# than the one before. On level P3 a cell covers 8 x 8 pixels, on P5 32 x 32. Each cell holds 48 numbers, one per
# channel. Teacher and student maps have the same shape here, so one can be subtracted from the other.

# %%
images, targets = map(list, zip(*(dataset[i] for i in range(16)), strict=True))
with torch.no_grad():
    maps = {name: look(detector, images, targets).features for name, detector in detectors.items()}
pd.DataFrame({name: {level: str(tuple(f.shape)) for level, f in features.items()} for name, features in maps.items()})

# %%
magnitude = {name: features["P3"][SCENE].abs().mean(dim=0) for name, features in maps.items()}
plots.show_maps(magnitude, image, target["boxes"], label="mean of |F| over 48 channels")

# %% [markdown]
# *Figure 3.* Activation magnitude of each P3 cell (mean of |F| over channels), on one colour scale: all three
# networks respond to glyphs, objects or not. The figure does not show *which* channels respond. The students differ in
# that, as the numbers below show. Check: `magnitude["teacher"].max()` is the upper end of the range in the title.

# %% [markdown]
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

# %%
def plain(student, teacher):
    """Eq. 1, for one image or the mean over a batch."""
    return (teacher - student).square().mean()

# %% [markdown]
# **Predict.** The teacher's features have a mean square of about 1. How large is equation 1 for the baseline student:
# about 0.1, about 1, or about 2?

# %%
distance = pd.DataFrame({
    "teacher, mean square": {level: float(each.square().mean()) for level, each in maps["teacher"].items()},
    **{name: {level: float(plain(each, maps["teacher"][level])) for level, each in maps[name].items()}
       for name in ("baseline", "distilled")},
})
distance.style.format("{:.2f}")

# %%
baseline_square = pd.Series({level: float(each.square().mean()) for level, each in maps["baseline"].items()})
unrelated = baseline_square + distance["teacher, mean square"]
assert ((distance["baseline"] / unrelated - 1).abs() < (0.3 if QUICK else 0.1)).all()
assert ((distance["teacher, mean square"] - 1).abs() < 0.15).all()
assert ((distance.loc[["P3", "P4"], "baseline"] - 2.1).abs() < 0.05).all()
assert (distance["distilled"] < 0.5 * distance["baseline"]).all()

# %% [markdown]
# About 2.1 on P3 and P4. For two uncorrelated maps the squared difference is the *sum* of both mean squares, as the
# cell above asserts to a tenth. A student trained on labels alone learns its own channels: its channel 7 has nothing
# to do with the teacher's channel 7. The distilled student has learned the teacher's channels: less than half of the
# distance is left on every level.
#
# **Exercise 2** (easy, 3 minutes). Equation 1 for maps (C, H, W).

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
# A new student learns from a few scenes with two losses: the **task loss** (the detector's loss on the labels) and
# the imitation loss on the teacher's maps. [`Tap`](../fgdlab/scene.py) reads the maps during the student's forward
# pass.

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
        task_loss = sum(student(images, targets).values())                     # loss on the labels
    with torch.no_grad():
        teacher_maps = look(teacher, images).features                          # maps of the same images
    imitation = sum(plain(each, teacher_maps[level]) for level, each in tap.scene.features.items())
    optimizer.zero_grad()
    (task_loss + imitation).backward()
    optimizer.step()
    history.append({"task loss": task_loss.item(), "imitation": imitation.item()})

# %%
curve = pd.DataFrame(history)
assert curve.imitation.iloc[-1] < (0.95 if QUICK else 0.6) * curve.imitation.iloc[0]
curve.iloc[[0, len(curve) // 2, -1]].rename_axis("step").style.format("{:.2f}")

# %% [markdown]
# Both losses fall, on eight scenes and in seconds. Whether a student *detects* better on new scenes is another
# question. A table of evaluated runs answers it, not a falling loss.

# %% [markdown]
# ## 5 · What FGD adds
# Equation 1 treats all cells alike. But most cells show background, a large object has many more cells than a small
# one, and some channels carry more information than others.
#
# **Predict.** What fraction of the P3 cells is inside a ground-truth box in these scenes: 1 in 2, 1 in 4, or about 1
# in 9?

# %%
from fgdlab.lab.datasets import foreground_fractions

fractions = foreground_fractions(dataset)
assert 0.07 < fractions["P3"] < 0.16
print({level: f"{fraction:.0%}" for level, fraction in fractions.items()})

# %% [markdown]
# About 1 in 9, so most of a plain mean comes from the background. *Focal and global distillation* (FGD, Yang et al.,
# CVPR 2022) has three ideas. **Where**: masks $M$ and $S$ separate objects from background and give a small object
# the weight of a large one. **How much**: attention $A^S$, $A^C$ weights pixels and channels by the teacher's
# activation magnitude. **Relations**: a global term compares what all pixels have in common. The student minimises
# the sum of these terms and its task loss:
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
# the imitation loss. It returns every term with its name:

# %%
distiller = Distiller(student, teacher, FGDLoss(student.levels, 48, 48)).train()
terms = pd.DataFrame(rows(0, distiller(images, targets)))
table = terms.pivot_table(index="name", columns="level", values="weighted", sort=False)
table.style.format("{:.3f}", na_rep="").set_caption("weighted terms by pyramid level; 'all' is the task loss")

# %%
assert set(terms.name) == {"classification", "bbox_regression", "fg", "bg", "attention", "global"}

# %% [markdown]
# ## 6 · Table 1 as a figure
# Should a student imitate the objects, the background, or both, and does it help to keep the two apart? This is Table
# 1 of the paper, repeated here on a laptop. Five kinds of students differ only in the feature loss: which cells it
# covers, and its weights. Each is trained for 8 epochs with nine seeds, which learn from three teachers in turn.
# (*Both, not split* is one sum with one weight; the sweep `control_unsplit` asks whether this weight decides its rank.)
#
# **Predict.** Without distillation the students reach AP 26.6. One row imitates the *background only*, cells without
# any object. How much does it gain: nothing, about 1 AP, or as much as imitation of the objects?

# %%
from fgdlab.lab.sweeps import load_sweep
from fgdlab.lab.tables import table_figure

sweep = load_sweep("table1_areas").at("laptop")
results = pd.read_csv("../ablations/results/table1_areas.csv")
plots.show(table_figure(results, sweep))

# %% [markdown]
# *Figure 4.* Table 1 on a laptop. Left: AP of each run, one point per seed, and the mean with its interval; the
# dashed lines are the three teachers. Right: gain over the baseline run of the same seed; a digit is the mean over the
# seeds of that teacher. The diamond is the paper's gain on COCO, which is another data set: compare directions, not
# values. Check: the next cell computes the right panel from the runs.

# %%
from fgdlab.lab.tables import ablation_table, contrast_table

gains = ablation_table(results, sweep).set_index("label")
gains = gains[["AP_mean", "AP_n", "AP_delta", "AP_delta_low", "AP_delta_high"]]
gains.style.format("{:.1f}", na_rep="baseline").format("{:.0f}", subset="AP_n")

# %%
contrasts = contrast_table(results, sweep).set_index("label")
split_fg, bg_fg = (contrasts.loc[f"{row} minus foreground"] for row in ("both, split", "background"))
assert (gains.AP_n == 9).all() and results.teacher_AP.nunique() == 3
assert [round(gains.AP_mean["no distillation"], 1), *gains.AP_delta.dropna().round(1)] == [26.6, 2.2, 0.8, 1.8, 2.3]
assert (gains.AP_delta_low.dropna() > 0).all() and bg_fg.AP_delta_high < 0
assert split_fg[["AP_delta", "AP_delta_low", "AP_delta_high"]].astype(float).round(1).tolist() == [0.1, -0.5, 0.7]
print(f"background minus foreground {bg_fg.AP_delta:+.1f} [{bg_fg.AP_delta_low:+.1f}, {bg_fg.AP_delta_high:+.1f}]")
print(f"both, split minus foreground {split_fg.AP_delta:+.1f} "
      f"[{split_fg.AP_delta_low:+.1f}, {split_fg.AP_delta_high:+.1f}]")

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
# **Exercise 3** (easy, 3 minutes). *Both, split* gains 2.3 AP. What part of the gap to the teacher does it close?

# %%
def gap_closed(baseline, distilled, teacher):
    """Three APs -> the closed part of the gap between baseline and teacher."""
    raise NotImplementedError

check.gap_closed(gap_closed)


# %% [markdown]
# Solution (unfold the cell below)

# %% jupyter={"source_hidden": true} tags=["solution"]
def gap_closed_solution(baseline, distilled, teacher):
    return (distilled - baseline) / (teacher - baseline)

assert check.gap_closed(gap_closed_solution).right
APs = gains.AP_mean["no distillation"], gains.AP_mean["both, split"], results.teacher_AP.mean()
fraction = gap_closed_solution(*APs)
assert 0.12 < fraction < 0.135
print(f"both, split: {fraction:.0%} of the gap to the teachers is closed, about an eighth")

# %% [markdown]
# ## 7 · The series
# Each notebook takes 45 to 90 minutes with its exercises. Each needs the ones before it, except that 08 to 10 may be
# read in any order.
#
# | notebook | question | equations |
# |---|---|---|
# | [01 What detectors see](01_what_detectors_see.ipynb) | what is in the maps of a teacher and of a student? | 1 |
# | [02 Where](02_where.ipynb) | which cells are objects, and how much does each weigh? | 2–4 |
# | [03 How much](03_how_much.ipynb) | which pixels and channels does a network attend to? | 5–8 |
# | [04 Focal](04_focal.ipynb) | how do masks and attention form a loss? | 9–11 |
# | [05 Global](05_global.ipynb) | what does the global term measure that the focal term does not? | 12–13 |
# | [06 Train](06_train.ipynb) | what happens in a training run, term by term? | 14 |
# | [07 Read an ablation](07_read_an_ablation.ipynb) | what may one conclude from a table, and what not? | |
# | [08 Methods](08_methods.ipynb) | what do other methods compare on the same image? | FBKD and others |
# | [09 Your own loss](09_your_own_loss.ipynb) | how do you add, test and evaluate a new loss? | yours |
# | [10 Full scale](10_full_scale.ipynb) | what changes with COCO and a GPU, and what does it cost? | |
#
# Three conventions hold in all of them. **Predict**: write down a guess before you run the next cell; a wrong guess
# teaches more than a right one. Every claim is **asserted** in a cell, so the claims of a notebook that ran are true.
# **Exercises** have a checker that says what is wrong, and a hidden solution.

# %% [markdown]
# ## 8 · Next steps
# The tables are sweeps: a YAML file with a question, rows and seeds. These come with the project:

# %%
from fgdlab.lab.sweeps import sweep_names

pd.set_option("display.max_colwidth", None)
sweeps = {name: load_sweep(name) for name in sweep_names()}
listed = {name: {"question": s.question.strip(), "rows": len(s.rows)} for name, s in sweeps.items()}
listed = pd.DataFrame(listed).T
listed.style.set_properties(**{"text-align": "left"})

# %% [markdown]
# | you want to | command, in the project's folder |
# |---|---|
# | reproduce the figure above with three seeds (about ten minutes on two cores) | `make table1` |
# | train one student with any setting | `fgdlab run --method fgd --area split --loss-ratio 2 --equal-terms` |
# | see losses, masks and detections of a run | open [run_one.ipynb](../ablations/run_one.ipynb) (`make lab`) |
# | use your own images | `fgdlab data check FOLDER`, then notebook 10 |
# | read the method itself | [`FGDLoss`](../fgdlab/fgd.py): the head of its file says where each equation is |
#
# **Summary.** A student that imitates its teacher's maps can detect better at no extra cost at inference. FGD says
# where, how much and in which relation to imitate. A table with several seeds shows whether it helped. Continue with
# [01](01_what_detectors_see.ipynb).

