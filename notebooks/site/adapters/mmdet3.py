"""A student of MMDetection 3 with FGD: a model of its registry around two others, trained by its own runner.

    model = dict(type="Distilled", student=STUDENT, teacher=TEACHER, channels=(256, 256), alpha=1e-3)

Load the teacher's checkpoint into ``model.teacher`` before training. The checkpoint of training has no teacher.
"""
import torch
from mmdet.models.detectors.base import BaseDetector
from mmdet.registry import MODELS

from fgdlab import FGDConfig, FGDLoss, Scene

LEVELS = ("P3", "P4", "P5", "P6", "P7")


@MODELS.register_module()
class Distilled(BaseDetector):
    def __init__(self, student, teacher, channels, levels=LEVELS, **fgd):
        super().__init__(data_preprocessor=student["data_preprocessor"])  # the teacher sees the student's pixels
        self.student, guest = (MODELS.build({**each, "data_preprocessor": None}) for each in (student, teacher))
        self.guest = [guest.eval().requires_grad_(False)]  # a list hides it from parameters() and state_dict()
        self.distillation, self.levels = FGDLoss(levels, *channels, FGDConfig(**fgd)), levels

    @property
    def teacher(self):
        return self.guest[0]

    def _apply(self, function, *args, **kwargs):  # the teacher moves with .to()
        self.teacher._apply(function, *args, **kwargs)
        return super()._apply(function, *args, **kwargs)

    def loss(self, inputs, samples):
        maps = self.student.extract_feat(inputs)
        with torch.no_grad():
            taught = self.teacher.extract_feat(inputs)
        losses = self.student.bbox_head.loss(maps, samples)
        boxes = [getattr(each.gt_instances.bboxes, "tensor", each.gt_instances.bboxes) for each in samples]
        sizes = [tuple(each.img_shape[:2]) for each in samples]
        scene = Scene(inputs, boxes, sizes, dict(zip(self.levels, maps, strict=True)))
        terms = self.distillation(scene, dict(zip(self.levels, taught, strict=True)))
        return losses | {f"loss_{term.name}_{term.level}": term.weight * term.raw for term in terms}

    def extract_feat(self, inputs):
        return self.student.extract_feat(inputs)

    def predict(self, inputs, samples, rescale=True):
        return self.student.predict(inputs, samples, rescale)

    def _forward(self, inputs, samples=None):
        return self.student._forward(inputs, samples)
