# %% [markdown]
# # 04 · Focal loss
#
# **Question** The maps of teacher and student differ in every cell and every channel. How does this become one
# number, which cells dominate it, and is attention needed?
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
# three factors, and measure how attention changes the size of the loss

# %%
import inspect

import pandas as pd
import torch
from IPython.display import display
from matplotlib.colors import LogNorm

from fgdlab import FGDConfig, FGDLoss, attention, focal_masks, look, rows, total
from fgdlab.attention import Attention, without
from fgdlab.balance import Balance
from fgdlab.focal import attention_term, feature_terms
from fgdlab.lab.config import RunConfig
from fgdlab.lab.course import Answer, chart_figure, map_table, number_grid
from fgdlab.lab.course import pretrained_detector, pretrained_facts, schematic
from fgdlab.lab.course.exercises import focal as check
from fgdlab.lab.datasets import open_split
from fgdlab.lab.detectors import build
from fgdlab.lab.plots import TERM_STYLES, draw_loss_percentages
from fgdlab.relation import RelationTerm
from fgdlab.terms import Term

# %% tags=["parameters"]
QUICK = False

# %%
schematic("focal")

# %% [markdown]
# *FGD in one picture.* Highlighted: masks and attention weigh the squared error of the two maps. FGD's
# focal loss is not RetinaNet's *Focal Loss*, which is a classification loss. Here "focal" means: foreground and
# background are compared separately.
#
# ## The smallest example
#
# Two channels, three rows, four columns, one object. All numbers are whole, so that every result below can be checked
# by hand.

# %%
channel_0 = torch.tensor([[0.0, 0, 0, 0], [0, 2, 1, 0], [0, 0, 0, 1]])
channel_1 = torch.tensor([[0.0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]])
teacher = torch.stack([channel_0, channel_1])[None]       # (N, C, H, W) = (1, 2, 3, 4)
student = teacher.clone()
student[0, 0, 1, 1] -= 1
student[0, 0, 2, 3] -= 1
student[0, 1, 0, 1] -= 1
student[0, 1, 2, 0] += 1
boxes = [torch.tensor([[8.0, 8, 24, 16]])]        # stride 8: row 1, columns 1 and 2
error = (teacher - student).square()
errors = {f"squared error, channel {c}": error[0, c] for c in (0, 1)}
number_grid(errors, boxes[0], label="$(F^T - F^S)^2$")

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
plain, on_object = error.mean(), error[0, :, 1, 1:3].sum() / error.sum()
of_package = RelationTerm(2, "mse")(student, teacher) / error[0].numel()
assert torch.isclose(plain, of_package) and on_object == 1 / 4
print(f"plain loss {plain:.4f} = 4/24; fraction on the object {on_object:.0%}")

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
# Letters: on maps $F^S$, $F^T$ the superscripts mean student and teacher; $A^S$ is spatial, $A^C$ channel attention;
# $S$ alone is the scale mask, $T$ alone the temperature. All attention in eq. 9 is the teacher's.
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
assert all(abs(each.sum() - 1) < 1e-6 for each in areas.values())
number_grid(areas, boxes[0], digits=None, label="weight of a cell")

# %% [markdown]
# *Figure 2.* The two cells of the box weigh 1/2 each, the other ten cells 1/10 each. Check: each panel sums to 1.
#
# **Predict.** Set attention to 1 everywhere for now. The foreground has one error of 1, the background three. What
# are the two sums?

# %%
ones = Attention(torch.ones(1, 3, 4), torch.ones(1, 2))
fg, bg = feature_terms(student, teacher, masks, ones)
assert torch.isclose(fg, torch.tensor(1 / 2)) and torch.isclose(bg, torch.tensor(0.3))
print(f"foreground {fg:.2f} = 1 x 1/2, background {bg:.2f} = 3 x 1/10")

# %% [markdown]
# The object had a quarter of the plain loss; now its one error weighs more than three in the background. Next, the
# attention of the **teacher** (notebook 03):

