"""Inheriting copies the teacher's neck and head where they fit, nothing else, and says what it did."""
import pytest
import torch

from fgdlab.lab.checkpoints.export import export_mmdet
from fgdlab.lab.checkpoints.inheritance import Inherited, inherit, is_inherited
from fgdlab.lab.checkpoints.mmdet import load_mmdet
from fgdlab.lab.config.run_config import RunConfig
from fgdlab.lab.detectors.builder import build
from fgdlab.lab.errors import UserError
from fgdlab.lab.run import RunInputs, make_distiller, prepare, run
from fgdlab.lab.teachers.teachers import Teacher


def pair(student: str = "compact_h", teacher: str = "compact_t", classes: int = 4):
    torch.manual_seed(0)
    return build("retinanet", student, classes), build("retinanet", teacher, classes)


def test_neck_and_head_are_inherited_and_the_body_is_not():
    assert all(
        is_inherited(name)
        for name in (
            "head.classification_head.cls_logits.weight",
            "rpn.head.conv.bias",
            "backbone.fpn.layer_blocks.0.0.weight",
        )
    )
    assert not any(
        is_inherited(name)
        for name in ("backbone.body.conv1.weight", "backbone.stages.0.0.0.weight", "backbone.stem.0.weight")
    )


def test_a_student_with_its_teachers_head_takes_all_of_it_and_the_shared_part_of_the_neck():
    student, teacher = pair()
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    report, after, theirs = inherit(student, teacher), student.state_dict(), teacher.state_dict()
    heads = [name for name in before if name.startswith("head.")]
    assert set(heads) <= set(report.copied) and any(
        name.startswith("backbone.fpn.layer_blocks") for name in report.copied
    )
    assert (
        report.other_shape == tuple(f"backbone.fpn.inner_blocks.{level}.0.weight" for level in range(3))
        and report.not_there == ()
    )
    assert all(torch.equal(after[name], theirs[name]) for name in report.copied)
    assert all(torch.equal(after[name], before[name]) for name in before if name not in report.copied)


def test_the_copies_are_the_students_own():
    student, teacher = pair()
    inherit(student, teacher)
    with torch.no_grad():
        student.head.classification_head.cls_logits.weight.add_(1)
    assert not torch.equal(
        student.head.classification_head.cls_logits.weight, teacher.head.classification_head.cls_logits.weight
    )


def test_equal_detectors_inherit_the_whole_neck():
    student, teacher = pair("compact_t", "compact_t")
    report = inherit(student, teacher)
    assert report.other_shape == report.not_there == () and sorted(report.copied) == sorted(
        filter(is_inherited, student.state_dict())
    )


def test_a_head_that_fits_nowhere_is_refused_and_the_student_is_left_as_it_was():
    student, teacher = build("retinanet", "resnet18", 4), build("retinanet", "compact_t", 4)
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    with pytest.raises(
        UserError,
        match="inherit must find tensors of the same name and shape in both heads, got none.*leave inherit off",
    ):
        inherit(student, teacher)
    assert all(torch.equal(tensor, before[name]) for name, tensor in student.state_dict().items())


@pytest.mark.parametrize("name", ["retinanet", "fcos", "faster_rcnn", "reppoints"])
def test_a_shallow_student_inherits_all_that_does_not_read_its_bodys_channels(name):
    torch.manual_seed(0)
    student, teacher = build(name, "resnet18", 3, flavour="mmdet"), build(name, "mobilenet_v2", 3, flavour="mmdet")
    report = inherit(student, teacher)
    lateral = [f"backbone.fpn.inner_blocks.{i}.0.weight" for i in range(len(student.backbone.fpn.inner_blocks))]
    from_c5 = {
        "retinanet": ["backbone.fpn.extra_blocks.p6.weight"],
        "reppoints": ["backbone.fpn.extra_blocks.p6.0.weight"],
    }.get(name, [])
    assert sorted(report.other_shape) == sorted(lateral + from_c5) and report.not_there == ()
    assert len(report.copied) == sum(is_inherited(each) for each in student.state_dict()) - len(report.other_shape)


