"""``python -m fgdlab`` is the command ``fgdlab``."""
from fgdlab.lab.cli import main

main(prog_name="fgdlab")