# %%
weights = attention(teacher, temperature=0.5)
assert weights.spatial.argmax() == 5 and abs(weights.spatial.sum() - 12) < 1e-4
number_grid({"$A^S$": weights.spatial[0]}, boxes[0], label="1 = average cell")

# %% [markdown]
# *Figure 3.* The teacher's activation magnitude is largest at row 1, column 1, so that cell weighs most. Check: all
# cells sum to H·W = 12.
#
# ## Five lines
#
# Error, channel weight, cell weight, two masks, mean over the batch. Equation 9 has nothing else.

# %%
def focal(student, teacher, masks, weights):
    error = (teacher - student).square()                        # (N, C, H, W)
    error = error * weights.channel[:, :, None, None]           # times A^C
    error = error.sum(dim=1) * weights.spatial                  # (N, H, W), times A^S
    sums = (error * masks.fg).sum(), (error * masks.bg).sum()   # M S and (1 - M) S
    return [each / len(student) for each in sums]

# %%
mine = focal(student, teacher, masks, weights)
package = feature_terms(student, teacher, masks, weights)
assert all(torch.isclose(a, b) for a, b in zip(mine, package, strict=True))
print("foreground {:.4f}, background {:.4f}; the package:".format(*mine))
print(inspect.getsource(feature_terms).split('"""')[2])

# %% [markdown]
# ## Why the two sums differ in size
#
# Give every cell and channel the same error of 1: three objects, 48 channels, a grid of 16 × 16.
#
# **Predict.** Foreground and background sum without attention: 48 and 48, 144 and 48, or in proportion to their
# areas? And P3 has 256 cells for this image, P5 has 16. How many times larger is the foreground sum on P3 than on P5?
# And a plain sum of squares?

# %%
three = [torch.tensor([[8.0, 8, 40, 32], [64, 16, 80, 64], [24, 80, 104, 120]])]

def even_error(cells):
    masks = focal_masks(three, [(128, 128)], (cells, cells), rounding="exact")
    even = Attention(torch.ones(1, cells, cells), torch.ones(1, 48))
    error = torch.ones(1, 48, cells, cells)
    return [*feature_terms(0 * error, error, masks, even), error.sum()]

# %%
sizes = {"P3": even_error(16), "P4": even_error(8), "P5": even_error(4)}
sizes = pd.DataFrame(sizes, ["foreground", "background", "plain sum"]).astype(float)
assert sizes.loc["foreground"].round(2).eq(144).all()
assert abs(sizes.loc["background", "P3"] - 48) < 0.01
assert sizes.loc["plain sum", "P3"] == 16 * sizes.loc["plain sum", "P5"]
sizes.style.format("{:.0f}")

# %% [markdown]
# 144 = 3 objects × 48 channels, and 48. The weights of each object sum to 1, and those of the whole background sum to
# 1. So the foreground sum grows with the **number of objects**, and neither sum grows with area or with the size of
# the map. A plain sum gives P3 sixteen times the weight of P5. This matters for the global term in notebook 05.
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
by_hand = sum((a - b).abs().sum() for a, b in zip(at_s, at_t, strict=True))
assert torch.isclose(by_hand, attention_term(at_s, at_t))
print(f"{by_hand:.3f}")

# %% [markdown]
# **Predict.** What is the largest possible value? Take a grid of 16 cells, a teacher with uniform attention, and a
# student that attends to one cell only: its A^S is 16 there and 0 elsewhere.

# %%
one_cell, uniform = torch.zeros(1, 4, 4), torch.ones(1, 4, 4)
one_cell[0, 2, 1] = 16.0
far, even = (Attention(each, torch.ones(1, 2)) for each in (one_cell, uniform))
far = attention_term(far, even)
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
# $L_{at}$ already contains $\gamma$. Now on real maps: the teacher and three students of the same size, one
# *untrained* (only its backbone is trained), the *baseline* of Table 1, and one that was trained with eq. 9.

