# %% [markdown]
# # 08 · FBKD and other methods
#
# **Question** FGD weights cells by boxes and by attention. What do other methods use, and how can methods be compared
# whose losses have nothing in common?
#
# **Equations** 1 (the plain feature loss) and 9 for comparison; the equations of the other methods carry their names
#
# **Code** [`FBKDLoss`](../fgdlab/methods/fbkd.py), [`gradient_maps`](../fgdlab/lab/explorer/gradient_maps.py),
# [`Balance`](../fgdlab/balance.py), one file per method in [`fgdlab/methods`](../fgdlab/methods)
#
# **Needs** notebooks 02 to 05; gradients in torch
#
# **Cost** about 30 s on 2 cores, 1.0 GB of memory, no download
#
# **You will** measure the weight map of any loss from its gradient, split FBKD into four terms, test which
# differences each method ignores, and apply thirteen methods to one image

# %%
import pandas as pd
import torch

from fgdlab import attention, focal_masks
from fgdlab.balance import Balance
from fgdlab.methods.fbkd import FBKDLoss, FBKD_PRESETS, distance
from fgdlab.lab.config import RunConfig
from fgdlab.lab.datasets import open_split
from fgdlab.lab.errors import UserError
from fgdlab.lab.course.exercises import methods as check
from fgdlab.lab.course import map_table
from fgdlab.lab.explorer import gradient_maps_figure, gradient_maps
from fgdlab.lab.training import make_loss
from fgdlab.lab.course import pretrained_detector
from fgdlab.lab.plots import scene_and_teacher_maps
from fgdlab.masks import cell_ranges
from fgdlab.methods.pkd import normalised
from fgdlab.methods.tadf import gaussians

# %% tags=["parameters"]
QUICK = False
SCENE = 20           # the image for every method
SEED = 0             # of layers with random initial weights

# %%
dataset = open_split(RunConfig(train_images=64, eval_images=64), "val", progress=False)
teacher, student = pretrained_detector("teacher"), pretrained_detector("baseline")
scene, maps = scene_and_teacher_maps(student, teacher, *dataset[SCENE])
boxes, levels = scene.boxes, tuple(maps)
{level: tuple(each.shape) for level, each in maps.items()}

# %% [markdown]
# One image, its boxes, and three maps of each network: `scene.features` are the student's, `maps` the teacher's. The
# student is the baseline, which was trained without a teacher.
#
# ## 1 · A weight for every cell
#
# FitNets' hint is half of the plain loss, the paper's equation (1):
#
# $$L_{fea} = \frac{1}{CHW} \sum_{k=1}^{C} \sum_{i=1}^{H} \sum_{j=1}^{W}
#   \left(F^T_{k,i,j} - f(F^S_{k,i,j})\right)^2 \tag{1}$$
#
# | symbol | code | shape |
# |:--|:--|:--|
# | $F^T$ | `maps[level]` | (N, C, H, W) |
# | $f(F^S)$ | [`PyramidLoss.aligned`](../fgdlab/pyramid.py) | (N, C, H, W) |
# | half of $L_{fea}$ | [`Hint`](../fgdlab/methods/hint.py) | one scalar per level |
#
# Many later methods put a weight $w_{ij}$ on the cells, $L = \sum_{ij} w_{ij} \lVert F^T_{ij} - f(F^S_{ij})
# \rVert^2$, and differ in how they choose $w$. The weight can be **measured** without reading any code, because the
# gradient at a cell is $2\,w_{ij}$ times the remaining difference. The **effective weight** of a cell is
#
# $$\frac{\lVert \partial L / \partial F^S_{ij} \rVert}{2\,\lVert F^T_{ij} - F^S_{ij} \rVert}$$
#
# **Predict.** A loss with six weights of our own, on random maps. What are the effective weights?

# %%
weights = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.5, 4.0]])
target, features = torch.randn(5, 2, 3), torch.randn(5, 2, 3, requires_grad=True)
(weights * (target - features).square()).sum().backward()
effective = features.grad.norm(dim=0) / (2 * (target - features).detach().norm(dim=0))
assert torch.allclose(effective, weights)
table = pd.DataFrame(effective.tolist())
table.style.background_gradient("cividis", axis=None).format("{:.2f}").set_uuid("effective")

