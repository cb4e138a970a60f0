"""``fgdlab sweep``: reads the command line, chooses the slots, prints; the work is done in sweep.py."""
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from ..errors import UserError


def parsed(pairs: tuple[str, ...]) -> dict:
    """--set key=value pairs; values are read as YAML, so 3, 1e-3, true and words come out as what they are."""
    from ..io import load_yaml

    settings = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise UserError(f"--set must be key=value, got {pair!r}; for example --set epochs=2")
        if name in ("seed", "scale"):
            raise UserError(f"--set must name a setting that the sweep leaves open, got {pair!r}; use --{'seeds' if name == 'seed' else 'scale'}")
        try:
            settings[name] = load_yaml(value) if value else ""
        except UserError:
            settings[name] = value
    return settings


def numbers(ctx, param, value: str | None) -> list[int] | None:
    if value is None:
        return None
    try:
        return [int(each) for each in value.split(",")]
    except ValueError:
        raise click.BadParameter(f"must be whole numbers with commas between, such as 0,1,2; got {value!r}") from None


@click.command()
@click.argument("name")
@click.option("--scale", default="laptop", show_default=True, help="smoke, laptop, gpu or paper; the YAML says what each costs")
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="a setting for every row; may be repeated (`fgdlab run --help` lists them)")
@click.option("--seeds", callback=numbers, default=None, metavar="0,1,2", help="instead of the YAML's")
@click.option("--out", type=click.Path(path_type=Path), default=None, help="folder of the runs  [default: runs/NAME, at another scale runs/NAME-SCALE]")
@click.option("--jobs", type=click.IntRange(1), default=None, help="runs side by side  [default: the cores of this machine; 1 on a GPU]")
@click.option("--gpus", callback=numbers, default=None, metavar="0,1", help="cards of this machine, one run on each at a time; 0,0,1,1 for two on each")
@click.option("--cluster", default=None, metavar="tcp://HOST:PORT", help="run on the workers of this Dask scheduler (extra dask)")
@click.option("--slurm", is_flag=True, help="run as a job array of Slurm (extra slurm); --jobs bounds how many at a time")
@click.option("--slurm-partition", default="", help="Slurm's partition  [default: the site's]")
@click.option("--slurm-minutes", type=click.IntRange(1), default=1440, show_default=True, help="Slurm's time limit of a run; the next call goes on where it struck")
@click.option("--slurm-gpus", type=click.IntRange(0), default=None, help="cards of a run under Slurm  [default: 1 where runs want a GPU]")
@click.option("--retry-failed", is_flag=True, help="run again what failed before")
@click.option("--fail-fast", is_flag=True, help="start no more runs after the first failure")
@click.option("--dry-run", is_flag=True, help="list the runs, their states and what is left of time, run nothing")
def sweep(name, scale, pairs, seeds, out, retry_failed, fail_fast, dry_run, **where) -> None:
    """Run every row and seed of a sweep in ablations/sweeps, then print its table.

    What is done is not done again; what was interrupted or killed goes on from its checkpoint. Exit status 1 when a run is missing at the end.
    """
    from ..sweeps import collect, execute, load_sweep, plan, runs_folder, write_results
    from ..sweeps import dry_run as forecast
    from .table import show_table

    described = load_sweep(name).at(scale, seeds)
    folder = out or runs_folder(described, scale)
    runs = plan(described, folder, scale=scale, overrides=parsed(pairs))
    if not runs:
        raise UserError(f"{name} must have rows that scale {scale} can run, got none: {'; '.join(described.absent.values())}; choose another scale")
    if scale == "paper" and any(run.config.data == "digits" for run in runs):
        raise UserError("scale paper must be told where COCO lies, got no folder; add --set data=FOLDER")
    if dry_run:
        click.echo("\n".join(forecast(runs, described, scale, slots(runs, **where), retry_failed)))
        return
    note = (described.scales.get(scale) or {}).get("note", "")
    with place(runs, folder, **where) as (executor, jobs, elsewhere):
        click.echo(f"{described.title}: {len(runs)} runs in {folder}" + (f" ({note})" if note else ""))
        states = execute(runs, jobs=jobs, executor=executor, elsewhere=elsewhere, retry_failed=retry_failed, fail_fast=fail_fast, say=click.echo)
    frame = collect(runs, described)
    path = write_results(frame, folder / "results.csv")
    if states["done"]:
        click.echo()
        show_table(described, frame, "text", folder / f"{described.name}.png")
        click.echo(f"\nruns: {folder}   numbers: {path}   figure: {folder / (described.name + '.png')}")
    report_missing(states)


def slots(runs: list, jobs: int | None, gpus: list[int] | None, cluster: str | None, slurm: bool, **_) -> int | None:
    """Runs at a time as far as the command line says; None where a cluster decides."""
    from ..sweeps import cpu_slots

    return len(gpus) if gpus else jobs or (None if cluster or slurm else cpu_slots(runs))


@contextmanager
def place(runs: list, folder: Path, jobs, gpus, cluster, slurm, slurm_partition, slurm_minutes, slurm_gpus) -> Iterator[tuple]:
    """(executor, runs at a time, whether runs see another machine or card than this process) as :func:`fgdlab.lab.sweeps.execution.execute` takes them."""
    from ..sweeps import LocalExecutor, cpu_slots, gpu_slots

    chosen = [flag for flag, value in (("--gpus", gpus is not None), ("--cluster", cluster), ("--slurm", slurm)) if value]
    if len(chosen) > 1 or (gpus is not None and jobs):
        raise UserError(f"runs must go to one place, got {' and '.join([*chosen, *(['--jobs'] if jobs and len(chosen) == 1 else [])])}; choose one of them")
    if not slurm and (slurm_partition or slurm_gpus is not None):
        raise UserError("--slurm-partition and --slurm-gpus must go with --slurm, got them alone; add --slurm")
    wants_gpu = any(run.config.device == "cuda" for run in runs)
    if gpus is not None:
        with LocalExecutor(gpu_slots(gpus, runs)) as pool:
            yield pool, len(gpus), True
    elif cluster:
        from ..sweeps import DaskExecutor

        with DaskExecutor(cluster, wants_gpu) as pool:
            yield pool, lambda: min(pool.room(), jobs or pool.room()), True
    elif slurm:
        from ..sweeps import SlurmExecutor

        cards, cores = int(wants_gpu) if slurm_gpus is None else slurm_gpus, max(run.config.threads + run.config.workers for run in runs)
        with SlurmExecutor(folder / "slurm", partition=slurm_partition, minutes=slurm_minutes, gpus=cards, cpus=cores, at_once=jobs or 0) as pool:
            yield pool, len(runs), True
    else:
        yield None, jobs or cpu_slots(runs), False


def report_missing(states: dict) -> None:
    """Exit with 1 and a list when a run failed or was interrupted."""
    from ..sweeps import outcome

    missing = [(state, run) for state in ("failed", "interrupted", "running", "pending") for run in states[state]]
    if not missing:
        return
    click.echo(f"\n{len(missing)} runs are missing:", err=True)
    for state, run in missing:
        click.echo(f"{state:>11}  {run.row}, seed {run.seed}{outcome(run.folder, state) if state == 'failed' else ''}", err=True)
    again = " with --retry-failed" if states["failed"] else ""
    click.echo(f"the same command{again} runs them and nothing else", err=True)
    sys.exit(1)
