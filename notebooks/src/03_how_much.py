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
# # 03 · How much: spatial and channel attention
#
# **Question** Which cells and channels should weigh more in the loss, and what decides this?
#
# **Equations** (5) and (6) the magnitudes $G^S$ and $G^C$, (7) and (8) the attentions $A^S$ and $A^C$.
#
# **Code** [`attention`](../fgdlab/attention.py), [`Attention`](../fgdlab/attention.py),
# [`without`](../fgdlab/attention.py): one short file.
#
# **Needs** Notebook 01 (maps, channels, mean |F|) and 02 (the masks M and S). What softmax does.
#
# **Cost** About 30 seconds on 2 cores, 0.9 GB of memory; no download.
#
# **You will** compute both attentions on a map of six cells, vary the temperature, see what attention adds to the
# masks, measure the attention gap between teacher and student that the paper shows as a figure, and read what the
# temperature changes in trained students.

# %%
import math

import pandas as pd
import torch
from IPython.display import Markdown
from matplotlib.colors import CenteredNorm, LogNorm

from fgdlab import attention, focal_masks, look
from fgdlab.lab.config import RunConfig
from fgdlab.lab.course import Answer, chart_figure, finish_chart, map_table, number_grid
from fgdlab.lab.course import distilled_config, pretrained_detector, pretrained_facts
from fgdlab.lab.course import schematic
from fgdlab.lab.course.exercises import how_much as check
from fgdlab.lab.datasets import open_split
from fgdlab.lab.explorer import static_figure
from fgdlab.lab.plots import DISTILLED_COLOUR, STUDENT_COLOUR, TEACHER_COLOUR
from fgdlab.lab.stats import estimate

# %% tags=["parameters"]
QUICK = False

# %%
schematic("attention")

# %% [markdown]
# *FGD in one picture.* This notebook is about the highlighted part: from the teacher's maps to its attention.
#
# In a box, M S gives every cell the same weight. But a box contains a digit *and* background in its corners, and some
# of the 48 channels respond more than others. In FGD the teacher decides: where its activation magnitude is large,
# the student's error weighs more.
#
# ## 1 Magnitude: the mean of |F|
#
# A feature map F of 2 channels and 2 x 3 cells, small enough to compute by hand:

# %%
features = torch.tensor([[[1.0, -2, 0], [1, 0, -1]], [[-1, 4, 0], [3, 0, 1]]])
number_grid({"channel 0": features[0], "channel 1": features[1]}, label="F",
            norm=CenteredNorm(), cmap="PuOr")

# %% [markdown]
# *Figure 1.* Two channels of a map, purple positive, orange negative. Check: cell (row 0, column 1) holds -2 in one
# channel and 4 in the other.
#
# Features have both signs, and either sign is a response. So the magnitude of a cell is the mean of absolute values
# over the channels, and the magnitude of a channel is the mean over the cells:
#
# $$G^S_{i,j}(F) = \frac{1}{C} \sum_{c=1}^{C} \left| F_{c,i,j} \right| \tag{5}$$
#
# $$G^C_{c}(F) = \frac{1}{HW} \sum_{i=1}^{H} \sum_{j=1}^{W} \left| F_{c,i,j} \right| \tag{6}$$
#
# Code: the first lines of [`attention`](../fgdlab/attention.py).
#
# | symbol | code | shape |
# |:--|:--|:--|
# | $F$ | `features` | (N, C, H, W) |
# | $G^S$ | `g_spatial` | (N, H, W) |
# | $G^C$ | `g_channel` | (N, C) |
#
# **Predict.** What is $G^S$ at row 0, column 1? What would it be without the absolute value?

# %%
g_spatial, g_channel = features.abs().mean(dim=0), features.abs().mean(dim=(1, 2))
assert g_spatial.argmax() == 1 and features.mean(dim=0).argmax() == 3
print("G^C, one magnitude per channel:", g_channel)
both = {"$G^S$: mean of |F|": g_spatial, "mean of F": features.mean(dim=0)}
number_grid(both, label="magnitude", norm=CenteredNorm(), cmap="PuOr")

