"""Checkpoints in MMDetection's names: every tensor is accounted for, no code runs, students come without teachers."""

import ast
import pickle
from pathlib import Path

import pytest
import torch

import fgdlab
from fgdlab.lab.checkpoints.export import export_mmdet
from fgdlab.lab.checkpoints.mmdet import Report, load_mmdet, read_state, student_of
from fgdlab.lab.checkpoints.mmdet_keys import classes_of, megvii_names, mmdet_names
from fgdlab.lab.detectors.builder import build


@pytest.fixture(scope="module")
def fcos():
    return build("fcos", "resnet18", 2, flavour="mmdet")


@pytest.fixture
def state(fcos):
    """A checkpoint that differs from the detector in every float."""
    return {name: each + 1 if each.is_floating_point() else each for name, each in export_mmdet(fcos).items()}


def unchanged(detector, load, refusal, **settings):
    """The refusal's text; the detector must come out of it as it was."""
    before = {name: each.clone() for name, each in detector.state_dict().items()}
    text = refusal(load_mmdet, detector, load, **settings)
    assert all(torch.equal(each, before[name]) for name, each in detector.state_dict().items())
    return text


# ---- names -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["retinanet", "fcos", "faster_rcnn", "mask_rcnn", "reppoints"])
def test_every_tensor_has_one_name_of_theirs(name):
    detector = build(name, "resnet18", 2, flavour="mmdet")
    names = mmdet_names(detector)
    assert list(names) == list(detector.state_dict()) and len(set(names.values())) == len(names)
    assert {theirs.split(".")[0] for theirs in names.values()} == {
        "backbone", "neck", *(("rpn_head", "roi_head") if name.endswith("rcnn") else ("bbox_head",)),
    }
    if name == "mask_rcnn":                                          # no golden file holds these
        assert names["roi_heads.mask_head.3.0.bias"] == "roi_head.mask_head.convs.3.conv.bias"
        assert names["roi_heads.mask_predictor.conv5_mask.weight"] == "roi_head.mask_head.upsample.weight"
        assert names["roi_heads.mask_predictor.mask_fcn_logits.weight"] == "roi_head.mask_head.conv_logits.weight"
        assert detector.state_dict()["roi_heads.mask_predictor.mask_fcn_logits.weight"].shape[0] == 2
    assert classes_of(export_mmdet(detector)) == 2


def test_torchvisions_flavour_and_other_backbones_have_no_names_of_theirs(refusal):
    assert "must be of the mmdet flavour, got 'torchvision'" in refusal(export_mmdet, build("retinanet", "resnet18", 2))
    assert "must be a ResNet or ResNeXt" in refusal(
        export_mmdet, build("retinanet", "mobilenet_v2", 2, flavour="mmdet")
    )


# ---- loading ---------------------------------------------------------------------------------------------------------

def test_a_whole_checkpoint_is_copied_and_told(fcos, state):
    detector = build("fcos", "resnet18", 2, flavour="mmdet")
    report = load_mmdet(detector, state)
    assert report.copied == list(detector.state_dict()) and report.skipped == report.missing == []
    back = export_mmdet(detector)
    assert back.keys() == state.keys() and all(torch.equal(back[name], state[name]) for name in state)
    assert str(report) == f"copied {len(state)}; skipped 0; missing 0"


def test_strict_refuses_what_is_left_over_or_wanting_and_copies_nothing(fcos, state, refusal):
    del state["neck.fpn_convs.4.conv.bias"]
    state["bbox_head.other.weight"] = torch.zeros(2)
    text = unchanged(fcos, state, refusal)
    assert "1 too many (bbox_head.other.weight) and 1 missing (backbone.fpn.extra_blocks.p7.bias)" in text


def test_not_strict_copies_what_it_can_and_reports_the_rest(state):
    detector = build("fcos", "resnet18", 2, flavour="mmdet")
    kept = detector.state_dict()["backbone.fpn.extra_blocks.p7.bias"].clone()
    del state["neck.fpn_convs.4.conv.bias"]
    state["bbox_head.other.weight"] = torch.zeros(2)
    report = load_mmdet(detector, state, strict=False)
    assert (report.skipped, report.missing, len(report.copied)) == (
        ["bbox_head.other.weight"],
        ["backbone.fpn.extra_blocks.p7.bias"],
        len(state) - 1,
    )
    assert torch.equal(detector.state_dict()["backbone.fpn.extra_blocks.p7.bias"], kept)
    assert "skipped 1 (bbox_head.other.weight)" in str(report)


