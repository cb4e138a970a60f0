"""Reading data: what a valid folder gives. tests/robustness/bad_inputs has the invalid ones."""
import copy
import json
import pickle
import random
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from fgdlab.lab.datasets import data_checks
from fgdlab.lab.datasets.annotations import read_split, splits_of
from fgdlab.lab.datasets.data_checks import check_pixels
from fgdlab.lab.datasets.dataset import DetectionDataset
from fgdlab.lab.datasets.images import read_image
from fgdlab.lab.errors import UserError

WIDTH, HEIGHT = 40, 30


def document(images: int = 3) -> dict:
    """Images 1.. of 40 x 30 pixels with two boxes each; annotation ids from 10; category ids 7 (cat), 3 (dog)."""
    return {
        "images": [{"id": n, "file_name": f"{n}.png", "width": WIDTH, "height": HEIGHT} for n in range(1, images + 1)],
        "annotations": [
            {
                "id": 10 * n + k, "image_id": n, "category_id": (7, 3)[k], "bbox": [2 + k, 3, 10.5, 8], "area": 50.5,
                "iscrowd": k,
            }
            for n in range(1, images + 1)
            for k in range(2)
        ],
        "categories": [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}],
    }


def write(folder, data=None, splits=None, files: bool = True):
    """A folder in the plain layout. data: a document, or text as it is."""
    data = document() if data is None else data
    (folder / "images").mkdir(parents=True)
    (folder / "annotations.json").write_text(data if isinstance(data, str) else json.dumps(data))
    if splits is not None:
        (folder / "splits.json").write_text(json.dumps(splits))
    for entry in data["images"] if files else []:
        Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "images" / entry["file_name"])
    return folder


def write_coco(folder, *names):
    """A folder in COCO's own layout."""
    (folder / "annotations").mkdir(parents=True)
    for name in names:
        (folder / name).mkdir()
        (folder / "annotations" / f"instances_{name}.json").write_text(json.dumps(document()))
        for entry in document()["images"]:
            Image.new("RGB", (WIDTH, HEIGHT)).save(folder / name / entry["file_name"])
    return folder


def ids(found) -> list[int]:
    return [each["id"] for each in found.images]


def message(call, *args) -> str:
    """The text of the UserError that a call raises, of one line with what, got and a remedy after it."""
    with pytest.raises(UserError) as caught:
        call(*args)
    text = str(caught.value)
    assert "\n" not in text
    return text


# --- what a good folder gives ---

def test_boxes_come_as_corners_with_labels_in_order_of_category_id(tmp_path):
    found = read_split(write(tmp_path / "pets"), "all")
    assert (found.classes, found.category_ids) == (["dog", "cat"], [3, 7])
    np.testing.assert_array_equal(found.boxes[1], [[2, 3, 12.5, 11], [3, 3, 13.5, 11]])
    assert found.labels[1].tolist() == [2, 1] and found.crowd[1].tolist() == [False, True]
    assert found.areas[1].tolist() == [50.5, 50.5]
    assert (found.boxes[1].dtype, found.labels[1].dtype, found.crowd[1].dtype) == (np.float64, np.int64, bool)
    assert repr(found) == "all of pets: 3 images, 6 boxes, 2 classes" and found.notes == []


def test_an_image_without_boxes_has_empty_arrays(tmp_path):
    data = document()
    data["annotations"] = []
    found = read_split(write(tmp_path, data), "all")
    assert found.boxes[2].shape == (0, 4)
    assert found.labels[2].shape == found.crowd[2].shape == found.areas[2].shape == (0,)
    assert found.coco()["annotations"] == []


def test_area_iscrowd_and_info_may_be_missing(tmp_path):
    data = document()
    for each in data["annotations"]:
        del each["area"], each["iscrowd"]
    found = read_split(write(tmp_path, data), "all")
    assert found.areas[1].tolist() == [84.0, 84.0] and not found.crowd[1].any()


