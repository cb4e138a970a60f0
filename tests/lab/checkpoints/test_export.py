"""Exported students: bit-equal detections in torchvision's class, MMDetection's names, and both commands."""

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from torchvision.models.detection import FCOS, FasterRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from fgdlab.lab.checkpoints.export import detector_of, export_mmdet, export_student, header_settings
from fgdlab.lab.checkpoints.safetensors_io import read_facts, save_weights
from fgdlab.lab.commands.cli import main
from fgdlab.lab.detectors.builder import build

CLASSES = ["a", "b", "c"]


def run_folder(path, detector, backbone, made):
    """What a finished run leaves: weights with its settings and classes in the header."""
    save_weights(
        made,
        path / "student.safetensors",
        settings={"detector": detector, "student": backbone, "init": "random"},
        classes=CLASSES,
        AP=1.0,
    )
    return path


def shaken(detector):
    """Weights and statistics off their start, and scores that spread over the threshold."""
    torch.manual_seed(7)
    with torch.no_grad():
        for name, each in detector.state_dict().items():
            if each.is_floating_point() and each.ndim == 1 and not name.startswith(("rpn", "roi_heads")):
                each.add_(0.1 * torch.rand_like(each))
        for name, each in detector.named_parameters():
            if "cls_logits" in name or "cls_score" in name:
                each.copy_(0.05 * torch.randn_like(each))
    return detector


def torchvisions(name, **sizes):
    """The detector as a user of torchvision writes it, without anything of this project."""
    def maps(levels, extra=None):
        return resnet_fpn_backbone(
            backbone_name="resnet18",
            weights=None,
            norm_layer=torch.nn.BatchNorm2d,
            returned_layers=levels,
            trainable_layers=5,
            extra_blocks=extra,
        )

    if name in ("retinanet", "fcos"):
        backbone = maps([2, 3, 4], LastLevelP6P7(256, 256))
        if name == "fcos":
            return FCOS(backbone, 4, **sizes)
        sides = tuple((x, int(x * 2 ** (1 / 3)), int(x * 2 ** (2 / 3))) for x in (32, 64, 128, 256, 512))
        return RetinaNet(backbone, 4, anchor_generator=AnchorGenerator(sides, ((0.5, 1.0, 2.0),) * 5), **sizes)
    return {"faster_rcnn": FasterRCNN, "mask_rcnn": MaskRCNN}[name](maps([1, 2, 3, 4]), 4, **sizes)


FEW = {"rpn_pre_nms_top_n_test": 40, "rpn_post_nms_top_n_test": 20, "box_detections_per_img": 8}


@pytest.mark.parametrize(
    "name",
    ["retinanet", "fcos", *(pytest.param(each, marks=pytest.mark.slow) for each in ("faster_rcnn", "mask_rcnn"))],
)
def test_an_exported_student_gives_bit_equal_detections_in_plain_torchvision(name, tmp_path):
    few = FEW if name.endswith("rcnn") else {}
    student = shaken(build(name, "resnet18", 3, min_size=64, max_size=96, **few)).eval()
    export_student(run_folder(tmp_path, name, "resnet18", student), tmp_path / "student.pth")
    plain = torchvisions(name, min_size=64, max_size=96, **few).eval()
    plain.load_state_dict(torch.load(tmp_path / "student.pth", weights_only=True))       # strict
    images = [torch.rand(3, 50, 70), torch.rand(3, 128, 96)]
    with torch.no_grad():
        ours, theirs = student(images), plain(images)
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() == b.keys() and len(a["boxes"]) > 0
        assert all(torch.equal(a[key], b[key]) for key in a)