def test_backbone_and_neck_alone_leave_the_heads(state):
    detector = build("fcos", "resnet18", 2, flavour="mmdet")
    before = {name: each.clone() for name, each in detector.state_dict().items()}
    report = load_mmdet(detector, state, parts="backbone+neck")
    assert all(name.startswith("backbone.") for name in report.copied) and all(
        name.startswith("head.") for name in report.missing
    )
    assert all(name.startswith("bbox_head.") for name in report.skipped) and len(report.copied) + len(
        report.skipped
    ) == len(state)
    for name, each in detector.state_dict().items():
        assert torch.equal(each, before[name]) == (name.startswith("head.") or not each.is_floating_point()), name


def test_backbone_and_neck_are_still_strict(fcos, state, refusal):
    del state["backbone.layer3.0.bn1.bias"]
    assert "1 missing (backbone.body.layer3.0.bn1.bias)" in unchanged(fcos, state, refusal, parts="backbone+neck")


def test_other_shapes_are_refused_with_both(fcos, state, refusal):
    state["bbox_head.conv_cls.weight"] = torch.zeros(80, 256, 3, 3)
    text = unchanged(fcos, state, refusal, strict=False)
    assert (
        "bbox_head.conv_cls.weight (80, 256, 3, 3) for (2, 256, 3, 3)" in text and "check backbone and classes" in text
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda state: {
                name: each
                for name, each in state.items()
                if not ("_convs." in name and "bbox_head" in name and name.endswith("conv.bias"))
            },
            "conv_bias=False",
        ),
        (
            lambda state: state | {"backbone.layer2.0.conv2.conv_offset.weight": torch.zeros(18, 8, 3, 3)},
            "resnext101_32x4d_dconv",
        ),
        (lambda state: state | {"roi_head.bbox_head.0.fc_cls.bias": torch.zeros(3)}, 'parts="backbone+neck"'),
    ],
)
def test_a_refusal_names_the_usual_reason(fcos, state, change, words, refusal):
    assert words in unchanged(fcos, change(state), refusal)


def test_tensors_of_another_origin_are_refused(fcos, refusal):
    assert "got none that this detector has (fc.weight)" in unchanged(
        fcos, {"fc.weight": torch.zeros(1)}, refusal, strict=False
    )
    assert "parts must be one of" in refusal(load_mmdet, fcos, {}, parts="head")


def test_a_report_shows_a_few_names_of_many():
    assert str(Report(["a"], [str(i) for i in range(9)], [])) == "copied 1; skipped 9 (0, 1, 2 and 6 more); missing 0"


# ---- students of distillers ------------------------------------------------------------------------------------------

def tensors(*names):
    return {name: torch.tensor(float(i)) for i, name in enumerate(names)}


@pytest.mark.parametrize(
    "state",
    [
        tensors(
            "student.backbone.a",
            "student.neck.b",
            "teacher.backbone.a",
            "distill_losses.x",
            "student_neck_fpn_convs_0_conv",
        ),  # the authors'
        tensors(
            "architecture.model.backbone.a", "architecture.model.neck.b", "distiller.teacher.backbone.a"
        ),  # MMRazor 0.x
        tensors(
            "architecture.model.backbone.a",
            "architecture.model.neck.b",
            "architecture.model.distiller.teacher.backbone.a",
        ),
        tensors(
            "architecture.backbone.a",
            "architecture.neck.b",
            "architecture.teacher.backbone.a",
            "teacher.backbone.a",
            "distiller.x",
        ),  # MMRazor 1.x
        tensors("module.student.backbone.a", "module.student.neck.b", "module.teacher.backbone.a"),
        tensors("backbone.a", "neck.b"),
    ],
    ids=["authors", "mmrazor0", "mmrazor0-inside", "mmrazor1", "ddp", "plain"],
)
def test_a_distillers_state_is_reduced_to_its_student(state):
    assert {name: float(each) for name, each in student_of(state).items()} == {"backbone.a": 0.0, "neck.b": 1.0}


def test_a_distilled_checkpoint_loads_as_its_student(state, tmp_path):
    torch.save(
        {
            "meta": {"epoch": 24},
            "state_dict": {
                **{f"student.{name}": each for name, each in state.items()},
                "teacher.backbone.x": torch.zeros(1),
            },
        },
        tmp_path / "fgd.pth",
    )
    detector = build("fcos", "resnet18", 2, flavour="mmdet")
    load_mmdet(detector, tmp_path / "fgd.pth")
    back = export_mmdet(detector)
    assert all(torch.equal(back[name], state[name]) for name in state)


# ---- files -----------------------------------------------------------------------------------------------------------

