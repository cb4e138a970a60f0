"""``fgdlab import`` and ``fgdlab export``: checkpoints in and out."""
import click

from .. import checkpoints, datasets, detectors
from ..errors import UserError
from ..io import refuse_source
from .settings_flags import PATH, option


@click.command("import")
@click.argument("file", type=PATH)
@option("--detector", "retinanet, fcos, faster_rcnn, mask_rcnn, reppoints, gfl or yolox", required=True)
@option("--backbone",
        "as in the checkpoint, such as resnet50, resnet50_caffe, resnext101_64x4d or yolox_s", required=True)
@option("--classes", "number of classes  [default: that of the checkpoint's classifier]", type=click.IntRange(1))
@option("--parts", "backbone+neck for a Cascade Mask R-CNN", type=click.Choice(["all", "backbone+neck"]), default="all")
@option("--strict/--no-strict", "refuse a checkpoint with missing or unused tensors", default=True)
@option("--out", "the .safetensors file to write", type=PATH, required=True)
def import_(file, detector, backbone, classes, parts, strict, out) -> None:
    """Convert an MMDetection checkpoint, or a YOLOX of Megvii's, to a .safetensors file.

    The file knows how to build its detector. Of a distillation checkpoint, the authors' or MMRazor's, only the student
    is kept. No code in the file is executed.
    """
    if out.suffix != ".safetensors":
        raise UserError(f"--out must end in .safetensors, got {str(out)!r}")
    state, names = checkpoints.read_checkpoint(file)
    refuse_source(out, file)
    state = checkpoints.student_of(state)
    classes = classes or checkpoints.classes_of(state)
    if classes is None:
        remedy = "say --classes"
        if any(name.startswith("backbone.fpn.") for name in state):
            remedy = "its names are torchvision's, so give it to a run as it is, by --teacher-checkpoint"
        raise UserError(f"{file} must hold a classifier in MMDetection's names, got none; {remedy}")
    settings = {"name": detector, "backbone": backbone, "classes": classes, "flavour": "mmdet"}
    if detector == "fcos":
        settings |= checkpoints.fcos_options(state)
    model = detectors.build(**settings)
    report = checkpoints.load_mmdet(model, state, strict=strict, parts=parts)
    source = {"file": file.name, "key": checkpoints.weights_hash(file)}
    checkpoints.save_weights(model, out, build=settings, source=source, missing=report.missing, classes=names)
    click.echo(f"{report}\n{out}: {detector} on {backbone}, {classes} classes")


@click.command()
@click.argument("source", type=PATH)
@option("--out", "the .pth, .safetensors or .onnx file to write", type=PATH, required=True)
@option("--size",
        ".onnx: size of the images in pixels, as they are after shrinking  [default: image_size twice]",
        nargs=2, type=click.IntRange(32, 4096), metavar="HEIGHT WIDTH")
@option("--names", "whose names the tensors get",
        type=click.Choice(["torchvision", "mmdet", "megvii"]), default="torchvision")
def export(source, out, size, names) -> None:
    """Write a trained student as a plain state dict, or as ONNX.

    SOURCE is the folder of a run or a .safetensors file. Teacher and loss are left out. With torchvision's names it
    loads into torchvision's own class; with MMDetection's, into a detector of its configs; with Megvii's, into
    their YOLOX.

    An .onnx file takes one image (3, H, W) of one size with values in 0..1, and gives boxes, labels (1 = first class)
    and scores. It is kept only if onnxruntime gives the detections of the student.
    """
    if out.suffix == ".onnx":
        if names != "torchvision":
            raise UserError(f"--names must go with a .pth or .safetensors file, got {out.name}; leave it out")
        config, _ = checkpoints.described(source)
        size = size or (config.image_size if config else 0,) * 2
        if not min(size):
            raise UserError("--size must be given for this student, got none; for example --size 480 640")
        count, box, score = checkpoints.export_onnx(source, out, sample_images(config, size))
        equal = f"{count} detections as the student's, up to {box:.1g} px and {score:.1g} in score"
        click.echo(f"{out}: one image of {size[0]} x {size[1]} pixels; {equal}")
        return
    if size:
        raise UserError(f"--size must go with an .onnx file, got {out.name}; leave it out")
    settings = checkpoints.export_student(source, out, names)
    click.echo(f"{out}: {', '.join(f'{name} {value}' for name, value in settings.items())}")
    if names == "torchvision":
        click.echo(
            "the student was trained on unresized images; torchvision's class resizes to 800 pixels "
            "unless min_size and max_size are given"
        )


def sample_images(config, size: tuple[int, int]) -> list:
    """Four images of a run's evaluation split, cut or padded to (height, width); noise where the data are not here."""
    import torch
    from torchvision.transforms.v2.functional import crop

    try:
        dataset = datasets.open_split(config, config.eval_split, progress=False) if config else []
        images = [crop(dataset[i][0], 0, 0, *size) for i in range(min(4, len(dataset)))]
    except UserError:
        images = []
    noise = torch.rand(4, 3, *size, generator=torch.Generator().manual_seed(0))
    return [*images, *noise[len(images):]]
