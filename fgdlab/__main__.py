"""``python -m fgdlab`` is the command ``fgdlab``."""
from .lab.commands import main

main(prog_name="fgdlab")
