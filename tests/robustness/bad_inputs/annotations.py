"""Bad annotations: what a COCO file can get wrong, and what it may leave out."""
import json
import os

from .world import CHECK, RUN, SIDE, Row, annotations, changed, document, holds, twice, without, write


def sparse() -> None:
    """A file of 2 GiB and a byte that takes no room on the disk."""
    with open("pets/annotations.json", "ab") as file:
        os.truncate(file.fileno(), 2 * 2**30 + 1)


def row(name, spoil, says, check=None) -> Row:
    return Row(name, spoil, CHECK, says, check)


def text(content) -> object:
    return holds("pets/annotations.json", content)


def says(*words):
    """A check that what was printed holds these words."""
    def check(printed: str) -> None:
        assert [each for each in words if each not in printed] == [], printed

    return check


def cut_text(drop: int) -> None:
    write("pets/annotations.json", json.dumps(document())[:-drop])


@annotations
def crowded(data: dict) -> None:
    data["annotations"] += [dict(data["annotations"][0], id=1000 + n) for n in range(5000)]


@annotations
def strange_ids(data: dict) -> None:
    data["annotations"][0]["id"], data["annotations"][1]["id"] = 0, 2**63 - 1
    data["categories"].append({"id": 2**62, "name": "bird"})


def drawn(first=None):
    """A spoiler that gives every object a polygon, an even image's object run lengths, and the first object something
    else."""
    def edit(data: dict) -> None:
        for each in data["annotations"]:
            each["segmentation"] = LENGTHS if each["image_id"] % 2 == 0 else POLYGON
        if first is not None:
            data["annotations"][0]["segmentation"] = first

    return annotations(edit)


@annotations
def gaps(data: dict) -> None:
    """COCO's own numbering: category ids with gaps, not in the order of the list."""
    number = {7: 90, 3: 1}
    for each in data["annotations"]:
        each["category_id"] = number[each["category_id"]]
    for each in data["categories"]:
        each["id"] = number[each["id"]]
    data["categories"].append({"id": 27, "name": "backpack"})


def outline(name, first, line, command=None) -> Row:
    """A row about the outline of the first object, which is looked at where masks are asked for."""
    return Row(f"outline: {name}", drawn(first), command or MASKS, line)


MASKS = (*CHECK, "--masks")
LEARN_MASKS = (*RUN, "--detector", "mask_rcnn", "--student", "small_s", "--init", "random")
POLYGON = [[8.0, 8.0, 32.0, 8.0, 32.0, 40.0, 8.0, 40.0]]
LENGTHS = {"size": [SIDE, SIDE], "counts": [8 * SIDE, 24 * SIDE, 32 * SIDE]}
FIRST = "pets/annotations.json: annotation 10 of image 1 '1.png' must have "
POINTS, SIZE, READ = (
    "polygons of at least 3 points, [[x1, y1, x2, y2, x3, y3, ...], "
    "...],", "polygons, or run lengths of size [64, 64],", "run lengths that can be read"
)
ADDS_UP = "run lengths that add up to 64 x 64"
OTHERWISE = "export polygons or run lengths, or choose a detector without masks, such as faster_rcnn"


@annotations
def bare(data: dict) -> None:
    for each in data["annotations"]:
        del each["area"], each["iscrowd"]