# %% [markdown]
# The six weights, for any maps. [`gradient_maps`](../fgdlab/lab/explorer/gradient_maps.py) does this for any method
# of the package: it returns a [`GradientMaps`](../fgdlab/lab/explorer/gradient_maps.py) with the gradient and the
# effective weight of every cell on every level. (f is set to the identity where the channels agree, as here, so that
# the maps show the method and not random weights.)
#
# **Predict.** The hint is a mean over 48 channels and 16 x 16 cells, times 1/2. What is its effective weight on P3?

# %%
hint = gradient_maps(student, teacher, dataset, SCENE, ["hint"])["hint"]
weight, expected = hint.effective_weight["P3"], 1 / (2 * 48 * 256)
assert torch.allclose(weight, torch.tensor(expected), rtol=1e-3)
print(f"on P3 from {weight.min():.3e} to {weight.max():.3e};  1 / (2 * 48 * 256) = {expected:.3e}")

# %% [markdown]
# The same at every cell. The **gradient** is not: it is large where the difference is large. So a plain loss changes
# most the cells where the networks differ most, wherever they are.
#
# ## 2 · FBKD in four steps
#
# FBKD (feature-based knowledge distillation, Zhang and Ma, ICLR 2021) also uses attention masks, and the attentions
# of FGD have the same form. On every level it adds four distances, each the root of a sum of squares:
#
# $$L = \lambda_1 L_{feature} + \lambda_2 L_{channel} + \lambda_3 L_{spatial} + \lambda_4 L_{relation}$$
#
# **Step 1, the attention mask.** FGD uses the teacher's attention; FBKD the mean of both networks' attentions:
#
# $$M^S = \tfrac{1}{2}\left(A^S(F^S) + A^S(F^T)\right) \qquad
#   L_{feature} = \Big\lVert \sqrt{M^S}\,\big(F^T - f(F^S)\big) \Big\rVert_2$$
#
# | symbol | code | shape |
# |:--|:--|:--|
# | $A^S$ | [`attention(F, T).spatial`](../fgdlab/attention.py), equations (5) and (7) of notebook 03 | (N, H, W) |
# | $M^S$ | [`FBKDLoss.mask`](../fgdlab/methods/fbkd.py) | (N, 1, H, W) |
# | $\lVert\cdot\rVert_2$ | [`distance`](../fgdlab/methods/fbkd.py) | scalar |
#
# **Predict.** Each $A^S$ sums to the number of cells. What does $M^S$ on P3 sum to?

# %%
F_s, F_t = scene.features["P3"], maps["P3"]
pair = {"student": F_s, "teacher": F_t}
attentions = {(name, T): attention(F, T).spatial[0] for T in (0.5, 0.1) for name, F in pair.items()}
masks = {T: (attentions["student", T] + attentions["teacher", T]) / 2 for T in (0.5, 0.1)}
{T: round(mask.sum().item(), 2) for T, mask in masks.items()}

# %%
rows = {
    f"T = {T}": {**{f"$A^S$ {name}": attentions[name, T] for name in pair}, "$M^S$": masks[T]} for T in (0.5, 0.1)
}
assert masks[0.1].max() > 10 * masks[0.5].max() and masks[0.5].min() > 1 / 3 > 1e3 * masks[0.1].min()
assert masks[0.1].flatten().topk(10).values.sum() > 0.9 * masks[0.1].sum()
map_table(rows, dataset[SCENE][0], boxes[0], label="attention (1 = average)")

# %% [markdown]
# *Figure 1.* Attention of both networks and FBKD's mask on P3, one scale per row. Check: the mask is the mean of the
# two maps to its left; at T = 0.1, the setting of the public code for one-stage detectors, ten of the 256 cells have
# nine tenths of the weight (largest value in the title); at T = 0.5 no cell is below a third of the average.

# %% [markdown]
# The term itself is one line. **Predict.** Halve the distance between the maps. By what factor does the gradient of a
# *squared* distance shrink, and by what factor that of its root?

# %%
def slope(loss, fraction):
    """Length of the gradient when ``fraction`` of the first distance is left."""
    closer = (F_t + fraction * (F_s - F_t)).requires_grad_()
    return torch.autograd.grad(loss(closer, F_t), closer)[0].norm().item()


for name, loss in {"squared": lambda s, t: (s - t).square().sum(), "root": distance}.items():
    print(f"{name:8} {slope(loss, 0.5) / slope(loss, 1.0):.3f}")
assert abs(slope(distance, 0.5) - slope(distance, 1.0)) < 1e-3

