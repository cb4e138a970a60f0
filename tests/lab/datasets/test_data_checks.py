"""The catalogue of checks over data: each finds its fault in a small folder, and a good folder gives nothing."""
import json
import shlex
import shutil
import struct
import sys
import unicodedata
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from fgdlab.lab.config.run_config import RunConfig
from fgdlab.lab.datasets.annotations import read_split, splits_of
from fgdlab.lab.datasets.data_checks import CHECKS, LEVELS, examine, refuse_data
from fgdlab.lab.datasets.dataset import DetectionDataset
from fgdlab.lab.datasets.images import read_image
from fgdlab.lab.detectors.builder import DETECTORS, build
from fgdlab.lab.errors import UserError
from fgdlab.lab.run import inputs
from fgdlab.lab.training.evaluate import coco_scores

WIDTH, HEIGHT = 96, 80
CLASSES = ["square", "disc"]


def boxes_of(n: int) -> list[list[int]]:
    rng = np.random.default_rng(n)
    return [[int(rng.integers(0, 70)), int(rng.integers(0, 54)), int(rng.integers(18, 26)), int(rng.integers(18, 26))]
            for _ in range(2)]


def document(numbers, names=CLASSES, first_id: int = 1) -> dict:
    """Images with two boxes each, one of every class."""
    images = [{"id": n, "file_name": f"{n}.png", "width": WIDTH, "height": HEIGHT} for n in numbers]
    annotations = [
        {"id": 2 * n + k + 1, "image_id": n, "category_id": first_id + k, "bbox": box, "iscrowd": 0}
        for n in numbers for k, box in enumerate(boxes_of(n))
    ]
    categories = [{"id": first_id + k, "name": name} for k, name in enumerate(names)]
    return {"images": images, "annotations": annotations, "categories": categories}


def draw(folder, numbers, **options) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for n in numbers:
        pixels = np.random.default_rng(n).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{n}.png", **options)


def folder(path, change=lambda data: None):
    """A folder of 16 images, 12 to train and 4 to evaluate; ``change`` edits its annotations."""
    data = document(range(16))
    change(data)
    draw(path / "images", range(16))
    (path / "annotations.json").write_text(json.dumps(data))
    (path / "splits.json").write_text(json.dumps({"train": [*range(12)], "val": [*range(12, 16)]}))
    return path


def coco_folder(path, val: dict, where: str = "{}", names: str = "instances_{}", parts=("train", "val")):
    (path / "annotations").mkdir(parents=True)
    for part, data in zip(parts, (document(range(12)), val), strict=True):
        draw(path / where.format(part), [image["id"] for image in data["images"]])
        (path / f"annotations/{names.format(part)}.json").write_text(json.dumps(data))
    return path


def found_in(path, long_side: int = 0, exif_turned: bool = False, splits=("train", "val"), **options) -> dict:
    """{name of the check: finding}."""
    parts = {split: DetectionDataset(read_split(path, split, exif_turned=exif_turned), long_side) for split in splits}
    return {finding.name: finding for finding in examine(parts, **options)}


def each_box(change):
    def of_document(data):
        for each in data["annotations"]:
            each["bbox"] = change(*each["bbox"])
    return of_document


def with_key(**values):
    return lambda data: [each.update(values) for each in data["annotations"]]


def test_a_good_folder_gives_nothing(tmp_path):
    assert not [name for name, each in found_in(folder(tmp_path)).items() if each.level != "note"]


@pytest.mark.parametrize("names", [["Disc", "disc"], ["disc ", "disc"]])
def test_classes_of_nearly_one_name_are_found(tmp_path, names):
    def renamed(data):
        data["categories"] = [{"id": k, "name": name} for k, name in enumerate(names, start=1)]

    finding = found_in(folder(tmp_path, renamed))["classes of nearly one name"]
    assert finding.level == "warn" and finding.sentence == f"in train, val, {names[0]!r}, {names[1]!r}"


def test_every_check_has_a_level_a_threshold_and_a_remedy():
    assert all(level in LEVELS and name and remedy and threshold >= 0 for level, name, threshold, remedy, _ in CHECKS)


