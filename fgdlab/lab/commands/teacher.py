"""``fgdlab teacher``: find or train the teacher, and measure it."""
import json
import os
from pathlib import Path

import click

from ..errors import UserError
from .settings_flags import PATH, given, scaled, settings_flags


@click.command()
@click.option("--weights", type=PATH, default=None, help="copy the teacher's weights to this .safetensors file")
@settings_flags
def teacher(weights: Path | None, **settings) -> None:
    """Find or train the teacher of a run, and measure its AP.

    The settings are those of the run.
    """
    import shutil

    import torch

    from ..checkpoints import read_facts
    from ..io import atomic_write, make_folder
    from ..run import device_of, open_data
    from ..teachers import ap_text, get_teacher

    config = scaled(given(settings))
    if weights is not None:
        make_folder(weights.parent)  # before a teacher is trained, so that a wrong path is found at once
    torch.set_num_threads(os.cpu_count() or 1)
    trained = get_teacher(config, *open_data(config), device=device_of(config))
    click.echo(f"{config.teacher} ({trained.origin}): {ap_text(trained.AP)} on {config.eval_split}\n{trained.path}")
    safetensors = trained.path.suffix == ".safetensors"
    if safetensors:
        click.echo(json.dumps({name: value for name, value in read_facts(trained.path).items() if name != "settings"}))
    if weights is not None:
        if not safetensors:
            raise UserError(
                f"--weights copies .safetensors files, got a teacher in {trained.path.name}; "
                "convert it with `fgdlab import`, or use it where it is"
            )
        with atomic_write(weights) as unfinished:
            shutil.copyfile(trained.path, unfinished)
        click.echo(f"copied to {weights}")
