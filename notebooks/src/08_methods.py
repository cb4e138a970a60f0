# %% [markdown]
# # 08 · FBKD and the methods
#
# **Question** FGD picks cells by boxes and by attention. What do the other methods pick, and how can methods be compared whose losses have nothing in common?
#
# **Equations** 1 (the plain feature loss) as the frame for all, 9 beside it; those of the other methods carry their names
#
# **Code** [`FBKDLoss`](../fgdlab/methods/fbkd.py), [`gradient_maps`](../fgdlab/lab/explorer/gradient_maps.py), one file a method in [`fgdlab/methods`](../fgdlab/methods), [`Balance`](../fgdlab/balance.py)
#
# **Needs** notebooks 02 to 05; gradients in torch
#
# **Cost** about 30 s on 2 cores, 0.9 GB of memory, no download
#
# **You will** measure the weight map of any loss from its gradient alone, take FBKD apart into four terms, test what each method is blind to, and see thirteen methods look at one image

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
from fgdlab.methods.pkd import normalised

# %% tags=["parameters"]
QUICK = False
SCENE = 3            # the image that every method looks at
SEED = 0             # of layers that start at random

# %%
scenes = open_split(RunConfig(train_images=64, eval_images=64), "val", progress=False)
teacher, student = pretrained_detector("teacher"), pretrained_detector("baseline")
scene, maps = scene_and_teacher_maps(student, teacher, *scenes[SCENE])
boxes, levels = scene.boxes, tuple(maps)
{level: tuple(each.shape) for level, each in maps.items()}

# %% [markdown]
# One image, its boxes, and three maps of each network: `scene.features` are the student's, `maps` the teacher's. The student is the shipped one that never imitated anybody.
#
# ## 1 · A weight for every cell
#
# FitNets' hint is the plain loss of the paper's equation (1), half of it:
#
# $$L_{fea} = \frac{1}{CHW} \sum_{k=1}^{C} \sum_{i=1}^{H} \sum_{j=1}^{W} \left(F^T_{k,i,j} - f(F^S_{k,i,j})\right)^2 \tag{1}$$
#
# | symbol | code | shape |
# |:--|:--|:--|
# | $F^T$ | `maps[level]` | (N, C, H, W) |
# | $f(F^S)$ | [`PyramidLoss.aligned`](../fgdlab/pyramid.py) | (N, C, H, W) |
# | half of $L_{fea}$ | [`Hint`](../fgdlab/methods/hint.py) | scalar a level |
#
# Many later methods are this with a weight $w_{ij}$ on the cells, $L = \sum_{ij} w_{ij} \lVert F^T_{ij} - f(F^S_{ij}) \rVert^2$, and papers differ in where $w$ comes from. The weight can be **measured**
# without reading any code, since the gradient at a cell is $2\,w_{ij}$ times the distance that is left there:
#
# $$\text{pull}_{ij} = \frac{\lVert \partial L / \partial F^S_{ij} \rVert}{2\,\lVert F^T_{ij} - F^S_{ij} \rVert}$$
#
# **Predict.** A loss with six weights of our own, on random maps. What does the pull come to?

# %%
weights = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.5, 4.0]])
theirs, ours = torch.randn(5, 2, 3), torch.randn(5, 2, 3, requires_grad=True)
(weights * (theirs - ours).square()).sum().backward()
pull = ours.grad.norm(dim=0) / (2 * (theirs - ours).detach().norm(dim=0))
assert torch.allclose(pull, weights)
pd.DataFrame(pull.tolist()).style.background_gradient("cividis", axis=None).format("{:.2f}").set_uuid("pull")

# %% [markdown]
# The six weights, whatever the maps. [`gradient_maps`](../fgdlab/lab/explorer/gradient_maps.py) does this for any method of the package: it returns a [`GradientMaps`](../fgdlab/lab/explorer/gradient_maps.py) with the gradient and the
# pull of every cell on every level. (f lets the map through where the channels agree, as here; its random start would hide the rest.)
#
# **Predict.** The hint is a mean over 48 channels and 16 x 16 cells, times 1/2. What is its pull on P3?

# %%
hint = gradient_maps(student, teacher, scenes, SCENE, ["hint"])["hint"]
assert torch.allclose(hint.effective_weight["P3"], torch.tensor(1 / (2 * 48 * 256)), rtol=1e-3)
print(f"on P3 from {hint.effective_weight['P3'].min():.3e} to {hint.effective_weight['P3'].max():.3e};  1 / (2 * 48 * 256) = {1 / (2 * 48 * 256):.3e}")

