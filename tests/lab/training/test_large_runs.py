"""Settings of large runs: parts of a batch, half precision, image sizes, memory layouts, compiling, loggers.

Each setting does what it says, and nothing at its default.
"""

import copy
import json
import sys
import types
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from fgdlab.config import FGDConfig
from fgdlab.distill import Distiller
from fgdlab.lab.datasets.batch_sampler import batches_per_epoch, epoch_batches
from fgdlab.lab.datasets.dataset import shuffled_batches
from fgdlab.lab.detectors.backbones import FrozenStatsBatchNorm2d
from fgdlab.lab.run import make_distiller, prepare, run
from fgdlab.lab.training import compile as lab_compiled
from fgdlab.lab.training import loop as lab_train
from fgdlab.lab.training.compile import compiled_pyramids
from fgdlab.lab.training.distributed import ProcessGroup
from fgdlab.lab.training.log import Log
from fgdlab.lab.training.loggers import loggers_of
from fgdlab.lab.training.loop import train
from fgdlab.lab.training.multiscale import check_sizes, drawn_side, short_sides
from fgdlab.lab.training.precision import Precision
from fgdlab.lab.training.step import Step, cut
from fgdlab.terms import Term, total

FGD = FGDConfig(1e-3, 5e-4, 1e-2, 1e-4)


def gradients(module: nn.Module) -> dict:
    return {name: each.grad for name, each in module.named_parameters()}


def one_batch(scenes, size: int = 5) -> tuple:
    return next(iter(shuffled_batches(scenes, size, seed=0, epoch=0)))


def step_of(distiller, config, scenes, precision: str = "fp32"):
    """Terms, loss and gradients of one step over the first batch."""
    terms, loss = Step(distiller.train(), config, Precision(precision, "cpu"), ProcessGroup())(
        *one_batch(scenes, config.batch_size)
    )
    return terms, loss, gradients(distiller)


def with_still_norms(distiller: Distiller) -> Distiller:
    """As the paper's detectors have them: statistics that no batch changes."""
    for module in distiller.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = FrozenStatsBatchNorm2d
    return distiller


# ---- parts of a batch ------------------------------------------------------------------------------------------------

def test_a_batch_in_parts_has_the_losses_and_the_gradient_of_the_whole(tiny_config, tiny_scenes, tiny_distiller):
    whole, parts = (with_still_norms(tiny_distiller(0, FGD)) for _ in range(2))
    terms, loss, wanted = step_of(whole, tiny_config(batch_size=5), tiny_scenes())
    in_parts, its_loss, got = step_of(parts, tiny_config(batch_size=5, accumulate=3), tiny_scenes())
    assert_close(its_loss, loss.detach(), rtol=1e-5, atol=0)
    assert [term[:2] for term in in_parts] == [term[:2] for term in terms]
    assert_close([term.raw for term in in_parts], [term.raw.detach() for term in terms], rtol=1e-5, atol=1e-6)
    largest = max(float(each.abs().max()) for each in wanted.values())
    for name, each in wanted.items():
        assert_close(got[name], each, rtol=1e-4, atol=1e-6 * largest, msg=lambda text, name=name: f"{name}: {text}")


def test_norms_that_learn_see_one_part_at_a_time(tiny_config, tiny_scenes, tiny_distiller):
    """The one thing that parts change, as the help of the setting says."""
    losses = [
        step_of(tiny_distiller(0, None), tiny_config(batch_size=4, accumulate=parts), tiny_scenes())[1]
        for parts in (1, 2)
    ]
    assert losses[0] != losses[1]


def test_one_part_is_the_plain_step_to_the_last_bit(tiny_config, tiny_scenes, tiny_distiller):
    byhand = tiny_distiller(0, FGD).train()
    total(byhand(*one_batch(tiny_scenes()))).backward()
    _, _, got = step_of(tiny_distiller(0, FGD), tiny_config(batch_size=5), tiny_scenes())
    assert all(torch.equal(got[name], each) for name, each in gradients(byhand).items())


