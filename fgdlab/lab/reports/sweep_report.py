"""The report on a sweep: its parts as figures and frames, displayed by ablations/report.ipynb."""
from collections.abc import Callable
from functools import cached_property, wraps
from html import escape
from pathlib import Path

import pandas as pd
from IPython.display import HTML, Image, display
from matplotlib.figure import Figure

from .. import plots
from ..errors import UserError
from ..tables import METRICS, Table, table_figure
from . import row_figures, sweep_runs
from .row_runs import LoadedRows, missing_folders
from .run_table import table_data, table_html
from .sweep_runs import SweepRuns


class Paragraph(str):
    """Text that a notebook displays as a paragraph."""

    def _repr_html_(self) -> str:
        return f"<p>{escape(self)}</p>"


class Unavailable(Paragraph):
    """Why a part of a report is not available."""

    def _repr_html_(self) -> str:
        return f"<p><em>Not available: {escape(self)}.</em></p>"


def or_reason(make: Callable):
    """A UserError becomes :class:`Unavailable`; the other parts are still made."""
    @wraps(make)
    def wrapped(self, *args):
        try:
            return make(self, *args)
        except UserError as error:
            return Unavailable(str(error).rstrip("."))

    return wrapped


def show(part: Figure | Unavailable, alt: str) -> None:
    """Display a figure with its alternative text, or the reason why it is not available."""
    display(Image(data=plots.png(part), format="png", alt=alt) if isinstance(part, Figure) else part)


class Report:
    """The parts of a report. A part is made when it is asked for; if that fails, it is :class:`Unavailable`."""

    def __init__(self, runs: SweepRuns, metrics: tuple[str, ...] = METRICS):
        self.runs = runs
        self.table = Table(runs.frame, runs.sweep, metrics)

    @classmethod
    def of(
        cls, name: str, scale: str = "laptop", runs: Path | str | None = None, seeds: list[int] | None = None,
    ) -> "Report":
        """The report on a sweep; arguments and errors are those of :meth:`SweepRuns.of`; a run must be done, too."""
        return cls(SweepRuns.of(name, scale, runs or None, seeds))

    def figure(self) -> Figure:
        """Every run as a point, and its difference to the baseline's."""
        return table_figure(self.runs.frame, self.runs.sweep, self.table.metrics[0])

    def every_run(self, page: str = "") -> HTML:
        """All runs in a table that sorts and filters; links are relative to the file ``page``."""
        return table_html(table_data(self.runs, self.table.metrics, Path(page).absolute().parent))

    @or_reason
    def losses(self) -> Figure | Unavailable:
        """Loss terms over training, one panel per row, of every run whose folder is here."""
        metrics = {}
        for key, row in self.runs.sweep.rows.items():
            files = [folder / "metrics.jsonl" for folder in self.runs.finished(key).values()]
            frames = [plots.read_metrics(file) for file in files if file.is_file()]
            if frames:
                metrics[row.label] = frames
        if not metrics:
            raise UserError(missing_folders(self.runs))
        return row_figures.losses_by_row(metrics)

    @cached_property
    def loaded(self) -> LoadedRows:
        """One finished run of each row; raises a UserError if there is none."""
        return LoadedRows.of(self.runs)

    @or_reason
    def rows_shown(self) -> Paragraph:
        """Which runs the figures of the rows show, and which rows they leave out."""
        seeds = sorted({row.seed for row in self.loaded.rows})
        left_out = "; ".join(f"{label} ({why.rstrip('.')})" for label, why in self.loaded.left_out.items())
        text = f"The same images in every row, with the student of seed {', '.join(map(str, seeds))}."
        return Paragraph(text + (f" Not shown: {left_out}." if left_out else ""))

    def images(self, count: int = 2) -> list[int]:
        """Indices of the images on which the rows are compared; [] if no run can be loaded."""
        try:
            return self.loaded.images(count)
        except UserError:
            return []

    @or_reason
    def masks(self, image: int) -> Figure | Unavailable:
        """The weight of each cell in the losses of the rows, on one image."""
        return row_figures.masks_by_row(self.loaded, image) or Unavailable("no row that is shown uses FGD's masks")

    @or_reason
    def attention(self, image: int) -> Figure | Unavailable:
        """Spatial attention of teacher and students, on one image."""
        return row_figures.attention_by_row(self.loaded, image)

    @or_reason
    def detections(self, image: int) -> Figure | Unavailable:
        """Detections of teacher and students, on one image."""
        return row_figures.detections_by_row(self.loaded, image)

    def settings(self) -> pd.DataFrame:
        """The settings that differ between the rows."""
        return sweep_runs.settings(self.runs)

    def cost(self) -> pd.DataFrame:
        """Seconds, images per second and memory of the runs of each row."""
        return sweep_runs.cost(self.runs)

    def provenance(self) -> pd.DataFrame:
        """Code, packages, machine, data and teacher of the runs."""
        return sweep_runs.provenance(self.runs)
