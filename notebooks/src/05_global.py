# %% [markdown]
# # 05 · Global loss
#
# **Question** Masks split the map into objects and background. The global term should restore relations between
# pixels. What does it measure?
#
# **Equations** 12 (global loss), 13 (the relation block R)
#
# **Code** [`GcBlock`](../fgdlab/relation.py), [`NonLocalBlock`](../fgdlab/relation.py),
# [`RelationTerm`](../fgdlab/relation.py)
#
# **Needs** notebook 04; softmax, layer norm, 1 × 1 convolutions
#
# **Cost** about 20 s on 2 cores, 0.9 GB of memory, no download
#
# **You will** compute R by hand on six pixels, see that it adds the same vector to every pixel, find the range in
# which training the blocks can move the global term, and list what the term cannot detect

# %%
import inspect

import pandas as pd
import torch
from matplotlib.colors import CenteredNorm
from torch import nn

from fgdlab import FGDConfig, FGDLoss, GcBlock, attention, focal_masks, look, rows
from fgdlab.focal import feature_terms
from fgdlab.lab.plots import BOX_COLOUR, DISTILLED_COLOUR, TEACHER_COLOUR
from fgdlab.lab.config import RunConfig
from fgdlab.lab.datasets import open_split
from fgdlab.lab.course.exercises import relation as check
from fgdlab.lab.course import finish_chart, map_table, number_grid, chart_figure
from fgdlab.lab.course import pretrained_detector
from fgdlab.relation import RelationTerm

# %% tags=["parameters"]
QUICK = False

# %% [markdown]
# R is the block of GCNet (Cao et al., 2019), a simplified non-local block (Wang et al., 2018).
#
# ## Equation 13 on six pixels
#
# $$R(F) = F + W_{v2}\left(ReLU\left(LN\left(W_{v1}\left(\sum_{j=1}^{N_p}
#   \frac{e^{W_k F_j}}{\sum_{m=1}^{N_p} e^{W_k F_m}} F_j\right)\right)\right)\right) \tag{13}$$
#
# | symbol | code | shape |
# |---|---|---|
# | $F$ | `features`; $F_j$ is pixel $j$, one of $N_p$ = H·W | (N, C, H, W) |
# | $W_k$, then softmax over pixels | [`GcBlock.context_weights`](../fgdlab/relation.py) | (N, 1, H·W) |
# | $\sum_j \ldots F_j$ | `context` | (N, C, 1) |
# | $W_{v1}$, $LN$, $ReLU$, $W_{v2}$ | `transform[0]` to `transform[3]` | C to C/2 to C |
# | $R(F)$ | [`GcBlock`](../fgdlab/relation.py) | (N, C, H, W) |
#
# Four channels on a 2 × 3 grid, with weights set by hand so that every step has round numbers.

# %%
features = torch.zeros(1, 4, 2, 3)
features[0, 0, 1, 1], features[0, 1, 0, 0], features[0, 2, 1, 1] = 2.0, 9.0, 9.0
number_grid({f"F, channel {c}": features[0, c] for c in range(4)}, label="value", digits=0)

# %% [markdown]
# *Figure 1.* The map F. Check: pixel (1, 1) has 2 in channel 0 and 9 in channel 2; pixel (0, 0) has 9 in channel 1;
# the rest is 0.

# %%
block = GcBlock(channels=4, ratio=2)
with torch.no_grad():
    block.key.weight.copy_(torch.log(torch.tensor([2.0, 1, 1, 1])).view(1, 4, 1, 1))      # e^(W_k F_j) = 2^(channel 0)
    picks = torch.tensor([[0.0, 1, 0, 0], [0, 0, 1, 0]])                                  # channels 1 and 2
    block.transform[0].weight.copy_(picks.view(2, 4, 1, 1))
    block.transform[0].bias.zero_()
    block.transform[3].weight.copy_(torch.tensor([[9.0, 0.5], [9, -1], [9, 0], [9, 2]]).view(4, 2, 1, 1))

# %% [markdown]
# **Step 1: one weight per pixel.** **Predict.** $e^{W_k F_j}$ is 2 to the power of channel 0. What is the softmax
# weight of pixel (1, 1): 4/5, 4/9 or 2/7?

# %%
weights = block.context_weights(features)
assert torch.isclose(weights[0, 0, 4], torch.tensor(4 / 9)) and torch.isclose(weights.sum(), torch.tensor(1.0))
number_grid({"softmax over the pixels": weights.view(2, 3).detach()}, label="weight of a pixel", digits=None)

