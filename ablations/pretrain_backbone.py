"""Train a compact backbone to classify glyphs, as the paper's backbones classified ImageNet before they detect.

    python ablations/pretrain_backbone.py compact_s FOLDER      about three minutes on one core, compact_t seven

    glyph of one of 46 classes --drawn as in the digit scenes--> patch of 56 px --random crop of 48 px--> trunk
    --maximum of each stage's map--> linear head per stride --cross-entropy--> FOLDER/glyphs-compact_s-HASH.safetensors

The classes are the digits, letters, mirrored digits and digits turned either way. All digit samples and photograph
columns are those of the split "train", so no split that evaluates detectors is seen. The package's weights were made by
this file; their names stand in fgdlab/lab/detectors/compact.py.
"""
import argparse
import hashlib
import json
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn
from tqdm import tqdm

from fgdlab.lab.datasets import digits
from fgdlab.lab.detectors.compact import COMPACT, CompactPyramid

PATCHES, HELD_OUT, SIDE, CROP = 24_000, 1_200, 56, 48  # patches, patches never trained on, pixels, pixels
EPOCHS, BATCH, LEARNING_RATE = 20, 64, 8e-3
SPLIT, SCENE, SEED = "train", 128, 77  # digit samples and photographs; pixels of a scene
CLASSES = [
    *(("digit", digit) for digit in range(10)),
    *(("letter", letter) for letter in digits.LETTERS),
    *(("mirrored", digit) for digit in digits.MIRRORED),
    *(("turned", (digit, quarters)) for digit in digits.TURNED for quarters in (1, 3)),
]
MEAN, STD = torch.tensor([0.485, 0.456, 0.406])[:, None, None], torch.tensor([0.229, 0.224, 0.225])[:, None, None]


def glyph(rng) -> tuple[np.ndarray, int]:
    """(8 x 8 glyph in 0..1, class). Four in ten are digits, the others of any class."""
    label = int(rng.integers(10)) if rng.random() < 0.4 else int(rng.integers(len(CLASSES)))
    kind, which = CLASSES[label]
    if kind == "letter":
        return digits.letter_glyph(which, int(rng.integers(-12, 13))), label
    sample = digits.digit_glyph(rng, SPLIT, (which[0] if kind == "turned" else which,))[0]
    if kind == "mirrored":
        sample = sample[:, ::-1]
    elif kind == "turned":
        sample = np.rot90(sample, k=which[1])
    return sample, label


def patch(index: int) -> tuple[np.ndarray, int]:
    """(pixels (3, SIDE, SIDE) uint8, class): one glyph on a piece of a scene's background."""
    rng = np.random.default_rng([SEED, index])
    scene = digits.background(rng, SPLIT, SCENE)
    y, x = rng.integers(0, SCENE - SIDE, 2)
    canvas = scene[y:y + SIDE, x:x + SIDE].copy()
    digits.draw_strokes(rng, canvas, int(rng.integers(0, 3)))
    sample, label = glyph(rng)
    mask = digits.stretched(rng, sample, int(rng.integers(14, 41)))[:, :SIDE - 1]
    digits.paste(rng, canvas, mask, digits.free_place(rng, mask.shape, SIDE, []))
    noisy = canvas + rng.normal(0, 4, canvas.shape)
    return noisy.clip(0, 255).astype(np.uint8).transpose(2, 0, 1), label


class Classifier(nn.Module):
    """A compact detector's backbone with one linear head per stride; the feature pyramid is not used."""

    def __init__(self, backbone: str):
        super().__init__()
        self.pyramid = CompactPyramid(COMPACT[backbone])
        self.heads = nn.ModuleList(nn.Linear(width, len(CLASSES)) for width in COMPACT[backbone].widths[2:])

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """pixels (N, 3, SIDE, SIDE) in 0..255 -> logits (N, classes) per stride. Training crops at random."""
        slack = SIDE - CROP
        y, x = torch.randint(0, slack + 1, (2,)).tolist() if self.training else (slack // 2, slack // 2)
        pixels = (pixels[..., y:y + CROP, x:x + CROP].float() / 255 - MEAN) / STD
        maps = self.pyramid.stage_maps(pixels).values()
        return [head(each.float().amax((2, 3))) for head, each in zip(self.heads, maps, strict=True)]


def pretrain(backbone: str) -> tuple[Classifier, list[float]]:
    """(trained classifier, share of the held-out patches that each stride's head classifies correctly)."""
    made = [patch(index) for index in tqdm(range(PATCHES), desc="patches", unit="patch")]
    pixels, labels = torch.from_numpy(np.stack([each for each, _ in made])), torch.tensor([label for _, label in made])
    torch.manual_seed(0)
    model = Classifier(backbone).to(memory_format=torch.channels_last)
    parameters = [each for name, each in model.named_parameters() if not name.startswith("pyramid.fpn.")]
    steps = (PATCHES - HELD_OUT) // BATCH
    optimizer = torch.optim.AdamW(parameters, LEARNING_RATE, weight_decay=1e-2, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, steps * EPOCHS, pct_start=0.1, div_factor=25, final_div_factor=1e4,
    )
    for epoch in tqdm(range(EPOCHS), desc=f"{backbone} classifies glyphs", unit="epoch"):
        model.train()
        order = torch.randperm(PATCHES - HELD_OUT, generator=torch.Generator().manual_seed(epoch)) + HELD_OUT
        for batch in order.split(BATCH)[:steps]:
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(pixels[batch])
            loss = sum(nn.functional.cross_entropy(each, labels[batch]) for each in logits)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    model.eval()
    with torch.no_grad():
        logits = model(pixels[:HELD_OUT])
    return model, [round((each.argmax(1) == labels[:HELD_OUT]).float().mean().item(), 3) for each in logits]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backbone", choices=[*COMPACT])
    parser.add_argument("folder", type=Path, help="where to write the weights")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    started = time.perf_counter()
    model, right = pretrain(arguments.backbone)
    facts = {
        "command": f"python ablations/pretrain_backbone.py {arguments.backbone}", "patches": PATCHES,
        "classes": len(CLASSES), "epochs": EPOCHS, "recipe_version": digits.RECIPE_VERSION,
        "correct_at_strides_8_16_32": right, "seconds": round(time.perf_counter() - started),
        "torch": torch.__version__,
    }
    weights = {name: tensor.contiguous() for name, tensor in model.pyramid.trunk().items()}
    content = save(weights, {"fgdlab": json.dumps(facts)})
    path = arguments.folder / f"glyphs-{arguments.backbone}-{hashlib.sha256(content).hexdigest()[:8]}.safetensors"
    path.write_bytes(content)
    print(f"{path}\nheld-out patches classified correctly at strides 8, 16, 32: {right}")


if __name__ == "__main__":
    main()