# %% [markdown]
# By one half, and not at all: the gradient of a root has the same length at any distance. So FBKD's gradient does not
# decrease as the student learns, and a batch with a small error counts as much as one with a large error.
#
# Now the package's term, with its layers, against our line:

# %%
torch.manual_seed(SEED)
fbkd = FBKDLoss(levels, 48, 48, FBKD_PRESETS["one_stage"])
terms = {(term.name, term.level): term for term in fbkd(scene, maps)}
aligned = fbkd.aligned(scene, "P3").detach()
channels = (attention(F_s, 0.1).channel + attention(F_t, 0.1).channel) / 2        # this preset weights channels, too
mask = masks[0.1] * channels[:, :, None, None]
mine = (mask * (F_t - aligned).square()).sum().sqrt()
assert torch.allclose(mine, terms["feature", "P3"].raw)
print(f"feature term on P3: ours {mine:.3f}, the package's {terms['feature', 'P3'].raw:.3f}")

# %% [markdown]
# **Steps 2 and 3, attention transfer.** FBKD compares the means of the maps over pixels and over channels, each
# through one small layer:
#
# $$L_{channel} = \Big\lVert \tfrac{1}{HW}\sum_{ij} F^T
#   - \text{Linear}\Big(\tfrac{1}{HW}\sum_{ij} F^S\Big) \Big\rVert_2$$
#
# $$L_{spatial} = \Big\lVert \tfrac{1}{C}\sum_{k} F^T
#   - \text{conv}_{3\times3}\Big(\tfrac{1}{C}\sum_k F^S\Big) \Big\rVert_2$$
#
# | symbol | code | shape |
# |:--|:--|:--|
# | mean over pixels | `F.mean(dim=(2, 3))` | (N, C) |
# | mean over channels | `F.mean(dim=1, keepdim=True)` | (N, 1, H, W) |
# | Linear, conv | `channel` and `spatial` of [`FBKDLoss`](../fgdlab/methods/fbkd.py) | |

# %%
channel = distance(fbkd.channel["P3"](F_s.mean(dim=(2, 3))), F_t.mean(dim=(2, 3)))
spatial = distance(fbkd.spatial["P3"](F_s.mean(dim=1, keepdim=True)), F_t.mean(dim=1, keepdim=True))
assert torch.allclose(channel, terms["channel", "P3"].raw) and torch.allclose(spatial, terms["spatial", "P3"].raw)
print(f"channel {channel:.3f}   spatial {spatial:.3f}")

# %% [markdown]
# **Step 4, non-local distillation.** A non-local block relates every pixel to the whole map, before the maps are
# compared:
#
# $$NL(F)_i = F_i + \text{BN}\Big(W_z \tfrac{1}{J} \sum_{j=1}^{J} (\theta_i \cdot \varphi_j)\, g_j\Big)$$
#
# $$L_{relation} = \big\lVert NL_t(F^T) - \text{conv}_{1\times1}(NL_s(F^S)) \big\rVert_2$$
#
# Code: [`PooledNonLocal`](../fgdlab/methods/fbkd.py), [`NonLocalTerm`](../fgdlab/methods/fbkd.py). A pixel is
# compared with J pooled windows instead of all pixels, because the table of all pairs would not fit in memory. FGD's
# GcBlock (notebook 05) goes further: one context for all pixels.
#
# **Predict.** P3 has 16 x 16 cells and windows of 8 x 8. With how many windows J is a pixel compared?

