"""The adapters of the site's page "your own detector", each with the real library, built from a small configuration."""
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from pathlib import Path

import pytest
import torch
from torch import nn

import fgdlab
from fgdlab import Distiller, FGDConfig, FGDLoss, match_levels, total

ADAPTERS = Path(fgdlab.__file__).parents[1] / "notebooks/site/adapters"
BOX = torch.tensor([[8.0, 8, 60, 50]])
SIZE = (128, 160)


def load(name):
    spec = importlib.util.spec_from_file_location(f"site_{name}", ADAPTERS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check_step(distiller, *batch, **named):
    """One pass of each network; every parameter of student and loss has a gradient; the terms of the step."""
    passes = []
    for model in (distiller.student, distiller.teacher):
        model.register_forward_hook(lambda module, args, output: passes.append(module))
    terms = distiller.train()(*batch, **named)
    total(terms).backward()
    assert passes[0] is distiller.student and passes.count(distiller.student) == 1
    assert all(term.raw.isfinite() for term in terms) and {term.name for term in terms} >= {"fg", "bg", "global"}
    assert all(each.grad is not None for each in distiller.loss.parameters())
    assert any(each.grad.abs().sum() > 0 for each in distiller.student.parameters() if each.grad is not None)
    assert all(each.grad is None for each in distiller.teacher.parameters())
    return terms


# ---- Hugging Face ----

@pytest.fixture
def hugging_face(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    torch.manual_seed(0)
    return load("hugging_face")


def batch_of_detr():
    labels = [
        {"class_labels": torch.tensor([1]), "boxes": torch.tensor([[0.3, 0.3, 0.2, 0.4]])},
        {"class_labels": torch.zeros(0, dtype=torch.long), "boxes": torch.zeros(0, 4)},
    ]
    return {"pixel_values": torch.rand(2, 3, *SIZE), "labels": labels}


def rt_detr_of(width):
    from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrResNetConfig

    sizes = [16, 24, 32, 48]
    backbone = RTDetrResNetConfig(
        embedding_size=16, hidden_sizes=sizes, depths=[1] * 4, layer_type="basic",
        out_features=["stage2", "stage3", "stage4"])
    return RTDetrForObjectDetection(RTDetrConfig(
        backbone_config=backbone, encoder_in_channels=sizes[1:], encoder_hidden_dim=width, d_model=width,
        encoder_ffn_dim=64, decoder_in_channels=[width] * 3, decoder_layers=2, decoder_attention_heads=4,
        encoder_attention_heads=4, num_queries=20, num_labels=3, feat_strides=[8, 16, 32], num_denoising=5))


def deformable_detr_of(width):
    from transformers import DeformableDetrConfig, DeformableDetrForObjectDetection, ResNetConfig

    backbone = ResNetConfig(
        embedding_size=16, hidden_sizes=[16, 24, 32, 48], depths=[1] * 4, layer_type="basic",
        out_features=["stage2", "stage3", "stage4"])
    return DeformableDetrForObjectDetection(DeformableDetrConfig(
        backbone_config=backbone, d_model=width, encoder_layers=1, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=32, decoder_ffn_dim=32, num_queries=10, num_labels=3))


@pytest.mark.slow
def test_rt_detr_of_hugging_face(hugging_face):
    batch, levels = batch_of_detr(), ("P3", "P4", "P5")
    distiller = Distiller(
        rt_detr_of(32), rt_detr_of(64), FGDLoss(levels, 32, 64), adapter=hugging_face.rt_detr)
    assert {term.level for term in check_step(distiller, **batch)} == {"all", *levels}


@pytest.mark.slow
def test_deformable_detr_of_hugging_face_with_padding(hugging_face):
    mask = torch.ones(2, *SIZE, dtype=torch.long)
    mask[1, :, 120:] = 0
    batch, levels = batch_of_detr() | {"pixel_mask": mask}, ("P3", "P4", "P5", "P6")
    distiller = Distiller(
        deformable_detr_of(32), deformable_detr_of(64), FGDLoss(levels, 32, 64), adapter=hugging_face.deformable_detr)
    assert {term.level for term in check_step(distiller, **batch)} == {"all", *levels}
    scene = hugging_face.deformable_detr(distiller.student, **batch)[1]
    assert scene.image_sizes == [(128, 160), (128, 120)]


@pytest.mark.slow
def test_the_task_loss_of_hugging_face_is_the_models_own_weighted_sum(hugging_face):
    model, batch = deformable_detr_of(32).eval(), batch_of_detr()
    output = model(**batch)
    assert abs(output.loss.item() - sum(each.item() for each in output.loss_dict.values())) > 0.1  # no weights in these
    model.training = True  # only the top: dropout stays off
    losses, scene = hugging_face.deformable_detr(model, **batch)
    assert losses["detr"].item() == pytest.approx(output.loss.item(), rel=1e-5)
    assert scene.boxes[0].tolist() == [pytest.approx([32, 12.8, 64, 64])] and scene.boxes[1].shape == (0, 4)
    assert [tuple(each.shape[-2:]) for each in scene.features.values()] == [(16, 20), (8, 10), (4, 5), (2, 3)]


# ---- timm ----

@pytest.mark.slow
@pytest.mark.parametrize(("teacher", "options"), [
    ("resnet18", {}), ("swin_tiny_patch4_window7_224", {"img_size": SIZE}),  # Swin: channels last
])
def test_timm_networks_in_torchvisions_retinanet(teacher, options):
    torch.manual_seed(0)
    retinanet, levels = load("timm_retinanet").retinanet, ("P3", "P4", "P5")
    student, taught = retinanet("resnet10t", 3, *SIZE), retinanet(teacher, 3, *SIZE, **options)
    targets = [{"boxes": BOX, "labels": torch.tensor([1])}, {"boxes": BOX[:0], "labels": torch.zeros(0).long()}]
    distiller = Distiller(student, taught, FGDLoss(levels, 64, 64))
    terms = distiller.train()([*torch.rand(2, 3, *SIZE)], targets)
    total(terms).backward()
    assert {term.level for term in terms} == {"all", *levels}
    assert all(each.grad is not None for each in distiller.parameters())


# ---- MMDetection 3 ----

class Operator(types.ModuleType):
    """In the place of mmcv's compiled operators, which mmcv-lite lacks: RetinaNet's training uses none of them."""

    __all__: list[str] = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return (lambda *args, **kwargs: None) if name.islower() else type(name, (nn.Module,), {})


class Operators(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path, target=None):
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if name.startswith("mmcv.ops") else None

    def create_module(self, spec):
        return Operator(spec.name)

    def exec_module(self, module):
        pass


def import_mmdet(monkeypatch):
    """Skips, with the reason, where MMDetection 3 is not installed."""
    if not importlib.util.find_spec("mmdet"):
        pytest.skip("because mmdet 3 is not installed: pip install mmdet mmengine mmcv-lite==2.1.0 'setuptools<81'")
    if not importlib.util.find_spec("mmcv._ext"):
        monkeypatch.setattr(sys, "meta_path", [Operators(), *sys.meta_path])
    from mmdet.utils import register_all_modules

    register_all_modules()


def retinanet_of_mmdet(depth, width):
    norm = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375], "bgr_to_rgb": True}
    anchors = {"type": "AnchorGenerator", "octave_base_scale": 4, "scales_per_octave": 3, "ratios": [0.5, 1.0, 2.0],
               "strides": [8, 16, 32, 64, 128]}
    assigner = {"type": "MaxIoUAssigner", "pos_iou_thr": 0.5, "neg_iou_thr": 0.4, "min_pos_iou": 0}
    return {
        "type": "RetinaNet", "data_preprocessor": {"type": "DetDataPreprocessor", "pad_size_divisor": 32, **norm},
        "backbone": {"type": "ResNet", "depth": depth, "base_channels": 16, "norm_cfg": {"type": "BN"}},
        "neck": {"type": "FPN", "in_channels": [16, 32, 64, 128], "out_channels": width, "start_level": 1,
                 "add_extra_convs": "on_input", "num_outs": 5},
        "bbox_head": {"type": "RetinaHead", "num_classes": 3, "in_channels": width, "stacked_convs": 1,
                      "feat_channels": width, "anchor_generator": anchors, "loss_bbox": {"type": "L1Loss"}},
        "train_cfg": {"assigner": assigner, "sampler": {"type": "PseudoSampler"}, "allowed_border": -1,
                      "pos_weight": -1},
        "test_cfg": {"nms_pre": 100, "score_thr": 0.05, "nms": {"type": "nms", "iou_threshold": 0.5},
                     "max_per_img": 10},
    }