# %%
settings = RunConfig(train_images=64, eval_images=64)
dataset = open_split(settings, "val", progress=False)
scenes = [dataset[i] for i in range(8 if QUICK else 64)]
images, targets = map(list, zip(*scenes, strict=True))
torch.manual_seed(0)
detectors = {"untrained": build("retinanet", "compact_s", 10, pretrained=True).eval()}
names = ("teacher", "baseline", "distilled")
detectors |= {name: pretrained_detector(name) for name in names}
with torch.no_grad():
    views = {name: look(each, images, targets) for name, each in detectors.items()}
maps = views["teacher"].features
print({name: round(pretrained_facts(name)["AP"], 1) for name in names})
{level: tuple(each.shape) for level, each in maps.items()}

# %%
authors = FGDConfig(lambda_=0, rounding="exact")  # the authors' configs: gamma = 5e-4

def log_of(name, config=authors):
    loss = FGDLoss(tuple(maps), 48, 48, config)
    return pd.DataFrame(rows(0, loss(views[name], maps)))

table = log_of("baseline")
of_loss = total(FGDLoss(tuple(maps), 48, 48, authors)(views["baseline"], maps))
assert abs(of_loss - table["weighted"].sum()) < 1e-4
raw = table.pivot(index="name", columns="level", values="raw")
raw.loc[["fg", "bg", "attention"]].style.format("{:.1f}")

# %% [markdown]
# The sums before $\alpha$, $\beta$, $\gamma$, for teacher and baseline student. Two questions: why are the numbers so
# large, and why is foreground much larger than background?
#
# ### How far apart are two uncorrelated maps?
#
# **Predict.** Both maps have a variance near 1, because in these detectors a batch norm ends the pyramid. (Standard
# FPNs have none.) If the maps were uncorrelated, what would equation 1 be?

# %%
def gap(name, level):
    s, t = views[name].features[level], maps[level]
    together = torch.corrcoef(torch.stack([s.flatten(), t.flatten()]))[0, 1]
    values = s.var(), t.var(), together, (s - t).square().mean()
    columns = ("variance of student", "of teacher", "correlation", "eq. 1")
    return {column: x.item() for column, x in zip(columns, values, strict=True)}

pairs = [(name, level) for name in ("baseline", "distilled") for level in maps]
gaps = pd.DataFrame({pair: gap(*pair) for pair in pairs}).T
baseline, distilled = gaps.loc["baseline"], gaps.loc["distilled"]
variances = baseline["variance of student"] + baseline["of teacher"]
assert (baseline["correlation"].abs() < 0.05).all()
assert (baseline["eq. 1"] - variances).abs().max() < 0.05
assert (distilled["correlation"] > 0.5).all()
assert (baseline["eq. 1"] > 2.5 * distilled["eq. 1"]).all()
assert QUICK or baseline["eq. 1"].between(1.6, 2.2).all()
gaps.style.format("{:.2f}")

# %% [markdown]
# About 1 + 1 = 2: the variances add. The channels of the baseline student do not correspond to the teacher's, because
# nothing in its training linked them. Feature distillation first teaches this correspondence: the maps of the
# distilled student have a correlation above 0.5, and equation 1 is less than 1/2.5 of the baseline's.
#
# ### Which cells dominate the loss?
#
# One function for all that follows: what equation 9 needs on one level.

# %%
def on_level(level, name="baseline"):
    """Student's map, teacher's map, masks, and the teacher's attention."""
    scene, t = views[name], maps[level]
    grid, frames = tuple(t.shape[-2:]), scene.frame_sizes()
    masks = focal_masks(scene.boxes, frames, grid, rounding="exact")
    return scene.features[level], t, masks, attention(t)

def cell_percent(level):
    s, t, m, a = on_level(level)
    error, mask = (t - s).square(), authors.alpha * m.fg + authors.beta * m.bg
    weighted = (error * a.channel[:, :, None, None]).sum(1) * a.spatial * mask
    maps = {"eq. 1": error.sum(1), "with masks": error.sum(1) * mask,
            "masks and attention": weighted}
    return {name: 100 * x / x.sum(dim=(1, 2), keepdim=True) for name, x in maps.items()}

