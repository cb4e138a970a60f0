# %% [markdown]
# # 06 · Train a student
#
# **Question** What happens in one training step with a teacher, and what do a few hundred of them change?
#
# **Equations** 14 (total loss)
#
# **Code** [`Distiller`](../fgdlab/distill.py), [`total`](../fgdlab/terms.py), [`rows`](../fgdlab/terms.py), [`train`](../fgdlab/lab/training/loop.py)
#
# **Needs** notebooks 04 and 05; a torch training loop
#
# **Cost** about four minutes on 2 cores, 1.3 GB of memory, no download (scenes and the teacher come with the project)
#
# **You will** take one step apart, write the loop, watch every loss term while a student learns, and compare it with a student that learned alone,
# from the same first weights and the same images

# %%
import copy
import inspect

import pandas as pd
import torch
from IPython.display import display
from matplotlib.colors import LogNorm
from torch import nn
from torchvision.ops import box_convert, box_iou, nms

from fgdlab import Distiller, FGDConfig, FGDLoss, attention, look, rows, total
from fgdlab.lab.config import RunConfig
from fgdlab.lab.datasets import shuffled_batches, open_split
from fgdlab.lab.detectors import build
from fgdlab.lab.training import coco_scores, detections
from fgdlab.lab.course.exercises import training as check
from fgdlab.lab.course import map_table, chart_figure
from fgdlab.lab.course import pretrained_detector, pretrained_facts
from fgdlab.lab.training import learning_rate, make_optimizer, train
from fgdlab.lab.plots import detections_figure, loss_terms

# %% tags=["parameters"]
QUICK = False
SEED = 0

# %% [markdown]
# ## What goes in
#
# Scenes with digits to learn from, other scenes to be judged by, a trained teacher, and a student with random weights. Table 1 of this project
# trains for 900 steps of 8 images; here it is half of that.

# %%
torch.set_num_threads(1)                                   # sums in one order: the same digits on every run of a machine
steps = 6 if QUICK else 450
config = RunConfig(epochs=1, seed=SEED, **({"train_images": 64, "eval_images": 16} if QUICK else {}))
scenes, judged = (open_split(config, split, progress=False) for split in ("train", "val"))
print(f"{len(scenes)} scenes to learn from, {len(judged)} to be judged by; {steps} steps of {config.batch_size} images")

# %%
teacher = pretrained_detector("teacher")
def new_student():
    torch.manual_seed(SEED)
    return build("retinanet", "compact_s", len(scenes.classes))

student = new_student()
sizes = {name: sum(each.numel() for each in net.parameters()) for name, net in {"teacher": teacher, "student": student}.items()}
assert sizes["teacher"] > 4 * sizes["student"]
print(f"parameters: teacher {sizes['teacher']:,}, student {sizes['student']:,}; levels {student.levels}")

# %% [markdown]
# ## Equation 14
#
# $$L = L_{original} + L_{focal} + L_{global} \tag{14}$$
#
# | symbol | code | shape |
# |---|---|---|
# | $L_{original}$ | `student(images, targets)`: the detector's own losses, untouched | dict of scalars |
# | $L_{focal}$ | terms `"fg"`, `"bg"`, `"attention"` of [`FGDLoss`](../fgdlab/fgd.py), one a level | scalars |
# | $L_{global}$ | term `"global"`, one a level | scalars |
# | $L$ | [`total`](../fgdlab/terms.py): sum of `weight * raw` over the list | scalar |
#
# The two weights that matter most, $\alpha$ and $\beta$, are those of this project's Table 1: foreground and background each weigh about as much as
# the detector's own loss (notebook 04, exercise 3).

# %%
weights = FGDConfig(alpha=1.7e-3, beta=1.4e-2, gamma=5e-4, lambda_=5e-6, rounding="exact")
fgd = FGDLoss(student.levels, student.backbone.out_channels, teacher.backbone.out_channels, weights)
weights.weights()

# %% [markdown]
# ## One step, by hand
#
# First the student's own losses. Its forward pass also makes what FGD needs, pixels, boxes and FPN maps; in a notebook [`look`](../fgdlab/scene.py)
# runs these first stages in the open.

