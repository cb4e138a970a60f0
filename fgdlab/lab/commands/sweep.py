"""``fgdlab sweep``: run a sweep on this machine or elsewhere, then print its table."""
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from ..errors import UserError
from .settings_flags import PATH, fitted, numbers


def parse_pairs(pairs: tuple[str, ...]) -> dict:
    """Settings of the --set key=value pairs. Values are read as YAML: 3, 1e-3, true and words get their types."""
    from ..io import load_yaml

    settings = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise UserError(f"--set must be key=value, got {pair!r}; for example --set epochs=2")
        if name in ("seed", "scale"):
            flag = "seeds" if name == "seed" else "scale"
            raise UserError(f"--set must name a setting that the sweep leaves open, got {pair!r}; use --{flag}")
        try:
            settings[name] = load_yaml(value) if value else ""
        except UserError:
            settings[name] = value
    return settings


@click.command()
@click.argument("name")
@click.option("--scale", default=None,
              help="smoke, laptop, photos, gpu or paper; the YAML says what each costs  [default: laptop; photos with "
                   "--set data=DIR, where the sweep has it]")
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE",
              help="a setting for every row; may be repeated (`fgdlab run --help` lists them)")
@click.option("--seeds", callback=numbers, default=None, metavar="0,1,2", help="seeds instead of the YAML's")
@click.option("--out", type=PATH, default=None,
              help="folder of the runs  [default: runs/NAME, at another scale runs/NAME-SCALE]")
@click.option("--jobs", type=click.IntRange(1), default=None,
              help="number of runs at a time  [default: the cores of this machine; 1 on a GPU]")
@click.option("--gpus", callback=numbers, default=None, metavar="0,1",
              help="GPUs of this machine, one run on each at a time; 0,0,1,1 for two on each")
@click.option("--cluster", default=None, metavar="tcp://HOST:PORT",
              help="run on the workers of this Dask scheduler (extra dask)")
@click.option("--slurm", is_flag=True, help="run as a Slurm job array (extra slurm); --jobs bounds how many at a time")
@click.option("--slurm-partition", default="", help="Slurm's partition  [default: the site's]")
@click.option("--slurm-minutes", type=click.IntRange(1), default=1440, show_default=True,
              help="Slurm's time limit per run; the next call continues a run that reached it")
@click.option("--slurm-gpus", type=click.IntRange(0), default=None,
              help="GPUs per run under Slurm  [default: 1 if runs need a GPU]")
@click.option("--retry-failed", is_flag=True, help="run failed runs again")
@click.option("--keep-stale", is_flag=True, help="keep runs of older code as they are; the table says so")
@click.option("--fail-fast", is_flag=True, help="start no more runs after the first failure")
@click.option("--dry-run", is_flag=True, help="list the runs, their states and the time left; run nothing")
def sweep(name, scale, pairs, seeds, out, retry_failed, keep_stale, fail_fast, dry_run, **where) -> None:
    """Run every row and seed of a sweep, then print its table.

    NAME is a sweep of ablations/sweeps. Finished runs are not repeated; an interrupted or killed run continues from its
    checkpoint. A run of older code is stale: it is moved to .stale/ and run again. Exit status 1 if a run is missing.
    In a notebook, ``from fgdlab.lab.reports import watch; watch("NAME")`` follows the runs.
    """
    from ..sweeps import collect, execute, load_sweep, plan, runs_folder, write_results
    from ..sweeps import dry_run as list_runs
    from .table import show_table

    sweep, overrides = load_sweep(name), parse_pairs(pairs)
    own = overrides.get("data", "digits") != "digits" and "data" not in sweep.base and "photos" in sweep.scales
    scale = scale or ("photos" if own else "laptop")
    sweep = sweep.at(scale, seeds)
    folder = out or runs_folder(sweep, scale)
    if scale == "photos":
        config = sweep.settings(sweep.baseline, 0, scale, overrides)
        chosen = fitted(config, {*overrides, *sweep.base}).dict()
        overrides |= {key: value for key, value in chosen.items() if value != getattr(config, key)}
    runs = plan(sweep, folder, scale=scale, overrides=overrides)
    if not runs:
        reasons = "; ".join(sweep.absent.values())
        raise UserError(f"{name} must have rows for scale {scale}, got none: {reasons}; choose another scale")
    if scale == "paper" and any(run.config.data == "digits" for run in runs):
        raise UserError("scale paper must know where COCO is, got no folder; add --set data=FOLDER")
    if dry_run:
        click.echo("\n".join(list_runs(runs, sweep, scale, slots(runs, **where), retry_failed, keep_stale)))
        return
    note = (sweep.scales.get(scale) or {}).get("note", "")
    with open_executor(runs, folder, **where) as (executor, jobs, elsewhere):
        click.echo(f"{sweep.title}: {len(runs)} runs in {folder}" + (f" ({note})" if note else ""))
        states = execute(
            runs, jobs=jobs, executor=executor, elsewhere=elsewhere, retry_failed=retry_failed,
            keep_stale=keep_stale, fail_fast=fail_fast, say=click.echo,
        )
    frame = collect(runs, sweep, keep_stale)
    path, figure = write_results(frame, folder / "results.csv"), folder / f"{sweep.name}.png"
    if states["done"]:
        click.echo()
        show_table(sweep, frame, "text", figure)
        click.echo(f"\nruns: {folder}   numbers: {path}   figure: {figure}")
    report_missing(states)