# %%
n, percent = 2, {level: cell_percent(level) for level in maps}
shown = {level: {name: x[n] for name, x in percent[level].items()} for level in maps}
norms = {level: LogNorm() for level in maps}
label = "percent of the loss (log)"
map_table(shown, images[n], targets[n]["boxes"], label=label, norms=norms)

# %% [markdown]
# *Figure 4.* Percent of the loss per cell, one image, one logarithmic scale per row. Equation 1 spreads the loss over
# the whole map. Masks concentrate it in the boxes. Attention selects cells in the boxes, and look-alikes outside of
# them. Check: every panel sums to 100; the table below averages over all images.

# %%
inside = pd.DataFrame({
    level: {name: (x * on_level(level)[2].binary).sum(dim=(1, 2)).mean().item()
            for name, x in percent[level].items()} for level in maps
})
assert all(abs(x.sum() - 100) < 0.1 for row in shown.values() for x in row.values())
assert QUICK or (inside.loc["with masks"] > 2 * inside.loc["eq. 1"]).all()
assert inside.loc["masks and attention", "P3"] > inside.loc["with masks", "P3"]
inside.style.format("{:.0f}").set_caption("percent of the loss inside boxes")

# %% [markdown]
# ### Three factors
#
# Over all images, foreground is larger than background for three reasons, and the ratio is exactly their product:
# more boxes than backgrounds (weight), larger errors on objects (error), and larger attention on objects (attention).

# %%
def factors(level):
    s, t, m, a = on_level(level)
    fg, bg = feature_terms(s, t, m, a)
    fg_plain, bg_plain = feature_terms(s, t, m, without(a, spatial=True, channel=True))
    weight = m.fg.sum() / m.bg.sum()
    parts = weight, fg_plain / bg_plain / weight, (fg / fg_plain) / (bg / bg_plain)
    return [x.item() for x in (*parts, fg / bg)]

three_factors = pd.DataFrame({level: factors(level) for level in maps}).T
three_factors.columns = ["weight", "error", "attention", "fg / bg"]
product = three_factors[["weight", "error", "attention"]].prod(axis=1)
assert product.sub(three_factors["fg / bg"]).abs().max() < 1e-3
assert three_factors["error"].is_monotonic_decreasing
assert three_factors["attention"].is_monotonic_decreasing
corners = torch.cat([target["boxes"] for target in targets])
small = ((corners[:, 2:] - corners[:, :2]) < 32).any(dim=1).float().mean()
assert small > 0.95
three_factors.style.format("{:.2f}")

# %% [markdown]
# The first factor is the mean number of boxes per image (slightly less where boxes overlap). The other two decrease
# from fine to coarse levels: on P3 a cell can be completely inside an object; on P5 a cell has 32 × 32 pixels, and
# nearly all objects are narrower, so it contains object and background.
#
# ### Fractions by area and level
#
# **Predict.** With the weights of the authors' configs ($\alpha$ = 1e-3, $\beta$ = 5e-4, $\gamma$ = 5e-4; the paper's
# text has $\gamma$ = 1e-3), what fraction of the focal loss comes from the background: 33 %, 20 % or below 5 %?

# %%
of_table_1 = pretrained_facts("distilled")["settings"]    # Table 1, "both, split"
assert (of_table_1["loss_ratio"], of_table_1["equal_terms"]) == (2, True)
loss = FGDLoss(tuple(maps), 48, 48, FGDConfig(gamma=0, lambda_=0, rounding="exact"))
balance = Balance(loss_ratio=2, equal_terms=True)
task = [Term("task", "all", torch.tensor(1.0))]           # in units of the task loss
equal = balance(task, loss(views["baseline"], maps))
logs = {"authors' weights": table, "equal parts": pd.DataFrame(rows(0, equal))}
sums = {name: log.groupby("name")["weighted"].sum() for name, log in logs.items()}
fractions = pd.DataFrame({name: x / x.sum() for name, x in sums.items()}).fillna(0)
of_bg = fractions.loc["bg"]
times = authors.beta * balance.factor("bg") / authors.alpha / balance.factor("fg")
assert 0.03 < of_bg["authors' weights"] < 0.05
assert abs(of_bg["equal parts"] - 0.5) < 1e-6
assert QUICK or 11 < times < 12.5
print(f"equal parts: beta is {times:.0f} times alpha")
fractions.loc[["fg", "bg", "attention"]].style.format("{:.1%}")

