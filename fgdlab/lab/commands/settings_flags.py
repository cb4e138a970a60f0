"""Every setting of a run as a flag of a command."""
from dataclasses import fields

import click

from ..config import RunConfig
from ..errors import UserError


def settings_flags(command):
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


def paper(command):
    """--preset, --coco and --list-presets, for commands that take settings."""
    def show(ctx: click.Context, param, value: bool) -> None:
        if value:
            from ..config import listed

            click.echo(listed())
            ctx.exit()

    for option in (
        click.option(
            "--list-presets", is_flag=True, is_eager=True, expose_value=False, callback=show, help="the paper's pairs of teacher and student, with their settings",
        ),
        click.option("--coco", type=click.Path(), default=None, metavar="DIR", help="a COCO folder: --data DIR with all its images, at their size"),
        click.option("--preset", default=None, metavar="NAME", help="the settings of a pair of the paper; flags change single ones; needs --coco"),
    ):
        command = option(command)
    return command


def of_paper(preset: str | None, coco: str | None, settings: dict) -> RunConfig:
    """The settings that --preset, --coco and single flags mean together; what a flag says comes last."""
    settings = ({"data": coco, "image_size": 0, "train_images": 0, "eval_images": 0} if coco else {}) | given(settings)
    if preset is None:
        return scaled(settings)
    from ..config import preset as paper_pair

    found = paper_pair(preset).settings()
    if "data" not in settings:
        raise UserError(
            "--preset must go with --coco DIR, got no folder; give the one with annotations/instances_train2017.json, train2017/ and so on",
        )
    return RunConfig.of({**found, **settings})


def given(settings: dict) -> dict:
    return {name: value for name, value in settings.items() if value is not None}


def scaled(settings: dict) -> RunConfig:
    from ..config import scale_settings

    return RunConfig.of({**scale_settings(settings.get("scale", "laptop")), **settings})