@pytest.mark.slow
def test_a_retinanet_of_mmdetection_3_trains_with_fgd(monkeypatch):
    import_mmdet(monkeypatch)
    load("mmdet3")
    from mmdet.registry import MODELS
    from mmdet.structures import DetDataSample
    from mmengine.optim import OptimWrapper
    from mmengine.structures import InstanceData

    torch.manual_seed(0)
    model = MODELS.build({
        "type": "Distilled", "student": retinanet_of_mmdet(18, 32), "teacher": retinanet_of_mmdet(34, 64),
        "channels": (32, 64), "alpha": 1e-3}).train()
    sample = DetDataSample(metainfo={"img_shape": SIZE, "ori_shape": SIZE, "scale_factor": (1.0, 1.0)})
    sample.gt_instances = InstanceData(bboxes=BOX, labels=torch.tensor([1]))
    batch = {"inputs": [torch.randint(0, 255, (3, *SIZE), dtype=torch.uint8)], "data_samples": [sample]}
    before = [each.clone() for each in model.teacher.state_dict().values()]
    logged = model.train_step(batch, OptimWrapper(torch.optim.SGD(model.parameters(), 1e-3)))
    assert {f"loss_fg_{level}" for level in ("P3", "P4", "P5", "P6", "P7")} | {"loss_cls", "loss_bbox"} <= set(logged)
    parts = sum(value.item() for name, value in logged.items() if name != "loss")
    assert logged["loss"].item() == pytest.approx(parts, rel=1e-5)
    assert all(torch.equal(*pair) for pair in zip(before, model.teacher.state_dict().values(), strict=True))
    assert {name.split(".")[0] for name in model.state_dict()} == {"student", "distillation"}


