"""The built-in data: handwritten digits among look-alikes, pasted over photographs, as a COCO folder made in seconds.

The digits and the two photographs come with scikit-learn. Look-alikes (letters, mirrored and rotated digits) are no
objects: without them a student gains nothing from imitating the background.

The splits train, tune and val share no digit sample and no pixel of a photograph. A split depends on no other split's
number of scenes, and a small one is the start of a large one.
"""
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from ..errors import UserError
from ..io import cache_root, create_once, short_hash, write_json
from .segmentation import run_lengths

MAX_SIZE, MAX_SCENES = 2048, 200_000  # pixels, scenes per split
RECIPE_VERSION = 2  # raise it when a change below changes a pixel
DIGIT_SAMPLES = {"train": (0, 1300), "tune": (1300, 1547), "val": (1547, 1797)}  # ranges of scikit-learn's 1,797 digits
FIRST_ID = {split: 1 + number * MAX_SCENES for number, split in enumerate(DIGIT_SAMPLES)}  # a scene depends on its id
PHOTO_COLUMNS = {"train": (0, 400), "tune": (400, 520), "val": (520, 640)}  # pixels of the two 640 x 427 photographs
LETTERS, MIRRORED, TURNED = "ACEFHJKMNPRTUVWXY", (3, 4, 6, 7, 9), (2, 3, 4, 5, 6, 7, 9)  # none looks like a digit


@dataclass(frozen=True)
class DigitScenes:
    """A recipe; equal recipes give equal bytes.

    size: side of the square scenes in pixels. train, tune, val: number of scenes.
    objects, distractors: minimum and maximum per scene at 128 px; both grow with the area.
    height: minimum and maximum of both in pixels at 128 px; the maximum grows with the side.
    masks: write every digit's ink as its segmentation; pixels and boxes stay the same.
    """

    size: int = 128
    train: int = 3600
    tune: int = 400
    val: int = 400
    lookalikes: bool = True
    seed: int = 0
    objects: tuple[int, int] = (1, 3)
    distractors: tuple[int, int] = (2, 6)
    height: tuple[int, int] = (14, 40)
    masks: bool = False

    def __post_init__(self):
        if self.size < 64:
            remedy = "smaller ones have no room for a digit"
            raise UserError(f"image_size must be at least 64 pixels for digit scenes, got {self.size}; {remedy}")
        if self.size > MAX_SIZE:
            remedy = "the photographs behind them have 640 x 427"
            raise UserError(f"image_size must be at most {MAX_SIZE} pixels for digit scenes, got {self.size}; {remedy}")
        counts = {split: getattr(self, split) for split in DIGIT_SAMPLES}
        if not all(0 <= count <= MAX_SCENES for count in counts.values()) or not any(counts.values()):
            got = ", ".join(f"{split} {count}" for split, count in counts.items())
            must = f"digit scenes must number from 0 to {MAX_SCENES} a split, and not 0 in all"
            raise UserError(f"{must}, got {got}; give other numbers")
        if self.seed < 0:
            raise UserError(f"the seed of digit scenes must be at least 0, got {self.seed}; 0 is the usual one")

    def key(self) -> str:
        return short_hash({"version": RECIPE_VERSION, **self.settings()})

    def settings(self) -> dict:
        """What is hashed and written to the folder; ``masks`` only if set, as in older folders."""
        return {name: value for name, value in asdict(self).items() if name != "masks" or value}


def digit_folder(recipe: DigitScenes = DigitScenes(), folder: Path | None = None, progress: bool = True) -> Path:
    """The COCO folder of a recipe, by default in the cache: images/, annotations.json, splits.json. Made once."""
    folder = folder or cache_root() / "data" / f"digits-{recipe.key()}"
    return create_once(folder, lambda unfinished: make_scenes(recipe, unfinished, progress))


