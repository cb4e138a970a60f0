"""Where the rows of metrics.jsonl and AP also go, if asked for: TensorBoard, Weights & Biases, MLflow.

A logger is made from (folder of the run, settings, first step). It has ``log({name: number}, step)``, ``close()``, and
for what is measured once the record was closed, ``log_scores({name: number}, step)``.
"""
import math
from importlib import import_module
from pathlib import Path

from ..errors import UserError, reason
from ..io import write_text


class TensorBoard:

    def __init__(self, folder: Path, config, first_step: int):
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step + 1)
        self.close = self.writer.close

    def log(self, numbers: dict[str, float], step: int) -> None:
        for name, value in numbers.items():
            self.writer.add_scalar(name, value, step)

    log_scores = log


class WeightsAndBiases:

    def __init__(self, folder: Path, config, first_step: int):
        import wandb

        before = id_before(folder / "wandb.txt", first_step)
        self.run = wandb.init(
            project="fgdlab", name=folder.name, id=before, resume="allow", dir=str(folder), config=config.dict())
        write_text(folder / "wandb.txt", self.run.id)
        self.log, self.close = self.run.log, self.run.finish

    def log_scores(self, numbers: dict[str, float], step: int) -> None:
        self.run.summary.update(numbers)  # a resumed run takes no row of a step that it has


class MLflow:

    def __init__(self, folder: Path, config, first_step: int):
        import mlflow

        before = id_before(folder / "mlflow.txt", first_step)
        run = mlflow.start_run(run_id=before, run_name=folder.name)
        write_text(folder / "mlflow.txt", run.info.run_id)
        if before is None:
            mlflow.log_params(config.dict())
        self.log = self.log_scores = mlflow.log_metrics
        self.close = mlflow.end_run


def id_before(file: Path, first_step: int) -> str | None:
    """Their id of a run that is resumed; None for a new one."""
    return file.read_text() if first_step and file.exists() else None


LOGGERS = {  # setting and extra: (class, module that it needs)
    "tensorboard": (TensorBoard, "torch.utils.tensorboard"), "wandb": (WeightsAndBiases, "wandb"),
    "mlflow": (MLflow, "mlflow"),
}


def check_loggers(config) -> None:
    for name, (_, module) in LOGGERS.items():
        if getattr(config, name):
            try:
                import_module(module)
            except ImportError as error:
                hint = f"install it by `pip install 'fgdlab[{name}]'`, or leave it out"
                raise UserError(f"{name}=true must find the package {name}, got none; {hint}") from error


def loggers_of(folder: Path | None, config, first_step: int) -> list:
    check_loggers(config)
    loggers = []
    for name in [name for name in LOGGERS if folder and getattr(config, name)]:
        try:
            loggers.append(LOGGERS[name][0](folder, config, first_step))
        except Exception as error:  # each package has its own
            hint = "check its account and its address, or leave it out"
            raise UserError(f"{name}=true must begin its record, got: {reason(error)}; {hint}") from error
    return loggers


def log_scores(folder: Path, config, step: int, scores: dict) -> None:
    known = [name for name, value in scores.items() if isinstance(value, float) and math.isfinite(value)]
    for logger in loggers_of(folder, config, step):
        logger.log_scores({f"eval/{name}": scores[name] for name in known}, step)
        logger.close()


def scalars(rows: list[dict], numbers: dict[str, float | None]) -> dict[str, float]:
    terms = {f"loss/{row['name']}/{row['level']}": row["weighted"] for row in rows}
    return terms | {f"training/{name}": value for name, value in numbers.items() if value is not None}