# ---- a stand-in in the form of Ultralytics' YOLO ----

class Head(nn.Module):
    """Reads the layers ``f``; ``stride`` of each."""

    def __init__(self, layers, channels):
        super().__init__()
        self.f, self.stride = layers, torch.tensor([8.0, 16.0, 32.0])
        self.outputs = nn.ModuleList(nn.Conv2d(count, 6, 1) for count in channels)

    def forward(self, maps):
        return [output(each) for output, each in zip(self.outputs, maps, strict=True)]


class StandIn(nn.Module):
    """Layers in a list, the head last; in train mode (losses of three parts, numbers for the log)."""

    def __init__(self, width):
        super().__init__()
        steps = [(3, width, 4), (width, width, 2), (width, 2 * width, 2), (2 * width, 4 * width, 2)]
        layers = [nn.Conv2d(count, out, stride, stride) for count, out, stride in steps]
        self.model = nn.Sequential(*layers, Head([1, 2, 3], [width, 2 * width, 4 * width]))

    def forward(self, batch):
        kept, maps = [], batch["img"] if isinstance(batch, dict) else batch
        for layer in self.model[:-1]:
            kept.append(maps := layer(maps).tanh())
        output = self.model[-1]([kept[layer] for layer in self.model[-1].f])
        if not isinstance(batch, dict):
            return output
        losses = torch.stack([each.square().mean() for each in output])
        return losses * len(batch["img"]), losses.detach()


def batch_of_yolo():
    return {
        "img": torch.rand(2, 3, *SIZE), "batch_idx": torch.tensor([1.0, 1.0]), "cls": torch.zeros(2, 1),
        "bboxes": torch.tensor([[0.5, 0.5, 0.25, 0.5], [0.25, 0.25, 0.1, 0.1]])}


def test_a_list_of_layers_with_a_head_as_in_ultralytics():
    torch.manual_seed(0)
    yolo, levels, batch = load("yolo").yolo, ("P3", "P4", "P5"), batch_of_yolo()
    student, teacher = StandIn(8), StandIn(16)
    channels = [load("yolo").channels_of(model, batch) for model in (student, teacher)]
    assert channels == [{"P3": 8, "P4": 16, "P5": 32}, {"P3": 16, "P4": 32, "P5": 64}]
    distiller = Distiller(student, teacher, FGDLoss(levels, *channels, FGDConfig()), adapter=yolo)
    assert {term.level for term in check_step(distiller, batch)} == {"all", *levels}
    losses, scene = yolo(student, batch)
    assert losses["yolo"].item() == pytest.approx(student(batch)[0].sum().item())
    assert scene.boxes[0].shape == (0, 4) and scene.boxes[1][0].tolist() == [60, 32, 100, 96]


def test_an_adapters_maps_serve_a_level_map_where_pyramids_differ():
    yolo, batch = load("yolo").yolo, batch_of_yolo()
    scene = yolo(StandIn(8).eval(), batch)[1]
    matched = match_levels(scene, scene.features, {"P3": "P4", "P4": "P5"}, resize=True)
    assert [tuple(each.shape[-2:]) for each in matched.values()] == [(16, 20), (8, 10)]


@pytest.mark.parametrize("path", sorted(ADAPTERS.glob("*.py")), ids=lambda path: path.stem)
def test_an_adapter_is_short_and_imports_the_method_from_its_door(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 60 and "from fgdlab." not in text
