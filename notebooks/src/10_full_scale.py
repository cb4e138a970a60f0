# %% [markdown]
# # 10 · Full scale
# **Question** What does a table cost on COCO: parameters, memory, FLOPs, hours? And what has this project run so far?
#
# **Equations** none new; the coefficients of 9 to 14 as the authors set them for each detector.
#
# **Code** [`SCALES`](../fgdlab/lab/config/scales.py), [`activation_bytes`](../fgdlab/lab/course/scale.py),
# [`MemoryTraffic`](../fgdlab/lab/course/scale.py), [`cache_bytes`](../fgdlab/lab/teachers/feature_cache.py),
# [`PRESETS`](../fgdlab/config.py)
#
# **Needs** 00; 06 for the training loop. A GPU is *not* needed: sizes and FLOPs are computed on tensors without
# memory.
#
# **Cost** about 30 s on 2 cores, 1.2 GB of memory, no download.
#
# **You will** predict each cost with a formula, then count it, and find where the formula is too simple.

# %%
import pandas as pd
import torch
from IPython.display import display
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fgdlab import PRESETS, FGDLoss, Scene, total
from fgdlab.lab.config import SCALES, RunConfig
from fgdlab.lab.course import Answer, MemoryTraffic, activation_bytes, chart_figure
from fgdlab.lab.course import finish_chart, schematic
from fgdlab.lab.course.exercises import scale as check
from fgdlab.lab.datasets import open_split
from fgdlab.lab.detectors import build
from fgdlab.lab.plots import BACKGROUND_COLOUR, ZERO_COLOUR
from fgdlab.lab.reports import current_results
from fgdlab.lab.sweeps import sweep_names
from fgdlab.lab.teachers import cache_bytes

# %% tags=["parameters"]
QUICK = False

# %%
schematic("all")

# %% [markdown]
# *FGD in one picture.* In this notebook every arrow costs time and memory: the student runs forward and backward, the
# teacher forward, and the terms in the middle read both maps.
#
# ## 1 · What a scale changes
# A scale is a set of settings that belong together. `fgdlab sweep NAME --scale gpu` runs the same rows as on a
# laptop, with the settings on the right instead of those on the left:

# %%
names = ["laptop", "gpu"]
scales = pd.DataFrame({name: RunConfig.of(SCALES[name]).dict() for name in names})
scales[scales["laptop"] != scales["gpu"]]

# %% [markdown]
# The teacher has a ResNet-50, the student a ResNet-18, both in torchvision's RetinaNet with levels P3 to P7. The
# teacher runs in every step (`teacher_cache` off); section 3 shows why. The scale `paper` has the authors' detectors on
# COCO: 118,287 training images, 800 × 1333 pixels, padded to multiples of 32, so up to 800 × 1344.
#
# Every cost below is computed, or measured on a CPU, here or in the runs of Table 1; never on a GPU.
#
# ## 2 · Parameters
# The number of parameters of a RetinaNet can be computed: a convolution of $k \times k$ from $C$ to $C'$ channels has
# $k^2 C C'$ weights and $C'$ biases.
#
# **Predict.** ResNet-50 RetinaNet with 80 classes: 24, 34, or 60 million parameters? Which is larger, the pyramid or
# the two heads?

# %%
def conv(k, c_in, c_out):
    return k * k * c_in * c_out + c_out

def bottlenecks(c_in, width, blocks):
    """One stage: 1x1, 3x3, 1x1 convolutions without bias, each with a batch norm."""
    later = 4 * width * width + 9 * width * width + 4 * width * width + 2 * 6 * width
    first = later + (c_in - 4 * width) * width         # it has other input channels
    first += 4 * width * c_in + 2 * 4 * width          # and a projection
    return first + (blocks - 1) * later

