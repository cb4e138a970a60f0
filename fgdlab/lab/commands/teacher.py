"""``fgdlab teacher``: found or trained, and measured."""
import json
import os
from pathlib import Path

import click

from ..errors import UserError
from .settings_flags import given, scaled, settings_flags


@click.command()
@click.option("--weights", type=click.Path(path_type=Path), default=None, help="copy the teacher's weights to this .safetensors file")
@settings_flags
def teacher(weights: Path | None, **settings) -> None:
    """Find the teacher that a run with these settings would learn from, train it if there is none, and measure it."""
    import shutil

    import torch

    from ..checkpoints import read_facts
    from ..io import atomic_write, make_folder
    from ..run import device_of, open_data
    from ..teachers import ap_text, get_teacher

    config = scaled(given(settings))
    if weights is not None:
        make_folder(weights.parent)                                  # known before a teacher is trained
    torch.set_num_threads(os.cpu_count() or 1)
    found = get_teacher(config, *open_data(config), device=device_of(config))
    click.echo(f"{config.teacher} ({found.origin}): {ap_text(found.AP)} on {config.eval_split}\n{found.path}")
    ours = found.path.suffix == ".safetensors"
    if ours:
        click.echo(json.dumps({name: value for name, value in read_facts(found.path).items() if name != "settings"}))
    if weights is not None:
        if not ours:
            raise UserError(f"--weights copies .safetensors files, got a teacher in {found.path.name}; bring it in with `fgdlab import`, or give its path as it is")
        with atomic_write(weights) as unfinished:
            shutil.copyfile(found.path, unfinished)
        click.echo(f"copied to {weights}")
