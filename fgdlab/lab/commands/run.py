"""``fgdlab run``: one student from settings to scores."""
from pathlib import Path

import click

from ..training import torchrun
from .settings_flags import of_paper, paper, settings_flags


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=None, help="folder of the run  [default: runs/one-HASH]")
@paper
@settings_flags
def run(out: Path | None, preset: str | None, coco: str | None, **settings) -> None:
    """Train and judge one student; every setting is a flag, and --preset sets all of them as the paper did.

    Interrupted, the same command goes on from the last checkpoint. Done, it prints the scores again.

    \b
    On several cards or machines the processes share every batch, and one of them writes:
      torchrun --nproc-per-node 8 -m fgdlab run ...
    """
    from ..io import short_hash
    from ..run import run as run_one

    config = of_paper(preset, coco, settings)
    folder = out or Path("runs") / f"one-{short_hash(config.identity())}"
    result = run_one(config, folder)
    if torchrun.rank() > 0:
        return
    scores = "  ".join(f"{name} " + ("none, for nothing of it is there to find" if result[name] is None else f"{result[name]:.1f}") for name in ("AP", "AP50", "AR", "mask_AP") if name in result)
    click.echo(f"{scores}   ({result['data_line']})")
    if result["teacher_AP"] is not None:
        click.echo(f"teacher AP {result['teacher_AP']:.1f} ({result['teacher']['origin']})")
    click.echo(f"everything about it: {folder}")