def test_boxes_past_the_border_are_cut_and_counted(tmp_path):
    data = document()
    data["annotations"][0]["bbox"] = [-5, -5, 100, 100]
    data["annotations"][2]["bbox"] = [39.5, 29, 3, 0.5]
    found = read_split(write(tmp_path, data), "all")
    assert found.boxes[1][0].tolist() == [0, 0, WIDTH, HEIGHT] and found.boxes[2][0].tolist() == [39.5, 29, 40, 29.5]
    assert found.notes == ["2 boxes past the border of the image were cut there"]


def test_rounding_of_floats_at_the_border_is_not_reported(tmp_path):
    data = document()
    data["annotations"][0]["bbox"] = [0.1, 0.1, 39.900000000000006, 29.9]
    assert read_split(write(tmp_path, data), "all").notes == []


def test_only_boxes_of_the_split_are_counted_in_its_notes(tmp_path):
    data = document()
    data["annotations"][0]["bbox"] = [-5, -5, 100, 100]                              # of image 1
    write(tmp_path, data, {"train": [1], "val": [2, 3]})
    assert read_split(tmp_path, "train").notes == ["1 box past the border of the image was cut there"]
    assert read_split(tmp_path, "val").notes == []


def test_zero_height_boxes_are_left_out_in_cocos_own_layout_only(tmp_path):
    data = document()
    data["annotations"][0]["bbox"][3] = 0.0                                          # as COCO's annotation 918
    write_coco(tmp_path / "coco", "train2017")
    (tmp_path / "coco/annotations/instances_train2017.json").write_text(json.dumps(data))
    found = read_split(tmp_path / "coco", "train2017")
    assert found.labels[1].tolist() == [1] and found.notes == ["1 box without width or height was left out"]
    assert "positive width and height" in message(read_split, write(tmp_path / "plain", data), "all")


def test_file_names_may_lie_in_subfolders(tmp_path):
    data = document(1)
    data["images"][0]["file_name"] = "day 1/ä.png"
    write(tmp_path, data, files=False)
    (tmp_path / "images/day 1").mkdir()
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "images/day 1/ä.png")
    check_pixels(DetectionDataset(read_split(tmp_path, "all")))


def test_annotations_survive_pickling_for_worker_processes(tmp_path):
    found = read_split(write(tmp_path), "all")
    assert pickle.loads(pickle.dumps(found)).content_hash == found.content_hash


def test_reading_does_not_import_torch(tmp_path):
    code = "import sys, fgdlab.lab.datasets.annotations, fgdlab.lab.datasets.images; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# --- back to COCO ---

def test_coco_document_reads_back_as_the_same_split(tmp_path):
    first = read_split(write(tmp_path / "a"), "all")
    second = read_split(write(tmp_path / "b", first.coco()), "all")
    assert second.content_hash == first.content_hash and second.coco()["annotations"] == first.coco()["annotations"]


def test_coco_ids_start_at_one_and_categories_keep_their_ids(tmp_path):
    data = document()
    data["annotations"][0]["id"] = 0
    ground_truth = read_split(write(tmp_path, data), "all").coco()
    assert [each["id"] for each in ground_truth["annotations"]] == [1, 2, 3, 4, 5, 6]
    assert [each["category_id"] for each in ground_truth["annotations"][:2]] == [7, 3]
    assert {each["id"]: each["name"] for each in ground_truth["categories"]} == {7: "cat", 3: "dog"}
    assert "info" in ground_truth and json.loads(json.dumps(ground_truth)) == ground_truth


def test_coco_of_some_ids_has_only_these(tmp_path):
    found = read_split(write(tmp_path), "all")
    ground_truth = found.coco([3, 1])
    assert [each["id"] for each in ground_truth["images"]] == [1, 3]
    assert {each["image_id"] for each in ground_truth["annotations"]} == {1, 3}
    with pytest.raises(ValueError, match="image ids of split 'all', got \\[4\\]"):
        found.coco([4])


