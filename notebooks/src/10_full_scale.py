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
# **Question** What changes between a laptop and COCO on a GPU, what does it cost, and what has this project run so far?
#
# **Equations** none new; the coefficients of 9 to 14 as the authors set them for each detector.
#
# **Code** [`SCALES`](../fgdlab/lab/config/scales.py), [`read_split`](../fgdlab/lab/datasets/annotations.py), [`teacher_from_checkpoint`](../fgdlab/lab/checkpoints/load.py),
# [`validate_config`](../fgdlab/lab/commands/validate_config.py), [`fgd_state_from_authors`](../fgdlab/lab/checkpoints/authors_keys.py), [`cache_bytes`](../fgdlab/lab/teachers/feature_cache.py),
# [`PRESETS`](../fgdlab/config.py), [`PAPER_PRESETS`](../fgdlab/lab/config/presets.py)
#
# **Needs** 00; 06 for the training loop. A GPU is *not* needed here: sizes and work are computed on tensors without memory.
#
# **Cost** about 50 s on 2 cores, 1.2 GB of memory, no download.
#
# **You will** check a COCO folder, hand a run a teacher from a file, have a run looked at before it starts, predict parameters, memory, work and
# hours and check each prediction, and kill a run and let it go on.

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
from torchvision.models.detection import retinanet_resnet50_fpn

from fgdlab.lab.config import RunConfig
from fgdlab.lab.detectors import build
from fgdlab.lab.errors import UserError
from fgdlab.lab.course.exercises import scale as check
from fgdlab.lab.config import SCALES, scale_settings

# %% tags=["parameters"]
QUICK = False
HERE = "../runs/notebook_10"      # where this notebook writes; emptied first

# %% [markdown]
# ## 1 · What `--scale gpu` does
# A scale is a set of settings that go together. `fgdlab sweep NAME --scale gpu` runs the same rows as on a laptop with these in place of the
# defaults:

# %%
laptop, gpu = RunConfig(), RunConfig.of(scale_settings("gpu"))
pd.DataFrame({name: (getattr(laptop, name), value) for name, value in SCALES["gpu"].items()}, index=["laptop", "gpu"]).T

# %% [markdown]
# ResNet-50 teaches ResNet-18 on torchvision's RetinaNet with levels P3 to P7. The teacher is trained once, on first use, and kept. It runs live
# beside the student (`teacher_cache` off): section 4 shows why. One run at a time, in bfloat16, the distillation's sums in float32. `--set
# data=FOLDER` puts a COCO-format folder in the place of the digit scenes, `--set image_size=0` leaves its images at their size.
#
# The weights of the rows are a sweep's business, and they differ between scales:

# %%
from fgdlab.lab.sweeps import load_sweep

sweep = load_sweep("table1_areas")
chosen = {(scale, row): sweep.settings(row, 0, scale) for scale in ("laptop", "gpu") for row in sweep.rows if row != "none"}
assert {row: each.loss_ratio for (scale, row), each in chosen.items() if scale == "gpu"} == {"fg": 1, "bg": 1, "both": 2, "split": 2}
pd.DataFrame({key: {**each.fgd().weights(), "share": each.loss_ratio} for key, each in chosen.items()}).T.style.format("{:g}", na_rep="")

# %% [markdown]
# On the laptop they were measured for these small maps, on a tuning split: foreground and background each start as large as the detector's own
# loss, the unsplit sum as large as both. At the gpu scale nothing was measured. There a `share` does the same: over the first 50 steps one factor
# brings the weighted terms to this multiple of the detector's own loss, with `even` in equal parts. That is no tuning, and the table will say so.
#
# **What has been run.** Not what could be: what lies in `ablations/results`.

# %%
published = pd.concat([pd.read_csv(path) for path in sorted(Path("../ablations/results").glob("*.csv"))])
done = published[published.state == "done"].groupby(["sweep", "scale", "data", "device"])
display(done.agg(runs=("seed", "size"), seeds=("seed", "nunique"), seconds_a_run=("seconds", "mean")).round().astype(int).reset_index().style.hide())
larger = set(published.scale) - {"smoke", "laptop"}
Markdown("Runs of larger scales are among them." if larger else "**No run of a larger scale is among them: no GPU table, nothing on COCO.**")

