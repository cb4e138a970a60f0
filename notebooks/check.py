"""Rules for the built notebooks: opening, length, results, captions, links, equations. A rule returns its violations.

    python notebooks/check.py [NAME ...]      prints every violation; exit status 1 if there is one
"""
import ast
import re
import statistics
import sys
from pathlib import Path

import nbformat

sys.path.insert(0, str(Path(__file__).parent))
from build import HERE, drift, names  # noqa: E402

HEADINGS = ("Question", "Equations", "Code", "Needs", "Cost", "You will")
LINK = re.compile(r"\[`([\w.]+)`\]\((\.\./[\w/]+\.py)\)")
EQUATIONS = range(1, 15)
COLUMNS = 88


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(HERE / f"{name}.ipynb", 4)


def code(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def lines(cell) -> int:
    return sum(bool(line.strip()) for line in cell.source.splitlines())


def has_figure(cell) -> bool:
    return any(kind.startswith("image/") for output in cell.get("outputs", []) for kind in output.get("data", {}))


def opening(name: str) -> list[str]:
    """Title and six headings in the first cell."""
    first = read(name).cells[0].source
    wrong = [f"the first cell must have **{heading}**" for heading in HEADINGS if f"**{heading}" not in first]
    if not first.startswith(f"# {name[:2]} ·"):
        wrong.append(f"the first cell must begin with '# {name[:2]} ·', got {first[:30]!r}")
    return wrong


def parameters(name: str) -> list[str]:
    """One cell tagged parameters, literals only, with QUICK = False."""
    tagged = [cell for cell in code(read(name)) if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1 or "QUICK = False" not in tagged[0].source:
        return [f"one cell must be tagged parameters and say QUICK = False, got {len(tagged)}"]
    return [f"parameters must be literals, got {ast.unparse(line)}" for line in ast.parse(tagged[0].source).body
            if not (isinstance(line, ast.Assign) and isinstance(line.value, (ast.Constant, ast.UnaryOp)))]


def short_cells(name: str) -> list[str]:
    """30-60 cells; code cells of at most 8 lines in the median, 20 at most."""
    notebook = read(name)
    counts = [lines(cell) for cell in code(notebook)]
    wrong = [] if 30 <= len(notebook.cells) <= 60 else [f"30 to 60 cells, got {len(notebook.cells)}"]
    if (median := statistics.median(counts)) > 8:
        wrong.append(f"the median code cell must have at most 8 lines, got {median}")
    return wrong + [f"no code cell above 20 lines, got {count}: {cell.source[:60]!r}"
                    for cell, count in zip(code(notebook), counts, strict=True) if count > 20]


def narrow(name: str) -> list[str]:
    """Code lines of at most 88 columns."""
    return [f"code must have at most {COLUMNS} columns, got {len(line)}: {line[:60]!r}"
            for cell in code(read(name)) for line in cell.source.splitlines() if len(line) > COLUMNS]


def overview(name: str) -> list[str]:
    """The schematic of FGD in a cell of its own."""
    shown = any(re.fullmatch(r"schematic\(\"\w+\"\)", cell.source) for cell in code(read(name)))
    return [] if shown else ['a cell must show the schematic of FGD: schematic("masks"), or another part']


def ending(name: str) -> list[str]:
    """A recap of three points and a link to the next notebook; then, as last section, all solutions."""
    cells = read(name).cells
    texts = [cell.source if cell.cell_type == "markdown" else "" for cell in cells]
    recap = re.search(r"^## Recap\n(.*?)(?=^## |\Z)", "\n".join(texts), re.DOTALL | re.MULTILINE)
    last = max((index for index, text in enumerate(texts) if "## Solutions" in text), default=len(cells))
    points = len(re.findall(r"^- ", recap[1], re.MULTILINE)) if recap else 0
    wrong = [] if points == 3 else [f"'## Recap' must have three points, got {points}"]
    wrong += [] if recap and ".ipynb)" in recap[1] else ["'## Recap' must link to the next notebook"]
    after = "\n".join(texts[last:]).rpartition("## Solutions")[2]
    wrong += ["'## Solutions' must be the last section"] if last == len(cells) or "\n## " in after else []
    return wrong + [f"a solution must stand under '## Solutions', got {cell.source[:40]!r}"
                    for index, cell in enumerate(cells) if "solution" in cell.metadata.get("tags", []) and index < last]


def results(name: str) -> list[str]:
    """At least half of the code cells have an output; all were run, in order, without errors or text on stderr."""
    cells = code(read(name))
    showing = sum(bool(cell.outputs) for cell in cells)
    wrong = []
    if 2 * showing < len(cells):
        wrong.append(f"half of the code cells must show a result, got {showing} of {len(cells)}")
    if [cell.execution_count for cell in cells] != list(range(1, len(cells) + 1)):
        wrong.append("every code cell must have been run once, in order")
    for cell in cells:
        bad = [output for output in cell.outputs if output.output_type == "error" or output.get("name") == "stderr"]
        wrong += [f"no error or stderr, got {output.get('text', output.get('evalue', ''))[:100]!r} "
                  f"in {cell.source[:40]!r}" for output in bad]
    return wrong


def captions(name: str) -> list[str]:
    """A caption follows every cell with a figure; captions are numbered from 1, except that of the schematic."""
    cells, wrong, number = read(name).cells, [], 0
    for cell, after in zip(cells, [*cells[1:], None], strict=True):
        if cell.cell_type == "code" and has_figure(cell):
            unnumbered = cell.source.startswith("schematic(")
            number += not unnumbered
            start = "*FGD in one picture.*" if unnumbered else f"*Figure {number}.*"
            if after is None or after.cell_type != "markdown" or not after.source.startswith(start):
                wrong.append(f"the figure of {cell.source[:40]!r} needs a cell after it that begins with {start!r}")
    return wrong


def size(name: str) -> list[str]:
    """Under 1.5 MB, without widget state."""
    path = HERE / f"{name}.ipynb"
    wrong = [] if path.stat().st_size < 1.5e6 else [f"under 1.5 MB, got {path.stat().st_size / 1e6:.1f} MB"]
    return wrong + (["no widget state may be saved"] if "widgets" in read(name).metadata else [])


def links(name: str) -> list[str]:
    """The text of a link is defined in the file that it opens; every other relative link opens a file."""
    text = "\n".join(cell.source for cell in read(name).cells if cell.cell_type == "markdown")
    wrong = []
    for name, file in LINK.findall(text):
        path = (HERE / file).resolve()
        if not path.is_file():
            wrong.append(f"[`{name}`]({file}) must open a file, got none")
        else:
            known = defined(path) | {path.stem, "fgdlab"}
            wrong += [f"{file} must define {part}, which it does not" for part in name.split(".") if part not in known]
    for target in re.findall(r"\]\((?!https?:|#|attachment:)([^)\s#]+)", text):
        if not (HERE / target).exists():
            wrong.append(f"({target}) must open a file, got none")
    return wrong


def defined(path: Path) -> set[str]:
    """Names that a Python file defines: functions, classes, methods, constants."""
    known = {path.name}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            known.add(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            known |= {target.id for target in targets if isinstance(target, ast.Name)}
    return known


def exercises(name: str) -> list[str]:
    """Two to four exercises, each with a stub and a hidden solution that asserts that it is right."""
    notebook = read(name)
    markdown = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    count = sum(len(re.findall(r"\*\*Exercise \d", text)) for text in markdown)
    solutions = [cell for cell in code(notebook) if "solution" in cell.metadata.get("tags", [])]
    stubs = [cell for cell in code(notebook) if "raise NotImplementedError" in cell.source]
    wrong = [] if 2 <= count <= 4 else [f"two to four exercises, got {count}"]
    if not len(solutions) == len(stubs) == count:
        wrong.append(f"{count} exercises need as many stubs and solutions, got {len(stubs)} and {len(solutions)}")
    return wrong + [f"a solution must be hidden and assert that it is right, got {cell.source[:40]!r}"
                    for cell in solutions
                    if not cell.metadata.get("jupyter", {}).get("source_hidden") or "assert" not in cell.source]


def levels(name: str) -> list[str]:
    """An exercise says its level and time; at least one is hard, and at least one an experiment with a prediction."""
    text = "\n".join(cell.source for cell in read(name).cells if cell.cell_type == "markdown")
    heads = re.findall(r"\*\*Exercise \d\*\*\s\(((?:easy|medium|hard), \d+ minutes[^)]*)\)", text)
    wrong = [] if len(heads) == text.count("**Exercise ") else [
        f"an exercise must begin with (easy|medium|hard, N minutes), got {heads}"]
    wrong += [] if any(head.startswith("hard") for head in heads) else [f"one exercise must be hard, got {heads}"]
    predicted = "an experiment" in " ".join(heads) and "redict" in text.partition("## Exercises")[2]
    return wrong + ([] if predicted else [f"one exercise must be an experiment with a prediction, got {heads}"])


def pairs(name: str) -> list[str]:
    """The .py and the .ipynb hold the same cells."""
    return [difference] if (difference := drift(name)) else []


RULES = (opening, parameters, short_cells, narrow, overview, ending, results, captions, size, links, exercises, levels,
         pairs)


def equations() -> list[str]:
    """Every equation of the paper is in some notebook, in a cell with a link to the function that computes it."""
    present = set()
    for name in names():
        for cell in read(name).cells:
            if cell.cell_type == "markdown" and LINK.search(cell.source):
                present |= {int(number) for number in re.findall(r"\\tag\{(\d+)\}", cell.source)}
    return [f"equation {number} must be in some notebook, in a cell with a link to its function"
            for number in EQUATIONS if number not in present]


def main() -> int:
    chosen = sys.argv[1:] or names()
    wrong = [f"{name}: {rule.__name__}: {violation}" for name in chosen for rule in RULES for violation in rule(name)]
    wrong += [] if sys.argv[1:] else equations()
    print("\n".join(wrong) or "every rule holds")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