def test_perfect_detections_score_one(tmp_path):
    data = document()
    data["annotations"][0]["id"] = 0                                                 # would break AP, were it kept
    coco = COCO()
    coco.dataset = read_split(write(tmp_path, data), "all").coco()
    coco.createIndex()
    found = [{**each, "score": 0.9} for each in coco.dataset["annotations"] if not each["iscrowd"]]
    score = COCOeval(coco, coco.loadRes(found), "bbox")
    score.evaluate(), score.accumulate(), score.summarize()
    assert score.stats[0] == pytest.approx(1.0)


# --- content hash ---

def shuffled(data: dict) -> dict:
    """The same document with keys and entries in another order."""
    draw = random.Random(1)
    parts = {key: [dict(reversed(each.items())) for each in data[key]] for key in reversed(data)}
    for each in parts.values():
        draw.shuffle(each)
    return parts


def test_content_hash_ignores_order_folder_and_extra_keys(tmp_path):
    first = read_split(write(tmp_path / "a", document(9)), "all")
    other = shuffled(document(9))
    other["info"], other["annotations"][0]["segmentation"] = {"year": 2017}, [[1, 2, 3, 4]]
    second = read_split(write(tmp_path / "b", other), "all")
    assert second.content_hash == first.content_hash
    assert second.images == first.images and all((second.boxes[each] == first.boxes[each]).all() for each in ids(first))


def test_content_hash_of_a_split_ignores_other_images(tmp_path):
    data, splits = document(), {"train": [1, 2], "val": [3]}
    changed = copy.deepcopy(data)
    changed["annotations"][-1]["bbox"][0] += 1                                       # of image 3
    one, other = write(tmp_path / "a", data, splits), write(tmp_path / "b", changed, splits)
    assert read_split(one, "train").content_hash == read_split(other, "train").content_hash
    assert read_split(one, "val").content_hash != read_split(other, "val").content_hash


@pytest.mark.parametrize(
    "part, key, value",
    [
        ("images", "id", 9), ("annotations", "category_id", 3),
        ("annotations", "bbox", [2, 3, 10.5, 8.001]), ("annotations", "area", 50), ("annotations", "iscrowd", 1),
        ("categories", "name", "lion"),
    ],
)
def test_content_hash_changes_with_what_a_run_uses(tmp_path, part, key, value):
    data = document()
    data[part][0][key] = value
    known = {image["id"] for image in data["images"]}
    data["annotations"] = [each for each in data["annotations"] if each["image_id"] in known]
    assert (
        read_split(write(tmp_path / "a", data), "all").content_hash
        != read_split(write(tmp_path / "b"), "all").content_hash
    )


# --- splits ---

def test_without_splits_json_the_splits_are_disjoint_and_complete(tmp_path):
    write(tmp_path, document(40))
    assert splits_of(tmp_path) == ["train", "tune", "val", "all", "train-fit", "train-tune"]
    parts = [ids(read_split(tmp_path, name)) for name in ("train", "tune", "val")]
    assert [len(each) for each in parts] == [28, 6, 6]
    assert sorted(sum(parts, [])) == ids(read_split(tmp_path, "all")) == list(range(1, 41))
    assert "by a hash" in read_split(tmp_path, "val").notes[0]


def test_drawn_splits_do_not_depend_on_the_order_of_the_file(tmp_path):
    one, other = write(tmp_path / "a", document(40)), write(tmp_path / "b", shuffled(document(40)))
    for name in splits_of(one):
        assert ids(read_split(one, name)) == ids(read_split(other, name))


def test_drawn_splits_stay_as_they_are_between_versions(tmp_path):
    """Results are compared across runs: a change of the draw would leak val into train."""
    assert ids(read_split(write(tmp_path, document(20)), "val")) == [1, 6, 8]
    assert ids(read_split(tmp_path, "train-tune")) == [10, 13, 18]


@pytest.mark.parametrize("splits", [None, {"train": list(range(1, 31)), "val": list(range(31, 41))}])
def test_train_fit_and_train_tune_part_train_four_to_one(tmp_path, splits):
    write(tmp_path, document(40), splits)
    train, fit, tune = (ids(read_split(tmp_path, name)) for name in ("train", "train-fit", "train-tune"))
    assert sorted(fit + tune) == train and not set(fit) & set(tune) and len(tune) == round(len(train) / 5)


