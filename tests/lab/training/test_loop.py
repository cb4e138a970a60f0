"""Training: the same numbers whatever interrupts it, a log that is whole, and a stop that names its reason."""
import io
import itertools
import json
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from fgdlab.config import FGDConfig
from fgdlab.distill import Distiller
from fgdlab.lab.config.run_config import RunConfig
from fgdlab.lab.datasets.dataset import shuffled_batches
from fgdlab.lab.training import loop as lab_train
from fgdlab.lab.training.checkpoint import save
from fgdlab.lab.training.loop import learning_rate, make_optimizer, train
from fgdlab.terms import Term, total

STEPS = 9                                                            # 12 scenes, 4 a step, 3 epochs


def train_tiny(distiller, scenes, config, folder=None):
    if folder:
        folder.mkdir(exist_ok=True)
    return train(distiller, scenes, config, folder, progress="off")


def log_rows(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


class Interruption(Exception):
    pass


def interrupt_in_step(distiller, step):
    """Raise in the middle of the forward of this step, counted from 1."""
    calls = itertools.count(1)

    def hook(module, args):
        if next(calls) == step:
            raise Interruption

    return distiller.student.backbone.register_forward_pre_hook(hook)


# ---- resuming --------------------------------------------------------------------------------------------------------

ADAMW = {"optimizer": "adamw", "schedule": "cosine"}
SGD = {"optimizer": "sgd", "schedule": "step", "lr": 1e-3, "clip": 0.0, "warmup": 0.25}
PLAIN = None
FGD = FGDConfig(1e-3, 5e-4, 1e-2, 1e-4)
WAYS = {  # settings, loss, steps in which it is interrupted, one after the other
    "adamw, cosine, a checkpoint an epoch": (ADAMW, PLAIN, [5]),
    "adamw, fgd, checkpoints within an epoch": (ADAMW | {"checkpoint_every": 2}, FGD, [4, 8]),
    "adamw, a checkpoint each step": (ADAMW | {"checkpoint_every": 1, "log_every": 2}, PLAIN, [1, 2, 7, 9]),
    "adamw, averaged, early stopping": (
        ADAMW | {"checkpoint_every": 2, "ema": 0.9, "patience": 9, "tune_every": 4}, PLAIN, [6]),
    "adamw, plateau, views": (
        ADAMW | {"checkpoint_every": 2, "schedule": "plateau", "patience": 1, "tune_every": 3, "zoom": 0.3, "views": 2},
        PLAIN, [6]),
    "adamw, mirrored": (ADAMW | {"checkpoint_every": 2, "flip": 0.5}, PLAIN, [6]),
    "sgd, step, fgd": (SGD, FGD, [6, 7]),
    "sgd, step, checkpoints within an epoch": (SGD | {"checkpoint_every": 4}, PLAIN, [6]),
    "sgd, step, before any checkpoint": (SGD, PLAIN, [2]),
}


@pytest.mark.parametrize("settings, loss, interruptions", WAYS.values(), ids=WAYS)
def test_an_interrupted_training_ends_in_the_same_bits(
    tiny_config, tiny_scenes, tiny_distiller, bits, same_bits, tmp_path, settings, loss, interruptions
):
    config = tiny_config(**settings)
    straight = tiny_distiller(0, loss)
    start = bits(straight)
    done = train_tiny(straight, tiny_scenes(), config, tmp_path / "straight")
    assert done["steps"] == STEPS and done["resumed_at"] == 0

    every = config.checkpoint_every or STEPS // config.epochs
    at = 0
    for step in interruptions:
        broken = tiny_distiller(0, loss)
        hook = interrupt_in_step(broken, step - at)
        with pytest.raises(Interruption):
            train_tiny(broken, tiny_scenes(), config, tmp_path / "broken")
        hook.remove()
        at = (step - 1) // every * every                             # what the last checkpoint holds
        torch.manual_seed(1000 + step)                               # a new process stands elsewhere
        torch.rand(step)
    resumed = tiny_distiller(0, loss)
    done = train_tiny(resumed, tiny_scenes(), config, tmp_path / "broken")
    assert done["resumed_at"] == at

    same_bits(resumed, straight)
    assert (tmp_path / "broken/metrics.jsonl").read_bytes() == (tmp_path / "straight/metrics.jsonl").read_bytes()
    learned = [name for name in start if not torch.equal(start[name], straight.state_dict()[name])]
    assert any(name.startswith("student.head") for name in learned)
    if loss:  # the loss's own layers are trained and resumed too
        blocks = {
            f"loss.relation.{level}.{who}.transform.3.weight"
            for level in ("P3", "P4", "P5")
            for who in ("student", "teacher")
        }
        assert blocks <= set(learned)


def test_a_kill_between_log_and_checkpoint_leaves_no_row_twice(
    tiny_config, tiny_scenes, tiny_distiller, same_bits, monkeypatch, tmp_path
):
    config = tiny_config(checkpoint_every=2)
    straight = tiny_distiller(0, None)
    train_tiny(straight, tiny_scenes(), config, tmp_path / "straight")

    def killed_at_the_third(folder, step, *rest):
        if step == 6:
            raise KeyboardInterrupt
        save(folder, step, *rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(lab_train, "save", killed_at_the_third)
        train_tiny(tiny_distiller(0, None), tiny_scenes(), config, tmp_path / "broken")
    assert log_rows(tmp_path / "broken")[-1]["step"] == 6
    resumed = tiny_distiller(0, None)
    assert train_tiny(resumed, tiny_scenes(), config, tmp_path / "broken")["resumed_at"] == 4
    same_bits(resumed, straight)
    assert (tmp_path / "broken/metrics.jsonl").read_bytes() == (tmp_path / "straight/metrics.jsonl").read_bytes()


def test_a_finished_training_is_not_trained_further(
    tiny_config, tiny_scenes, tiny_distiller, bits, same_bits, tmp_path
):
    first = tiny_distiller(0, None)
    train_tiny(first, tiny_scenes(), tiny_config(epochs=1), tmp_path)
    logged, after = (tmp_path / "metrics.jsonl").read_bytes(), bits(first)
    again = tiny_distiller(1, None)
    done = train_tiny(again, tiny_scenes(), tiny_config(epochs=1), tmp_path)
    assert done["resumed_at"] == done["steps"] == 3 and math.isnan(done["images_per_second"])
    same_bits(again, after)
    assert (tmp_path / "metrics.jsonl").read_bytes() == logged


def test_a_half_written_line_is_dropped(tiny_config, tiny_scenes, tiny_distiller, tmp_path):
    config = tiny_config(epochs=1)
    train_tiny(tiny_distiller(0, None), tiny_scenes(), config, tmp_path)
    whole = (tmp_path / "metrics.jsonl").read_bytes()
    line = whole.splitlines()[-1]
    for half in (line[:1], line[:len(line) // 2], line[:-1], b'{"step": 99, "name": "total"}\n' + line[:7]):
        (tmp_path / "metrics.jsonl").write_bytes(whole + half)
        train_tiny(tiny_distiller(0, None), tiny_scenes(), config, tmp_path)
        assert (tmp_path / "metrics.jsonl").read_bytes() == whole


def test_rows_of_a_run_without_checkpoint_are_written_anew(tiny_config, tiny_scenes, tiny_distiller, tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "name": "total"}\n')
    train_tiny(tiny_distiller(0, None), tiny_scenes(), tiny_config(epochs=1), tmp_path)
    assert [row["step"] for row in log_rows(tmp_path) if row["name"] == "total"] == [1, 2, 3] and len(
        log_rows(tmp_path)
    ) == 9


def cut(content):
    return content[:len(content) // 2]


def pickled(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "damage",
    [
        cut,
        lambda content: b"",
        lambda content: b"no checkpoint at all",
        lambda content: pickled({"step": 3}),
        lambda content: pickled([1, 2]),
        lambda content: pickled({**torch.load(io.BytesIO(content), weights_only=True), "distiller": {}}),
        lambda content: pickled(
            {
                key: value
                for key, value in torch.load(io.BytesIO(content), weights_only=True).items()
                if key not in ("random", "step")
            }
        ),
    ],
    ids=["cut off", "empty", "text", "without weights", "a list", "of another model", "without step"],
)
def test_a_broken_checkpoint_is_one_line(tiny_config, tiny_scenes, tiny_distiller, refusal, tmp_path, damage):
    train_tiny(tiny_distiller(0, None), tiny_scenes(), tiny_config(epochs=1), tmp_path)
    (tmp_path / "checkpoint.pt").write_bytes(damage((tmp_path / "checkpoint.pt").read_bytes()))
    text = refusal(train_tiny, tiny_distiller(0, None), tiny_scenes(), tiny_config(epochs=1), tmp_path)
    assert "checkpoint.pt must be a checkpoint of this run" in text and "delete it" in text


def test_a_checkpoint_holds_no_teacher(tiny_config, tiny_scenes, tiny_distiller, tmp_path):
    train_tiny(tiny_distiller(0, FGD), tiny_scenes(), tiny_config(epochs=1), tmp_path)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert {name.split(".")[0] for name in state["distiller"]} == {"student", "loss"} and state["step"] == 3
    assert sorted(each.name for each in tmp_path.iterdir()) == ["checkpoint.pt", "metrics.jsonl"]


def test_without_a_folder_nothing_is_written(tiny_config, tiny_scenes, tiny_distiller, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert train_tiny(tiny_distiller(0, None), tiny_scenes(), tiny_config(epochs=1))["steps"] == 3
    assert list(tmp_path.iterdir()) == []


# ---- seeds -----------------------------------------------------------------------------------------------------------

def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    tiny_config, tiny_scenes, tiny_distiller, same_bits
):
    trained = []
    for seed in (0, 0, 1):
        trained.append(tiny_distiller(0, None))
        torch.manual_seed(len(trained))  # the seed of the settings decides, not the state of the process
        train_tiny(trained[-1], tiny_scenes(), tiny_config(seed=seed, epochs=1))
    same_bits(trained[0], trained[1])
    with pytest.raises(AssertionError):
        same_bits(trained[0], trained[2])                            # the order of images differs


def test_workers_do_not_change_the_weights(tiny_config, tiny_scenes, tiny_distiller, same_bits):
    trained = [tiny_distiller(0, None) for _ in range(2)]
    for distiller, workers in zip(trained, (0, 1), strict=True):
        train_tiny(distiller, tiny_scenes(), tiny_config(workers=workers, epochs=1, flip=0.5))
    same_bits(*trained)


def test_the_teacher_is_bit_unchanged_by_training(tiny_config, tiny_scenes, tiny_distiller, bits, same_bits):
    distiller = tiny_distiller(0, FGD)
    before = bits(distiller.teacher)
    train_tiny(distiller, tiny_scenes(), tiny_config(epochs=1))
    same_bits(distiller.teacher, before)
    assert not any(module.training for module in distiller.teacher.modules())


# ---- the step --------------------------------------------------------------------------------------------------------

def test_two_steps_of_sgd_are_those_by_hand(tiny_config, tiny_scenes, tiny_distiller):
    """v = 0.9 v + g + decay w;  w = w - lr v;  g scaled down to the norm that clip allows."""
    config = tiny_config(
        optimizer="sgd",
        lr=0.01,
        weight_decay=0.1,
        momentum=0.9,
        clip=0.5,
        warmup=0.0,
        schedule="step",
        epochs=1,
        batch_size=6,
    )
    trained, byhand = tiny_distiller(0, None), tiny_distiller(0, None).train()
    train_tiny(trained, tiny_scenes(), config)
    velocity = {}
    for images, targets in shuffled_batches(tiny_scenes(), 6, seed=0, epoch=0):
        loss = total(byhand(images, targets))
        names, weights = zip(*byhand.named_parameters(), strict=True)
        gradients = torch.autograd.grad(loss, weights)
        norm = torch.sqrt(sum(each.square().sum() for each in gradients))
        assert norm > 0.5                                            # so that clipping is at work
        with torch.no_grad():
            for name, weight, gradient in zip(names, weights, gradients, strict=True):
                velocity[name] = 0.9 * velocity.get(name, 0) + gradient * 0.5 / norm + 0.1 * weight
                weight -= 0.01 * velocity[name]
    state = byhand.state_dict()
    for name, value in trained.state_dict().items():
        assert_close(value, state[name], rtol=1e-4, atol=1e-6)


def test_clip_0_bounds_nothing_and_the_logged_norm_is_the_one_before_clipping(
    tiny_config, tiny_scenes, tiny_distiller, tmp_path
):
    norms = []
    for clip in (0.0, 1e-3, 1e9):
        folder = tmp_path / str(clip)
        train_tiny(
            tiny_distiller(0, None), tiny_scenes(), tiny_config(epochs=1, clip=clip, optimizer="sgd", lr=1e-4), folder
        )
        norms.append([row["grad_norm"] for row in log_rows(folder) if row["name"] == "total"])
    assert norms[0] == norms[2] and norms[0][0] == norms[1][0] > 1e-3 and norms[0][1] != norms[1][1]


def test_the_optimizer_has_the_settings_of_the_run():
    weight = [nn.Parameter(torch.zeros(1))]
    sgd = make_optimizer(weight, RunConfig(optimizer="sgd", lr=0.5, momentum=0.8, weight_decay=0.25))
    adamw = make_optimizer(weight, RunConfig(optimizer="adamw", lr=0.5, weight_decay=0.25))
    assert type(sgd) is torch.optim.SGD and [sgd.defaults[name] for name in ("lr", "momentum", "weight_decay")] == [
        0.5,
        0.8,
        0.25,
    ]
    assert type(adamw) is torch.optim.AdamW and [adamw.defaults[name] for name in ("lr", "weight_decay")] == [0.5, 0.25]


def test_frozen_parameters_stay(tiny_config, tiny_scenes, tiny_distiller, bits):
    distiller = tiny_distiller(0, None)
    distiller.student.backbone.stem.requires_grad_(False)
    before = bits(distiller)
    train_tiny(distiller, tiny_scenes(), tiny_config(epochs=1))
    assert torch.equal(distiller.student.backbone.stem[0].weight, before["student.backbone.stem.0.weight"])


def test_bf16_runs_the_networks_in_bf16_and_the_distillation_sums_in_float32(tiny_config, tiny_scenes, tiny_distiller):
    distiller = tiny_distiller(0, FGD)
    seen = {}
    distiller.student.backbone.register_forward_hook(lambda module, args, output: seen.update(maps=output["0"].dtype))
    distiller.loss.register_forward_hook(
        lambda module, args, output: seen.update(terms={term.raw.dtype for term in output})
    )
    train_tiny(distiller, tiny_scenes(limit=4), tiny_config(epochs=1, precision="bf16"))
    assert seen == {"maps": torch.bfloat16, "terms": {torch.float32}}
    assert {parameter.dtype for parameter in distiller.parameters()} == {torch.float32}


# ---- the learning rate -----------------------------------------------------------------------------------------------

def test_cosine_rises_over_the_warm_up_and_falls_to_0():
    config = RunConfig(lr=1.0, schedule="cosine", warmup=0.2)
    by_hand = [0.5, 1.0, 1.0, *(0.5 * (1 + math.cos(math.pi * k / 8)) for k in range(1, 8))]
    assert [learning_rate(step, 10, config) for step in range(10)] == pytest.approx(by_hand)
    assert learning_rate(6, 10, config) == pytest.approx(0.5) and learning_rate(10, 10, config) == pytest.approx(0)


def test_step_falls_after_16_and_22_of_24_epochs():
    config = RunConfig(lr=0.5, schedule="step", warmup=0.0)
    assert [learning_rate(step, 24, config) for step in range(24)] == pytest.approx(
        [0.5] * 16 + [0.05] * 6 + [0.005] * 2
    )
    assert [learning_rate(step, 24, config.but(warmup=0.125)) for step in range(4)] == pytest.approx(
        [0.5 / 3, 1.0 / 3, 0.5, 0.5]
    )


@pytest.mark.parametrize("schedule", ["cosine", "step"])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 100])
def test_the_learning_rate_stays_within_its_peak_whatever_the_length(schedule, warmup, steps):
    rates = [learning_rate(step, steps, RunConfig(lr=2.0, schedule=schedule, warmup=warmup)) for step in range(steps)]
    assert all(0 <= rate <= 2.0 for rate in rates) and max(rates) == 2.0


def test_the_optimizer_gets_the_rate_of_the_step(tiny_config, tiny_scenes, tiny_distiller, monkeypatch, tmp_path):
    config, used = tiny_config(lr=0.002, warmup=0.2), []

    def watched(parameters, config):
        optimizer = make_optimizer(parameters, config)
        optimizer.register_step_pre_hook(lambda self, args, kwargs: used.append(self.param_groups[0]["lr"]))
        return optimizer

    monkeypatch.setattr(lab_train, "make_optimizer", watched)
    train_tiny(tiny_distiller(0, None), tiny_scenes(), config, tmp_path)
    assert used == [learning_rate(step, STEPS, config) for step in range(STEPS)]
    assert [row["lr"] for row in log_rows(tmp_path) if row["name"] == "total"] == used


# ---- the log ---------------------------------------------------------------------------------------------------------

def test_every_term_on_every_level_is_logged_with_the_total(tiny_config, tiny_scenes, tiny_distiller, tmp_path):
    train_tiny(tiny_distiller(0, FGD), tiny_scenes(), tiny_config(), tmp_path)
    found = log_rows(tmp_path)
    wanted = [
        ("classification", "all"),
        ("bbox_regression", "all"),
        *((name, level) for level in ("P3", "P4", "P5") for name in ("fg", "bg", "attention", "global")),
        ("total", "all"),
    ]
    for step in range(1, STEPS + 1):
        of_step = [row for row in found if row["step"] == step]
        assert [(row["name"], row["level"]) for row in of_step] == wanted
        assert of_step[-1]["weighted"] == pytest.approx(sum(row["weighted"] for row in of_step[:-1]))
        assert of_step[-1]["epoch"] == (step - 1) // 3 and of_step[-1]["steps"] == STEPS
    first = {(row["name"], row["level"]): row for row in found if row["step"] == 1}
    assert first["fg", "P3"]["weighted"] == pytest.approx(1e-3 * first["fg", "P3"]["raw"])


@pytest.mark.parametrize("every, logged", [(1, list(range(1, 10))), (4, [1, 4, 8, 9]), (100, [1, 9])])
def test_so_many_steps_lie_between_rows_and_first_and_last_are_there(
    tiny_config, tiny_scenes, tiny_distiller, tmp_path, every, logged
):
    train_tiny(tiny_distiller(0, None), tiny_scenes(), tiny_config(log_every=every), tmp_path)
    assert [row["step"] for row in log_rows(tmp_path) if row["name"] == "total"] == logged


def test_lines_for_a_log_name_step_loss_and_time_left(tiny_config, tiny_scenes, tiny_distiller, capsys):
    train(tiny_distiller(0, None), tiny_scenes(), tiny_config(epochs=1, log_every=2), progress="lines")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["1/3", "2/3", "3/3"] and all(
        "loss" in line and "s left" in line for line in lines
    )


# ---- what stops it ---------------------------------------------------------------------------------------------------

def test_fewer_images_than_a_batch_is_one_line(tiny_config, tiny_scenes, tiny_distiller, refusal):
    text = refusal(train_tiny, tiny_distiller(0, None), tiny_scenes(), tiny_config(batch_size=13))
    assert "at least one batch of 13 images, got 12" in text and "lower batch_size" in text


class Sour(nn.Module):
    """A term of the given values, step after step; its gradient is the given one."""

    def __init__(self, values, gradient=1.0):
        super().__init__()
        self.values, self.gradient = iter(values), gradient

    def forward(self, scene, teacher_maps):
        pull = scene.features["P4"].sum()
        pull.register_hook(lambda gradient: gradient * self.gradient)
        return [Term("fg", "P3", 0 * pull), Term("bg", "P4", next(self.values) + pull - pull.detach(), 0.5)]


def sour(distiller, values, gradient=1.0):
    return Distiller(distiller.student, None, Sour(values, gradient), recall=lambda ids: {})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_term_that_is_not_finite_stops_with_name_level_and_step(
    tiny_config, tiny_scenes, tiny_distiller, bits, same_bits, tmp_path, value
):
    distiller = sour(tiny_distiller(0, None), [1.0, 1.0, 1.0, 1.0, value])
    with pytest.raises(FloatingPointError, match=rf"'bg' on P4 must be finite, got {value} at step 5"):
        train_tiny(distiller, tiny_scenes(), tiny_config(log_every=100), tmp_path)
    assert all(torch.isfinite(each).all() for each in bits(distiller).values())      # the bad gradient was not applied
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 3


def test_a_gradient_that_is_not_finite_stops_with_the_step(tiny_config, tiny_scenes, tiny_distiller):
    with pytest.raises(FloatingPointError, match="gradient's norm must be finite, got nan at step 1"):
        train_tiny(sour(tiny_distiller(0, None), [1.0], gradient=math.nan), tiny_scenes(), tiny_config())


def test_throughput_counts_this_call_only(tiny_config, tiny_scenes, tiny_distiller, monkeypatch, tmp_path):
    clock = itertools.count(0, 10)
    monkeypatch.setattr(lab_train, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    done = train_tiny(tiny_distiller(0, None), tiny_scenes(), tiny_config(epochs=1), tmp_path)
    assert done["images_per_second"] == pytest.approx(12 / done["train_seconds"]) and done["train_seconds"] > 0
