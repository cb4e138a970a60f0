"""Checks before the first step: faults are named, nothing is changed, and ``fgdlab doctor`` reports both."""
import pytest
import torch
from click.testing import CliRunner

from fgdlab.distill import Distiller
from fgdlab.fgd import FGDLoss
from fgdlab.lab.checkpoints.checksums import changed_tensors, checksum
from fgdlab.lab.checkpoints.safetensors_io import save_weights
from fgdlab.lab.commands.cli import main
from fgdlab.lab.detectors.builder import build
from fgdlab.lab.run import one_run as lab_run
from fgdlab.lab.training.preflight_checks import CheckResult, preflight, refuse

LEVELS = ("P3", "P4", "P5")


@pytest.fixture
def ready(tiny_distiller):
    """A distiller whose teacher has the checksum of its loaded weights."""
    distiller = tiny_distiller()
    distiller.teacher.checksum = checksum(distiller.teacher)
    return distiller


def failed(distiller, train_set) -> str:
    """The only failed check."""
    lines = [line for line in preflight(distiller, train_set) if line.passed is False]
    assert len(lines) == 1
    return str(lines[0])


# ---- what is right ---------------------------------------------------------------------------------------------------

def test_a_sound_distiller_passes_with_shapes_and_loss_ratios(ready, tiny_scenes):
    lines = {line.name: line for line in preflight(ready, tiny_scenes())}
    assert all(line.passed for line in lines.values())
    for level, side in zip(LEVELS, (8, 4, 2), strict=True):
        assert lines[level].detail == f"student (4, 48, {side}, {side}), teacher (4, 48, {side}, {side})"
    for name in ("fg", "bg", "attention", "global"):
        assert [each.split()[0] for each in lines[f"loss ratio of {name!r}"].detail.split(", ")] == list(LEVELS)


def test_loss_ratios_are_weighted_terms_over_the_task_loss(ready, tiny_scenes):
    images, targets = map(list, zip(*(tiny_scenes()[i] for i in range(4)), strict=True))
    found = {line.name: line.detail for line in preflight(ready, tiny_scenes())}
    with torch.no_grad():
        terms = ready.train()(images, targets)
    task_loss = sum(float(term.raw) for term in terms if term.level == "all")
    for name in ("fg", "global"):
        expected = [
            f"{term.level} {term.weight * float(term.raw) / task_loss:.3g}" for term in terms if term.name == name
        ]
        assert found[f"loss ratio of {name!r}"] == ", ".join(expected)


def test_preflight_changes_nothing(ready, tiny_scenes, bits, same_bits):
    ready.eval()
    before, random = bits(ready), torch.get_rng_state()
    preflight(ready, tiny_scenes())
    same_bits(bits(ready), before)
    assert (
        torch.equal(torch.get_rng_state(), random)
        and not ready.training
        and not any(each.training for each in ready.modules())
    )
    assert not ready.loss._forward_pre_hooks


def test_a_plain_student_is_checked_too(tiny_distiller, tiny_scenes):
    lines = preflight(tiny_distiller(0, None), tiny_scenes())
    assert all(line.passed for line in lines) and [line.name for line in lines] == [
        "parameters in the optimiser",
        "boxes",
        "loss terms",
    ]


# ---- what is wrong ---------------------------------------------------------------------------------------------------

def test_layers_of_the_loss_that_are_not_trained_are_named(ready, tiny_scenes):
    ready.loss.relation["P4"].student.key.weight.requires_grad_(False)
    assert "own layers must be trained: relation.P4.student.key.weight" in failed(ready, tiny_scenes())


def test_a_teacher_in_train_mode_or_with_gradients_is_refused(ready, tiny_scenes):
    ready.teacher.backbone.fpn.train()
    assert "the teacher must be frozen and in eval mode: backbone.fpn" in failed(ready, tiny_scenes())
    ready.teacher.eval().head.requires_grad_(True)
    assert "require a gradient" in failed(ready, tiny_scenes())


def test_a_teacher_that_was_initialised_again_is_refused_with_the_names_of_its_tensors(ready, tiny_scenes):
    torch.nn.init.normal_(ready.teacher.head.regression_head.bbox_reg.weight)
    assert "1 tensors have changed since (head.regression_head.bbox_reg.weight)" in failed(ready, tiny_scenes())


def test_weights_that_are_not_finite_are_named(ready, tiny_scenes):
    ready.teacher.backbone.stem[0].weight.data[0] = float("nan")
    assert "must be finite: NaN or infinity in backbone.stem.0.weight" in failed(ready, tiny_scenes())


def test_a_term_that_is_not_finite_is_named_with_its_level(ready, tiny_scenes):
    ready.loss.relation["P5"].student.transform[3].bias.data.fill_(float("inf"))
    assert "'global' on P5 is" in failed(ready, tiny_scenes())


def test_an_inherited_head_that_was_overwritten_is_refused(ready, tiny_scenes):
    name = "head.classification_head.cls_logits.bias"
    ready.student.inherited = (name,)
    ready.student.head.classification_head.cls_logits.bias.data.fill_(1.0)
    assert f"1 of 1 tensors differ ({name})" in failed(ready, tiny_scenes())
    ready.student.head.classification_head.cls_logits.bias.data.copy_(
        ready.teacher.head.classification_head.cls_logits.bias
    )
    assert all(line.passed for line in preflight(ready, tiny_scenes()))