@pytest.mark.parametrize("count, parts, sizes", [(5, 3, [1, 2, 2]), (4, 1, [4]), (6, 3, [2, 2, 2])])
def test_parts_are_as_equal_as_can_be(count, parts, sizes):
    pieces = list(cut(list(range(count)), list(range(count)), parts))
    assert [len(images) for images, _ in pieces] == sizes and sum((images for images, _ in pieces), []) == list(
        range(count)
    )


# ---- precision -------------------------------------------------------------------------------------------------------

def test_fp16_computes_near_fp32_with_the_distillation_in_float32(tiny_config, tiny_scenes, tiny_distiller):
    losses, maps, sums = {}, {}, set()
    for name in ("fp32", "fp16"):
        distiller = tiny_distiller(0, FGD)
        distiller.student.backbone.register_forward_hook(
            lambda module, args, output, name=name: maps.update({name: output["0"].dtype})
        )
        distiller.loss.register_forward_hook(
            lambda module, args, output: sums.update(term.raw.dtype for term in output)
        )
        terms, losses[name], _ = step_of(distiller, tiny_config(precision=name), tiny_scenes(), name)
    assert maps == {"fp32": torch.float32, "fp16": torch.float16} and sums == {torch.float32}
    half, full = (losses[name].item() for name in ("fp16", "fp32"))
    assert half == pytest.approx(full, rel=0.02) and half != full


class Pull(nn.Module):
    """A term whose gradient is the given factor."""

    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def forward(self, scene, teacher_maps):
        pull = scene.features["P4"].sum()
        pull.register_hook(lambda gradient: gradient * self.factor)
        return [Term("pull", "P4", pull - pull.detach())]


def steep(distiller, factor: float) -> Distiller:
    return Distiller(distiller.student, None, Pull(factor), recall=lambda ids: {})


def test_a_step_that_overflows_float16_is_left_out_and_the_scale_halves(
    tiny_config, tiny_scenes, tiny_distiller, tmp_path
):
    distiller = steep(tiny_distiller(0, None), 1e34)  # times the first scale, 65536, more than float32 holds
    before = copy.deepcopy(distiller.student.head.state_dict())
    precisions = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lab_train, "Precision", lambda *args: precisions.append(Precision(*args)) or precisions[-1])
        train(distiller, tiny_scenes(limit=8), tiny_config(epochs=1, precision="fp16"), tmp_path, progress="off")
    assert precisions[0].scaler.get_scale() == 65536 / 4
    assert all(torch.equal(value, before[name]) for name, value in distiller.student.head.state_dict().items())
    assert '"grad_norm": null' in (tmp_path / "metrics.jsonl").read_text()
    kept = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["scaler"]
    assert kept["scale"] == 65536 / 4


def test_a_gradient_that_no_scale_saves_stops_the_run():
    precision = Precision("fp16", "cpu")
    precision.check(1)
    precision.scaler.load_state_dict({**precision.scaler.state_dict(), "scale": 0.5})
    with pytest.raises(
        FloatingPointError,
        match=r"must fit into float16, but overflows at a scale of 0.5 at step 9; use precision=bf16",
    ):
        precision.check(9)


def test_an_interrupted_fp16_run_ends_in_the_same_bits(
    tiny_config, tiny_scenes, tiny_distiller, same_bits, tmp_path, monkeypatch
):
    config = tiny_config(epochs=1, precision="fp16", checkpoint_every=1)
    straight = tiny_distiller(0, None)
    train(straight, tiny_scenes(), config, progress="off")
    real = lab_train.save

    def killed(folder, step, *rest):
        real(folder, step, *rest)
        if step == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(lab_train, "save", killed)
        train(tiny_distiller(0, None), tiny_scenes(), config, tmp_path, progress="off")
    resumed = tiny_distiller(0, None)
    train(resumed, tiny_scenes(), config, tmp_path, progress="off")
    same_bits(resumed, straight)


