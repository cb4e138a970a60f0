# %% [markdown]
# # 05 · Global loss
#
# **Question** Masks split the map into objects and background. The global term should restore relations between
# pixels. What does it measure, and does it need its block?
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
from IPython.display import display
from matplotlib.colors import CenteredNorm
from torch import nn

from fgdlab import FGDConfig, FGDLoss, GcBlock, attention, focal_masks, look, rows
from fgdlab.focal import feature_terms
from fgdlab.lab.config import RunConfig
from fgdlab.lab.course import Answer, chart_figure, finish_chart, map_table, number_grid
from fgdlab.lab.course import pretrained_detector, schematic
from fgdlab.lab.course.exercises import relation as check
from fgdlab.lab.datasets import open_split
from fgdlab.lab.plots import BOX_COLOUR, DISTILLED_COLOUR, TEACHER_COLOUR
from fgdlab.relation import RelationTerm

# %% tags=["parameters"]
QUICK = False

# %%
schematic("global")

# %% [markdown]
# *FGD in one picture.* Highlighted: the global term. It compares whole maps, after a block R that relates the
# pixels of each map. R is the block of GCNet ([Cao et al., 2019](https://arxiv.org/abs/1904.11492)), a simplified
# non-local block ([Wang et al., 2018](https://arxiv.org/abs/1711.07971)).
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
shown = {f"F, channel {c}": features[0, c] for c in range(4)}
number_grid(shown, label="value", digits=0)

# %% [markdown]
# *Figure 1.* The map F. Check: pixel (1, 1) has 2 in channel 0 and 9 in channel 2; pixel (0, 0) has 9 in channel 1;
# the rest is 0.

# %%
block = GcBlock(channels=4, ratio=2)
with torch.no_grad():
    doubling = torch.log(torch.tensor([2.0, 1, 1, 1]))    # e^(W_k F_j) = 2^F_j0
    block.key.weight.copy_(doubling.view(1, 4, 1, 1))
    picks = torch.tensor([[0.0, 1, 0, 0], [0, 0, 1, 0]])         # channels 1 and 2
    block.transform[0].weight.copy_(picks.view(2, 4, 1, 1))
    block.transform[0].bias.zero_()
    last = torch.tensor([[9.0, 0.5], [9, -1], [9, 0], [9, 2]])
    block.transform[3].weight.copy_(last.view(4, 2, 1, 1))

# %% [markdown]
# **Step 1: one weight per pixel.** **Predict.** $e^{W_k F_j}$ is 2 to the power of channel 0. What is the softmax
# weight of pixel (1, 1): 4/5, 4/9 or 2/7?

# %%
weights = block.context_weights(features)
assert torch.isclose(weights[0, 0, 4], torch.tensor(4 / 9))
assert torch.isclose(weights.sum(), torch.tensor(1.0))
of_pixels = {"softmax over the pixels": weights.view(2, 3).detach()}
number_grid(of_pixels, label="weight of a pixel", digits=None)

# %% [markdown]
# *Figure 2.* 4 for pixel (1, 1), 1 for each of the five others, so ninths. The weights do not depend on a query
# pixel: there is one weight map for all pixels.
#
# **Step 2: the context** is the mean of all pixels under these weights. **Predict.** What is it in channels 1 and 2?

# %%
context = features.flatten(2) @ weights.transpose(1, 2)          # (1, 4, 6) @ (1, 6, 1)
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
shown = {f"R(F) - F, channel {c}": added[0, c] for c in range(4)}
number_grid(shown, label="added", digits=1, norm=CenteredNorm(), cmap="PuOr")

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
#
# Every level has a pair of blocks of its own: one for the student's maps, one for the teacher's.

# %%
settings = RunConfig(train_images=64, eval_images=64)
dataset = open_split(settings, "val", progress=False)
samples = [dataset[i] for i in range(8 if QUICK else 32)]
images, targets = map(list, zip(*samples, strict=True))
with torch.no_grad():
    scene = look(pretrained_detector("baseline"), images, targets)
    teacher = look(pretrained_detector("teacher"), images).features
student = scene.features
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
values = {level: {kind: term(kind, level) for kind in kinds} for level in teacher}
values = pd.DataFrame(values)
assert (values.loc["gc"] == values.loc["mse"]).all()
assert (values.loc["nonlocal"] == values.loc["mse"]).all()
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
relation = RelationTerm(48, "gc").requires_grad_(False)
for each in (relation.student, relation.teacher):
    nn.init.normal_(each.transform[3].weight)