# %% [markdown]
# *Figure 2.* Mean over channels with and without absolute values. Check: (2 + 4) / 2 = 3, the largest; without
# absolute values it is (-2 + 4) / 2 = 1, less than its neighbour below left, and two cells that do respond are 0.
#
# Channel 1 has the larger magnitude: 9/6 against 5/6.
#
# ## 2 Attention: softmax, times the number of cells
#
# $$A^S(F) = H \cdot W \cdot \mathrm{softmax}\!\left(G^S(F) / T\right) \tag{7}$$
#
# $$A^C(F) = C \cdot \mathrm{softmax}\!\left(G^C(F) / T\right) \tag{8}$$
#
# Code: the last lines of [`attention`](../fgdlab/attention.py), which returns an
# [`Attention`](../fgdlab/attention.py).
#
# | symbol | code | shape | sums to |
# |:--|:--|:--|:--|
# | $A^S$ | `attention(features, T).spatial` | (N, H, W) | H W per image |
# | $A^C$ | `attention(features, T).channel` | (N, C) | C per image |
# | $T$ | `temperature`, 0.5 in the paper | | |
#
# The softmax runs over all cells of an image at once (or over all channels).
#
# **Predict.** What is the mean of $A^S$ over the six cells?

# %%
a_spatial = 6 * torch.softmax(g_spatial.flatten() / 0.5, dim=0).view(2, 3)
a_channel = 2 * torch.softmax(g_channel / 0.5, dim=0)
assert abs(a_spatial.mean() - 1) < 1e-6
assert abs(a_spatial[0, 1] / a_spatial[1, 0] - math.e**2) < 1e-4
number_grid({"$G^S$": g_spatial, "$A^S$ at T = 0.5": a_spatial},
            label="magnitude | attention")

# %% [markdown]
# *Figure 3.* Magnitude and the resulting attention. Check: magnitudes 3, 2, 1, 0 become 5.1, 0.69, 0.09, 0.01: at T =
# 0.5 a difference of 1 in magnitude is a factor of e² = 7.4 in attention. The six numbers on the right have mean 1.
#
# The mean is 1 for any map, because a softmax sums to 1 and is multiplied by the number of its entries. So attention
# redistributes weight: 2 means twice the average cell. The package, for a batch of one:

# %%
ours = attention(features[None], temperature=0.5)
assert torch.allclose(ours.spatial[0], a_spatial)
assert torch.allclose(ours.channel[0], a_channel)
[tuple(each.shape) for each in ours]

# %% [markdown]
# ## 3 Temperature
#
# **Predict.** T goes to infinity: what does the attention of every cell become? T goes to 0: what does the largest
# of six cells get?

# %%
number_grid({f"T = {t}": attention(features[None], t).spatial[0]
             for t in (100.0, 1.0, 0.1)}, label="$A^S$")

# %% [markdown]
# *Figure 4.* The same map at three temperatures. Check: within 0.02 of 1 everywhere at T = 100; 6 in one cell and 0
# in the others at T = 0.1. Each panel has mean 1.
#
# As T goes to 0 the largest cell gets H·W and the others 0; as T grows without bound, all get 1. $A^C$ does the same
# with C in place of H·W, and with the same T.
#
# Only G / T enters, so T has the unit of the features.
#
# **Predict.** A network with features ten times as large: which T gives the attention that T = 0.5 gives here?

# %%
assert torch.allclose(attention(10 * features[None], 5.0).spatial,
                      attention(features[None], 0.5).spatial)
{t: round(attention(10 * features[None], t).spatial.max().item(), 3)
 for t in (0.5, 5.0)}

# %% [markdown]
# T = 5; at T = 0.5 all its attention is on one cell. A good T for one detector need not be good for another: the
# authors' code has 0.5 for RetinaNet and 0.8 for FCOS. In the paper's Table 7 it has little effect: 40.1, 40.4, 40.4,
# 40.2, 40.0 mAP at T = 0.3, 0.5, 0.8, 1.0, 1.2. Section 8 has our Table 7.
#
# ## 4 A real teacher
#
# The three detectors of the project, and digit scenes that none of them was trained on:

# %%
settings = RunConfig(train_images=64, eval_images=64)
dataset = open_split(settings, "val", progress=False)
some = (dataset[i] for i in range(8 if QUICK else 50))
images, targets = map(list, zip(*some, strict=True))
with torch.no_grad():
    views = {name: look(pretrained_detector(name), images, targets)
             for name in ("teacher", "baseline", "distilled")}
teacher = views["teacher"].features
{level: tuple(features.shape) for level, features in teacher.items()}