FAULTS = {
    "all crowd": ("objects to learn", "refuse", with_key(iscrowd=1)),
    "no boxes": ("objects to learn", "refuse", lambda data: data["annotations"].clear()),
    "crowds in val": ("objects to evaluate", "warn", lambda data: [
        each.update(iscrowd=1) for each in data["annotations"] if each["image_id"] >= 12]),
    "val normalised": ("boxes look normalised", "refuse", lambda data: [
        each.update(bbox=[side / 100 for side in each["bbox"]]) for each in data["annotations"]
        if each["image_id"] >= 12]),
    "normalised": ("boxes look normalised", "refuse", each_box(lambda x, y, w, h: [x / 96, y / 80, w / 96, h / 80])),
    "normalised by a thousand": (
        "boxes look normalised", "refuse", each_box(lambda x, y, w, h: [x / 999, y / 999, w / 999, h / 999])),
    "corners": ("boxes look like corners", "warn", each_box(lambda x, y, w, h: [x, y, x + w, y + h])),
    "centres": ("boxes look like centres", "warn", each_box(lambda x, y, w, h: [x + w / 2, y + h / 2, w, h])),
    "halved images": ("boxes in one corner", "warn", each_box(lambda x, y, w, h: [x / 2, y / 2, w / 2, h / 2])),
    "a quarter": ("boxes in one corner", "warn", each_box(lambda x, y, w, h: [x / 4, y / 4, w / 4, h / 4])),
    "rotated": ("how it was read", "note", with_key(attributes={"rotation": 45.0})),
    "rotated, another key": ("how it was read", "note", with_key(rotation=0.3)),
    "twice": ("boxes stated twice", "warn", lambda data: data["annotations"].extend(
        [{**each, "id": each["id"] + 100} for each in data["annotations"]])),
    "unlabelled": ("images without objects", "warn", lambda data: data.update(
        annotations=[each for each in data["annotations"] if each["image_id"] % 4 == 0])),
    "a class only in val": ("classes that are not learned", "warn", lambda data: [
        each.update(category_id=1) for each in data["annotations"] if each["image_id"] < 12]),
    "crowded": ("more objects than are kept", "warn", lambda data: data["annotations"].extend(
        {"id": 100 + k, "image_id": 3, "category_id": 1, "bbox": [k / 20, k / 30, 9, 9]} for k in range(900))),
    "few": ("classes with few objects", "note", lambda data: data.update(
        annotations=[each for each in data["annotations"] if each["category_id"] == 1 or each["image_id"] < 3])),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_by_its_check(tmp_path, fault):
    name, level, change = FAULTS[fault]
    finding = found_in(folder(tmp_path, change))[name]
    assert finding.level == level and finding.remedy in str(finding)


def grid(counts: dict[int, tuple[int, int]]):
    """Objects that do not overlap: {image: (squares, discs)}."""
    def of_document(data):
        objects = [(n, 1 + (k >= squares), k) for n, (squares, discs) in counts.items() for k in range(squares + discs)]
        data["annotations"] = [
            {"id": i, "image_id": n, "category_id": kind, "bbox": [k % 24 * 4, k // 24 * 4, 3, 3], "area": 9,
             "iscrowd": 0}
            for i, (n, kind, k) in enumerate(objects, start=1)]
    return of_document


@pytest.mark.parametrize("counts, kept, expected", [
    ((400, 0), 300, 25.7),  # AP counts 100 of a class: 26 of the 101 recalls
    ((60, 60), 100, 83.5),  # 120 objects, of no class more than 100
    ((100, 20), 50, 65.3),  # the rare class first: 20 of 20 and 30 of 100
    ((90, 90), 300, None),
])
def test_ap_reaches_but_does_not_exceed_the_bound_that_kept_detections_set(tmp_path, counts, kept, expected):
    path = folder(tmp_path, grid({n: counts for n in range(16)}))
    finding = found_in(path, kept=kept).get("more objects than are kept")
    assert (expected is None) == (finding is None)
    if finding is None:
        return
    assert f"the detector keeps {kept} in all, so AP cannot exceed {expected}" in finding.sentence
    truth, found = read_split(path, "val").coco(), []
    for image in range(12, 16):
        objects = [each for each in truth["annotations"] if each["image_id"] == image]
        rare_first = sorted(objects, key=lambda each: -each["category_id"])
        found += [{**each, "score": 0.9} for each in rare_first[:kept]]
    assert expected - 1 < coco_scores(truth, found)["AP"] < expected + 0.05


@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_keeps_as_many_detections_as_the_check_is_told(tmp_path, monkeypatch, name):
    config, told = RunConfig.of({"data": "DIR", "detector": name, "student": "small_s"}), []
    monkeypatch.setattr(inputs, "examine", lambda *args: told.append(args[3]) or [])
    inputs.findings(config, (None, None))
    all_of_them = {"score_thresh": 0.0, "nms_thresh": 1.0}
    if "rcnn" in name:
        all_of_them = {f"box_{key}": value for key, value in all_of_them.items()}
    detector = build(name, "small_s", 9, **all_of_them).eval()
    with torch.no_grad():
        output, = detector([torch.rand(3, 128, 128)])
    assert told == [len(output["scores"])]


@pytest.mark.parametrize(("settings", "name"), [
    ({"train_split": "val"}, "one split"), ({"train_split": "val", "data": "DIR"}, "one split"),
    ({"flip": 0.5}, "mirrored digits"), ({"flip": 0.5, "data": "DIR"}, None), ({}, None),
])
def test_training_on_what_is_evaluated_and_mirrored_digits_are_worth_a_look(monkeypatch, settings, name):
    monkeypatch.setattr(inputs, "examine", lambda *args: [])
    found = inputs.findings(RunConfig.of(settings), (None, None))
    assert [(each.level, each.name) for each in found] == ([("warn", name)] if name else [])


def test_what_is_said_of_several_splits_is_said_once(tmp_path):
    finding = found_in(folder(tmp_path, FAULTS["corners"][2]))["boxes look like corners"]
    assert finding.sentence == "in train, every width and height is above x and y"
    (tmp_path / "splits.json").unlink()
    text = str(found_in(tmp_path, splits=("train", "tune", "val"))["how it was read"])
    assert text.count("drawn 70/15/15") == 1 and ": in train, tune, val, annotations.json came without" in text


def test_a_refusal_is_an_error_and_a_warning_a_line(tmp_path):
    said = []
    refuse_data(list(found_in(folder(tmp_path / "a", FAULTS["corners"][2])).values()), said.append)
    assert len(said) == 1 and said[0].startswith("worth a look: boxes look like corners")
    with pytest.raises(UserError, match="'objects to learn', got: in train, none but 24 crowd regions"):
        refuse_data(list(found_in(folder(tmp_path / "b", with_key(iscrowd=1))).values()), said.append)


def test_objects_that_are_small_once_shrunk_name_a_size_that_avoids_it(tmp_path):
    path = folder(tmp_path)
    finding = found_in(path, long_side=16)["small objects"]
    size = int(finding.sentence.rpartition("--image-size ")[2].split()[0])
    assert "small objects" not in found_in(path, long_side=size) and 16 < size <= 96


def test_boxes_are_measured_as_the_detector_resizes_them(tmp_path):
    assert "small objects" in found_in(folder(tmp_path), resized=(8, 16))


def test_boxes_that_meet_no_anchor_are_counted_in_the_training_split(tmp_path):
    assert "50% of the boxes" in str(found_in(folder(tmp_path), met=lambda sizes: 0.5)["boxes without anchor"])
    assert "boxes without anchor" not in found_in(tmp_path, met=lambda sizes: 0.8)


# --- files ---

@pytest.mark.parametrize("layout", ["plain", "coco"])
def test_images_in_two_splits_are_found_by_bytes_in_every_layout(tmp_path, layout):
    if layout == "plain":
        path = folder(tmp_path)
        shutil.copy(path / "images/0.png", path / "images/12.png")
        expected = "1 of 4 that train has too"
    else:
        path, expected = coco_folder(tmp_path, document(range(12))), "12 of 12 that train has too"
    assert expected in str(found_in(path)["images in two splits"])


def saved_again(path, suffix=".png", **options):
    """The same folder with its images in another kind of file."""
    for file in list((path / "images").iterdir()):
        image = Image.open(file).convert("RGB")
        file.unlink()
        image.save(file.with_suffix(suffix), **options)
    file = path / "annotations.json"
    file.write_text(file.read_text().replace(".png", suffix))
    return path


@pytest.mark.parametrize("suffix, orientation, found", [
    (".jpg", 3, True), (".webp", 3, True), (".png", 3, True), (".png", 1, False),
    (".jpg", 0, False), (".jpg", 9, False),  # some cameras write 0
])
def test_turns_of_exif_are_found_in_every_kind_of_file(tmp_path, suffix, orientation, found):
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert ("exif turns" in found_in(saved_again(folder(tmp_path), suffix, exif=exif))) == found


def test_a_file_that_is_no_image_is_one_line_before_its_pixels_are_read(tmp_path):
    path = folder(tmp_path)
    (path / "images/3.png").write_text("no image")
    with pytest.raises(UserError, match="3.png must be an image that can be decoded, got: cannot identify"):
        found_in(path)
    with pytest.raises(UserError, match="3.png must be an image that can be decoded, got: cannot identify"):
        read_split(path, "train", exif_turned=True)


def test_half_turns_of_exif_are_a_note_and_a_switch(tmp_path):
    path = folder(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 3
    data = json.loads((path / "annotations.json").read_text())
    for image in data["images"]:
        file = path / "images" / image["file_name"]
        image["file_name"] = f"{image['id']}.jpg"
        Image.open(file).convert("RGB").transpose(Image.Transpose.ROTATE_180).save(
            file.with_suffix(".jpg"), exif=exif, quality=95)
    (path / "annotations.json").write_text(json.dumps(data))
    assert "12 of 12 images" in str(found_in(path)["exif turns"])
    assert "exif turns" not in found_in(path, exif_turned=True)
    turned = read_split(path, "train", exif_turned=True)
    pixels = read_image(turned.image_folder, turned.images[0])
    stored = read_image(turned.image_folder, {**turned.images[0], "upright": False})
    np.testing.assert_array_equal(pixels, np.rot90(stored, 2))


@pytest.mark.parametrize("bits, found", [(10, True), (12, True), (16, False)])
def test_grey_of_fewer_bits_than_its_file_is_found(tmp_path, bits, found):
    path = folder(tmp_path)
    for file in (path / "images").iterdir():
        grey = np.random.default_rng(0).integers(0, 2**bits, (HEIGHT, WIDTH)).astype(np.uint16)
        Image.fromarray(grey).save(file)
    assert ("dark images" in found_in(path)) == found


def png_of_16_bit_colours(pixels: np.ndarray) -> bytes:
    """(H, W, 3) uint16 as PNG, which Pillow reads and does not write."""
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width, _ = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    lines = b"".join(b"\0" + line.tobytes() for line in pixels.astype(">u2"))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("bits, found", [(12, True), (16, False)])
def test_colours_of_fewer_bits_than_their_file_are_found(tmp_path, bits, found):
    path = folder(tmp_path)
    for file in (path / "images").iterdir():
        file.write_bytes(png_of_16_bit_colours(np.random.default_rng(0).integers(0, 2**bits, (HEIGHT, WIDTH, 3))))
    assert ("dark images" in found_in(path)) == found


def test_black_images_are_found(tmp_path):
    path = folder(tmp_path)
    for file in (path / "images").iterdir():
        Image.new("RGB", (WIDTH, HEIGHT)).save(file)
    assert "reach level 0 of 255" in str(found_in(path)["dark images"])


# --- classes by name ---

def test_classes_are_matched_by_name_across_files(tmp_path):
    swapped = document(range(100, 104), names=CLASSES[::-1])
    swapped["annotations"] = [{**each, "category_id": 3 - each["category_id"]} for each in swapped["annotations"]]
    path = coco_folder(tmp_path / "swapped", swapped)
    train, val = (read_split(path, split) for split in ("train", "val"))
    assert val.classes == train.classes == CLASSES and val.category_ids == [2, 1]
    assert [val.labels[100].tolist(), val.coco()["categories"][0]] == [[1, 2], {"id": 2, "name": "square"}]
    assert any("matched by name" in note for note in val.notes) and not train.notes
    other = coco_folder(tmp_path / "renumbered", document(range(100, 104), first_id=7))
    assert read_split(other, "val").category_ids == [7, 8] and read_split(other, "val").labels[100].tolist() == [1, 2]


def test_a_split_may_have_fewer_classes_and_no_others(tmp_path):
    fewer = document(range(100, 104), names=CLASSES[1:])
    fewer["annotations"] = [{**each, "category_id": 1} for each in fewer["annotations"]]
    val = read_split(coco_folder(tmp_path / "fewer", fewer), "val")
    assert val.classes == CLASSES and val.labels[100].tolist() == [2, 2] and val.category_ids == [2, 1]
    others = document(range(100, 104), names=["square", "dics"])
    with pytest.raises(UserError, match="unknown class 'dics'; did you mean 'disc'"):
        read_split(coco_folder(tmp_path / "others", others), "val")
    with pytest.raises(UserError, match="names of their own, got 'disc' twice"):
        read_split(coco_folder(tmp_path / "twice", document([100], names=["disc", "disc"])), "val")


# --- layouts ---

@pytest.mark.parametrize("where, names, parts", [
    ("images/{}", "instances_{}", ("train", "val")), ("images/{}", "instances_{}", ("train2017", "val2017")),
    ("{}", "{}", ("train", "val")), ("images", "instances_{}", ("train", "val")), ("data/{}", "{}", ("train", "val")),
    ("images/{}", "instances_{}", ("Train", "Validation")),  # CVAT's subsets
])
def test_exports_with_a_file_per_split_are_read(tmp_path, where, names, parts):
    path = coco_folder(tmp_path, document(range(100, 104)), where, names, parts)
    assert {"train", "val", "train-fit"} <= {*splits_of(path)}
    assert (len(read_split(path, "train").images), len(read_split(path, "val").images)) == (12, 4)


@pytest.mark.parametrize("where", ["{}", "images/{}", "images"])
def test_a_file_per_split_may_lie_beside_the_folders_of_images(tmp_path, where):
    path = coco_folder(tmp_path, document(range(100, 104)), where, "{}")
    for file in (path / "annotations").iterdir():
        file.rename(path / file.name)
    assert [len(read_split(path, split).images) for split in ("train", "val")] == [12, 4]


def test_folders_of_splits_may_begin_with_capitals(tmp_path):
    for name, numbers in (("Train", range(12)), ("Valid", range(100, 104))):
        draw(tmp_path / name, numbers)
        (tmp_path / name / "_annotations.coco.json").write_text(json.dumps(document(numbers)))
    assert [len(read_split(tmp_path, split).images) for split in ("train", "val")] == [12, 4]


@pytest.mark.parametrize("file, images", [
    ("annotations/instances_default.json", "images"), ("annotations/instances_default.json", "images/default"),
    ("result.json", "images"), ("labels.json", "data"), ("_annotations.coco.json", "."),
])
def test_a_lone_file_is_drawn(tmp_path, file, images):
    draw(tmp_path / images, range(16))
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(json.dumps(document(range(16))))
    assert [len(read_split(tmp_path, split).images) for split in ("train", "tune", "val", "all")] == [11, 3, 2, 16]
    assert "came without splits.json" in read_split(tmp_path, "val").notes[0]


class Converted:
    """A stand-in for supervision's DetectionDataset; what it converts must be there."""

    @classmethod
    def from_yolo(cls, images, labels, yaml):
        assert Path(images).is_dir() and Path(labels).is_dir() and Path(yaml).is_file()
        return cls()

    @classmethod
    def from_pascal_voc(cls, images, annotations):
        assert Path(images).is_dir() and Path(annotations).is_dir()
        return cls()

    def as_coco(self, images, annotations):
        draw(Path(images), range(4))
        Path(annotations).parent.mkdir(parents=True, exist_ok=True)
        Path(annotations).write_text(json.dumps(document(range(4))))


@pytest.mark.parametrize("present, call", [
    (("images/train", "images/val", "labels/train", "labels/val", "data.yaml"), "from_yolo"),
    (("train/images", "valid/images", "train/labels", "valid/labels", "data.yaml"), "from_yolo"),
    (("images", "labels", "dataset.yaml"), "from_yolo"), (("JPEGImages", "Annotations"), "from_pascal_voc"),
])
def test_other_formats_are_answered_with_the_lines_that_convert_them(tmp_path, monkeypatch, present, call):
    """supervision 0.31 itself was tried on such folders; its boxes are those of the files."""
    theirs = tmp_path / "my data"
    for name in present:
        (theirs / name).mkdir(parents=True) if "." not in name else (theirs / name).write_text("names: [square, disc]")
    with pytest.raises(UserError, match=rf"`pip install supervision` and `python -c .*{call}") as caught:
        splits_of(theirs)
    *_, code = shlex.split(str(caught.value).split("and `")[1].split("`,")[0])
    monkeypatch.setitem(sys.modules, "supervision", SimpleNamespace(DetectionDataset=Converted))
    monkeypatch.chdir(theirs)
    exec(code, {})
    out = theirs / str(caught.value).rpartition(" and give ")[2]
    assert [len(read_split(out, split).images) for split in ("train", "val")] in ([4, 4], [2, 1])


# --- names of files ---

SPELLINGS = {
    "backslashes": lambda n: f"images\\{n}.png", "a folder too many": lambda n: f"images/{n}.png",
    "capitals": lambda n: f"{n}.PNG", "an address": lambda n: f"https://host/data/{n}.png?key=1",
    "an absolute path": lambda n: f"/data/images/{n}.png", "a drive": lambda n: f"C:\\data\\images\\{n}.png",
    "Label Studio's local files": lambda n: f"/data/local-files/?d=images/{n}.png",
    "a point": lambda n: f"./images/{n}.png",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_names_that_other_systems_spell_differently_are_found(tmp_path, spelling):
    def spelt(data):
        for image in data["images"]:
            image["file_name"] = SPELLINGS[spelling](image["id"])

    found = read_split(folder(tmp_path, spelt), "train")
    assert [image["file_name"] for image in found.images] == [f"{n}.png" for n in range(12)]
    assert "12 files of train have names in another spelling" in found.notes[0]


def test_accents_and_escapes_are_found(tmp_path):
    for form, name in (("NFC", "café {}.png"), ("NFD", "caf%C3%A9%20{}.png")):
        def spelt(data, name=name):
            for image in data["images"]:
                image["file_name"] = name.format(image["id"])

        path = folder(tmp_path / form, spelt)
        for n in range(16):
            there = unicodedata.normalize("NFD", f"café {n}.png")
            (path / f"images/{n}.png").rename(path / "images" / there)
        assert len(read_split(path, "train").images) == 12


def test_a_file_of_another_folder_does_not_stand_for_one_that_is_missing(tmp_path):
    def in_folders(data):
        for image in data["images"]:
            image["file_name"] = f"day{image['id'] % 2}/{image['id'] // 2}.png"

    path = folder(tmp_path, in_folders)
    draw(path / "images/day0", range(8))
    for file in (path / "images").glob("*.png"):
        file.unlink()
    with pytest.raises(UserError, match="6 missing, the first 'day1/0.png'"):
        read_split(path, "train")


# --- identity ---

def test_the_content_hash_follows_pixels_and_labels_and_not_paths_or_names(tmp_path):
    def hash_of(path):
        return DetectionDataset(read_split(path, "train")).content_hash()

    path = folder(tmp_path / "a")
    before = hash_of(path)
    shutil.copytree(path, tmp_path / "elsewhere/b")
    assert hash_of(tmp_path / "elsewhere/b") == before
    Image.new("RGB", (WIDTH, HEIGHT)).save(path / "images/3.png")
    black = hash_of(path)
    data = json.loads((path / "annotations.json").read_text())
    data["annotations"][0]["bbox"][0] += 1
    (path / "annotations.json").write_text(json.dumps(data))
    assert len({before, black, hash_of(path)}) == 3