# %%
block = fbkd.relation["P3"].student
def windows(level):
    pool, (height, width) = fbkd.relation[level].student.pool, maps[level].shape[-2:]
    return (height // pool) * (width // pool)

J = [windows(level) for level in levels]
assert J[0] == 4 and torch.equal(block.eval()(F_s), F_s)
pd.DataFrame({"cells": [each[0, 0].numel() for each in maps.values()], "J": J}, index=levels)

# %% [markdown]
# Four. The second assertion: the block starts as the identity, because the gain of its batch norm starts at 0, so at
# the start $L_{relation}$ is a plain distance.
#
# All four together, as they enter the loss:

# %%
table = pd.DataFrame([
    {"term": name, "level": level, "weighted": (term.weight * term.raw).item()} for (name, level), term in terms.items()
])
table = table.pivot(index="term", columns="level", values="weighted").loc[["feature", "channel", "spatial", "relation"]]
preset = FBKD_PRESETS["one_stage"]
assert table["P3"].max() < 4 * table["P3"].min() and preset.spatial_weight > 50 * preset.feature_weight
styled = table.style.background_gradient("cividis", axis=None).format("{:.3f}").set_uuid("fbkd")
styled.set_caption("weight x distance, FBKD at its start")

# %% [markdown]
# The weights of the feature and the spatial term differ by a factor of more than fifty, but on P3 no two weighted
# terms differ by more than a factor of four. Weights of different sums cannot be compared. Section 6 returns to this.
#
# **Predict.** The channel term depends only on means over all cells. How does its gradient vary over the cells?

# %%
parts = {part: RunConfig(method="fbkd", method_parts=part) for part in FBKDLoss.PARTS}
of_parts = gradient_maps(student, teacher, dataset, SCENE, parts, seed=SEED)
flat = of_parts["channel"].gradient["P3"]
print(f"channel term: gradient of a cell from {flat.min():.4e} to {flat.max():.4e}")
assert torch.allclose(flat, flat.mean().expand_as(flat), rtol=1e-3)

# %%
gradient_maps_figure(of_parts, student, dataset, SCENE, "P3")

# %% [markdown]
# *Figure 2.* FBKD's four terms on P3, effective weight above and gradient below, each divided by its own mean, on one
# logarithmic scale. Check: the gradient of the channel term has one colour (it is equal at every cell); the effective
# weight of the feature term has the bright cells of figure 1's $M^S$ at T = 0.1. None of the four uses the boxes.

# %% [markdown]
# ## 3 · Which cells? Three methods before FGD
#
# All three are a weighted squared error whose weights come from the boxes: FGFI (fine-grained feature imitation, Wang
# et al.), TADF (task adaptive distillation, Sun et al.) and DeFeat (decoupled features, Guo et al.).
#
# | method | weight of a cell | which cells |
# |:--|:--|:--|
# | FGFI, 2019 | $M_{ij} / 2N_p$, M = 1: an anchor has IoU above $\psi \max_a IoU$ | **near** an object |
# | TADF, 2020 | Gaussian around each box centre, normalised to sum 1 | **centres** of objects |
# | DeFeat, 2021 | $\omega_{fg} M / \sum M + \omega_{bg} (1 - M) / \sum (1 - M)$ | **both**, two weights |
# | FGD, 2022 | $(\alpha M + \beta (1 - M))\, S A^S A^C$, equation (9) | both, each **object** alike |
#
# Code: [`FGFI`](../fgdlab/methods/fgfi.py), [`TADF`](../fgdlab/methods/tadf.py),
# [`DeFeat`](../fgdlab/methods/defeat.py), [`FGDLoss`](../fgdlab/fgd.py).
#
# TADF's weight before normalisation is $\max_r e^{-\frac12 (2\Delta x / w_r)^2 - \frac12 (2 \Delta y / h_r)^2}$.

# %%
exact = focal_masks(boxes, scene.frame_sizes(), (16, 16), rounding="exact")
losses = {name: make_loss(RunConfig(method=name), levels, student, teacher) for name in ("fgfi", "defeat")}
cells = cell_ranges(boxes[0], (128, 128), (16, 16), rounding="exact")
drawn = {
    "FGFI, M": losses["fgfi"].masks(scene)["P3"][0], "TADF, M": gaussians(cells[None], (16, 16))[0],
    "DeFeat, M": losses["defeat"].mask("P3", scene, F_t)[0], "FGD, M": exact.binary[0],
}
map_table({"P3": drawn}, dataset[SCENE][0], boxes[0], label="mask")

# %% [markdown]
# *Figure 3.* Four masks of the same object on P3. Check: FGFI takes cells whose anchors of 14 to 20 pixels fit the
# object; TADF decreases from the centre outwards; DeFeat rounds both edges down, so it leaves out the last row and
# column that the box only touches; FGD's M includes them.
#
# **Predict.** TADF and DeFeat assign each object to one level by its size: those below 112 pixels to the finest. The
# scenes are 128 pixels wide. What is left for P4 and P5?

# %%
by_boxes = gradient_maps(student, teacher, dataset, SCENE, ["fgfi", "tadf", "defeat"], seed=SEED)
tadf, fgfi = by_boxes["tadf"].effective_weight, by_boxes["fgfi"].effective_weight
assert tadf["P4"].sum() == tadf["P5"].sum() == 0 < fgfi["P4"].sum()
by_level = pd.DataFrame({name: each.fraction_by_level() for name, each in by_boxes.items()})
by_level.style.format("{:.0%}").set_uuid("levels").set_caption("fraction of the gradient")

# %% [markdown]
# Nothing: TADF has a gradient on P3 only. The 56 and 112 pixels were chosen for photographs of 800 pixels. A method
# that is applied to other data keeps its constants, without a warning. The methods table of this project uses the
# published constants and says so.
#
# ## 4 · Normalised maps: what a method ignores
#
# | method | what is compared |
# |:--|:--|
# | attention transfer, 2017 | $Q / \lVert Q \rVert$ with $Q_{ij} = \frac1C \sum_k F_{kij}^2$ |
# | CWD, 2021 | $\text{softmax}_{ij}(F_k / \tau)$, channel by channel, by Kullback-Leibler |
# | PKD, 2022 | $(F_k - \mu_k) / \sigma_k$, channel by channel, squared: 1 - correlation |
#
# Code: [`AttentionTransfer`](../fgdlab/methods/attention_transfer.py), [`CWD`](../fgdlab/methods/cwd.py),
# [`PKD`](../fgdlab/methods/pkd.py).
#
# These losses have no cell weight, because their error is not $F^T - F^S$. Ask instead: for which students that
# differ from the teacher is the loss still 0?
#
# **Predict.** Five students made from the teacher's map. For each, which of the losses are 0? Begin with "doubled":
# is it 0 for CWD, for PKD?

# %%
mixed = F_t[:, torch.randperm(48, generator=torch.Generator().manual_seed(SEED))]
shifted = F_t + torch.linspace(-1, 1, 48)[:, None, None]
changed = {
    "the teacher itself": F_t, "doubled": 2 * F_t, "every channel shifted": shifted, "negated": -F_t,
    "channels exchanged": mixed,
}
names = ("hint", "attention", "cwd", "pkd")
tested = {name: make_loss(RunConfig(method=name), ("P3",), student, teacher) for name in names}
changed = {name: type(scene)(scene.pixels, boxes, scene.image_sizes, {"P3": F}) for name, F in changed.items()}
values = pd.DataFrame({
    name: {change: loss(each, {"P3": F_t})[0].raw.item() for change, each in changed.items()}
    for name, loss in tested.items()
})
zero = values < 1e-6 * values.max()
zero.replace({True: "0", False: "above 0"}).style.set_uuid("zero")

# %%
assert zero.loc["doubled"].tolist() == [False, True, False, True]
assert zero.loc["every channel shifted"].tolist() == [False, False, True, True]
assert zero.loc["negated", "attention"] and zero.loc["channels exchanged", "attention"]
assert not zero.loc["negated", "pkd"]

# %% [markdown]
# PKD ignores scale and offset, CWD an offset only, attention transfer scale, sign and order of channels. This is
# their purpose: a teacher with another head or another norm has features of another scale, and hint would mostly
# imitate that scale. The price is what is *not* imitated: after "channels exchanged" no head could use the features.
#
# ## 5 · Instances, heads, and a method that is refused
#
# | method | idea |
# |:--|:--|
# | MGD, 2022 | mask random cells of the student's map; a small network restores the **teacher's** map from it |
# | GID, 2021 | no ground-truth boxes: the ten places where the two heads **disagree** most |
# | Chen, 2017 | hint, plus soft class scores, plus boxes bounded by the teacher's error |
# | CrossKD, 2024 | the student's head feature passes through the **teacher's head**; predictions are compared |
# | Mimick, 2017 | features of the student's **proposals** |
#
# Code: [`MGD`](../fgdlab/methods/mgd.py), [`GID`](../fgdlab/methods/gid.py), [`Chen`](../fgdlab/methods/chen.py),
# [`CrossKD`](../fgdlab/methods/crosskd.py), [`Mimick`](../fgdlab/methods/mimick.py).
#
# (GID stands for general instance distillation. *Soft class scores* are the teacher's predictions used as targets:
# distillation of predictions, not of features.) These methods need more of a detector than its maps. Ours is a
# RetinaNet, which has no proposals:

# %%
try:
    gradient_maps(student, teacher, dataset, SCENE, ["mimick"])
except UserError as error:
    print(error)
    assert "two-stage" in str(error)

# %% [markdown]
# Refused with a message that says what it needs and what it got, before a run starts.
#
# ## 6 · All of them on the same image
#
# **Predict.** GID does not use ground-truth boxes. Will its ten instances be on the digit, or elsewhere?

# %%
fgd = RunConfig(method="fgd", rounding="exact")
compare = {"fgd": fgd, **{name: RunConfig(method=name) for name in ("fbkd", "hint", "fgfi", "tadf", "defeat")}}
others = {name: RunConfig(method=name) for name in ("chen", "attention", "cwd", "pkd", "mgd", "gid", "crosskd")}
by_method = gradient_maps(student, teacher, dataset, SCENE, {**compare, **others}, seed=SEED)
gradient_maps_figure({name: by_method[name] for name in compare}, student, dataset, SCENE, "P3")

# %% [markdown]
# *Figure 4.* Methods whose loss is a weighted distance between maps: above the effective weight, which is their
# weight map (for FGD and FBKD with their other terms), below the gradient. Every map is divided by its own mean, so 1
# is the average cell; grey is exactly 0; the colours end at 0.1 and 10, the titles have the full range. Check: the
# effective weight of hint has one colour; FGFI and TADF are grey outside their masks of figure 3, so the background
# does not count; FGD and DeFeat use both.

# %%
gradient_maps_figure({name: by_method[name] for name in others}, student, dataset, SCENE, "P3", columns=7)

# %% [markdown]
# *Figure 5.* Methods that normalise, generate, or use heads. Their effective weight is not a weight; it says where
# their gradient is larger than that of a plain squared error. The colours end at 0.1 and 10. Check: MGD's grey cells
# are those that it masked in this step; PKD's effective weight is nearly constant; GID is dark where no instance is,
# and its brightest cell is not on the digit but at the letters and strokes around it, where the heads disagree.

# %%
inside = {level: focal_masks(boxes, scene.frame_sizes(), tuple(each.shape[-2:]), rounding="exact").binary[0]
          for level, each in maps.items()}
cells = sum(each.sum() for each in inside.values()) / sum(each.numel() for each in inside.values())
fractions = pd.DataFrame({
    name: {"in boxes": each.fraction_inside(inside), **each.fraction_by_level()} for name, each in by_method.items()
}).T
styled = fractions.sort_values("in boxes").style.format("{:.0%}").bar("in boxes", color="#bbbbbb", vmin=0, vmax=1)
styled.set_uuid("fractions").set_caption(f"fraction of the gradient; boxes cover {cells:.0%} of all cells")

# %%
in_boxes = fractions["in boxes"]
assert in_boxes[["fgfi", "tadf", "fgd"]].min() > in_boxes[["hint", "pkd", "mgd", "fbkd"]].max()
assert inside["P3"].flatten()[by_method["gid"].gradient["P3"].argmax()] == 0
assert by_method["pkd"].effective_weight["P3"].max() < 3 * by_method["pkd"].effective_weight["P3"].min()
print(f"in boxes: hint {in_boxes['hint']:.0%}, FGD {in_boxes['fgd']:.0%}, FGFI {in_boxes['fgfi']:.0%}")

# %% [markdown]
# Common to nearly all: they weight cells, by boxes, by attention or by disagreement. They differ in what counts as an
# error (a difference, a pattern, a prediction), and in how much of the gradient is outside the boxes.
#
# **How large are the losses?** Weights cannot be compared across methods, and loss values cannot either, because a
# cross-entropy is not 0 at its minimum. Here is each method's weighted loss together with the task loss on this
# image.
#
# **Predict.** By what factor do the largest and the smallest loss differ, with the default weights (the authors',
# where they are known): 10, 100, more?

# %%
image, target = dataset[SCENE]
task_loss = sum(each.item() for each in pretrained_detector("baseline").train()([image], [target]).values())
sizes = pd.DataFrame({name: {
    "loss": sum(row["weighted"] for row in each.terms),
    "gradient": sum(g.square().sum() for g in each.gradient.values()).sqrt().item(),
} for name, each in by_method.items()}).T
sizes["loss / task loss"] = sizes["loss"] / task_loss
styled = sizes.sort_values("gradient").style.format("{:.3g}").set_uuid("sizes")
styled.set_caption(f"the task loss is {task_loss:.2f}")

# %%
ratio = sizes["loss"].max() / sizes["loss"].min()
assert ratio > 100 and (sizes["loss"].idxmax(), sizes["loss"].idxmin()) == ("pkd", "mgd")
print(f"largest over smallest loss: {ratio:.0f}, {sizes['loss'].idxmax()} over {sizes['loss'].idxmin()}")

# %% [markdown]
# More than a hundred: PKD over MGD, both with their authors' weights. (Other weights are not an author's choice: some
# are unconfirmed, see `chen.py`, and `hint.py` has no published weight.) A table that trains every method "as
# published" on another detector mostly compares loss sizes. [`Balance`](../fgdlab/balance.py) brings each method to
# the same ratio to the task loss, measured over the first steps. In a sweep the setting is `loss_ratio: 1`.

# %%
from fgdlab import Term

task = [Term("classification", "all", torch.tensor(task_loss))]
for name in ("fgd", "cwd", "mgd"):
    balance = Balance(loss_ratio=1.0)
    terms = [
        Term(row["name"], row["level"], torch.tensor(row["raw"]), row["weighted"] / row["raw"])
        for row in by_method[name].terms
    ]
    after = sum(float(term.weight * term.raw) for term in balance(task, terms))
    factor = balance.factor(terms[0].name)
    print(f"{name}: {sizes.loc[name, 'loss']:.3f} -> {after:.3f}, every weight times {factor:.3g}")
    assert abs(after / task_loss - 1) < 1e-3

# %% [markdown]
# None of these figures shows which method helps most. That needs runs: `fgdlab sweep methods`, read as in notebook
# 07.
#
# ## Exercises
#
# **Exercise 1** (easy, 5 minutes) Write FBKD's mask: `fbkd_mask(student, teacher, temperature)`, maps (N, C, H, W)
# in, (N, H, W) out. Use torch only, not the package.

# %%
def fbkd_mask(student, teacher, temperature):
    raise NotImplementedError


check.fbkd_mask(fbkd_mask)

# %% [markdown]
# Solution (unfold the cell below)

# %% jupyter={"source_hidden": true} tags=["solution"]
def fbkd_mask_solution(student, teacher, temperature):
    def attend(features):
        magnitude = features.abs().mean(dim=1)
        return magnitude[0].numel() * (magnitude.flatten(1) / temperature).softmax(dim=1).view_as(magnitude)

    return (attend(student) + attend(teacher)) / 2


assert check.fbkd_mask(fbkd_mask_solution).right

# %% [markdown]
# **Exercise 2** (medium, 5 minutes) Write FGFI's choice: `near_anchors(iou, psi)` with `iou` (K, A) of K boxes with A
# anchors. Which anchors are above $\psi$ times the best IoU of some box? A bool tensor (A,).

# %%
def near_anchors(iou, psi):
    raise NotImplementedError


check.near_anchors(near_anchors)

# %% [markdown]
# Solution (unfold the cell below)

# %% jupyter={"source_hidden": true} tags=["solution"]
def near_anchors_solution(iou, psi):
    threshold = psi * iou.max(dim=1, keepdim=True).values            # one per box
    return (iou > threshold).any(dim=0)


assert check.near_anchors(near_anchors_solution).right

# %% [markdown]
# **Exercise 3** (medium, 10 minutes) PKD computes half a squared distance of normalised maps. Write it as a
# correlation: `pearson(student, teacher)`, 1 - r averaged over channels, without a squared distance.

# %%
def pearson(student, teacher):
    raise NotImplementedError


check.pearson(pearson)

# %% [markdown]
# Solution (unfold the cell below)

# %% jupyter={"source_hidden": true} tags=["solution"]
def pearson_solution(student, teacher):
    centred = [each - each.mean(dim=(0, 2, 3), keepdim=True) for each in (student, teacher)]
    s, t = (each / each.square().mean(dim=(0, 2, 3), keepdim=True).sqrt() for each in centred)
    return 1 - (s * t).mean()


assert check.pearson(pearson_solution).right
assert torch.isclose(pearson_solution(F_s, F_t), (normalised(F_s) - normalised(F_t)).square().mean() / 2, rtol=1e-3)

# %% [markdown]
# ## Summary
#
# - The gradient over twice the distance is the weight of a cell, for any weighted squared error. For other losses it
#   shows where the gradient is large.
# - FBKD: attention of both networks, means, and a non-local block; no boxes. FGD uses boxes, and one context for all
#   pixels instead of a non-local block.
# - Normalising methods ignore scale and offset, and do not imitate them.
# - The constants of a paper (56 pixels, weights) belong to its data and its detector.
#
# Next: [09 Your own loss](09_your_own_loss.ipynb).