s, t = student["P4"], teacher["P4"]
v_s, v_t = ((f(x) - x).mean(dim=(2, 3)) for f, x in
            ((relation.student, s), (relation.teacher, t)))       # (N, C)
means = 64 * ((s - t).mean(dim=(2, 3)) + v_s - v_t).square().sum() / len(s)
whole, centred = relation(s, t), RelationTerm(48, "centred")(s, t)
assert torch.isclose(whole, centred + means, rtol=1e-4)
print(f"{whole:.0f} = {centred:.0f} (centred) + {means:.0f} (means)")

# %% [markdown]
# So training the two blocks can only change the second part: up without bound, down to 0 at best. Hence `centred` is
# a **lower bound** for all GcBlocks, and `mse` is the value at the start. The bound is reached only if the blocks
# cancel the means of every image; one pair of blocks serves all images, so they may not get there (exercise 1).
#
# **Predict.** What fraction of the term could the blocks remove at most, on these maps: half, a quarter or less than
# a sixth? Is it the same on every level?

# %%
removable = 1 - values.loc["centred"] / values.loc["mse"]
of_all = 1 - values.loc["centred"].sum() / values.loc["mse"].sum()
assert removable[["P3", "P4"]].between(0.04, 0.07).all()
assert 0.14 < removable["P5"] < 0.16 and 0.04 < of_all < 0.06
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

# %%
gc, gc_values = train_blocks("gc")
nonlocal_, nonlocal_values = train_blocks("nonlocal")
figure, mse = chart_figure(height=2.9), values.loc["mse", "P4"]
ax, lower_bound = figure.subplots(), values.loc["centred", "P4"]
curves = {"gc, the paper's block": (gc_values, DISTILLED_COLOUR, "-"),
          "nonlocal": (nonlocal_values, BOX_COLOUR, "--")}
for name, (curve, colour, line) in curves.items():
    ax.plot([v / mse for v in curve], color=colour, linestyle=line, label=name)
ax.axhline(1, color="black", linewidth=1, linestyle=":", label="mse")
ax.axhline(lower_bound / mse, color=TEACHER_COLOUR, linestyle="-.", label="centred")
ax.set(xlabel="step of training the blocks alone", ylabel="global term / mse")
ax.set(ylim=(0, 1.08), title="P4, both maps fixed")
ax.legend(fontsize=8, frameon=False, loc="lower left", ncols=2)
finish_chart(ax)
figure

# %% [markdown]
# *Figure 4.* The paper's block falls to the centred distance and not below. The non-local block falls to less than a
# quarter of it, although no student has learned anything. Check: the next cell compares the final values.

# %%
assert min(gc_values) > lower_bound
assert QUICK or gc_values[-1] < 1.02 * lower_bound
assert nonlocal_values[-1] < (0.8 if QUICK else 0.25) * lower_bound
final = {"centred": lower_bound, "gc": gc_values[-1], "nonlocal": nonlocal_values[-1]}
pd.Series(final).round().to_frame("at the last step").T

# %% [markdown]
# A non-local block may add a different vector to every pixel, so a pair of them can make two unrelated maps agree. A
# term that its own layers can lower gives the student less gradient (exercise 2). This may be why non-local is 1.7 AP
# behind GcBlock in the paper's Table 6 (39.8 against 41.5); it is not a proof.
#
# ## Query-independence
#
# In a non-local block every pixel $i$, the *query*, weights all pixels $j$: H·W × H·W weights. A GcBlock has one row
# of H·W for all. Take the trained blocks of the teacher's side and three query pixels:

# %%
def rows_of(block, features):
    """(H W, H W): the weights with which pixel i reads pixel j."""
    if isinstance(block, GcBlock):
        return block.context_weights(features)[0].expand(features[0, 0].numel(), -1)
    query, key = block.query(features).flatten(2), block.key(features).flatten(2)
    return torch.softmax(query.transpose(1, 2) @ key, dim=-1)[0]

n, queries = 2, {"(1, 1)": 9, "(3, 5)": 29, "(6, 2)": 50}
blocks = {"nonlocal": nonlocal_, "gc": gc}
reads = {name: rows_of(x.teacher, teacher["P4"][[n]]) for name, x in blocks.items()}
shown = {name: {f"query {pixel}": x[i].view(8, 8) for pixel, i in queries.items()}
         for name, x in reads.items()}