class Bomb:
    """Unpickled, it writes a file: what a checkpoint of a stranger could do."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("old_format", [False, True])
def test_a_pickle_that_runs_code_is_refused_unrun_with_a_safe_way(tmp_path, old_format, refusal):
    torch.save(
        {"state_dict": {"a": torch.zeros(1)}, "meta": Bomb(tmp_path / "ran")},
        tmp_path / "c.pth",
        _use_new_zipfile_serialization=not old_format,
    )
    text = refusal(read_state, tmp_path / "c.pth")
    assert (
        "must be readable with weights_only=True" in text
        and "open" in text
        and "weights_only=False" in text
        and "container without network" in text
    )
    assert not (tmp_path / "ran").exists()


def test_a_plain_pickle_is_refused(tmp_path, refusal):
    (tmp_path / "c.pth").write_bytes(pickle.dumps({"a": [1, 2]}))
    assert "must be readable with weights_only=True" in refusal(read_state, tmp_path / "c.pth")
    (tmp_path / "d.pth").write_bytes(b"not a checkpoint")
    assert "must be readable with weights_only=True" in refusal(read_state, tmp_path / "d.pth")


def test_both_formats_of_torch_and_safetensors_are_read(tmp_path):
    from safetensors.torch import save_file

    wanted = {"a": torch.arange(3.0), "b": torch.ones(2, 2)}
    torch.save({"state_dict": wanted, "meta": {"CLASSES": ("x", "y")}}, tmp_path / "new.pth")
    torch.save(wanted, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_file(wanted, tmp_path / "s.safetensors")
    for name in ("new.pth", "old.pth", "s.safetensors"):
        found = read_state(tmp_path / name)
        assert found.keys() == wanted.keys() and all(torch.equal(found[key], wanted[key]) for key in wanted)


def test_files_without_tensors_are_refused(tmp_path, refusal):
    assert "must be a file" in refusal(read_state, tmp_path / "none.pth")
    torch.save({"epoch": 3}, tmp_path / "c.pth")
    assert "must hold a state dict of named tensors, got none" in refusal(read_state, tmp_path / "c.pth")
    (tmp_path / "s.safetensors").write_bytes(b"something")
    assert "must be a .safetensors file" in refusal(read_state, tmp_path / "s.safetensors")


def test_every_file_is_loaded_with_weights_only():
    calls = [
        (path.name, ast.unparse(node))
        for path in Path(fgdlab.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"
    ]
    assert len(calls) >= 2 and [call for call in calls if "weights_only=True" not in call[1]] == []


# ---- Megvii's names ----

@pytest.mark.parametrize("size", ["yolox_s", "yolox_nano"])
def test_megviis_names_go_out_and_in(size, tmp_path):
    detector, other = build("yolox", size, 3), build("yolox", size, 3)
    state = {names: tensor.clone() for names, tensor in export_mmdet(detector, megvii_names).items()}
    torch.save({"start_epoch": 1, "model": state}, tmp_path / "yolox.pth")
    report = load_mmdet(other, tmp_path / "yolox.pth")
    assert len(report.copied) == len(state) == len(detector.state_dict()) and not report.skipped + report.missing
    assert all(torch.equal(tensor, detector.state_dict()[name]) for name, tensor in other.state_dict().items())
    assert classes_of(state) == 3


def test_megviis_names_are_those_of_their_code():
    """A name of each kind, from Megvii-BaseDetection/YOLOX, yolox/models: the backbone, the pyramid, the head."""
    names, nano = (set(megvii_names(build("yolox", size, 3)).values()) for size in ("yolox_s", "yolox_nano"))
    assert names >= {
        "backbone.backbone.stem.conv.conv.weight", "backbone.backbone.dark2.0.bn.weight",
        "backbone.backbone.dark2.1.conv1.conv.weight", "backbone.backbone.dark3.1.m.2.conv2.conv.weight",
        "backbone.backbone.dark5.1.conv2.bn.bias", "backbone.backbone.dark5.2.conv3.conv.weight",
        "backbone.lateral_conv0.conv.weight", "backbone.C3_p4.conv1.conv.weight", "backbone.reduce_conv1.bn.bias",
        "backbone.C3_p3.m.0.conv1.conv.weight", "backbone.bu_conv2.conv.weight", "backbone.C3_n3.conv2.bn.running_var",
        "backbone.bu_conv1.conv.weight", "backbone.C3_n4.conv3.conv.weight", "head.stems.0.conv.weight",
        "head.cls_convs.2.1.bn.weight", "head.reg_convs.0.0.conv.weight", "head.cls_preds.1.bias",
        "head.reg_preds.2.weight", "head.obj_preds.0.bias",
    }
    assert nano >= {
        "backbone.backbone.dark4.0.dconv.conv.weight", "backbone.bu_conv1.pconv.bn.weight",
        "head.cls_convs.0.1.dconv.bn.bias",
    }


def test_only_a_yolox_has_megviis_names(refusal):
    assert "a detector with Megvii's names must be a YOLOX, got BatchedFCOS; use mmdet" in refusal(
        megvii_names, build("fcos", "small_s", 3))
