"""Digit scenes are deterministic, share nothing between splits, and are annotated where digits were pasted."""
import json
import multiprocessing
import threading
from collections import Counter
from dataclasses import fields, replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from fgdlab.lab.config.run_config import RunConfig
from fgdlab.lab.datasets import digits
from fgdlab.lab.datasets.annotations import read_split
from fgdlab.lab.datasets.dataset import DetectionDataset, data_folder, foreground_fractions, open_split
from fgdlab.lab.datasets.digits import DIGIT_SAMPLES, PHOTO_COLUMNS, DigitScenes, digit_folder, scene_with_ink
from fgdlab.lab.datasets.segmentation import decode_mask
from fgdlab.lab.io import cache_root

SMALL = DigitScenes(size=64, train=6, tune=3, val=4)
SPLITS = ("train", "tune", "val")


def files(folder) -> dict[str, bytes]:
    return {str(each.relative_to(folder)): each.read_bytes() for each in sorted(folder.rglob("*")) if each.is_file()}


def scene_of(recipe, split, image_id) -> tuple:
    """Pixels and objects."""
    return scene_with_ink(recipe, split, image_id)[:2]


def same_scene(a, b) -> bool:
    return np.array_equal(a[0], b[0]) and a[1] == b[1]


def scenes_of(split, recipe=DigitScenes(), count=40):
    return [scene_of(recipe, split, image_id) for image_id in range(1, count + 1)]


@pytest.fixture
def recorded(monkeypatch):
    """recorded(recipe, split, count) -> scenes with pixels, objects, and pastes: (box, mask, is look-alike)."""
    false_glyphs, false_masks, pastes = [], [], []

    def lookalike_glyph(*args, real=digits.lookalike_glyph):
        false_glyphs.append(real(*args))
        return false_glyphs[-1]

    def stretched(rng, glyph, height, real=digits.stretched):
        mask = real(rng, glyph, height)
        if any(glyph is each for each in false_glyphs):
            false_masks.append(mask)
        return mask

    def paste(rng, canvas, mask, box, real=digits.paste):
        pastes.append((box, mask, any(mask is each for each in false_masks)))
        real(rng, canvas, mask, box)

    for each in (lookalike_glyph, stretched, paste):
        monkeypatch.setattr(digits, each.__name__, each)

    def record(recipe=DigitScenes(), split="train", count=40):
        made = []
        for image_id in range(1, count + 1):
            pastes.clear()
            pixels, objects = scene_of(recipe, split, image_id)
            made.append(SimpleNamespace(pixels=pixels, objects=objects, pastes=list(pastes)))
        return made

    return record


# ---- deterministic ---

def test_the_same_recipe_gives_the_same_bytes(tmp_path):
    one, other = (digit_folder(SMALL, tmp_path / name, progress=False) for name in "ab")
    assert files(one) == files(other) and len(files(one)) == 13 + 2


def test_scenes_do_not_depend_on_the_order_they_are_made_in():
    forward = {image_id: scene_of(SMALL, "train", image_id) for image_id in range(1, 9)}
    np.random.seed(1)                                                # nor on anybody's global state
    backward = {image_id: scene_of(SMALL, "train", image_id) for image_id in range(8, 0, -1)}
    assert all(same_scene(forward[image_id], backward[image_id]) for image_id in forward)


@pytest.mark.parametrize("cores", [1, 5, None])
def test_the_number_of_cores_changes_no_byte(tmp_path, monkeypatch, cores):
    here = files(digit_folder(SMALL, tmp_path / "a", progress=False))
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    assert files(digit_folder(SMALL, tmp_path / "b", progress=False)) == here


def test_every_scene_is_another_one():
    assert len({pixels.tobytes() for pixels, _ in scenes_of("train", SMALL, 30)}) == 30


