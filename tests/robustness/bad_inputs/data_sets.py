"""Bad data sets: folders that are none, splits that do not fit, too few images, classes without a box."""
import os
import shutil
from pathlib import Path

from .annotations import says
from .world import CHECK, RUN, Row, annotations, changed, document, holds, write


def row(name, spoil, line, check=None, command=CHECK) -> Row:
    return Row(name, spoil, command, line, check)


def splits(value):
    return holds("pets/splits.json", value)


def other_layout() -> None:
    shutil.rmtree("pets")
    Path("pets/train").mkdir(parents=True)
    Path("pets/labels.csv").touch()


def first(count: int):
    """A spoiler that leaves so many images, and no splits.json."""
    def spoil() -> None:
        data = document()
        write(
            "pets/annotations.json",
            {**data, "images": data["images"][:count], "annotations": data["annotations"][:count]},
        )
        os.unlink("pets/splits.json")

    return spoil


def only(category: int, images: range):
    """A spoiler that gives the boxes of these images to one class."""
    return annotations(
        lambda data: [each.update(category_id=category) for each in data["annotations"] if each["image_id"] in images]
    )


def no_box(images: range):
    return annotations(
        lambda data: data.update(annotations=[each for each in data["annotations"] if each["image_id"] not in images])
    )


ROWS = [
    # folders
    row("no such folder", lambda: shutil.rmtree("pets"),
        "pets must be a folder with annotations.json and images/, got nothing there; correct the path"),
    row("run: no such folder", None,
        "nowhere must be a folder with annotations.json and images/, got nothing there; correct the path",
        command=("run", "--data", "nowhere")),
    row("a file for a folder", lambda: (shutil.rmtree("pets"), write("pets", "")),
        "pets must be a folder with annotations.json and images/, got a file; give the folder that holds it"),
    row("an empty folder", lambda: (shutil.rmtree("pets"), os.mkdir("pets")),
        "pets must hold annotations.json and images/, or annotations/instances_<split>.json and <split>/, or "
        "<split>/_annotations.coco.json beside its images, got an empty folder; give the folder "
        "that holds them, or export it as COCO detection annotations"),
    row("another layout", other_layout,
        "pets must hold annotations.json and images/, or annotations/instances_<split>.json and <split>/, or "
        "<split>/_annotations.coco.json beside its images, got 'labels.csv', 'train/'; give the "
        "folder that holds them, or export it as COCO detection annotations"),
    row("no image folder", lambda: shutil.rmtree("pets/images"),
        "pets/images must be the folder with the images of split 'all', got no such folder; put them there, or link "
        "it"),
    row("file names relative to the wrong folder", changed("images", 0, file_name="images/1.png"),
        "", says("have names in another spelling: 'images/1.png' is '1.png'")),
    row("annotations.json is a folder", lambda: (os.unlink("pets/annotations.json"), os.mkdir("pets/annotations.json")),
        "pets must hold annotations.json and images/, or annotations/instances_<split>.json and <split>/, or "
        "<split>/_annotations.coco.json beside its images, got 'annotations.json/', 'images/', "
        "'splits.json'; give the folder that holds them, or export it as COCO detection annotations"),
    # splits
    row("splits.json is a list", splits([1, 2]),
        'pets/splits.json must be an object of split names with lists of image ids, got [1, 2]; write {"train": [1, '
        '2], "val": [3]}'),
    row("splits.json is cut off", splits('{"train": [1, 2'),
        "pets/splits.json must be whole JSON, got a fault at line 1, column 16 (the file ends there, after 15 bytes); "
        "copy or export it again"),
    row("a split that is no list", splits({"train": 1}),
        "pets/splits.json: split 'train' must be a list of image ids, got 1; write {\"train\": [1, 2], \"val\": [3]}"),
    row("a split of texts", splits({"train": ["1"]}),
        "pets/splits.json: split 'train' must be a list of image ids, got ['1']; write {\"train\": [1, 2], \"val\": "
        "[3]}"),
    row("a split with an unknown image", splits({"train": [1, 99, 98]}),
        "pets/splits.json: split 'train' must list image ids of annotations.json, got 99 (and 1 more like it); correct "
        "or remove it in the file"),
    row("a split with an image twice", splits({"train": [1, 2, 1]}),
        "pets/splits.json: split 'train' must list an image once, got image id 1 twice; correct or remove it in the "
        "file"),
    row("an empty split", splits({"train": [1, 2], "val": []}),
        "pets/annotations.json: split 'val' must have an image, got none of 8; add images, or choose another split"),
    row("an unknown split", None,
        "unknown split 'trian'; did you mean 'train'? known: all, train, tune, val, train-fit, train-tune; choose by "
        "train_split and "
        "eval_split; train-tune is a fifth of train to tune on", command=(*RUN, "--train-split", "trian")),
    row("a split that is not there", splits({"train": [1], "val": [2], "test": [3]}),
        "unknown split 'tune'; known: all, train, val, test, train-fit, train-tune; choose by train_split and "
        "eval_split; train-tune is a fifth of "
        "train to tune on",
        command=(*RUN, "--eval-split", "tune")),
    # too little
    row("no image at all", lambda: (
        write("pets/annotations.json", {**document(), "images": [], "annotations": []}), os.unlink("pets/splits.json"),
    ),
        "pets/annotations.json: split 'train' must have an image, got none of 0; add images, or choose another split"),
    row("one image, so no val", first(1),
        "pets/annotations.json: split 'tune' must have an image, got none of 1; add images, or choose another split"),
    row("fewer images than a batch", None,
        "the split must hold at least one batch of 5 images, got 4; lower batch_size or give more images",
        command=(*RUN, "--batch-size", "5")),
    row("a batch of one image so small that its coarsest map is one cell", None,
        "batch_size must be at least 2 for images as small as 32 x 32 pixels, got 1; raise it, or use larger images",
        command=(*RUN, "--batch-size", "1", "--image-size", "32")),
    # unusual, and fine
    row(
        "three images, no splits.json", first(3), "",
        says("train:      1 images", "tune:      1 images", "val:      1 images"),
    ),
    row(
        "splits that share images", splits({"train": [1, 2, 3, 4], "val": [4, 5]}), "",
        says("images in two splits: in val, 1 of 1 that train has too, byte for byte"),
    ),
    row("a class absent from train", only(3, range(1, 5)), "", says("AP "), command=RUN),
    row("a class absent from val", only(3, range(7, 9)), "", says("AP "), command=RUN),
    row("no box in train", no_box(range(1, 5)),
        "data must pass the check 'objects to learn', got: in train, none; give a split with "
        "objects, or set iscrowd to 0",
        command=RUN),
    row("no box in val, so no score", no_box(range(7, 9)), "", says("AP n/a (no ground truth)"), command=RUN),
]
