"""Runs of a sweep in a table that sorts and filters: on a report's page, or in a notebook while they run."""
import json
import os
import threading
import time
from pathlib import Path

import traitlets
from anywidget import AnyWidget
from IPython.display import HTML

from .. import plots
from ..errors import UserError
from ..sweeps import collect, dry_run, load_sweep, plan
from .sweep_runs import SweepRuns, home_of, used_settings, with_errors

STATIC = Path(__file__).parent / "static"
FILES = {"notebook": "run.ipynb", "explorer": "explorer.html"}


def table_data(runs: SweepRuns, metrics: tuple[str, ...], start: Path) -> dict:
    """What runs.js shows: a line per run. Links are relative to the folder ``start``."""
    frame, lines = runs.frame[runs.frame["row"].isin(list(runs.sweep.rows))], []
    used, numbers = used_settings(frame), [name for name in (*metrics, "seconds") if name in frame]
    for i, line in frame.iterrows():
        folder = Path(os.path.relpath(runs.path.parent / str(line["run_id"]), start))
        files = {name: f"{folder / file}" for name, file in FILES.items() if (start / folder / file).exists()}
        values = json.loads(line.reindex(["seed", "state", "error", *numbers]).to_json())  # NaN becomes null
        lines.append({"row": runs.sweep.rows[line["row"]].label, **values, **used.loc[i], "files": files})
    return {"name": runs.sweep.name, "numbers": numbers, "settings": [*used], "lines": lines}


def table_html(data: dict) -> HTML:
    html, css, js = ((STATIC / f"runs.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js"))
    page = html.replace("STYLE", css).replace("SCRIPT", js.replace("export default", "const table ="))
    return HTML(page.replace("DATA", json.dumps(data).replace("<", "\\u003c")))


class RunTable(AnyWidget):
    """The table in a notebook; ``data``: of :func:`table_data`."""

    _esm, _css = STATIC / "runs.js", STATIC / "runs.css"
    data = traitlets.Dict().tag(sync=True)


def watch(name: str, scale: str = "laptop", runs: Path | str | None = None, seeds: list[int] | None = None, **set):
    """Follow a sweep in a notebook until all its runs have ended: states, time left, scores and loss curves.

    Arguments of ``fgdlab sweep``: NAME --scale --out --seeds --set.
    """
    sweep = load_sweep(name).at(scale, seeds)
    home = home_of(sweep, scale, runs)
    planned = plan(sweep, home, scale=scale, overrides=set)

    def look() -> dict:
        frame = with_errors(collect(planned, sweep), home)
        data = table_data(SweepRuns(sweep, frame, home / "results.csv", home), ("AP",), Path.cwd())
        for line, run in zip(data["lines"], planned, strict=True):
            line["progress"] = run.here.progress()
            try:
                losses = plots.by_step(plots.read_metrics(run.folder / "metrics.jsonl"))["total"]
                line["curve"] = [*losses.iloc[::len(losses) // 80 + 1].items()]
            except UserError:
                pass  # no step is logged yet
        return {**data, "status": dry_run(planned, sweep, scale, None)[-1]}

    def follow() -> None:
        while table.comm and not {line["state"] for line in table.data["lines"]} <= {"done", "failed"}:
            time.sleep(3)
            table.data = look()

    table = RunTable(data=look())
    threading.Thread(target=follow, daemon=True).start()
    return table
