"""A student as an ONNX file, compared with the original by onnxruntime before it is kept."""
import warnings
from copy import deepcopy
from pathlib import Path
from types import MethodType
from unittest import mock

import torch
from torch import Tensor, nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from ..detectors import GFL, YOLOX, RepPoints
from ..errors import UserError
from ..io import atomic_write
from .export import detector_of

OPSET = 19  # the first with DeformConv
PIXELS, SCORE = 0.01, 1e-4  # largest difference of a box and of a score


class OneImage(nn.Module):
    """image (3, H, W) in 0..1 -> boxes (K, 4), labels (K,), scores (K,) and, if the detector has them, masks."""

    def __init__(self, detector: nn.Module):
        super().__init__()
        self.detector, self.least = detector, -1.0
        if isinstance(detector, (RepPoints, GFL, YOLOX)):  # all points are candidates: a constant number
            self.least, detector.score_thresh = detector.score_thresh, -1.0
        # the transform's own forward writes in place, which ONNX does not follow
        detector.transform.forward = MethodType(GeneralizedRCNNTransform.forward, detector.transform)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        found = self.detector([image])[0]
        kept = found["scores"] > self.least
        return tuple(found[name][kept] for name in ("boxes", "labels", "scores", "masks") if name in found)


@torch.no_grad()
def export_onnx(source: Path, out: Path, images: list[Tensor]) -> tuple[int, float, float]:
    """Write the student of a run's folder or weights file for images of one size.

    Args:
        images: (3, H, W) in 0..1, at least one, all of that size; both are compared on them.
    Returns:
        (detections compared, largest difference of a box in pixels, of a score).
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime
    except ImportError as error:
        raise UserError(f"ONNX must have its packages, got: {error}; `pip install 'fgdlab[onnx]'`") from error
    for name, symbol in (("torchvision::deform_conv2d", deform_conv), ("aten::mT", transposed)):
        torch.onnx.register_custom_op_symbolic(name, symbol, OPSET)
    original = detector_of(source)[0]
    student = OneImage(deepcopy(original)).eval()
    with atomic_write(out) as unfinished:
        with mock.patch.object(torch, "cartesian_prod", cartesian_product), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the tracer: sizes become constants, which is meant here
            names = ["boxes", "labels", "scores", "masks"][:len(student(images[0]))]
            torch.onnx.export(
                student, (images[0],), unfinished, dynamo=False, opset_version=OPSET, input_names=["image"],
                output_names=names, dynamic_axes={name: [0] for name in names},
            )
        session = onnxruntime.InferenceSession(unfinished, providers=["CPUExecutionProvider"])
        compared, apart = 0, [(0.0, 0.0)]
        for image in images:
            expected = original([image])[0]
            found = [torch.from_numpy(each) for each in session.run(None, {"image": image.numpy()})]
            apart.append(difference(expected, found))
            compared += len(expected["boxes"])
        box, score = map(max, zip(*apart, strict=True))
        if box > PIXELS or score > SCORE:
            problem = f"{out} must detect as its student does, got boxes {box:.3g} px and scores {score:.3g} apart"
            raise UserError(f"{problem}; use the .pth file that export writes")
    return compared, box, score


def difference(expected: dict[str, Tensor], found: list[Tensor]) -> tuple[float, float]:
    """Of boxes and of scores, the largest between each detection and the nearest one of its class."""
    boxes, labels, scores = (expected[name] for name in ("boxes", "labels", "scores"))
    others, other_labels, other_scores = found[:3]
    if len(boxes) != len(others):
        return float("inf"), float("inf")
    if not len(boxes):
        return 0.0, 0.0
    apart = (boxes[:, None] - others).abs().amax(2) + 1e6 * (labels[:, None] != other_labels)
    gaps = (scores[:, None] - other_scores).abs()
    nearest = (apart + gaps).argmin(1, keepdim=True)  # equal scores may come in another order
    return float(apart.gather(1, nearest).max()), float(gaps.gather(1, nearest).max())


def cartesian_product(*axes: Tensor) -> Tensor:
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, -2)


def transposed(graph, matrix):
    *batch, rows, columns = range(matrix.type().dim())
    return graph.op("Transpose", matrix, perm_i=[*batch, columns, rows])


def deform_conv(graph, pixels, weight, offset, mask, bias, *numbers):
    *pairs, groups, offset_groups, use_mask = (torch.onnx.symbolic_helper._maybe_get_const(n, "i") for n in numbers)
    strides, pads, dilations = pairs[:2], pairs[2:4] * 2, pairs[4:]
    return graph.op(
        "DeformConv", pixels, weight, offset, bias, *([mask] if use_mask else []), strides_i=strides, pads_i=pads,
        dilations_i=dilations, group_i=groups, offset_group_i=offset_groups,
    )
