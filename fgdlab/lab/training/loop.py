"""The training loop, in the open: schedule, clipping, logs, checkpoints that resume to the same weights.

    images, targets --Distiller--> list[Term] --total--> backward --clip--> optimiser
                                        +--rows--> metrics.jsonl

Everything random is a function of (seed, epoch, image), never of how often or where the run was interrupted.
What a large run needs besides stands in training/: several processes, half precision, parts of a batch, sizes, compiling.
"""
import math
import time
from contextlib import closing
from pathlib import Path

import torch

from fgdlab.distill import Distiller

from ..checkpoints import save_weights
from ..config import RunConfig
from ..datasets import DetectionDataset, batches_per_epoch, shuffled_batches
from ..errors import UserError
from .checkpoint import restore, save
from .compile import compiled_pyramids
from .distributed import ProcessGroup, check_batch_split, check_ranks_agree
from .log import Log
from .multiscale import drawn_size, short_sides
from .nan_guard import Watch, check_weights
from .precision import Precision
from .step import Step
from .sync_batchnorm import sync_batchnorm
from .tensorboard import tensorboard_writer


def train(
    distiller: Distiller, scenes: DetectionDataset, config: RunConfig, folder: Path | None = None, *, device: str = "cpu", progress: str = "bar", team: ProcessGroup = ProcessGroup(),
) -> dict:
    """Train ``distiller`` in place for ``config.epochs``, going on from ``folder/checkpoint.pt`` if one is there.

    Args:
        folder: where metrics.jsonl, checkpoint.pt and, every ``snapshot_every`` steps, the student alone are kept; None keeps none.
        progress: "bar" for a terminal or a live notebook, "lines" for a log (one line a log step), "off".
        team: the processes that share each batch; all of them call this, the leader writes and prints.
    Returns:
        {"steps", "train_seconds", "images_per_second", "resumed_at"}; times cover this call only.
    Raises:
        UserError: fewer images than one batch, or images too small for a batch of one. FloatingPointError: a loss term, the gradient or a weight is
            not finite; the message names term, level and step, the step is not taken (on CUDA: not kept), and the last checkpoint is a good one.
    """
    per_epoch = batches_per_epoch(scenes, config.batch_size, config.aspect_groups)
    if per_epoch == 0:
        raise UserError(f"the split must hold at least one batch of {config.batch_size} images, got {len(scenes)}; lower batch_size or give more images")
    check_batch_split(team, config.batch_size, config.accumulate)
    steps = per_epoch * config.epochs
    sync_batchnorm(distiller, team, device)
    parameters = [each for each in distiller.parameters() if each.requires_grad]
    optimizer, precision, sides = make_optimizer(parameters, config), Precision(config.precision, device), short_sides(config.min_sizes)
    step = first_step = restore(folder, distiller, optimizer, precision, team) if folder else 0
    board = tensorboard_writer(folder if team.is_rank0 else None, config, first_step)
    log, watch = Log(folder if team.is_rank0 else None, steps, config.log_every, progress if team.is_rank0 else "off", first_step, board, device), Watch()
    distiller.train()
    one_step = Step(distiller, config, precision, team)
    started = time.perf_counter()
    with closing(log), compiled_pyramids(distiller, config.compile, device):       # an error begins on a line of its own, not behind the bar
        for images, targets in shuffled_batches(
            scenes, config.batch_size, seed=config.seed, epoch=step // per_epoch, epochs=config.epochs - step // per_epoch, first=step % per_epoch,
            flip=config.flip, workers=config.workers, aspect_groups=config.aspect_groups, share=team.share, device=device,
        ):
            epoch, rate = step // per_epoch, learning_rate(step, steps, config)
            for group in optimizer.param_groups:
                group["lr"] = rate
            with drawn_size(distiller.student.transform, sides, config.seed, step):
                terms, loss = one_step(images, targets)
            norm = precision.clipped(optimizer, parameters, config.clip or math.inf)
            keep = step + 1 == steps or (step + 1) % (config.checkpoint_every or per_epoch) == 0
            watch.see(step + 1, terms, loss, precision.seen(norm))
            if device == "cpu" or keep or log.due(step + 1):         # on CUDA every look is a wait
                watch.look()
                precision.check(step + 1)
            precision.step(optimizer)
            step += 1
            log.write(step, terms, lr=rate, grad_norm=norm, epoch=epoch, seconds=time.perf_counter() - started)
            if folder and team.is_rank0 and config.snapshot_every and step % config.snapshot_every == 0:
                save_weights(distiller.student, folder / "snapshots" / f"step_{step:06d}.safetensors", step=step, settings=config.dict())
            if keep:
                check_weights(step, distiller)
                check_ranks_agree(team, step, distiller)
            if folder and keep:
                save(folder, step, distiller, optimizer, precision, team)
    seconds = time.perf_counter() - started
    return {
        "steps": steps, "train_seconds": seconds, "resumed_at": first_step,
        "images_per_second": (steps - first_step) * config.batch_size / seconds if steps > first_step else math.nan,
    }


def make_optimizer(parameters: list, config: RunConfig) -> torch.optim.Optimizer:
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, config.lr, momentum=config.momentum, weight_decay=config.weight_decay)
    return torch.optim.AdamW(parameters, config.lr, weight_decay=config.weight_decay, fused=True)


def learning_rate(step: int, steps: int, config: RunConfig) -> float:
    """Linear warm-up over the first share of steps, then cosine to 0 or two steps of 0.1. step counts from 0."""
    warm = round(config.warmup * steps)
    if step < warm:
        return config.lr * (step + 1) / warm
    if config.schedule == "step":
        return config.lr * 0.1 ** ((step >= steps * 2 / 3) + (step >= steps * 11 / 12))
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(steps - warm, 1)))
