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
# # 10 · Full scale
# **Question** What changes between a laptop and COCO on a GPU, what does it cost, and what has this project run so
# far?
#
# **Equations** none new; the coefficients of 9 to 14 as the authors set them for each detector.
#
# **Code** [`SCALES`](../fgdlab/lab/config/scales.py), [`read_split`](../fgdlab/lab/datasets/annotations.py),
# [`teacher_from_checkpoint`](../fgdlab/lab/checkpoints/load.py),
# [`validate_config`](../fgdlab/lab/commands/validate_config.py),
# [`fgd_state_from_authors`](../fgdlab/lab/checkpoints/authors_keys.py),
# [`cache_bytes`](../fgdlab/lab/teachers/feature_cache.py), [`PRESETS`](../fgdlab/config.py),
# [`PAPER_PRESETS`](../fgdlab/lab/config/presets.py)
#
# **Needs** 00; 06 for the training loop. A GPU is *not* needed: sizes and FLOPs are computed on tensors without
# memory.
#
# **Cost** about 50 s on 2 cores, 1.2 GB of memory, no download.
#
# **You will** check a COCO folder, load a teacher from a file, validate a run before it starts, predict and check
# parameters, memory, FLOPs and hours, and resume a killed run.

# %%
import json
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pandas as pd
import torch
from IPython.display import Markdown, display
from torch.utils.flop_counter import FlopCounterMode

from fgdlab.lab.checkpoints import coco_rows, save_weights, teacher_from_checkpoint
from fgdlab.lab.commands import validate_config
from fgdlab.lab.config import PAPER_PRESETS, SCALES, RunConfig, scale_settings
from fgdlab.lab.course import MemoryTraffic, activation_bytes, pretrained_detector, write_coco_split
from fgdlab.lab.detectors import build
from fgdlab.lab.errors import UserError
from fgdlab.lab.course.exercises import scale as check
from fgdlab.lab.plots import BACKGROUND_COLOUR, ZERO_COLOUR, NotebookFigure
from fgdlab.lab.sweeps import load_sweep
from fgdlab.lab.teachers import cache_bytes, get_teacher

# %% tags=["parameters"]
QUICK = False
HERE = "../runs/notebook_10"      # folder for what this notebook writes; emptied first

# %% [markdown]
# ## 1 · What `--scale gpu` does
# A scale is a set of settings that belong together. `fgdlab sweep NAME --scale gpu` runs the same rows as on a
# laptop, with these settings instead of the defaults:

# %%
laptop, gpu = RunConfig(), RunConfig.of(scale_settings("gpu"))
pd.DataFrame({name: (getattr(laptop, name), value) for name, value in SCALES["gpu"].items()}, index=["laptop", "gpu"]).T

# %% [markdown]
# The teacher has a ResNet-50, the student a ResNet-18, both in torchvision's RetinaNet with levels P3 to P7. The
# teacher is trained once, on first use, and kept. It runs in every step (`teacher_cache` off); section 4 shows why.
# One run at a time, in bfloat16, with the sums of the distillation in float32. `--set data=FOLDER` uses a COCO-format
# folder instead of the digit scenes, `--set image_size=0` keeps the size of its images.
#
# The loss weights of the rows are defined by the sweep, and they differ between scales:

# %%
sweep, rows = load_sweep("table1_areas"), ("fg", "bg", "both", "split")
configs = {(scale, row): sweep.settings(row, 0, scale) for scale in ("laptop", "gpu") for row in rows}
assert {row: configs["gpu", row].loss_ratio for row in rows} == {"fg": 1, "bg": 1, "both": 2, "split": 2}
weights = {key: {**config.fgd().weights(), "loss_ratio": config.loss_ratio} for key, config in configs.items()}
pd.DataFrame(weights).T.style.format("{:g}", na_rep="")

