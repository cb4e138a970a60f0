"""What a run says while it trains: metrics.jsonl for figures and tables, a bar or lines for who waits, TensorBoard for who asks for it."""
import json
import math
from pathlib import Path

import torch
from tqdm import tqdm

from fgdlab.terms import rows

from ..errors import UserError
from ..io import atomic_write
from .tensorboard import write_rows


class Log:
    """metrics.jsonl and the progress of one run: every term on every level, each ``every`` steps and at the last.

    Args:
        folder: where metrics.jsonl goes; None writes none.
        progress: "bar", "lines" or "off".
        first_step: the step that an interrupted run goes on after; what it had logged later is dropped, and will be written again.
        board: a TensorBoard writer, or None.
    """

    def __init__(self, folder: Path | None, steps: int, every: int, progress: str, first_step: int = 0, board=None, device: str = "cpu"):
        self.path = folder / "metrics.jsonl" if folder else None
        self.steps, self.every, self.progress, self.first_step, self.board, self.device = steps, every, progress, first_step, board, device
        self.bar = tqdm(total=steps, initial=first_step, desc="train", unit="step", disable=progress != "bar")
        self.cut_after(first_step)

    def due(self, step: int) -> bool:
        return step % self.every == 0 or step in (1, self.steps)

    def cut_after(self, step: int) -> None:
        """Drop rows that an interrupted run wrote after its last checkpoint."""
        if self.path and self.path.exists():
            kept = []
            for line in self.path.read_text().splitlines():
                try:
                    if json.loads(line)["step"] <= step:
                        kept.append(line)
                except ValueError:                                   # the half line of a kill
                    continue
            with atomic_write(self.path) as unfinished:
                unfinished.write_text("".join(line + "\n" for line in kept))

    def write(self, step: int, terms: list, *, seconds: float, **numbers) -> None:
        """Terms and numbers of a step, where it is due; seconds: since this call of the training began."""
        self.bar.update()
        if not self.due(step):
            return
        logged = rows(step, terms)
        loss = sum(row["weighted"] for row in logged)
        numbers = {name: float(value) if math.isfinite(value) else None for name, value in numbers.items()}      # a float16 step that was left out
        memory = f"{torch.cuda.max_memory_allocated() / 1e9:.1f} GB" if self.device == "cuda" else ""
        self.bar.set_postfix(loss=f"{loss:.3f}", **({"memory": memory} if memory else {}))
        if self.progress == "lines":
            left = (self.steps - step) * seconds / (step - self.first_step)
            held = f", {memory} of the card" if memory else ""
            print(f"step {step}/{self.steps}  loss {loss:.3f}  lr {numbers['lr']:.2e}  {seconds:.0f} s, about {left:.0f} s left{held}", flush=True)
        summary = {"step": step, "name": "total", "level": "all", "raw": loss, "weighted": loss, "steps": self.steps, **numbers}
        if self.path:
            try:
                with self.path.open("a") as file:
                    file.writelines(json.dumps(row) + "\n" for row in [*logged, summary])
            except OSError as error:
                raise UserError(f"{self.path} must be writable, got: {error.strerror or error}; free space there, then the same command goes on") from error
        write_rows(self.board, step, [*logged, summary], numbers)

    def close(self) -> None:
        self.bar.close()
        if self.board is not None:
            self.board.close()
