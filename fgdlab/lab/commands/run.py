"""``fgdlab run``: one student from settings to scores."""
from pathlib import Path

import click

from ..training import launched
from .knobs import given, knobs, scaled


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=None, help="folder of the run  [default: runs/one-HASH]")
@knobs
def run(out: Path | None, **settings) -> None:
    """Train and judge one student; every setting is a flag.

    Interrupted, the same command goes on from the last checkpoint. Done, it prints the scores again.

    \b
    On several cards or machines the processes share every batch, and one of them writes:
      torchrun --nproc-per-node 8 -m fgdlab run ...
    """
    from ..disk import digest
    from ..run import run as run_one

    config = scaled(given(settings))
    folder = out or Path("runs") / f"one-{digest(config.identity())}"
    result = run_one(config, folder)
    if launched.rank() > 0:
        return
    scores = "  ".join(f"{name} " + ("none, for nothing of it is there to find" if result[name] is None else f"{result[name]:.1f}") for name in ("AP", "AP50", "AR"))
    click.echo(f"{scores}   ({result['data_line']})")
    if result["teacher_AP"] is not None:
        click.echo(f"teacher AP {result['teacher_AP']:.1f} ({result['teacher']['origin']})")
    click.echo(f"everything about it: {folder}")