# %% [markdown]
# The laptop weights were measured for these small maps on a tuning split: foreground and background each start as
# large as the task loss, the unsplit sum as large as both. At the gpu scale nothing was measured. There `loss_ratio`
# has the same effect: one factor, measured over the first 50 steps, brings the weighted terms to this multiple of the
# task loss, and `equal_terms` gives every term an equal part. This is not tuning, and the table says so.
#
# **What has been run.** The runs in `ablations/results`:

# %%
published = pd.concat([pd.read_csv(path) for path in sorted(Path("../ablations/results").glob("*.csv"))])
done = published[published.state == "done"].groupby(["sweep", "scale", "data", "device"])
counts = done.agg(runs=("seed", "size"), seeds=("seed", "nunique"), seconds_per_run=("seconds", "mean"))
display(counts.round().astype(int).reset_index().style.hide())
larger = sorted(set(published.scale) - {"smoke", "laptop"})
Markdown(f"**Larger scales than laptop: {', '.join(larger) or 'none, so no GPU table and nothing on COCO'}.**")

# %% [markdown]
# Every cost below is computed, or measured in this notebook on a CPU, never on a GPU.
#
# ## 2 · A COCO folder
# Two layouts are read: `annotations.json` and a folder `images/`, with an optional `splits.json`; and COCO's own,
# `annotations/instances_NAME.json` and a folder `NAME/`. Here is a tiny folder of the second kind: digit scenes,
# padded to different widths, with gaps in the category ids, as in COCO.

# %%
from fgdlab.lab.datasets import open_split

shutil.rmtree(HERE, ignore_errors=True)
coco = Path(HERE, "coco")
settings = RunConfig(train_images=24, eval_images=16)
dataset, eval_set = (open_split(settings, split, progress=False) for split in ("train", "val"))
write_coco_split(coco, "train2017", dataset, range(16))
file = write_coco_split(coco, "val2017", dataset, range(16, 24))

def fgdlab(*arguments):
    """Run the command line; print its output, or the last line of its error."""
    done = subprocess.run([sys.executable, "-m", "fgdlab", *map(str, arguments)], capture_output=True, text=True)
    error = f"exit status {done.returncode}\n{done.stderr.strip().splitlines()[-1]}" if done.returncode else ""
    print(error or done.stdout.rstrip())

fgdlab("data", "check", coco)

# %% [markdown]
# The command reads the folder as a run would: every entry, every box, every pixel. It offers `train` and `val` as
# short names, and splits `train` into `train-fit` and `train-tune`, which share no image, so that hyper-parameters
# can be chosen (`--set train_split=train-fit --set eval_split=train-tune`) without using val. The last columns give
# the fraction of the cells of each level inside boxes, the last lines the number of objects with a segmentation mask:
# polygons or run lengths, for Mask R-CNN.
#
# **Predict.** One annotation of 118,287 images has its box outside of its image. When is this reported: at step 5,000
# as a NaN, never, or before the first step?

# %%
broken = json.loads(whole := file.read_text())
broken["annotations"][0]["bbox"][0] = 4000.0
file.write_text(json.dumps(broken))
fgdlab("data", "check", coco)
assert file.write_text(whole)

# %% [markdown]
# Before the first step, in one line: which entry of which file, what it must be, what it is, and what to do.
#
# ## 3 · A teacher from a file
# `teacher_checkpoint` names weights of any origin: a `.safetensors` file, which every run writes with
# [`save_weights`](../fgdlab/lab/checkpoints/safetensors_io.py), with facts in its header; a `.pth` with the names of
# torchvision or MMDetection, or its https address; or `torchvision:NAME`. A round trip with the teacher of the
# project:

# %%
path = Path(HERE, "teacher.safetensors")
save_weights(pretrained_detector("teacher"), path, origin="notebook 10", data="digit scenes")
config = RunConfig(method="fgd", train_images=24, eval_images=16, teacher_checkpoint=str(path), device="cpu")
teacher = get_teacher(config, dataset, eval_set, progress=False)
print(f"{teacher.origin}: AP {teacher.AP:.1f} on {config.eval_images} scenes")

