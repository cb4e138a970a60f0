"""Two processes and one: the same losses on the same batch, the same weights and detections, resuming after a kill."""

import json
import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from fgdlab.balance import Balance
from fgdlab.config import FGDConfig
from fgdlab.distill import Distiller
from fgdlab.fgd import FGDLoss
from fgdlab.lab.detectors.backbones import FrozenStatsBatchNorm2d
from fgdlab.lab.detectors.builder import DETECTORS, build
from fgdlab.lab.run import RunFolder, run
from fgdlab.lab.run.one_run import run_in_group
from fgdlab.lab.training.distributed import (
    ProcessGroup,
    check_batch_split,
    check_ranks_agree,
    check_reached,
    joined,
    sync_batchnorm,
)
from fgdlab.lab.training.evaluate import detections
from fgdlab.lab.training.loop import train
from fgdlab.terms import total

LOSS = FGDConfig(1e-3, 5e-4, 1e-2, 1e-4)


def log_rows(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def another_teacher() -> nn.Module:
    """Wider maps than the student's, so that the loss has an align layer."""
    torch.manual_seed(99)
    teacher = build("retinanet", "compact_s", 10)
    teacher.backbone.fpn = type(teacher.backbone.fpn)([32, 48, 64], 64, norm_layer=nn.BatchNorm2d)
    teacher.backbone.out_channels = 64
    return teacher


def distiller_with_align(seed: int = 0) -> Distiller:
    """Its student's norms keep their statistics, since norms that learn are refused in several processes on the CPU."""
    torch.manual_seed(seed)
    student = build("retinanet", "compact_s", 10)
    for module in student.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = FrozenStatsBatchNorm2d
    loss = FGDLoss(student.levels, 48, 64, LOSS)
    return Distiller(student, another_teacher(), loss, balance=Balance(loss_ratio=0.5))


class Interruption(Exception):
    pass


def train_shared(scenes, config, folder, kill_in: int = 0):
    """Train as one process of a group; (state, timing, random numbers), or None where it was killed."""
    distiller, calls = distiller_with_align(), []

    def kill(*_):
        calls.append(1)
        if len(calls) == kill_in:
            raise Interruption

    distiller.student.register_forward_pre_hook(kill)
    with joined("cpu") as group:
        folder.mkdir(exist_ok=True)
        try:
            timing = train(distiller, scenes, config, folder, progress="off", group=group)
        except Interruption:
            return None
    return distiller.state_dict(), timing, torch.rand(3).tolist()


# ---- training --------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def alone(tiny_config, tiny_scenes, tmp_path_factory):
    """(settings, folder, state) of two epochs in one process.

    Batches of 5, so that the shares of two processes differ; SGD, since AdamW would amplify rounding.
    """
    config, folder = (
        tiny_config(batch_size=5, epochs=2, flip=0.5, checkpoint_every=1, optimizer="sgd", lr=0.01),
        tmp_path_factory.mktemp("alone"),
    )
    state, *_ = train_shared(tiny_scenes(), config, folder)
    return config, folder, state


@pytest.fixture(scope="module")
def shared(alone, tiny_scenes, tmp_path_factory):
    """(folder, [what each rank returned]) of the same training in two processes."""
    from tests.helpers.process_fixtures import forked

    folder = tmp_path_factory.mktemp("shared")
    return folder, forked(2, train_shared, tiny_scenes(), alone[0], folder)


def test_two_processes_have_the_losses_of_one(alone, shared):
    one, two = log_rows(alone[1]), log_rows(shared[0])
    assert [(row["step"], row["name"], row["level"]) for row in one] == [
        (row["step"], row["name"], row["level"]) for row in two
    ] and len(one) == 4 * 15
    for mine, theirs in zip(one, two, strict=True):
        tolerance = 1e-5 if mine["step"] == 1 else 2e-3  # later steps stand on weights that differ by rounding
        assert theirs["raw"] == pytest.approx(mine["raw"], rel=tolerance), mine
        assert theirs["weighted"] == pytest.approx(mine["weighted"], rel=tolerance), mine
        if mine["name"] == "total":
            assert theirs["grad_norm"] == pytest.approx(mine["grad_norm"], rel=tolerance) and theirs["lr"] == mine["lr"]


def test_both_processes_end_in_the_same_bits_and_near_those_of_one(alone, shared, same_bits):
    (first, *_), (second, *_) = shared[1]
    def tensors(state):
        return {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}

    same_bits(tensors(first), tensors(second))
    assert first["balance._extra_state"] == second["balance._extra_state"]
    assert {"loss.align.P3.weight", "loss.relation.P3.teacher.transform.3.weight"} <= first.keys()
    for name, value in tensors(alone[2]).items():
        assert_close(first[name], value, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


def test_each_process_draws_random_numbers_of_its_own(shared):
    (*_, first), (*_, second) = shared[1]
    assert first != second


def test_a_killed_group_resumes_to_the_same_bits(alone, shared, tiny_scenes, together, same_bits, tmp_path):
    config, straight = alone[0], shared[1]
    assert together(train_shared, tiny_scenes(), config, tmp_path, 4) == [None, None]
    resumed = together(train_shared, tiny_scenes(), config, tmp_path)
    for (state, timing, drawn), (wanted, _, drawn_straight) in zip(resumed, straight, strict=True):
        assert timing["resumed_at"] == 3 and drawn == drawn_straight
        same_bits(
            *(
                {name: value for name, value in each.items() if isinstance(value, torch.Tensor)}
                for each in (state, wanted)
            )
        )
    assert (tmp_path / "metrics.jsonl").read_bytes() == (shared[0] / "metrics.jsonl").read_bytes()


def test_one_process_may_resume_from_a_checkpoint_of_two(alone, shared, tiny_scenes, tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes((shared[0] / "checkpoint.pt").read_bytes())
    state, timing, _ = train_shared(tiny_scenes(), alone[0], tmp_path)
    assert timing["resumed_at"] == timing["steps"] == 4
    assert torch.equal(state["student.backbone.stem.0.weight"], shared[1][0][0]["student.backbone.stem.0.weight"])


# ---- evaluation and a whole run --------------------------------------------------------------------------------------

def detect_shared(scenes):
    seen, real = [], scenes._pixels
    scenes._pixels = lambda i: seen.append(i) or real(i)
    torch.manual_seed(3)
    detector = build("retinanet", "compact_s", 10, score_thresh=0.0)
    with joined("cpu") as group:
        return detections(detector, scenes, batch_size=3, group=group), seen


def test_every_image_is_evaluated_once_and_all_detections_are_those_of_one_process(tiny_scenes, together):
    alone, seen = detect_shared(tiny_scenes("val"))
    (first, of_first), (second, of_second) = together(detect_shared, tiny_scenes("val"))
    assert seen == list(range(8)) == of_first + of_second and of_first and of_second
    assert first == second == alone and len({each["image_id"] for each in alone}) == 8


def test_a_run_of_two_processes_is_written_once_and_both_return_it(lab_home, tiny_config, together, tmp_path):
    config = tiny_config(method="fgd", epochs=1, flavour="mmdet", student="resnet18", teacher="resnet18")
    first, second = together(run, config, tmp_path / "two")
    assert first == second == json.loads((tmp_path / "two/result.json").read_text())
    assert first["provenance"]["processes"] == 2 and first["steps"] == 3 and first["teacher"]["origin"] == "trained now"
    assert {each.name for each in (tmp_path / "two").iterdir()} - {"lock"} == {
        "params.json", "code.json", "metrics.jsonl", "checkpoint.pt", "student.safetensors", "detections.json",
        "result.json", "identity.json",
    }
    alone = run(config, tmp_path / "one", progress="off")
    assert "processes" not in alone["provenance"] and alone["data_hashes"] == first["data_hashes"]
    assert [row["step"] for row in log_rows(tmp_path / "two")] == [row["step"] for row in log_rows(tmp_path / "one")]


# ---- norms -----------------------------------------------------------------------------------------------------------

def test_norms_that_learn_are_refused_in_several_processes_on_the_cpu(
    tiny_config, tiny_scenes, tiny_distiller, refusal
):
    """So a student that would learn from one process's share is never trained; the teacher's norms do not count."""
    text = refusal(train, tiny_distiller(), tiny_scenes(), tiny_config(), progress="off", group=group_of(2))
    assert text.startswith(
        "batch norms that learn must train on CUDA or in one process, "
        "got 'student.backbone.stem.1' in 2 processes on the CPU"
    )
    assert "flavour=mmdet" in text


def test_norms_that_learn_are_refused_before_a_teacher_is_trained(lab_home, tiny_config, tmp_path, refusal):
    text = refusal(run_in_group, tiny_config(method="fgd"), RunFolder(tmp_path), "off", "cpu", group_of(2))
    assert "got 'backbone.stem.1' in 2 processes on the CPU" in text
    assert not (lab_home / "teachers").exists()


def test_norms_of_one_process_and_norms_that_keep_their_statistics_stay_as_they_are():
    module = nn.Sequential(nn.BatchNorm2d(2), FrozenStatsBatchNorm2d(2), nn.GroupNorm(1, 2))
    sync_batchnorm(module, ProcessGroup(), "cpu")
    assert [type(layer) for layer in module] == [nn.BatchNorm2d, FrozenStatsBatchNorm2d, nn.GroupNorm]
    sync_batchnorm(module[1:], group_of(2), "cpu")


def test_on_cuda_norms_that_learn_become_those_of_torch_with_the_same_weights(same_bits):
    module = nn.Sequential(nn.BatchNorm2d(2), FrozenStatsBatchNorm2d(2), nn.GroupNorm(1, 2))
    nn.init.uniform_(module[0].weight)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    sync_batchnorm(module, group_of(2), "cuda")
    assert [type(layer) for layer in module] == [nn.SyncBatchNorm, FrozenStatsBatchNorm2d, nn.GroupNorm]
    same_bits(module, before)


# ---- what is refused -------------------------------------------------------------------------------------------------

def group_of(world_size: int, rank: int = 0, values=()) -> ProcessGroup:
    group = ProcessGroup()
    group.world_size, group.rank, group.gathered = world_size, rank, lambda value: [value, *values]
    return group


@pytest.mark.parametrize("count, world", [(7, 2), (8, 3), (3, 3), (16, 5), (2, 4)])
def test_shares_are_neighbours_that_differ_by_one_at_most_and_leave_nothing_out(count, world):
    shares = [group_of(world, rank).share(list(range(count))) for rank in range(world)]
    assert sum(shares, []) == list(range(count)) and max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_batch_must_have_an_image_for_every_part_of_every_process(refusal):
    check_batch_split(group_of(4), 8, 2)
    assert "batch_size must be at least 4 processes x accumulate 2, got 7" in refusal(
        check_batch_split, group_of(4), 7, 2
    )


def test_weights_that_differ_between_processes_are_not_saved():
    module = nn.Linear(2, 2)
    check_ranks_agree(ProcessGroup(), 5, module)
    with pytest.raises(
        FloatingPointError, match="all 2 processes must hold the same weights after step 5, got 2 versions"
    ):
        check_ranks_agree(group_of(2, values=[0.5]), 5, module)


def test_a_layer_that_the_loss_does_not_reach_is_named(refusal):
    module = nn.ModuleDict({"used": nn.Linear(1, 1), "idle": nn.Linear(1, 1)})
    module["used"](torch.ones(1)).sum().backward()
    check_reached(ProcessGroup(), module)
    assert "got no gradient for idle.weight, idle.bias" in refusal(check_reached, group_of(2), module)


@pytest.mark.slow
@pytest.mark.parametrize("name", DETECTORS)
def test_a_batch_without_objects_reaches_every_parameter_of_a_detector(name):
    """So no process waits for a gradient that its share of the batch does not give."""
    distiller = Distiller(build(name, "yolox_nano" if name == "yolox" else "resnet18", 3)).train()
    nothing = {
        "boxes": torch.zeros(0, 4),
        "labels": torch.zeros(0, dtype=torch.int64),
        "masks": torch.zeros(0, 64, 64, dtype=torch.uint8),
    }
    total(distiller([torch.rand(3, 64, 64)] * 2, [nothing] * 2)).backward()
    check_reached(group_of(2), distiller)


def test_the_learning_rate_is_printed_with_its_batch_size(tiny_config):
    assert (
        ProcessGroup().batch_line(tiny_config(batch_size=16, lr=0.01))
        == "16 images per step, peak lr 0.01: 0.000625 per image"
    )
    assert (
        group_of(8).batch_line(tiny_config(batch_size=16, lr=0.02, accumulate=2))
        == "16 images per step (8 processes x 2 parts), peak lr 0.02: 0.00125 per image"
    )


def test_a_single_process_is_a_group_whatever_variables_a_cluster_sets(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "64")                           # some clusters set it for every process
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    with joined("cpu") as group:
        assert (group.world_size, group.is_rank0, group.broadcast("word"), group.gathered(3)) == (1, True, "word", [3])
        assert math.isclose(group.means([0.5], 3.0)[0], 0.5)
