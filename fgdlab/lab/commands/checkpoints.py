"""``fgdlab import`` and ``fgdlab export``: checkpoints in and out."""
from pathlib import Path

import click

from ..errors import UserError
from .settings_flags import PATH


@click.command("import")
@click.argument("file", type=PATH)
@click.option("--detector", required=True, help="retinanet, fcos, faster_rcnn, mask_rcnn or reppoints")
@click.option("--backbone", required=True,
              help="as in the checkpoint, such as resnet50, resnet50_caffe, resnext101_64x4d or resnext101_32x4d_dconv")
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
    """Convert an MMDetection checkpoint to a .safetensors file.

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
        raise UserError(f"{file} must hold a classifier that is known here, got none; say --classes")
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
@click.option("--out", type=PATH, required=True, help="the .pth or .safetensors file to write")
@click.option("--names", type=click.Choice(["torchvision", "mmdet"]), default="torchvision", show_default=True,
              help="whose names the tensors get")
def export(source: Path, out: Path, names: str) -> None:
    """Write a trained student as a plain state dict.

    SOURCE is the folder of a run or a .safetensors file. Teacher and loss are left out. With torchvision's names it
    loads into torchvision's own class; with MMDetection's, into a detector of its configs.
    """
    from ..checkpoints import export_student

    settings = export_student(source, out, names)
    click.echo(f"{out}: {', '.join(f'{name} {value}' for name, value in settings.items())}")
    if names == "torchvision":
        click.echo(
            "the student was trained on unresized images; torchvision's class resizes to 800 pixels "
            "unless min_size and max_size are given"
        )
