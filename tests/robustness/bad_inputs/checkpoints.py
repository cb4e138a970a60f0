"""Bad checkpoints: weights that others give, and files of a run that came to harm.

The detector that is asked for is ``compact_s`` for the two classes of pets. A file that holds code writes
``broken_into`` when it is run.
"""
import io
import json
import os
import pickle
import struct
import urllib.error
import zipfile
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import torch

from .annotations import says
from .world import SWEEP, TAUGHT, Row, cut, holds

GIVEN = (*TAUGHT, "--teacher-checkpoint", "t.safetensors")
AGAIN = TAUGHT


def row(name, spoil, line, check=None) -> Row:
    return Row(name, spoil, GIVEN, line, check)


def resumed(name, spoil, line, check=None, command=AGAIN) -> Row:
    """A row that finds a run in ``mine``: done, with all its files, or without result.json where the spoiler takes it
    away."""
    return Row(name, spoil, command, line, check, trained=True)


def weights(edit=lambda state: state, *, backbone: str = "compact_s", classes: int = 2, **header):
    """A spoiler that writes t.safetensors: random weights, edited."""
    def spoil() -> None:
        from safetensors.torch import save_file

        from fgdlab.lab.detectors.builder import build

        torch.manual_seed(0)
        state = edit({name: each.clone() for name, each in build("retinanet", backbone, classes).state_dict().items()})
        save_file(state, "t.safetensors", metadata=header or None)

    return spoil


def with_first(value):
    """An edit that puts a value into the first tensor of floating point numbers."""
    def edit(state):
        name = next(name for name, each in state.items() if each.is_floating_point())
        state[name].view(-1)[0] = value
        return state

    return edit


def halved(state):
    return {name: each.half() if each.is_floating_point() else each for name, each in state.items()}


def without_result(spoil):
    """As of a run that was interrupted after its last checkpoint."""
    def both() -> None:
        os.unlink("mine/result.json")
        spoil()

    return both


class Intruder:
    """Runs a command where it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch broken_into",)


def not_broken_into(printed: str) -> None:
    assert not Path("broken_into").exists()


def pickled() -> bytes:
    return pickle.dumps({"step": Intruder()})


def torch_archive(value=None) -> bytes:
    content = io.BytesIO()
    torch.save({"step": Intruder()} if value is None else value, content)
    return content.getvalue()


def zip_bomb() -> bytes:
    """An archive of 100 kB, laid out as torch does, one record of which unpacks to 100 MB."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"step": 1}))
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/data/0", b"\0" * 100_000_000)
    return content.getvalue()


def lying_header() -> bytes:
    """A safetensors header that promises a terabyte."""
    header = json.dumps({"w": {"dtype": "F32", "shape": [2**38], "data_offsets": [0, 2**40]}}).encode()
    return struct.pack("<Q", len(header)) + header


def claims(size: int) -> bytes:
    """A checkpoint of 1 kB, one tensor of which has so many numbers: all of them the same one."""
    return torch_archive({"state_dict": {"backbone.conv1.weight": torch.zeros(1).expand(size)}})


def told(**build):
    """A spoiler that writes t.safetensors, whose header says how its detector is built."""
    return weights(fgdlab=json.dumps({"build": {"name": "retinanet", "backbone": "compact_s", "classes": 2, **build}}))


IMPORT = ("import", "t.pth", "--detector", "retinanet", "--backbone", "resnet18", "--out", "mine.safetensors")
REFUSED = (
    "t.pth must be readable with weights_only=True, got a file that is not: {}. Loading such a file runs whatever code "
    "is in it; if you trust ..."
)


def imported(name, content, line, check=None, command=IMPORT) -> Row:
    return Row(f"import: {name}", content and holds("t.pth", content), command, line, check)


@contextmanager
def no_network():
    """No address can be reached."""
    error = urllib.error.URLError(OSError(101, "Network is unreachable"))
    with mock.patch.object(torch.hub, "urlopen", side_effect=error):
        yield


def of_fcos() -> bytes:
    """Weights of another detector, in the names that torchvision gives them."""
    from fgdlab.lab.detectors.builder import build

    torch.manual_seed(0)
    return torch_archive(build("fcos", "small_s", 2).state_dict())