# %%
figure = chart_figure(height=2.5)
styles = {name: TERM_STYLES[name] for name in ("fg", "bg", "attention")}
for ax, (name, log) in zip(figure.subplots(1, 2), logs.items(), strict=True):
    draw_loss_percentages(ax, log, styles)
    ax.set_xlim(0, 75)
    ax.set_title(f"{name}: {log['weighted'].sum():.2f} in all", fontsize=9)
handles, where = [bar[0] for bar in ax.containers[:3]], "outside lower center"
figure.legend(handles, styles, loc=where, ncols=3, fontsize=8.5, frameon=False)
figure

# %% [markdown]
# *Figure 5.* Fraction of each term by level. With the weights chosen for COCO, the background of these scenes has 3 to
# 5 % of the loss: "both areas" would in effect be foreground only. Our Table 1 therefore measures the sums over the
# first 50 steps and scales them to the task loss ([`Balance`](../fgdlab/balance.py)): in the row "both, split",
# foreground and background each have the size of the task loss. The right panel does this on the maps of the baseline
# student; $\beta$ is then about 12 times $\alpha$, not half of it. Check: all bars of a panel sum to 100 %.
#
# **What it means.** $\alpha$ and $\beta$ mean nothing without the sums that they multiply. A comparison of
# "foreground only" with "background only" at given $\alpha$ and $\beta$ is first of all a comparison of two loss
# sizes. Print the fractions before you interpret a table.
#
# ## With and without attention
#
# Table 5 of the paper asks what the attentions contribute. Its first row, without either, is the student without
# distillation; our table has one more row, "focal, no attention", which keeps the loss and removes both attentions.
#
# **Predict.** Attention averages 1 over the cells and 1 over the channels. So the feature term stays about as large
# without it: true or false? Take the authors' $\alpha$ and $\beta$.

# %%
def feature_loss(name, spatial, channel):
    """Equation 9 over all levels, with the attentions that are switched on."""
    loss = 0.0
    for level in maps:
        s, t, m, a = on_level(level, name)
        a = without(a, spatial=not spatial, channel=not channel)
        fg, bg = feature_terms(s, t, m, a)
        loss += (authors.alpha * fg + authors.beta * bg).item()
    return loss

switches = {"both": (1, 1), "spatial": (1, 0), "channel": (0, 1), "neither": (0, 0)}
students = ("untrained", "baseline", "distilled")
of_switch = pd.DataFrame({
    kind: {name: feature_loss(name, *on) for name in students}
    for kind, on in switches.items()
})
relative = of_switch.div(of_switch["neither"], axis=0)
relative.style.format("{:.2f}").set_caption("feature term / the same without attention")

# %%
at_start = relative.loc[["untrained", "baseline"], "both"]
assert (at_start > 2.5).all() and (QUICK or at_start.between(3, 3.7).all())
assert QUICK or 2.2 < relative.loc["distilled", "both"] < 2.8
assert relative["channel"].between(1, 1.06).all()
p3 = {kind: feature_terms(*on_level("P3")[:3], without(attention(maps["P3"]), **off))
      for kind, off in {"on": {}, "off": dict(spatial=True, channel=True)}.items()}
grown_fg, grown_bg = (on / off for on, off in zip(p3["on"], p3["off"], strict=True))
assert QUICK or grown_fg > 4 and grown_fg > 3 * grown_bg
print(f"P3 alone: foreground x {grown_fg:.1f}, background x {grown_bg:.1f}")