# ---- shapes and sizes ------------------------------------------------------------------------------------------------

class Shapes:
    """Stands for a data set of which only the sizes matter: every third image is wider than tall."""

    def __len__(self) -> int:
        return 23

    def loaded_size(self, i: int) -> tuple[int, int]:
        return (40, 60) if i % 3 == 0 else (60, 40) if i % 3 == 1 else (50, 50)


def test_no_batch_holds_wide_images_and_others(monkeypatch):
    for epoch in range(4):
        found = epoch_batches(Shapes(), 4, seed=1, epoch=epoch, aspect_groups=True)
        assert [len({i % 3 == 0 for i in batch}) for batch in found] == [1] * len(found) and all(
            len(batch) == 4 for batch in found
        )
        assert len(found) == batches_per_epoch(Shapes(), 4, aspect_groups=True) == 8 // 4 + 15 // 4
        flat = sum(found, [])
        assert len(set(flat)) == len(flat)
    assert epoch_batches(Shapes(), 4, 1, 0, True) != epoch_batches(Shapes(), 4, 1, 1, True)


def test_without_groups_the_order_is_what_it_was():
    order = torch.randperm(23, generator=torch.Generator().manual_seed(3 * 100_003 + 5)).tolist()
    assert (
        epoch_batches(Shapes(), 4, seed=3, epoch=5) == [order[i : i + 4] for i in range(0, 20, 4)]
        and batches_per_epoch(Shapes(), 4) == 5
    )


def test_groups_of_shapes_save_padding(coco_folder, tiny_distiller, tiny_config):
    from fgdlab.lab.datasets.annotations import read_split
    from fgdlab.lab.datasets.dataset import DetectionDataset

    sizes = [(96, 32), (32, 96)] * 6
    folder = coco_folder(sizes, {n: [(4, 4, 16, 16, 3, 0)] for n in range(1, 13)}, splits={"train": list(range(1, 13))})
    pixels = {}
    for grouped in (False, True):
        distiller, seen = tiny_distiller(0, None), []
        distiller.student.backbone.register_forward_pre_hook(
            lambda module, args, seen=seen: seen.append(args[0].shape[2] * args[0].shape[3])
        )
        done = train(
            distiller,
            DetectionDataset(read_split(folder, "train")),
            tiny_config(epochs=1, batch_size=3, aspect_groups=grouped),
            progress="off",
        )
        pixels[grouped] = seen
        assert done["steps"] == 4
    assert set(pixels[True]) == {32 * 96} and 96 * 96 in pixels[False]


@pytest.mark.parametrize("text, sides", [("", ()), ("640", (640,)), ("640, 800", (640, 800)), (" ", ())])
def test_short_sides_are_whole_numbers_with_commas(text, sides):
    assert short_sides(text) == sides


@pytest.mark.parametrize("text", ["x", "640;800", "640,", "31", "64.5", "-64", "99999999"])
def test_other_short_sides_are_refused_in_one_line(refusal, tiny_config, text):
    assert f"min_sizes must be whole numbers of 32 to 65535 pixels with commas between, got {text!r}" in refusal(
        check_sizes, tiny_config(min_sizes=text, min_size=64)
    )


def test_sides_to_draw_from_need_a_size_to_be_judged_at(refusal, lab_home, tiny_config, tmp_path):
    text = refusal(run, tiny_config(min_sizes="64,96"), tmp_path / "run", progress="off")
    assert (
        "min_sizes must go with a min_size" in text
        and "give min_size=96" in text
        and not (lab_home / "teachers").exists()
    )


def test_a_side_follows_from_seed_and_step_alone():
    drawn = [drawn_side((64, 96, 128), 0, step) for step in range(60)]
    assert set(drawn) == {64, 96, 128} and drawn == [drawn_side((64, 96, 128), 0, step) for step in range(60)]
    assert drawn != [drawn_side((64, 96, 128), 1, step) for step in range(60)]


