"""``fgdlab import`` and ``fgdlab export``: checkpoints in and out."""
from pathlib import Path

import click

from ..errors import UserError
from .settings_flags import PATH


@click.command("import")
@click.argument("file", type=PATH)
@click.option("--detector", required=True, help="retinanet, fcos, faster_rcnn, mask_rcnn, reppoints, gfl or yolox")
@click.option("--backbone", required=True,
              help="as in the checkpoint, such as resnet50, resnet50_caffe, resnext101_64x4d or yolox_s")
@click.option("--classes", type=click.IntRange(1), default=None,
              help="number of classes  [default: that of the checkpoint's classifier]")
@click.option("--parts", type=click.Choice(["all", "backbone+neck"]), default="all", show_default=True,
              help="backbone+neck for a Cascade Mask R-CNN")
@click.option("--strict/--no-strict", default=True, show_default=True,
              help="refuse a checkpoint with missing or unused tensors")
@click.option("--out", type=PATH, required=True, help="the .safetensors file to write")
def import_(
    file: Path, detector: str, backbone: str, classes: int | None, parts: str, strict: bool, out: Path,
) -> None:
    """Convert an MMDetection checkpoint, or a YOLOX of Megvii's, to a .safetensors file.

    The file knows how to build its detector. Of a distillation checkpoint, the authors' or MMRazor's, only the student
    is kept. No code in the file is executed.
    """
    from ..checkpoints import classes_of, fcos_options, load_mmdet, read_state, save_weights, student_of, weights_hash
    from ..detectors import build

    if out.suffix != ".safetensors":
        raise UserError(f"--out must end in .safetensors, got {str(out)!r}")
    state = student_of(read_state(file))
    classes = classes or classes_of(state)
    if classes is None:
        remedy = "say --classes"
        if any(name.startswith("backbone.fpn.") for name in state):
            remedy = "its names are torchvision's, so give it to a run as it is, by --teacher-checkpoint"
        raise UserError(f"{file} must hold a classifier in MMDetection's names, got none; {remedy}")
    settings = {"name": detector, "backbone": backbone, "classes": classes, "flavour": "mmdet"}
    if detector == "fcos":
        settings |= fcos_options(state)
    model = build(**settings)
    report = load_mmdet(model, state, strict=strict, parts=parts)
    source = {"file": file.name, "key": weights_hash(file)}
    save_weights(model, out, build=settings, source=source, missing=report.missing)
    click.echo(f"{report}\n{out}: {detector} on {backbone}, {classes} classes")


@click.command()
@click.argument("source", type=PATH)
@click.option("--out", type=PATH, required=True, help="the .pth, .safetensors or .onnx file to write")
@click.option("--size", nargs=2, type=click.IntRange(32, 4096), default=None, metavar="HEIGHT WIDTH",
              help=".onnx: size of the images in pixels, as they are after shrinking  [default: image_size twice]")
@click.option("--names", type=click.Choice(["torchvision", "mmdet", "megvii"]), default="torchvision",
              show_default=True, help="whose names the tensors get")
def export(source: Path, out: Path, size: tuple[int, int] | None, names: str) -> None:
    """Write a trained student as a plain state dict, or as ONNX.

    SOURCE is the folder of a run or a .safetensors file. Teacher and loss are left out. With torchvision's names it
    loads into torchvision's own class; with MMDetection's, into a detector of its configs; with Megvii's, into
    their YOLOX.

    An .onnx file takes one image (3, H, W) of one size with values in 0..1, and gives boxes, labels (1 = first class)
    and scores. It is kept only if onnxruntime gives the detections of the student.
    """
    from ..checkpoints import described, export_onnx, export_student

    if out.suffix == ".onnx":
        config, _ = described(source)
        size = size or (config.image_size if config else 0,) * 2
        if not min(size):
            raise UserError("--size must be given for this student, got none; for example --size 480 640")
        count, box, score = export_onnx(source, out, sample_images(config, size))
        equal = f"{count} detections as the student's, up to {box:.1g} px and {score:.1g} in score"
        click.echo(f"{out}: one image of {size[0]} x {size[1]} pixels; {equal}")
        return
    settings = export_student(source, out, names)
    click.echo(f"{out}: {', '.join(f'{name} {value}' for name, value in settings.items())}")
    if names == "torchvision":
        click.echo(
            "the student was trained on unresized images; torchvision's class resizes to 800 pixels "
            "unless min_size and max_size are given"
        )


def sample_images(config, size: tuple[int, int]) -> list:
    """Four images of a run's evaluation split, cut or padded to (height, width); noise where the data are not here."""
    import torch

    from ..datasets import open_split

    try:
        dataset = open_split(config, config.eval_split, progress=False) if config else []
        images = [dataset[i][0] for i in range(min(4, len(dataset)))]
    except UserError:
        images = []
    noise = torch.rand(4, 3, *size, generator=torch.Generator().manual_seed(0))
    for canvas, image in zip(noise, images, strict=False):
        height, width = (min(pair) for pair in zip(size, image.shape[1:], strict=True))
        canvas.zero_()[:, :height, :width] = image[:, :height, :width]
    return list(noise)
