"""The training loop: schedule, clipping, logs, and checkpoints from which a run resumes to the same weights.

Everything random is a function of (seed, epoch, image), however often and wherever the run was interrupted.
"""
import math
import time
from contextlib import closing
from pathlib import Path

import torch

from fgdlab.distill import Distiller

from ..checkpoints import save_weights
from ..config import RunConfig
from ..datasets import Augmentation, DetectionDataset, batches_per_epoch, shuffled_batches
from ..errors import UserError
from .checkpoint import restore, save
from .compile import compiled_pyramids
from .distributed import ProcessGroup, check_batch_split, check_ranks_agree, sync_batchnorm
from .kept_weights import early_stopping, moving_average
from .log import Log
from .loggers import loggers_of
from .multiscale import drawn_size, short_sides
from .nan_guard import NanGuard, check_weights
from .precision import Precision
from .step import Step


def train(
    distiller: Distiller, train_set: DetectionDataset, config: RunConfig, folder: Path | None = None, *,
    device: str = "cpu", progress: str = "bar", group: ProcessGroup = ProcessGroup(),
) -> dict:
    """Train ``distiller`` in place for ``train_steps`` or ``epochs``, from ``folder/checkpoint.pt`` on if there is one.

    Its student ends with the weights that ``config.ema`` and ``config.patience`` choose.

    Args:
        folder: gets metrics.jsonl, checkpoint.pt and, every ``snapshot_every`` steps, the student alone; None: none.
        progress: "bar" for a terminal or a live notebook, "lines" for a log (one line per logged step), "off".
        group: the processes that share each batch; all of them call this, rank 0 writes and prints.
    Returns:
        {"steps", "train_seconds", "images_per_second", "resumed_at"} of this call; with patience "tune_AP" by step.
    Raises:
        UserError: fewer images than one batch, or images too small for a batch of one.
        FloatingPointError: a loss term, the gradient or a weight is not finite; names term, level and step, which is
            not taken (on CUDA: not saved). The last checkpoint is a good one.
    """
    per_epoch = batches_per_epoch(train_set, config.batch_size, config.aspect_groups)
    if per_epoch == 0:
        problem = f"the split must hold at least one batch of {config.batch_size} images, got {len(train_set)}"
        raise UserError(f"{problem}; lower batch_size or give more images")
    check_batch_split(group, config.batch_size, config.accumulate)
    sync_batchnorm(distiller, group, device)
    steps = config.train_steps or per_epoch * config.epochs
    parameters = [parameter for parameter in distiller.parameters() if parameter.requires_grad]
    optimizer, precision = make_optimizer(parameters, config), Precision(config.precision, device)
    sides, guard = short_sides(config.min_sizes), NanGuard()
    student = distiller.student
    parts = {"distiller": distiller, "optimizer": optimizer, "scaler": precision.scaler}
    average, stopping = None, early_stopping(config, train_set, device, group)
    if config.ema:
        average = parts["average"] = moving_average(student, config.ema)
    if stopping:
        parts["stopping"] = stopping
    step = first_step = restore(folder, parts, group) if folder else 0
    own_folder = folder if group.is_rank0 else None
    progress = progress if group.is_rank0 else "off"
    loggers = loggers_of(own_folder, config, first_step)
    log = Log(own_folder, steps, config.log_every, progress, first_step, loggers, device)
    distiller.train()
    one_step = Step(distiller, config, precision, group)
    started = time.perf_counter()
    with closing(log), compiled_pyramids(distiller, config.compile, device):  # errors begin on a new line
        for images, targets in shuffled_batches(
            train_set, config.batch_size, seed=config.seed, epoch=step // per_epoch,
            epochs=math.ceil(steps / per_epoch) - step // per_epoch, first=step % per_epoch,
            augmentation=Augmentation.of(config), workers=config.workers, aspect_groups=config.aspect_groups,
            share=group.share, device=device,
        ):
            if step == steps or (stopping and stopping.over):
                break
            cuts = stopping.cuts if stopping else 0
            epoch, rate = step // per_epoch, learning_rate(step, steps, config) * 0.1 ** cuts
            for param_group in optimizer.param_groups:
                param_group["lr"] = rate
            with drawn_size(distiller.student.transform, sides, config.seed, step):
                terms, loss = one_step(images, targets)
            norm = precision.clipped(optimizer, parameters, config.clip or math.inf)
            keep = step + 1 == steps or (step + 1) % (config.checkpoint_every or per_epoch) == 0
            guard.record(step + 1, terms, loss, precision.guarded(norm))
            if device == "cpu" or keep or log.due(step + 1):  # on CUDA every check waits for the GPU
                guard.check()
                precision.check(step + 1)
            precision.step(optimizer)
            step += 1
            seconds = time.perf_counter() - started
            log.write(step, terms, lr=rate, grad_norm=norm, epoch=epoch, seconds=seconds)
            if average:
                average.update_parameters(student)
            if stopping and (step % (config.tune_every or per_epoch) == 0 or step == steps):
                line = stopping.evaluate(step, average.module if average else student)
                distiller.train()
                for logger in loggers:
                    logger.log({"tune/AP": stopping.history[step]}, step)
                keep = keep or stopping.over
                if progress != "off":
                    log.bar.write(line)
            if own_folder and config.snapshot_every and step % config.snapshot_every == 0:
                path = folder / "snapshots" / f"step_{step:06d}.safetensors"
                save_weights(distiller.student, path, step=step, settings=config.dict())
            if keep:
                check_weights(step, distiller)
                check_ranks_agree(group, step, distiller)
            if folder and keep:
                save(folder, step, parts, group)
    seconds = time.perf_counter() - started
    if average:
        student.load_state_dict(average.module.state_dict())
    if stopping:
        student.load_state_dict(stopping.weights)
    return {
        **({"tune_AP": stopping.history} if stopping else {}),
        "steps": step, "train_seconds": seconds, "resumed_at": first_step,
        "images_per_second": (step - first_step) * config.batch_size / seconds if step > first_step else math.nan,
    }


def make_optimizer(parameters: list, config: RunConfig) -> torch.optim.Optimizer:
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, config.lr, momentum=config.momentum, weight_decay=config.weight_decay)
    return torch.optim.AdamW(parameters, config.lr, weight_decay=config.weight_decay, fused=True)


def learning_rate(step: int, steps: int, config: RunConfig) -> float:
    """Linear warm-up over ``warmup`` of the steps, counted from 0, then cosine to 0, two decays by 0.1, or none."""
    warm = round(config.warmup * steps)
    if step < warm:
        return config.lr * (step + 1) / warm
    if config.schedule == "step":
        return config.lr * 0.1 ** ((step >= steps * 2 / 3) + (step >= steps * 11 / 12))
    if config.schedule == "plateau":
        return config.lr
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(steps - warm, 1)))