# %%
images, targets = next(shuffled_batches(scenes, config.batch_size, seed=SEED, epoch=0))
own = student.train()(images, targets)
scene = look(student, images, targets)
print({name: round(value.item(), 3) for name, value in own.items()})
print({level: tuple(each.shape) for level, each in scene.features.items()})

# %% [markdown]
# Then the teacher's maps **of the same pixels**, without gradient, and the terms:

# %%
with torch.no_grad():
    teacher_maps = look(teacher, images).features
terms = fgd(scene, teacher_maps)
table = pd.DataFrame(rows(1, terms)).pivot(index="name", columns="level", values="weighted")
by_hand = sum(own.values()) + sum(term.weight * term.raw for term in terms)
by_hand.backward()
print(f"L = {by_hand:.3f} = {sum(own.values()):.3f} of its own + the sum of this table:")
table.loc[["fg", "bg", "attention", "global"]].style.format("{:.3f}")

# %% [markdown]
# **Predict.** Which of these have a gradient now: the student, the teacher, the two relation blocks of each level?

# %%
def has_gradient(module):
    return any(each.grad is not None and each.grad.abs().sum() > 0 for each in module.parameters())

parts = {"student": student, "teacher": teacher, "relation blocks": fgd.relation}
learning = {name: has_gradient(part) for name, part in parts.items()}
assert learning == {"student": True, "teacher": False, "relation blocks": True}
learning

# %% [markdown]
# The loss has layers of its own, and they learn too (notebook 05 says what they can and cannot do). So the optimiser needs **student + loss**, and
# nothing of the teacher.
#
# [`Distiller`](../fgdlab/distill.py) is these cells in one module: it taps the student's own forward pass, so that nothing is computed twice, and
# hides the teacher from `parameters()` and from checkpoints.

# %%
print(inspect.getsource(Distiller.forward))

# %%
distiller = Distiller(new_student(), teacher, copy.deepcopy(fgd)).train()
loss = total(distiller(images, targets))
held = sum(each.numel() for each in distiller.parameters())
assert torch.isclose(loss, by_hand, rtol=1e-4)
assert held == sizes["student"] + sum(each.numel() for each in fgd.parameters())
assert {name.split(".")[0] for name in distiller.state_dict()} == {"student", "loss"}
print(f"L = {loss:.3f}, as by hand")
print(f"{held:,} parameters to train: student {sizes['student']:,} + loss {held - sizes['student']:,}")

# %% [markdown]
# ## The loop
#
# Fifteen lines. Learning rate, terms, gradient, clip, step, log: `rows` turns the list of terms into plain numbers, one row for each term and level.

# %%
def fit(distiller, scenes, steps, watch=None):
    optimizer, log = make_optimizer(list(distiller.parameters()), config), []
    distiller.train()
    order = shuffled_batches(scenes, config.batch_size, seed=config.seed, epoch=0)
    for step, (images, targets) in zip(range(1, steps + 1), order, strict=False):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step - 1, steps, config)
        terms = distiller(images, targets)
        optimizer.zero_grad()
        total(terms).backward()
        nn.utils.clip_grad_norm_(distiller.parameters(), config.clip)
        optimizer.step()
        log += rows(step, terms)
        if watch and (step % 50 == 0 or step == steps):
            watch(log)
    return pd.DataFrame(log)

# %% [markdown]
# Is it the loop that the tables of this project use? Five steps with each, from the same first weights:

# %%
few = open_split(RunConfig(train_images=40, eval_images=16), "train", progress=False)
ours, theirs = Distiller(new_student()), Distiller(new_student())
fit(ours, few, 5)
train(theirs, few, config, progress="off")
assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True))
print("after 5 steps every weight is equal, bit for bit")

# %% [markdown]
# It is, and [`train`](../fgdlab/lab/training/loop.py) adds what a run needs besides: logs on disk, checkpoints that go on where a kill stopped, a stop with
# a name when a term is not finite.
#
# ## Alone
#
# First the student without a teacher: `Distiller(student)` with no loss. While it runs the figure below is drawn anew every 50 steps.