# %% [markdown]
# *Figure 2.* 4 for pixel (1, 1), 1 for each of the five others, so ninths. The weights do not depend on a query
# pixel: there is one weight map for all pixels.
#
# **Step 2: the context** is the mean of all pixels under these weights. **Predict.** What is it in channels 1 and 2?

# %%
context = features.flatten(2) @ weights.transpose(1, 2)              # (1, 4, 6) @ (1, 6, 1) -> (1, 4, 1)
assert torch.allclose(context.flatten(), torch.tensor([8 / 9, 1, 4, 0]))
context.flatten().tolist()

# %% [markdown]
# 9 · 1/9 = 1 and 9 · 4/9 = 4.
#
# **Step 3: the transform.** $W_{v1}$ selects these two: (1, 4). **Predict.** Layer norm subtracts their mean and
# divides by their standard deviation. What is the result, and what does ReLU keep?

# %%
hidden = block.transform[0](context[..., None])
normed = block.transform[1](hidden)
assert torch.allclose(normed.flatten(), torch.tensor([-1.0, 1.0]), atol=1e-4)
vector = block.transform[3](block.transform[2](normed)).flatten()
steps = {"W_v1": hidden, "LN": normed, "ReLU, W_v2": vector}
{name: [round(x, 3) for x in each.flatten().tolist()] for name, each in steps.items()}

# %% [markdown]
# (1, 4) becomes (-1, 1), ReLU keeps (0, 1), and $W_{v2}$ maps that to its second column: 0.5, -1, 0, 2.
#
# **Step 4: add it to F.** **Predict.** How many different vectors are added to the six pixels?

# %%
added = (block(features) - features).detach()
assert torch.allclose(added, vector.view(1, 4, 1, 1).expand_as(added), atol=1e-5)
maps = {f"R(F) - F, channel {c}": added[0, c] for c in range(4)}
number_grid(maps, label="added", digits=1, norm=CenteredNorm(), cmap="PuOr")

# %% [markdown]
# *Figure 3.* One vector. Check: each panel has a single colour. **R(F) is F plus one vector, the same at every
# pixel.** The vector depends on the whole map, but not on the pixel.
#
# The package's function has these four steps:

# %%
print(inspect.getsource(GcBlock.forward))

# %% [markdown]
# ## Equation 12, on real maps
#
# $$L_{global} = \lambda \sum \left(R(F^T) - R(F^S)\right)^2 \tag{12}$$
#
# | symbol | code | shape |
# |---|---|---|
# | $R(F^S)$, $R(F^T)$ | `term.student(student)`, `term.teacher(teacher)`: two blocks, both trained | (N, C, H, W) |
# | $\sum (\cdot)^2$ | [`RelationTerm`](../fgdlab/relation.py): sum over channels and pixels, averaged over N | scalar |
# | $\lambda$ | `FGDConfig.lambda_`, 5e-6 for RetinaNet | scalar |

# %%
dataset = open_split(RunConfig(train_images=64, eval_images=64), "val", progress=False)
images, targets = map(list, zip(*(dataset[i] for i in range(8 if QUICK else 32)), strict=True))
with torch.no_grad():
    scene = look(pretrained_detector("baseline"), images, targets)
    student, teacher = scene.features, look(pretrained_detector("teacher"), images).features
{level: tuple(each.shape) for level, each in teacher.items()}

# %% [markdown]
# `RelationTerm` has four kinds: `gc` (the paper's), `nonlocal` (the alternative in its Table 6), and two without
# layers, `mse` (the sum of eq. 1, not divided) and `centred`, explained below.
#
# **Predict.** Before any training, on P4: is the `gc` term larger than, smaller than or equal to `mse`? (The last
# layer of a new block is zero.)

# %%
def term(kind, level):
    torch.manual_seed(0)
    return RelationTerm(48, kind)(student[level], teacher[level]).item()

kinds = ("gc", "nonlocal", "mse", "centred")
values = pd.DataFrame({level: {kind: term(kind, level) for kind in kinds} for level in teacher})
assert (values.loc["gc"] == values.loc["mse"]).all() and (values.loc["nonlocal"] == values.loc["mse"]).all()
values.style.format("{:.0f}")

# %% [markdown]
# Equal, to the last digit: a new block returns its input. The global term **starts as a plain squared distance**.
#
# ## A lower bound
#
# Let $D = F^S - F^T$, with spatial mean $\bar D_k$ in channel $k$, and let the blocks add $v^S$ and $v^T$. The cross
# terms vanish, because $D - \bar D$ sums to zero over the pixels:
#
# $$\sum \left(R(F^S) - R(F^T)\right)^2
#   = \underbrace{\sum_{k,i,j} (D_{kij} - \bar D_k)^2}_{\text{centred: independent of the blocks}} \;
#   + \; HW \sum_k \left(\bar D_k + v^S_k - v^T_k\right)^2$$
#
# Check this with blocks that are not at their start:

# %%
torch.manual_seed(1)
relation = RelationTerm(48, "gc")
nn.init.normal_(relation.student.transform[3].weight), nn.init.normal_(relation.teacher.transform[3].weight)
s, t = student["P4"], teacher["P4"]
with torch.no_grad():
    v_s, v_t = (relation.student(s) - s).mean(dim=(2, 3)), (relation.teacher(t) - t).mean(dim=(2, 3))           # (N, C)
    means = 64 * ((s - t).mean(dim=(2, 3)) + v_s - v_t).square().sum() / len(s)
    whole, centred = relation(s, t), RelationTerm(48, "centred")(s, t)
assert torch.isclose(whole, centred + means, rtol=1e-4)
print(f"{whole:.0f} = {centred:.0f} (centred) + {means:.0f} (means)")

# %% [markdown]
# So training the two blocks can only change the second part: up without bound, down to 0 at best. Hence `centred` is
# a lower bound, and `mse` is the value at the start. (The bound is reached only if the blocks cancel the means of
# every image; one pair of blocks serves all images.)
#
# **Predict.** What fraction of the term could the blocks remove at most, on these maps: half, a quarter or less than
# a sixth? Is it the same on every level?

# %%
removable = 1 - values.loc["centred"] / values.loc["mse"]
of_all = 1 - values.loc["centred"].sum() / values.loc["mse"].sum()
assert removable[["P3", "P4"]].between(0.04, 0.07).all() and 0.14 < removable["P5"] < 0.16 and 0.04 < of_all < 0.06
removable.to_frame("fraction that blocks can remove").T.style.format("{:.1%}")

# %% [markdown]
# Less than a sixth: about 5 % on P3, 6 % on P4 and 15 % on P5. P3 is by far the largest, so about 95 % of the three
# terms together are a plain squared distance of maps with their means removed, whatever the blocks learn. Next, train
# **only the blocks** and keep both maps fixed, to see how far they get. For comparison, do the same with non-local
# blocks.

# %%
def train_blocks(kind, level="P4", steps=10 if QUICK else 60):
    torch.manual_seed(0)
    relation, values = RelationTerm(48, kind), []
    optimizer = torch.optim.Adam(relation.parameters(), lr=1e-2)
    for _ in range(steps):
        loss = relation(student[level], teacher[level])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    return relation.requires_grad_(False), values

gc, gc_values = train_blocks("gc")
nonlocal_, nonlocal_values = train_blocks("nonlocal")

# %%
figure = chart_figure(height=2.9)
ax, mse = figure.subplots(), values.loc["mse", "P4"]
ax.plot([v / mse for v in gc_values], color=DISTILLED_COLOUR, label="gc, the paper's block")
ax.plot([v / mse for v in nonlocal_values], color=BOX_COLOUR, linestyle="--", label="nonlocal")
ax.axhline(1, color="black", linewidth=1, linestyle=":", label="mse")
ax.axhline(values.loc["centred", "P4"] / mse, color=TEACHER_COLOUR, linewidth=1, linestyle="-.", label="centred")
ax.set(xlabel="step of training the blocks alone", ylabel="global term / mse", ylim=(0, 1.08))
ax.set_title("P4, both maps fixed", fontsize=9)
ax.legend(fontsize=8, frameon=False, loc="lower left", ncols=2)
finish_chart(ax)
figure

# %% [markdown]
# *Figure 4.* The paper's block falls to the centred distance and not below. The non-local block falls to about a
# fifth of it, although no student has learned anything. Check: the next cell compares the final values.

# %%
lower_bound = values.loc["centred", "P4"]
assert min(gc_values) > lower_bound and (QUICK or gc_values[-1] < 1.02 * lower_bound)
assert nonlocal_values[-1] < (0.8 if QUICK else 0.25) * lower_bound
print(f"centred {lower_bound:.0f}, gc ends at {gc_values[-1]:.0f}, nonlocal at {nonlocal_values[-1]:.0f}")

# %% [markdown]
# A non-local block may add a different vector to every pixel, so a pair of them can make two unrelated maps agree. A
# term that its own layers can lower gives the student less gradient. This may be why non-local is 1.7 AP behind
# GcBlock in the paper's Table 6 (39.8 against 41.5); it is not a proof.
#
# ## Query-independence
#
# In a non-local block every pixel $i$ weights all pixels $j$: H·W × H·W weights. A GcBlock has one row of H·W for
# all. Take the trained blocks of the teacher's side and three query pixels:

