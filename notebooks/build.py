"""Build the notebooks from the files that people edit.

    notebooks/src/NN_name.py (percent format) --jupytext--> cells --papermill--> outputs --clean--> notebooks/NN_name.ipynb

    python notebooks/build.py                 all of them, two at a time
    python notebooks/build.py 02_where        one
    python notebooks/build.py --quick         all with QUICK = True, in seconds each; writes nothing, fails where one fails
    python notebooks/build.py --from-ipynb 02_where      take over what was edited in JupyterLab into the .py, run nothing
"""
import argparse
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jupytext
import nbformat

HERE = Path(__file__).resolve().parent
SOURCES = HERE / "src"
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


def names() -> list[str]:
    """Every notebook of the series, in its order."""
    return sorted(path.stem for path in SOURCES.glob("[0-9][0-9]_*.py"))


def cells_of(source: Path) -> nbformat.NotebookNode:
    """A percent file as a notebook without outputs. Ids follow from the cells' text, so that a rebuild changes none."""
    notebook = jupytext.read(source, fmt="py:percent")
    seen: dict[str, int] = {}
    for cell in notebook.cells:
        mark = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:8]
        seen[mark] = seen.get(mark, -1) + 1
        cell.id = f"{mark}-{seen[mark]}" if seen[mark] else mark
    notebook.metadata = nbformat.NotebookNode(kernelspec=KERNEL, language_info={"name": "python"}, jupytext={"formats": "ipynb,src//py:percent"})
    return notebook


def texts(notebook: nbformat.NotebookNode) -> list[tuple]:
    """What must agree between a pair: kind, text and tags of every cell."""
    return [(cell.cell_type, cell.source.strip(), tuple(cell.metadata.get("tags", ()))) for cell in notebook.cells]


def drift(name: str) -> str:
    """Where a pair differs, in words; empty where it agrees."""
    path = HERE / f"{name}.ipynb"
    if not path.exists():
        return f"{path.name} must stand beside src/{name}.py, got no such file; build it"
    ours, theirs = texts(cells_of(SOURCES / f"{name}.py")), texts(nbformat.read(path, 4))
    for index, (mine, yours) in enumerate(zip(ours, theirs, strict=False)):
        if mine != yours:
            return f"cell {index} differs: {mine[1][:80]!r} in the .py, {yours[1][:80]!r} in the .ipynb"
    return "" if len(ours) == len(theirs) else f"the .py has {len(ours)} cells, the .ipynb {len(theirs)}"


def clean(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Without what changes from run to run and means nothing to a reader: times, versions, papermill's notes, widget state."""
    notebook.metadata = {key: value for key, value in notebook.metadata.items() if key in ("kernelspec", "jupytext")} | {"language_info": {"name": "python"}}
    for cell in notebook.cells:
        cell.metadata = {key: value for key, value in cell.metadata.items() if key in ("tags", "jupyter") and value}
        cell.metadata.get("jupyter", {}).pop("outputs_hidden", None)
        for output in cell.get("outputs", []):
            output.pop("metadata", None) if output.output_type == "stream" else output.update(metadata={})
            if "text/html" in output.get("data", {}):                # pandas' Styler names every table anew at each run
                output["data"]["text/html"] = re.sub(r"\bT_[0-9a-f]{5}(?=[_\" ])", f"T_{cell.id}", output["data"]["text/html"])
            if "text/plain" in output.get("data", {}):
                output["data"]["text/plain"] = re.sub(r" at 0x[0-9a-f]+", "", output["data"]["text/plain"])
    return nbformat.from_dict(notebook)


def execute(source: Path, out: Path, parameters: list[str], threads: int) -> tuple[int, float, float, str]:
    """Run a notebook in a process of its own. (exit status, seconds, peak memory in GB of the process and its kernel, last words)."""
    environment = {**os.environ, "PYDEVD_DISABLE_FILE_VALIDATION": "1", **{name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}}
    command = [sys.executable, "-m", "papermill", str(source), str(out), "--kernel", "python3", "--cwd", str(HERE), "--no-progress-bar", "--log-level", "ERROR", *parameters]
    started = time.perf_counter()
    with tempfile.TemporaryFile() as words:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=words, stderr=words, env=environment)
        _, status, usage = os.wait4(child.pid, 0)
        words.seek(0)
        said = words.read().decode(errors="replace")
    child.returncode = os.waitstatus_to_exitcode(status)
    return child.returncode, time.perf_counter() - started, usage.ru_maxrss / 2**20, said[-4000:]


def build(name: str, *, quick: bool, threads: int) -> bool:
    """Execute one notebook; write it unless ``quick``. Prints one line, and what went wrong if it failed."""
    with tempfile.TemporaryDirectory() as folder:
        plain, done = Path(folder) / "plain.ipynb", Path(folder) / f"{name}.ipynb"
        nbformat.write(cells_of(SOURCES / f"{name}.py"), plain)
        status, seconds, memory, said = execute(plain, done, ["-p", "QUICK", "True"] if quick else [], threads)
        print(f"{'failed' if status else 'done  '}  {name:24} {seconds:4.0f} s  {memory:.1f} GB" + (f"\n{said}" if status else ""), flush=True)
        if not status and not quick:
            unfinished = HERE / f".{name}.unfinished"
            nbformat.write(clean(nbformat.read(done, 4)), unfinished)
            unfinished.replace(HERE / f"{name}.ipynb")
    return not status


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="notebooks to build; all of them if none is given")
    parser.add_argument("--quick", action="store_true", help="run with QUICK = True and write nothing")
    parser.add_argument("--from-ipynb", action="store_true", help="write the .py anew from the cells of the .ipynb")
    parser.add_argument("--jobs", type=int, default=2, help="notebooks at a time (2)")
    given = parser.parse_args()
    chosen = [Path(name).stem for name in given.names] or names()
    if unknown := [name for name in chosen if name not in names() and not given.from_ipynb]:
        parser.error(f"NAME must be one of {', '.join(names())}, got {', '.join(unknown)}")
    if given.from_ipynb:
        for name in chosen:
            jupytext.write(nbformat.read(HERE / f"{name}.ipynb", 4), SOURCES / f"{name}.py", fmt="py:percent")
        return 0
    newer = [name for name in chosen if not given.quick and (path := HERE / f"{name}.ipynb").exists() and drift(name) and path.stat().st_mtime > (SOURCES / f"{name}.py").stat().st_mtime]
    if newer:
        parser.error(f"{', '.join(newer)}: the .ipynb was edited after its .py; take its cells over with --from-ipynb, or touch the .py to build from that")
    threads = max(1, (os.cpu_count() or 1) // min(given.jobs, len(chosen)))
    started = time.perf_counter()
    with ThreadPoolExecutor(given.jobs) as pool:
        fine = list(pool.map(lambda name: build(name, quick=given.quick, threads=threads), chosen))
    print(f"{sum(fine)} of {len(fine)} notebooks ran to their end in {time.perf_counter() - started:.0f} s")
    return 0 if all(fine) else 1


if __name__ == "__main__":
    sys.exit(main())
