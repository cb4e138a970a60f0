"""A detector in the form of Ultralytics' YOLO: a list of layers, and a head that reads some of their outputs.

    channels = [channels_of(model, batch) for model in (student, teacher)]      # they differ by level and by size
    distiller = Distiller(student, teacher, FGDLoss(("P3", "P4", "P5"), *channels), adapter=yolo)
    terms = distiller(batch)

Names used: ``model.model`` is the list of layers and the last one is the head; ``head.f`` are the numbers of the layers
that the head reads, ``head.stride`` their strides. In train mode ``model(batch)`` gives (losses, numbers for the log).
"""
import torch
from torchvision.ops import box_convert

from fgdlab import Recorder, Scene


def yolo(model, batch):
    images, head = batch["img"], model.model[-1]
    levels = [f"P{int(stride).bit_length() - 1}" for stride in head.stride]  # stride 8 is P3
    with Recorder(model, *[f"model.{layer}" for layer in head.f]) as seen:
        output = model(batch) if model.training else model(images)
    maps = {level: seen[f"model.{layer}"] for level, layer in zip(levels, head.f, strict=True)}
    height, width = images.shape[-2:]
    boxes = box_convert(batch["bboxes"], "cxcywh", "xyxy") * images.new_tensor([width, height, width, height])
    of_images = [boxes[batch["batch_idx"] == index] for index in range(len(images))]
    scene = Scene(images, of_images, [(height, width)] * len(images), maps)
    return {"yolo": output[0].sum()} if model.training else {}, scene


def channels_of(model, batch):
    mode = model.training
    with torch.no_grad():
        features = yolo(model.eval(), batch)[1].features
    model.train(mode)
    return {level: maps.shape[1] for level, maps in features.items()}
