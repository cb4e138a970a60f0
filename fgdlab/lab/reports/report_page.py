"""The report on a sweep as one HTML file: ablations/report.ipynb, executed by papermill and converted by nbconvert."""
import sys
from html import escape
from pathlib import Path

import fgdlab

from ..errors import UserError
from ..io import make_folder, write_text
from ..sweeps import ablations_folder
from ..tables import Table, page
from .sweep_runs import SweepRuns

NOTEBOOK_ONLY = "notebook-only"  # tag of cells that are of no use on a page


def write_report(
    name: str, scale: str = "laptop", runs: Path | None = None, out: Path | None = None, seeds: list[int] | None = None,
) -> Path:
    """Write the report on a sweep; an old one is replaced as a whole. The file needs no network.

    Args:
        name, scale, runs, seeds: as in :meth:`Report.of`.
        out: the file to write; by default report.html in the folder of the runs.
    Raises:
        UserError: no such sweep or scale, no results, no run is done, or the notebook fails.
    """
    found = SweepRuns.of(name, scale, runs, seeds)
    Table(found.frame, found.sweep)  # raises errors in the results before a kernel starts
    path = Path(out or found.home / "report.html")
    make_folder(path.parent)
    sys.modules.setdefault("rfc3987_syntax", None)  # jsonschema would take two seconds to compile it
    import papermill
    from nbclient.exceptions import DeadKernelError
    from nbconvert import HTMLExporter
    from papermill.exceptions import PapermillExecutionError

    parameters = {"sweep": name, "scale": scale, "runs": str(runs or ""), "seeds": seeds, "page": str(path)}
    try:
        notebook = papermill.execute_notebook(
            str(ablations_folder() / "report.ipynb"), None, parameters, cwd=str(Path.cwd()), kernel_name="python3",
            progress_bar=False, extra_arguments=["--IPKernelApp.log_level=40"],
        )
    except PapermillExecutionError as error:
        raise UserError(f"the report of {name} failed in report.ipynb: {error.ename}: {error.evalue}") from error
    except (DeadKernelError, RuntimeError) as error:
        raise UserError(f"the kernel of the report of {name} ended: {error}; try again with more memory") from error
    notebook.cells = [cell for cell in notebook.cells if NOTEBOOK_ONLY not in cell.metadata.get("tags", [])]
    exporter = HTMLExporter(template_name="basic", exclude_input=True, exclude_anchor_links=True)
    exporter.exclude_input_prompt = exporter.exclude_output_prompt = True
    body, _ = exporter.from_notebook_node(notebook)
    command = f"fgdlab report {found.sweep.name}" + (f" --scale {scale}" if scale != "laptop" else "")
    footer = f"<footer>Written by <code>{escape(command)}</code>, fgdlab {fgdlab.__version__}.</footer>"
    write_text(path, page(found.sweep.title, f"<h1>Report on {escape(found.sweep.name)}</h1>\n{body}\n{footer}"))
    return path