# %% [markdown]
# The same at every cell. The **gradient** is not: where the distance is large, it is large. So a plain loss looks at the cells where the networks differ most, wherever they are.
#
# ## 2 · FBKD in four steps
#
# FBKD (Zhang and Ma, ICLR 2021) is where FGD took its attention from. On every level it adds four distances, each the root of a sum:
#
# $$L = \lambda_1 L_{feature} + \lambda_2 L_{channel} + \lambda_3 L_{spatial} + \lambda_4 L_{relation}$$
#
# **Step 1, the attention mask.** FGD weighs by the teacher's attention; FBKD by the mean of both networks' attentions:
#
# $$M^S = \tfrac{1}{2}\left(A^S(F^S) + A^S(F^T)\right) \qquad L_{feature} = \Big\lVert \sqrt{M^S}\,\big(F^T - f(F^S)\big) \Big\rVert_2$$
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
attentions = {(who, T): attention(each, T).spatial[0] for T in (0.5, 0.1) for who, each in {"student": F_s, "teacher": F_t}.items()}
masks = {T: (attentions["student", T] + attentions["teacher", T]) / 2 for T in (0.5, 0.1)}
{T: round(mask.sum().item(), 2) for T, mask in masks.items()}

# %%
rows = {f"T = {T}": {"$A^S$ student": attentions["student", T], "$A^S$ teacher": attentions["teacher", T], "$M^S$": masks[T]} for T in (0.5, 0.1)}
assert masks[0.1].max() > 10 * masks[0.5].max() and masks[0.5].min() > 0.5 > 1e3 * masks[0.1].min()
map_table(rows, scenes[SCENE][0], boxes[0], label="attention (1 = average)")

# %% [markdown]
# *Figure 1.* Attention of both networks and FBKD's mask on P3, each row on one scale. Check: the mask is the mean of the two maps left of it; at T = 0.1, the setting of the public code for one-stage
# detectors, a handful of cells takes nearly everything (largest value in the title); at T = 0.5 no cell falls below half the average.

# %% [markdown]
# The term itself is one line. **Predict.** Halve the distance between the maps. By what factor does the gradient of a *squared* distance shrink, and by what factor that of a distance, which is its root?

# %%
def slope(loss, share):
    """Length of the gradient when the student has come to within ``share`` of its first distance."""
    near = (F_t + share * (F_s - F_t)).requires_grad_()
    return torch.autograd.grad(loss(near, F_t), near)[0].norm().item()


for name, loss in {"squared": lambda s, t: (s - t).square().sum(), "root": distance}.items():
    print(f"{name:8} {slope(loss, 0.5) / slope(loss, 1.0):.3f}")
assert abs(slope(distance, 0.5) - slope(distance, 1.0)) < 1e-3

# %% [markdown]
# A half, and 1: a root pulls with the same force until it arrives. So FBKD never grows quiet as the student learns, and a batch that is already close counts as much as one that is far.
#
# Now the package's own, with its layers, against our line:

# %%
torch.manual_seed(SEED)
fbkd = FBKDLoss(levels, 48, 48, FBKD_PRESETS["one_stage"])
terms = {(term.name, term.level): term for term in fbkd(scene, maps)}
aligned = fbkd.aligned(scene, "P3").detach()
channels = (attention(F_s, 0.1).channel + attention(F_t, 0.1).channel) / 2        # this preset weighs channels, too
mask = masks[0.1] * channels[:, :, None, None]
mine = (mask * (F_t - aligned).square()).sum().sqrt()
assert torch.allclose(mine, terms["feature", "P3"].raw)
print(f"feature term on P3: ours {mine:.3f}, the package's {terms['feature', 'P3'].raw:.3f}")

