"""The method passes mypy in its strict form, and its users' types are checked, too."""
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fgdlab

ROOT = Path(fgdlab.__file__).parents[1]


def mypy(*arguments) -> str:
    options = ("--no-error-summary", "--hide-error-context", "--config-file", ROOT / "pyproject.toml")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, *arguments], capture_output=True, text=True, cwd=ROOT)
    return done.stdout + done.stderr


@pytest.mark.slow
def test_mypy_finds_no_error_in_the_method():
    assert mypy() == ""


@pytest.mark.slow
def test_a_users_wrong_types_are_found(tmp_path):
    user = tmp_path / "user.py"
    user.write_text(
        "from torch import nn\nfrom fgdlab import Distiller, FGDLoss, Term\n"
        "terms: list[Term] = Distiller(nn.Identity())([], [])\n"
        "FGDLoss(('P3',), {'P3': 8}, 8)\n"
        "number: int = Distiller(nn.Identity())([], [])\n"
        "FGDLoss(('P3',), '8', 8)\n"
        "of_loss: list[Term] = FGDLoss(('P3',), 8, 8)({}, {})\n"
        "text: str = FGDLoss(('P3',), 8, 8)({}, {})\n"
    )
    found = mypy(user)
    assert re.findall(r"user.py:(\d): error", found) == ["5", "6", "8"] and found.count("error:") == 3