def test_the_key_changes_with_every_setting_and_with_nothing_else():
    others = {
        "size": 96, "train": 7, "tune": 4, "val": 5, "lookalikes": False, "seed": 1, "objects": (1, 2),
        "distractors": (2, 5), "height": (14, 39),
        "masks": True,
    }
    assert others.keys() == {each.name for each in fields(DigitScenes)}
    assert len({SMALL.key(), *(replace(SMALL, **{name: value}).key() for name, value in others.items())}) == 1 + len(
        others
    )
    assert replace(SMALL).key() == SMALL.key()


def test_the_key_changes_with_the_version_of_the_recipe(monkeypatch):
    before = SMALL.key()
    monkeypatch.setattr(digits, "RECIPE_VERSION", digits.RECIPE_VERSION + 1)
    assert SMALL.key() != before


@pytest.mark.parametrize("setting", [{"seed": 1}, {"lookalikes": False}, {"size": 96}, {"height": (20, 40)}])
def test_a_setting_changes_the_scenes(setting):
    assert not same_scene(scene_of(DigitScenes(), "train", 1), scene_of(replace(DigitScenes(), **setting), "train", 1))


def test_masks_of_the_ink_change_no_pixel_no_box_and_no_name_of_scenes_without(tmp_path, recorded):
    plain, masked = (
        digit_folder(each, tmp_path / name, progress=False)
        for each, name in ((SMALL, "a"), (replace(SMALL, masks=True), "b"))
    )
    without, read = (json.loads((folder / "annotations.json").read_text()) for folder in (plain, masked))
    assert "masks" not in without["info"]["recipe"]
    assert not any("segmentation" in each for each in without["annotations"])
    segmentations = [each.pop("segmentation") for each in read["annotations"]]
    assert read["info"]["recipe"].pop("masks") is True and read == without
    assert {**files(plain), "annotations.json": b""} == {**files(masked), "annotations.json": b""}
    pastes = [(box, mask) for made in recorded(SMALL, "train", 6) for box, mask, false in made.pastes if not false]
    for (box, mask), found in zip(pastes, segmentations, strict=False):
        x1, y1, x2, y2 = box
        drawn = decode_mask(found, (64, 64), (64, 64))
        assert np.array_equal(drawn[y1:y2, x1:x2], mask >= 0.5) and drawn.sum() == (mask >= 0.5).sum() > 0
    assert len(pastes) >= 6


def test_mask_rcnn_reads_the_ink_of_digit_scenes(lab_home):
    config = RunConfig(image_size=64, train_images=12, eval_images=8)
    bare, inked = (
        open_split(config.but(detector=name), "train", progress=False) for name in ("faster_rcnn", "mask_rcnn")
    )
    for i in range(len(bare)):
        (pixels, target), (same, with_masks) = bare[i], inked[i]
        assert (pixels == same).all() and (target["boxes"] == with_masks["boxes"]).all() and "masks" not in target
        for (x1, y1, x2, y2), mask in zip(target["boxes"].int().tolist(), with_masks["masks"], strict=True):
            assert mask.shape == (64, 64) and mask[y1:y2, x1:x2].sum() == mask.sum() > 0


# ---- no leakage ---

@pytest.mark.parametrize("ranges, whole", [(DIGIT_SAMPLES, 1797), (PHOTO_COLUMNS, 640)])
def test_ranges_of_the_splits_cover_everything_once(ranges, whole):
    assert tuple(ranges) == SPLITS
    assert Counter(i for first, last in ranges.values() for i in range(first, last)) == Counter(range(whole))


def test_the_sources_have_the_size_that_the_ranges_assume():
    assert len(digits.digit_samples()[0]) == len(digits.digit_samples()[1]) == 1797
    assert {photo.width for photo in digits.photographs()} == {640}


def test_every_split_has_every_digit():
    for first, last in DIGIT_SAMPLES.values():
        assert set(digits.digit_samples()[1][first:last]) == set(range(10))