# %% [markdown]
# **Steps 2 and 3, attention transfer.** What is left of a map when its pixels, or its channels, are averaged away? FBKD compares these means, through one small layer each:
#
# $$L_{channel} = \Big\lVert \tfrac{1}{HW}\sum_{ij} F^T - \text{Linear}\Big(\tfrac{1}{HW}\sum_{ij} F^S\Big) \Big\rVert_2 \qquad
#   L_{spatial} = \Big\lVert \tfrac{1}{C}\sum_{k} F^T - \text{conv}_{3\times3}\Big(\tfrac{1}{C}\sum_k F^S\Big) \Big\rVert_2$$
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
# **Step 4, non-local distillation.** Every pixel gathers from the whole map what it has to do with, before the maps are compared:
#
# $$NL(F)_i = F_i + \text{BN}\Big(W_z \tfrac{1}{J} \sum_{j=1}^{J} (\theta_i \cdot \varphi_j)\, g_j\Big) \qquad L_{relation} = \big\lVert NL_t(F^T) - \text{conv}_{1\times1}(NL_s(F^S)) \big\rVert_2$$
#
# Code: [`PooledNonLocal`](../fgdlab/methods/fbkd.py), [`NonLocalTerm`](../fgdlab/methods/fbkd.py). Pixels do not ask pixels but J pooled windows, or the table of all pairs would not fit in memory. FGD's GcBlock (notebook 05)
# goes further: one answer for all pixels.
#
# **Predict.** P3 has 16 x 16 cells and windows of 8 x 8. How many answers J does a pixel weigh?

