"""``fgdlab run`` trains and evaluates one student; ``fgdlab teacher`` finds or trains its teacher."""
import json
import os
import shutil
from pathlib import Path

import click

from .. import checkpoints, teachers
from .. import run as runs
from ..errors import UserError
from ..io import atomic_write, make_folder, short_hash
from ..training import torchrun
from .settings_flags import PATH, config_of, given, option, preset_flags, scaled, settings_flags


@click.command()
@option("--out", "folder of the run  [default: runs/one-HASH]", type=PATH)
@preset_flags
@settings_flags
def run(out, preset, coco, **settings) -> None:
    """Train and evaluate one student.

    Every setting is a flag; --preset sets all of them as in the paper. An interrupted run continues from its last
    checkpoint with the same command. A finished run prints its scores again.

    \b
    On several GPUs or machines the processes share every batch, and rank 0 writes:
      torchrun --nproc-per-node 8 -m fgdlab run ...
    """
    config = config_of(preset, coco, settings)
    folder = out or Path("runs") / f"one-{short_hash(config.identity())}"
    result = runs.run(config, folder)
    if torchrun.rank() > 0:
        return
    scores = [
        f"{name} " + ("n/a (no ground truth)" if result[name] is None else f"{result[name]:.1f}")
        for name in ("AP", "AP50", "AR", "mask_AP") if name in result
    ]
    click.echo(f"{'  '.join(scores)}   ({result['data_line']})")
    if result["teacher_AP"] is not None:
        click.echo(f"teacher AP {result['teacher_AP']:.1f} ({result['teacher']['origin']})")
    click.echo(f"folder of the run: {folder}")


@click.command()
@option("--weights", "copy the teacher's weights to this .safetensors file", type=PATH)
@settings_flags
def teacher(weights, **settings) -> None:
    """Find or train the teacher of a run, and measure its AP.

    The settings are those of the run.
    """
    import torch

    config = scaled(given(settings))
    if weights is not None:
        make_folder(weights.parent)  # before a teacher is trained, so that a wrong path is found at once
    torch.set_num_threads(os.cpu_count() or 1)
    trained = teachers.get_teacher(config, *runs.open_data(config), device=runs.device_of(config))
    score = teachers.ap_text(trained.AP)
    click.echo(f"{config.teacher} ({trained.origin}): {score} on {config.eval_split}\n{trained.path}")
    safetensors = trained.path.suffix == ".safetensors"
    if safetensors:
        known = checkpoints.read_facts(trained.path)
        click.echo(json.dumps({name: value for name, value in known.items() if name != "settings"}))
    if weights is not None:
        if not safetensors:
            raise UserError(
                f"--weights copies .safetensors files, got a teacher in {trained.path.name}; "
                "convert it with `fgdlab import`, or use it where it is"
            )
        with atomic_write(weights) as unfinished:
            shutil.copyfile(trained.path, unfinished)
        click.echo(f"copied to {weights}")
