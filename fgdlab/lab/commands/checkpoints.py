"""``fgdlab import`` and ``fgdlab export``: checkpoints in and out."""
from pathlib import Path

import click

from ..errors import UserError


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--detector", required=True, help="retinanet, fcos, faster_rcnn, mask_rcnn or reppoints")
@click.option("--backbone", required=True, help="as in the checkpoint, such as resnet50, resnet50_caffe, resnext101_64x4d or resnext101_32x4d_dconv")
@click.option("--classes", type=click.IntRange(1), default=None, help="number of classes  [default: read off the checkpoint's classifier]")
@click.option("--parts", type=click.Choice(["all", "backbone+neck"]), default="all", show_default=True, help="backbone+neck for a Cascade Mask R-CNN")
@click.option("--strict/--no-strict", default=True, show_default=True, help="refuse a checkpoint that leaves tensors over or wanting")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="the .safetensors file to write")
def import_(file: Path, detector: str, backbone: str, classes: int | None, parts: str, strict: bool, out: Path) -> None:
    """Bring an MMDetection checkpoint into a .safetensors file that knows how its detector is built.

    The checkpoint of a distillation, the authors' or MMRazor's, is reduced to its student. Nothing in the file is executed.
    """
    from ..checkpoints import classes_of, fcos_options, load_mmdet, read_state, save_weights, student_of, weights_hash
    from ..detectors import build

    if out.suffix != ".safetensors":
        raise UserError(f"--out must end in .safetensors, got {str(out)!r}")
    state = student_of(read_state(file))
    classes = classes or classes_of(state)
    if classes is None:
        raise UserError(f"{file} must hold a classifier that is known here, got none; say --classes")
    settings = {"name": detector, "backbone": backbone, "classes": classes, "flavour": "mmdet", **(fcos_options(state) if detector == "fcos" else {})}
    made = build(**settings)
    report = load_mmdet(made, state, strict=strict, parts=parts)
    save_weights(made, out, build=settings, source={"file": file.name, "key": weights_hash(file)}, missing=report.missing)
    click.echo(f"{report}\n{out}: {detector} on {backbone}, {classes} classes")


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="the .pth or .safetensors file to write")
@click.option("--names", type=click.Choice(["torchvision", "mmdet"]), default="torchvision", show_default=True, help="whose names its tensors get")
def export(source: Path, out: Path, names: str) -> None:
    """Write the student of a run (its folder) or a .safetensors file as a plain state dict, without teacher or loss.

    Under torchvision's names it loads into torchvision's own class; under MMDetection's, into a detector of its configs.
    """
    from ..checkpoints import export_student

    settings = export_student(source, out, names)
    click.echo(f"{out}: {', '.join(f'{name} {value}' for name, value in settings.items())}")
    if names == "torchvision":
        click.echo("it saw its images unresized; torchvision's class resizes to 800 pixels unless min_size and max_size say otherwise")