def test_heads_of_another_flavour_are_refused_although_their_shapes_fit():
    """A Faster R-CNN's classifier has 1 + C rows in both, with the background first or last."""
    student, teacher = build("faster_rcnn", "resnet18", 3), build("faster_rcnn", "resnet18", 3, flavour="mmdet")
    rows = [each.roi_heads.box_predictor.cls_score.weight.shape for each in (student, teacher)]
    assert rows[0] == rows[1]
    with pytest.raises(UserError, match="one flavour, got torchvision and mmdet"):
        inherit(student, teacher)


def test_a_head_that_no_checkpoint_filled_is_not_inherited():
    student, teacher = (build("faster_rcnn", "resnet18", 3, flavour="mmdet") for _ in range(2))
    load_mmdet(teacher, export_mmdet(teacher), parts="backbone+neck")
    with pytest.raises(UserError, match="whose whole head was loaded"):
        inherit(student, teacher)
    load_mmdet(teacher, export_mmdet(teacher))
    assert inherit(student, teacher).copied


@pytest.mark.parametrize("method", ["none", "fgd"])
def test_a_run_starts_from_the_teachers_head_with_and_without_distilling(method, tiny_scenes):
    scenes = tiny_scenes("train")
    torch.manual_seed(1)
    inputs = RunInputs(scenes, scenes, Teacher(None, build("retinanet", "compact_t", 10), "given", 0.0), None)
    logits = "head.classification_head.cls_logits.weight"
    starts = {}
    for on in (False, True):
        distiller = make_distiller(RunConfig(student="compact_h", method=method, inherit=on), inputs)
        starts[on] = distiller.student.state_dict()
        assert (distiller.teacher is None) == (method == "none")
    wanted = inputs.teacher.detector.state_dict()[logits]
    assert torch.equal(starts[True][logits], wanted) and not torch.equal(starts[False][logits], wanted)
    assert torch.equal(starts[True]["backbone.stem.0.weight"], starts[False]["backbone.stem.0.weight"])


def test_a_plain_run_that_inherits_finds_its_teacher_but_caches_no_maps(
    tiny_config, scene_cache, tmp_path, monkeypatch
):
    (tmp_path / "data").symlink_to(scene_cache / "data")
    monkeypatch.setenv("FGDLAB_HOME", str(tmp_path))
    inputs = prepare(tiny_config(inherit=True, student="compact_h", teacher="compact_h"), progress=False)
    assert inputs.teacher is not None and inputs.cache is None


# ---- the report ------------------------------------------------------------------------------------------------------

def test_the_report_in_words_counts_what_was_copied_and_names_what_was_not():
    student, teacher = pair()
    lateral = ", ".join(f"backbone.fpn.inner_blocks.{level}.0.weight" for level in range(3))
    report = inherit(student, teacher)
    assert (
        str(report)
        == f"{len(report.copied)} tensors of neck and head are the teacher's; "
        f"the student keeps its own: 3 of another shape there ({lateral})"
    )
    assert str(Inherited(("a",), (), ())).endswith("keeps its own: none")
    assert str(Inherited(("a",), ("b",), ("c", "d", "e", "f"))).endswith(
        "1 of another shape there (b); 4 not there (c, d, e and 1 more)"
    )


def test_a_run_says_what_was_inherited_and_what_is_worth_a_look_and_keeps_the_report(
    lab_home, tiny_config, tmp_path, capsys
):
    config = tiny_config(
        method="fgd", student="compact_s", epochs=1, inherit=True, alpha=1e-12, beta=0.0, gamma=0.0, lambda_=0.0
    )
    result = run(config, tmp_path / "run", progress="lines")
    said = capsys.readouterr().out.splitlines()
    assert (
        set(result["inherited"]) == {"copied", "other_shape", "not_there"}
        and result["inherited"]["other_shape"] == result["inherited"]["not_there"] == []
    )
    assert (
        f"inherited: {len(result['inherited']['copied'])} tensors of neck and head are the teacher's; "
        "the student keeps its own: none"
        in said
    )
    (look,) = [line for line in said if line.startswith("worth a look: ")]
    assert "loss ratio of the distillation" in look and "of the task loss; change it by strength or loss_ratio" in look
    plain = run(config.but(inherit=False, seed=1), tmp_path / "plain", progress="off")
    assert plain["inherited"] is None and capsys.readouterr().out == ""
