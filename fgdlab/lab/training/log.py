"""What a run logs while it trains: metrics.jsonl, a progress bar or lines, other loggers if asked for."""
import json
import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch
from tqdm import tqdm

from fgdlab.terms import rows

from ..errors import UserError, reason
from ..io import atomic_write
from .loggers import scalars


class Log:
    """metrics.jsonl and the progress of one run: every term on every level, each ``every`` steps and at the last.

    folder: where metrics.jsonl goes; None: nowhere. progress: "bar", "lines" or "off".
    first_step: the step after which the run resumes; rows of later steps are dropped and written again.
    loggers: of loggers.py; each gets the same rows.
    """

    def __init__(
        self, folder: Path | None, steps: int, every: int, progress: str, first_step: int = 0,
        loggers: Sequence = (), device: str = "cpu",
    ):
        self.path = folder / "metrics.jsonl" if folder else None
        self.steps, self.every, self.progress, self.first_step = steps, every, progress, first_step
        self.loggers, self.device = loggers, device
        self.bar = tqdm(total=steps, initial=first_step, desc="train", unit="step", disable=progress != "bar")
        if self.path and self.path.exists():
            self.drop_rows_after(first_step)

    def due(self, step: int) -> bool:
        return step % self.every == 0 or step in (1, self.steps)

    def drop_rows_after(self, step: int) -> None:
        kept = []
        for line in self.path.read_text().splitlines():
            with suppress(ValueError):  # a line cut off by a kill
                if json.loads(line)["step"] <= step:
                    kept.append(line)
        with atomic_write(self.path) as unfinished:
            unfinished.write_text("".join(line + "\n" for line in kept))

    def write(self, step: int, terms: list, *, seconds: float, **numbers) -> None:
        """Log a step if it is due. seconds: since train() began. numbers: lr, grad_norm and the like."""
        self.bar.update()
        if not self.due(step):
            return
        logged = rows(step, terms)
        loss = sum(row["weighted"] for row in logged)
        numbers = {name: float(value) if math.isfinite(value) else None for name, value in numbers.items()}
        memory = f", {torch.cuda.max_memory_allocated() / 1e9:.1f} GB of GPU memory" if self.device == "cuda" else ""
        self.bar.set_postfix_str(f"loss={loss:.3f}{memory}")
        if self.progress == "lines":
            left = (self.steps - step) * seconds / (step - self.first_step)
            timing = f"{seconds:.0f} s, about {left:.0f} s left{memory}"
            print(f"step {step}/{self.steps}  loss {loss:.3f}  lr {numbers['lr']:.2e}  {timing}", flush=True)
        summary = {"step": step, "name": "total", "level": "all", "raw": loss, "weighted": loss, "steps": self.steps}
        logged.append(summary | numbers)
        if self.path:
            try:
                with self.path.open("a") as file:
                    file.writelines(json.dumps(row) + "\n" for row in logged)
            except OSError as error:
                hint = "free space there, then the same command resumes the run"
                raise UserError(f"{self.path} must be writable, got: {reason(error)}; {hint}") from error
        for logger in self.loggers:
            logger.log(scalars(logged, numbers), step=step)

    def close(self) -> None:
        self.bar.close()
        for logger in self.loggers:
            logger.close()
