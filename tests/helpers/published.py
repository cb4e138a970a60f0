"""The committed results in ablations/results."""

from fgdlab.lab.config import SCALES
from fgdlab.lab.sweeps import ablations_folder


def published() -> list[tuple[str, str]]:
    """(sweep, scale) of all committed results, in the order of their files."""
    names = []
    for path in sorted((ablations_folder() / "results").glob("*.csv")):
        scale = next((scale for scale in SCALES if scale != "laptop" and path.stem.endswith(f"-{scale}")), "laptop")
        names.append((path.stem.removesuffix(f"-{scale}"), scale))
    return names