def slots(runs: list, jobs: int | None, gpus: list[int] | None, cluster: str | None, slurm: bool, **_) -> int | None:
    """Runs at a time as far as the command line tells; None where a cluster decides."""
    from ..sweeps import cpu_slots

    return len(gpus) if gpus else jobs or (None if cluster or slurm else cpu_slots(runs))


@contextmanager
def open_executor(
    runs: list, folder: Path, jobs, gpus, cluster, slurm, slurm_partition, slurm_minutes, slurm_gpus,
) -> Iterator[tuple]:
    """(executor, runs at a time, whether runs use another machine or GPU than this process), for ``execute``."""
    from ..sweeps import LocalExecutor, cpu_slots, gpu_slots

    flags = {"--gpus": gpus is not None, "--cluster": cluster, "--slurm": slurm}
    chosen = [flag for flag, value in flags.items() if value]
    if chosen == ["--gpus"] and jobs:
        chosen.append("--jobs")  # the GPUs already say how many runs at a time
    if len(chosen) > 1:
        raise UserError(f"runs must go to one place, got {' and '.join(chosen)}; choose one of them")
    if not slurm and (slurm_partition or slurm_gpus is not None):
        raise UserError("--slurm-partition and --slurm-gpus must go with --slurm, got them alone; add --slurm")
    needs_gpu = any(run.config.device == "cuda" for run in runs)
    if gpus is not None:
        with LocalExecutor(gpu_slots(gpus, runs)) as pool:
            yield pool, len(gpus), True
    elif cluster:
        from ..sweeps import DaskExecutor

        with DaskExecutor(cluster, needs_gpu) as pool:
            yield pool, lambda: min(pool.room(), jobs or pool.room()), True
    elif slurm:
        from ..sweeps import SlurmExecutor

        resources = {
            "partition": slurm_partition, "minutes": slurm_minutes,
            "gpus": int(needs_gpu) if slurm_gpus is None else slurm_gpus,
            "cpus": max(run.config.threads + run.config.workers for run in runs),
        }
        with SlurmExecutor(folder / "slurm", **resources, at_once=jobs or 0) as pool:
            yield pool, len(runs), True
    else:
        yield None, jobs or cpu_slots(runs), False


def report_missing(states: dict) -> None:
    """If a run failed or was interrupted, list such runs and exit with status 1."""
    from ..sweeps import outcome_text

    unfinished = ("stale", "failed", "interrupted", "running", "pending")
    missing = [(state, run) for state in unfinished for run in states[state]]
    if not missing:
        return
    click.echo(f"\n{len(missing)} runs are missing:", err=True)
    for state, run in missing:
        reason = outcome_text(run.here, state) if state == "failed" else ""
        click.echo(f"{state:>11}  {run.row}, seed {run.seed}{reason}", err=True)
    flag = " with --retry-failed" if states["failed"] else ""
    click.echo(f"the same command{flag} runs these and nothing else", err=True)
    sys.exit(1)
