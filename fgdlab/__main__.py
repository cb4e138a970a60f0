"""``python -m fgdlab`` is the command ``fgdlab``."""
import sys


def main() -> None:
    """Run the command line; without the packages of the bench, say how to install them."""
    try:
        from .lab.commands import main as command

        command(prog_name="fgdlab")
    except ModuleNotFoundError as error:
        if (error.name or "fgdlab").startswith("fgdlab"):
            raise
        sys.exit(f"Error: the command fgdlab must have the extra lab, got no {error.name}; pip install 'fgdlab[lab]'")


if __name__ == "__main__":
    main()