def test_student_and_teacher_see_one_size_a_step_and_the_student_is_judged_at_its_own(lab_home, tiny_config):
    config = tiny_config(method="fgd", epochs=2, min_size=64, min_sizes="64,96", teacher_cache="auto")
    parts = prepare(config, progress=False)
    assert parts.cache is None                                       # the teacher's maps would be of one size
    distiller, student, teacher = make_distiller(config, parts), [], []
    distiller.student.backbone.register_forward_pre_hook(lambda module, args: student.append(args[0]))
    distiller.teacher.backbone.register_forward_pre_hook(lambda module, args: teacher.append(args[0]))
    train(distiller, parts.train_set, config, progress="off")
    assert [each.shape[-1] for each in student] == [drawn_side((64, 96), 0, step) for step in range(6)] and len(
        {each.shape[-1] for each in student}
    ) == 2
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(student, teacher, strict=True))
    assert distiller.student.transform.min_size == (64,)


# ---- layout and compiling --------------------------------------------------------------------------------------------

def test_channels_last_is_a_layout_and_no_other_number(lab_home, tiny_config, tiny_scenes):
    found = {}
    for last in (True, False):
        config = tiny_config(channels_last=last)
        distiller = make_distiller(config, prepare(config, progress=False))
        weight = distiller.student.backbone.stages[1][0][0].weight
        assert weight.is_contiguous(memory_format=torch.channels_last) == last and weight.is_contiguous() != last
        found[last] = step_of(distiller, config, tiny_scenes())
    assert_close(found[True][1], found[False][1], rtol=1e-5, atol=0)
    for name, each in found[True][2].items():
        assert_close(each.contiguous(), found[False][2][name].contiguous(), rtol=1e-3, atol=1e-3)


@pytest.fixture
def eager_compiler(monkeypatch):
    """torch.compile without a compiler: it traces and runs the trace. Returns the functions that were compiled."""
    asked, real = [], torch.compile

    def traced(function):
        asked.append(function)
        return real(function, backend="eager")

    monkeypatch.setattr(torch, "compile", traced)
    yield asked
    torch._dynamo.reset()


@pytest.mark.slow
def test_compiled_pyramids_give_the_same_losses_and_are_plain_again_afterwards(
    eager_compiler, tiny_config, tiny_scenes, tiny_distiller
):
    distiller, plain = tiny_distiller(0, FGD), tiny_distiller(0, FGD)
    names = list(distiller.state_dict())
    with compiled_pyramids(distiller, True, "cpu"):
        assert "forward" in vars(distiller.student.backbone) and "forward" in vars(distiller.teacher.backbone)
        _, loss, got = step_of(distiller, tiny_config(batch_size=4), tiny_scenes())
        assert list(distiller.state_dict()) == names
    assert "forward" not in vars(distiller.student.backbone) and "forward" not in vars(distiller.teacher.backbone)
    assert len(eager_compiler) == 3                                  # the trial, the student's, the teacher's
    _, wanted_loss, wanted = step_of(plain, tiny_config(batch_size=4), tiny_scenes())
    assert_close(loss, wanted_loss, rtol=1e-5, atol=0)
    assert_close(got, wanted, rtol=1e-3, atol=1e-3)


def test_nothing_is_compiled_unless_asked(eager_compiler, tiny_config, tiny_scenes, tiny_distiller):
    train(tiny_distiller(0, None), tiny_scenes(limit=4), tiny_config(epochs=1), progress="off")
    assert eager_compiler == []


def test_a_machine_without_a_compiler_says_so_before_the_first_step(
    monkeypatch, refusal, tiny_config, tiny_scenes, tiny_distiller
):
    def broken(function):
        raise RuntimeError("no g++\nand a page of advice")

    monkeypatch.setattr(lab_compiled.torch, "compile", broken)
    text = refusal(train, tiny_distiller(0, None), tiny_scenes(), tiny_config(compile=True), progress="off")
    assert "compile=true must find a C++ compiler, and Triton for CUDA, got: no g++;" in text