# %% [markdown]
# A teacher is evaluated before a run uses it. 16 scenes give only a rough value: this one is far above the 32.1 of
# all 400 validation scenes.
#
# **Predict.** Which of these two mistakes is found before training: a checkpoint of another architecture, or a
# teacher that detects nothing?

# %%
for mistake in ({"teacher": "compact_s"}, {"teacher_floor": 95.0}):
    try:
        get_teacher(config.but(**mistake), dataset, eval_set, progress=False)
    except UserError as error:
        print(f"{mistake}: {error}")

# %% [markdown]
# Both. `teacher_floor` is the AP below which a teacher is refused.
#
# A `.pth` needs no conversion: the names of its tensors say where it comes from. It is read as numbers only; no code
# in it is run. The checkpoints of torchvision fit by name, because [`build`](../fgdlab/lab/detectors/builder.py) uses
# torchvision's class. But their classes are COCO's, and their heads have 91 outputs (the sparse ids), not 81. Suppose
# that your data has two of these classes.
#
# **Predict.** Is such a head refused, used with all its 91 outputs, or reduced?

# %%
from torchvision.models.detection import retinanet_resnet50_fpn

with torch.device("meta"):                                 # shapes without memory
    ours = build("retinanet", "resnet50", classes=90).state_dict()
    theirs = retinanet_resnet50_fpn(weights=None, weights_backbone=None, num_classes=91).state_dict()
assert {name: each.shape for name, each in ours.items()} == {name: each.shape for name, each in theirs.items()}
of_coco = build("retinanet", "compact_s", classes=90)      # the same outputs on a smaller backbone
torch.save(of_coco.state_dict(), checkpoint := Path(HERE, "of_coco.pth"))
two_classes = config.but(teacher="compact_s", teacher_checkpoint=str(checkpoint))
reduced, _ = teacher_from_checkpoint(two_classes, ["dog", "cat"])
before = of_coco.head.classification_head.cls_logits.bias.view(-1, 91)
after = reduced.head.classification_head.cls_logits.bias.view(-1, 3)
assert coco_rows(["dog", "cat"]) == [0, 18, 17] and torch.equal(after, before[:, [0, 18, 17]])
print(f"{before.shape[1]} outputs -> {after.shape[1]}: rows {coco_rows(['dog', 'cat'])} of the teacher's")

# %% [markdown]
# Reduced, by the names of the classes; the values that are kept do not change. If a class is not one of COCO's,
# `teacher_parts=backbone+neck` loads the pyramid only. FGD imitates nothing else, but such a teacher has no AP.
#
# **Validation before the first step.** `fgdlab doctor` with the settings of a run prints what
# [`validate_config`](../fgdlab/lab/commands/validate_config.py) finds, after some lines about the machine: data, the
# teacher's AP on a sample, where maps are read, the size of each loss term, and that nothing has changed the
# teacher's weights. Every run checks most of this by itself, refuses what is wrong and prints warnings.

# %%
words = {True: "ok", None: "look", False: "WRONG"}
look = [(words[line.passed], line.name, "; ".join(filter(None, (line.detail, line.hint))))
        for line in validate_config(config)]
assert not any(word == "WRONG" for word, *_ in look)
pd.DataFrame(look, columns=["", "what", "found"]).style.hide().set_properties(**{"text-align": "left"})

# %% [markdown]
# The *loss* has layers too: the GcBlocks of equation 13, trained with the student. The authors' code has one module
# per level, with other names; [`fgd_state_from_authors`](../fgdlab/lab/checkpoints/authors_keys.py) converts the
# state of one level to the names used here. A small state with their names and random values:

# %%
from fgdlab import FGDLoss
from fgdlab.lab.checkpoints import fgd_state_from_authors

