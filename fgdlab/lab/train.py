"""The training loop, in the open: schedule, clipping, logs, checkpoints that resume to the same weights.

    images, targets --Distiller--> list[Term] --total--> backward --clip--> optimiser
                                        +--rows--> metrics.jsonl

Everything random is a function of (seed, epoch, image), never of how often or where the run was interrupted.
"""
import io
import json
import math
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from fgdlab.distill import Distiller
from fgdlab.terms import rows, total

from .config import RunConfig
from .data import Scenes, batches
from .disk import whole
from .errors import UserError
from .finite import Watch, check_weights
from .weights import check_archive, save_weights


def train(distiller: Distiller, scenes: Scenes, config: RunConfig, folder: Path | None = None, *, device: str = "cpu", progress: str = "bar") -> dict:
    """Train ``distiller`` in place for ``config.epochs``, going on from ``folder/checkpoint.pt`` if one is there.

    Args:
        folder: where metrics.jsonl, checkpoint.pt and, every ``snapshot_every`` steps, the student alone are kept; None keeps none.
        progress: "bar" for a terminal or a live notebook, "lines" for a log (one line a log step), "off".
    Returns:
        {"steps", "train_seconds", "images_per_second", "resumed_at"}; times cover this call only.
    Raises:
        UserError: fewer images than one batch, or images too small for a batch of one. FloatingPointError: a loss term, the gradient or a weight is
            not finite; the message names term, level and step, the step is not taken (on CUDA: not kept), and the last checkpoint is a good one.
    """
    per_epoch = len(scenes) // config.batch_size
    if per_epoch == 0:
        raise UserError(f"the split must hold at least one batch of {config.batch_size} images, got {len(scenes)}; lower batch_size or give more images")
    steps = per_epoch * config.epochs
    parameters = [each for each in distiller.parameters() if each.requires_grad]
    optimizer = make_optimizer(parameters, config)
    step = first_step = restore(folder, distiller, optimizer) if folder else 0
    log, watch = Log(folder, steps, config.log_every, progress), Watch()
    log.cut_after(first_step)
    distiller.train()
    started = time.perf_counter()
    with closing(log):                                               # an error begins on a line of its own, not behind the bar
        for epoch in range(step // per_epoch, config.epochs):
            for images, targets in batches(
                scenes, config.batch_size, seed=config.seed, epoch=epoch, first=step - epoch * per_epoch, flip=config.flip, workers=config.workers
            ):
                rate = learning_rate(step, steps, config)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                images = [image.to(device) for image in images]
                targets = [{name: value.to(device) for name, value in target.items()} for target in targets]
                with torch.autocast(device, torch.bfloat16, enabled=config.precision == "bf16"), enough_for_norms(images):
                    terms = distiller(images, targets)
                optimizer.zero_grad(set_to_none=True)
                loss = total(terms)
                loss.backward()
                norm = nn.utils.clip_grad_norm_(parameters, config.clip or math.inf)
                keep = step + 1 == steps or (step + 1) % (config.checkpoint_every or per_epoch) == 0
                watch.see(step + 1, terms, loss, norm)
                if device == "cpu" or keep or log.due(step + 1):     # on CUDA every look is a wait
                    watch.look()
                optimizer.step()
                step += 1
                log.write(step, terms, lr=rate, grad_norm=norm, epoch=epoch, seconds=time.perf_counter() - started)
                if folder and config.snapshot_every and step % config.snapshot_every == 0:
                    save_weights(distiller.student, folder / "snapshots" / f"step_{step:06d}.safetensors", step=step, settings=config.dict())
                if keep:
                    check_weights(step, distiller)
                if folder and keep:
                    save(folder, step, distiller, optimizer)
    seconds = time.perf_counter() - started
    return {
        "steps": steps, "train_seconds": seconds, "resumed_at": first_step,
        "images_per_second": (steps - first_step) * config.batch_size / seconds if steps > first_step else math.nan,
    }


@contextmanager
def enough_for_norms(images: list[torch.Tensor]) -> Iterator[None]:
    """A batch of one small image leaves one value a channel on the coarsest map, of which batch norm cannot take a spread."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        height, width = images[0].shape[-2:]
        raise UserError(f"batch_size must be at least 2 for images as small as {width} x {height} pixels, got {len(images)}; raise it, or use larger images") from error


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


def save(folder: Path, step: int, distiller: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Write checkpoint.pt in one step: a kill leaves the last one or this one."""
    random = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        random["cuda"] = torch.cuda.get_rng_state_all()
    content = io.BytesIO()                                           # torch's own writer hides what a full disk says
    torch.save({"step": step, "distiller": distiller.state_dict(), "optimizer": optimizer.state_dict(), "random": random}, content)
    with whole(folder / "checkpoint.pt") as unfinished:
        unfinished.write_bytes(content.getbuffer())


def restore(folder: Path, distiller: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Load checkpoint.pt if there is one; the step it was written after, else 0."""
    path = folder / "checkpoint.pt"
    if not path.exists():
        return 0
    try:
        check_archive(path)
        state = torch.load(path, weights_only=True, map_location="cpu")
        distiller.load_state_dict(state["distiller"])
        optimizer.load_state_dict(state["optimizer"])
        step, random = state["step"], state["random"]
        torch.set_rng_state(random["cpu"])
    except UserError:
        raise
    except Exception as error:                                       # what torch raises for broken bytes is not one type
        got = {"BadZipFile": "a file cut off, or of another kind", "UnpicklingError": "more than numbers, which may be code"}.get(type(error).__name__, type(error).__name__)
        raise UserError(f"{path} must be a checkpoint of this run, got {got}; delete it to start the run anew") from error
    if "cuda" in random and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(random["cuda"])
    return step


class Log:
    """metrics.jsonl and the progress of one run: every term on every level, each ``every`` steps and at the last."""

    def __init__(self, folder: Path | None, steps: int, every: int, progress: str):
        self.path = folder / "metrics.jsonl" if folder else None
        self.steps, self.every, self.progress = steps, every, progress
        self.bar = tqdm(total=steps, desc="train", unit="step", disable=progress != "bar")

    def due(self, step: int) -> bool:
        return step % self.every == 0 or step in (1, self.steps)

    def cut_after(self, step: int) -> None:
        """Drop rows that an interrupted run wrote after its last checkpoint; they will be written again."""
        self.bar.update(step)
        if self.path and self.path.exists():
            kept = []
            for line in self.path.read_text().splitlines():
                try:
                    if json.loads(line)["step"] <= step:
                        kept.append(line)
                except ValueError:                                   # the half line of a kill
                    continue
            with whole(self.path) as unfinished:
                unfinished.write_text("".join(line + "\n" for line in kept))

    def write(self, step: int, terms: list, *, seconds: float, **numbers) -> None:
        self.bar.update()
        if not self.due(step):
            return
        logged = rows(step, terms)
        loss = sum(row["weighted"] for row in logged)
        numbers = {name: float(value) for name, value in numbers.items()}
        self.bar.set_postfix(loss=f"{loss:.3f}")
        if self.progress == "lines":
            left = (self.steps - step) * seconds / max(step, 1)
            print(f"step {step}/{self.steps}  loss {loss:.3f}  lr {numbers['lr']:.2e}  {seconds:.0f} s, about {left:.0f} s left", flush=True)
        if self.path:
            summary = {"step": step, "name": "total", "level": "all", "raw": loss, "weighted": loss, "steps": self.steps, **numbers}
            try:
                with self.path.open("a") as file:
                    file.writelines(json.dumps(row) + "\n" for row in [*logged, summary])
            except OSError as error:
                raise UserError(f"{self.path} must be writable, got: {error.strerror or error}; free space there, then the same command goes on") from error

    def close(self) -> None:
        self.bar.close()