@pytest.mark.parametrize("split", SPLITS)
def test_a_scene_uses_no_digit_sample_of_another_split(monkeypatch, split):
    before = scenes_of(split)
    images, classes = digits.digit_samples()
    first, last = DIGIT_SAMPLES[split]
    changed, own = images[:, ::-1, ::-1].copy(), np.zeros(len(images), bool)
    own[first:last] = True
    changed[own] = images[own]
    monkeypatch.setattr(digits, "digit_samples", lambda: (changed, np.where(own, classes, (classes + 1) % 10)))
    assert all(map(same_scene, before, scenes_of(split)))
    monkeypatch.setattr(digits, "digit_samples", lambda: (images[:, ::-1, ::-1], classes))
    assert not all(map(same_scene, before, scenes_of(split)))        # so a foreign sample would have shown


@pytest.mark.parametrize("split", SPLITS)
def test_a_scene_uses_no_photo_column_of_another_split(monkeypatch, split):
    """Not even the columns beside its own that a resize with box= reads for its edge."""
    photos = [np.asarray(photo) for photo in digits.photographs()]
    left, right = PHOTO_COLUMNS[split]

    def backgrounds(keep_own):
        changed = [255 - photo for photo in photos]
        for old, new in zip(photos, changed, strict=True):
            new[:, left:right] = old[:, left:right] if keep_own else new[:, left:right]
        monkeypatch.setattr(digits, "photographs", lambda: [Image.fromarray(each) for each in changed])
        return [digits.background(np.random.default_rng(seed), split, 64) for seed in range(400)]

    monkeypatch.setattr(digits, "photographs", lambda: [Image.fromarray(each) for each in photos])
    before = [digits.background(np.random.default_rng(seed), split, 64) for seed in range(400)]
    assert not all(map(np.array_equal, before, backgrounds(keep_own=False)))
    touched = sum(not np.array_equal(a, b) for a, b in zip(before, backgrounds(keep_own=True), strict=True))
    assert touched == 0, f"{touched} of {len(before)} backgrounds of {split} read columns of another split"


def test_splits_of_a_folder_share_no_image(tmp_path):
    splits = json.loads((digit_folder(SMALL, tmp_path / "d", progress=False) / "splits.json").read_text())
    assert {name: len(ids) for name, ids in splits.items()} == {"train": 6, "tune": 3, "val": 4}
    assert {name: ids[0] for name, ids in splits.items()} == digits.FIRST_ID and len({*sum(splits.values(), [])}) == 13


def test_the_ids_of_the_largest_splits_stay_apart():
    starts = [*digits.FIRST_ID.values()]
    assert all(after - before >= digits.MAX_SCENES for before, after in zip(starts, starts[1:], strict=False))


@pytest.mark.parametrize("other", SPLITS)
def test_a_split_is_the_same_however_many_scenes_the_others_have(tmp_path, other):
    few, many = (digit_folder(replace(SMALL, **{other: n}), tmp_path / str(n), progress=False) for n in (2, 9))
    for split in SPLITS:
        one, more = (read_split(folder, split) for folder in (few, many))
        ids = [image["id"] for image in one.images]
        assert [image["id"] for image in more.images][:len(ids)] == ids  # a small split is the start of a large one
        for image_id in ids:
            assert np.array_equal(one.boxes[image_id], more.boxes[image_id])
            assert np.array_equal(one.labels[image_id], more.labels[image_id])
            name = f"images/{image_id:06d}.jpg"
            assert (few / name).read_bytes() == (many / name).read_bytes()


def test_a_run_is_evaluated_on_the_same_scenes_however_many_it_learns_from(lab_home):
    config = RunConfig(image_size=64, train_images=12, eval_images=8)
    for split in ("tune", "val"):
        few, many = (open_split(each, split, progress=False) for each in (config, config.but(train_images=20)))
        assert few.content_hash() == many.content_hash()
        assert all(np.array_equal(few[index][0], many[index][0]) for index in range(8))


