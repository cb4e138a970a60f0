"""Two rings: the method imports torch and itself; the bench may import anything, and the method never imports the
bench."""
import ast
import subprocess
import sys
from pathlib import Path

import pytest

import fgdlab

ROOT = Path(fgdlab.__file__).parent
ENTRY = "__main__.py"  # `python -m fgdlab` is the bench's command line: the one door between the rings
# read on a card only; torch's CUDA builds bring Triton
KERNELS = [ROOT / "fused/cuda" / name for name in ("launch.py", "kernels.py", "masks.py")]
# read where the fused loss runs on the CPU; numba brings the other two
LOOPS = [ROOT / "fused/cpu" / name for name in ("loops.py", "masks.py")]
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
        *({"triton"} if path in KERNELS else {"numba", "llvmlite", "numpy"} if path in LOOPS else ()),
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