def test_listed_splits_are_taken_as_they_are(tmp_path):
    write(tmp_path, splits={"val": [3], "train": [2, 1], "mine": [1, 3]})
    assert splits_of(tmp_path) == ["all", "val", "train", "mine", "train-fit", "train-tune"]
    assert ids(read_split(tmp_path, "train")) == [1, 2] and ids(read_split(tmp_path, "mine")) == [1, 3]


def test_cocos_own_layout_has_short_names(tmp_path):
    write_coco(tmp_path, "train2017", "val2017")
    assert splits_of(tmp_path) == ["train2017", "val2017", "train", "val", "train-fit", "train-tune"]
    found = read_split(tmp_path, "val")
    assert found.image_folder == tmp_path / "val2017"
    assert found.content_hash == read_split(str(tmp_path), "val2017").content_hash


def test_a_folder_a_split_with_its_annotations_beside_its_images_is_read(tmp_path):
    """As Roboflow exports."""
    for name in ("train", "valid"):
        write(tmp_path / name)
        for path in (tmp_path / name / "images").iterdir():
            path.rename(tmp_path / name / path.name)
        (tmp_path / name / "annotations.json").rename(tmp_path / name / "_annotations.coco.json")
    assert splits_of(tmp_path) == ["train", "valid", "val", "train-fit", "train-tune"]
    found = read_split(tmp_path, "val")
    assert ids(found) == [1, 2, 3] and read_image(found.image_folder, found.images[0]).shape == (HEIGHT, WIDTH, 3)


def test_all_images_are_no_stand_in_for_a_split_that_is_not_there(tmp_path):
    write(tmp_path, splits={"train": [1, 2], "test": [3]})
    said = message(read_split, tmp_path, "val")
    assert said.startswith("unknown split 'val'; known: all, train, test,")


def test_a_short_name_of_two_files_is_unknown(tmp_path):
    write_coco(tmp_path, "train2014", "train2017")
    assert "known: train2014, train2017" in message(read_split, tmp_path, "train")


# --- bad folders ---

def test_image_files_of_other_splits_are_not_asked_for(tmp_path):
    write(tmp_path, splits={"train": [1], "val": [2, 3]})
    (tmp_path / "images/2.png").unlink()
    read_split(tmp_path, "train")
    assert "1 missing, the first '2.png'" in message(read_split, tmp_path, "val")


# --- pixels ---

ENTRY = {"file_name": "1.png", "width": WIDTH, "height": HEIGHT}


def read_as(tmp_path, image: Image.Image, name: str = "1.png", **save) -> np.ndarray:
    """What read_image gives for an image saved under a name; a warning is a failure."""
    image.save(tmp_path / name, **save)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read_image(tmp_path, {**ENTRY, "file_name": name})


@pytest.mark.parametrize(
    "mode, colour, name, expected",
    [
        ("RGB", (10, 20, 30), "1.png", (10, 20, 30)), ("L", 77, "1.png", (77,) * 3), ("1", 1, "1.png", (255,) * 3),
        ("RGBA", (10, 20, 30, 0), "1.png", (10, 20, 30)), ("LA", (77, 9), "1.png", (77,) * 3),
        ("CMYK", (0, 255, 255, 0), "1.tif", (255, 0, 0)), ("I;16", 0x4D00, "1.png", (0x4D,) * 3),
        ("I;16", 65535, "1.tif", (255,) * 3), ("I", 0x4D00, "1.tif", (0x4D,) * 3),
        ("YCbCr", (255, 128, 128), "1.tif", (255,) * 3),
    ],
)
def test_every_mode_becomes_rgb_bytes(tmp_path, mode, colour, name, expected):
    pixels = read_as(tmp_path, Image.new(mode, (WIDTH, HEIGHT), colour), name)
    assert pixels.shape == (HEIGHT, WIDTH, 3) and pixels.dtype == np.uint8 and pixels.flags.writeable
    assert (pixels == expected).all()


