"""``fgdlab doctor``: is this machine ready, and are these settings?"""
import sys

import click

from .settings_flags import given, of_paper, paper, settings_flags

MARKS = {True: ("ok   ", "green"), None: ("look ", "yellow"), False: ("WRONG", "red")}


@click.command()
@paper
@settings_flags
def doctor(preset: str | None, coco: str | None, **settings) -> None:
    """Look before training: the machine; and with settings, as for run, their data, teacher and first batch.

    Green lines are fine, yellow ones worth a look, red ones end a run; each says what to do. Exit status 1 where one is red. Nothing is trained. With
    settings that name no method, fgd is looked at.
    """
    from .env_info import machine_lines

    bad = show(machine_lines())
    if given(settings) or preset or coco:
        from .validate_config import validate_config

        config = of_paper(preset, coco, {**settings, "method": settings["method"] or (None if preset else "fgd")})
        bad += show(validate_config(config))
    if bad:
        click.echo(f"{bad} must be mended before a run")
        sys.exit(1)
    click.echo("ready")


def show(lines) -> int:
    """Print as they come; how many are red."""
    bad = 0
    for line in lines:
        word, colour = MARKS[line.passed]
        click.echo(f"{click.style(word, fg=colour)}  {line}")
        bad += line.passed is False
    return bad
