"""Jobs of tests that run a module of their own in place of a notebook.

The project refuses such a job; here it is told to take it, in every process.
"""
from pathlib import Path

HOOK = """
import sys
from importlib.machinery import PathFinder


class Allow:
    def find_spec(self, name, path=None, target=None):
        if name != "fgdlab.lab.sweeps.worker":
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            module.MODULES += ("stand_in",)

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Allow())
"""


def write_stand_in(folder: Path, code: str) -> None:
    """Make ``stand_in`` a module that jobs may name, for every process with ``folder`` on its PYTHONPATH."""
    (folder / "stand_in.py").write_text(code)
    (folder / "sitecustomize.py").write_text(HOOK)
