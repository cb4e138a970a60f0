"""Every setting of a run as a flag of a command, and flags that several commands share."""
from collections.abc import Collection
from dataclasses import fields
from pathlib import Path

import click

from .. import config as configs
from .. import run
from ..config import RunConfig
from ..errors import UserError
from ..io import user_path
from ..training import torchrun


class UserPath(click.Path):
    """~ is the user's home, also in --out=~/runs, which a shell leaves as it is."""

    def convert(self, value, param, ctx):
        return super().convert(user_path(value), param, ctx)


PATH = UserPath(path_type=Path)


def option(*names_and_help: str, **settings):
    *names, help = names_and_help
    return click.option(*names, help=help, **settings)


scale_flag = option("--scale", "smoke, laptop, photos, gpu or paper", default="laptop")


def results_flag(name: str):
    default = "runs/NAME or runs/NAME-SCALE, then ablations/results"
    return option(name, f"folder of the runs  [default: {default}]", type=PATH)


def numbers(least: int):
    def parse(ctx: click.Context, param, value: str | None) -> list[int] | None:
        words = [] if value is None else value.split(",")
        if not all(word.strip().isdecimal() and int(word) >= least for word in words):
            raise click.BadParameter(f"must be whole numbers from {least} up with commas between, got {value!r}")
        return list(map(int, words)) if words else None

    return parse


seeds_flag = option(
    "--seeds", "the seeds that count  [default: those of the runs]", callback=numbers(0), metavar="0,1,2")


def settings_flags(command):
    for each in reversed(fields(RunConfig)):
        flag, kind = "--" + each.name.strip("_").replace("_", "-"), type(each.default)
        words, open_ended = each.metadata["choices"], each.metadata["or_with"]
        help = f"{each.metadata['help']}  [default: {each.default!r}]"
        help += f"  ({', '.join(words)})" if open_ended else ""
        flag, kind = (f"{flag}/--no-{flag[2:]}", None) if kind is bool else (flag, kind)
        kind = click.Choice(words) if words and not open_ended else kind
        command = option(flag, each.name, help, type=kind, default=None)(command)
    return command


def preset_flags(command):
    def show(ctx: click.Context, param, value: bool) -> None:
        if value:
            click.echo(configs.listed())
            ctx.exit()

    for flag in (
        option("--list-presets", "list the paper's pairs of teacher and student with their settings", is_flag=True,
               is_eager=True, expose_value=False, callback=show),
        option("--coco", "a COCO folder: --data DIR with all its images, at their size", metavar="DIR"),
        option("--preset", "the settings of a pair of the paper; other flags change single settings; needs --coco",
               metavar="NAME"),
    ):
        command = flag(command)
    return command


def config_of(preset: str | None, coco: str | None, settings: dict) -> RunConfig:
    """The configuration that --preset, --coco and single flags give together; single flags come last."""
    settings = given(settings)
    if coco and "data" in settings:
        raise UserError(f"--coco and --data both name a folder, got {coco} and {settings['data']}; give one of them")
    if coco:
        settings = {"data": coco, "image_size": 0, "train_images": 0, "eval_images": 0} | settings
    if preset is None:
        return noted(scaled(settings), settings)
    preset_settings = configs.preset(preset).settings()
    if "data" not in settings:
        raise UserError(
            "--preset must go with --coco DIR, got no folder; "
            "give the one with annotations/instances_train2017.json, train2017/ and so on"
        )
    return noted(RunConfig.of({**preset_settings, **settings}), settings)


def noted(config: RunConfig, given: Collection[str]) -> RunConfig:
    """The same configuration; a line names the flags that the run does not use."""
    unused = {*given} & {*configs.unused_settings(configs.distils(config), config.method, configs.has_teacher(config))}
    if (unused := unused - {"method"}) and torchrun.rank() == 0:
        click.echo(f"note: with method {config.method}, nothing uses {', '.join(sorted(unused))}")
    return config


def given(settings: dict) -> dict:
    return {name: value for name, value in settings.items() if value is not None}


def scaled(settings: dict) -> RunConfig:
    config = RunConfig.of({**configs.scale_settings(settings.get("scale", "laptop")), **settings})
    return fitted(config, settings) if config.scale == "photos" else config


def fitted(config: RunConfig, given: Collection[str]) -> RunConfig:
    chosen, lines = run.fit_to_data(config, given)
    if torchrun.rank() == 0:
        click.echo("\n".join(lines))
    return config.but(**chosen)