# %% [markdown]
# Every cost below is arithmetic, or measured in this notebook on a CPU, never on a GPU.
#
# ## 2 · A COCO folder
# Two layouts are read: `annotations.json` beside `images/`, with `splits.json` if there is one; and COCO's own, `annotations/instances_NAME.json`
# beside `NAME/`. Here is a tiny folder of the second kind: digit scenes, padded to different widths, with category ids that have gaps, as in COCO.

# %%
from fgdlab.lab.datasets import open_split
from fgdlab.lab.course import write_coco_split

shutil.rmtree(HERE, ignore_errors=True)
coco = Path(HERE, "coco")
scenes = open_split(RunConfig(train_images=24, eval_images=16), "train", progress=False)
write_coco_split(coco, "train2017", scenes, range(16))
file = write_coco_split(coco, "val2017", scenes, range(16, 24))

def fgdlab(*words):
    """Run the command line as a terminal would; print what it says, or the line that it ends with."""
    done = subprocess.run([sys.executable, "-m", "fgdlab", *map(str, words)], capture_output=True, text=True)
    print(done.stdout.rstrip() if done.returncode == 0 else f"exit status {done.returncode}\n{done.stderr.strip().splitlines()[-1]}")

fgdlab("data", "check", coco)

# %% [markdown]
# The command reads the folder as a run would: every entry, every box, every pixel. It offers `train` and `val` as short names, and splits `train`
# once more: `train-fit` and `train-tune` share no image, so hyper-parameters can be chosen (`--set train_split=train-fit --set
# eval_split=train-tune`) without a look at val. The last columns say which share of the cells of a level lies in a box, the last lines how many
# objects have an outline: polygons or run lengths, from which Mask R-CNN learns its masks.
#
# **Predict.** One annotation of 118,287 images has its box outside of its image. When do you hear of it: at step 5,000 as a NaN, never, or before
# the first step?

# %%
broken = json.loads(whole := file.read_text())
broken["annotations"][0]["bbox"][0] = 4000.0
file.write_text(json.dumps(broken))
fgdlab("data", "check", coco)
assert file.write_text(whole)

# %% [markdown]
# Before the first step, in one line: which entry of which file, what it must be, what it is, what to do.
#
# ## 3 · A teacher from a file
# `teacher_checkpoint` names weights of any origin: a `.safetensors` file, as every run leaves one and
# [`save_weights`](../fgdlab/lab/checkpoints/safetensors_io.py) writes it, with facts about them in its header; a `.pth` in torchvision's or MMDetection's names, or the
# https address of one; `torchvision:NAME`. Round trip, with the shipped teacher:

# %%
from fgdlab.lab.course import pretrained_detector
from fgdlab.lab.teachers import get_teacher
from fgdlab.lab.checkpoints import save_weights

path = Path(HERE, "teacher.safetensors")
save_weights(pretrained_detector("teacher"), path, origin="notebook 10", data="digit scenes")
config = RunConfig(method="fgd", train_images=24, eval_images=16, teacher_checkpoint=str(path), device="cpu")
teacher = get_teacher(config, progress=False)
print(f"{teacher.origin}: AP {teacher.AP:.1f} on {config.eval_images} scenes")

# %% [markdown]
# A teacher is measured before anyone learns from it; on 16 scenes the number is rough.
#
# **Predict.** Which of these two mistakes is found before training: a checkpoint of another architecture, or a teacher that detects nothing?

# %%
for mistake in ({"teacher": "compact_s"}, {"teacher_floor": 95.0}):
    try:
        get_teacher(config.but(**mistake), progress=False)
    except UserError as error:
        print(f"{mistake}: {error}")