# %%
chosen = 2
at = {f"T = {t}": attention(teacher["P3"], t).spatial[chosen] for t in (2.0, 0.5, 0.2)}
assert at["T = 2.0"].min() > 0.75 and at["T = 2.0"].max() < 2
map_table({"P3": at}, images[chosen], targets[chosen]["boxes"], label="$A^S$ (log)",
          norms={"P3": LogNorm(vmin=0.1)})

# %% [markdown]
# *Figure 5.* The teacher's attention on P3 of one scene at three temperatures, on one logarithmic scale that starts
# at 0.1. Check: at T = 0.5 and 0.2 the largest cells are in the boxes; at T = 2 all cells are between 0.75 and 2. The
# range in the titles widens as T falls.

# %%
spatial = {level: attention(features).spatial for level, features in teacher.items()}
sharp = pd.DataFrame({
    "largest": {level: a.amax((1, 2)).mean().item() for level, a in spatial.items()},
    "above average": {level: (a > 1).float().mean().item()
                      for level, a in spatial.items()},
})
assert sharp["largest"].is_monotonic_decreasing and sharp["above average"].max() < 0.5
assert QUICK or 17 < sharp.loc["P3", "largest"] < 21 and sharp.loc["P5", "largest"] < 2
assert QUICK or 0.2 < sharp.loc["P3", "above average"] < 0.25
styled = sharp.style.format({"largest": "{:.1f}", "above average": "{:.0%}"})
styled.set_caption("the teacher's A^S at T = 0.5, mean over scenes")

# %% [markdown]
# On P3 the largest cell has about 19 times the average attention, on P5 less than twice. About a fifth of the cells of
# P3 are above average, the others below: a softmax takes a little from many cells and gives it to few.
#
# ### What attention adds to the masks
#
# The focal loss, equation (9) of the next notebook, weights a cell by M S **times** $A^S$.
#
# **Predict.** A box sums to 1 under M S. Under M S times $A^S$ of a trained teacher: less than 1, 1, or more?

# %%
boxes = views["teacher"].boxes, views["teacher"].frame_sizes()
masks = {level: focal_masks(*boxes, tuple(a.shape[1:]), rounding="exact")
         for level, a in spatial.items()}
fg = masks["P3"].fg[chosen]
weighed = {"M S": fg, "M S times $A^S$": fg * spatial["P3"][chosen]}
map_table({"P3": weighed}, images[chosen], targets[chosen]["boxes"],
          label="weight of a cell")

# %% [markdown]
# *Figure 6.* Left: every cell of a box has the same weight. Right: the cells to which the teacher responds have most
# of the weight. Check: the right panel is not constant in a box, and its range is larger.

# %%
def factor_of(weights, a):
    return ((weights * a).sum() / weights.sum()).item()

factor = pd.DataFrame({
    "foreground": {level: factor_of(masks[level].fg, a)
                   for level, a in spatial.items()},
    "background": {level: factor_of(masks[level].bg, a)
                   for level, a in spatial.items()},
})
assert factor["foreground"].is_monotonic_decreasing
assert factor.loc["P3", "background"] < 0.8
assert QUICK or 2.4 < factor.loc["P3", "foreground"] < 3
assert QUICK or factor.loc["P5"].sub(1).abs().max() < 0.05
styled = factor.style.format("{:.2f}")
styled.set_caption("by what factor attention multiplies the weight of an area")

# %% [markdown]
# More: on P3 attention multiplies the weight of the objects by 2.7 at the expense of the background, so
# $\alpha : \beta$ alone does not give the ratio of the two. On P5 the effect is below 5 %.
#
# ## 5 Channels

# %%
channel = {name: attention(view.features["P5"]).channel.mean(0)
           for name, view in views.items()}
order = channel["teacher"].argsort(descending=True)
chart = chart_figure(height=2.8)
ax = chart.subplots()
colours = {"teacher": TEACHER_COLOUR, "baseline": STUDENT_COLOUR,
           "distilled": DISTILLED_COLOUR}
for (name, colour), marker in zip(colours.items(), "os^", strict=True):
    ax.plot(channel[name][order], marker, color=colour, markersize=4, label=name)
ax.axhline(1, color="#555555", linewidth=0.8)
ax.set(xlabel="channels, sorted by the teacher's", ylabel="$A^C$, mean over scenes")
ax.set_title("channel attention at T = 0.5, 48 channels of P5")
ax.legend(frameon=False, fontsize=8)
finish_chart(ax)
chart

