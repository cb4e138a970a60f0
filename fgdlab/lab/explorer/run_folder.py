"""A finished run as arguments of the explorer, so that what is shown is what was trained."""
from pathlib import Path

import torch

from ..errors import UserError
from ..run import imitated, load_run
from ..training import make_loss


def of_run(folder: Path | str) -> dict:
    """student, teacher, data, config, loss and ap of a finished run; its snapshots are the student's checkpoints.

    ``loss`` has the f and R of the run's last checkpoint; without checkpoint.pt, or for another method than FGD, {}.
    """
    folder = Path(folder).expanduser()
    config, result, student, eval_set, teacher = load_run(folder)
    if teacher is None:
        raise UserError(f"{folder} must hold a run with a teacher, got none; give one: explore(folder, teacher, data)")
    loss, checkpoint = {}, folder / "checkpoint.pt"
    if config.method == "fgd" and checkpoint.is_file():
        weights = torch.load(checkpoint, weights_only=True, map_location="cpu")["distiller"]
        trained = make_loss(config, imitated(config, student, teacher.detector), student, teacher.detector, "cpu")
        trained.load_state_dict({key[5:]: value for key, value in weights.items() if key.startswith("loss.")})
        loss = {"student": trained}
    return {
        "student": folder if (folder / "snapshots").is_dir() else student, "teacher": teacher, "data": eval_set,
        "config": config.fgd(), "loss": loss, "ap": {"student": result["AP"]},
    }