def make_scenes(recipe: DigitScenes, folder: Path, progress: bool) -> None:
    """Write the folder. The number of threads changes no byte, because a scene depends on its id alone."""
    (folder / "images").mkdir(parents=True)
    splits = {
        split: [*range(FIRST_ID[split], FIRST_ID[split] + getattr(recipe, split))]
        for split in DIGIT_SAMPLES if getattr(recipe, split)
    }
    todo = [(split, image_id) for split, ids in splits.items() for image_id in ids]
    images, annotations = [], []
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as threads:
        made = threads.map(lambda scene: write_scene(recipe, *scene, folder), todo)
        bar = tqdm(made, desc=f"digit scenes {recipe.size} px", unit="image", total=len(todo), disable=not progress)
        for image, objects in bar:
            images.append(image)
            annotations += ({"id": number, **each} for number, each in enumerate(objects, len(annotations) + 1))
    categories = [{"id": digit + 1, "name": str(digit)} for digit in range(10)]
    description = "handwritten digits over photographs, made by fgdlab"
    document = {
        "info": {"description": description, "recipe": recipe.settings(), "version": RECIPE_VERSION},
        "images": images, "annotations": annotations, "categories": categories,
    }
    write_json(folder / "annotations.json", document)
    write_json(folder / "splits.json", splits)


def write_scene(recipe: DigitScenes, split: str, image_id: int, folder: Path) -> tuple[dict, list[dict]]:
    pixels, objects, inks = scene_with_ink(recipe, split, image_id)
    name = f"{image_id:06d}.jpg"
    Image.fromarray(pixels).save(folder / "images" / name, quality=92)
    annotations = []
    for (digit, (x1, y1, x2, y2)), ink in zip(objects, inks, strict=True):
        box = [x1, y1, x2 - x1, y2 - y1]
        annotations.append({
            "image_id": image_id, "category_id": digit + 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0,
        })
        if recipe.masks:  # the digit's pixels of at least half opacity, also covered ones
            mask = np.zeros((recipe.size, recipe.size), np.uint8)
            mask[y1:y2, x1:x2] = ink >= 0.5
            annotations[-1]["segmentation"] = run_lengths(mask)
    return {"id": image_id, "file_name": name, "width": recipe.size, "height": recipe.size}, annotations


def scene_with_ink(recipe: DigitScenes, split: str, image_id: int) -> tuple[np.ndarray, list, list[np.ndarray]]:
    """One scene: pixels (size, size, 3) uint8, a list of (digit, (x1, y1, x2, y2)) in whole pixels, and for every
    digit the opacity in 0..1 of its box's pixels: (y2 - y1, x2 - x1)."""
    rng = np.random.default_rng([recipe.seed, image_id, recipe.size, recipe.lookalikes])
    growth = recipe.size / 128
    canvas = background(rng, split, recipe.size)
    draw_strokes(rng, canvas, int(rng.integers(0, 5 * growth + 1)))
    wanted = ["digit"] * int(rng.integers(recipe.objects[0], round(recipe.objects[1] * growth**2) + 1))
    if recipe.lookalikes:
        wanted += ["lookalike"] * int(rng.integers(recipe.distractors[0], round(recipe.distractors[1] * growth**2) + 1))
    placed, objects, inks = [], [], []
    for kind in wanted:
        glyph, digit = digit_glyph(rng, split) if kind == "digit" else (lookalike_glyph(rng, split), None)
        height = rng.integers(recipe.height[0], round(recipe.height[1] * growth) + 1)
        mask = stretched(rng, glyph, int(height))
        box = free_place(rng, mask.shape, recipe.size, placed)
        if box is not None:
            paste(rng, canvas, mask, box)
            placed.append(box)
            if digit is not None:
                objects.append((digit, box))
                inks.append(mask)
    noisy = canvas + rng.normal(0, 4, canvas.shape)
    return noisy.clip(0, 255).astype(np.uint8), objects, inks


# --- glyphs: 8 x 8 arrays in 0..1 ---

@cache
def digit_samples() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    data = load_digits()
    return data.images / 16.0, data.target


def digit_glyph(rng, split: str, among: tuple[int, ...] | None = None) -> tuple[np.ndarray, int]:
    images, classes = digit_samples()
    first, last = DIGIT_SAMPLES[split]
    pool = np.arange(first, last)
    if among is not None:
        pool = pool[np.isin(classes[first:last], among)]
    index = rng.choice(pool)
    return images[index], int(classes[index])


def lookalike_glyph(rng, split: str) -> np.ndarray:
    """A letter (1/2), a mirrored digit (1/4) or one turned by 90 degrees (1/4)."""
    kind = rng.choice(["letter", "mirrored", "turned"], p=[0.5, 0.25, 0.25])
    if kind == "letter":
        return letter_glyph(str(rng.choice(list(LETTERS))), int(rng.integers(-12, 13)))
    if kind == "mirrored":
        return digit_glyph(rng, split, MIRRORED)[0][:, ::-1]
    return np.rot90(digit_glyph(rng, split, TURNED)[0], k=int(rng.choice([1, 3])))