# ---- what is annotated ---

@pytest.mark.parametrize("size", [64, 128, 256])
def test_annotations_are_the_pasted_digits_and_never_a_lookalike(recorded, size):
    made = recorded(DigitScenes(size=size), count=20)
    for each in made:
        assert [box for _, box in each.objects] == [box for box, _, false in each.pastes if not false]
    assert sum(false for each in made for _, _, false in each.pastes) > 20
    assert sum(len(each.objects) for each in made) >= 20


def test_without_lookalikes_only_digits_are_pasted(recorded, monkeypatch):
    monkeypatch.setattr(digits, "lookalike_glyph", lambda *args: pytest.fail("a look-alike was drawn"))
    for each in recorded(DigitScenes(lookalikes=False)):
        assert len(each.pastes) == len(each.objects) >= 1


def test_the_class_is_that_of_the_drawn_sample(monkeypatch):
    images, classes = digits.digit_samples()
    monkeypatch.setattr(digits, "digit_samples", lambda: (images, np.full_like(classes, 7)))
    assert {digit for _, objects in scenes_of("val", DigitScenes(lookalikes=False), 5) for digit, _ in objects} == {7}


@pytest.mark.parametrize("size", [64, 128, 256])
def test_boxes_lie_inside_the_scene(size):
    boxes = np.array([box for _, objects in scenes_of("train", DigitScenes(size=size), 20) for _, box in objects])
    assert boxes.min() >= 0 and boxes.max() <= size and (boxes[:, 2:] > boxes[:, :2]).all()


def test_boxes_are_tight_around_ink(recorded):
    """Ink is within an eighth of the box of each side, and covers a third of the box or more on average."""
    shares = []
    for each in recorded(count=60):
        for (x1, y1, x2, y2), mask, false in each.pastes:
            assert mask.shape == (y2 - y1, x2 - x1)
            if not false:
                rows, cols = np.flatnonzero((mask > 0).any(axis=1)), np.flatnonzero((mask > 0).any(axis=0))
                gaps = (
                    rows[0] / len(mask), 1 - (rows[-1] + 1) / len(mask), cols[0] / mask.shape[1],
                    1 - (cols[-1] + 1) / mask.shape[1],
                )
                assert max(gaps) <= 1 / 8
                shares.append((mask > 0.5).mean())
    assert min(shares) > 0.15 and 1 / 3 < np.mean(shares) < 0.9


def test_a_pasted_digit_stands_out_from_what_lies_under_it(monkeypatch):
    contrasts = []

    def paste(rng, canvas, mask, box, real=digits.paste):
        x1, y1, x2, y2 = box
        under = canvas[y1:y2, x1:x2].copy()
        real(rng, canvas, mask, box)
        contrasts.append(abs((canvas[y1:y2, x1:x2] - under)[mask > 0.9].mean()))

    monkeypatch.setattr(digits, "paste", paste)
    scenes_of("train", count=30)
    assert min(contrasts) > 15 and np.mean(contrasts) > 50           # grey levels of 0..255


def test_objects_barely_overlap(recorded):
    for each in recorded(count=30):
        boxes = [box for box, _, _ in each.pastes]
        assert all(digits.overlap(a, b) <= 0.1 for i, a in enumerate(boxes) for b in boxes[:i])


def test_a_tenth_to_a_third_of_the_cells_of_each_level_is_foreground(tmp_path):
    folder = digit_folder(DigitScenes(train=100, tune=0, val=0), tmp_path / "d", progress=False)
    shares = foreground_fractions(DetectionDataset(read_split(folder, "train")), rounding="exact")
    assert list(shares) == ["P3", "P4", "P5"] and all(0.10 <= share <= 0.35 for share in shares.values()), shares


# ---- the folder ---

