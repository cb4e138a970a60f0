# %% [markdown]
# # 04 · Focal loss
#
# **Question** The maps of teacher and student differ in every cell and every channel. How does this become one
# number, and which cells dominate it?
#
# **Equations** 1 (plain feature loss), 9 (feature loss), 10 (attention loss), 11 (focal loss)
#
# **Code** [`feature_terms`](../fgdlab/focal.py), [`attention_term`](../fgdlab/focal.py),
# [`FGDLoss`](../fgdlab/fgd.py)
#
# **Needs** notebooks 02 (masks) and 03 (attention); broadcasting of torch tensors
#
# **Cost** about 20 s on 2 cores, 0.9 GB of memory, no download
#
# **You will** write the feature loss in five lines, compare it with the package, split the ratio of its two sums into
# three factors, and measure the effect of attention

# %%
import inspect

import pandas as pd
import torch
from IPython.display import Markdown
from matplotlib.colors import LogNorm

from fgdlab import FGDConfig, FGDLoss, attention, focal_masks, look, rows, total
from fgdlab.attention import Attention, without
from fgdlab.balance import Balance
from fgdlab.focal import attention_term, feature_terms
from fgdlab.lab.config import RunConfig
from fgdlab.lab.datasets import open_split
from fgdlab.lab.course.exercises import focal as check
from fgdlab.lab.course import map_table, number_grid, chart_figure
from fgdlab.lab.course import pretrained_detector, pretrained_facts
from fgdlab.lab.plots import TERM_STYLES, draw_loss_percentages
from fgdlab.relation import RelationTerm
from fgdlab.terms import Term

# %% tags=["parameters"]
QUICK = False

# %% [markdown]
# FGD's focal loss is not RetinaNet's *Focal Loss*, which is a classification loss. Here "focal" means: foreground and
# background are compared separately.
#
# ## The smallest example
#
# Two channels, three rows, four columns, one object. All numbers are whole, so that every result below can be checked
# by hand.

