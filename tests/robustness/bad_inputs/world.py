"""The folder in which every row begins: it holds a good data set, ``pets``, in which a row spoils one thing.

pets: eight PNGs of 64 x 64 pixels, each with a white box on black; train 1-4, tune 5-6, val 7-8; classes dog (id 3) and
    cat (id 7).
"""
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

SIDE = 64
CHECK = ("data", "check", "pets")
PETS = (
    "--data", "pets", "--image-size", "0", "--train-images", "0", "--eval-images", "0", "--epochs", "1", "--batch-size",
    "2",
)
RUN = ("run", *PETS)
TAUGHT = (
    *RUN, "--method", "fgd", "--teacher", "compact_s", "--teacher-epochs", "1", "--teacher-batch-size", "2", "--out",
    "mine",
)

SWEEP = (
    "sweep", "table1_areas", "--scale", "smoke", "--out", "mine", "--set", "data=pets", "--set", "image_size=0",
    "--set", "train_images=0",
    "--set", "eval_images=0", "--set", "batch_size=2", "--set", "teacher_batch_size=2",
)


@dataclass(frozen=True)
class Row:
    """One bad input, or one that is only unusual and must work.

    name: what is wrong, as the page prints it. spoil: makes it so, in the current folder. command: arguments of
        ``fgdlab``.
    says: the line after "Error: ", whole; ``...`` stands for words of other libraries. "" = it works.
    check: facts that must hold afterwards, called with what was printed.
    around: a context manager under which the command runs, for a disk or a clock that is not well.
    trained: begin in a world where the run of ``TAUGHT`` is done. elsewhere: the test that tries it, where it needs
        more than one command.
    """

    name: str
    spoil: Callable[[], object] | None
    command: tuple[str, ...]
    says: str
    check: Callable[[str], object] | None = None
    around: Callable | None = None
    trained: bool = False
    elsewhere: str = ""


def document() -> dict:
    """The annotations of pets: annotation 10 n of image n."""
    return {
        "images": [{"id": n, "file_name": f"{n}.png", "width": SIDE, "height": SIDE} for n in range(1, 9)],
        "annotations": [
            {
                "id": 10 * n, "image_id": n, "category_id": (7, 3)[n % 2], "bbox": [8, 8, 24, 32], "area": 768,
                "iscrowd": 0,
            } for n in range(1, 9)
        ],
        "categories": [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}],
    }


def make_pets() -> None:
    """Write pets into the current folder."""
    folder = Path("pets/images")
    folder.mkdir(parents=True)
    for n in range(1, 9):
        picture().save(folder / f"{n}.png")
    write("pets/annotations.json", document())
    write("pets/splits.json", {"train": [1, 2, 3, 4], "tune": [5, 6], "val": [7, 8]})


def picture(width: int = SIDE, height: int = SIDE, mode: str = "RGB") -> Image.Image:
    image = Image.new("RGB", (width, height))
    image.paste((255, 255, 255), (8, 8, 32, 40))
    return image.convert(mode)


def write(path: str | Path, value) -> None:
    """Text and bytes as they are, anything else as JSON."""
    content = value if isinstance(value, (str, bytes)) else json.dumps(value)
    Path(path).write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", errors="surrogateescape"))


def annotations(edit: Callable[[dict], object]) -> Callable[[], None]:
    """A spoiler that edits annotations.json."""
    def spoil() -> None:
        data = json.loads(Path("pets/annotations.json").read_text())
        edit(data)
        write("pets/annotations.json", data)

    return spoil


def changed(part: str, entry: int = 0, **values) -> Callable[[], None]:
    """A spoiler that sets keys of one entry of annotations.json, the first if not said."""
    return annotations(lambda data: data[part][entry].update(values))


def without(part: str, key: str | None = None, entry: int = 1) -> Callable[[], None]:
    return annotations(lambda data: data[part][entry].pop(key) if key else data.pop(part))


def twice(part: str) -> Callable[[], None]:
    return annotations(lambda data: data[part].append(dict(data[part][0], file_name="x.png")))


def holds(path: str, value) -> Callable[[], None]:
    """A spoiler that writes a file."""
    return lambda: write(path, value() if callable(value) else value)


def cut(path: str, keep: float = 0.5) -> Callable[[], None]:
    """A spoiler that keeps the first part of a file; of several that the pattern finds, of all."""
    def spoil() -> None:
        for found in sorted(Path().glob(path)) or [Path(path)]:
            os.truncate(found, int(found.stat().st_size * keep))

    return spoil