# %%
stages = bottlenecks(64, 64, 3) + bottlenecks(256, 128, 4)
stages += bottlenecks(512, 256, 6) + bottlenecks(1024, 512, 3)
backbone = 7 * 7 * 3 * 64 + 2 * 64 + stages
pyramid = sum(conv(1, c, 256) for c in (512, 1024, 2048)) + 5 * conv(3, 256, 256)
anchors, classes, SIZE = 9, 80, (800, 1344)
heads = 8 * conv(3, 256, 256) + conv(3, 256, anchors * (classes + 1))
heads += conv(3, 256, anchors * 4)
{"backbone": backbone, "pyramid": pyramid, "heads": heads}

# %%
names = ("resnet18", "resnet50", "resnet101")
with torch.device("meta"):                             # shapes without memory
    detectors = {name: build("retinanet", name, classes) for name in names}
counted = {name: sum(p.numel() for p in x.parameters())
           for name, x in detectors.items()}
assert counted["resnet50"] == backbone + pyramid + heads and heads > pyramid
print(f"{counted['resnet50']:,}, as predicted")

# %% [markdown]
# 34 million, exactly as predicted, and the heads are larger than the pyramid. The three detectors are on torch's
# `meta` device, so that 800 × 1344 pixels cost nothing to try.
#
# ## 3 · Maps and memory
#
# **Predict.** P3 to P7 have strides 8 to 128 and 256 channels; a grid is rounded up. How many numbers are in the
# teacher's maps of one image: half a million, 6 million, or 60 million?