C = 16
shapes = {"conv_mask_{}": (1, C, 1, 1), "channel_add_conv_{}.0": (C // 2, C, 1, 1),
          "channel_add_conv_{}.1": (C // 2, 1, 1), "channel_add_conv_{}.3": (C, C // 2, 1, 1)}
theirs = {f"{name.format(who)}.weight": torch.randn(shape) for who in "st" for name, shape in shapes.items()}
theirs |= {f"{name.format(who)}.bias": torch.randn(shape if name.endswith(".1") else shape[:1])
           for who in "st" for name, shape in shapes.items()}
state = fgd_state_from_authors(theirs, "P3")
loss = FGDLoss(("P3",), C, C)
assert str(loss.load_state_dict(state)) == "<All keys matched successfully>"
assert torch.equal(loss.relation["P3"].student.key.weight, theirs["conv_mask_s.weight"])
pd.Series(dict(zip(theirs, state, strict=True)), name="here").rename_axis("the authors'").to_frame().head(4)

# %% [markdown]
# ## 4 · Size
# The number of parameters of a RetinaNet can be computed: a convolution of $k \times k$ from $C$ to $C'$ channels has
# $k^2 C C'$ weights and $C'$ biases.
#
# **Predict.** ResNet-50 RetinaNet with 80 classes: 24, 34, or 60 million parameters? Which is larger, the pyramid or
# the two heads?

# %%
def conv(k, c_in, c_out):
    return k * k * c_in * c_out + c_out

def bottlenecks(c_in, width, blocks):
    """One stage: 1x1, 3x3, 1x1 convolutions without bias, each with a batch norm; a projection in the first block."""
    later = 4 * width * width + 9 * width * width + 4 * width * width + 2 * 6 * width
    first = later + (c_in - 4 * width) * width + 4 * width * c_in + 2 * 4 * width
    return first + (blocks - 1) * later

anchors, classes, SIZE, STRIDES = 9, 80, (800, 1344), (8, 16, 32, 64, 128)
stages = bottlenecks(64, 64, 3) + bottlenecks(256, 128, 4) + bottlenecks(512, 256, 6) + bottlenecks(1024, 512, 3)
backbone = 7 * 7 * 3 * 64 + 2 * 64 + stages
pyramid = sum(conv(1, c, 256) for c in (512, 1024, 2048)) + 5 * conv(3, 256, 256)    # P3-P5 smoothed, P6 and P7 made
heads = 8 * conv(3, 256, 256) + conv(3, 256, anchors * (classes + 1)) + conv(3, 256, anchors * 4)
with torch.device("meta"):
    detectors = {name: build("retinanet", name, classes) for name in ("resnet18", "resnet50", "resnet101")}
counted = {name: sum(p.numel() for p in detector.parameters()) for name, detector in detectors.items()}
predicted = backbone + pyramid + heads
assert counted["resnet50"] == predicted
parts = {"backbone": backbone, "pyramid": pyramid, "heads": heads}
parts |= {"predicted": predicted, "built": counted["resnet50"]}
pd.Series(parts).map("{:,}".format).to_frame("parameters")

# %% [markdown]
# 34 million, exactly as predicted, and the heads are larger than the pyramid. The three detectors are on torch's
# `meta` device, so that 800 x 1344 pixels cost nothing to try.
#
# **Exercise 1** (easy, 5 minutes). How many numbers are in the pyramid of one image? A grid is rounded up.

# %%
def map_values(height, width, channels, strides):
    """Pixels, C, strides of the levels -> numbers in all maps of one image."""
    raise NotImplementedError

check.map_values(map_values)


# %% [markdown]
# Solution (unfold the cell below)

# %% jupyter={"source_hidden": true} tags=["solution"]
def map_values_solution(height, width, channels, strides):
    return channels * sum(-(-height // stride) * -(-width // stride) for stride in strides)

assert check.map_values(map_values_solution).right

# %%
maps = detectors["resnet50"].eval().backbone(torch.zeros(1, 3, *SIZE, device="meta"))
values = sum(each.numel() for each in maps.values())
assert values == map_values_solution(*SIZE, 256, STRIDES) == 5_734_400
sizes = [(f"{each.shape[2]} x {each.shape[3]}", each.numel() * 4 / 1e6) for each in maps.values()]
pd.DataFrame(sizes, index=["P3", "P4", "P5", "P6", "P7"], columns=["grid", "float32, MB"]).style.format(precision=2)

# %% [markdown]
# On the laptop the teacher's maps are computed once and kept on disk in float16: then a distillation step does not
# run the teacher.
#
# **Predict.** COCO's train2017 has 118,287 images. How large is a cache of their maps at 800 x 1344: 1.4 GB, 14 GB,
# 140 GB, or 1.4 TB?

# %%
assert cache_bytes(dataset, teacher.detector) == len(dataset) * map_values_solution(128, 128, 48, (8, 16, 32)) * 2
full = 118_287 * values * 2
assert 1.3e12 < full < 1.4e12
small = cache_bytes(dataset, teacher.detector)
print(f"{len(dataset)} laptop scenes: {small / 1e6:.1f} MB, as predicted.   COCO: {full / 1e12:.2f} TB")

# %% [markdown]
# 1.36 TB, and mirrored images would double it. So at full scale the teacher runs in every step.
#
# **Memory of a step.** The backward pass needs the activations of the forward pass. Their bytes can be counted
# exactly, on `meta`, by [`activation_bytes`](../fgdlab/lab/course/scale.py): it counts what autograd saves.
#
# **Predict.** From 256 x 256 pixels to 512 x 512: twice, three times, or four times the bytes?

# %%
small, large = (activation_bytes(detectors["resnet18"], side, side) for side in (256, 512))
assert abs(large / small - 4) < 0.02
print(f"{small / 1e6:.0f} MB and {large / 1e6:.0f} MB, {large / small:.2f} times")
sizes = {name: (12 * counted[name], 16 * counted[name], activation_bytes(detector, *SIZE), 4 * values)
         for name, detector in detectors.items()}
parts = ["weights, gradients, momentum (SGD)", "the same with AdamW", "activations, one image", "its teacher maps"]
memory = pd.DataFrame(sizes, index=parts) / 1e9
assert memory["resnet50"][parts[2]] > 5 * memory["resnet50"][parts[0]]
memory.style.format("{:.2f}").set_caption("GB in float32")

# %% [markdown]
# Most of the memory is activations, proportional to pixels times images. Distillation adds little: the teacher keeps
# no activations, only its maps and its weights. bfloat16 halves most of the activations. This table leaves out what
# frameworks need in addition (workspaces, fragmentation); `peak_memory_gb` of a run measures the total.
#
# ## 5 · Time
# Count floating-point operations (FLOPs), two for a multiply and add, again on `meta`.
#
# **Predict.** In the forward pass of a ResNet-50 RetinaNet, what costs more: 50 layers of backbone with their
# pyramid, or the heads?

# %%
@torch.no_grad()
def forward_gflops(detector, height, width):
    with FlopCounterMode(display=False) as backbone:
        maps = list(detector.eval().backbone(torch.zeros(1, 3, height, width, device="meta")).values())
    with FlopCounterMode(display=False) as head:
        detector.head(maps)
    return {"backbone and pyramid": backbone.get_total_flops() / 1e9, "heads": head.get_total_flops() / 1e9}

gflops = pd.DataFrame({name: forward_gflops(detector, *SIZE) for name, detector in detectors.items()})
predicted = 2 * (values // 256) * 9 * 256 * (8 * 256 + anchors * (classes + 1) + anchors * 4) / 1e9      # every cell
assert abs(predicted - gflops["resnet50"]["heads"]) < 1e-6
assert gflops["resnet50"]["heads"] > gflops["resnet50"]["backbone and pyramid"]
figure = NotebookFigure(figsize=(8, 1.9), dpi=110, layout="constrained", facecolor="white")
ax = figure.subplots()
first = "backbone and pyramid"
for part, left, color in ((first, 0, BACKGROUND_COLOUR), ("heads", gflops.loc[first], ZERO_COLOUR)):
    bars = ax.barh(gflops.columns, gflops.loc[part], left=left, color=color, label=part)
    ax.bar_label(bars, fmt="%.0f", label_type="center")
ax.set(xlabel="GFLOPs, forward pass of one image of 800 x 1344 pixels", title="FLOPs of a RetinaNet with 80 classes")
ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
figure

# %% [markdown]
# *Figure 1.* FLOPs of the forward pass of three detectors by part. The heads cost more than ResNet-50 with its
# pyramid, and the same in all three: four convolutions each, on every level at full width. Check: their FLOPs follow
# from the number of cells only, and `predicted` in the cell above gives them exactly.
#
# **Exercise 2** (easy, 5 minutes). A distillation step: the student forward and backward, where backward costs twice
# the forward; the teacher forward, unless its maps are cached.

# %%
def step_flops(student, teacher, cached):
    """FLOPs of one forward pass of each network -> FLOPs of a step."""
    raise NotImplementedError

check.step_flops(step_flops)


# %% [markdown]
# Solution (unfold the cell below)

# %% jupyter={"source_hidden": true} tags=["solution"]
def step_flops_solution(student, teacher, cached):
    return 3 * student + (0 if cached else teacher)

assert check.step_flops(step_flops_solution).right
student, live = gflops["resnet50"].sum(), gflops["resnet101"]["backbone and pyramid"]         # teacher without heads
step = step_flops_solution(student, live, False)
assert 1.2 < step / (3 * student) < 1.3
print(f"ResNet-101 teaches ResNet-50: {step:.0f} GFLOPs per image, {step / (3 * student):.2f} times a plain step")

# %% [markdown]
# **The loss itself** costs few FLOPs, but it moves memory. Each operation reads its inputs and writes its result, and
# on a GPU this takes most of the time. [`MemoryTraffic`](../fgdlab/lab/course/scale.py) counts the bytes, here in
# units of one map:

# %%
from fgdlab import Scene, total

student_map, teacher_map = torch.randn(1, 256, 40, 40, requires_grad=True), torch.randn(1, 256, 40, 40)
boxes = [torch.tensor([[10.0, 10.0, 90.0, 70.0]])]
scene = Scene(torch.zeros(1, 3, 320, 320), boxes, [(320, 320)], {"P3": student_map})
with MemoryTraffic() as forward:
    terms = FGDLoss(("P3",), 256, 256)(scene, {"P3": teacher_map})
with MemoryTraffic() as backward:
    total(terms).backward()
passes = [each.bytes_moved / (4 * student_map.numel()) for each in (forward, backward)]
assert passes[0] >= 2
Markdown(f"Forward {passes[0]:.0f} maps, backward {passes[1]:.0f}; the minimum for forward is 2, one read of each map. "
         f"At 800 x 1344 that is {sum(passes) * 4 * values / 1e9:.1f} GB per image. Divide by the memory bandwidth of "
         "your GPU and compare with the time of a step.")

# %% [markdown]
# **From FLOPs to hours.** There is no formula, because no device reaches its peak. Measure images per second and
# divide. What the laptop reached is in `results.csv`:

# %%
alone = published[published["sweep"] == "table1_areas_plain"]        # nothing else ran
rate, logged = (alone.groupby("row", sort=False)[column].mean() for column in ("images_per_second", "train_seconds"))
compact = sum(forward_gflops(build("retinanet", "compact_s", 10).to("meta"), 128, 128).values())
sustained = rate * 3 * compact
assert ((3600 * 2 / rate / logged - 1).abs() < 0.05).all() and rate["split"] > 0.8 * rate["none"]
assert sustained.between(15, 30).all()
table = {"images/s": rate, "predicted s per run": 7200 / rate, "logged s": logged, "GFLOP/s": sustained}
pd.DataFrame(table).style.format("{:.0f}")

# %% [markdown]
# A distilled row trains nearly as fast as the baseline, because its teacher is cached. A core sustains about 20
# GFLOP/s on these small maps.
#
# **Exercise 3** (easy, 5 minutes). The hours of a whole sweep.

# %%
def sweep_hours(rows, seeds, images, epochs, images_per_second):
    """All runs of a sweep, one after the other -> hours of training."""
    raise NotImplementedError

check.sweep_hours(sweep_hours)


# %% [markdown]
# Solution (unfold the cell below)

# %% jupyter={"source_hidden": true} tags=["solution"]
def sweep_hours_solution(rows, seeds, images, epochs, images_per_second):
    return rows * seeds * images * epochs / images_per_second / 3600

assert check.sweep_hours(sweep_hours_solution).right
sizes = {"one run": (1, 1), "Table 1, 5 rows x 3 seeds": (5, 3)}
hours = {
    f"{tera} TFLOP/s": {what: sweep_hours_solution(*n, 118_287, 24, 1e3 * tera / step) for what, n in sizes.items()}
    for tera in (5, 20, 100)
}
pd.DataFrame(hours).style.format("{:.0f}").set_caption("hours on ONE device with this assumed throughput")

# %% [markdown]
# ## 6 · The paper's settings
# One preset per detector, as in the authors' configs, trained with SGD, momentum 0.9, weight decay 1e-4, gradients
# clipped at norm 35, 16 images per step, 24 epochs (2x) with steps after 16 and 22.

# %%
from fgdlab import PRESETS

columns = {"temperature": "T", "alpha": "α", "beta": "β", "gamma": "γ", "lambda_": "λ"}
presets = {name: {short: getattr(preset, long) for long, short in columns.items()} for name, preset in PRESETS.items()}
presets = pd.DataFrame(presets).T
two_stage = presets.index.isin(["faster_rcnn", "mask_rcnn"])
presets = presets.assign(lr=0.01, levels="P3-P7")
presets.loc[two_stage, ["lr", "levels"]] = 0.02, "P2-P5"
display(presets.style.format("{:g}", subset=[*columns.values(), "lr"]))
anchor_based, anchor_free = (0.5, 1e-3, 5e-4, 1e-3, 5e-6), (0.5, 1.6e-3, 8e-4, 8e-3, 8e-6)
two_stage = (0.5, 5e-5, 2.5e-5, 5e-5, 5e-7)
families = {"retinanet": anchor_based, "fcos": anchor_free, "reppoints": anchor_free}
families |= {"faster_rcnn": two_stage, "mask_rcnn": two_stage}
differs = (presets[list(columns.values())] / pd.DataFrame(families, index=list(columns.values())).T).stack()
assert set(differs[(differs - 1).abs() > 1e-9].round(6)) == {0.5, 0.1, 1.6}
differs[(differs - 1).abs() > 1e-9].rename("configs / paper's text").to_frame().style.format("{:g}")

# %% [markdown]
# The published text and the published configs disagree: in γ by factors of 2 and 10, for FCOS in T. The presets
# follow the configs, which came with the published weights. Four of the five detectors are torchvision's classes;
# [`RepPoints`](../fgdlab/lab/detectors/reppoints.py) is implemented here, because torchvision has none. The pairs of
# teacher and student that the authors trained:

# %%
pairs = {name: (p.detector, p.teacher, p.student, p.inherit, p.parts, *p.mAP, p.table or "config only")
         for name, p in PAPER_PRESETS.items()}
columns = ["detector", "teacher", "student", "inherits", "teacher parts", "baseline", "distilled", "where"]
assert {pair.detector for pair in PAPER_PRESETS.values()} == set(PRESETS)
pd.DataFrame(pairs, index=columns).T.style.format("{:.1f}", subset=["baseline", "distilled"], na_rep="")

# %% [markdown]
# The numbers are the authors', on COCO. Each name is a preset with all settings, including the address of the
# teacher; `doctor` instead of `run` validates it first. **None of them has been run in this project.** What does a
# preset set?

# %%
settings = RunConfig.of(PAPER_PRESETS["retinanet_r101_r50"].settings() | {"data": "/path/to/coco"})
assert settings.fgd() == PRESETS["retinanet"] and (settings.min_size, settings.max_size) == (800, 1333)
changed = {name: value for name, value in settings.dict().items() if value != getattr(laptop, name)}
print("fgdlab run --preset retinanet_r101_r50 --coco /path/to/coco\n")
print(textwrap.fill(", ".join(f"{name} {value}" for name, value in changed.items()), 110))

# %% [markdown]
# COCO's images have at most 640 pixels per side; `min_size` and `max_size` enlarge them to 800 x 1333. `inherit`
# initialises the student's neck and head with the teacher's where shapes agree; a run prints what it copied, and
# `result.json` records it. Several GPUs need no setting: `torchrun --nproc-per-node 8 -m fgdlab run ...` splits every
# batch between them; `batch_size` is still the whole batch.
#
# **Your own detector or backbone** needs no registration either:
# [`ablations/own_detector.py`](../ablations/own_detector.py) distils a RetinaNet with a hand-written backbone, and a
# hand-written detector similar to YOLO, on any COCO-format folder. Run it, then change it.
#
# ## 7 · Interrupt, resume, trace
# A training run of a day may be interrupted. Repeat the same command: finished runs are not repeated, a killed run
# resumes from its checkpoint. Does it reach the same weights? Six steps, killed in the fifth:

# %%
from fgdlab.distill import Distiller
from fgdlab.lab.training import train

short = RunConfig(batch_size=8, epochs=2, train_images=24, checkpoint_every=2, device="cpu")

def train_in(folder, killed_in=None):
    torch.manual_seed(short.seed)
    distiller, calls = Distiller(build("retinanet", "compact_s", 10)), []
    def kill(*_):
        calls.append(1)
        if len(calls) == killed_in:
            raise KeyboardInterrupt
    distiller.student.register_forward_pre_hook(kill)
    folder.mkdir(exist_ok=True)
    return train(distiller, dataset, short, folder, progress="off"), distiller.student.state_dict()

# %%
_, straight = train_in(Path(HERE, "straight"))
try:
    train_in(Path(HERE, "killed"), killed_in=5)
except KeyboardInterrupt:
    print("killed in step 5")
timing, resumed = train_in(Path(HERE, "killed"))
assert timing["resumed_at"] == 4 and all(torch.equal(straight[name], resumed[name]) for name in straight)
print(f"resumed after step {timing['resumed_at']} of {timing['steps']}; all {len(straight)} tensors are bit-identical")

# %% [markdown]
# All random numbers depend on seed, epoch and image only, not on where a run was stopped. Each row of `results.csv`
# records how it was made:

# %%
alone[["row", "seed", "AP", "run_id", "commit", "dirty", "device", "torch", "teacher_weights", "finished"]].head(3).T

# %% [markdown]
# `commit` and `dirty` name the code, `run_id` is a hash of the settings, the data and the code, `teacher_weights` a
# hash of the teacher's file. Compare two numbers in one table only if these agree where they should.
#
# **Before you start a long run.** `fgdlab data check`; `fgdlab doctor` with the run's settings; `fgdlab sweep NAME
# --scale smoke`, every code path in about a minute; a teacher with `teacher_floor` set; a few hundred steps to
# measure images per second and `peak_memory_gb`; the hours by exercise 3; weights chosen on a tuning split. Then as
# many seeds as the difference needs, by [07](07_read_an_ablation.ipynb). If the result is a table at a scale that has
# not been published: `fgdlab table NAME --publish`.