# %% [markdown]
# *Figure 7.* Channel attention on P5 of three networks, channels sorted by the teacher's. Check: the triangles of the
# distilled student decrease with the teacher's circles, the squares of the baseline do not. The channels of two
# networks that were trained separately do not correspond (notebook 01).
#
# **Predict.** The correlation with the teacher's $A^C$ over the 48 channels: for the baseline student near 0, 0.5 or 1?
# And is it as high on P3 as on P5 for the distilled student?

# %%
def agreement(name, level):
    """Correlation over channels of a network's mean A^C with the teacher's."""
    means = [attention(views[network].features[level]).channel.mean(0)
             for network in ("teacher", name)]
    return torch.corrcoef(torch.stack(means))[0, 1].item()


r = pd.DataFrame({name: {level: agreement(name, level) for level in teacher}
                  for name in ("baseline", "distilled")})
means = {level: attention(each).channel.mean(0) for level, each in teacher.items()}
spread = pd.Series({level: each.std().item() for level, each in means.items()})
assert QUICK or all(each.min() > 0.76 and each.max() < 1.45 for each in means.values())
quoted = {"baseline": [0.19, -0.11, -0.37], "distilled": [0.54, 0.40, 0.93]}
assert QUICK or (r - pd.DataFrame(quoted, r.index)).abs().max(axis=None) < 0.01
assert QUICK or (r["distilled"] > r["baseline"] + 0.3).all()
assert r["distilled"].idxmax() == "P5"
assert QUICK or spread["P5"] > 2 * spread[["P3", "P4"]].max()
r.style.format("{:+.2f}")

# %% [markdown]
# For the baseline student it is low on P3 and P4 (+0.19, -0.11) and negative on P5 (-0.37): the channels where the
# teacher's magnitude is large are not those of the student. For the distilled student it is high on P5 (0.93) and
# moderate on P3 and P4 (0.54, 0.40). There the teacher's channels differ less than half as much as on P5, so there is
# less to imitate.
#
# A batch norm at the end of these pyramids (notebook 01) gives all channels about the same variance. So the teacher's
# mean $A^C$ stays between 0.76 and 1.45. Standard FPNs have no such batch norm: channel attention has less to work
# with in our runs than in the paper's, and the channel row of our Table 5 tests little.

# %% [markdown]
# ## 6 The gap between teacher and student
#
# The paper's Figure 1 shows the attention of a teacher and of a student. From it the paper concludes that the two
# differ much on the foreground and little on the background; this is why FGD separates the two. A figure shows one
# image. Here is one, and then the numbers over many images (for the spatial attention; the paper's figure shows the
# channel attention too).

# %%
def attention_maps(level):
    return {name: attention(view.features[level]).spatial[chosen]
            for name, view in views.items()}

rows = {level: attention_maps(level) for level in teacher}
logs = {level: LogNorm() for level in rows}
on_box = {name: masks["P3"].binary[chosen].flatten()[a.flatten().topk(3).indices]
          for name, a in rows["P3"].items()}
hits = {name: int(each.sum()) for name, each in on_box.items()}
assert hits == {"teacher": 3, "baseline": 0, "distilled": 3}
map_table(rows, images[chosen], targets[chosen]["boxes"], label="$A^S$ (log)",
          norms=logs)

# %% [markdown]
# *Figure 8.* $A^S$ of teacher, baseline and distilled student on one scene; one scale per row. Check: on P3 the three
# brightest cells of the teacher and of the distilled student are in boxes, those of the baseline student are not.
# This scene was chosen because it shows this; the next cell counts all scenes.

# %%
def largest_is_object(name):
    """Fraction of scenes whose largest cell of P3 is on an object."""
    spatial = attention(views[name].features["P3"]).spatial
    largest = spatial.flatten(1).argmax(dim=1, keepdim=True)
    return masks["P3"].binary.flatten(1).gather(1, largest).mean().item()


bright = {name: largest_is_object(name) for name in views}
assert QUICK or bright["teacher"] > bright["distilled"] > bright["baseline"]
assert QUICK or bright["baseline"] > 2.5 * masks["P3"].binary.mean()
assert QUICK or 0.7 < bright["teacher"] < 0.8
bright = pd.Series(bright, name="largest cell of P3 is on an object")
bright.to_frame().style.format("{:.0%}")

