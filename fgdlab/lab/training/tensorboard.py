"""TensorBoard, for who wants it: the rows of metrics.jsonl once more, in ``tensorboard/`` of the run's folder."""
from pathlib import Path

from ..errors import UserError


def check_tensorboard(config) -> None:
    """Refuse a board where the package tensorboard is not there, before anything is made."""
    if config.tensorboard:
        try:
            import torch.utils.tensorboard  # noqa: F401
        except ImportError as error:
            raise UserError("tensorboard=true must find the package tensorboard, got none; install it by `pip install 'fgdlab[tensorboard]'`, or leave it out") from error


def tensorboard_writer(folder: Path | None, config, first_step: int):
    """A writer of TensorBoard, or None where it is not wanted or there is no folder. What was written after ``first_step`` is hidden."""
    if not config.tensorboard or folder is None:
        return None
    check_tensorboard(config)
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"), purge_step=first_step + 1)


def write_rows(board, step: int, rows: list[dict], numbers: dict[str, float | None]) -> None:
    """loss/NAME/LEVEL for every term as it is optimised, and lr, grad_norm and the like."""
    if board is None:
        return
    for row in rows:
        board.add_scalar(f"loss/{row['name']}/{row['level']}", row["weighted"], step)
    for name, value in numbers.items():
        if value is not None:
            board.add_scalar(f"training/{name}", value, step)