def teacher(name, checkpoint, line, content=None, check=None, around=None) -> Row:
    """A row about ``--teacher-checkpoint``; the file t.pth holds what is said."""
    return Row(
        f"teacher: {name}", content and holds("t.pth", content), (*TAUGHT, "--teacher-checkpoint", checkpoint), line,
        check, around,
    )


ADDRESS = "https://example.org/t.pth"
OFFERED = (
    "known: FasterRCNN_MobileNet_V3_Large_320_FPN_Weights.COCO_V1, ..., RetinaNet_ResNet50_FPN_V2_Weights.COCO_V1; "
    "write torchvision:NAME"
)

ROWS = [
    row("no such file", None, "weights must be a file, got 't.safetensors', which is none; check the path"),
    Row("sweep: no such file", None, (*SWEEP, "--set", "teacher_checkpoint=t.safetensors"),
        "weights must be a file, got 't.safetensors', which is none; check the path"),
    row(
        "a folder", lambda: os.mkdir("t.safetensors"),
        "weights must be a file, got 't.safetensors', which is none; check the path",
    ),
    row(
        "no bytes", holds("t.safetensors", b""),
        "t.safetensors must be a .safetensors file, got something else (...); export it anew",
    ),
    row("text", holds("t.safetensors", "junk, and more of it"),
        "t.safetensors must be a .safetensors file, got something else (...); export it anew"),
    row("truncated", lambda: (weights()(), cut("t.safetensors")()),
        "t.safetensors must be a .safetensors file, got something else (...); export it anew"),
    row("what torch.save writes", holds("t.safetensors", lambda: torch_archive({"w": torch.zeros(2)})),
        "t.safetensors must be a .safetensors file, got something else (...); export it anew"),
    row("a pickle with code in it", holds("t.safetensors", pickled),
        "t.safetensors must be a .safetensors file, got something else (...); export it anew", not_broken_into),
    row("a torch archive with code in it", holds("t.safetensors", torch_archive),
        "t.safetensors must be a .safetensors file, got something else (...); export it anew", not_broken_into),
    row(
        "a zip bomb", holds("t.safetensors", zip_bomb),
        "t.safetensors must be a .safetensors file, got something else (...); export it anew",
    ),
    row("a header that promises a terabyte", holds("t.safetensors", lying_header),
        "t.safetensors must be a .safetensors file, got something else (...); export it anew"),
    row("a header of 2^60 bytes", holds("t.safetensors", struct.pack("<Q", 2**60) + b"{}"),
        "t.safetensors must be a .safetensors file, got something else (...); export it anew"),
    row(
        "facts that are no JSON", weights(fgdlab="{"),
        "t.safetensors must have a readable header, got JSONDecodeError: ...; export it anew",
    ),
    row("facts that are a list", weights(fgdlab="[1]"),
        "t.safetensors must have its facts as a JSON object in its header, got list; export it anew"),
    row("another backbone", weights(backbone="compact_t"),
        "t.safetensors must hold the weights of retinanet on compact_s, got 54 tensors that differ, "
        "the first "
        "'backbone.stages.1.1.first.0.weight'; check "
        "detector, teacher and classes, or say teacher_parts=backbone+neck; torchvision:NAME takes what torchvision "
        "publishes, its v2 models too"),
    row("another number of classes", weights(classes=3),
        "t.safetensors must hold the weights of retinanet on compact_s, got 2 tensors that differ, "
        "the first "
        "'head.classification_head.cls_logits.weight'; check "
        "detector, teacher and classes, or say teacher_parts=backbone+neck; torchvision:NAME takes what torchvision "
        "publishes, its v2 models too"),
    row("renamed keys", weights(lambda state: {f"module.{name}": each for name, each in state.items()}),
        "", says("AP ")),
    row("a key missing", weights(lambda state: dict(list(state.items())[1:])),
        "t.safetensors must hold the weights of retinanet on compact_s, got 1 tensors that differ, "
        "the first "
        "'backbone.stem.0.weight'; check "
        "detector, teacher and classes, or say teacher_parts=backbone+neck; torchvision:NAME takes what torchvision "
        "publishes, its v2 models too"),
    row("whole numbers for weights", weights(lambda state: {name: each.to(torch.int8) for name, each in state.items()}),
        "t.safetensors must hold torch.float32 as 'backbone.stem.0.weight', got torch.int8; export the "
        "weights as floating point "
        "numbers"),
    row("NaN in the weights", weights(with_first(float("nan"))),
        "t.safetensors must hold finite weights, got NaN or infinity in 'backbone.stem.0.weight'; take a checkpoint "
        "from before the training "
        "broke"),
    row("infinity in the weights", weights(with_first(float("inf"))),
        "t.safetensors must hold finite weights, got NaN or infinity in 'backbone.stem.0.weight'; take a checkpoint "
        "from before the training "
        "broke"),
    row("weights in float16", weights(halved), "", says("teacher AP 0.0 (given)")),
    # as a teacher, of any origin
    teacher("no such .pth", "t.pth", "checkpoint must be a file, got 't.pth', which is none; check the path"),
    teacher("text in a .pth", "t.pth", REFUSED.format("..."), "junk, and more of it"),
    teacher(
        "a .pth, truncated", "t.pth", REFUSED.format("..."),
        lambda: torch_archive({"state_dict": {"w": torch.zeros(5000)}})[:9000],
    ),
    teacher(
        "a .pth with code in it", "t.pth", REFUSED.format("it is a pickle that would call ...system"), torch_archive,
        not_broken_into,
    ),
    teacher("a .pth without weights", "t.pth", "t.pth must hold a state dict of named tensors, got none; "
    "give the checkpoint of a detector",
        lambda: torch_archive({"epoch": 3})),
    teacher("a .pth of another detector", "t.pth",
        "t.pth must hold the weights of retinanet on compact_s, got ... tensors that differ, the first ...; check "
        "detector, teacher and classes, or say "
        "teacher_parts=backbone+neck; torchvision:NAME takes what torchvision publishes, its v2 models too", of_fcos),
    teacher("an address without encryption", "http://example.org/t.pth",
        "a checkpoint's address must begin with https:// and end in a file, got 'http://example.org/t.pth'; give that, "
        "or the path of a file"),
    teacher("an address that names no file", "https://example.org/",
        "a checkpoint's address must begin with https:// and end in a file, got 'https://example.org/'; give that, or "
        "the path of a file"),
    teacher("an address, and no network", ADDRESS,
        f"{ADDRESS} must give its file, got: [Errno 101] Network is unreachable; check the network, or download it "
        f"elsewhere and give the path of the file",
        around=no_network),
    teacher("a misspelt name of torchvision's weights", "torchvision:RetinaNet_ResNet50_FPN_V3_Weights.COCO_V1",
        f"unknown weights of torchvision 'RetinaNet_ResNet50_FPN_V3_Weights.COCO_V1'; did you mean "
        f"'RetinaNet_ResNet50_FPN_V2_Weights.COCO_V1'? {OFFERED}"),
    teacher("no name of torchvision's weights", "torchvision:", f"unknown weights of torchvision ''; {OFFERED}"),
    # of MMDetection
    imported("no such file", None, "checkpoint must be a file, got 't.pth', which is none; check the path"),
    imported("text", "junk, and more of it", REFUSED.format("...")),
    imported("no bytes", b"\n", REFUSED.format("...")),
    imported(
        "truncated", lambda: torch_archive({"state_dict": {"w": torch.zeros(5000)}})[:9000], REFUSED.format("..."),
    ),
    imported("a pickle with code in it", pickled, REFUSED.format("..."), not_broken_into),
    imported(
        "a torch archive with code in it", torch_archive, REFUSED.format("it is a pickle that would call ...system"),
        not_broken_into,
    ),
    imported(
        "a zip bomb", zip_bomb,
        "t.pth must be a checkpoint of its own size, got ... bytes that unpack to 100000...; ...",
    ),
    imported("a tensor of 4 TB in 1 kB", lambda: claims(2**40),
        "t.pth must hold every number of its tensors, got 'backbone.conv1.weight' of shape (1099511627776,) in ... "
        "bytes; export it anew from where "
        "it was trained"),
    imported("no weights", lambda: torch_archive({"epoch": 3}),
        "t.pth must hold a state dict of named tensors, got none; give the checkpoint of a detector"),
    imported("weights of something else", lambda: torch_archive({"state_dict": {"fc.weight": torch.zeros(2, 2)}}),
        "t.pth must hold a classifier in MMDetection's names, got none; say --classes"),
    imported("weights of another detector", lambda: torch_archive({"state_dict": {"fc.weight": torch.zeros(2, 2)}}),
        "the checkpoint must hold exactly this detector's tensors, got 1 too many (fc.weight) and ... missing (...); "
        "check detector and backbone, or "
        "load with strict=False (--no-strict)", command=(*IMPORT, "--classes", "2")),
    # of a detector that is to be exported
    Row(
        "export: no such run", None, ("export", "mine", "--out", "x.pth"),
        "weights must be a file, got 'mine', which is none; check the path",
    ),
    Row("export: weights without a word on their detector", weights(), ("export", "t.safetensors", "--out", "x.pth"),
        "t.safetensors must say in its header how its detector is built, got no such facts; give a run's folder or a "
        "file that `fgdlab import` wrote"),
    Row("export: a header that asks for 10^12 classes", told(classes=10**12), (
        "export", "t.safetensors", "--out", "x.pth",
    ),
        "t.safetensors must say in its header how its detector is built, got ...; give a run's folder or a file that "
        "`fgdlab import` wrote"),
    Row("export: a header with an option that no detector has", told(run="ls"), (
        "export", "t.safetensors", "--out", "x.pth",
    ),
        "t.safetensors must say in its header how its detector is built, got ...; give a run's folder or a file that "
        "`fgdlab import` wrote"),
    Row("export: a header with a list for the detector", weights(fgdlab='{"build": [1]}'), (
        "export", "t.safetensors", "--out", "x.pth",
    ),
        "t.safetensors must say in its header how its detector is built, got ...; give a run's folder or a file that "
        "`fgdlab import` wrote"),
    resumed("export: a run's weights, truncated", cut("mine/student.safetensors"),
        "mine/student.safetensors must be a .safetensors file, got something else (...); export it anew",
        command=("export", "mine", "--out", "x.pth")),
    # files of a run
    resumed("a run's checkpoint, truncated", without_result(cut("mine/checkpoint.pt")),
        "mine/checkpoint.pt must be a checkpoint of this run, got a file cut off, or of another kind; delete it to "
        "start the run anew"),
    resumed("a run's checkpoint, of no bytes", without_result(holds("mine/checkpoint.pt", b"")),
        "mine/checkpoint.pt must be a checkpoint of this run, got a file cut off, or of another kind; delete it to "
        "start the run anew"),
    resumed("a run's checkpoint, of another model", without_result(
        holds("mine/checkpoint.pt", lambda: torch_archive({"step": 1, "distiller": {}}))
    ),
        "mine/checkpoint.pt must be a checkpoint of this run, got RuntimeError; delete it to start the run anew"),
    resumed("a run's checkpoint, a pickle with code in it", without_result(holds("mine/checkpoint.pt", pickled)),
        "mine/checkpoint.pt must be a checkpoint of this run, got a file cut off, or of another kind; delete it to "
        "start the run anew",
        not_broken_into),
    resumed("a run's checkpoint, an archive with code in it", without_result(
        holds("mine/checkpoint.pt", torch_archive)
    ),
        "mine/checkpoint.pt must be a checkpoint of this run, got more than numbers, which may be code; delete it to "
        "start the run anew",
        not_broken_into),
    resumed("a run's checkpoint, a zip bomb", without_result(holds("mine/checkpoint.pt", zip_bomb)),
        "mine/checkpoint.pt must be a checkpoint of its own size, got ... bytes that unpack to ...; delete it, or take "
        "it from its author again"),
    resumed(
        "a run's settings, truncated", cut("mine/params.json"),
        "mine/params.json must be whole, got: ...; delete it, and it is made again",
    ),
    resumed(
        "a run's result, truncated", cut("mine/result.json"),
        "mine/result.json must be whole, got: ...; delete it, and it is made again",
    ),
    resumed("other settings in a run's folder", None,
        "mine must hold a run with the same settings, got other values for lr; choose another folder or delete this "
        "one",
        command=(*AGAIN, "--lr", "0.1")),
    resumed(
        "half a line at the end of metrics.jsonl", without_result(cut("mine/metrics.jsonl", 0.9)), "",
        says("teacher AP"),
    ),
]