# %%
teacher = torch.tensor([[[[0.0, 0, 0, 0], [0, 2, 1, 0], [0, 0, 0, 1]],
                         [[0.0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]]])
student = torch.tensor([[[[0.0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]],
                         [[0.0, 0, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0]]]])
boxes = [torch.tensor([[8.0, 8.0, 24.0, 16.0]])]              # pixels at stride 8: row 1, columns 1 and 2
error = (teacher - student).square()                          # (N, C, H, W) = (1, 2, 3, 4)
error.shape

# %%
number_grid({f"squared error, channel {c}": error[0, c] for c in (0, 1)}, boxes[0], label="$(F^T - F^S)^2$")

# %% [markdown]
# *Figure 1.* The student differs from its teacher by 1 in four places: once inside the box (channel 0, row 1,
# column 1) and three times outside. Check: the two panels contain four ones.
#
# ## Equation 1: all cells alike
#
# $$L_{fea} = \frac{1}{CHW} \sum_{k=1}^{C} \sum_{i=1}^{H} \sum_{j=1}^{W}
#   \left(F^T_{k,i,j} - f(F^S_{k,i,j})\right)^2 \tag{1}$$
#
# | symbol | code | shape |
# |---|---|---|
# | $F^T$ | `teacher` | (N, C, H, W) |
# | $f(F^S)$ | `student`, after `FGDLoss.align` where the number of channels differs | (N, C, H, W) |
# | $\sum (\cdot)^2$ | [`RelationTerm`](../fgdlab/relation.py), `kind="mse"`; eq. 1 divides by C·H·W | scalar |
#
# **Predict.** Four errors of 1 in 2 · 3 · 4 values: what is the plain loss, and what fraction of it comes from the
# object?

# %%
plain = error.mean()
assert torch.isclose(plain, RelationTerm(2, "mse")(student, teacher) / error[0].numel())
print(f"plain loss {plain:.4f} = 4/24; fraction on the object {error[0, :, 1, 1:3].sum() / error.sum():.0%}")

# %% [markdown]
# One error in four is on the object, so the object has a quarter of the loss. A small object in a large map has
# almost none. Masks correct this.
#
# ## Equation 9: two sums with separate weights
#
# $$\begin{aligned} L_{fea}
#   &= \alpha \sum_{k,i,j} M_{ij} S_{ij} A^S_{ij} A^C_k \left(F^T_{kij} - f(F^S_{kij})\right)^2 \\
#   &+ \beta \sum_{k,i,j} (1 - M_{ij}) S_{ij} A^S_{ij} A^C_k \left(F^T_{kij} - f(F^S_{kij})\right)^2
#   \end{aligned} \tag{9}$$
#
# | symbol | code | shape |
# |---|---|---|
# | $M_{ij} S_{ij}$ | `masks.fg` of [`focal_masks`](../fgdlab/masks.py) | (N, H, W) |
# | $(1 - M_{ij}) S_{ij}$ | `masks.bg` | (N, H, W) |
# | $A^S_{ij}$ of the teacher | `weights.spatial` of [`attention`](../fgdlab/attention.py) | (N, H, W) |
# | $A^C_k$ of the teacher | `weights.channel` of [`attention`](../fgdlab/attention.py) | (N, C) |
# | the two sums before $\alpha$ and $\beta$ | [`feature_terms`](../fgdlab/focal.py) | two scalars |
#
# The masks of notebook 02 on this grid:

# %%
masks = focal_masks(boxes, [(24, 32)], (3, 4), rounding="exact")
areas = {"foreground M S": masks.fg[0], "background (1 - M) S": masks.bg[0]}
number_grid(areas, boxes[0], digits=None, label="weight of a cell")

# %% [markdown]
# *Figure 2.* The two cells of the box weigh 1/2 each, the other ten cells 1/10 each. Check: each panel sums to 1.
#
# **Predict.** Set attention to 1 everywhere for now. The foreground has one error of 1, the background three. What
# are the two sums?

# %%
ones = Attention(torch.ones(1, 3, 4), torch.ones(1, 2))
fg, bg = feature_terms(student, teacher, masks, ones)
assert torch.isclose(fg, torch.tensor(1 / 2)) and torch.isclose(bg, torch.tensor(3 / 10))
print(f"foreground {fg:.2f} = 1 x 1/2, background {bg:.2f} = 3 x 1/10")

# %% [markdown]
# The object had a quarter of the plain loss; now its one error weighs more than three in the background. Next, the
# attention of the **teacher** (notebook 03):

# %%
weights = attention(teacher, temperature=0.5)
number_grid({"$A^S$ of the teacher": weights.spatial[0]}, boxes[0], label="1 = average cell")

# %% [markdown]
# *Figure 3.* The teacher's activation magnitude is largest at row 1, column 1, so that cell weighs most. Check: all
# cells sum to H·W = 12.
#
# ## Five lines
#
# Error, channel weight, cell weight, two masks, mean over the batch. Equation 9 has nothing else.

# %%
def focal(student, teacher, masks, weights):
    error = (teacher - student).square()                               # (N, C, H, W)
    error = error * weights.channel[:, :, None, None]                  # times A^C
    error = error.sum(dim=1) * weights.spatial                         # (N, H, W), times A^S
    foreground, background = error * masks.fg, error * masks.bg        # times M S, times (1 - M) S
    return foreground.sum() / len(student), background.sum() / len(student)

# %%
mine, package = focal(student, teacher, masks, weights), feature_terms(student, teacher, masks, weights)
assert all(torch.isclose(a, b) for a, b in zip(mine, package, strict=True))
print("foreground {:.4f}, background {:.4f}; the code of the package:".format(*mine))
print(inspect.getsource(feature_terms).split('"""')[2])

# %% [markdown]
# ## Why the two sums differ in size
#
# Give every cell and channel the same error of 1: three objects, 48 channels, a grid of 16 × 16.
#
# **Predict.** Foreground and background sum without attention: 48 and 48, 144 and 48, or in proportion to their
# areas?

# %%
three = [torch.tensor([[8.0, 8, 40, 32], [64, 16, 80, 64], [24, 80, 104, 120]])]
even = Attention(torch.ones(1, 16, 16), torch.ones(1, 48))
zeros = torch.zeros(1, 48, 16, 16)
fg, bg = feature_terms(zeros, zeros + 1, focal_masks(three, [(128, 128)], (16, 16), rounding="exact"), even)
assert torch.isclose(fg, torch.tensor(144.0)) and torch.isclose(bg, torch.tensor(48.0))
print(f"foreground {fg:.0f} = 3 objects x 48 channels, background {bg:.0f} = 1 x 48 channels")

# %% [markdown]
# The weights of each object sum to 1, and those of the whole background sum to 1. So the foreground sum grows with
# the **number of objects**, and neither sum grows with area.
#
# **Predict.** P3 has 256 cells for this image, P5 has 16. For the same error everywhere, how many times larger is the
# foreground sum on P3 than on P5? And a plain sum of squares?

# %%
def even_error(cells):
    masks = focal_masks(three, [(128, 128)], (cells, cells), rounding="exact")
    error = torch.ones(1, 48, cells, cells)
    fg, _ = feature_terms(0 * error, error, masks, Attention(masks.fg * 0 + 1, torch.ones(1, 48)))
    return fg.item(), error.sum().item()

sums_of = {"P3": even_error(16), "P4": even_error(8), "P5": even_error(4)}
levels = pd.DataFrame(sums_of, index=["foreground", "plain sum"])
assert levels.loc["foreground"].round(2).eq(144).all()
assert levels.loc["plain sum", "P3"] == 16 * levels.loc["plain sum", "P5"]
levels.style.format("{:.0f}")

# %% [markdown]
# The foreground sums are equal: S divides by the cells of each box, so all levels weigh alike in equation 9. A plain
# sum gives P3 sixteen times the weight of P5. This matters for the global term in notebook 05.
#
# ## Equation 10: imitate the attention itself
#
# $$L_{at} = \gamma \left( l(A^S_t, A^S_s) + l(A^C_t, A^C_s) \right), \qquad l = \text{L1 distance} \tag{10}$$
#
# | symbol | code | shape |
# |---|---|---|
# | $A^S_t$, $A^C_t$ | `attention(teacher)`, a constant | (N, H, W), (N, C) |
# | $A^S_s$, $A^C_s$ | `attention(student)`, with a gradient | (N, H, W), (N, C) |
# | $l(\cdot) + l(\cdot)$ | [`attention_term`](../fgdlab/focal.py), a sum over cells, averaged over N | scalar |

# %%
at_s, at_t = attention(student), attention(teacher)
by_hand = (at_s.spatial - at_t.spatial).abs().sum() + (at_s.channel - at_t.channel).abs().sum()
assert torch.isclose(by_hand, attention_term(at_s, at_t))
print(f"{by_hand:.3f}")

# %% [markdown]
# **Predict.** What is the largest possible value? Take a grid of 16 cells, a teacher with uniform attention, and a
# student that attends to one cell only: its A^S is 16 there and 0 elsewhere.

# %%
one_cell = torch.zeros(1, 4, 4)
one_cell[0, 2, 1] = 16.0
far = attention_term(Attention(one_cell, torch.ones(1, 2)), Attention(torch.ones(1, 4, 4), torch.ones(1, 2)))
assert far == 30
print(f"{far:.0f} = 15 too much on one cell + 15 cells missing 1 each")

# %% [markdown]
# Both spatial attentions sum to H·W, so what one cell has too much, others have too little: the spatial part never
# exceeds 2 H·W. Unlike equation 9 it is bounded, and it is larger on finer levels.
#
# ## Equation 11: the focal loss
#
# $$L_{focal} = L_{fea} + L_{at} \tag{11}$$
#
# | symbol | code | shape |
# |---|---|---|
# | $L_{fea}$ | terms `"fg"` and `"bg"` of [`FGDLoss`](../fgdlab/fgd.py), one pair per level | scalars |
# | $L_{at}$ | term `"attention"`, one per level | scalars |
# | $L_{focal}$ | [`total`](../fgdlab/terms.py) of these terms: sum of `weight * raw` | scalar |
#
# Now on real maps, with the three detectors of the project: the teacher and two students of Table 1, the baseline and
# one that was trained with the focal loss.

# %%
names = ("teacher", "baseline", "distilled")
detectors = {name: pretrained_detector(name) for name in names}
pd.DataFrame({name: {"AP": pretrained_facts(name)["AP"]} for name in names}).style.format("{:.1f}")

# %%
dataset = open_split(RunConfig(train_images=64, eval_images=64), "val", progress=False)
images, targets = map(list, zip(*(dataset[i] for i in range(8 if QUICK else 64)), strict=True))
with torch.no_grad():
    views = {name: look(detector, images, targets) for name, detector in detectors.items()}
maps = {level: each for level, each in views["teacher"].features.items()}
{level: tuple(each.shape) for level, each in maps.items()}

# %%
authors = FGDConfig(lambda_=0, rounding="exact")              # the authors' configs; lambda_ = 0: focal loss only
loss = FGDLoss(tuple(maps), 48, 48, authors)
terms = loss(views["baseline"], maps)
table = pd.DataFrame(rows(0, terms))
assert torch.isclose(total(terms), torch.tensor(table["weighted"].sum(), dtype=torch.float32))
table.pivot(index="name", columns="level", values="raw").loc[["fg", "bg", "attention"]].style.format("{:.1f}")

# %% [markdown]
# The sums before $\alpha$, $\beta$, $\gamma$, for teacher and baseline student. Two questions: why are the numbers so
# large, and why is foreground much larger than background?
#
# ### How far apart are two uncorrelated maps?
#
# **Predict.** Both maps have a variance near 1, because a batch norm ends the pyramid. If they were uncorrelated,
# what would equation 1 be?

# %%
def gap(name, level):
    s, t = views[name].features[level], maps[level]
    together = torch.corrcoef(torch.stack([s.flatten(), t.flatten()]))[0, 1]
    numbers = {"variance of student": s.var(), "of teacher": t.var(), "correlation": together}
    return {name: value.item() for name, value in numbers.items()} | {"eq. 1": (s - t).square().mean().item()}

gaps = pd.DataFrame({(name, level): gap(name, level) for name in names[1:] for level in maps}).T
baseline = gaps.loc["baseline"]
sum_of_variances = baseline["variance of student"] + baseline["of teacher"]
assert (baseline["correlation"].abs() < 0.05).all() and (baseline["eq. 1"] - sum_of_variances).abs().max() < 0.05
distilled = gaps.loc["distilled"]
assert (distilled["correlation"] > 0.5).all() and (baseline["eq. 1"] > 2.5 * distilled["eq. 1"]).all()
assert QUICK or baseline["eq. 1"].between(1.6, 2.2).all() and distilled["correlation"].max() < 0.75
gaps.style.format("{:.2f}")

# %% [markdown]
# About 1 + 1 = 2: the variances add (on P5 they are smaller, 0.8 + 0.9). The channels of the baseline student do not
# correspond to the teacher's, because nothing in its training linked them. Feature distillation first teaches this
# correspondence: the distilled student's correlation is 0.57 to 0.70, and equation 1 is about a third of the
# baseline's.
#
# ### Which cells dominate the loss?

# %%
def cell_percent(level):
    s, t, scene = views["baseline"].features[level], maps[level], views["baseline"]
    m, a = focal_masks(scene.boxes, scene.frame_sizes(), tuple(t.shape[-2:]), rounding="exact"), attention(t)
    error, mask = (t - s).square(), authors.alpha * m.fg + authors.beta * m.bg
    full = (error * a.channel[:, :, None, None]).sum(1) * a.spatial * mask
    parts = {"eq. 1": error.sum(1), "with masks": error.sum(1) * mask, "masks and attention": full}
    return {name: 100 * each / each.sum(dim=(1, 2), keepdim=True) for name, each in parts.items()}, m.binary.bool()

n, shown = 2, {level: {name: each[2] for name, each in cell_percent(level)[0].items()} for level in maps}
norms = {level: LogNorm() for level in maps}
map_table(shown, images[n], targets[n]["boxes"], label="percent of the loss (log)", norms=norms)

# %% [markdown]
# *Figure 4.* Percent of the loss per cell, one image, one logarithmic scale per row. Equation 1 spreads the loss over
# the whole map. Masks concentrate it in the boxes. Attention selects cells in the boxes, and look-alikes outside of
# them. Check: every panel sums to 100; the table below averages over all images.

# %%
def inside_boxes(level):
    parts, box = cell_percent(level)
    return {name: (each * box).sum(dim=(1, 2)).mean().item() for name, each in parts.items()}

inside = pd.DataFrame({level: inside_boxes(level) for level in maps})
assert all(abs(each.sum() - 100) < 0.1 for row in shown.values() for each in row.values())
assert QUICK or (inside.loc["with masks"] > 2 * inside.loc["eq. 1"]).all()
assert inside.loc["masks and attention", "P3"] > inside.loc["with masks", "P3"]
inside.style.format("{:.0f}").set_caption("percent of the loss inside boxes, mean over images")

# %% [markdown]
# ### Three factors
#
# Over all images, foreground is larger than background for three reasons, and the ratio is exactly their product:
# more boxes than backgrounds (weight), larger errors on objects (error), and larger attention on objects (attention).

# %%
def factors(level, name="baseline"):
    s, t, scene = views[name].features[level], maps[level], views[name]
    m, a = focal_masks(scene.boxes, scene.frame_sizes(), tuple(t.shape[-2:]), rounding="exact"), attention(t)
    fg, bg = feature_terms(s, t, m, a)
    fg_plain, bg_plain = feature_terms(s, t, m, without(a, spatial=True, channel=True))
    weight, of_attention = m.fg.sum() / m.bg.sum(), (fg / fg_plain) / (bg / bg_plain)
    numbers = {"weight": weight, "error": fg_plain / bg_plain / weight, "attention": of_attention, "fg / bg": fg / bg}
    return {name: value.item() for name, value in numbers.items()}

three_factors = pd.DataFrame({level: factors(level) for level in maps}).T
product = three_factors["weight"] * three_factors["error"] * three_factors["attention"]
assert product.sub(three_factors["fg / bg"]).abs().max() < 1e-3
assert three_factors["error"].is_monotonic_decreasing and three_factors["attention"].is_monotonic_decreasing
three_factors.style.format("{:.2f}")

# %% [markdown]
# The first factor is the mean number of boxes per image (slightly less where boxes overlap). The other two decrease
# from fine to coarse levels: on P3 a cell can be completely inside an object, on P5 every cell contains object and
# background.
#
# ### Fractions by area and level
#
# **Predict.** With the weights of the authors' configs ($\alpha$ = 1e-3, $\beta$ = 5e-4, $\gamma$ = 5e-4; the paper's
# text has $\gamma$ = 1e-3), what fraction of the focal loss comes from the background: 33 %, 20 % or below 5 %?

# %%
def log_of(config):
    return pd.DataFrame(rows(0, FGDLoss(tuple(maps), 48, 48, config)(views["baseline"], maps)))

of_table_1 = pretrained_facts("distilled")["settings"]                # Table 1, row "both, split", laptop scale
assert of_table_1["loss_ratio"] == 2 and of_table_1["equal_terms"] and of_table_1["gamma"] == 0
no_attention_term = FGDConfig(gamma=0, lambda_=0, rounding="exact")
task = [Term("task", "all", torch.tensor(1.0))]                       # sizes in units of the task loss
balance = Balance(loss_ratio=2, equal_terms=True)
equal = balance(task, FGDLoss(tuple(maps), 48, 48, no_attention_term)(views["baseline"], maps))
logs = {"authors' weights": log_of(authors), "equal parts": pd.DataFrame(rows(0, equal))}
fractions = {name: log.groupby("name")["weighted"].sum() / log["weighted"].sum() for name, log in logs.items()}
fractions = pd.DataFrame(fractions).fillna(0)
alpha, beta = authors.alpha * balance.factor("fg"), authors.beta * balance.factor("bg")
assert 0.03 < fractions.loc["bg", "authors' weights"] < 0.05 and abs(fractions.loc["bg", "equal parts"] - 0.5) < 1e-6
assert QUICK or 11 < beta / alpha < 12.5
print(f"equal parts: beta is {beta / alpha:.0f} times alpha")
fractions.loc[["fg", "bg", "attention"]].style.format("{:.1%}")

# %%
figure = chart_figure(height=2.5)
styles = {name: TERM_STYLES[name] for name in ("fg", "bg", "attention")}
for ax, (name, log) in zip(figure.subplots(1, 2), logs.items(), strict=True):
    draw_loss_percentages(ax, log, styles)
    ax.set_xlim(0, 75)
    ax.set_title(f"{name}: {log['weighted'].sum():.2f} in all", fontsize=9)
handles = [bar[0] for bar in ax.containers[:3]]
figure.legend(handles, styles, loc="outside lower center", ncols=3, fontsize=8.5, frameon=False)
figure

# %% [markdown]
# *Figure 5.* Fraction of each term by level. With the weights chosen for COCO, the background of these scenes has 4 %
# of the loss: "both areas" would in effect be foreground only. Our Table 1 therefore measures the sums over the first
# 50 steps and scales them to the task loss ([`Balance`](../fgdlab/balance.py)): in the row "both, split", foreground
# and background each have the size of the task loss. The right panel does this on the maps of the baseline student;
# $\beta$ is then 12 times $\alpha$, not half of it. Check: all bars of a panel sum to 100 %.
#
# **What it means.** $\alpha$ and $\beta$ mean nothing without the sums that they multiply. A comparison of
# "foreground only" with "background only" at given $\alpha$ and $\beta$ is first of all a comparison of two loss
# sizes. Our Table 1 gives all its distilled rows the same size at the start, twice the task loss. Print the fractions
# before you interpret a table.
#
# ## With and without attention
#
# Table 5 of the paper asks what the attentions contribute. Its first row, without either, is the student without
# distillation; here "none" keeps the loss and removes both attentions. **Predict.** Attention averages 1 over the
# cells and 1 over the channels. So the foreground sum of P3 stays about the same without it: true or false?

# %%
def sums(level, name="baseline", **off):
    s, t, scene = views[name].features[level], maps[level], views[name]
    m = focal_masks(scene.boxes, scene.frame_sizes(), tuple(t.shape[-2:]), rounding="exact")
    return [each.item() for each in feature_terms(s, t, m, without(attention(t), **off))]

off_s, off_c = {"spatial": True}, {"channel": True}
switches = {"both": {}, "spatial only": off_c, "channel only": off_s, "none": off_s | off_c}
by_switch = {
    name: {(level, area): value for level in maps for area, value in zip(("fg", "bg"), sums(level, **off), strict=True)}
    for name, off in switches.items()
}
kinds = pd.DataFrame(by_switch).T
kinds.style.format("{:.0f}").background_gradient(cmap="cividis", axis=0)

# %%
grown = kinds.loc["both"] / kinds.loc["none"]
assert (kinds.loc["channel only"] / kinds.loc["none"]).between(1, 1.06).all()
assert grown["P3", "fg"] > 4 and grown["P3", "fg"] > 3 * grown["P3", "bg"]
fg, bg = grown["P3", "fg"], grown["P3", "bg"]
Markdown(f"False: on P3 attention multiplies the foreground sum by {fg:.1f} and the background sum by {bg:.1f}.")

# %% [markdown]
# Attention averages 1 over **all** cells, but the teacher's activation magnitude is larger on objects, and errors are
# largest where it is large: large weights meet large errors. So a row "without attention" at the same $\alpha$ also
# has a loss that is several times smaller. A fair comparison gives it a larger weight.
#
# `channel only` adds at most 6 %: the batch norm at the end of this pyramid makes all channels about equal in
# magnitude, so most of $A^C$ stays near 1. Standard FPNs have no batch norm there; on them the result may differ.
#
# How concentrated is the loss? The fraction of the foreground sum in the largest 1 % of the foreground cells, with
# and without attention:

# %%
def largest_cells(off, level="P3", part=0.01):
    s, t, scene = views["baseline"].features[level], maps[level], views["baseline"]
    m = focal_masks(scene.boxes, scene.frame_sizes(), tuple(t.shape[-2:]), rounding="exact")
    a = without(attention(t), **off)
    error = ((t - s).square() * a.channel[:, :, None, None]).sum(1) * a.spatial * m.fg
    cells = error[m.fg > 0].sort(descending=True).values
    return (cells[:max(round(part * len(cells)), 1)].sum() / cells.sum()).item()

concentration = {name: largest_cells(off) for name, off in switches.items()}
assert concentration["both"] > 2 * concentration["none"]
pd.DataFrame({"fraction in the largest 1 % of foreground cells": concentration}).style.format("{:.0%}")

# %% [markdown]
# ## Before and after
#
# The distilled student was trained with $\alpha$ and $\beta$ only ($\gamma$ = 0). **Predict.** By what factor is its
# foreground sum smaller than the baseline's: 1.5, 4.5 or 10? And does the attention term, which was not in its loss,
# fall too?

# %%
after = pd.DataFrame(rows(0, loss(views["distilled"], maps)))
logs = {"baseline": table, "distilled": after}
both = pd.DataFrame({name: log.groupby("name")["raw"].sum() for name, log in logs.items()})
both["ratio"] = both["baseline"] / both["distilled"]
assert QUICK or 4 < both.loc["fg", "ratio"] < 5 and 3 < both.loc["bg", "ratio"] < 3.5
assert 1.3 < both.loc["attention", "ratio"] < 1.6
both.loc[["fg", "bg", "attention"]].style.format("{:.1f}")

# %% [markdown]
# The foreground sum by 4.5, the background sum by 3.2. The attention term falls too, by 1.4: attention is a function
# of the map, so a student that imitates the map also imitates the attention. Equation 10 adds weight to the same
# target.
#
# ## Exercises
#
# **Exercise 1** (easy, 5 minutes). One sum of equation 9 for a batch: `mask` and `spatial` are (N, H, W), `channel`
# is (N, C). Return a scalar, averaged over the N images.

# %%
def feature_sum(student, teacher, mask, spatial, channel):
    raise NotImplementedError


check.feature_sum(feature_sum)

# %% [markdown]
# Solution (unfold the cell below)

# %% jupyter={"source_hidden": true} tags=["solution"]
def feature_sum_solution(student, teacher, mask, spatial, channel):
    error = (teacher - student).square() * channel[:, :, None, None]
    return (error.sum(dim=1) * spatial * mask).sum() / len(student)


assert check.feature_sum(feature_sum_solution).right

# %% [markdown]
# **Exercise 2** (easy, 5 minutes). Equation 10 before $\gamma$, from the two maps (N, C, H, W). You may use
# `attention(features, temperature)` of the package.

# %%
def attention_l1(student, teacher, temperature):
    raise NotImplementedError


check.attention_l1(attention_l1)

# %% [markdown]
# Solution (unfold the cell below)

# %% jupyter={"source_hidden": true} tags=["solution"]
def attention_l1_solution(student, teacher, temperature):
    s, t = attention(student, temperature), attention(teacher, temperature)
    return ((s.spatial - t.spatial).abs().sum() + (s.channel - t.channel).abs().sum()) / len(student)


assert check.attention_l1(attention_l1_solution).right

# %% [markdown]
# **Exercise 3** (medium, 10 minutes). Choose weights as this project's Table 1 does for "both, split". `sums` is
# `{"P3": (foreground, background), ...}` before weights, `task_loss` a number. Return `(alpha, beta)` such that
# foreground and background, each summed over all levels, equal `task_loss`.

# %%
def weights_by_size(sums, task_loss):
    raise NotImplementedError


check.weights_by_size(weights_by_size)

# %% [markdown]
# Solution (unfold the cell below)

# %% jupyter={"source_hidden": true} tags=["solution"]
def weights_by_size_solution(sums, task_loss):
    foreground, background = (sum(each) for each in zip(*sums.values(), strict=True))
    return task_loss / foreground, task_loss / background


assert check.weights_by_size(weights_by_size_solution).right