figure = map_table(shown, images[n], targets[n]["boxes"], label="weight of a pixel")
panels = [*figure.axes[1:4], *figure.axes[5:8]]
for ax, i in zip(panels, [*queries.values()] * 2, strict=True):
    ax.plot(i % 8 + 0.5, i // 8 + 0.5, "+", color="white", ms=11, mew=2)
figure

# %% [markdown]
# *Figure 5.* The weights with which three query pixels of P4 read the map, one scale per row; a white cross marks the
# query pixel. Upper row: the weights depend on the query. Lower row: three times the same map. Check: the largest
# difference between rows of weights, below, is above 0 for `nonlocal` and exactly 0 for `gc`. In memory, the weights
# for one 800 × 1344 image on P3 (100 × 168 pixels, float32) are more than 1 GB and 67 kB.

# %%
spread = {name: (x.max(0).values - x.min(0).values).max().item()
          for name, x in reads.items()}
assert spread["gc"] == 0 and spread["nonlocal"] > 0.1
pixels = 100 * 168
assert 4 * pixels**2 > 1e9 and round(4 * pixels / 1e3) == 67
spread

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
moved = D.flatten(2)[:, :, shuffle].view_as(D)
students = {"as it is": s, "shifted": s + torch.randn(1, 48, 1, 1, generator=g),
            "mirrored": t - D, "errors moved": t + moved, "scaled": t + D / 2}
masks = focal_masks(scene.boxes, scene.frame_sizes(), (8, 8), rounding="exact")

def measured(student):
    fg, bg = feature_terms(student, t, masks, attention(t))
    terms = [RelationTerm(48, kind)(student, t).item() for kind in ("mse", "centred")]
    return [*terms, fg.item(), bg.item()]

columns = ["mse", "centred", "focal, foreground", "focal, background"]
table = pd.DataFrame([measured(each) for each in students.values()], students, columns)
relative = table / table.loc["as it is"]
relative.style.format("{:.2f}").background_gradient(cmap="PuOr", vmin=0, vmax=2)

# %%
shifted, moved = relative.loc["shifted"], relative.loc["errors moved"]
assert shifted["mse"] > 1.2 and abs(shifted["centred"] - 1) < 1e-3
assert (relative.loc["mirrored"] - 1).abs().max() < 1e-3
assert (relative.loc["scaled"] - 0.25).abs().max() < 1e-3
assert (moved[["mse", "centred"]] - 1).abs().max() < 1e-3
assert moved["focal, foreground"] < 0.8

# %% [markdown]
# - **Shifted**: `mse` changes, `centred` does not. `gc` changes at the start and may learn to ignore it.
# - **Mirrored**: none of the four numbers changes. The value of a squared error depends on the size of D and not on its
#   sign; the square loses it, not R. The gradient does have a direction: towards the teacher.
# - **Errors moved**: the global term does not know where objects are. The focal loss does, through its masks.
# - **Scaled**: all change alike.
#
# And relations between pixels? **Predict.** Shuffle the pixels of student *and* teacher in the same way, so that no
# pixel keeps its neighbours. What happens to `gc` and to `nonlocal`?

# %%
def shuffled(features):
    return features.flatten(2)[:, :, shuffle].view_as(features)

change = {name: abs(term(shuffled(s), shuffled(t)) / term(s, t) - 1).item()
          for name, term in blocks.items()}
assert max(change.values()) < 1e-4
change

# %% [markdown]
# Nothing (what is left is rounding). Both blocks treat the map as a set of pixels. "Relation" means the average of
# all pixels, or which pixels are alike; left, right and near have no meaning for R. But if only one of two maps that
# agree is shuffled, the term grows, because the difference is taken pixel by pixel. So R itself hides one thing only: a
# constant per channel.
#
# ## Sizes
#
# Equation 12 is a sum without division. **Predict.** P3 has 16 times the pixels of P5, and the maps have equal
# variance. What fraction of the three levels together does P3 have?

# %%
fgd = FGDLoss(tuple(teacher), 48, 48, FGDConfig(rounding="exact"))
log = pd.DataFrame(rows(0, fgd(scene, teacher)))
sizes = log.pivot(index="name", columns="level", values="weighted")
of_global = sizes.loc["global"]
coco, here = 256 * 100 * 168, teacher["P3"][0].numel()
fraction = of_global.sum() / sizes.to_numpy().sum()
assert 0.7 < of_global["P3"] / of_global.sum() < 0.8
assert 300 < coco / here < 400 and 0.035 < fraction < 0.05
print(f"the global term is {fraction:.1%} of the distillation loss")
sizes.style.format("{:.3f}").background_gradient(cmap="cividis", axis=None)

# %% [markdown]
# About 16 / (16 + 4 + 1) = 76 %. With the paper's $\lambda$ the whole global term is about 4 % of the distillation loss
# at this image size and 48 channels. It grows with C·H·W: on COCO (256 channels, P3 of 100 × 168 pixels) the same error
# per value gives a P3 sum that is 350 times as large.
#
# ## The answer of the runs
#
# In the paper's Table 4 the global term and the focal loss bring the same gain when used alone (40.2 AP each, both
# together 40.4, no distillation 37.4). For the most part the global term is a plain distance with equal weight for
# every pixel. How much of its gain comes from the block? The paper has no row with `mse` instead of `gc`; our Table 6
# has. Read in it whether `gc` is better than `mse` and than `centred`, and in Table 4 whether focal and global add up.
# (Every distilled row starts at the same size, twice the task loss.)

# %%
answers = Answer("table4_focal_global"), Answer("table6_relation")
of_rows = [each.sweep.settings(row, 0, "laptop")
           for each in answers for row in each.sweep.rows]
assert {each.loss_ratio for each in of_rows} == {2}
of_paper = [row.paper["AP"] for row in answers[0].sweep.rows.values()]
assert of_paper == [37.4, 40.2, 40.2, 40.4]
display(*answers)

# %% [markdown]
# ## Exercises
#
# Solutions are at the end of the notebook.
#
# **Exercise 1** (medium, 10 minutes, an experiment). One pair of blocks serves all images. Suppose that the blocks add
# a vector that does not even depend on the image: what is the least value of the global term then, over all such
# vectors, averaged over the N images? Predict first: of the means that `centred` removes on P3, does one vector for
# all images remove more or less than half? And on P5?

# %%
def one_vector_for_all(student, teacher):
    raise NotImplementedError


check.one_vector_for_all(one_vector_for_all)

# %% [markdown]
# **Exercise 2** (hard, 25 minutes, an experiment of half a minute). Let the student's *map* learn, together with the
# layers of a term: `relation` is a `RelationTerm`. Make a trainable copy of `student`; do `steps` steps of
# `torch.optim.Adam` with `rate` on the copy and on the parameters of `relation`, on the value of the term. Return the
# squared distance between the copy and the teacher's map, after / before. Predict first: with which of `mse`, `gc` and
# `nonlocal` does the map come closest to the teacher's, with which least?

# %%
def distance_left(relation, student, teacher, steps, rate):
    raise NotImplementedError


check.distance_left(distance_left)

# %% [markdown]
# ## Recap
#
# - R adds one vector, the same at every pixel; so the term has a lower bound, the squared distance of centred maps.
# - Most of the global term is a plain squared distance with equal weight for every pixel; it does not know objects.
# - R ignores a constant per channel and has no notion of place; layers that can lower the term teach the student less.
#
# Next: [06 Train a student](06_train.ipynb), where all terms act together.
#
# ## Solutions
#
# Unfold the cells. Exercise 1: the best vector is the mean difference over all images and pixels. It removes less than
# a quarter on P3, more than half on P5. The rest differs from image to image, so the blocks must look at the image.

# %% jupyter={"source_hidden": true} tags=["solution"]
def one_vector_for_all_solution(student, teacher):
    difference = student - teacher
    mean = difference.mean(dim=(0, 2, 3), keepdim=True)
    return (difference - mean).square().sum() / len(student)


assert check.one_vector_for_all(one_vector_for_all_solution).right
fractions = {}
for level in teacher:
    left = one_vector_for_all_solution(student[level], teacher[level]).item()
    mse, centred = values.loc[["mse", "centred"], level]
    fractions[level] = (mse - left) / (mse - centred)
assert QUICK or fractions["P3"] < 0.25 < 0.5 < fractions["P5"]
pd.Series(fractions).to_frame("of the means, removed by one vector").T

# %% [markdown]
# Exercise 2: the layers of a non-local block lower the term in place of the student, so its map learns least.

# %% jupyter={"source_hidden": true} tags=["solution"]
def distance_left_solution(relation, student, teacher, steps, rate):
    own = student.clone().requires_grad_()
    optimizer = torch.optim.Adam([own, *relation.parameters()], lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        relation(own, teacher).backward()
        optimizer.step()
    before, after = ((x - teacher).square().sum() for x in (student, own.detach()))
    return after / before


assert check.distance_left(distance_left_solution).right
left = {}
for kind in ("mse", "centred", "gc", "nonlocal"):
    torch.manual_seed(0)
    relation = RelationTerm(48, kind)
    count = 10 if QUICK else 60
    left[kind] = distance_left_solution(relation, s[:8], t[:8], count, 1e-2).item()
assert left["mse"] < left["gc"] < left["nonlocal"]
pd.Series(left).to_frame("distance left").T.style.format("{:.3f}")
