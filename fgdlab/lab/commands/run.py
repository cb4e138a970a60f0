"""``fgdlab run``: train and evaluate one student."""
from pathlib import Path

import click

from ..training import torchrun
from .settings_flags import PATH, config_of, preset_flags, settings_flags


@click.command()
@click.option("--out", type=PATH, default=None, help="folder of the run  [default: runs/one-HASH]")
@preset_flags
@settings_flags
def run(out: Path | None, preset: str | None, coco: str | None, **settings) -> None:
    """Train and evaluate one student.

    Every setting is a flag; --preset sets all of them as in the paper. An interrupted run continues from its last
    checkpoint with the same command. A finished run prints its scores again.

    \b
    On several GPUs or machines the processes share every batch, and rank 0 writes:
      torchrun --nproc-per-node 8 -m fgdlab run ...
    """
    from ..io import short_hash
    from ..run import run as run_one

    config = config_of(preset, coco, settings)
    folder = out or Path("runs") / f"one-{short_hash(config.identity())}"
    result = run_one(config, folder)
    if torchrun.rank() > 0:
        return
    scores = []
    for name in ("AP", "AP50", "AR", "mask_AP"):
        if name in result:
            scores.append(f"{name} " + ("n/a (no ground truth)" if result[name] is None else f"{result[name]:.1f}"))
    click.echo(f"{'  '.join(scores)}   ({result['data_line']})")
    if result["teacher_AP"] is not None:
        click.echo(f"teacher AP {result['teacher_AP']:.1f} ({result['teacher']['origin']})")
    click.echo(f"folder of the run: {folder}")
