"""Build the notebooks from their sources.

    src/NN_name.py (percent format) --jupytext--> cells --papermill--> outputs --clean--> NN_name.ipynb

    python notebooks/build.py                 all of them, two at a time
    python notebooks/build.py 02_where        one
    python notebooks/build.py --quick         all with QUICK = True, in seconds each; writes nothing
    python notebooks/build.py --from-ipynb 02_where      copy edits made in JupyterLab into the .py, run nothing
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
    """All notebooks of the series, in order."""
    return sorted(path.stem for path in SOURCES.glob("[0-9][0-9]_*.py"))


def cells_of(source: Path) -> nbformat.NotebookNode:
    """A percent file as a notebook without outputs. Cell ids are text hashes, so a rebuild keeps them."""
    notebook = jupytext.read(source, fmt="py:percent")
    seen: dict[str, int] = {}
    for cell in notebook.cells:
        text_hash = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:8]
        seen[text_hash] = seen.get(text_hash, -1) + 1
        cell.id = f"{text_hash}-{seen[text_hash]}" if seen[text_hash] else text_hash
    notebook.metadata = nbformat.NotebookNode(
        kernelspec=KERNEL, language_info={"name": "python"}, jupytext={"formats": "ipynb,src//py:percent"},
    )
    return notebook


def texts(notebook: nbformat.NotebookNode) -> list[tuple]:
    """Type, text and tags of every cell, which must agree between a .py and its .ipynb."""
    return [(cell.cell_type, cell.source.strip(), tuple(cell.metadata.get("tags", ()))) for cell in notebook.cells]


def drift(name: str) -> str:
    """How a .py and its .ipynb differ, in words; empty if they agree."""
    path = HERE / f"{name}.ipynb"
    if not path.exists():
        return f"{path.name} must exist for src/{name}.py, got no such file; build it"
    source, built = texts(cells_of(SOURCES / f"{name}.py")), texts(nbformat.read(path, 4))
    for index, (a, b) in enumerate(zip(source, built, strict=False)):
        if a != b:
            return f"cell {index} differs: {a[1][:80]!r} in the .py, {b[1][:80]!r} in the .ipynb"
    return "" if len(source) == len(built) else f"the .py has {len(source)} cells, the .ipynb {len(built)}"


def clean(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Remove what changes from run to run: times, versions, papermill's metadata, widget state."""
    kept = {key: value for key, value in notebook.metadata.items() if key in ("kernelspec", "jupytext")}
    notebook.metadata = kept | {"language_info": {"name": "python"}}
    for cell in notebook.cells:
        cell.metadata = {key: value for key, value in cell.metadata.items() if key in ("tags", "jupyter") and value}
        cell.metadata.get("jupyter", {}).pop("outputs_hidden", None)
        for output in cell.get("outputs", []):
            output.pop("metadata", None) if output.output_type == "stream" else output.update(metadata={})
            data = output.get("data", {})
            if "text/html" in data:  # pandas' Styler gives every table a new random name
                data["text/html"] = re.sub(r"\bT_[0-9a-f]{5}(?=[_\" ])", f"T_{cell.id}", data["text/html"])
            if "text/plain" in data:
                data["text/plain"] = re.sub(r" at 0x[0-9a-f]+", "", data["text/plain"])
    return nbformat.from_dict(notebook)


def execute(source: Path, out: Path, parameters: list[str], threads: int) -> tuple[int, float, float, str]:
    """Run a notebook in a new process. Returns exit status, seconds, peak memory in GB, end of the output."""
    # A progress bar appears only on a slow machine, and its text would stay in the notebook.
    environment = {**os.environ, "PYDEVD_DISABLE_FILE_VALIDATION": "1", "TQDM_DISABLE": "1"}
    environment |= {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    command = [
        sys.executable, "-m", "papermill", str(source), str(out), "--kernel", "python3", "--cwd", str(HERE),
        "--no-progress-bar", "--log-level", "ERROR", *parameters,
    ]
    started = time.perf_counter()
    with tempfile.TemporaryFile() as file:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        file.seek(0)
        output = file.read().decode(errors="replace")
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, time.perf_counter() - started, usage.ru_maxrss / 2**20, output[-4000:]


def build(name: str, *, quick: bool, threads: int) -> bool:
    """Execute one notebook and write it unless ``quick``. Prints one line, and the end of the output if it failed."""
    with tempfile.TemporaryDirectory() as folder:
        plain, done = Path(folder) / "plain.ipynb", Path(folder) / f"{name}.ipynb"
        nbformat.write(cells_of(SOURCES / f"{name}.py"), plain)
        parameters = ["-p", "QUICK", "True"] if quick else []
        status, seconds, memory, output = execute(plain, done, parameters, threads)
        line = f"{'failed' if status else 'done  '}  {name:24} {seconds:4.0f} s  {memory:.1f} GB"
        print(line + (f"\n{output}" if status else ""), flush=True)
        if not status and not quick:
            unfinished = HERE / f".{name}.unfinished"
            nbformat.write(clean(nbformat.read(done, 4)), unfinished)
            unfinished.replace(HERE / f"{name}.ipynb")
    return not status


def edited_later(name: str) -> bool:
    """Whether the .ipynb differs from its .py and is newer."""
    path, source = HERE / f"{name}.ipynb", SOURCES / f"{name}.py"
    return path.exists() and bool(drift(name)) and path.stat().st_mtime > source.stat().st_mtime


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="notebooks to build; all of them if none is given")
    parser.add_argument("--quick", action="store_true", help="run with QUICK = True and write nothing")
    parser.add_argument("--from-ipynb", action="store_true", help="rewrite the .py from the cells of the .ipynb")
    parser.add_argument("--jobs", type=int, default=2, help="notebooks at a time (2)")
    args = parser.parse_args()
    chosen = [Path(name).stem for name in args.names] or names()
    if unknown := [name for name in chosen if name not in names() and not args.from_ipynb]:
        parser.error(f"NAME must be one of {', '.join(names())}, got {', '.join(unknown)}")
    if args.from_ipynb:
        for name in chosen:
            jupytext.write(nbformat.read(HERE / f"{name}.ipynb", 4), SOURCES / f"{name}.py", fmt="py:percent")
        return 0
    newer = [name for name in chosen if not args.quick and edited_later(name)]
    if newer:
        parser.error(f"{', '.join(newer)}: the .ipynb was edited after its .py; copy its cells with --from-ipynb, "
                     "or touch the .py to build from that")
    threads = max(1, (os.cpu_count() or 1) // min(args.jobs, len(chosen)))
    started = time.perf_counter()
    with ThreadPoolExecutor(args.jobs) as pool:
        done = list(pool.map(lambda name: build(name, quick=args.quick, threads=threads), chosen))
    print(f"{sum(done)} of {len(done)} notebooks ran to their end in {time.perf_counter() - started:.0f} s")
    return 0 if all(done) else 1


if __name__ == "__main__":
    sys.exit(main())
