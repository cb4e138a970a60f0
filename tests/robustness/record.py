"""Runs a check and records its figures for ROBUST.md: ``python -m tests.robustness.record NAME COMMAND...``

    COMMAND --run--> output, also shown --figures--> tests/robustness/robust.json
    {NAME: command, date, machine, minutes, lines} --bad_inputs/page.py--> tests/robustness/ROBUST.md

A failed command records nothing. With ``--log FILE`` before the name the command is not run: the file holds the output
of a successful run on this machine.
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

RECORDS = Path(__file__).with_name("robust.json")
FIGURE_LINES = {  # the lines of a check's output that are its figures
    "inputs": r"\d+ passed", "properties": r"\d+ passed", "settings": r"\d+ passed", "masks": r"^\s*\d+  ",
    "kills": r"^\s*\d+  |kills in|moments by", "runs": r"grown|runs$",
}
LAST = ("inputs", "properties", "settings")  # of these the last such line alone, pytest's summary


def figures(name: str, output: str) -> list[str]:
    """The lines that count, spaces within them made single."""
    found = [" ".join(line.split()).strip("= ") for line in output.splitlines() if re.search(FIGURE_LINES[name], line)]
    return found[-1:] if name in LAST else found


def machine() -> str:
    from fgdlab.lab.provenance.environment import provenance

    here = provenance("cpu")
    return (
        f"{here['device']}, {here['cores']} cores, {platform.system()}; Python {platform.python_version()}, torch "
        f"{version('torch')}"
    )


def record(name: str, command: str, output: str, minutes: float | None) -> list[str]:
    """Keep the figures of a check under its name."""
    lines = figures(name, output)
    if not lines:
        raise SystemExit(f"{command} must print what the page shows ({FIGURE_LINES[name]!r}), got no such line")
    records = json.loads(RECORDS.read_text(encoding="utf-8")) if RECORDS.exists() else {}
    records[name] = {
        "command": command, "date": date.today().isoformat(), "machine": machine(),
        "minutes": minutes and round(minutes, 1), "lines": lines,
    }
    RECORDS.write_text(
        json.dumps(
            {each: records[each] for each in FIGURE_LINES if each in records}, indent=1, ensure_ascii=False,
        ) + "\n",
        encoding="utf-8",
    )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=FIGURE_LINES)
    parser.add_argument("--log", type=Path, help="output of a run that ended well")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    shown = shlex.join(["python", *arguments.command])
    if arguments.log:
        record(arguments.name, shown, arguments.log.read_text(encoding="utf-8"), None)
        return
    started, output_lines = time.monotonic(), []
    with subprocess.Popen([sys.executable, *arguments.command], stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            output_lines.append(line)
    if process.returncode:
        sys.exit(process.returncode)
    record(arguments.name, shown, "".join(output_lines), (time.monotonic() - started) / 60)


if __name__ == "__main__":
    main()
