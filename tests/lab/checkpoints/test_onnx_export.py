"""Students as ONNX files: onnxruntime gives their detections."""
import pytest
import torch
from torch import nn

from fgdlab.lab.checkpoints import onnx_export
from fgdlab.lab.checkpoints.onnx_export import cartesian_product, difference, export_onnx
from fgdlab.lab.checkpoints.safetensors_io import save_weights
from fgdlab.lab.detectors.builder import build

DETECTORS = [
    ("retinanet", "compact_s"), ("retinanet", "small_s"), ("fcos", "small_s"), ("faster_rcnn", "small_s"),
    ("mask_rcnn", "small_s"), ("reppoints", "small_s"), ("gfl", "small_s"),
    ("yolox", "small_s"),
]


def confident(name: str, backbone: str, path, **options):
    """A detector whose scores are spread, as if it had been trained, in a file."""
    torch.manual_seed(0)
    detector = build(name, backbone, 3, **options)
    for key, parameter in detector.named_parameters():
        if not key.startswith("backbone") and parameter.ndim > 1:
            nn.init.normal_(parameter, std=1.5 * parameter[0].numel() ** -0.5)
        elif name == "yolox" and key.startswith("head") and key.endswith("bias"):
            nn.init.zeros_(parameter)  # objectness and class both start at 0.01, and their product counts
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
    save_weights(detector, path, build={"name": name, "backbone": backbone, "classes": 3, **options})
    return detector.eval()


@pytest.mark.parametrize("name, backbone", DETECTORS)
def test_onnxruntime_gives_the_detections_of_all_detectors(name, backbone, tmp_path):
    """On other images than the one that was traced, and without the help of the exporter's own comparison."""
    import onnxruntime

    detector = confident(name, backbone, tmp_path / "student.safetensors")
    images = list(torch.rand(3, 3, 96, 128))
    count, box, score = export_onnx(tmp_path / "student.safetensors", tmp_path / "student.onnx", images)
    assert count > 10 and box <= 0.01 and score <= 1e-4
    session = onnxruntime.InferenceSession(tmp_path / "student.onnx", providers=["CPUExecutionProvider"])
    for image in torch.rand(2, 3, 96, 128):
        with torch.no_grad():
            expected = detector([image])[0]
        found = [torch.from_numpy(each) for each in session.run(None, {"image": image.numpy()})]
        assert len(expected["boxes"]) == len(found[0]) > 0 and len(found) == len(expected)
        box, score = difference(expected, found)
        assert box <= 0.01 and score <= 1e-4


def test_fitted_anchors_are_in_the_file(tmp_path):
    anchors = "6x9,14x13/20x30,33x28/60x40,70x90"
    confident("retinanet", "compact_s", tmp_path / "s.safetensors", anchors=anchors)
    assert export_onnx(tmp_path / "s.safetensors", tmp_path / "s.onnx", [torch.rand(3, 64, 64)])[1] <= 0.01


def test_a_file_that_detects_otherwise_is_not_kept(tmp_path, monkeypatch, refusal):
    confident("retinanet", "compact_s", tmp_path / "s.safetensors")
    monkeypatch.setattr(onnx_export, "difference", lambda *_: (0.5, 0.0))
    text = refusal(export_onnx, tmp_path / "s.safetensors", tmp_path / "s.onnx", [torch.rand(3, 64, 64)])
    assert "must detect as its student does, got boxes 0.5 px" in text and not (tmp_path / "s.onnx").exists()


def test_differences_are_those_of_the_nearest_detection_of_the_class():
    boxes = torch.tensor([[0.0, 0, 10, 10], [20, 20, 40, 40]])
    labels, scores = torch.tensor([1, 2]), torch.tensor([0.9, 0.8])
    expected = {"boxes": boxes, "labels": labels, "scores": scores}
    other_order = [boxes.flip(0) + 0.25, labels.flip(0), scores.flip(0) - 0.125]
    assert difference(expected, other_order) == pytest.approx((0.25, 0.125))
    assert difference(expected, [boxes, labels.flip(0), scores])[0] > 10
    assert difference(expected, [boxes[:1], labels[:1], scores[:1]]) == (float("inf"), float("inf"))
    none = {name: value[:0] for name, value in expected.items()}
    assert difference(none, [boxes[:0], labels[:0], scores[:0]]) == (0.0, 0.0)


def test_the_product_of_axes_is_torchs():
    axes = torch.arange(3.0), torch.arange(4.0)
    assert torch.equal(cartesian_product(*axes), torch.cartesian_prod(*axes))


def test_without_its_packages_the_remedy_is_said(tmp_path, monkeypatch, refusal):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    assert "pip install 'fgdlab[onnx]'" in refusal(export_onnx, tmp_path, tmp_path / "s.onnx", [torch.rand(3, 64, 64)])
