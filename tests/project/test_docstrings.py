"""Every project file named in a docstring, a comment or a document exists."""
import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

import fgdlab

ROOT = Path(fgdlab.__file__).parents[1]
FOLDERS = ("fgdlab", "tests", "benchmarks", "notebooks", "ablations")
FILES = [*ROOT.glob("*.*"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.*"))]
TREE = {path.relative_to(ROOT).as_posix() for path in FILES}
SOURCES = sorted(name for name in TREE if name.endswith(".py"))
DOCUMENTS = [
    "README.md", "README.zh-CN.md", "CONTRIBUTING.md", "SECURITY.md", "ablations/README.md",
    "tests/robustness/ROBUST.md", *(f"notebooks/site/{path.name}" for path in (ROOT / "notebooks/site").glob("*.md")),
]
FILE = re.compile(r"(?<![\w*<>{}./-])((?:[\w-]+/)*[\w-]+\.(?:py|ya?ml|md|js|ipynb))(?![\w-])")
MADE = {  # by a reader, a run or a test
    "FILE.py", "NAME.yaml", "NN_name.py", "NN_name.ipynb", "mine.py", "mine.yaml", "method.py", "direction.py",
    "view.py", "run.ipynb", "notebook.ipynb", "wrong.py", "sitecustomize.py", "stand_in.py",
}
OTHERS = {"cifar.py", "anchor_head.py", "trainval_net_sup.py", "pth_transfer.py"}  # of other projects


def prose(text: str) -> str:
    """The docstrings and comments of a Python text."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = [ast.get_docstring(node) for node in ast.walk(ast.parse(text)) if isinstance(node, documented)]
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return "\n".join([*filter(None, docstrings), *(each.string for each in tokens if each.type == tokenize.COMMENT)])


def missing_files(text: str) -> list[str]:
    """Named files that are not in the tree, by their path or its end. ``MADE``, ``OTHERS`` and mmdet/ do not count."""
    names = set(FILE.findall(text))
    return sorted(
        name for name in names
        if name.rsplit("/", 1)[-1] not in MADE | OTHERS and not name.startswith("mmdet/")
        and not any(f"/{path}".endswith(f"/{name}") for path in TREE)
    )


@pytest.mark.parametrize("name", SOURCES)
def test_every_file_named_in_a_docstring_or_comment_exists(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    if name == "notebooks/src/09_your_own_loss.py":  # cell magics: all of it is searched
        assert missing_files(text) == []
    else:
        assert missing_files(prose(text)) == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_file_named_in_a_document_exists(name):
    assert missing_files((ROOT / name).read_text(encoding="utf-8")) == []


def test_a_missing_file_is_found_in_docstrings_and_comments_only():
    text = '"""See gone.py and fgd.py."""\nx = "lost.py"  # lab/away.yaml, method.py\n'
    assert missing_files(prose(text)) == ["gone.py", "lab/away.yaml"]