# %% [markdown]
# Both. `teacher_floor` is the AP below which a teacher is refused.
#
# A `.pth` needs no conversion: the names of its tensors say whose it is, and it is read as numbers alone, so that no code in it is run. What
# torchvision publishes fits by name, since [`build`](../fgdlab/lab/detectors/builder.py) makes that very class. But its classes are COCO's, and its heads
# have 91 outputs for them (the sparse ids), not 81. Your data has two of these classes.
#
# **Predict.** Is such a head refused, used with all its 91 outputs, or narrowed?

# %%
from fgdlab.lab.checkpoints import coco_rows
from fgdlab.lab.checkpoints import teacher_from_checkpoint

with torch.device("meta"):                                 # shapes without memory: nothing to fill, nothing to wait for
    ours = build("retinanet", "resnet50", classes=90).state_dict()
    theirs = retinanet_resnet50_fpn(weights=None, weights_backbone=None, num_classes=91).state_dict()
assert {name: each.shape for name, each in ours.items()} == {name: each.shape for name, each in theirs.items()}
of_coco = build("retinanet", "compact_s", classes=90)      # the same outputs on a smaller body
torch.save(of_coco.state_dict(), checkpoint := Path(HERE, "of_coco.pth"))
narrowed, _ = teacher_from_checkpoint(config.but(teacher="compact_s", teacher_checkpoint=str(checkpoint)), ["dog", "cat"])
before, after = (each.head.classification_head.cls_logits.bias.view(-1, outputs) for each, outputs in ((of_coco, 91), (narrowed, 3)))
assert coco_rows(["dog", "cat"]) == [0, 18, 17] and torch.equal(after, before[:, [0, 18, 17]])
print(f"{before.shape[1]} outputs -> {after.shape[1]}: rows {coco_rows(['dog', 'cat'])} of the teacher's")

# %% [markdown]
# Narrowed, by the names of the classes: what is kept is what it was. Where a class is none of COCO's, `teacher_parts=backbone+neck` takes the
# pyramid alone; that is all FGD imitates, but such a teacher has no AP.
#
# **The look before the first step.** `fgdlab doctor` with the settings of a run says what [`validate_config`](../fgdlab/lab/commands/validate_config.py) finds, after
# some lines about the machine: data, the teacher's AP on a sample, where maps are read, how loud each term is, and that nothing has touched the
# teacher's weights. Every run looks at most of it by itself, refuses what is wrong and prints what is worth a look.

# %%
from fgdlab.lab.commands import validate_config

words = {True: "ok", None: "look", False: "WRONG"}
look = [(words[line.passed], line.name, f"{line.detail}; {line.hint}" if line.hint else line.detail) for line in validate_config(config)]
assert not any(word == "WRONG" for word, *_ in look)
pd.DataFrame(look, columns=["", "what", "found"]).style.hide().set_properties(**{"text-align": "left"})

# %% [markdown]
# The *loss* has layers too: the GcBlocks of equation 13, trained with the student. The authors keep one module a level, with names of their own;
# [`fgd_state_from_authors`](../fgdlab/lab/checkpoints/authors_keys.py) brings one level's state under the names here. A small state in their names, with random
# values:

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
# ## 4 · How large
# A RetinaNet's size can be written down: a convolution of $k \times k$ from $C$ to $C'$ channels has $k^2 C C'$ weights and $C'$ biases.
#
# **Predict.** ResNet-50 RetinaNet with 80 classes: 24, 34, or 60 million parameters? And which is larger, the pyramid or the two heads?

# %%
def conv(k, c_in, c_out):
    return k * k * c_in * c_out + c_out

def bottlenecks(c_in, width, blocks):
    """One stage: 1x1, 3x3, 1x1 convolutions without biases, a batch norm after each, a projection in the first block."""
    later = 4 * width * width + 9 * width * width + 4 * width * width + 2 * 6 * width
    first = later + (c_in - 4 * width) * width + 4 * width * c_in + 2 * 4 * width
    return first + (blocks - 1) * later