def test_the_folder_is_coco_that_every_reader_takes(tmp_path):
    folder = digit_folder(SMALL, tmp_path / "d", progress=False)
    assert sorted(each.name for each in folder.iterdir()) == ["annotations.json", "images", "splits.json"]
    coco = COCO(folder / "annotations.json")
    assert len(coco.getImgIds()) == 13
    assert [each["name"] for each in coco.loadCats(coco.getCatIds())] == [str(digit) for digit in range(10)]
    seen = 0
    for split, count in {"train": 6, "tune": 3, "val": 4}.items():
        found = read_split(folder, split)
        assert len(found.images) == count and found.notes == [] and found.classes == [str(digit) for digit in range(10)]
        for entry in found.images:
            with Image.open(folder / "images" / entry["file_name"]) as image:
                assert image.size == (entry["width"], entry["height"]) == (64, 64)
            wanted = [(digit + 1, box) for digit, box in scene_of(SMALL, split, entry["id"])[1]]
            assert [
                (label, tuple(box))
                for label, box in zip(found.labels[entry["id"]], found.boxes[entry["id"]], strict=True)
            ] == wanted
            seen += len(wanted)
    assert seen == len(coco.getAnnIds()) and min(coco.getAnnIds()) == 1


def test_a_run_finds_its_scenes_in_the_cache_and_makes_them_once(lab_home, tiny_config, monkeypatch):
    folder = data_folder(tiny_config(), progress=False)
    assert folder.parent == cache_root() / "data" and folder.name.startswith("digits-")
    monkeypatch.setattr(digits, "make_scenes", lambda *args: pytest.fail("made again"))
    assert data_folder(tiny_config(), progress=False) == folder


def ask(folder, log, start):
    def make_scenes(*args, real=digits.make_scenes):
        with open(log, "a") as file:
            file.write("made\n")
        real(*args)

    digits.make_scenes = make_scenes                                 # in a child process; a thread patches before
    start.wait()
    assert len(files(digit_folder(SMALL, folder, progress=False))) == 15


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork")
def test_two_processes_that_ask_at_once_make_it_once(tmp_path):
    fork = multiprocessing.get_context("fork")
    start = fork.Barrier(2)
    processes = [fork.Process(target=ask, args=(tmp_path / "d", tmp_path / "log", start)) for _ in range(2)]
    for each in processes:
        each.start()
    for each in processes:
        each.join(60)
    assert [each.exitcode for each in processes] == [0, 0] and (tmp_path / "log").read_text() == "made\n"


def test_two_threads_that_ask_at_once_make_it_once(tmp_path, monkeypatch):
    made, folders, start = [], [], threading.Barrier(2)
    real = digits.make_scenes
    monkeypatch.setattr(digits, "make_scenes", lambda *args: (made.append(1), real(*args)))

    def demand():
        start.wait()
        folders.append(files(digit_folder(SMALL, tmp_path / "d", progress=False)))

    threads = [threading.Thread(target=demand) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert made == [1] and len(folders) == 2 and folders[0] == folders[1] and len(folders[0]) == 15


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_a_failure_half_way_leaves_nothing_behind(tmp_path, monkeypatch, failure):
    def fails_at_the_fifth(recipe, split, image_id, real=digits.scene_with_ink):
        if image_id == 5:
            raise failure
        return real(recipe, split, image_id)

    with monkeypatch.context() as patch:
        patch.setattr(digits, "scene_with_ink", fails_at_the_fifth)
        with pytest.raises(failure):
            digit_folder(SMALL, tmp_path / "d", progress=False)
    assert [each.name for each in tmp_path.iterdir() if each.suffix != ".lock"] == []
    assert len(files(digit_folder(SMALL, tmp_path / "d", progress=False))) == 15


@pytest.mark.parametrize("size", [0, 16, 48])
def test_a_size_too_small_for_a_digit_is_refused_in_one_line(lab_home, refusal, size):
    config = RunConfig(image_size=size, train_images=2, eval_images=1)
    assert "image_size" in refusal(data_folder, config, progress=False)