# %%
def live():
    shown = display(chart_figure(), display_id=True)
    return lambda log: shown.update(loss_terms(pd.DataFrame(log)))

baseline = Distiller(new_student())
log_alone = fit(baseline, scenes, steps, watch=live())

# %% [markdown]
# *Figure 1.* Two terms, classification and box regression, both falling. Check: the last logged step is the last step of the loop.

# %%
def own_loss(log, first, last):
    own = log[log["name"].isin(["classification", "bbox_regression"]) & log["step"].between(first, last)]
    return own.groupby("step")["weighted"].sum().mean()

first, last = own_loss(log_alone, 1, 50), own_loss(log_alone, steps - 49, steps)
assert log_alone["step"].max() == steps and (QUICK or last < first)
print(f"own loss, mean of the first and of the last 50 steps: {first:.2f}, {last:.2f}")

# %% [markdown]
# ## With a teacher
#
# The same first weights (the seed), the same images in the same order (the seed again), the same learning rates. **Predict.** The total loss will
# be larger than above, since terms were added. And the detector's *own* loss
# at the end: larger, because the gradient has other work to do, or smaller?

# %%
distilled = Distiller(new_student(), teacher, FGDLoss(student.levels, 48, 48, weights))
assert all(torch.equal(a, b) for a, b in zip(new_student().parameters(), distilled.student.parameters(), strict=True))
log_taught = fit(distilled, scenes, steps, watch=live())

# %% [markdown]
# *Figure 2.* Six terms. Foreground and background start above the detector's own two terms and end beside them; attention and global weigh little
# here. Check: the shares on the right add up to 100 %, and
# the table below has the means.

# %%
def ends(log):
    by_step = log.pivot_table(index="step", columns="name", values="weighted", aggfunc="sum")
    return pd.DataFrame({"first 50 steps": by_step.head(50).mean(), "last 50 steps": by_step.tail(50).mean()})

means = pd.concat({"alone": ends(log_alone), "with a teacher": ends(log_taught)}, axis=1)
own_means = means.loc[["classification", "bbox_regression"]].sum()
assert QUICK or own_means["with a teacher", "last 50 steps"] < own_means["alone", "last 50 steps"]
at_first = means["with a teacher", "first 50 steps"]
assert at_first[["attention", "global"]].max() < 0.1 * at_first["bg"]
means.loc[["classification", "bbox_regression", "fg", "bg", "attention", "global"]].style.format("{:.3f}", na_rep="-")

# %% [markdown]
# Smaller: compare the rows `classification` and `bbox_regression` of the two last columns. What the teacher's maps say about a scene is also what
# the student's own loss asks for, only said in every cell instead of by a few boxes.
#
# ## Before and after
#
# **Maps.** The distance of equation 1 from the teacher, on scenes that nobody trained on. **Predict.** Two maps of variance 1 that know nothing of
# each other are at a distance of about 2 (notebook 04).
# Order three students by their distance: before training, trained alone, distilled.

# %%
pictures, truths = map(list, zip(*(judged[i] for i in range(16 if QUICK else 64)), strict=True))
students = {"untrained": new_student().eval(), "alone": baseline.student.eval(), "distilled": distilled.student.eval()}
with torch.no_grad():
    maps = {name: look(each, pictures, truths).features for name, each in {"teacher": teacher, **students}.items()}
def distances(name):
    return {level: (maps[name][level] - each).square().mean().item() for level, each in maps["teacher"].items()}

gap = pd.DataFrame({name: distances(name) for name in students})
assert QUICK or (gap["alone"].between(1.5, 2.5).all() and (gap["distilled"] < 0.6 * gap["alone"]).all())
assert QUICK or (gap["untrained"] < gap["alone"]).all()
gap.style.format("{:.2f}").background_gradient(cmap="cividis", axis=None)

# %% [markdown]
# Training alone takes a student **away** from its teacher. Before training its maps are close to 0, so that the distance is the teacher's own
# variance, about 1; then it finds channels of its own, which
# agree with the teacher's no better than chance, and their variance comes on top.