# %%
block = fbkd.relation["P3"].student
answers = [(each.shape[-2] // fbkd.relation[level].student.pool) * (each.shape[-1] // fbkd.relation[level].student.pool)
           for level, each in maps.items()]
assert answers[0] == 4 and torch.equal(block.eval()(F_s), F_s)
pd.DataFrame({"cells": [each[0, 0].numel() for each in maps.values()], "J": answers}, index=levels)

# %% [markdown]
# Four. The second assertion: the block starts as the identity, because the gain of its batch norm starts at 0, so at first $L_{relation}$ is a plain distance.
#
# All four together, as they enter the loss:

# %%
table = pd.DataFrame([{"term": name, "level": level, "weighted": (term.weight * term.raw).item()} for (name, level), term in terms.items()])
table = table.pivot(index="term", columns="level", values="weighted").loc[["feature", "channel", "spatial", "relation"]]
preset = FBKD_PRESETS["one_stage"]
assert table["P3"].max() < 4 * table["P3"].min() and preset.spatial_weight > 50 * preset.feature_weight
table.style.background_gradient("cividis", axis=None).format("{:.3f}").set_uuid("fbkd").set_caption("weight x distance, FBKD at its start")

# %% [markdown]
# The weights of the feature and the spatial term are more than fifty times apart, and yet on P3 no two terms differ by a factor of four: weights of different sums say nothing by themselves. Section 6
# returns to that.
#
# **Predict.** The channel term sees only means over all cells. How does its gradient differ from cell to cell?

# %%
parts = {part: RunConfig(method="fbkd", method_parts=part) for part in FBKDLoss.PARTS}
of_parts = gradient_maps(student, teacher, scenes, SCENE, parts, seed=SEED)
flat = of_parts["channel"].gradient["P3"]
print(f"channel term: gradient of a cell from {flat.min():.4e} to {flat.max():.4e}")
assert torch.allclose(flat, flat.mean().expand_as(flat), rtol=1e-3)

# %%
gradient_maps_figure(of_parts, student, scenes, SCENE, "P3")

# %% [markdown]
# *Figure 2.* FBKD's four terms on P3, pull above and gradient below, each over its own mean, on one logarithmic scale. Check: the channel term's gradient is one colour (it pulls every cell alike);
# the feature term's pull has the bright cells of figure 1's $M^S$ at T = 0.1. None of the four knows the boxes.

# %% [markdown]
# ## 3 · Which cells? Three answers before FGD
#
# All three are a weighted squared error; the boxes decide.
#
# | method | weight of a cell | looks at | file |
# |:--|:--|:--|:--|
# | FGFI, 2019 | $M_{ij} / 2N_p$, M = 1 where an anchor has IoU above $\psi \max_a IoU$ | cells with an anchor **near** an object | [`FGFI`](../fgdlab/methods/fgfi.py) |
# | TADF, 2020 | $\max_r e^{-\frac12 (2\Delta x / w_r)^2 - \frac12 (2 \Delta y / h_r)^2}$ over its sum | the **centres** of objects | [`TADF`](../fgdlab/methods/tadf.py) |
# | DeFeat, 2021 | $\omega_{fg} M / \sum M + \omega_{bg} (1 - M) / \sum (1 - M)$ | **both**, each under its own weight | [`DeFeat`](../fgdlab/methods/defeat.py) |
# | FGD, 2022 | $(\alpha M + \beta (1 - M))\, S A^S A^C$, equation (9) | both, each **object** alike, by attention | [`FGDLoss`](../fgdlab/fgd.py) |

# %%
exact = focal_masks(boxes, scene.frame_sizes(), (16, 16), rounding="exact")
losses = {name: make_loss(RunConfig(method=name), levels, student, teacher) for name in ("fgfi", "tadf", "defeat")}
drawn = {
    "FGFI, M": losses["fgfi"].masks(scene)["P3"][0], "TADF, M": losses["tadf"].mask("P3", scene, F_t)[0],
    "DeFeat, M": losses["defeat"].mask("P3", scene, F_t)[0], "FGD, M": exact.binary[0],
}
map_table({"P3": drawn}, scenes[SCENE][0], boxes[0], label="mask")

# %% [markdown]
# *Figure 3.* Four masks of the same object on P3. Check: FGFI takes cells whose 14 to 20 pixel anchors fit the object; TADF fades from the centre outwards; DeFeat rounds both edges down and so leaves
# out the last row and column that the box only touches; FGD's M has them.
#
# **Predict.** TADF and DeFeat give each object to one level, by its size: those below 112 pixels to the finest. The scenes are 128 pixels wide. What is left for P4 and P5?

# %%
glances = gradient_maps(student, teacher, scenes, SCENE, ["fgfi", "tadf", "defeat"], seed=SEED)
assert glances["tadf"].effective_weight["P4"].sum() == glances["tadf"].effective_weight["P5"].sum() == 0 < glances["fgfi"].effective_weight["P4"].sum()
by_level = pd.DataFrame({name: each.fraction_by_level() for name, each in glances.items()})
by_level.style.format("{:.0%}").set_uuid("levels").set_caption("share of the gradient")

# %% [markdown]
# Nothing: TADF pulls on P3 alone. The 56 and 112 pixels were chosen for photographs of 800. A method that is carried to other data brings its constants along, and nobody is warned; the methods' table of this
# project uses them as published and says so.
#
# ## 4 · Normalise first: what a method is blind to
#
# | method | what is compared | file |
# |:--|:--|:--|
# | attention transfer, 2017 | $Q / \lVert Q \rVert$ with $Q_{ij} = \frac1C \sum_k F_{kij}^2$: where the map is loud | [`AttentionTransfer`](../fgdlab/methods/attention_transfer.py) |
# | CWD, 2021 | $\text{softmax}_{ij}(F_k / \tau)$, channel by channel, by Kullback-Leibler | [`CWD`](../fgdlab/methods/cwd.py) |
# | PKD, 2022 | $(F_k - \mu_k) / \sigma_k$, channel by channel, squared: 1 - correlation | [`PKD`](../fgdlab/methods/pkd.py) |
#
# There is no weight here, for the error is not $F^T - F^S$. Ask instead: which wrong students does the loss take for the teacher itself?
#
# **Predict.** Five students made from the teacher's map. For each, which of the losses are 0? Begin with "doubled": is it 0 for CWD, for PKD?

# %%
mixed = F_t[:, torch.randperm(48, generator=torch.Generator().manual_seed(SEED))]
shifted = F_t + torch.linspace(-1, 1, 48)[:, None, None]
wrong = {"the teacher itself": F_t, "doubled": 2 * F_t, "every channel shifted": shifted, "negated": -F_t, "channels exchanged": mixed}
names = ("hint", "attention", "cwd", "pkd")
tested = {name: make_loss(RunConfig(method=name), ("P3",), student, teacher) for name in names}
scenes_of_wrong = {what: type(scene)(scene.pixels, boxes, scene.image_sizes, {"P3": each}) for what, each in wrong.items()}
blind = pd.DataFrame({name: {what: loss(each, {"P3": F_t})[0].raw.item() for what, each in scenes_of_wrong.items()}
                      for name, loss in tested.items()})
(blind < 1e-6 * blind.max()).replace({True: "0", False: "above 0"}).style.set_uuid("blind")

# %%
zero = blind < 1e-6 * blind.max()
assert zero.loc["doubled"].tolist() == [False, True, False, True] and zero.loc["every channel shifted"].tolist() == [False, False, True, True]
assert zero.loc["negated", "attention"] and zero.loc["channels exchanged", "attention"] and not zero.loc["negated", "pkd"]

# %% [markdown]
# PKD forgives scale and offset, CWD an offset alone, attention transfer scale, sign and order of channels. That is their point: a teacher with another head or another norm has features of another size, and hint would spend
# its strength on that. The price is what is *not* taught: after "channels exchanged" no head would find its features again.
#
# ## 5 · Instances, heads, and a method that refuses
#
# | method | idea | file |
# |:--|:--|:--|
# | MGD, 2022 | blot out random cells of the student's map; a small network has to restore the **teacher's** whole map from the rest | [`MGD`](../fgdlab/methods/mgd.py) |
# | GID, 2021 | no boxes of the annotation: the ten places where the two heads **disagree** most | [`GID`](../fgdlab/methods/gid.py) |
# | Chen, 2017 | hint, plus soft class scores, plus boxes that are bounded by the teacher's | [`Chen`](../fgdlab/methods/chen.py) |
# | CrossKD, 2024 | the student's head feature goes through the rest of the **teacher's head**; predictions are compared | [`CrossKD`](../fgdlab/methods/crosskd.py) |
# | Mimick, 2017 | features of the student's **proposals** | [`Mimick`](../fgdlab/methods/mimick.py) |
#
# They need more of a detector than its maps. Ours is a RetinaNet, which has no proposals:

# %%
try:
    gradient_maps(student, teacher, scenes, SCENE, ["mimick"])
except UserError as error:
    print(error)
    assert "two-stage" in str(error)

# %% [markdown]
# Refused with what it needs and what it got, before a run has cost anything.
#
# ## 6 · All of them on the same image
#
# **Predict.** GID sees no boxes. Will its ten instances lie on the digit, or elsewhere?

# %%
fgd = RunConfig(method="fgd", rounding="exact")
compare = {"fgd": fgd, **{name: RunConfig(method=name) for name in ("fbkd", "hint", "fgfi", "tadf", "defeat")}}
others = {name: RunConfig(method=name) for name in ("chen", "attention", "cwd", "pkd", "mgd", "gid", "crosskd")}
looked = gradient_maps(student, teacher, scenes, SCENE, {**compare, **others}, seed=SEED)
gradient_maps_figure({name: looked[name] for name in compare}, student, scenes, SCENE, "P3")

# %% [markdown]
# *Figure 4.* Methods whose loss is a weighted distance between maps: above the pull, which is their weight map (for FGD and FBKD with their other terms), below the gradient. Every map is over its own mean, 1 is its
# average cell, grey is exactly 0. Check: hint's pull is one colour; FGFI and TADF are grey outside their masks of figure 3, so the background teaches nothing; FGD and DeFeat see both.

# %%
gradient_maps_figure({name: looked[name] for name in others}, student, scenes, SCENE, "P3", columns=7)

# %% [markdown]
# *Figure 5.* Methods that normalise, generate, or go through heads. Their pull is no weight; it says where they pull harder than a plain squared error would. Check: MGD's grey cells are those that it blotted out at this
# step; PKD's pull is nearly flat; GID is dark wherever no instance lies, and its brightest cell is not on the digit but at the letters and strokes around it, where the heads disagree.

# %%
inside = {level: focal_masks(boxes, scene.frame_sizes(), tuple(each.shape[-2:]), rounding="exact").binary[0]
          for level, each in maps.items()}
cells = sum(each.sum() for each in inside.values()) / sum(each.numel() for each in inside.values())
shares = pd.DataFrame({name: {"in boxes": each.fraction_inside(inside), **each.fraction_by_level()} for name, each in looked.items()}).T
styled = shares.sort_values("in boxes").style.format("{:.0%}").bar("in boxes", color="#bbbbbb", vmin=0, vmax=1)
styled.set_uuid("shares").set_caption(f"share of the gradient; boxes cover {cells:.0%} of all cells")

# %%
assert shares.loc[["fgfi", "tadf", "fgd"], "in boxes"].min() > shares.loc[["hint", "pkd", "mgd", "fbkd"], "in boxes"].max()
assert inside["P3"].flatten()[looked["gid"].gradient["P3"].argmax()] == 0
assert looked["pkd"].effective_weight["P3"].max() < 3 * looked["pkd"].effective_weight["P3"].min()
print(f"in boxes: hint {shares.loc['hint', 'in boxes']:.0%}, FGD {shares.loc['fgd', 'in boxes']:.0%}, FGFI {shares.loc['fgfi', 'in boxes']:.0%}")

# %% [markdown]
# What they share: nearly all weigh cells, by boxes, by attention or by disagreement. Where they differ: what counts as an error (a difference, a pattern, a prediction), and how much of the effort may leave the boxes.
#
# **How loud?** Weights cannot be compared across methods; neither can loss values, since a cross-entropy is not 0 at its best. Here is each method's weighted loss beside the detector's own on this image.
#
# **Predict.** By what factor do the loudest and the quietest method differ, at their authors' weights: 10, 100, more?

# %%
image, target = scenes[SCENE]
own_loss = sum(each.item() for each in pretrained_detector("baseline").train()([image], [target]).values())
loud = pd.DataFrame({name: {
    "loss": sum(row["weighted"] for row in each.terms), "gradient": sum(g.square().sum() for g in each.gradient.values()).sqrt().item(),
} for name, each in looked.items()}).T
loud["loss / own"] = loud["loss"] / own_loss
loud.sort_values("gradient").style.format("{:.3g}").set_uuid("loud").set_caption(f"the detector's own loss is {own_loss:.2f}")

# %%
spread = loud["loss"].max() / loud["loss"].min()
assert spread > 100
print(f"loudest over quietest loss: {spread:.0f}, {loud['loss'].idxmax()} over {loud['loss'].idxmin()}")

# %% [markdown]
# More than a hundred. A table that trains every method "as published" on another detector compares volumes as much as ideas. [`Balance`](../fgdlab/balance.py) brings each method to the same share of the detector's own loss, measured
# over the first steps; in a sweep that is one word, `loss_ratio: 1`.

# %%
from fgdlab import Term

own = [Term("own", "all", torch.tensor(own_loss))]
for name in ("fgd", "cwd", "mgd"):
    balance = Balance(loss_ratio=1.0)
    terms = [Term(row["name"], row["level"], torch.tensor(row["raw"]), row["weighted"] / row["raw"]) for row in looked[name].terms]
    after = sum(float(term.weight * term.raw) for term in balance(own, terms))
    print(f"{name}: {loud.loc[name, 'loss']:.3f} -> {after:.3f}, every weight times {balance.factor(terms[0].name):.3g}")
    assert abs(after / own_loss - 1) < 1e-3

# %% [markdown]
# Which method teaches best is not visible in any of these pictures: that takes runs, `fgdlab sweep methods`, read as in notebook 07.
#
# ## Exercises
#
# **Exercise 1** (easy, 5 minutes) Write FBKD's mask: `fbkd_mask(student, teacher, temperature)`, maps (N, C, H, W) in, (N, H, W) out. Use torch only, not the package.

# %%
def fbkd_mask(student, teacher, temperature):
    raise NotImplementedError


check.fbkd_mask(fbkd_mask)

# %% [markdown]
# Solution (unfold the cell below)

# %% jupyter={"source_hidden": true} tags=["solution"]
def fbkd_mask_solution(student, teacher, temperature):
    def attend(features):
        strength = features.abs().mean(dim=1)
        return strength[0].numel() * (strength.flatten(1) / temperature).softmax(dim=1).view_as(strength)

    return (attend(student) + attend(teacher)) / 2


assert check.fbkd_mask(fbkd_mask_solution).right

# %% [markdown]
# **Exercise 2** (medium, 5 minutes) Write FGFI's choice: `near(iou, psi)` with `iou` (K, A) of K boxes with A anchors; which anchors are above $\psi$ times the best IoU of some box? A bool tensor (A,).

# %%
def near(iou, psi):
    raise NotImplementedError


check.near_anchors(near)

# %% [markdown]
# Solution (unfold the cell below)

# %% jupyter={"source_hidden": true} tags=["solution"]
def near_solution(iou, psi):
    threshold = psi * iou.max(dim=1, keepdim=True).values            # one a box
    return (iou > threshold).any(dim=0)


assert check.near_anchors(near_solution).right

# %% [markdown]
# **Exercise 3** (medium, 10 minutes) PKD writes half a squared distance of normalised maps. Write it as what its name says: `pearson(student, teacher)`, 1 - r averaged over channels, without any squared distance.

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
# ## What to keep
#
# - The gradient over twice the distance is the weight of a cell, for any weighted squared error; for other losses it still says where they pull.
# - FBKD: attention of both networks, means, and a non-local block; no boxes. FGD added boxes and put one answer for all pixels in the place of the non-local table.
# - Normalising methods forgive size and offset, and cannot teach them.
# - Constants of a paper (56 pixels, weights) belong to its data and its detector.
#
# Next: [09 your own loss](09_your_own_loss.ipynb).
