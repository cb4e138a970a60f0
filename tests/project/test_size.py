"""The package stays small enough to read."""
from pathlib import Path

import fgdlab

LARGEST = 1_005_000  # characters of Python, what fgdlab/ had before GFL, YOLOX and the adapters came


def test_the_package_holds_at_most_1_005_000_characters_of_python():
    characters = sum(len(path.read_text(encoding="utf-8")) for path in Path(fgdlab.__file__).parent.rglob("*.py"))
    assert characters <= LARGEST, f"{characters - LARGEST} too many: let code go before more comes"
