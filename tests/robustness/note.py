"""Run a check and note what it said, for the page: ``python -m tests.robustness.note NAME COMMAND...``

    COMMAND --runs, its output shown--> tests/robust.json {NAME: command, date, machine, minutes, lines} --bad_inputs/page.py--> tests/robustness/ROBUST.md

Nothing is noted of a command that fails. With ``--log FILE`` before the name the command is not run: the file holds the output of a run
that ended well on this machine.
"""
import argparse
import json
import platform
import re
import shlex
import subprocess
import sys
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

NOTES = Path(__file__).with_name("robust.json")
SAYS = {  # of the lines that a check prints, those that are its figures
    "inputs": r"\d+ passed", "properties": r"\d+ passed", "knobs": r"\d+ passed", "masks": r"^\s*\d+  ",
    "kills": r"^\s*\d+  |kills in|moments by", "runs": r"grown|runs$",
}
LAST = ("inputs", "properties", "knobs")  # of these the last such line alone, pytest's summary


def figures(name: str, output: str) -> list[str]:
    """The lines that count, spaces within them made single."""
    found = [" ".join(line.split()).strip("= ") for line in output.splitlines() if re.search(SAYS[name], line)]
    return found[-1:] if name in LAST else found


def machine() -> str:
    from fgdlab.lab.provenance.environment import provenance

    here = provenance("cpu")
    return (
        f"{here['device']}, {here['cores']} cores, {platform.system()}; Python {platform.python_version()}, torch "
        f"{version('torch')}"
    )


def note(name: str, command: str, output: str, minutes: float | None) -> list[str]:
    """Keep the figures of a check under its name."""
    lines = figures(name, output)
    if not lines:
        raise SystemExit(f"{command} must print what the page shows ({SAYS[name]!r}), got no such line")
    notes = json.loads(NOTES.read_text(encoding="utf-8")) if NOTES.exists() else {}
    notes[name] = {
        "command": command, "date": date.today().isoformat(), "machine": machine(),
        "minutes": minutes and round(minutes, 1), "lines": lines,
    }
    NOTES.write_text(
        json.dumps({each: notes[each] for each in SAYS if each in notes}, indent=1, ensure_ascii=False) + "\n",
        encoding="utf-8",
    )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=SAYS)
    parser.add_argument("--log", type=Path, help="output of a run that ended well")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    shown = shlex.join(["python", *given.command])
    if given.log:
        note(given.name, shown, given.log.read_text(encoding="utf-8"), None)
        return
    started, said = time.monotonic(), []
    with subprocess.Popen([sys.executable, *given.command], stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            said.append(line)
    if process.returncode:
        sys.exit(process.returncode)
    note(given.name, shown, "".join(said), (time.monotonic() - started) / 60)


if __name__ == "__main__":
    main()
