"""All rows, by kind."""
from . import annotations, checkpoints, data_sets, environment, images, results, settings
from .world import Row

TABLE: dict[str, list[Row]] = {
    "Annotations": annotations.ROWS,
    "Images": images.ROWS,
    "Data sets": data_sets.ROWS,
    "Checkpoints": checkpoints.ROWS,
    "Results of runs": results.ROWS,
    "Command line and YAML": settings.ROWS,
    "Environment": environment.ROWS,
}
