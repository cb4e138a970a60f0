"""``fgdlab doctor``: checks of this machine and of a run's settings."""
import sys

import click

from .settings_flags import config_of, given, preset_flags, settings_flags

WORDS = {True: ("ok   ", "green"), None: ("look ", "yellow"), False: ("WRONG", "red")}


@click.command()
@preset_flags
@settings_flags
def doctor(preset, coco, **settings) -> None:
    """Check this machine and a run's settings before training.

    With settings, as for run, their data, teacher and first batch are checked too. Green lines are fine, yellow lines
    are worth a look, red lines would stop a run; each says what to do. Exit status 1 if a line is red. Nothing is
    trained. If the settings name no method, fgd is checked.
    """
    from .validate_config import check_machine, validate_config

    wrong = show(check_machine())
    if given(settings) or preset or coco:
        method = settings["method"] or (None if preset else "fgd")
        wrong += show(validate_config(config_of(preset, coco, {**settings, "method": method})))
    if wrong:
        click.echo(f"{wrong} must be corrected before a run")
        sys.exit(1)
    click.echo("ready")


def show(results) -> int:
    wrong = 0
    for result in results:
        word, colour = WORDS[result.passed]
        click.echo(f"{click.style(word, fg=colour)}  {result}")
        wrong += result.passed is False
    return wrong
