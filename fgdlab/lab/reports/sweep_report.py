"""Everything about a sweep on one page: what was asked, what came out, what it looks like, where it comes from, what failed, what it cost.

    results, run folders --Report.of--> Report --its parts--> figures and frames, for a notebook (ablations/report.ipynb)
                                               --write-----> one HTML file, readable without a network (reporting/page)
"""
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from ..errors import UserError
from ..io import make_folder, write_text
from ..plots import NotebookFigure, read_metrics
from ..tables import METRICS, Table, table_figure
from . import row_figures as report_figures
from . import sweep_runs as report_runs
from .row_runs import LoadedRows, missing_folders
from .sweep_runs import SweepRuns


class Unavailable(str):
    """Why a part of a report is not there; a notebook shows the words."""

    def _repr_markdown_(self) -> str:
        return f"*Not here: {self}.*"


def or_absent(make: Callable):
    """A part that tells why it is not there, instead of taking the rest of the report with it."""
    def made(self, *args, **settings):
        try:
            return make(self, *args, **settings)
        except UserError as error:
            return Unavailable(str(error).rstrip("."))

    made.__doc__, made.__name__ = make.__doc__, make.__name__
    return made


class Report:
    """The parts of a report. Each figure or frame is made when it is asked for; a part that cannot be made is an :class:`Absent` with the reason.

    Args:
        runs: of :meth:`SweepRuns.of`, or use :meth:`Report.of`.
    """

    images = 2                                                       # on so many the page compares rows

    def __init__(self, runs: SweepRuns, metrics: tuple[str, ...] = METRICS):
        self.runs = runs
        self.table = Table(runs.frame, runs.sweep, metrics)

    @classmethod
    def of(cls, name: str, scale: str = "laptop", runs: Path | str | None = None) -> "Report":
        """The report on a sweep by name, of the runs in folder ``runs`` (default runs/NAME, then the committed results).

        Raises:
            UserError: no such sweep or scale, no results, or no run of it is done.
        """
        return cls(SweepRuns.of(name, scale, runs or None))

    def figure(self) -> Figure:
        """Every run as a point, differences paired by seed beside it (table_figure.py)."""
        return table_figure(self.runs.frame, self.runs.sweep, self.table.metrics[0])

    @or_absent
    def losses(self) -> NotebookFigure | Unavailable:
        """Loss terms over training, a panel a row, of every run whose folder is here."""
        metrics = {}
        for key, row in self.runs.sweep.rows.items():
            frames = [read_metrics(folder / "metrics.jsonl") for folder in self.runs.finished(key).values() if (folder / "metrics.jsonl").is_file()]
            if frames:
                metrics[row.label] = frames
        if not metrics:
            raise UserError(missing_folders(self.runs))
        return report_figures.losses_by_row(metrics)

    @cached_property
    def opened(self) -> LoadedRows | Unavailable:
        """One finished run of each row, opened again."""
        try:
            return LoadedRows.of(self.runs)
        except UserError as error:
            return Unavailable(str(error).rstrip("."))

    def place(self, image: int) -> int:
        """Where in the split the report's image 0, 1, ... is."""
        return self.opened.images(max(self.images, image + 1))[image]

    def masks(self, image: int = 0) -> NotebookFigure | Unavailable:
        """How heavy each cell weighs in the rows' losses, on one image."""
        if isinstance(self.opened, Unavailable):
            return self.opened
        return report_figures.masks_by_row(self.opened, self.place(image)) or Unavailable("no row that is shown weighs cells by FGD's masks")

    def attention(self, image: int = 0) -> NotebookFigure | Unavailable:
        """Where teacher and students attend, on one image."""
        return self.opened if isinstance(self.opened, Unavailable) else report_figures.attention_by_row(self.opened, self.place(image))

    def found(self, image: int = 0) -> NotebookFigure | Unavailable:
        """What teacher and students find, on one image."""
        return self.opened if isinstance(self.opened, Unavailable) else report_figures.detections_by_row(self.opened, self.place(image))

    def settings(self) -> pd.DataFrame:
        """Which settings tell the rows apart."""
        return report_runs.settings(self.runs)

    def provenance(self) -> pd.DataFrame:
        """Code, packages, machine, data and teacher behind the numbers."""
        return report_runs.provenance(self.runs)

    def failures(self) -> pd.DataFrame:
        """Runs without a number, why, and where their notebooks lie; no line where all are done."""
        return report_runs.failures(self.runs)

    def cost(self) -> pd.DataFrame:
        """Seconds, images a second and memory of each row's runs."""
        return report_runs.cost(self.runs)

    def html(self) -> str:
        """The page."""
        from .html_report import page

        return page(self)

    def write(self, path: Path | str) -> Path:
        """Write the page; an old one is replaced as a whole."""
        path = Path(path)
        make_folder(path.parent)
        write_text(path, self.html())
        return path