anchors, classes = 9, 80
stages = bottlenecks(64, 64, 3) + bottlenecks(256, 128, 4) + bottlenecks(512, 256, 6) + bottlenecks(1024, 512, 3)
body = 7 * 7 * 3 * 64 + 2 * 64 + stages
pyramid = sum(conv(1, c, 256) for c in (512, 1024, 2048)) + 5 * conv(3, 256, 256)    # P3-P5 smoothed, P6 and P7 made
heads = 8 * conv(3, 256, 256) + conv(3, 256, anchors * (classes + 1)) + conv(3, 256, anchors * 4)
with torch.device("meta"):
    detectors = {name: build("retinanet", name, classes) for name in ("resnet18", "resnet50", "resnet101")}
counted = {name: sum(each.numel() for each in detector.parameters()) for name, detector in detectors.items()}
assert counted["resnet50"] == body + pyramid + heads
parts = {"body": body, "pyramid": pyramid, "heads": heads, "predicted": body + pyramid + heads, "built": counted["resnet50"]}
pd.Series(parts).map("{:,}".format).to_frame("parameters")

# %% [markdown]
# 34 million, to the last one, and the heads are larger than the pyramid. The three detectors are on torch's `meta` device, so that 800 x 1344
# pixels cost nothing to try.
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
SIZE, STRIDES = (800, 1344), (8, 16, 32, 64, 128)
with torch.no_grad():
    maps = detectors["resnet50"].eval().backbone(torch.zeros(1, 3, *SIZE, device="meta"))
values = sum(each.numel() for each in maps.values())
assert values == map_values_solution(*SIZE, 256, STRIDES) == 5_734_400
sizes = [(f"{each.shape[2]} x {each.shape[3]}", each.numel() * 4 / 1e6) for each in maps.values()]
pd.DataFrame(sizes, index=["P3", "P4", "P5", "P6", "P7"], columns=["grid", "float32, MB"]).style.format(precision=2)

# %% [markdown]
# On the laptop the teacher's maps are computed once and kept on disk in float16: a distilling step then costs no teacher at all.
#
# **Predict.** COCO's train2017 has 118,287 images. A cache of their maps at 800 x 1344: 1.4 GB, 14 GB, 140 GB, or 1.4 TB?

# %%
from fgdlab.lab.teachers import cache_bytes

assert cache_bytes(scenes, teacher.detector) == len(scenes) * map_values_solution(128, 128, 48, (8, 16, 32)) * 2
full = 118_287 * values * 2
assert 1.3e12 < full < 1.4e12
print(f"{len(scenes)} laptop scenes: {cache_bytes(scenes, teacher.detector) / 1e6:.1f} MB, as predicted.   COCO: {full / 1e12:.2f} TB")

# %% [markdown]
# 1.36 TB, and mirroring the images would double it. So at full scale the teacher runs live.
#
# **Memory of a step.** Backward needs the activations that forward leaves behind. Their bytes can be counted exactly, on `meta`, by
# [`activation_bytes`](../fgdlab/lab/course/scale.py): it looks at what autograd saves.
#
# **Predict.** From 256 x 256 pixels to 512 x 512: twice, three times, or four times the bytes?

# %%
from fgdlab.lab.course import activation_bytes

small, large = (activation_bytes(detectors["resnet18"], side, side) for side in (256, 512))
assert abs(large / small - 4) < 0.02
print(f"{small / 1e6:.0f} MB and {large / 1e6:.0f} MB, {large / small:.2f} times")
sizes = {name: (12 * counted[name], 16 * counted[name], activation_bytes(detector, *SIZE), 4 * values) for name, detector in detectors.items()}
parts = ["weights, gradients, momentum (SGD)", "the same with AdamW", "activations, an image of 800 x 1344", "its teacher maps"]
memory = pd.DataFrame(sizes, index=parts) / 1e9
assert memory["resnet50"][parts[2]] > 5 * memory["resnet50"][parts[0]]
memory.style.format("{:.2f}").set_caption("GB in float32")