class Changed:
    """A data set with scaled boxes."""

    def __init__(self, scenes, factor):
        self.scenes, self.factor = scenes, factor

    def __len__(self):
        return len(self.scenes)

    def __getitem__(self, i):
        image, target = self.scenes[i]
        return image, {**target, "boxes": target["boxes"] * self.factor}


def test_boxes_that_are_no_pixels_of_their_image_are_refused(ready, tiny_scenes):
    assert "boxes must be in pixels" in failed(ready, Changed(tiny_scenes(), 1 / 64))
    assert "boxes must lie within their images" in failed(ready, Changed(tiny_scenes(), 4))


def test_levels_of_different_size_are_reported_with_both_shapes(tiny_scenes):
    """A teacher whose finest map has stride 4 calls it P2; asked for as P3 it does not fit."""

    class Doubled(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner, self.out_channels = inner, inner.out_channels

        def forward(self, pixels):
            return {name: each.repeat_interleave(2, dim=3) for name, each in self.inner(pixels).items()}

    student, teacher = build("retinanet", "compact_s", 10), build("retinanet", "compact_s", 10)
    teacher.backbone = Doubled(teacher.backbone)
    text = str(
        next(
            line
            for line in preflight(Distiller(student, teacher, FGDLoss(LEVELS, 48, 48)), tiny_scenes())
            if line.passed is False
        )
    )
    assert "student map (4, 48, 8, 8) and teacher map (4, 48, 8, 16) must have the same shape" in text


def test_a_checksum_sees_any_changed_bit_and_ignores_the_memory_format():
    module = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 1), torch.nn.BatchNorm2d(3))
    before = checksum(module)
    assert (
        changed_tensors(before, module) == []
        and changed_tensors(before, module.to(memory_format=torch.channels_last)) == []
    )
    module[1].num_batches_tracked += 1
    module[0].weight.data[0, 0] = torch.nextafter(module[0].weight.data[0, 0], torch.tensor(9.0))
    assert sorted(changed_tensors(before, module)) == ["0.weight", "1.num_batches_tracked"]


def test_the_first_failed_check_ends_a_run(refusal):
    lines = [
        CheckResult("a", True, "fine"),
        CheckResult("b", None, "odd"),
        CheckResult("c must be d", False, "e", "do f"),
        CheckResult("g", False, "h"),
    ]
    assert refusal(refuse, lines) == "before the first step, c must be d: e; do f"
    refuse(lines[:2])


# ---- in a run, and by the doctor -------------------------------------------------------------------------------------

def raw_teacher(path) -> str:
    torch.manual_seed(0)
    save_weights(build("retinanet", "compact_s", 10), path)
    return str(path)


def test_a_run_whose_teacher_lost_its_weights_stops_before_its_first_step(
    lab_home, tiny_config, tmp_path, refusal, monkeypatch
):
    config = tiny_config(
        method="fgd", rounding="exact", teacher_checkpoint=raw_teacher(tmp_path / "t.safetensors"), epochs=1
    )

    def spoilt(*args, real=lab_run.get_teacher, **options):
        teacher = real(*args, **options)
        torch.nn.init.normal_(teacher.detector.head.regression_head.bbox_reg.weight)
        return teacher

    monkeypatch.setattr(lab_run, "get_teacher", spoilt)
    text = refusal(lab_run.run, config, tmp_path / "run", progress="off")
    assert (
        text.startswith("before the first step, the teacher's weights must be those that were loaded")
        and not (tmp_path / "run/metrics.jsonl").exists()
    )


FLAGS = [
    "--image-size",
    "64",
    "--train-images",
    "12",
    "--eval-images",
    "8",
    "--teacher",
    "compact_s",
    "--batch-size",
    "4",
    "--device",
    "cpu",
]


def doctor(*words):
    return CliRunner().invoke(main, ["doctor", *words], prog_name="fgdlab")


def test_the_doctor_looks_at_the_machine(lab_home):
    done = doctor()
    assert done.exit_code in (0, 1) and "Traceback" not in done.output
    for words in (
        "python and packages: python 3",
        "processor: ",
        "fused FGD loss on cpu: ",
        "cache: ",
        "disk for runs/: ",
    ):
        assert words in done.stdout
    assert "teacher" not in done.stdout.replace("a teacher's maps", "")


def test_the_doctor_says_what_is_wrong_with_settings_and_exits_with_1(lab_home, tmp_path):
    done = doctor(*FLAGS, "--teacher-checkpoint", raw_teacher(tmp_path / "t.safetensors"))
    assert done.exit_code == 1 and "WRONG  teacher's AP: 0.0 on 8 images of val; check its checkpoint" in done.stdout
    assert (
        "data, split train: 12 images" in done.stdout
        and "loss ratio of 'fg'" in done.stdout
        and "P3: student (4, 48, 8, 8)" in done.stdout
    )
    waits = doctor(*FLAGS)
    assert "look   teacher: compact_s is not there yet; the first run trains it for 20 epochs" in waits.stdout
    missing = doctor(*FLAGS, "--teacher-checkpoint", "none.safetensors")
    assert (
        missing.exit_code == 1
        and "WRONG  settings: weights must be a file, got 'none.safetensors', which is none; check the path"
        in missing.stdout
    )
