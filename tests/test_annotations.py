"""Facts of reading data: what a good folder gives, and the one line that every bad one gives."""
import copy
import io
import json
import pickle
import random
import subprocess
import sys
import warnings

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from fgdlab.lab.annotations import read_split, splits_of
from fgdlab.lab.errors import UserError
from fgdlab.lab.images import check_pixels, read_image

WIDTH, HEIGHT = 40, 30


def document(images: int = 3) -> dict:
    """Images 1.. of 40 x 30 pixels with two boxes each, annotation ids from 10, category ids 7 (cat) and 3 (dog) in that order."""
    return {
        "images": [{"id": n, "file_name": f"{n}.png", "width": WIDTH, "height": HEIGHT} for n in range(1, images + 1)],
        "annotations": [
            {"id": 10 * n + k, "image_id": n, "category_id": (7, 3)[k], "bbox": [2 + k, 3, 10.5, 8], "area": 50.5, "iscrowd": k}
            for n in range(1, images + 1) for k in range(2)
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


# --- what a good folder gives -----------------------------------------------------------------------------------------------------

def test_boxes_come_as_corners_with_labels_in_order_of_category_id(tmp_path):
    found = read_split(write(tmp_path / "pets"), "all")
    assert (found.classes, found.category_ids) == (["dog", "cat"], [3, 7])
    np.testing.assert_array_equal(found.boxes[1], [[2, 3, 12.5, 11], [3, 3, 13.5, 11]])
    assert found.labels[1].tolist() == [2, 1] and found.crowd[1].tolist() == [False, True] and found.areas[1].tolist() == [50.5, 50.5]
    assert (found.boxes[1].dtype, found.labels[1].dtype, found.crowd[1].dtype) == (np.float64, np.int64, bool)
    assert repr(found) == "all of pets: 3 images, 6 boxes, 2 classes" and found.notes == []


def test_an_image_without_boxes_has_empty_arrays(tmp_path):
    data = document()
    data["annotations"] = []
    found = read_split(write(tmp_path, data), "all")
    assert found.boxes[2].shape == (0, 4) and found.labels[2].shape == found.crowd[2].shape == found.areas[2].shape == (0,)
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
    check_pixels(read_split(tmp_path, "all"), progress=False)


def test_annotations_survive_pickling_for_worker_processes(tmp_path):
    found = read_split(write(tmp_path), "all")
    assert pickle.loads(pickle.dumps(found)).fingerprint == found.fingerprint


def test_reading_does_not_import_torch(tmp_path):
    code = "import sys, fgdlab.lab.annotations, fgdlab.lab.images; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# --- back to COCO -----------------------------------------------------------------------------------------------------------------

def test_coco_document_reads_back_as_the_same_split(tmp_path):
    first = read_split(write(tmp_path / "a"), "all")
    second = read_split(write(tmp_path / "b", first.coco()), "all")
    assert second.fingerprint == first.fingerprint and second.coco()["annotations"] == first.coco()["annotations"]


def test_coco_ids_start_at_one_and_categories_keep_their_ids(tmp_path):
    data = document()
    data["annotations"][0]["id"] = 0
    truth = read_split(write(tmp_path, data), "all").coco()
    assert [each["id"] for each in truth["annotations"]] == [1, 2, 3, 4, 5, 6]
    assert [each["category_id"] for each in truth["annotations"][:2]] == [7, 3]
    assert {each["id"]: each["name"] for each in truth["categories"]} == {7: "cat", 3: "dog"}
    assert "info" in truth and json.loads(json.dumps(truth)) == truth


def test_coco_of_some_ids_has_only_these(tmp_path):
    found = read_split(write(tmp_path), "all")
    truth = found.coco([3, 1])
    assert [each["id"] for each in truth["images"]] == [1, 3] and {each["image_id"] for each in truth["annotations"]} == {1, 3}
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


# --- the fingerprint --------------------------------------------------------------------------------------------------------------

def shuffled(data: dict) -> dict:
    """The same document with keys and entries in another order."""
    draw = random.Random(1)
    parts = {key: [dict(reversed(each.items())) for each in data[key]] for key in reversed(data)}
    for each in parts.values():
        draw.shuffle(each)
    return parts


def test_fingerprint_ignores_order_folder_and_extra_keys(tmp_path):
    first = read_split(write(tmp_path / "a", document(9)), "all")
    other = shuffled(document(9))
    other["info"], other["annotations"][0]["segmentation"] = {"year": 2017}, [[1, 2, 3, 4]]
    second = read_split(write(tmp_path / "b", other), "all")
    assert second.fingerprint == first.fingerprint
    assert second.images == first.images and all((second.boxes[each] == first.boxes[each]).all() for each in ids(first))


def test_fingerprint_of_a_split_ignores_other_images(tmp_path):
    data, splits = document(), {"train": [1, 2], "val": [3]}
    changed = copy.deepcopy(data)
    changed["annotations"][-1]["bbox"][0] += 1                                       # of image 3
    one, other = write(tmp_path / "a", data, splits), write(tmp_path / "b", changed, splits)
    assert read_split(one, "train").fingerprint == read_split(other, "train").fingerprint
    assert read_split(one, "val").fingerprint != read_split(other, "val").fingerprint


@pytest.mark.parametrize("part, key, value", [
    ("images", "file_name", "other.png"), ("annotations", "category_id", 3), ("annotations", "bbox", [2, 3, 10.5, 8.001]),
    ("annotations", "area", 50), ("annotations", "iscrowd", 1), ("categories", "name", "lion"),
])
def test_fingerprint_changes_with_what_a_run_uses(tmp_path, part, key, value):
    data = document()
    data[part][0][key] = value
    assert read_split(write(tmp_path / "a", data), "all").fingerprint != read_split(write(tmp_path / "b"), "all").fingerprint


# --- splits -----------------------------------------------------------------------------------------------------------------------

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


def test_a_split_that_shares_images_with_another_says_so(tmp_path):
    write(tmp_path, splits={"train": [1, 2], "val": [2, 3], "mine": [1, 2]})
    assert read_split(tmp_path, "val").notes == ["1 of the images of val are in train too: see splits.json"]


def test_cocos_own_layout_has_short_names(tmp_path):
    write_coco(tmp_path, "train2017", "val2017")
    assert splits_of(tmp_path) == ["train2017", "val2017", "train", "val", "train-fit", "train-tune"]
    found = read_split(tmp_path, "val")
    assert found.image_folder == tmp_path / "val2017" and found.fingerprint == read_split(str(tmp_path), "val2017").fingerprint


def test_a_short_name_of_two_files_is_unknown(tmp_path):
    write_coco(tmp_path, "train2014", "train2017")
    assert "known: train2014, train2017" in message(read_split, tmp_path, "train")


# --- bad folders ------------------------------------------------------------------------------------------------------------------

def changed(part: str, key: str, value, entry: int = 0) -> dict:
    data = document()
    data[part][entry][key] = value
    return data


def without(part: str, key: str | None = None, entry: int = 1) -> dict:
    data = document()
    del (data[part][entry] if key else data)[key or part]
    return data


def twice(part: str) -> dict:
    data = document()
    data[part] += [dict(data[part][0], file_name="x.png")]
    return data


DEFECTS = {
    "empty file": ("", ["line 1, column 1 (the file ends there, after 0 bytes)", "export it again"]),
    "not JSON": ("{'images': []}", ["annotations.json must be whole JSON", "line 1, column 2 (Expecting", "export it again"]),
    "truncated": (json.dumps(document(), indent=1)[:-30], ["annotations.json must be whole JSON", "line 108, column 8 (the file ends there, after"]),
    "truncated in a text": (json.dumps(document())[:-3], ["line 1, column", "(the file ends there, after"]),
    "not UTF-8": ('{"images": "\udcff"}', ["annotations.json must be readable JSON in UTF-8", "0xff", "export it again"]),
    "nested without end": ("[" * 200_000, ["must be readable JSON", "recursion", "export it again"]),
    "a list on top": ("[1, 2]", ["must hold a JSON object", "got [1, 2]", "export it as COCO"]),
    "no images": (without("images"), ["must have a list 'images'", "got only 'annotations', 'categories'", "export it as COCO"]),
    "no annotations": (without("annotations"), ["must have a list 'annotations'", "got only 'images', 'categories'"]),
    "no categories": (without("categories"), ["must have a list 'categories'", "got only 'images', 'annotations'"]),
    "no class": ({**document(), "categories": []}, ["'categories' must list at least one class"]),
    "images no list": ({**document(), "images": {"1": {}}}, ["must have a list 'images'", "got {'1': {}}"]),
    "image no object": ({**document(), "images": ["1.png"]}, ["entry 1 of 'images' must be an object", "got '1.png'"]),
    **{f"{part} without {key}": (without(part, key), [f"entry 2 of {part!r} must have a key {key!r}", "add it"]) for part, key in [
        ("images", "id"), ("images", "file_name"), ("images", "width"), ("images", "height"), ("categories", "id"), ("categories", "name"),
        ("annotations", "id"), ("annotations", "image_id"), ("annotations", "category_id"), ("annotations", "bbox")]},
    "image id a text": (changed("images", "id", "1"), ["entry 1 of 'images' must have a whole number from 0 up as 'id'", "got '1'"]),
    "annotation id negative": (changed("annotations", "id", -1), ["entry 1 of 'annotations'", "got -1"]),
    "image id twice": (twice("images"), ["ids in 'images' must be unique, got 1 twice", "number the entries anew"]),
    "annotation id twice": (twice("annotations"), ["ids in 'annotations' must be unique, got 10 twice"]),
    "category id twice": (twice("categories"), ["ids in 'categories' must be unique, got 7 twice"]),
    "file twice": (changed("images", "file_name", "2.png"), ["a file of its own, got '2.png' twice", "merge the entries"]),
    "category name a number": (changed("categories", "name", 5), ["category 7 must have a text as 'name', got 5"]),
    "unknown category": (changed("annotations", "category_id", 4), ["annotation 10 of image 1 '1.png'", "'category_id' among [3, 7], got 4", "add the category"]),
    "unknown image": (changed("annotations", "image_id", 99), ["annotation 10 must have the 'image_id' of one of the 3 images, got 99", "correct or remove"]),
    "image id of another type": (changed("annotations", "image_id", [1]), ["annotation 10 must", "got [1]"]),
    "three numbers": (changed("annotations", "bbox", [1, 2, 3]), ["annotation 10 of image 1 '1.png'", "4 finite numbers", "got [1, 2, 3]", "correct or remove"]),
    "no list": (changed("annotations", "bbox", None), ["4 finite numbers x, y, width, height as 'bbox', got None"]),
    "text in a box": (changed("annotations", "bbox", [1, 2, "3", 4]), ["4 finite numbers", "got [1, 2, '3', 4]"]),
    "NaN in a box": (changed("annotations", "bbox", [1, 2, float("nan"), 4]), ["4 finite numbers", "got [1, 2, nan, 4]"]),
    "infinity in a box": (changed("annotations", "bbox", [1, 2, float("inf"), 4]), ["4 finite numbers", "inf"]),
    "an endless number": (changed("annotations", "bbox", [1, 2, 10**400, 4]), ["4 finite numbers", "... (41"]),
    "negative width": (changed("annotations", "bbox", [9, 2, -3, 4]), ["annotation 10", "positive width and height", "got [9, 2, -3, 4]", "must not be x1, y1, x2, y2"]),
    "zero height": (changed("annotations", "bbox", [9, 2, 3, 0.0]), ["annotation 10", "positive width and height", "got [9, 2, 3, 0.0]"]),
    "right of the image": (changed("annotations", "bbox", [40, 2, 3, 4]), [
        "annotation 10 of image 1 '1.png'", "overlaps its image of 40 x 30 pixels", "got [40, 2, 3, 4]", "correct or remove the box"]),
    "left of the image": (changed("annotations", "bbox", [-9, 2, 9, 4]), ["overlaps its image", "got [-9, 2, 9, 4]"]),
    "a sliver that float32 loses": (changed("annotations", "bbox", [30, 2, 1e-9, 4]), ["overlaps its image", "1e-09"]),
    "iscrowd 2": (changed("annotations", "iscrowd", 2), ["annotation 10", "0 or 1 as 'iscrowd', got 2"]),
    "area negative": (changed("annotations", "area", -4), ["annotation 10", "a number from 0 up as 'area', got -4"]),
    "width zero": (changed("images", "width", 0), ["image 1 '1.png' must have a positive, whole 'width', got 0", "size of the image file"]),
    "height a float": (changed("images", "height", 30.5), ["image 1 '1.png' must have a positive, whole 'height', got 30.5"]),
    "absolute name": (changed("images", "file_name", "/etc/passwd"), ["image 1 must", "within the image folder", "got '/etc/passwd'", "relative to"]),
    "name with a drive": (changed("images", "file_name", "C:\\a.png"), ["within the image folder"]),
    "name that climbs": (changed("images", "file_name", "a/../../b.png"), ["image 1 must", "got 'a/../../b.png'", "without '..'"]),
    "name that climbs on Windows": (changed("images", "file_name", "a\\..\\..\\b.png"), ["within the image folder"]),
    "empty name": (changed("images", "file_name", ""), ["within the image folder, got ''"]),
    "name a number": (changed("images", "file_name", 5), ["within the image folder, got 5"]),
    "newline in a name": (changed("images", "file_name", "a\nb.png"), ["'a\\nb.png'", "missing"]),
    "file not there": (changed("images", "file_name", "lost.png", entry=1), ["images must hold the 3 image files", "1 missing, the first 'lost.png' of image 2", "put them there"]),
    "null in a name": (changed("images", "file_name", "a\0b.png"), ["1 missing"]),
    "endless name": (changed("images", "file_name", "a" * 999), ["1 missing"]),
}


@pytest.mark.parametrize("data, parts", DEFECTS.values(), ids=DEFECTS.keys())
def test_a_defect_is_one_line_with_what_where_and_what_to_do(tmp_path, data, parts):
    write(tmp_path, "", files=False)
    text = data if isinstance(data, str) else json.dumps(data)
    (tmp_path / "annotations.json").write_bytes(text.encode("utf-8", errors="surrogateescape"))
    for number in (1, 2, 3):
        (tmp_path / "images" / f"{number}.png").touch()
    said = message(read_split, tmp_path, "all")
    assert str(tmp_path) in said and "must" in said and ", got" in said and "; " in said
    assert all(part in said for part in parts), said
    assert len(said) < 400 + len(str(tmp_path)) + (999 if "a" * 999 in said else 0)


def test_more_of_the_same_defect_are_counted(tmp_path):
    data = document()
    for each in data["annotations"][2:]:
        each["bbox"] = [1, 2, -3, 4]
    assert "annotation 20 of image 2 '2.png' must have a positive" in message(read_split, write(tmp_path, data), "all")
    assert "got [1, 2, -3, 4] (and 3 more like it); correct" in message(read_split, tmp_path, "all")


@pytest.mark.parametrize("splits, parts", [
    ({"train": [1, 99, 98]}, ["splits.json: split 'train'", "image ids of annotations.json, got 99 (and 1 more like it)", "correct or remove"]),
    ({"train": [1, 2, 1]}, ["splits.json: split 'train' must list an image once, got image id 1 twice"]),
    ({"train": ["1"]}, ["splits.json: split 'train' must be a list of image ids, got ['1']", 'write {"train": [1, 2]']),
    ({"train": 1}, ["splits.json: split 'train'", "got 1", "write"]),
    ([1, 2], ["splits.json must be an object of split names", "got [1, 2]", "write"]),
    ({"train": []}, ["split 'train' must have an image, got none of 3", "choose another split"]),
])
def test_a_defect_of_splits_json_is_one_line(tmp_path, splits, parts):
    said = message(read_split, write(tmp_path, splits=splits), "train")
    assert all(part in said for part in parts), said


def test_an_unknown_split_lists_those_there_are(tmp_path):
    write(tmp_path, splits={"train": [1], "val": [2], "test": [3]})
    said = message(read_split, tmp_path, "tune")
    assert "unknown split 'tune'" in said and "known: all, train, val, test, train-fit, train-tune" in said and "fifth of train" in said
    assert "did you mean 'val'?" in message(read_split, tmp_path, "vall")


def test_a_folder_that_is_none_or_of_no_layout_says_what_there_is(tmp_path):
    assert "got nothing there; correct the path" in message(read_split, tmp_path / "no", "train")
    assert "got an empty folder" in message(splits_of, tmp_path)
    (tmp_path / "labels.json").touch()
    (tmp_path / "train").mkdir()
    assert "must hold annotations.json and images/" in message(splits_of, tmp_path)
    assert "got 'labels.json', 'train/'; give the folder that holds them" in message(splits_of, tmp_path)
    assert "got a file; give the folder that holds it" in message(splits_of, tmp_path / "labels.json")


def test_a_missing_image_folder_is_named(tmp_path):
    (write(tmp_path, document(), files=False) / "images").rmdir()
    assert f"{tmp_path / 'images'} must be the folder with the images of split 'all'" in message(read_split, tmp_path, "all")


def test_names_relative_to_the_wrong_folder_are_explained(tmp_path):
    data = changed("images", "file_name", "images/1.png")
    write(tmp_path, document())
    (tmp_path / "annotations.json").write_text(json.dumps(data))
    assert "the first 'images/1.png' of image 1; write file names relative to images/" in message(read_split, tmp_path, "all")


def test_image_files_of_other_splits_are_not_asked_for(tmp_path):
    write(tmp_path, splits={"train": [1], "val": [2, 3]})
    (tmp_path / "images/2.png").unlink()
    read_split(tmp_path, "train")
    assert "1 missing, the first '2.png'" in message(read_split, tmp_path, "val")


# --- pixels -----------------------------------------------------------------------------------------------------------------------

ENTRY = {"file_name": "1.png", "width": WIDTH, "height": HEIGHT}


def read_as(tmp_path, image: Image.Image, name: str = "1.png", **save) -> np.ndarray:
    """What read_image gives for an image saved under a name; a warning is a failure."""
    image.save(tmp_path / name, **save)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read_image(tmp_path, {**ENTRY, "file_name": name})


@pytest.mark.parametrize("mode, colour, name, expected", [
    ("RGB", (10, 20, 30), "1.png", (10, 20, 30)), ("L", 77, "1.png", (77,) * 3), ("1", 1, "1.png", (255,) * 3),
    ("RGBA", (10, 20, 30, 0), "1.png", (10, 20, 30)), ("LA", (77, 9), "1.png", (77,) * 3),
    ("CMYK", (0, 255, 255, 0), "1.tif", (255, 0, 0)), ("I;16", 0x4D00, "1.png", (0x4D,) * 3), ("I;16", 65535, "1.tif", (255,) * 3),
    ("I", 0x4D00, "1.tif", (0x4D,) * 3), ("YCbCr", (255, 128, 128), "1.tif", (255,) * 3),
])
def test_every_mode_becomes_rgb_bytes(tmp_path, mode, colour, name, expected):
    pixels = read_as(tmp_path, Image.new(mode, (WIDTH, HEIGHT), colour), name)
    assert pixels.shape == (HEIGHT, WIDTH, 3) and pixels.dtype == np.uint8 and pixels.flags.writeable
    assert (pixels == expected).all()


def test_palettes_become_rgb_with_and_without_transparency(tmp_path):
    image = Image.new("P", (WIDTH, HEIGHT), 2)
    image.putpalette([0, 0, 0, 1, 1, 1, 10, 20, 30])
    assert (read_as(tmp_path, image) == (10, 20, 30)).all()
    assert (read_as(tmp_path, image, transparency=bytes([255, 255, 0])) == (10, 20, 30)).all()


def test_a_jpeg_comes_within_its_loss_and_a_cmyk_jpeg_is_not_inverted(tmp_path):
    for mode, colour in [("RGB", (200, 30, 30)), ("CMYK", (55, 225, 225, 0))]:
        pixels = read_as(tmp_path, Image.new(mode, (WIDTH, HEIGHT), colour), "1.jpg", quality=95)
        assert np.abs(pixels.astype(int) - (200, 30, 30)).max() < 12


def test_read_image_takes_a_split_or_its_image_folder(tmp_path):
    found = read_split(write(tmp_path), "all")
    np.testing.assert_array_equal(read_image(found, found.images[0]), read_image(str(tmp_path / "images"), found.images[0]))


def noise(size=(WIDTH, HEIGHT)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


@pytest.mark.parametrize("name", ["1.jpg", "1.png"])
@pytest.mark.parametrize("keep", [0.0, 0.05, 0.6])
def test_a_truncated_file_is_named(tmp_path, name, keep):
    data = io.BytesIO()
    noise().save(data, "PNG" if name.endswith("png") else "JPEG")
    (tmp_path / name).write_bytes(data.getvalue()[: int(keep * len(data.getvalue()))])
    said = message(read_image, tmp_path, {**ENTRY, "file_name": name})
    assert f"{tmp_path / name} must be an image that can be decoded, got: " in said and "; copy it again" in said


@pytest.mark.parametrize("image, parts", [
    (None, ["must be an image file, got no such file", "put it there"]),
    (Image.new("F", (WIDTH, HEIGHT), 0.5), ["must be an image that can be decoded", "floating point", "8 bits"]),
    (Image.new("I", (WIDTH, HEIGHT), 70_000), ["must be an image that can be decoded", "70000", "neither 8 nor 16 bits"]),
    (noise((50, 30)), ["must be 40 x 30 pixels as in the annotations, got 50 x 30", "correct width, height and boxes"]),
    (noise((HEIGHT, WIDTH)), ["must be 40 x 30 pixels as in the annotations, got 30 x 40", "perhaps by an EXIF rotation"]),
])
def test_an_unusable_file_is_named_with_the_reason(tmp_path, image, parts):
    if image:
        image.save(tmp_path / "1.tif")
    said = message(read_image, tmp_path, {**ENTRY, "file_name": "1.tif"})
    assert str(tmp_path / "1.tif") in said and all(part in said for part in parts), said


@pytest.mark.parametrize("orientation, turned", [
    (5, lambda each: each.transpose(1, 0, 2)), (6, lambda each: np.rot90(each, -1)), (7, lambda each: np.rot90(each.transpose(1, 0, 2), 2)), (8, np.rot90),
])
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


def test_check_pixels_reads_every_image_and_counts_the_broken_ones(tmp_path):
    write(tmp_path)
    check_pixels(read_split(tmp_path, "all"), progress=False)
    for number in (2, 3):
        (tmp_path / "images" / f"{number}.png").write_bytes(b"not an image")
    said = message(check_pixels, read_split(tmp_path, "all"), False)
    assert "2.png must be an image that can be decoded" in said and "(and 1 more of 3 images have a defect)" in said


def test_check_pixels_shows_a_bar_unless_told_not_to(tmp_path, capsys):
    found = read_split(write(tmp_path), "all")
    check_pixels(found, progress=False)
    assert capsys.readouterr().err == ""
    check_pixels(found)
    assert "check images of all" in capsys.readouterr().err
