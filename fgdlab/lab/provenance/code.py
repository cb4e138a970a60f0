"""The code that a run executes, as one hash, without comments, docstrings, types of arguments and words of errors.

A module counts if :mod:`fgdlab.lab.run.one_run` or the run's own method imports it, directly or through others, and
so do its data, a YAML of its name. Other methods do not count: an edit of pkd.py leaves runs of FGD as they are.
"""
import ast
import os
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from ..io import load_yaml, short_hash

ROOT = Path(__file__).parents[3]  # the folder that holds the package fgdlab
RUN = "fgdlab.lab.run.one_run"
FGD = ("fgdlab.fgd", "fgdlab.fused.loss")
# These print, log, write or raise; run_config declares settings, whose values are in the run's id.
NO_NUMBERS = {
    "fgdlab", "fgdlab.lab.config.run_config", "fgdlab.lab.errors", "fgdlab.lab.io", "fgdlab.lab.provenance",
    "fgdlab.lab.datasets.data_checks", "fgdlab.lab.run.folder", "fgdlab.lab.training.log",
    "fgdlab.lab.training.loggers", "fgdlab.lab.training.torchrun", "fgdlab.lab.checkpoints.export",
    "fgdlab.lab.checkpoints.download",
}


@cache
def code_of(method: str) -> dict:
    """{"hash": one hash, "files": {path below the project: hash}} of what a run with this method executes."""
    files = file_hashes(method)
    text = "\n".join(f"{name} {value}" for name, value in sorted(files.items()))
    return {"hash": short_hash(text.encode()), "files": files}


@cache
def file_hashes(method: str) -> dict[str, str]:
    paths = [all_modules()[name] for name in sorted(executed_modules(method))]
    paths += [data for path in paths if (data := path.with_suffix(".yaml")).exists()]
    return {str(path.relative_to(ROOT)): source_hash(path) for path in paths}


def changed_files(before: dict[str, str], method: str) -> list[str]:
    now = file_hashes(method)
    return sorted(name for name in {*before, *now} if before.get(name) != now.get(name))


def executed_modules(method: str) -> set[str]:
    own = method_modules(method)
    others = {name for name in all_modules() if is_method(name)}
    modules = closure([RUN], others) | closure(own, others - closure(own, set()))
    return {name for name in modules if not computes_nothing(name)}


def computes_nothing(name: str) -> bool:
    return name in NO_NUMBERS or any(name.startswith(f"{package}.") for package in NO_NUMBERS - {"fgdlab"})


def is_method(name: str) -> bool:
    return name in FGD or name.startswith(("fgdlab.methods.", "fgdlab.fused."))


def method_modules(method: str) -> list[str]:
    from fgdlab.methods import METHOD_CLASSES

    if method in METHOD_CLASSES:
        return [f"fgdlab.methods.{METHOD_CLASSES[method].split('.')[0]}"]
    # none, or a custom loss, whose file is in the run's id
    return {"fgd": list(FGD), "fbkd": ["fgdlab.methods.fbkd"]}.get(method, [])


# --- imports ---

@cache
def all_modules() -> dict[str, Path]:
    return {module_name(path): path for path in (ROOT / "fgdlab").rglob("*.py")}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def closure(roots: Iterable[str], skip: set[str]) -> set[str]:
    """The roots and all modules that they import, also inside functions; none of ``skip``."""
    found, waiting = set(), list(roots)
    while waiting:
        name = waiting.pop()
        if name not in found and name not in skip:
            found.add(name)
            waiting += imports(name)
    return found


@cache
def imports(name: str) -> tuple[str, ...]:
    """The package's modules that a module imports. A name of a lazy package counts as its module alone."""
    modules = all_modules()
    path = modules[name]
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[:len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            for alias in node.names:
                inner, public = f"{base}.{alias.name}", public_names(base).get(alias.name)
                found.append(inner if inner in modules else f"{base}.{public}" if public else base)
    return tuple(dict.fromkeys(each for each in found if each in modules))


@cache
def public_names(package: str) -> dict[str, str]:
    path = all_modules().get(package)
    if path is None or path.name != "__init__.py":
        return {}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "lazy_package":
            return {name: module for module, names in ast.literal_eval(node.args[1]).items() for name in names.split()}
    return {}


def source_hash(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    content = normalised(text) if path.suffix == ".py" else repr(load_yaml(text))
    return short_hash(content.encode())


def normalised(text: str) -> str:
    """The syntax tree without docstrings, types of arguments, and arguments of raised errors."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            node.exc.args, node.exc.keywords = [], []
        if isinstance(node, ast.arg):
            node.annotation = None
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            node.returns = None
        if (
            isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
            and ast.get_docstring(node, clean=False) is not None
        ):
            node.body = node.body[1:]
    return ast.dump(tree)


# --- git ---

def git_state() -> dict:
    """{"commit", "dirty"} of the checkout that this code lies at the top of; None where there is none.

    A copy without .git has the commit that ``$FGDLAB_COMMIT`` names, which means a clean one.
    """
    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = changed = None
    if (top := git("rev-parse", "--show-toplevel")) and Path(top).resolve() == ROOT.resolve():
        commit = git("rev-parse", "--short=12", "HEAD")
        changed = git("status", "--porcelain", "--", "fgdlab", "ablations/run_one.ipynb", "ablations/sweeps")
    if commit is None and os.environ.get("FGDLAB_COMMIT"):
        return {"commit": os.environ["FGDLAB_COMMIT"], "dirty": False}
    return {"commit": commit, "dirty": None if changed is None else bool(changed)}