# %% [markdown]
# The order is as expected: teacher, distilled student, baseline student. All three are far above chance, which is the
# 12 % of the cells that objects cover. Even the teacher's largest cell is elsewhere in one scene of four, for instance
# on a look-alike (notebook 01).
#
# **Predict.** The gap is |$A^S$ of the teacher minus $A^S$ of the baseline student|. By what factor is it larger on a
# foreground cell of P3 than on a background cell: 1, 4, or 10?

# %%
found = []
for level, mask in masks.items():
    for name in ("baseline", "distilled"):
        of_student = attention(views[name].features[level]).spatial
        difference = (spatial[level] - of_student).abs()
        for area, where in {"foreground": mask.binary,
                            "background": 1 - mask.binary}.items():
            mean = (difference * where).sum((1, 2)) / where.sum((1, 2))
            found += [(level, area, name, i, each)
                      for i, each in enumerate(mean.tolist())]
gaps = pd.DataFrame(found,
                    columns=["level", "area", "student", "scene", "gap"]).dropna()
table = gaps.pivot_table(index=["level", "area"], columns="student", values="gap",
                         sort=False)
table.style.format("{:.2f}").set_caption("mean gap per cell, averaged over scenes")

# %%
chart = chart_figure(height=3.0)
ax = chart.subplots()
spots, by_group = list(table.index), gaps.groupby(["level", "area", "student"])["gap"]
for shift, name, colour in ((-0.12, "baseline", STUDENT_COLOUR),
                            (0.12, "distilled", DISTILLED_COLOUR)):
    for x, (level, area) in enumerate(spots):
        values = by_group.get_group((level, area, name))
        mean, _, _, low, high = estimate(values)
        ax.plot([x + shift] * len(values), values, ".", color=colour, alpha=0.25,
                markersize=4)
        error = [[mean - low], [high - mean]]
        ax.errorbar(x + shift, mean, error, fmt="o", color=colour, capsize=3,
                    label="" if x else name)
ax.set_xticks(range(len(spots)), [f"{level}\n{area}" for level, area in spots],
              fontsize=8)
ax.set_ylabel("|$A^S$ teacher - $A^S$ student|")
ax.set_title(f"gap per cell, {len(images)} scenes, up to {gaps['gap'].max():.1f}")
ax.legend(frameon=False, fontsize=8)
finish_chart(ax)
chart

# %% [markdown]
# *Figure 9.* The spatial part of the paper's Figure 1 as numbers. Small points: scenes; large points: mean and 95 %
# t-interval over scenes. Check: on P3 and P4 the baseline's gap is larger on foreground than on background, and the
# intervals are far apart; on P5 they are not. The distilled student's gaps are about two thirds of the baseline's.

# %%
wide = gaps.pivot_table(index=["student", "level", "scene"], columns="area",
                        values="gap")
paired = (wide["foreground"] - wide["background"]).groupby(["student", "level"])
excess = pd.DataFrame({key: estimate(each)._asdict()
                       for key, each in paired}).T[["mean", "low", "high", "n"]]
times = table["baseline"].unstack("area").eval("foreground / background")
print("foreground over background, baseline:", times.round(1).to_dict())
assert QUICK or 3.5 < times["P3"] < 4.5 and 2.2 < times["P4"] < 3
on_p5 = excess.loc[("baseline", "P5")]
assert QUICK or on_p5["low"] < 0 < on_p5["high"]
assert QUICK or (excess["low"].drop("P5", level=1) > 0).all()
assert QUICK or torch.cat([t["boxes"][:, 3] - t["boxes"][:, 1]
                           for t in targets]).lt(32).float().mean() > 0.5
styled = excess.style.format("{:.2f}").format("{:.0f}", subset="n")
styled.set_caption("gap on foreground minus background, paired by scene, 95 %")

# %% [markdown]
# 4.1 on P3 and 2.6 on P4: the paper's claim holds there. On P5, a map of 4 x 4 cells, it does not: a cell of 32
# pixels is larger than most digits and contains both object and background. All this is per cell. The loss sums over
# cells, and there are many more background cells.
#
# **Predict.** Of the whole gap on P3, summed over all cells, what fraction is on the foreground: 90 %, 65 %, 35 %?