# %%
assert maps["untrained"]["P3"].var() < 0.2 < 0.8 < maps["teacher"]["P3"].var()
n, names, norms = 7, ("teacher", "distilled", "alone"), {"P3": LogNorm(), "P4": LogNorm()}
shown = {level: {name: attention(maps[name][level]).spatial[n] for name in names} for level in norms}
map_table(shown, pictures[n], truths[n]["boxes"], label="$A^S$ (1 = average, log)", norms=norms)

# %% [markdown]
# *Figure 3.* Spatial attention on one scene, one logarithmic scale a row. The student that trained alone is loud in similar places, though its
# channels mean other things; the distilled one is closer to its
# teacher, though its peaks are lower (the ranges above the panels). Check: the correlation of the logarithms over all scenes, below.

# %%
def agreement(name, level="P3"):
    pair = torch.stack([attention(maps[who][level]).spatial.log().flatten() for who in ("teacher", name)])
    return torch.corrcoef(pair)[0, 1].item()

agree = {name: agreement(name) for name in students}
assert QUICK or agree["distilled"] > agree["alone"] + 0.1 > agree["untrained"] + 0.3
pd.DataFrame({"correlation of log A^S with the teacher's, P3": agree}).style.format("{:.2f}")

# %% [markdown]
# **Detections.** Does it help to find digits? COCO's AP and AR on the validation scenes, in percent:

# %%
found = {name: detections(students[name], judged) for name in ("alone", "distilled")}
scores = pd.DataFrame({name: coco_scores(judged.ground_truth(), each, judged.image_ids) for name, each in found.items()}).T
scores = scores[["AP", "AP50", "AR"]].astype(float)
assert QUICK or (scores.loc["distilled"] > scores.loc["alone"]).all()
scores.style.format("{:.1f}")

# %% [markdown]
# What do such numbers look like? Take as many places in a scene as it has objects, the surest ones, and one class for each place. **Predict.**
# Which share of all objects do they hit (right class, IoU of at least 0.5)?

# %%
by_scene = {name: {i: [] for i in judged.image_ids} for name in found}
for name, scene_lists in by_scene.items():
    for each in found[name]:
        scene_lists[each["image_id"]].append(each)

def surest(name, i):
    """The surest detections of scene i at different places, as many as it has objects."""
    ours = by_scene[name][judged.image_ids[i]]
    boxes = torch.tensor([each["bbox"] for each in ours]).view(-1, 4)
    scores = torch.tensor([each["score"] for each in ours])
    kept = nms(box_convert(boxes, "xywh", "xyxy"), scores, 0.3)[:len(judged[i][1]["boxes"])]
    return [ours[k] for k in kept.tolist()]

# %%
def hits(name, i):
    truth, ours = judged[i][1], surest(name, i)
    boxes = box_convert(torch.tensor([each["bbox"] for each in ours]).view(-1, 4), "xywh", "xyxy")
    classes = torch.tensor([each["category_id"] for each in ours])
    same = torch.tensor(judged.category_ids)[truth["labels"] - 1][:, None] == classes[None]
    return ((box_iou(truth["boxes"], boxes) >= 0.5) & same).any(dim=1).sum().item() if len(boxes) else 0

objects = sum(len(judged[i][1]["boxes"]) for i in range(len(judged)))
hit = {name: sum(hits(name, i) for i in range(len(judged))) / objects for name in ("alone", "distilled")}
assert QUICK or hit["distilled"] > hit["alone"]
print(f"{objects} objects: " + ", ".join(f"{name} {share:.0%}" for name, share in hit.items()))

# %%
some = [4, 7, 9]
detections_figure([each for i in some for each in surest("alone", i)], judged, some, threshold=0)

# %% [markdown]
# *Figure 4.* The student that trained alone: its surest places (blue) and the objects (orange, dashed). Check its classes against those written
# below the objects.

# %%
detections_figure([each for i in some for each in surest("distilled", i)], judged, some, threshold=0)

# %% [markdown]
# *Figure 5.* The distilled student on the same scenes. Count right classes here and in Figure 4; look for look-alikes that either of them takes for
# a digit.
#
# ## What this shows, and what it does not
#
# **One seed.** Another seed gives other numbers. How far is the difference from the luck of the scenes? Split the scenes in four and score each part:

# %%
def part_scores(name, k):
    ids = judged.image_ids[k::4]
    return coco_scores(judged.ground_truth(), [each for each in found[name] if each["image_id"] in ids], ids)["AP"]

parts = pd.DataFrame({f"part {k + 1}": {name: part_scores(name, k) for name in ("alone", "distilled")} for k in range(4)})
parts.loc["difference"] = parts.loc["distilled"] - parts.loc["alone"]
assert QUICK or parts.loc["difference"].mean() > 0
parts.style.format("{:.1f}")

# %% [markdown]
# The parts share one teacher and one pair of students, so this is the noise of the scenes alone. The noise of the student's seed is in Table 1,
# which trains every row with five seeds, for twice as many steps:

# %%
table = pd.read_csv("../ablations/results/table1_areas.csv")
by_row = table.groupby("row")["AP"].agg(["mean", "std", "count"]).loc[["none", "split"]]
assert by_row.loc["split", "mean"] > by_row.loc["none", "mean"] + 5
by_row = by_row.rename(index={"none": "no distillation", "split": "both areas, split"})
by_row.style.format({"mean": "{:.1f}", "std": "{:.1f}"})

# %%
long = {name: pretrained_facts(name)["AP"] for name in ("baseline", "distilled", "teacher")}
assert QUICK or scores.loc["distilled", "AP"] - scores.loc["alone", "AP"] < long["distilled"] - long["baseline"]
short = scores["AP"].rename({"alone": "baseline"})
both = pd.DataFrame({f"{steps} steps (above)": short, "900 steps, Table 1, seed 0": long}).loc[list(long)]
both.style.format("{:.1f}", na_rep="-")

# %% [markdown]
# - **A gain belongs to its schedule.** Here it is a few AP, after twice the steps clearly more (the table above), and in the paper, after 24 epochs
#   of COCO, 2 to 3 AP. Directions carry over from a short run, sizes do not.
# - **Equal steps are not equal time.** A distilled step runs the teacher too. Tables of this project cache its maps; count seconds, not steps, if
#   seconds are what you have.
# - **Not the same loss as Table 1.** Attention and global terms were on here and are off there; which term did the work this notebook cannot say.
#   That is what ablations are for: notebook 07.
#
# ## Exercises
#
# **Exercise 1** (easy, 3 minutes). Equation 14: from a list of `Term(name, level, raw, weight)`, the number that is optimised.

# %%
def total_loss(terms):
    raise NotImplementedError


check.total_loss(total_loss)

# %% [markdown]
# Solution (unfold the cell below)

# %% jupyter={"source_hidden": true} tags=["solution"]
def total_loss_solution(terms):
    return sum(term.weight * term.raw for term in terms)


assert check.total_loss(total_loss_solution).right

# %% [markdown]
# **Exercise 2** (medium, 10 minutes). The learning rate of a step, counted from 0: over the first `warm` steps linear, from `peak / warm` to
# `peak`; then half a cosine, from `peak` towards 0 at `steps`.

# %%
def rate(step, steps, peak, warm):
    raise NotImplementedError


check.rate(rate)

# %% [markdown]
# Solution (unfold the cell below)

# %% jupyter={"source_hidden": true} tags=["solution"]
def rate_solution(step, steps, peak, warm):
    if step < warm:
        return peak * (step + 1) / warm
    return peak * 0.5 * (1 + torch.cos(torch.tensor(torch.pi * (step - warm) / (steps - warm)))).item()


assert check.rate(rate_solution).right

# %% [markdown]
# **Exercise 3** (easy, 5 minutes). Read a log: `log` is what `rows` returns for one step, a list of dicts. Return `{name: share of the total}`, in
# 0..1, each name summed over its levels.

# %%
def shares(log):
    raise NotImplementedError


check.fractions(shares)

# %% [markdown]
# Solution (unfold the cell below)

# %% jupyter={"source_hidden": true} tags=["solution"]
def shares_solution(log):
    summed = pd.DataFrame(log).groupby("name")["weighted"].sum()
    return (summed / summed.sum()).to_dict()


assert check.fractions(shares_solution).right