# ---- the log ---------------------------------------------------------------------------------------------------------

@pytest.fixture
def board(monkeypatch) -> list:
    """A stand-in for tensorboard: the writer's settings, then what was written as (tag, value, step)."""
    written = []

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            written.append((folder, purge_step))

        def add_scalar(self, tag, value, step):
            written.append((tag, value, step))

        def close(self):
            written.append("closed")

    module = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    monkeypatch.setattr(torch.utils, "tensorboard", module, raising=False)
    return written


def test_every_logged_row_goes_to_the_board_too(board, tiny_config, tiny_scenes, tiny_distiller, tmp_path):
    config = tiny_config(epochs=1, tensorboard=True)
    train(tiny_distiller(0, FGD), tiny_scenes(), config, tmp_path, progress="off")
    assert board[0] == (str(tmp_path / "tensorboard"), 1) and board[-1] == "closed"
    tags = {(tag, step) for tag, _, step in board[1:-1]}
    assert {
        ("loss/fg/P3", 1),
        ("loss/global/P5", 3),
        ("loss/total/all", 2),
        ("training/lr", 1),
        ("training/grad_norm", 3),
    } <= tags
    board.clear()
    (tmp_path / "without").mkdir()
    train(tiny_distiller(0, None), tiny_scenes(limit=4), tiny_config(epochs=1), tmp_path / "without", progress="off")
    assert board == []


def test_without_the_package_a_board_is_refused_before_anything_is_made(
    monkeypatch, refusal, lab_home, tiny_config, tmp_path
):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    text = refusal(run, tiny_config(tensorboard=True, method="fgd"), tmp_path / "run", progress="off")
    assert (
        "tensorboard=true must find the package tensorboard, got none; "
        "install it by `pip install 'fgdlab[tensorboard]'`"
        in text
        and not (lab_home / "teachers").exists()
    )


@pytest.fixture
def packages(monkeypatch) -> dict[str, list]:
    """Stand-ins for wandb and mlflow: what each was called with."""
    said = {"wandb": [], "mlflow": []}

    class Run:
        def __init__(self, **settings):
            self.id, self.summary = settings["id"] or "w1", {}
            said["summary"] = self.summary
            said["wandb"].append(settings)

        def log(self, numbers, step):
            said["wandb"].append((step, numbers))

        def finish(self):
            said["wandb"].append("closed")

    def started(**settings):
        said["mlflow"].append(settings)
        return SimpleNamespace(info=SimpleNamespace(run_id=settings["run_id"] or "m1"))

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=Run))
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(
        start_run=started, log_params=lambda values: said["mlflow"].append(values),
        log_metrics=lambda numbers, step: said["mlflow"].append((step, numbers)),
        end_run=lambda: said["mlflow"].append("closed")))
    return said


def test_every_logged_row_goes_to_each_package_that_is_asked_for(
    packages, board, tiny_config, tiny_scenes, tiny_distiller, tmp_path,
):
    config = tiny_config(epochs=1, wandb=True, mlflow=True)
    train(tiny_distiller(0, FGD), tiny_scenes(), config, tmp_path, progress="off")
    opened, *rows, end = packages["wandb"]
    assert (opened["id"], opened["dir"], opened["config"]["method"], end) == (
        None, str(tmp_path), config.method, "closed")
    first, params, *others, end = packages["mlflow"]
    assert (first["run_id"], first["run_name"], params, end) == (None, tmp_path.name, config.dict(), "closed")
    assert others == rows and [step for step, _ in rows] == [1, 2, 3] and board == []
    logged = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    for row in logged:
        assert rows[row["step"] - 1][1][f"loss/{row['name']}/{row['level']}"] == row["weighted"]
    assert {"training/lr", "training/grad_norm", "training/epoch"} <= {*rows[0][1]}