# %%
def map_values(height, width, channels, strides):
    cells = (-(-height // s) * -(-width // s) for s in strides)
    return channels * sum(cells)

values = map_values(*SIZE, 256, (8, 16, 32, 64, 128))
maps = detectors["resnet50"].eval().backbone(torch.zeros(1, 3, *SIZE, device="meta"))
assert values == sum(each.numel() for each in maps.values()) == 5_734_400
sizes = [(f"{x.shape[2]} x {x.shape[3]}", x.numel() * 4 / 1e6) for x in maps.values()]
pd.DataFrame(sizes, ["P3", "P4", "P5", "P6", "P7"], ["grid", "float32, MB"])

# %% [markdown]
# On the laptop the teacher's maps are computed once and kept on disk in float16: then a distillation step does not
# run the teacher.
#
# **Predict.** How large is a cache of the maps of COCO's 118,287 training images at 800 × 1344: 1.4 GB, 14 GB,
# 140 GB, or 1.4 TB?

# %%
settings = RunConfig(train_images=24, eval_images=16)
dataset = open_split(settings, "train", progress=False)
small = cache_bytes(dataset, build("retinanet", "compact_t", 10))
assert small == len(dataset) * map_values(128, 128, 48, (8, 16, 32)) * 2
full = 118_287 * values * 2
assert 1.3e12 < full < 1.4e12
print(f"{len(dataset)} laptop scenes: {small / 1e6:.1f} MB; COCO: {full / 1e12:.2f} TB")

# %% [markdown]
# 1.36 TB, and mirrored images would double it. So at full scale the teacher runs in every step.
#
# **Memory of a step.** The backward pass needs the activations of the forward pass. Their bytes can be counted
# exactly, on `meta`, by [`activation_bytes`](../fgdlab/lab/course/scale.py): it counts what autograd saves.
#
# **Predict.** From 256 × 256 pixels to 512 × 512: twice, three times, or four times the bytes?

# %%
small, large = (activation_bytes(detectors["resnet18"], x, x) for x in (256, 512))
assert abs(large / small - 4) < 0.02
print(f"{small / 1e6:.0f} MB, {large / 1e6:.0f} MB")

# %%
parts = ["weights, gradients, momentum (SGD)", "the same with AdamW",
         "activations, one image", "its teacher maps"]
memory = {name: (12 * counted[name], 16 * counted[name], activation_bytes(x, *SIZE),
                 4 * values) for name, x in detectors.items()}
memory = pd.DataFrame(memory, index=parts) / 1e9
assert memory["resnet50"][parts[2]] > 5 * memory["resnet50"][parts[0]]
assert memory["resnet50"][parts[3]] < 0.05 * memory["resnet50"][parts[2]]
memory.style.format("{:.2f}").set_caption("GB in float32")

# %% [markdown]
# Four times. Most of the memory is activations, proportional to pixels times images. Distillation adds little: the
# teacher keeps no activations, only its maps and its weights. This table leaves out what frameworks need in addition
# (workspaces, fragmentation); `peak_memory_gb` of a run measures the total. Exercise 1 is about padding: pixels that
# cost memory and hold no image.
#
# ## 4 · FLOPs
# Count floating-point operations, two for a multiply and add, again on `meta`.
#
# **Predict.** In the forward pass of a ResNet-50 RetinaNet, what costs more: 50 layers of backbone with their
# pyramid, or the heads? And how many times the forward pass does the backward pass cost?

# %%
def gflops(run):
    with FlopCounterMode(display=False) as counter:
        result = run()
    return counter.get_total_flops() / 1e9, result

def cost(detector, height, width):
    image = torch.zeros(1, 3, height, width, device="meta")
    below, maps = gflops(lambda: list(detector.train().backbone(image).values()))
    above, output = gflops(lambda: detector.head(maps))
    backward, _ = gflops(lambda: sum(x.sum() for x in output.values()).backward())
    return {"backbone and pyramid": below, "heads": above, "backward": backward}

costs = pd.DataFrame({name: cost(x, *SIZE) for name, x in detectors.items()})
outputs = 8 * 256 + anchors * (classes + 1) + anchors * 4
predicted = 2 * (values // 256) * 9 * 256 * outputs / 1e9          # at every cell
assert abs(predicted - costs["resnet50"]["heads"]) < 1e-6
forward = costs.loc[["backbone and pyramid", "heads"]].sum()
assert (costs.loc["backward"] / forward).between(1.98, 2).all()

# %%
figure, first = chart_figure(height=1.9), "backbone and pyramid"
ax, colours = figure.subplots(), {first: BACKGROUND_COLOUR, "heads": ZERO_COLOUR}
left = 0
for part, colour in colours.items():
    bars = ax.barh(costs.columns, costs.loc[part], left=left, color=colour, label=part)
    ax.bar_label(bars, fmt="%.0f", label_type="center", fontsize=8)
    left = costs.loc[part]
ax.set(xlabel="GFLOPs, forward pass of one image of 800 x 1344 pixels")
ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=8)
finish_chart(ax)
assert costs["resnet50"]["heads"] > costs["resnet50"][first]
figure

# %% [markdown]
# *Figure 1.* FLOPs of the forward pass of three detectors by part. The heads cost more than ResNet-50 with its
# pyramid, and the same in all three: four convolutions each, on every level at full width. Check: their FLOPs follow
# from the number of cells only, and `predicted` in the cell above gives them exactly.
#
# Backward costs just under twice the forward pass: one product for the gradient of the weights, one for that of the
# input, except at the image (exercise 2).
#
# **Predict.** A distillation step adds the teacher's forward pass, without its heads. ResNet-101 teaches ResNet-50: by
# what factor does a step cost more than a plain one?

# %%
plain = forward["resnet50"] + costs["resnet50"]["backward"]
step = plain + costs["resnet101"]["backbone and pyramid"]
assert 1.2 < step / plain < 1.3
print(f"{step:.0f} GFLOPs per image, {step / plain:.2f} times a plain step")

# %% [markdown]
# **The loss itself** costs few FLOPs, but it moves memory. Each operation reads its inputs and writes its result, and
# on a GPU this takes most of the time. [`MemoryTraffic`](../fgdlab/lab/course/scale.py) counts the bytes, here in
# units of one map. **Predict.** The least is 2 for the forward pass, one read of each map. How many does FGD need: 2,
# 10, or more than 20?

# %%
student_map = torch.randn(1, 256, 40, 40, requires_grad=True)
boxes = [torch.tensor([[10.0, 10.0, 90.0, 70.0]])]
scene = Scene(torch.zeros(1, 3, 320, 320), boxes, [(320, 320)], {"P3": student_map})
teacher_maps = {"P3": torch.randn(1, 256, 40, 40)}
with MemoryTraffic() as reading:
    terms = FGDLoss(("P3",), 256, 256)(scene, teacher_maps)
with MemoryTraffic() as writing:
    total(terms).backward()
moved = [x.bytes_moved / (4 * student_map.numel()) for x in (reading, writing)]
assert min(moved) > 2
gigabytes = sum(moved) * 4 * values / 1e9
print(f"forward {moved[0]:.0f} maps, backward {moved[1]:.0f}")
print(f"at 800 x 1344: {gigabytes:.1f} GB per image")

# %% [markdown]
# Divide by the memory bandwidth of your GPU and compare with the time of a step. `make bench` compares the fused
# implementation, which moves less.
#
# ## 5 · Hours
# There is no formula from FLOPs to hours, because no device reaches its peak. Measure images per second and divide.
# What the laptop reached is in the results of Table 1. Do not compare its rows: other work ran on the machine, and
# single runs differ more than rows. Measured alone, a step with distillation takes 9 % longer (README).

# %%
answer = Answer("table1_areas")
done = answer.runs
predicted = done["train_images"] * done["epochs"] / done["images_per_second"]
assert (predicted / done["train_seconds"] - 1).abs().max() < 0.05
rate = done.groupby("row", sort=False)["images_per_second"].median()
assert rate["split"] > 0.8 * rate["none"]              # its teacher is cached
compact = cost(build("retinanet", "compact_s", 10).to("meta"), 128, 128)
sustained = rate * sum(compact.values())
assert sustained.between(10, 80).all()
pd.DataFrame({"images/s": rate, "GFLOP/s of the student": sustained}).round()

# %%
images = 118_287 * 24                                  # COCO, 24 epochs
speeds = (5, 20, 100)
one_run = {f"{x} TFLOP/s": images * step / 1e3 / x / 3600 for x in speeds}
hours = pd.DataFrame({"one run": one_run}).T
hours.loc["Table 1, 5 rows x 3 seeds"] = 15 * hours.loc["one run"]
assert hours.loc["one run", "20 TFLOP/s"] > 24
hours.style.format("{:.0f}").set_caption("hours on ONE device with this throughput")

# %% [markdown]
# ## 6 · The paper's settings: the text against the configs
# One preset per detector, as in the authors' configs. **Predict.** Do the published text and the published configs have
# the same coefficients?

# %%
columns = {"temperature": "T", "alpha": "α", "beta": "β", "gamma": "γ", "lambda_": "λ"}
families = {
    "retinanet": (0.5, 1e-3, 5e-4, 1e-3, 5e-6), "fcos": (0.5, 1.6e-3, 8e-4, 8e-3, 8e-6),
    "faster_rcnn": (0.5, 5e-5, 2.5e-5, 5e-5, 5e-7),
}
families["mask_rcnn"], families["reppoints"] = families["faster_rcnn"], families["fcos"]
of_text = pd.DataFrame(families, columns.values()).T
of_configs = pd.DataFrame({name: [getattr(PRESETS[name], x) for x in columns]
                           for name in families}, columns.values()).T
ratio = (of_configs / of_text).stack()
differs = ratio[(ratio - 1).abs() > 1e-9]
assert set(differs.round(6)) == {0.5, 0.1, 1.6}
display(of_configs.style.format("{:g}"))
differs.rename("configs / text").to_frame().style.format("{:g}")

# %% [markdown]
# They disagree: in γ by factors of 2 and 10, for FCOS in T. The presets follow the configs, which came with the
# published weights.
#
# ## The answer of the runs
# What has this project run? Every sweep, its committed runs at the laptop scale, and whether they count: a result
# counts while its settings are those that the sweep has today.

# %%
listed = []
for name in sweep_names():
    frame, why = current_results(name)
    listed.append((name, 0 if frame is None else len(frame), why or "yes"))
listed = pd.DataFrame(listed, columns=["sweep", "runs", "counts today"])
listed.style.hide().set_properties(**{"text-align": "left"})

# %% [markdown]
# Results of the scales `gpu` and `paper` are the files `NAME-gpu` and `NAME-paper` in `ablations/results`, if there are
# any. The README of [`ablations`](../ablations/README.md) says how to run them: commands, several GPUs, resuming.
#
# ## Exercises
#
# Solutions are at the end of the notebook.
#
# **Exercise 1** (medium, 15 minutes, an experiment). A batch is padded to its largest height and its largest width,
# both rounded up to a multiple of `divisor`. `sizes` is a list of (height, width). Return the pixels of the padded
# batch divided by the pixels of the images. Predict first: by what factor does the memory of two images grow, if one
# is 800 × 1344 and the other 1344 × 800?

# %%
def padding_factor(sizes, divisor):
    raise NotImplementedError

check.padding_factor(padding_factor)

# %% [markdown]
# **Exercise 2** (hard, 20 minutes, an experiment). A chain of layers has forward FLOPs `forward`, a list. The layers
# before index `first` are frozen, and the input needs no gradient. What are the FLOPs of the backward pass? Predict
# first: with half of a chain frozen, is backward over forward above or below 1? The solution counts it.

# %%
def backward_flops(forward, first):
    raise NotImplementedError

check.backward_flops(backward_flops)

# %% [markdown]
# ## Recap
#
# - Parameters, maps and FLOPs follow from shapes: predict them with a formula, then count them on `meta`.
# - Memory is mostly activations; a distillation step costs about a quarter more than a plain one.
# - Hours do not follow from FLOPs: measure images per second, then multiply by rows and seeds.
#
# This was the last notebook. Next: run a table of your own, [09](09_your_own_loss.ipynb), or start again at
# [00](00_start.ipynb).
#
# ## Solutions
#
# Unfold the cells. Exercise 1: two images of different orientation cost two thirds more, so batches are made of images
# of one orientation.

# %% jupyter={"source_hidden": true} tags=["solution"]
def padding_factor_solution(sizes, divisor):
    height, width = (-(-max(x) // divisor) * divisor for x in zip(*sizes, strict=True))
    return len(sizes) * height * width / sum(h * w for h, w in sizes)

assert check.padding_factor(padding_factor_solution).right
sizes = [(800, 1344), (1344, 800)]
predicted = padding_factor_solution(sizes, 32)
alone = sum(activation_bytes(detectors["resnet18"], *size) for size in sizes)
counted = 2 * activation_bytes(detectors["resnet18"], 1344, 1344) / alone
assert abs(counted / predicted - 1) < 0.01
print(f"predicted {predicted:.2f}, counted {counted:.2f}")

# %% [markdown]
# Exercise 2: two products per layer, one in the first trained layer, none in the frozen ones.

# %% jupyter={"source_hidden": true} tags=["solution"]
def backward_flops_solution(forward, first):
    return 2 * sum(forward[first:]) - forward[first]

assert check.backward_flops(backward_flops_solution).right
with torch.device("meta"):
    chain = [nn.Conv2d(8 * k, 8 * k + 8, 3, padding=1) for k in range(1, 7)]
    x = torch.zeros(1, 8, 32, 32)
flops = []
for k, layer in enumerate(chain):
    count, x = gflops(lambda f=layer.requires_grad_(k >= 3), x=x: f(x))
    flops.append(count)
backward, _ = gflops(lambda: x.sum().backward())
assert abs(backward - backward_flops_solution(flops, 3)) < 1e-9
print(f"half of the layers frozen: backward / forward = {backward / sum(flops):.2f}")
