"""TensorBoard, if asked for: the rows of metrics.jsonl in ``tensorboard/`` of the run's folder."""
from pathlib import Path

from ..errors import UserError


def check_tensorboard(config) -> None:
    if config.tensorboard:
        try:
            import torch.utils.tensorboard  # noqa: F401
        except ImportError as error:
            hint = "install it by `pip install 'fgdlab[tensorboard]'`, or leave it out"
            raise UserError(f"tensorboard=true must find the package tensorboard, got none; {hint}") from error


def tensorboard_writer(folder: Path | None, config, first_step: int):
    if not config.tensorboard or folder is None:
        return None
    check_tensorboard(config)
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"), purge_step=first_step + 1)


def write_rows(writer, step: int, rows: list[dict], numbers: dict[str, float | None]) -> None:
    for row in rows:
        writer.add_scalar(f"loss/{row['name']}/{row['level']}", row["weighted"], step)
    for name, value in numbers.items():
        if value is not None:
            writer.add_scalar(f"training/{name}", value, step)