# %%
difference = (spatial["P3"] - attention(views["baseline"].features["P3"]).spatial).abs()
on_objects = (difference * masks["P3"].binary).sum() / difference.sum()
of_cells = masks["P3"].binary.mean()
print(f"foreground: {of_cells:.0%} of the cells, {on_objects:.0%} of the gap")
assert QUICK or 0.3 < on_objects < 0.4 and 0.11 < of_cells < 0.125

# %% [markdown]
# About 35 %. Each foreground cell has four times the gap, but there are seven to eight background cells for each. The
# attention loss, equation (10), sums over all cells without a mask: most of it comes from the background.
#
# ### Does distillation close the gap?
#
# The distilled student of the project was trained with foreground and background terms only; $\gamma$, the weight of
# the attention term, was 0. Its loss weights cells by the teacher's attention, but does not compare the two
# attentions.

# %%
assert pretrained_facts("distilled")["settings"]["gamma"] == 0
closed = 1 - table["distilled"] / table["baseline"]
assert closed.between(0.29, 0.39).all() or QUICK
closed.rename("fraction of the gap that is closed").to_frame().style.format("{:.0%}")

# %% [markdown]
# About a third of the gap is gone all the same: a student that imitates the features also imitates their magnitude.
# This is one student, of one seed. The sweep `weights` asks what $\gamma$, the weight of the attention term, changes.
#
# One identity: the attention of both networks has mean 1, so what the student lacks in one place it has too much
# elsewhere.

# %%
signed = spatial["P3"] - attention(views["baseline"].features["P3"]).spatial
assert signed.sum((1, 2)).abs().max() < 1e-3
inside = (signed * masks["P3"].binary).sum() / len(images)
outside = signed.sum() / len(images) - inside
print("teacher minus student, sum per scene: "
      f"{inside:+.1f} on foreground, {outside:+.1f} on background")

# %% [markdown]
# ## 7 The explorer
#
# [`explore`](../fgdlab/lab/explorer/explorer.py) shows all of this for any image, level, temperature and student,
# together with the loss. [`static_figure`](../fgdlab/lab/explorer/explorer.py) takes the same arguments and returns
# one view as a figure. The next cell does this for the scene of figure 8. For the widget, put these lines into a new
# cell of a running notebook:
#
# ```python
# from fgdlab.lab.explorer import explore
#
# explore(students, pretrained_detector("teacher"), dataset, distilled_config(), ap=ap, image=chosen, level="P3")
# ```
#
# **Predict.** What will the explorer give as the range of the teacher's attention on P3? Figure 8 has shown it.

# %%
students = {name: pretrained_detector(name) for name in ("baseline", "distilled")}
ap = {name: pretrained_facts(name)["AP"] for name in views}
static_figure(students, pretrained_detector("teacher"), dataset, distilled_config(),
              ap=ap, image=chosen, level="P3")

# %% [markdown]
# *Figure 10.* One view of the explorer: $A^S$ of teacher and student on one scale, their difference, channels, loss
# and gaps. Check: the range above the teacher's map is that of figure 8, upper row. The loss is that of $\alpha$ and
# $\beta$ as they are; in training, a factor on each made the two sums equal (notebook 04).
#
# The widget, on another scene; every control acts at once, and `.figure()`, `.numbers()` and `.code()` return the
# view as a figure, as numbers, and as the Python code that computes it:
#
# ![The explorer as a widget: maps of teacher and student, their difference, channels, loss terms,
# gap](images/explorer.png)
#
# ## 8 Which temperature is best?
#
# Students are trained at five temperatures. All start with the same ratio of FGD's loss to the task loss, chosen at
# T = 0.5. This is Table 7 of the paper on a laptop.
#
# **Predict.** Between T = 0.3 and T = 1.2 the attention changes a lot (section 3). How many AP lie between the best
# and the worst T, compared with the gain over no distillation?

# %%
rows = "t0.3", "t0.8", "t1.0", "t1.2"
answer = Answer("table7_temperature", ("t0.5", "none"),
                *((row, "t0.5") for row in rows))
of_rows = [answer.sweep.settings(row, 0, "laptop") for row in answer.sweep.rows]
assert {each.loss_ratio for each in of_rows} == {2}
answer

# %%
if answer.runs is None:
    text = "The question stays open here until the sweep has run with today's settings."
