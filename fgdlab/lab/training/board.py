"""TensorBoard, for who wants it: the rows of metrics.jsonl once more, in ``tensorboard/`` of the run's folder."""
from pathlib import Path

from ..errors import UserError


def board_of(folder: Path | None, wanted: bool, first_step: int):
    """A writer of TensorBoard, or None where it is not wanted or there is no folder. What was written after ``first_step`` is hidden.

    Raises:
        UserError: the package tensorboard is not there; known before the first step.
    """
    if not wanted:
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError("tensorboard=true must find the package tensorboard, got none; pip install tensorboard, or leave it out") from error
    return SummaryWriter(str(folder / "tensorboard"), purge_step=first_step + 1) if folder else None


def write_rows(board, step: int, rows: list[dict], numbers: dict[str, float]) -> None:
    """loss/NAME/LEVEL for every term as it is optimised, and lr, grad_norm and the like."""
    if board is None:
        return
    for row in rows:
        board.add_scalar(f"loss/{row['name']}/{row['level']}", row["weighted"], step)
    for name, value in numbers.items():
        board.add_scalar(f"training/{name}", value, step)