def test_ap_of_the_tune_split_and_of_the_evaluation_goes_to_each_package_too(
    packages, board, lab_home, tiny_config, tmp_path,
):
    packages_on = {"wandb": True, "mlflow": True, "tensorboard": True}
    config = tiny_config(method="none", epochs=1, patience=1, tune_every=2, **packages_on)
    result = run(config, tmp_path / "run", progress="off")
    final = {f"eval/{name}": result[name] for name in ("AP", "AP50", "AR")}
    tuned = [(int(step), ap) for step, ap in result["tune_AP"].items()]
    assert [step for step, _ in tuned] == [2, 3]
    for name in ("wandb", "mlflow"):
        rows = [each for each in packages[name] if isinstance(each, tuple)]
        assert [(step, row["tune/AP"]) for step, row in rows if "tune/AP" in row] == tuned, name
    *_, (step, sent), end = packages["mlflow"]
    assert (step, end) == (3, "closed") and final.items() <= sent.items() and None not in sent.values()
    assert packages["summary"] == sent and packages["wandb"][-2]["id"] == "w1"  # the record of the training
    assert {(name, value, 3) for name, value in sent.items()} | {("tune/AP", ap, at) for at, ap in tuned} <= {*board}
    assert board.count("closed") == 2


def test_a_run_that_is_resumed_goes_on_in_the_same_record(packages, tiny_config, tmp_path):
    config = tiny_config(wandb=True, mlflow=True)
    for first_step in (0, 5, 0):
        loggers_of(tmp_path, config, first_step)
    assert [each["id"] for each in packages["wandb"]] == [None, "w1", None]
    assert [each["run_id"] for each in packages["mlflow"] if "run_id" in each] == [None, "m1", None]
    assert len(packages["mlflow"]) == 5                              # settings are said once for each record


def test_a_package_that_cannot_begin_is_one_line(packages, monkeypatch, tiny_config, tmp_path, refusal):
    def broken(**settings):
        raise RuntimeError("api_key not configured\n(no-tty)")

    monkeypatch.setattr(sys.modules["wandb"], "init", broken, raising=False)
    text = refusal(loggers_of, tmp_path, tiny_config(wandb=True), 0)
    assert text.startswith("wandb=true must begin its record, got: api_key not configured (no-tty); check its account")


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_package_that_is_missing_is_refused_with_its_extra(
    name, monkeypatch, refusal, lab_home, tiny_config, tmp_path,
):
    monkeypatch.setitem(sys.modules, name, None)
    text = refusal(run, tiny_config(method="fgd", **{name: True}), tmp_path / "run", progress="off")
    assert f"{name}=true must find the package {name}, got none; install it by `pip install 'fgdlab[{name}]'`" in text
    assert not (lab_home / "teachers").exists()


def test_the_time_left_after_a_resumption_counts_the_steps_of_this_call(capsys):
    log = Log(None, steps=100, every=1, progress="lines", first_step=80)
    log.write(90, [], seconds=20.0, lr=1.0)
    assert "20 s, about 20 s left" in capsys.readouterr().out        # 10 steps in 20 s, 10 to go


def test_the_log_has_the_peak_gpu_memory(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 12_345_678_900)
    Log(None, steps=4, every=1, progress="lines", device="cuda").write(2, [], seconds=1.0, lr=1.0)
    assert capsys.readouterr().out.rstrip().endswith("left, 12.3 GB of GPU memory")


def test_images_are_pinned_where_a_card_reads_them(monkeypatch, tiny_scenes):
    from fgdlab.lab.datasets import dataset as lab_data

    seen = []
    monkeypatch.setattr(lab_data, "DataLoader", lambda *args, **settings: seen.append(settings["pin_memory"]) or [])
    for device in ("cuda", "cuda:1", "cpu"):
        list(shuffled_batches(tiny_scenes(), 4, seed=0, epoch=0, device=device))
    assert seen == [True, True, False]
