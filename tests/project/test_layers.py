"""The method imports torch and itself, and never the bench.

The rooms of the package are in layers: none imports a higher one.
"""
import ast
import subprocess
import sys
from pathlib import Path

import pytest

import fgdlab
from fgdlab.lab.provenance import code

ROOT = Path(fgdlab.__file__).parent
ENTRY = "__main__.py"  # `python -m fgdlab` is the command line of the bench
LOOPS = [ROOT / "fused/cpu/loops.py"]  # read where the fused loss runs on the CPU; numba brings the other two
CORE = [path for path in sorted(ROOT.rglob("*.py")) if "lab" not in path.relative_to(ROOT).parts and path.name != ENTRY]


def imported_modules(path):
    """Full names of what a file imports, wherever in the file; relative imports are resolved against its package."""
    package = ("fgdlab", *path.relative_to(ROOT).parent.parts)
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(
                (*package[: len(package) - node.level + 1], *filter(None, [node.module]))
            ) if node.level else node.module
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_method_imports_torch_the_standard_library_and_itself(path):
    names = imported_modules(path)
    assert {name.split(".")[0] for name in names} <= {
        "torch", "fgdlab", *sys.stdlib_module_names,
        *({"numba", "llvmlite", "numpy"} if path in LOOPS else ()),
    }
    assert not [name for name in names if name == "fgdlab.lab" or name.startswith("fgdlab.lab.")]


def test_the_reader_of_imports_sees_every_form(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "methods").mkdir()
    file = tmp_path / "methods" / "one.py"
    file.write_text("import numpy.linalg as la\nfrom ..lab import errors\ndef late():\n    from .. import lab\n")
    assert imported_modules(file) >= {"numpy.linalg", "fgdlab.lab", "fgdlab.lab.errors"}


def test_the_core_has_files():
    assert {
        "masks.py", "attention.py", "focal.py", "relation.py", "fgd.py", "scene.py", "terms.py", "distill.py",
    } <= {path.name for path in CORE}


def in_a_fresh_python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_import_fgdlab_does_not_import_torch():
    assert in_a_fresh_python("import fgdlab, sys; print('torch' in sys.modules)") == "False"


def test_the_loss_does_not_import_numba_before_the_fused_form_is_asked_for():
    assert in_a_fresh_python("from fgdlab import FGDLoss; import sys; print('numba' in sys.modules)") == "False"


def test_every_name_at_the_door_loads():
    assert all(getattr(fgdlab, name) is not None for name in fgdlab.__all__) and "FGDLoss" in dir(fgdlab)


def test_attention_is_the_function_also_after_other_names_were_loaded():
    assert in_a_fresh_python("from fgdlab import FGDLoss, attention; print(callable(attention))") == "True"


def test_an_unknown_name_at_the_door_is_refused_with_the_known_ones():
    with pytest.raises(AttributeError, match="no 'FGDLos'; it has .*FGDLoss"):
        _ = fgdlab.FGDLos


# --- layers -----------------------------------------------------------------------------------------------------------

# From the lowest to the highest. A room imports rooms before it and never one after it, also inside functions.
LAYERS = (
    "__init__", "config", "terms", "masks", "attention", "relation", "scene", "pyramid", "focal", "fgd", "balance",
    "distill", "methods",
    "fused/cpu", "fused/cuda", "fused/dispatch", "fused/loss",
    "lab/errors", "lab/io", "lab/config", "lab/provenance", "lab/datasets", "lab/detectors", "lab/checkpoints",
    "lab/training", "lab/teachers",
    "lab/run", "lab/sweeps", "lab/stats", "lab/plots", "lab/tables", "lab/reports", "lab/explorer", "lab/course",
    "lab/commands", "__main__",
)


def room(module: str) -> str:
    """The file or folder of fgdlab that a module belongs to, with fused/ and lab/ opened."""
    parts = module.split(".")[1:]
    return "/".join(parts[:2] if parts and parts[0] in ("lab", "fused") else parts[:1]) or "__init__"


def edges() -> set[tuple[str, str]]:
    """(importing room, imported room), of every import in the package; lazy doors are followed to the module that they
    name.

    The imports of fgdlab/__init__.py are for type checkers; its names load on first use.
    """
    found = {(room(name), room(other)) for name in code.all_modules() for other in code.imports(name)}
    return {
        (one, other) for one, other in found if one not in (other, "__init__") and not {one, other} & {"lab", "fused"}
    }


def test_no_room_imports_a_higher_one():
    assert [f"{one} imports {other}" for one, other in sorted(edges()) if LAYERS.index(one) < LAYERS.index(other)] == []


def test_the_layers_name_every_room_and_there_are_at_most_36():
    rooms = {
        room(name)
        for name, path in code.all_modules().items()
        if code.normalised(path.read_text()) != code.normalised("")
    }
    assert rooms == set(LAYERS) and len(LAYERS) <= 36


def test_the_order_would_be_broken_by_an_import_upwards_and_by_one_inside_a_function(tmp_path, monkeypatch):
    (tmp_path / "fgdlab/lab/stats").mkdir(parents=True)
    (tmp_path / "fgdlab/lab/tables").mkdir()
    (tmp_path / "fgdlab/lab/stats/one.py").write_text("def late():\n    from ..tables import two\n")
    (tmp_path / "fgdlab/lab/tables/two.py").write_text("from ..stats import one\n")
    monkeypatch.setattr(code, "ROOT", tmp_path)
    for function in (code.all_modules, code.imports, code.public_names):
        function.cache_clear()
    try:
        assert edges() == {("lab/stats", "lab/tables"), ("lab/tables", "lab/stats")}
    finally:
        monkeypatch.undo()
        for function in (code.all_modules, code.imports, code.public_names):
            function.cache_clear()


def test_packages_of_the_bench_are_imported_through_their_doors():
    """`from ..datasets import open_split`, not `from ..datasets.dataset import open_split`: the modules of a package
    are its own affair."""
    through = []
    for name, path in code.all_modules().items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.ImportFrom) and node.level == 2 and node.module and "." in node.module
                and name.startswith("fgdlab.lab.")
            ):
                through.append(f"{name}: from ..{node.module}")
    assert through == []