# %%
def rows_of(block, features):
    """(H W, H W): the weights with which pixel i reads pixel j."""
    if isinstance(block, GcBlock):
        return block.context_weights(features)[0].expand(features[0, 0].numel(), -1)
    query, key = block.query(features).flatten(2), block.key(features).flatten(2)
    return torch.softmax(query.transpose(1, 2) @ key, dim=-1)[0]

n, queries = 2, {"pixel (1, 1)": 9, "pixel (3, 5)": 29, "pixel (6, 2)": 50}
reads = {name: rows_of(each.teacher, teacher["P4"][[n]]) for name, each in {"nonlocal": nonlocal_, "gc": gc}.items()}
shown = {
    name: {f"query {pixel[6:]}": each[i].view(8, 8) for pixel, i in queries.items()} for name, each in reads.items()
}
figure = map_table(shown, images[n], targets[n]["boxes"], label="weight of a pixel")
for ax, i in zip([*figure.axes[1:4], *figure.axes[5:8]], [*queries.values()] * 2, strict=True):
    ax.plot(i % 8 + 0.5, i // 8 + 0.5, "+", color="white", markersize=11, markeredgewidth=2)
figure

# %% [markdown]
# *Figure 5.* The weights with which three query pixels of P4 read the map, one scale per row; a white cross marks the
# query pixel. Upper row: the weights depend on the query. Lower row: three times the same map. Check: the largest
# difference between rows of weights, below, is above 0 for `nonlocal` and exactly 0 for `gc`.

# %%
spread = {name: (each.max(dim=0).values - each.min(dim=0).values).max().item() for name, each in reads.items()}
assert spread["gc"] == 0 and spread["nonlocal"] > 0.1
spread

# %% [markdown]
# **Predict.** What does this cost in memory? The weights for one 800 × 1344 image on P3 (100 × 168 pixels), float32,
# in a non-local block: 1 MB, 67 kB or more than 1 GB?

# %%
pixels = 100 * 168
print(f"nonlocal {4 * pixels**2 / 1e9:.2f} GB, gc {4 * pixels / 1e3:.0f} kB")
assert 4 * pixels**2 > 1e9

# %% [markdown]
# ## What the global term detects, and what it does not
#
# Four students that each differ from ours in one respect. T is the teacher's map, D the student's difference from it.
#
# | student | made by |
# |---|---|
# | shifted | a constant added to every channel |
# | mirrored | T - D instead of T + D |
# | errors moved | the same D with shuffled pixels: errors on objects move to the background and vice versa |
# | scaled | D half as large |
#
# **Predict.** For which of them do `mse` and `centred` stay the same? For which does the focal loss of notebook 04
# change?

# %%
D, g = s - t, torch.Generator().manual_seed(5)
shuffle = torch.randperm(64, generator=g)
students = {
    "as it is": s, "shifted": s + torch.randn(1, 48, 1, 1, generator=g), "mirrored": t - D,
    "errors moved": t + D.flatten(2)[:, :, shuffle].view_as(D), "scaled": t + D / 2,
}
masks = focal_masks(scene.boxes, scene.frame_sizes(), (8, 8), rounding="exact")

# %%
def measured(student):
    fg, bg = feature_terms(student, t, masks, attention(t))
    global_ = {kind: RelationTerm(48, kind)(student, t).item() for kind in ("mse", "centred")}
    return global_ | {"focal, foreground": fg.item(), "focal, background": bg.item()}

table = pd.DataFrame({name: measured(each) for name, each in students.items()}).T
relative = table / table.loc["as it is"]
relative.style.format("{:.2f}").background_gradient(cmap="PuOr", vmin=0, vmax=2)

# %%
assert relative.loc["shifted", "mse"] > 1.2 and abs(relative.loc["shifted", "centred"] - 1) < 1e-3
assert (relative.loc["mirrored"] - 1).abs().max() < 1e-3 and (relative.loc["scaled"] - 0.25).abs().max() < 1e-3
moved = relative.loc["errors moved"]
assert (moved[["mse", "centred"]] - 1).abs().max() < 1e-3 and moved["focal, foreground"] < 0.8

# %% [markdown]
# - **Shifted**: `mse` changes, `centred` does not. `gc` changes at the start and may learn to ignore it.
# - **Mirrored**: none of the four numbers changes. A squared error depends on the size of D, not on its sign. (Its
#   gradient does have a direction: towards the teacher.)
# - **Errors moved**: the global term does not know where objects are. The focal loss does, through its masks.
# - **Scaled**: all change alike.
#
# And relations between pixels? **Predict.** Shuffle the pixels of student *and* teacher in the same way, so that no
# pixel keeps its neighbours. What happens to `gc` and to `nonlocal`?

# %%
def shuffled(features):
    return features.flatten(2)[:, :, shuffle].view_as(features)

trained = {"gc": gc, "nonlocal": nonlocal_}
change = {name: abs(each(shuffled(s), shuffled(t)) / each(s, t) - 1).item() for name, each in trained.items()}
assert max(change.values()) < 1e-4
change

# %% [markdown]
# Nothing (what is left is rounding). Both blocks treat the map as a set of pixels. "Relation" means the average of
# all pixels, or which pixels are alike, but not their positions relative to each other.
#
# ## Sizes
#
# Equation 12 is a sum without division. **Predict.** P3 has 16 times the pixels of P5, and the maps have equal
# variance. What fraction of the three levels together does P3 have?

# %%
fgd = FGDLoss(tuple(teacher), 48, 48, FGDConfig(rounding="exact"))
log = pd.DataFrame(rows(0, fgd(scene, teacher)))
sizes = log.pivot(index="name", columns="level", values="weighted").loc[["fg", "bg", "attention", "global"]]
assert 0.7 < sizes.loc["global", "P3"] / sizes.loc["global"].sum() < 0.8
sizes.style.format("{:.3f}").background_gradient(cmap="cividis", axis=None)

# %% [markdown]
# About 16 / (16 + 4 + 1) = 76 %. With the paper's $\lambda$ the whole global term is about 4 % of the loss at this
# image size and 48 channels. It grows with C·H·W: on COCO (256 channels, P3 of 100 × 168 pixels) the same error
# gives a P3 sum that is several hundred times as large.

# %%
coco, here = 256 * 100 * 168, teacher["P3"][0].numel()
fraction = sizes.loc["global"].sum() / sizes.to_numpy().sum()
assert 300 < coco / here < 400 and 0.035 < fraction < 0.05
print(f"{coco / here:.0f} times the values of our P3; the global term is {fraction:.1%} of the distillation loss here")

# %% [markdown]
# **What it means.** In the paper's Table 4 the global term and the focal loss bring the same gain when used alone
# (40.2 AP each, both together 40.4, no distillation 37.4). For the most part the global term is a plain distance with
# equal weight for every pixel. How much of its gain comes from the block? The paper has no row with `mse` instead of
# `gc`. This project has: the sweep `table6_relation` compares `gc`, `nonlocal`, `mse` and `centred`. A single run of
# this kind (choose $\lambda$ on the tuning split):
#
#     fgdlab run --method fgd --area none --gamma 0 --relation mse --lambda 1e-4
#
# ## Exercises
#
# **Exercise 1** (easy, 8 minutes). The context of equation 13: `features` (N, C, H, W), `key` (C,) for $W_k$, no
# bias. Return (N, C).

# %%
def context_vector(features, key):
    raise NotImplementedError


check.context(context_vector)

# %% [markdown]
# Solution (unfold the cell below)

# %% jupyter={"source_hidden": true} tags=["solution"]
def context_solution(features, key):
    pixels = features.flatten(2)                                       # (N, C, HW)
    weights = torch.softmax((key[:, None] * pixels).sum(dim=1), dim=1)          # (N, HW)
    return (pixels * weights[:, None]).sum(dim=2)


assert check.context(context_solution).right

# %% [markdown]
# **Exercise 2** (medium, 8 minutes). A lower bound of $\sum (R_S(F^S) - R_T(F^T))^2$, averaged over the batch, that
# holds for any two GcBlocks. No block is needed to compute it.

# %%
def lower_bound_of(student, teacher):
    raise NotImplementedError


check.lower_bound(lower_bound_of)

# %% [markdown]
# Solution (unfold the cell below)

# %% jupyter={"source_hidden": true} tags=["solution"]
def lower_bound_solution(student, teacher):
    difference = student - teacher
    return (difference - difference.mean(dim=(2, 3), keepdim=True)).square().sum() / len(student)


assert check.lower_bound(lower_bound_solution).right

# %% [markdown]
# **Exercise 3** (medium, 10 minutes). Return a map that is *not* the student's but has the same squared distance from
# the teacher, for every student and teacher. There are many answers.

# %%
def equal_distance(student, teacher):
    raise NotImplementedError


check.equal_distance(equal_distance)

# %% [markdown]
# Solution (unfold the cell below)

# %% jupyter={"source_hidden": true} tags=["solution"]
def equal_distance_solution(student, teacher):
    return teacher - (student - teacher)


assert check.equal_distance(equal_distance_solution).right
