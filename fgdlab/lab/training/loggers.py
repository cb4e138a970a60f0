"""Where the rows of metrics.jsonl are also written, if asked for: TensorBoard, Weights & Biases, MLflow.

A logger is made from (folder of the run, settings, first step), and has ``log({name: number}, step)`` and ``close()``.
"""
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


class WeightsAndBiases:

    def __init__(self, folder: Path, config, first_step: int):
        import wandb

        before = id_before(folder / "wandb.txt", first_step)
        self.run = wandb.init(
            project="fgdlab", name=folder.name, id=before, resume="allow", dir=str(folder), config=config.dict())
        write_text(folder / "wandb.txt", self.run.id)
        self.log, self.close = self.run.log, self.run.finish


class MLflow:

    def __init__(self, folder: Path, config, first_step: int):
        import mlflow

        before = id_before(folder / "mlflow.txt", first_step)
        run = mlflow.start_run(run_id=before, run_name=folder.name)
        write_text(folder / "mlflow.txt", run.info.run_id)
        if before is None:
            mlflow.log_params(config.dict())
        self.log, self.close = mlflow.log_metrics, mlflow.end_run


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


def scalars(rows: list[dict], numbers: dict[str, float | None]) -> dict[str, float]:
    terms = {f"loss/{row['name']}/{row['level']}": row["weighted"] for row in rows}
    return terms | {f"training/{name}": value for name, value in numbers.items() if value is not None}
