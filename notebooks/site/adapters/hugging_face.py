"""RT-DETR and Deformable DETR of Hugging Face.

    distiller = Distiller(student, teacher, loss, adapter=rt_detr)
    terms = distiller(**batch)

The batch is what their image processor gives: boxes are cx cy w h, divided by the size of the padded batch. The task
loss is the model's own ``loss``: entries of ``loss_dict`` are without their weights in Deformable DETR.
"""
from torchvision.ops import box_convert

from fgdlab import Recorder, Scene


def rt_detr(model, pixel_values, labels):
    with Recorder(model, "model.encoder") as seen:
        output = model(pixel_values=pixel_values, labels=labels if model.training else None)
    return losses_of(output), scene_of(pixel_values, labels, seen["model.encoder"].last_hidden_state)


def deformable_detr(model, pixel_values, labels, pixel_mask=None):
    names = [f"model.input_proj.{index}" for index in range(len(model.model.input_proj))]
    with Recorder(model, *names) as seen:
        output = model(pixel_values=pixel_values, pixel_mask=pixel_mask, labels=labels if model.training else None)
    return losses_of(output), scene_of(pixel_values, labels, [seen[name] for name in names], pixel_mask)


def losses_of(output):
    return {} if output.loss is None else {"detr": output.loss}  # the teacher, in eval mode, has none


def scene_of(pixels, labels, maps, pixel_mask=None):
    height, width = pixels.shape[-2:]
    scale = pixels.new_tensor([width, height, width, height])
    boxes = [box_convert(each["boxes"], "cxcywh", "xyxy") * scale for each in labels]
    sizes = [(height, width)] * len(labels)
    if pixel_mask is not None:  # 1 on the image, 0 on the padding
        sizes = [(int(each.any(dim=1).sum()), int(each.any(dim=0).sum())) for each in pixel_mask]
    return Scene(pixels, boxes, sizes, {f"P{level}": each for level, each in enumerate(maps, start=3)})