@cache
def letter_glyph(letter: str, degrees: int) -> np.ndarray:
    big = Image.new("L", (64, 64))
    ImageDraw.Draw(big).text((32, 32), letter, fill=255, font=ImageFont.load_default(56), anchor="mm", stroke_width=2)
    big = big.rotate(degrees, Image.Resampling.BILINEAR)
    return np.asarray(big.crop(big.getbbox()).resize((8, 8), Image.Resampling.BOX), dtype=float) / 255


# --- from glyph to scene ---

def stretched(rng, glyph: np.ndarray, height: int) -> np.ndarray:
    """The inked part of a glyph as an opacity mask of this height in pixels; the width varies by up to 15 %."""
    inked = glyph > 0.15
    rows, cols = np.flatnonzero(inked.any(axis=1)), np.flatnonzero(inked.any(axis=0))
    glyph = glyph[rows[0]:rows[-1] + 1, cols[0]:cols[-1] + 1]
    width = max(round(height * glyph.shape[1] / glyph.shape[0] * rng.uniform(0.85, 1.15)), 4)
    big = Image.fromarray((glyph * 255).astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    return np.clip((np.asarray(big, dtype=float) / 255 - 0.2) / 0.5, 0, 1)  # sharpens the edge


def free_place(rng, shape: tuple[int, int], size: int, placed: list) -> tuple[int, int, int, int] | None:
    """A random box x1, y1, x2, y2 that overlaps no placed one by more than a tenth of the smaller; None after 20 tries.
    """
    height, width = shape
    if height >= size or width >= size:
        return None
    for _ in range(20):
        x1, y1 = int(rng.integers(0, size - width)), int(rng.integers(0, size - height))
        box = (x1, y1, x1 + width, y1 + height)
        if all(overlap(box, other) <= 0.1 for other in placed):
            return box
    return None


def overlap(a, b) -> float:
    shared = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    return shared / min((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))


def paste(rng, canvas: np.ndarray, mask: np.ndarray, box: tuple[int, int, int, int]) -> None:
    """Blend one colour into the canvas through the mask, at least 60 grey levels away from what lies under it."""
    x1, y1, x2, y2 = box
    under = canvas[y1:y2, x1:x2]
    grey = under.mean()
    for _ in range(20):
        colour = rng.uniform(0, 255, 3)
        if abs(colour.mean() - grey) >= 60:
            break
    else:
        colour = np.full(3, 235.0 if grey < 128 else 20.0)
    opacity = (mask * rng.uniform(0.65, 1.0))[..., None]
    canvas[y1:y2, x1:x2] = under * (1 - opacity) + colour * opacity


@cache
def photographs() -> list[Image.Image]:
    from sklearn.datasets import load_sample_images

    return [Image.fromarray(each) for each in load_sample_images().images]


def background(rng, split: str, size: int) -> np.ndarray:
    """A random square of the split's photograph columns, (size, size, 3) floats in 0..255."""
    photo = photographs()[rng.integers(2)]
    left, right = PHOTO_COLUMNS[split]
    side = int(rng.integers(72, right - left + 1)) if right - left <= 120 else int(rng.integers(72, 201))
    x, y = int(rng.integers(left, right - side + 1)), int(rng.integers(0, photo.height - side + 1))
    square = photo.crop((x, y, x + side, y + side))  # resize(box=) would also read the columns beside it
    crop = square.resize((size, size), Image.Resampling.BILINEAR)
    pixels = np.asarray(crop, dtype=float)
    if rng.random() < 0.5:
        pixels = pixels[:, ::-1]
    return pixels[..., rng.permutation(3)] * rng.uniform(0.6, 1.15)


def draw_strokes(rng, canvas: np.ndarray, count: int) -> None:
    picture = Image.fromarray(canvas.clip(0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    for _ in range(count):
        ends = [int(v) for v in rng.integers(0, len(canvas), 4)]
        pen.line(ends, fill=tuple(int(v) for v in rng.integers(0, 256, 3)), width=int(rng.integers(1, 4)))
    canvas[:] = np.asarray(picture, dtype=float)
