"""The report on a sweep: its parts as figures and frames, displayed by ablations/report.ipynb, and its HTML page."""
from collections.abc import Callable
from functools import cached_property, wraps
from html import escape
from pathlib import Path

from IPython.display import HTML, display
from matplotlib.figure import Figure

import fgdlab

from .. import plots
from ..errors import UserError
from ..io import make_folder, write_text
from ..sweeps import KERNEL, ablations_folder, load_papermill
from ..tables import Table, page, table_figure
from . import row_figures
from .row_figures import LoadedRows
from .run_table import table_data, table_html
from .sweep_runs import SweepRuns


def or_reason(make: Callable):
    """Turn a UserError into a sentence, so that the other parts of the report are still made."""
    @wraps(make)
    def wrapped(self, *args):
        try:
            return make(self, *args)
        except UserError as error:
            return HTML(f"<p><em>Not available: {escape(str(error).rstrip('.'))}.</em></p>")

    return wrapped


def show(part: Figure | HTML, alt: str) -> None:
    """Display a figure with its alternative text, or the reason why it is not available."""
    display(plots.show(part, alt) if isinstance(part, Figure) else part)


class Report:
    """The parts of a report, each made when it is asked for, else a sentence that says why.

    A run must be done, else the table is a UserError. ``runs`` has settings, cost and provenance as frames.
    """

    def __init__(self, runs: SweepRuns):
        self.runs, self.table = runs, Table(runs.frame, runs.sweep)

    def figure(self) -> Figure:
        return table_figure(self.runs.frame, self.runs.sweep, self.table.metrics[0])

    def every_run(self, page: str = "") -> HTML:
        """All runs in a table that sorts and filters; links are relative to the file ``page``."""
        return table_html(table_data(self.runs, self.table.metrics, Path(page).absolute().parent))

    @or_reason
    def losses(self) -> Figure | HTML:
        metrics = {}
        for key, row in self.runs.sweep.rows.items():
            files = [folder / "metrics.jsonl" for folder in self.runs.finished(key).values()]
            frames = [plots.read_metrics(file) for file in files if file.is_file()]
            if frames:
                metrics[row.label] = frames
        if not metrics:
            raise UserError(self.runs.missing_folders())
        return row_figures.losses_by_row(metrics)

    @cached_property
    def loaded(self) -> LoadedRows:
        return LoadedRows.of(self.runs)

    @or_reason
    def rows_shown(self) -> HTML:
        seeds = sorted({row.seed for row in self.loaded.rows})
        left_out = "; ".join(f"{label} ({why.rstrip('.')})" for label, why in self.loaded.left_out.items())
        text = f"The same images in every row, with the student of seed {', '.join(map(str, seeds))}."
        return HTML(f"<p>{escape(text + (f' Not shown: {left_out}.' if left_out else ''))}</p>")

    def images(self, count: int = 2) -> list[int]:
        """Indices of the images on which the rows are compared; [] if no run can be loaded."""
        try:
            return self.loaded.images(count)
        except UserError:
            return []

    @or_reason
    def masks(self, image: int) -> Figure | HTML:
        return row_figures.masks_by_row(self.loaded, image)

    @or_reason
    def attention(self, image: int) -> Figure | HTML:
        return row_figures.attention_by_row(self.loaded, image)

    @or_reason
    def detections(self, image: int) -> Figure | HTML:
        return row_figures.detections_by_row(self.loaded, image)


def write_report(
    name: str, scale: str = "laptop", runs: Path | None = None, out: Path | None = None, seeds: list[int] | None = None,
) -> Path:
    """Execute ablations/report.ipynb and write it as one HTML file, which needs no network.

    Args:
        name, scale, runs, seeds: as in :meth:`SweepRuns.of`.
        out: the file to write; by default report.html in the folder of the runs.
    """
    found = SweepRuns.of(name, scale, runs, seeds)
    Table(found.frame, found.sweep)  # raises errors in the results before a kernel starts
    path = Path(out or found.home / "report.html")
    make_folder(path.parent)
    papermill = load_papermill()
    from nbconvert import HTMLExporter

    parameters = {"sweep": name, "scale": scale, "runs": str(runs or ""), "seeds": seeds, "page": str(path)}
    try:
        notebook = papermill.execute_notebook(
            str(ablations_folder() / "report.ipynb"), None, parameters, cwd=str(Path.cwd()), **KERNEL)
    except papermill.exceptions.PapermillExecutionError as error:
        raise UserError(f"the report of {name} failed in report.ipynb: {error.ename}: {error.evalue}") from error
    except RuntimeError as error:
        raise UserError(f"the kernel of the report of {name} ended: {error}; try again with more memory") from error
    notebook.cells = [cell for cell in notebook.cells if "notebook-only" not in cell.metadata.get("tags", [])]
    exporter = HTMLExporter(template_name="basic", exclude_input=True, exclude_anchor_links=True)
    exporter.exclude_input_prompt = exporter.exclude_output_prompt = True
    body, _ = exporter.from_notebook_node(notebook)
    command = f"fgdlab report {found.sweep.name}" + (f" --scale {scale}" if scale != "laptop" else "")
    footer = f"<footer>Written by <code>{escape(command)}</code>, fgdlab {fgdlab.__version__}.</footer>"
    write_text(path, page(found.sweep.title, f"<h1>Report on {escape(found.sweep.name)}</h1>\n{body}\n{footer}"))
    return path