# %% [markdown]
# False. At the start of a run attention makes the feature term **more than three times** as large; for a distilled
# student the factor is still 2.5. Attention averages 1 over **all** cells, but the teacher's activation magnitude is
# larger on objects, and errors are largest where it is large: large weights meet large errors. On the foreground of P3
# the factor is above 4.
#
# So at the same $\alpha$ and $\beta$ a row "without attention" also has a third of the loss, and a table compares both
# changes at once. Our Table 5 therefore gives every row the same loss ratio, 2: over the first 50 steps one factor
# scales the row's terms to twice the task loss.
#
# `channel` alone adds at most 6 %: the batch norm at the end of this pyramid makes all channels about equal in
# magnitude, so most of $A^C$ stays near 1. On standard FPNs the result may differ.
#
# And if the weights are the attention of the *student*, or the mean of both, as in our table `control_attention`?

# %%
def with_attention_of(who):
    loss = 0.0
    for level in maps:
        s, t, m, _ = on_level(level, "untrained")
        of = {"teacher": [t], "student": [s], "mean": [s, t]}[who]
        both = zip(*map(attention, of), strict=True)            # A^S of all, A^C of all
        a = Attention(*(sum(each) / len(of) for each in both))
        fg, bg = feature_terms(s, t, m, a)
        loss += (authors.alpha * fg + authors.beta * bg).item()
    return loss

whose = ("teacher", "student", "mean")
of_whom = pd.Series({who: with_attention_of(who) for who in whose})
of_whom /= of_whom["teacher"]
assert of_whom["student"] < of_whom["mean"] < 1
assert QUICK or 0.5 < of_whom["student"] < 0.65 and 0.7 < of_whom["mean"] < 0.85
of_whom.to_frame("feature term, teacher's attention = 1").T.style.format("{:.2f}")

# %% [markdown]
# With the attention of an untrained student the term is between a half and two thirds: this student does not know yet
# where the teacher's maps are large. Mean 1 does not fix the size here, either.
#
# ## Before and after
#
# The distilled student was trained with $\alpha$ and $\beta$ only ($\gamma$ = 0). **Predict.** By what factor is its
# foreground sum smaller than the baseline's: 1.5, 4.5 or 10? And does the attention term, which was not in its loss,
# fall too?

# %%
both = {name: log_of(name).groupby("name")["raw"].sum() for name in names[1:]}
both = pd.DataFrame(both)
both["ratio"] = both["baseline"] / both["distilled"]
assert QUICK or 4 < both.loc["fg", "ratio"] < 5 and 3 < both.loc["bg", "ratio"] < 3.5
assert 1.3 < both.loc["attention", "ratio"] < 1.6
both.loc[["fg", "bg", "attention"]].style.format("{:.1f}")

# %% [markdown]
# The foreground sum by 4.5, the background sum by 3.2. The attention term falls too, by 1.4: attention is a function
# of the map, so a student that imitates the map also imitates the attention. Equation 10 adds weight to the same
# target.
#
# ## The answer of the runs
#
# Is attention needed? Table 5 of the project gives all rows the same loss at the start. The second table asks whose
# attention it has to be.

# %%
pairs = ("both", "neither"), ("spatial", "neither"), ("neither", "none")
answers = [Answer("table5_attention", *pairs)]
pairs = ("student", "teacher"), ("mean", "teacher"), ("neither", "teacher")
answers.append(Answer("control_attention", *pairs))
of_rows = [each.sweep.settings(row, 0, "laptop")
           for each in answers for row in each.sweep.rows]
assert {each.loss_ratio for each in of_rows} == {2}
display(*answers)

# %% [markdown]
# ## Exercises
#
# Solutions are at the end of the notebook.
#
# **Exercise 1** (medium, 10 minutes). Make two losses equal. `sums` is `{"P3": (foreground, background), ...}` before
# weights, `task_loss` a number. Return `(alpha, beta)` such that foreground and background, each summed over all
# levels, equal `task_loss`. Then predict: does the row without attention need a larger $\alpha$, and is the change
# larger for $\alpha$ or for $\beta$?

# %%
def weights_by_size(sums, task_loss):
    raise NotImplementedError


check.weights_by_size(weights_by_size)

# %% [markdown]
# **Exercise 2** (medium, 15 minutes, an experiment). By what factor does attention at temperature T change one of the
# sums of equation 9? `mask` is (N, H, W), M S or (1 - M) S. Predict first for the foreground of P3: does the factor
# rise or fall from T = 0.5 to T = 0.1, and where does it go for T to infinity?