def test_read_image_takes_a_split_or_its_image_folder(tmp_path):
    found = read_split(write(tmp_path), "all")
    np.testing.assert_array_equal(
        read_image(found.image_folder, found.images[0]), read_image(str(tmp_path / "images"), found.images[0])
    )


def noise(size=(WIDTH, HEIGHT)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


@pytest.mark.parametrize(
    "orientation, turned",
    [
        (5, lambda each: each.transpose(1, 0, 2)), (6, lambda each: np.rot90(each, -1)),
        (7, lambda each: np.rot90(each.transpose(1, 0, 2), 2)), (8, np.rot90),
    ],
)
def test_a_quarter_turn_of_exif_is_made_where_the_annotated_size_is_the_upright_one(tmp_path, orientation, turned):
    exif = Image.Exif()
    exif[0x0112] = orientation
    lying = noise((HEIGHT, WIDTH))
    np.testing.assert_array_equal(read_as(tmp_path, lying, exif=exif), turned(np.asarray(lying)))


@pytest.mark.parametrize("orientation", [2, 3, 4, 6])
def test_no_turn_of_exif_is_made_where_the_annotated_size_is_the_stored_one(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(read_as(tmp_path, noise(), exif=exif), np.asarray(noise()))


def test_images_are_turned_as_their_exif_says_where_the_user_asks_for_it(tmp_path):
    """The file is stored lying, its stated size is that of the stored pixels, and boxes are shares of that size."""
    data = document(1)
    data["images"][0] |= {"width": HEIGHT, "height": WIDTH}
    data["annotations"] = data["annotations"][:1]
    folder = write(tmp_path, data, files=False)
    exif, upright = Image.Exif(), noise()
    exif[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(folder / "images/1.png", exif=exif)
    found = read_split(folder, "all", exif_turned=True)
    size = (found.images[0]["width"], found.images[0]["height"])
    assert size == (WIDTH, HEIGHT) and found.images[0]["upright"]
    np.testing.assert_allclose(found.boxes[1], [[2 * 40 / 30, 3 * 30 / 40, 12.5 * 40 / 30, 11 * 30 / 40]])
    np.testing.assert_array_equal(read_image(found.image_folder, found.images[0]), np.asarray(upright))
    as_stored = read_split(folder, "all")
    assert as_stored.content_hash != found.content_hash
    assert read_image(as_stored.image_folder, as_stored.images[0]).shape == (WIDTH, HEIGHT, 3)


def test_check_pixels_reads_every_image_and_counts_the_broken_ones(tmp_path, lab_home):
    write(tmp_path)
    check_pixels(DetectionDataset(read_split(tmp_path, "all")))
    for number in (2, 3):
        (tmp_path / "images" / f"{number}.png").write_bytes(b"not an image")
    said = message(check_pixels, DetectionDataset(read_split(tmp_path, "all")))
    assert "2.png must be an image that can be decoded" in said and "(and 1 more of 3 images have a defect)" in said


def test_check_pixels_shows_a_bar(tmp_path, capsys, lab_home):
    check_pixels(DetectionDataset(read_split(write(tmp_path, document(3)), "all")))
    assert "check images of all" in capsys.readouterr().err


def test_equal_files_are_decoded_once_wherever_they_lie_and_changed_ones_again(tmp_path, monkeypatch, lab_home):
    decoded = []
    monkeypatch.setattr(data_checks, "read_image", lambda folder, entry: decoded.append(entry["id"]))

    def check(folder) -> int:
        decoded.clear()
        check_pixels(DetectionDataset(read_split(folder, "all")))
        return len(decoded)

    (tmp_path / "a").mkdir()
    folder = write(tmp_path / "a")
    shutil.copytree(folder, tmp_path / "b")
    assert [check(folder), check(folder), check(tmp_path / "b")] == [3, 0, 0]
    noise().save(folder / "images/2.png", compress_level=1)
    assert check(folder) == 3