else:
    gain = answer.difference("t0.5", "none")
    others = {row: answer.difference(row, "t0.5") for row in rows}
    means = [0.0, *(each.mean for each in others.values())]
    clear = [row for row, each in others.items() if each.low > 0 or each.high < 0]
    text = (f"From the best to the worst T it is {max(means) - min(means):.1f} AP; "
            f"distillation at T = 0.5 gains {gain.mean:+.1f}. In {len(clear)} of 4 "
            "differences to T = 0.5 the interval leaves out 0.")
Markdown(text)

# %% [markdown]
# How to read this: a T may be called better only if its interval leaves out 0; four comparisons are made, so one of
# them may do so by chance (notebook 07). Another T changes the size of the loss as well, because attention multiplies
# the squared errors; so the sweep scales every row to the same size at the start.
#
# ## Exercises
#
# Solutions are at the end of the notebook.
#
# **Exercise 1** (medium, 10 minutes, an experiment) How concentrated is an attention? Write `effective_fraction(a)` for
# one map (H, W): $\left(\sum a\right)^2 / \left(H W \sum a^2\right)$. It is 1 if all cells weigh the same, and
# 1/(H W) if one cell has all the weight. *Predict first:* does it rise or fall from T = 0.5 to T = 0.1, and is it
# larger on P3 or on P5? *Run* it on `attention(teacher["P3"], 0.1).spatial[chosen]` and its variants, and *read*.

# %%
def effective_fraction(a):
    raise NotImplementedError


check.effective_fraction(effective_fraction)


# %% [markdown]
# **Exercise 2** (hard, 25 minutes, an experiment) The paper has one T for all levels. Give each level its own, so that
# the attention is equally concentrated everywhere. *Predict first:* on P3 T = 0.5. Must T be higher or lower on P5?
#
# *Write* `temperature_for(features, fraction)`: for maps (N, C, H, W) the T at which the effective fraction, averaged
# over the images, is `fraction`, to 1 %. It must work for features of any scale. *Run* it on P4 and P5 with the
# fraction that P3 has at T = 0.5, and *read*: by what factor do the temperatures differ?

# %%
def temperature_for(features, fraction):
    raise NotImplementedError


check.temperature_for(temperature_for)

# %% [markdown]
# ## Recap
#
# - Magnitude is the mean of |F|; attention is its softmax over the image, scaled to mean 1. The smaller T, the fewer
#   cells have the weight.
# - Attention multiplies M S and moves weight from background to objects, on P3 and P4. Per cell the gap of the student
#   is larger on objects there; summed over cells, most of it is on the background.
# - [`attention_of`](../fgdlab/attention.py) can use the student's attention instead, as a control (notebook 04).
#
# Next, masks and attention together: [04 Focal](04_focal.ipynb).
#
# ## Solutions
#
# Unfold a cell to read it.

# %% jupyter={"source_hidden": true} tags=["solution"]
def effective_fraction_solution(a):
    return (a.sum() ** 2 / (a.numel() * a.square().sum())).item()


assert check.effective_fraction(effective_fraction_solution).right
parts = {level: {t: effective_fraction_solution(attention(features, t).spatial[chosen])
                 for t in (0.1, 0.5, 1.0)} for level, features in teacher.items()}
parts = pd.DataFrame(parts)
assert all(parts[level].is_monotonic_increasing for level in parts)
assert (parts["P3"] < parts["P4"]).all() and (parts["P4"] < parts["P5"]).all()
parts.rename_axis("T").style.format("{:.2f}")


# %% jupyter={"source_hidden": true} tags=["solution"]
def mean_fraction(features, t):
    maps = attention(features, t).spatial
    return sum(map(effective_fraction_solution, maps)) / len(maps)


def temperature_for_solution(features, fraction):
    scale = features.abs().mean().item()               # T has the unit of the features
    low, high = 1e-3 * scale, 1e3 * scale
    for _ in range(40):
        middle = math.sqrt(low * high)
        below = mean_fraction(features, middle) < fraction
        low, high = (middle, high) if below else (low, middle)
    return middle


assert check.temperature_for(temperature_for_solution).right
on_p3 = mean_fraction(teacher["P3"], 0.5)
found = {level: temperature_for_solution(each, on_p3)
         for level, each in teacher.items()}
assert abs(found["P3"] - 0.5) < 0.01
assert QUICK or 0.2 < found["P4"] < 0.3 and 0.08 < found["P5"] < 0.11
pd.Series(found, name="T").to_frame().style.format("{:.2f}")