# %%
def attention_factor(student, teacher, mask, temperature):
    raise NotImplementedError


check.attention_factor(attention_factor)

# %% [markdown]
# **Exercise 3** (hard, 25 minutes, an experiment). A batch is padded to its largest image. Append `columns` columns of
# zeros to the right of both maps (stride 8) and compute the two sums of equation 9 again, with the attention of the
# padded teacher at T = 0.5. Return foreground after / before and background after / before. Predict both signs first:
# does each sum grow or shrink? No error was added.

# %%
def padded_batch(student, teacher, boxes, columns):
    raise NotImplementedError


check.padded_batch(padded_batch)

# %% [markdown]
# ## Recap
#
# - The focal loss is a sum of squared errors, each times M S (its area), A^S (its cell) and A^C (its channel).
# - M and S give each object the same weight; attention moves the weight to a few cells and triples the loss.
# - $\alpha$, $\beta$ and $\gamma$ mean nothing without the sums that they multiply: measure the sums first.
#
# Next: [05 Global loss](05_global.ipynb), the part that looks at the whole map.
#
# ## Solutions
#
# Unfold the cells. Exercise 1:

# %% jupyter={"source_hidden": true} tags=["solution"]
def weights_by_size_solution(sums, task_loss):
    foreground, background = (sum(each) for each in zip(*sums.values(), strict=True))
    return task_loss / foreground, task_loss / background


assert check.weights_by_size(weights_by_size_solution).right
by_kind = {}
for kind, off in {"on": {}, "off": dict(spatial=True, channel=True)}.items():
    of_level = {level: feature_terms(*on_level(level)[:3], without(attention(t), **off))
                for level, t in maps.items()}
    by_kind[kind] = weights_by_size_solution(of_level, 1.0)
pairs = zip(by_kind["on"], by_kind["off"], strict=True)
needs = [(off / on).item() for on, off in pairs]
assert needs[0] > needs[1] > 1
print("without attention: alpha x {:.1f}, beta x {:.1f}".format(*needs))

# %% [markdown]
# Exercise 2: the factor falls towards 1 as T grows, because attention becomes uniform.

# %% jupyter={"source_hidden": true} tags=["solution"]
def attention_factor_solution(student, teacher, mask, temperature):
    a, error = attention(teacher, temperature), (teacher - student).square()
    weighted = (error * a.channel[:, :, None, None]).sum(1) * a.spatial
    return (weighted * mask).sum() / (error.sum(1) * mask).sum()


assert check.attention_factor(attention_factor_solution).right
s, t, m, _ = on_level("P3")
by_T = {T: attention_factor_solution(s, t, m.fg, T).item() for T in (0.1, 0.5, 2, 50)}
assert by_T[0.1] > by_T[0.5] > by_T[2] > by_T[50] and abs(by_T[50] - 1) < 0.1
by_T

# %% [markdown]
# Exercise 3: the foreground grows, because attention still averages 1 and the empty cells receive less than 1. The
# background shrinks, because each of its cells now weighs 1 / N_bg of a larger background.

# %% jupyter={"source_hidden": true} tags=["solution"]
def padded_batch_solution(student, teacher, boxes, columns):
    def sums(extra):
        s, t = (torch.nn.functional.pad(x, (0, extra)) for x in (student, teacher))
        height, width = t.shape[-2:]
        frames = [(8 * height, 8 * width)] * len(t)
        masks = focal_masks(boxes, frames, (height, width), rounding="exact")
        return feature_terms(s, t, masks, attention(t))

    return tuple(a / b for a, b in zip(sums(columns), sums(0), strict=True))


assert check.padded_batch(padded_batch_solution).right
s, t = views["baseline"].features["P3"], maps["P3"]
of_fg, of_bg = padded_batch_solution(s, t, views["baseline"].boxes, 16)
assert of_fg > 1.2 and of_bg < 0.9
print(f"twice the width: foreground x {of_fg:.2f}, background x {of_bg:.2f}")
