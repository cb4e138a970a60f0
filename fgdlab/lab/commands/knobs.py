"""Every setting of a run as a flag of a command."""
from dataclasses import fields

import click

from ..config import RunConfig


def knobs(command):
    """Every field of RunConfig as a flag of a command, with its words, its default and its values."""
    for each in reversed(fields(RunConfig)):
        flag, kind = "--" + each.name.strip("_").replace("_", "-"), type(each.default)
        settings = {"default": None, "help": f"{each.metadata['help']}  [default: {each.default!r}]"}
        if kind is bool:
            option = click.option(f"{flag}/--no-{flag[2:]}", each.name, **settings)
        else:
            words, open_ended = each.metadata["among"], each.metadata["also"]
            settings["help"] += f"  ({', '.join(words)})" if open_ended else ""
            option = click.option(flag, each.name, type=click.Choice(words) if words and not open_ended else kind, **settings)
        command = option(command)
    return command


def given(settings: dict) -> dict:
    return {name: value for name, value in settings.items() if value is not None}


def scaled(settings: dict) -> RunConfig:
    from ..scales import scale_settings

    return RunConfig.of({**scale_settings(settings.get("scale", "laptop")), **settings})