ROWS = [
    # the file
    row("empty file", text(""),
        "pets/annotations.json must be whole JSON, got a fault at line 1, column 1 (the file ends there, after 0 "
        "bytes); copy or export it again"),
    row("not JSON, but Python", text("{'images': []}"),
        "pets/annotations.json must be whole JSON, got a fault at line 1, column 2 (...); copy or export it again"),
    row("truncated", lambda: cut_text(30),
        "pets/annotations.json must be whole JSON, got a fault at line 1, column 1312 (the file ends there, after 1315 "
        "bytes); copy or export it "
        "again"),
    row("truncated within a text", lambda: cut_text(3),
        "pets/annotations.json must be whole JSON, got a fault at line 1, column 1343 (the file ends there, after 1342 "
        "bytes); copy or export it "
        "again"),
    row(
        "not UTF-8", text('{"images": "\udcff"}'),
        "pets/annotations.json must be readable JSON in UTF-8, got: ...; copy or export it again",
    ),
    row(
        "brackets without end", text("[" * 200_000),
        "pets/annotations.json must be readable JSON in UTF-8, got: ...; copy or export it again",
    ),
    row("a number of 5000 digits", text('{"images": ' + "1" * 5000 + "}"),
        "pets/annotations.json must be readable JSON in UTF-8, got: ...; copy or export it again"),
    row(
        "over 2 GiB", sparse,
        "pets/annotations.json must have at most 2147483648 bytes, got 2147483649; cut it into several data sets",
    ),
    row("a list on top", text("[1, 2]"),
        "pets/annotations.json must hold a JSON object with images, annotations and categories, got [1, 2]; export it "
        "as COCO detection "
        "annotations"),
    row("no images", without("images"),
        "pets/annotations.json must have a list 'images', got only 'annotations', 'categories'; export it as COCO "
        "detection annotations"),
    row("no annotations", without("annotations"),
        "pets/annotations.json must have a list 'annotations', got only 'images', 'categories'; export it as COCO "
        "detection annotations"),
    row("no categories", without("categories"),
        "pets/annotations.json must have a list 'categories', got only 'images', 'annotations'; export it as COCO "
        "detection annotations"),
    row("no class", annotations(lambda data: data["categories"].clear()),
        "pets/annotations.json: 'categories' must list at least one class and at most 30000, got none; export it as "
        "COCO detection annotations"),
    row("30,001 classes", annotations(
        lambda data: data.update(categories=[{"id": n, "name": str(n)} for n in range(30_001)])
    ),
        "pets/annotations.json: 'categories' must list at least one class and at most 30000, got 30001; export it as "
        "COCO detection annotations"),
    row("images by name, not in a list", annotations(lambda data: data.update(images={"1": {}})),
        "pets/annotations.json must have a list 'images', got {'1': {}}; export it as COCO detection annotations"),
    row("an image that is a file name", annotations(lambda data: data.update(images=["1.png"])),
        "pets/annotations.json: entry 1 of 'images' must be an object, got '1.png'; correct or remove it in the file"),
    # keys
    *(row(f"{part} without {key}", without(part, key),
        f"pets/annotations.json: entry 2 of {part!r} must have a key {key!r}, got ...; add it" + (
            ": x, y, width, height in pixels, the extent of the object" if key == "bbox" else ""
        )) for part, key in [
        ("images", "id"), ("images", "file_name"), ("images", "width"), ("images", "height"), ("categories", "id"),
        ("categories", "name"),
        ("annotations", "id"), ("annotations", "image_id"), ("annotations", "category_id"), ("annotations", "bbox")]),
    # ids
    row("an image id that is a text", changed("images", id="1"),
        "pets/annotations.json: entry 1 of 'images' must have a whole number from 0 up as 'id', got '1'; correct or "
        "remove it in the file"),
    row("an image id that is true", changed("images", id=True),
        "pets/annotations.json: entry 1 of 'images' must have a whole number from 0 up as 'id', got True; correct or "
        "remove it in the file"),
    row("a negative annotation id", changed("annotations", id=-1),
        "pets/annotations.json: entry 1 of 'annotations' must have a whole number from 0 up as 'id', got -1; correct "
        "or remove it in the file"),
    row("an id that no 64 bits hold", changed("annotations", id=2**63),
        "pets/annotations.json: entry 1 of 'annotations' must have a whole number from 0 up as 'id', got "
        "9223372036854775808; correct or remove "
        "it in the file"),
    row(
        "an image id twice", twice("images"),
        "pets/annotations.json: ids in 'images' must be unique, got 1 twice; number the entries anew",
    ),
    row("an annotation id twice", twice("annotations"),
        "pets/annotations.json: ids in 'annotations' must be unique, got 10 twice; number the entries anew"),
    row("a category id twice", twice("categories"),
        "pets/annotations.json: ids in 'categories' must be unique, got 7 twice; number the entries anew"),
    row("a file of two images", changed("images", file_name="2.png"),
        "pets/annotations.json: every image must have a file of its own, got '2.png' twice; merge the entries into "
        "one"),
    row("an unknown category", changed("annotations", category_id=4),
        "pets/annotations.json: annotation 10 of image 1 '1.png' must have a 'category_id' among [3, 7], got 4; "
        "correct it, or add the category"),
    row("an unknown image", changed("annotations", image_id=99),
        "pets/annotations.json: annotation 10 must have the 'image_id' of one of the 8 images, got 99; correct or "
        "remove it in the file"),
    row("an image id in a list", changed("annotations", image_id=[1]),
        "pets/annotations.json: annotation 10 must have the 'image_id' of one of the 8 images, got [1]; correct or "
        "remove it in the file"),
    row("a class whose name is a number", changed("categories", name=5),
        "pets/annotations.json: category 7 must have a text as 'name', got 5; correct or remove it in the file"),
    # boxes
    row("a box of three numbers", changed("annotations", bbox=[1, 2, 3]),
        "pets/annotations.json: annotation 10 of image 1 '1.png' must have 4 finite numbers x, y, width, height as "
        "'bbox', got [1, 2, 3]; "
        "correct or remove it in the file"),
    row("no box", changed("annotations", bbox=None),
        "pets/annotations.json: annotation 10 of image 1 '1.png' must have 4 finite numbers x, y, width, height as "
        "'bbox', got None; correct or "
        "remove it in the file"),
    row("a text in a box", changed("annotations", bbox=[1, 2, "3", 4]),
        "pets/annotations.json: annotation 10 of image 1 '1.png' must have 4 finite numbers x, y, width, height as "
        "'bbox', got [1, 2, '3', 4]; "
        "correct or remove it in the file"),
    row("NaN in a box", changed("annotations", bbox=[1, 2, float("nan"), 4]),
        "pets/annotations.json: annotation 10 of image 1 '1.png' must have 4 finite numbers x, y, width, height as "
        "'bbox', got [1, 2, nan, 4]; "
        "correct or remove it in the file"),
    row("infinity in a box", changed("annotations", bbox=[1, 2, float("inf"), 4]),
        "pets/annotations.json: annotation 10 of image 1 '1.png' must have 4 finite numbers x, y, width, height as "
        "'bbox', got [1, 2, inf, 4]; "
        "correct or remove it in the file"),
    row("a number of 400 digits in a box", changed("annotations", bbox=[1, 2, 10**400, 4]),
        "pets/annotations.json: annotation 10 of image 1 '1.png' must have 4 finite numbers x, y, width, height as "
        "'bbox', got [1, 2, "
        "10000000000000000000000000000000000000000000000000000... (412 characters); correct or remove it in the file"),
    row("negative width", changed("annotations", bbox=[9, 2, -3, 4]),
        "pets/annotations.json: annotation 10 of image 1 '1.png' must have a positive width and height in 'bbox' (x, "
        "y, width, height), got [9, "
        "2, -3, 4]; correct or remove it; 'bbox' must not be x1, y1, x2, y2"),
    row("zero height", changed("annotations", bbox=[9, 2, 3, 0.0]),
        "pets/annotations.json: annotation 10 of image 1 '1.png' must have a positive width and height in 'bbox' (x, "
        "y, width, height), got [9, "
        "2, 3, 0.0]; correct or remove it; 'bbox' must not be x1, y1, x2, y2"),
    row("several boxes with one defect", annotations(
        lambda data: [each.update(bbox=[9, 2, -3, 4]) for each in data["annotations"][2:]]
    ),
        "pets/annotations.json: annotation 30 of image 3 '3.png' must have a positive width and height in 'bbox' (x, "
        "y, width, height), got [9, "
        "2, -3, 4] (and 5 more like it); correct or remove it; 'bbox' must not be x1, y1, x2, y2"),
    row("a box right of its image", changed("annotations", bbox=[64, 2, 3, 4]),
        "pets/annotations.json: annotation 10 of image 1 '1.png' must have a 'bbox' (x, y, width, height) that "
        "overlaps its image of 64 x 64 "
        "pixels, got [64, 2, 3, 4]; correct or remove the box, or correct the image's width and height"),
    Row("run: a box right of its image", changed("annotations", bbox=[64, 2, 3, 4]), RUN,
        "pets/annotations.json: annotation 10 of image 1 '1.png' must have a 'bbox' (x, y, width, height) that "
        "overlaps its image of 64 x 64 "
        "pixels, got [64, 2, 3, 4]; correct or remove the box, or correct the image's width and height"),
    row("a box left of its image", changed("annotations", bbox=[-9, 2, 9, 4]),
        "pets/annotations.json: annotation 10 of image 1 '1.png' must have a 'bbox' (x, y, width, height) that "
        "overlaps its image of 64 x 64 "
        "pixels, got [-9, 2, 9, 4]; correct or remove the box, or correct the image's width and height"),
    row("a sliver that float32 loses", changed("annotations", bbox=[30, 2, 1e-9, 4]),
        "pets/annotations.json: annotation 10 of image 1 '1.png' must have a 'bbox' (x, y, width, height) that "
        "overlaps its image of 64 x 64 "
        "pixels, got [30, 2, 1e-09, 4]; correct or remove the box, or correct the image's width and height"),
    row("5001 boxes on an image", crowded,
        "pets/annotations.json: image 1 '1.png' must have at most 5000 boxes, got 5001; cut it into tiles, or look for "
        "a mistake in the image "
        "ids"),
    row("iscrowd of 2", changed("annotations", iscrowd=2),
        "pets/annotations.json: annotation 10 of image 1 '1.png' must have 0 or 1 as 'iscrowd', got 2; correct or "
        "remove it in the file"),
    row("a negative area", changed("annotations", area=-4),
        "pets/annotations.json: annotation 10 of image 1 '1.png' must have a number from 0 up as 'area', got -4; "
        "correct or remove it in the "
        "file"),
    # outlines, for Mask R-CNN
    Row("outline: none, and masks are to be learned", None, LEARN_MASKS,
        f"{FIRST}{SIZE} as 'segmentation', got None (and 3 more like it); {OTHERWISE}"),
    outline(
        "a polygon of two points, and masks are to be learned", [[8, 8, 32, 40]],
        f"{FIRST}{POINTS} as 'segmentation', got [[8, 8, 32, 40]]; {OTHERWISE}", LEARN_MASKS,
    ),
    outline("none on one object", [], f"{FIRST}{POINTS} as 'segmentation', got []; {OTHERWISE}"),
    outline(
        "a polygon whose last point has no y", [[8, 8, 32, 8, 32, 40, 8]],
        f"{FIRST}{POINTS} as 'segmentation', got [[8, 8, 32, 8, 32, 40, 8]]; {OTHERWISE}",
    ),
    outline(
        "NaN in a polygon", [[8, 8, 32, 8, 32, float("nan")]],
        f"{FIRST}{POINTS} as 'segmentation', got [[8, 8, 32, 8, 32, nan]]; {OTHERWISE}",
    ),
    outline(
        "a polygon that is not in a list", POLYGON[0],
        f"{FIRST}{POINTS} as 'segmentation', got [8.0, 8.0, 32.0, 8.0, 32.0, 40.0, 8.0, 40.0]; {OTHERWISE}",
    ),
    outline(
        "points as pairs", [[[8, 8], [32, 8], [32, 40]]],
        f"{FIRST}{POINTS} as 'segmentation', got [[[8, 8], [32, 8], [32, 40]]]; {OTHERWISE}",
    ),
    outline(
        "the name of a file with the mask", "1_mask.png",
        f"{FIRST}{SIZE} as 'segmentation', got '1_mask.png'; {OTHERWISE}",
    ),
    outline(
        "run lengths of another size", {"size": [32, 64], "counts": [2048]},
        f"{FIRST}{SIZE} as 'segmentation', got {{'size': [32, 64], 'counts': [2048]}}; {OTHERWISE}",
    ),
    outline(
        "run lengths without a size", {"counts": [4096]},
        f"{FIRST}{SIZE} as 'segmentation', got {{'counts': [4096]}}; {OTHERWISE}",
    ),
    outline("run lengths of 10^12 pixels", {"size": [10**6, 10**6], "counts": [10**12]},
        f"{FIRST}{SIZE} as 'segmentation', got {{'size': [1000000, 1000000], 'counts': [1000000000000]}}; {OTHERWISE}"),
    outline(
        "run lengths that add up to less", {"size": [64, 64], "counts": [4000]},
        f"{FIRST}{ADDS_UP} as 'segmentation', got {{'size': [64, 64], 'counts': [4000]}}; {OTHERWISE}",
    ),
    outline(
        "a negative run length", {"size": [64, 64], "counts": [4200, -104]},
        f"{FIRST}{ADDS_UP} as 'segmentation', got {{'size': [64, 64], 'counts': [4200, -104]}}; {OTHERWISE}",
    ),
    outline(
        "packed run lengths with a strange character", {"size": [64, 64], "counts": "\x01"},
        f"{FIRST}{READ} as 'segmentation', got {{'size': [64, 64], 'counts': '\\x01'}}; {OTHERWISE}",
    ),
    outline(
        "packed run lengths, cut off", {"size": [64, 64], "counts": "PPP"},
        f"{FIRST}{READ} as 'segmentation', got {{'size': [64, 64], 'counts': 'PPP'}}; {OTHERWISE}",
    ),
    # sizes and names of images
    row("width zero", changed("images", width=0),
        "pets/annotations.json: image 1 '1.png' must have a positive, whole 'width', got 0; write the size of the "
        "image file in pixels"),
    row("a height with a fraction", changed("images", height=30.5),
        "pets/annotations.json: image 1 '1.png' must have a positive, whole 'height', got 30.5; write the size of the "
        "image file in pixels"),
    row("an image of a terapixel", changed("images", width=10**6, height=10**6),
        "pets/annotations.json: image 1 '1.png' must have at most 89478485 pixels, got 1000000 x 1000000; cut it into "
        "tiles, or write the size "
        "of the image file"),
    row("an absolute file name", changed("images", file_name="/etc/passwd"),
        "pets/images must hold the 8 image files of split 'all', got 1 missing, the first '/etc/passwd' of image 1; "
        "put them there, or take those images out of the split"),
    row("a file name with a drive", changed("images", file_name="C:\\a.png"),
        "pets/images must hold the 8 image files of split 'all', got 1 missing, the first 'C:\\\\a.png' of image 1; "
        "put them there, or take those images out of the split"),
    row("a file name that climbs out", changed("images", file_name="a/../../b.png"),
        "pets/images must hold the 8 image files of split 'all', got 1 missing, the first 'a/../../b.png' of image 1; "
        "put them there, or take those images out of the split"),
    row("a file name that climbs out on Windows", changed("images", file_name="a\\..\\..\\b.png"),
        "pets/images must hold the 8 image files of split 'all', got 1 missing, the first "
        "'a\\\\..\\\\..\\\\b.png' of image 1; "
        "put them there, or take those images out of the split"),
    row("an empty file name", changed("images", file_name=""),
        "pets/annotations.json: image 1 must have a 'file_name' within the image folder, got ''; write it relative to "
        "the image folder, without "
        "'..'"),
    row("a file name that is a number", changed("images", file_name=5),
        "pets/annotations.json: image 1 must have a 'file_name' within the image folder, got 5; write it relative to "
        "the image folder, without "
        "'..'"),
    row("a newline in a file name", changed("images", file_name="a\nb.png"),
        "pets/images must hold the 8 image files of split 'all', got 1 missing, the first 'a\\nb.png' of image 1; put "
        "them there, or take those "
        "images out of the split"),
    row("a null in a file name", changed("images", file_name="a\0b.png"),
        "pets/images must hold the 8 image files of split 'all', got 1 missing, the first "
        "'a\\x00b.png' of image 1; "
        "put them there, or take "
        "those images out of the split"),
    row("half a character in a file name", changed("images", file_name="\ud800.png"),
        "pets/images must hold the 8 image files of split 'all', got 1 missing, the first '\\ud800.png' of image 1; "
        "put them there, or take "
        "those images out of the split"),
    row("a file name of 999 letters", changed("images", file_name="a" * 999),
        "pets/images must hold the 8 image files of split 'all', got 1 missing, the first "
        "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa... (1001 characters) of image 1; put them there, "
        "or take those images out "
        "of the split"),
    # unusual, and fine
    row("an id of 0, and others near 2^63", strange_ids, "", says("3 classes")),
    Row("categories with gaps in their ids, out of order, one of them without a box", gaps, RUN, "", says("AP ")),
    row("no area, no iscrowd, no info", bare, "", says("8 boxes")),
    Row("outlines of both kinds", drawn(), MASKS, "", says("8 of 8 objects: 4 polygons, 4 run lengths")),
    Row("outlines of both kinds, and masks are to be learned", drawn(), LEARN_MASKS, "", says("mask_AP ")),
    row(
        "a broken outline, where no masks are asked for", drawn([[8, 8, 32, 40]]), "",
        says("7 of 8 objects", "mask_rcnn would refuse it"),
    ),
    row("boxes alone", None, "", says("segmentation masks in pets/annotations.json: none; mask_rcnn needs them")),
    row(
        "a crowd", changed("annotations", iscrowd=1, segmentation={"counts": [0, 4096], "size": [64, 64]}), "",
        says("8 boxes"),
    ),
    row("a box past the border", changed("annotations", bbox=[50, 50, 100, 100]), "", says(
        "1 box past the border of the image was cut there")),
    row(
        "keys that nobody knows, and a byte order mark",
        lambda: write("pets/annotations.json", "\ufeff" + json.dumps({**document(), "mood": "good"})), "",
        says("8 images")),
]