# %% [markdown]
# Activations are nearly all of it: memory is a matter of pixels times images, and distilling adds little: the teacher keeps no activations, only
# its maps and its own weights. bfloat16 halves most of the activations. What frameworks take on top (workspaces, fragmentation) is not in this
# table; `peak_memory_gb` of a run measures it.
#
# ## 5 · How long
# Work is counted in floating-point operations, two for a multiply and add, again on `meta`.
#
# **Predict.** In the forward pass of a ResNet-50 RetinaNet, what costs more: 50 layers of backbone with their pyramid, or the heads?

# %%
from torch.utils.flop_counter import FlopCounterMode

from fgdlab.lab.plots import ZERO_COLOUR, NotebookFigure, BACKGROUND_COLOUR


@torch.no_grad()
def forward_gflops(detector, height, width):
    with FlopCounterMode(display=False) as body:
        maps = list(detector.eval().backbone(torch.zeros(1, 3, height, width, device="meta")).values())
    with FlopCounterMode(display=False) as head:
        detector.head(maps)
    return {"body and pyramid": body.get_total_flops() / 1e9, "heads": head.get_total_flops() / 1e9}

work = pd.DataFrame({name: forward_gflops(detector, *SIZE) for name, detector in detectors.items()})
predicted = 2 * (values // 256) * 9 * 256 * (8 * 256 + anchors * (classes + 1) + anchors * 4) / 1e9      # every cell
assert abs(predicted - work["resnet50"]["heads"]) < 1e-6 and work["resnet50"]["heads"] > work["resnet50"]["body and pyramid"]
figure = NotebookFigure(figsize=(8, 1.9), dpi=110, layout="constrained", facecolor="white")
ax = figure.subplots()
for part, left, color in (("body and pyramid", 0, BACKGROUND_COLOUR), ("heads", work.loc["body and pyramid"], ZERO_COLOUR)):
    ax.bar_label(ax.barh(work.columns, work.loc[part], left=left, color=color, label=part), fmt="%.0f", label_type="center")
ax.set(xlabel="GFLOP, forward pass of one image of 800 x 1344 pixels", title="Work of a RetinaNet with 80 classes")
ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
figure

# %% [markdown]
# *Figure 1.* Forward work of three detectors by part. The heads cost more than ResNet-50 with its pyramid, and the same in all three: four
# convolutions each, on every level at full width. To check: their work follows from the number of cells alone, and `predicted` in the cell above
# gives it exactly.
#
# **Exercise 2** (easy, 5 minutes). A step of distillation: the student forward and backward, where backward is twice the forward; the teacher
# forward, unless its maps are cached.

# %%
def step_flops(student, teacher, cached):
    """Work of one forward of each network -> work of a step."""
    raise NotImplementedError

check.step_flops(step_flops)


# %% [markdown]
# Solution (unfold the cell below)

# %% jupyter={"source_hidden": true} tags=["solution"]
def step_flops_solution(student, teacher, cached):
    return 3 * student + (0 if cached else teacher)

assert check.step_flops(step_flops_solution).right
student, live = work["resnet50"].sum(), work["resnet101"]["body and pyramid"]                    # a teacher's heads never run
step = step_flops_solution(student, live, False)
assert 1.2 < step / (3 * student) < 1.3
print(f"ResNet-101 beside ResNet-50: {step:.0f} GFLOP an image, {step / (3 * student):.2f} times a plain step")

# %% [markdown]
# **The loss itself** hardly counts in FLOP; it moves memory. Each operation reads its inputs and writes its result, and a GPU waits for that.
# [`MemoryTraffic`](../fgdlab/lab/course/scale.py) counts the bytes; a *pass* is the bytes of one map:

# %%
from fgdlab import Scene, total
from fgdlab.lab.course import MemoryTraffic

student_map, teacher_map = torch.randn(1, 256, 40, 40, requires_grad=True), torch.randn(1, 256, 40, 40)
scene = Scene(torch.zeros(1, 3, 320, 320), [torch.tensor([[10.0, 10.0, 90.0, 70.0]])], [(320, 320)], {"P3": student_map})
with MemoryTraffic() as forward:
    terms = FGDLoss(("P3",), 256, 256)(scene, {"P3": teacher_map})
with MemoryTraffic() as backward:
    total(terms).backward()
passes = [each.bytes_moved / (4 * student_map.numel()) for each in (forward, backward)]
assert passes[0] >= 2
Markdown(f"Forward {passes[0]:.0f} passes, backward {passes[1]:.0f}; the least possible forward is 2, one read of each map. "
         f"At 800 x 1344 that is {sum(passes) * 4 * values / 1e9:.1f} GB an image: divide by the memory bandwidth of your card, "
         "and set it against the time of a step.")

# %% [markdown]
# **From work to hours** there is no formula, for no device reaches its peak. Measure images a second, then it is division. What the laptop reached
# stands in `results.csv`:

# %%
alone = published[published["sweep"] == "table1_areas_plain"]        # these had the machine to themselves
rate, logged = (alone.groupby("row", sort=False)[column].mean() for column in ("images_per_second", "train_seconds"))
compact = sum(forward_gflops(build("retinanet", "compact_s", 10).to("meta"), 128, 128).values())
assert ((3600 * 2 / rate / logged - 1).abs() < 0.05).all() and rate["split"] > 0.8 * rate["none"] and (rate * 3 * compact).between(15, 30).all()
pd.DataFrame({"images/s": rate, "predicted s a run": 7200 / rate, "logged s": logged, "GFLOP/s": rate * 3 * compact}).style.format("{:.0f}")

# %% [markdown]
# A distilled row trains nearly as fast as a plain one: its teacher is cached. A core sustains some 20 GFLOP/s on these small maps.
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
hours = {f"{tera} TFLOP/s": {what: sweep_hours_solution(*size, 118_287, 24, 1e3 * tera / step) for what, size in sizes.items()}
         for tera in (5, 20, 100)}
pd.DataFrame(hours).style.format("{:.0f}").set_caption("hours on ONE device that sustains so much: assumed, not measured")

# %% [markdown]
# ## 6 · The paper's settings
# One preset a detector, as in the authors' configs, and how they train: SGD with momentum 0.9 and weight decay 1e-4, gradients clipped at norm 35,
# 16 images a step, 24 epochs (2x) with steps after 16 and 22.

# %%
from fgdlab import PRESETS

columns = {"temperature": "T", "alpha": "α", "beta": "β", "gamma": "γ", "lambda_": "λ"}
presets = pd.DataFrame({name: {short: getattr(preset, long) for long, short in columns.items()} for name, preset in PRESETS.items()}).T
two_stage = presets.index.isin(["faster_rcnn", "mask_rcnn"])
presets = presets.assign(lr=0.01, levels="P3-P7")
presets.loc[two_stage, ["lr", "levels"]] = 0.02, "P2-P5"
display(presets.style.format("{:g}", subset=[*columns.values(), "lr"]))
anchor_based, anchor_free, two_stage = (0.5, 1e-3, 5e-4, 1e-3, 5e-6), (0.5, 1.6e-3, 8e-4, 8e-3, 8e-6), (0.5, 5e-5, 2.5e-5, 5e-5, 5e-7)
families = {"retinanet": anchor_based, "fcos": anchor_free, "reppoints": anchor_free, "faster_rcnn": two_stage, "mask_rcnn": two_stage}
differs = (presets[list(columns.values())] / pd.DataFrame(families, index=list(columns.values())).T).stack()
assert set(differs[(differs - 1).abs() > 1e-9].round(6)) == {0.5, 0.1, 1.6}
differs[(differs - 1).abs() > 1e-9].rename("configs / paper's text").to_frame().style.format("{:g}")

# %% [markdown]
# The published text and the published configs disagree: in γ by 2 and by 10, for FCOS in T. The presets follow the configs, which came with the
# published weights. Four of the five detectors are torchvision's classes; [`RepPoints`](../fgdlab/lab/detectors/reppoints.py) is written here, for
# torchvision has none. The pairs of teacher and student that the authors trained:

# %%
from fgdlab.lab.config import PAPER_PRESETS

pairs = {name: (p.detector, p.teacher, p.student, p.inherit, p.parts, *p.mAP, p.table or "config only") for name, p in PAPER_PRESETS.items()}
columns = ["detector", "teacher", "student", "inherits", "of the teacher", "alone", "distilled", "where"]
assert {pair.detector for pair in PAPER_PRESETS.values()} == set(PRESETS)
pd.DataFrame(pairs, index=columns).T.style.format("{:.1f}", subset=["alone", "distilled"], na_rep="")

# %% [markdown]
# The numbers are the authors', on COCO. Each name is a command that says all of it at once, teacher's address included; with `doctor` in place of
# `run` it looks first. **Nobody has run one of them here.** What does it set?

# %%
pair = "retinanet_r101_r50"
settings = RunConfig.of(PAPER_PRESETS[pair].settings() | {"data": "/path/to/coco"})
assert settings.fgd() == PRESETS["retinanet"] and (settings.min_size, settings.max_size) == (800, 1333)
changed = {name: value for name, value in settings.dict().items() if value != getattr(laptop, name) and name not in ("data", "teacher_checkpoint")}
print(f"fgdlab run --preset {pair} --coco /path/to/coco\n\n" + textwrap.fill(", ".join(f"{name} {value}" for name, value in changed.items()), 120))

# %% [markdown]
# COCO's images have at most 640 pixels a side; `min_size` and `max_size` enlarge them to 800 x 1333. `inherit` starts the student's neck and head
# from the teacher's, where shapes agree; a run prints what it copied, and `result.json` keeps it. Several cards need no setting: `torchrun
# --nproc-per-node 8 -m fgdlab run ...` shares every batch between them, and `batch_size` goes on counting all of it.
#
# **A detector or backbone of your own** needs no registration either: [`ablations/own_detector.py`](../ablations/own_detector.py) distils a RetinaNet
# on a hand-written backbone, and a detector written by hand in the manner of YOLO, on any COCO-format folder. Run it, then change it.
#
# ## 7 · Interrupt, go on, know where it came from
# A day of training will be interrupted. Repeat the same command: what is done is not done again, what was killed goes on from its checkpoint. To
# the same weights? Six steps, killed in the fifth:

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
    return train(distiller, scenes, short, folder, progress="off"), distiller.student.state_dict()

# %%
_, straight = train_in(Path(HERE, "straight"))
try:
    train_in(Path(HERE, "killed"), killed_in=5)
except KeyboardInterrupt:
    print("killed in step 5")
timing, resumed = train_in(Path(HERE, "killed"))
assert timing["resumed_at"] == 4 and all(torch.equal(straight[name], resumed[name]) for name in straight)
print(f"went on after step {timing['resumed_at']} of {timing['steps']}; all {len(straight)} tensors are equal, bit by bit")

# %% [markdown]
# Everything random is a function of seed, epoch and image, never of when a run was stopped. And each row of `results.csv` says what made it:

# %%
alone[["row", "seed", "AP", "run_id", "commit", "dirty", "device", "torch", "teacher_weights", "finished"]].head(3).T

# %% [markdown]
# `commit` and `dirty` name the code, `run_id` is a hash of the notebook, all settings and the data, `teacher_weights` one of the teacher's file.
# Two numbers may stand in one table when these say they may.
#
# **Before you start a long run.** `fgdlab data check`; `fgdlab doctor` with the run's settings; `fgdlab sweep NAME --scale smoke`, every code path in
# about a minute; a teacher with `teacher_floor` set; a few hundred steps for images a second and `peak_memory_gb`; hours by exercise 3; weights chosen on a tuning split. Then as
# many seeds as [07](07_read_an_ablation.ipynb) says the difference needs, and if it becomes a table at a scale nobody has run: `fgdlab table NAME
# --publish`.