def test_an_exported_reppoints_gives_bit_equal_detections_in_ours(tmp_path):
    student = build("reppoints", "resnet18", 3, score_thresh=0.0).eval()
    export_student(run_folder(tmp_path, "reppoints", "resnet18", student), tmp_path / "s.safetensors")
    other = build("reppoints", "resnet18", 3, score_thresh=0.0).eval()
    other.load_state_dict(load_file(tmp_path / "s.safetensors"))
    images = [torch.rand(3, 64, 64)]
    with torch.no_grad():
        (ours,), (theirs,) = student(images), other(images)
    assert len(ours["boxes"]) == 100 and all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_import_and_export_give_back_the_very_checkpoint(tmp_path):
    """A checkpoint of the authors -> import -> export under MMDetection's names: the student's tensors."""
    student = shaken(build("retinanet", "resnet18", 3, flavour="mmdet"))
    state = export_mmdet(student)
    torch.save(
        {
            "state_dict": {
                **{f"student.{name}": each for name, each in state.items()},
                "teacher.backbone.conv1.weight": torch.zeros(1),
            }
        },
        tmp_path / "in.pth",
    )
    done = call(
        "import",
        tmp_path / "in.pth",
        "--detector",
        "retinanet",
        "--backbone",
        "resnet18",
        "--out",
        tmp_path / "x.safetensors",
    )
    assert done.exit_code == 0, done.output
    assert (
        f"copied {len(state)}; skipped 0; missing 0" in done.output
        and "retinanet on resnet18, 3 classes" in done.output
    )
    facts = read_facts(tmp_path / "x.safetensors")
    assert (
        facts["build"] == {"name": "retinanet", "backbone": "resnet18", "classes": 3, "flavour": "mmdet"}
        and facts["source"]["file"] == "in.pth"
    )
    made, settings = detector_of(tmp_path / "x.safetensors")
    assert settings == facts["build"] and made.flavour == "mmdet" and not made.training
    done = call("export", tmp_path / "x.safetensors", "--out", tmp_path / "out.pth", "--names", "mmdet")
    assert done.exit_code == 0, done.output
    back = torch.load(tmp_path / "out.pth", weights_only=True)
    assert back.keys() == state.keys() and all(torch.equal(back[name], state[name]) for name in state)


def test_a_checkpoint_of_plain_fcos_is_recognised_by_its_towers(tmp_path):
    state = export_mmdet(build("fcos", "resnet18", 3, flavour="mmdet", conv_bias=False, norm_on_bbox=False))
    torch.save(state, tmp_path / "in.pth")
    done = call(
        "import",
        tmp_path / "in.pth",
        "--detector",
        "fcos",
        "--backbone",
        "resnet18",
        "--out",
        tmp_path / "x.safetensors",
    )
    assert done.exit_code == 0, done.output
    assert detector_of(tmp_path / "x.safetensors")[0].head.norm_on_bbox is False
    assert header_settings(tmp_path / "x.safetensors")["conv_bias"] is False


# ---- mistakes --------------------------------------------------------------------------------------------------------

def call(*arguments):
    return CliRunner().invoke(main, [str(each) for each in arguments], prog_name="fgdlab")


def mistake(*arguments):
    done = call(*arguments)
    assert done.exit_code == 1 and done.output.startswith("Error: ") and done.output.count("\n") == 1, done.output
    return done.output


def test_mistakes_of_import_are_one_line(tmp_path):
    torch.save({"state_dict": {"fc.weight": torch.zeros(1)}}, tmp_path / "in.pth")
    usual = ("--detector", "retinanet", "--backbone", "resnet18")
    assert "must end in .safetensors" in mistake("import", tmp_path / "in.pth", *usual, "--out", tmp_path / "x.pth")
    assert "checkpoint must be a file" in mistake(
        "import", tmp_path / "none.pth", *usual, "--out", tmp_path / "x.safetensors"
    )
    assert "say --classes" in mistake("import", tmp_path / "in.pth", *usual, "--out", tmp_path / "x.safetensors")
    assert "1 too many (fc.weight)" in mistake(
        "import", tmp_path / "in.pth", *usual, "--classes", 3, "--out", tmp_path / "x.safetensors"
    )
    assert not (tmp_path / "x.safetensors").exists()


def test_mistakes_of_export_are_one_line(tmp_path):
    made = build("retinanet", "compact_s", 3)
    run_folder(tmp_path / "run", "retinanet", "compact_s", made)
    save_weights(made, tmp_path / "bare.safetensors")
    assert "got no student.safetensors" in mistake("export", tmp_path, "--out", tmp_path / "x.pth")
    assert "say in its header how its detector is built" in mistake(
        "export", tmp_path / "bare.safetensors", "--out", tmp_path / "x.pth"
    )
    assert "must end in one of .pth, .pt, .safetensors, .onnx" in mistake(
        "export", tmp_path / "run", "--out", tmp_path / "x.bin"
    )
    assert "must be of the mmdet flavour" in mistake(
        "export", tmp_path / "run", "--out", tmp_path / "x.pth", "--names", "mmdet"
    )
    assert not (tmp_path / "x.pth").exists()
    student = tmp_path / "run/student.safetensors"
    before = student.read_bytes()
    assert "must be new, got its source" in mistake("export", tmp_path / "run", "--out", student)
    assert "must be new, got its source" in mistake("export", student, "--out", student)
    assert "must be new, got its source" in mistake(
        "import", student, "--detector", "retinanet", "--backbone", "compact_s", "--out", student)
    assert student.read_bytes() == before
    assert call("export", tmp_path / "run", "--out", tmp_path / "x.pth").exit_code == 0
