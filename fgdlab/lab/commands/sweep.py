"""``fgdlab sweep``: run a sweep on this machine or elsewhere, then print its table."""
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from .. import sweeps, training
from ..config import DEFAULTS, active_settings
from ..errors import UserError
from ..io import load_yaml
from .settings_flags import PATH, fitted, numbers, option
from .table import show_table


def parse_pairs(pairs: tuple[str, ...]) -> dict:
    """Settings of the --set key=value pairs. Texts are taken as they are, other values as YAML: 3, 1e-3, true."""
    settings = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise UserError(f"--set must be key=value, got {pair!r}; for example --set epochs=2")
        if name in ("seed", "scale"):
            flag = "seeds" if name == "seed" else "scale"
            raise UserError(f"--set must name a setting that the sweep leaves open, got {pair!r}; use --{flag}")
        try:
            settings[name] = load_yaml(value) if value and not isinstance(DEFAULTS.get(name), str) else value
        except UserError:
            settings[name] = value
    return settings


@click.command()
@click.argument("name")
@option("--scale",
        "smoke, laptop, photos, gpu or paper; the YAML says what each costs  [default: laptop; photos with "
        "--set data=DIR, where the sweep has it]")
@option("--set", "pairs",
        "a setting for every row; may be repeated (`fgdlab run --help` lists them)", multiple=True, metavar="KEY=VALUE")
@option("--seeds", "seeds instead of the YAML's", callback=numbers(0), metavar="0,1,2")
@option("--out", "folder of the runs  [default: runs/NAME, at another scale runs/NAME-SCALE]", type=PATH)
@option("--jobs", "number of runs at a time  [default: the cores of this machine; 1 on a GPU]", type=click.IntRange(1))
@option("--gpus",
        "GPUs of this machine, one run on each at a time; 0,0,1,1 for two on each", callback=numbers(0), metavar="0,1")
@option("--cluster", "run on the workers of this Dask scheduler (extra dask)", metavar="tcp://HOST:PORT")
@option("--slurm", "run as a Slurm job array (extra slurm); --jobs bounds how many at a time", is_flag=True)
@option("--slurm-partition", "Slurm's partition  [default: the site's]")
@option("--slurm-minutes",
        "Slurm's time limit per run; the next call continues a run that reached it",
        type=click.IntRange(1), default=1440)
@option("--slurm-gpus", "GPUs per run under Slurm  [default: 1 if runs need a GPU]", type=click.IntRange(0))
@option("--retry-failed", "run failed runs again", is_flag=True)
@option("--keep-stale", "keep runs of older code as they are; the table says so", is_flag=True)
@option("--fail-fast", "start no more runs after the first failure", is_flag=True)
@option("--dry-run", "list the runs, their states and the time left; run nothing", is_flag=True)
def sweep(name, scale, pairs, seeds, out, retry_failed, keep_stale, fail_fast, dry_run, **where) -> None:
    """Run every row and seed of a sweep, then print its table.

    NAME is a sweep of ablations/sweeps. Finished runs are not repeated; an interrupted or killed run continues from its
    checkpoint. A run of older code is stale: it is moved to .stale/ and run again. Exit status 1 if a run is missing.
    In a notebook, ``from fgdlab.lab.reports import watch; watch("NAME")`` follows the runs.
    """
    sweep, overrides = sweeps.load_sweep(name), parse_pairs(pairs)
    own = overrides.get("data", "digits") != "digits" and "data" not in sweep.base and "photos" in sweep.scales
    scale = scale or ("photos" if own else "laptop")
    sweep = sweep.at(scale, seeds)
    folder = out or sweeps.runs_folder(sweep, scale)
    if scale == "photos":
        config = sweep.settings(sweep.baseline, 0, scale, overrides)
        chosen = fitted(config, {*overrides, *sweep.base}).dict()
        overrides |= {key: value for key, value in chosen.items() if value != getattr(config, key)}
    runs = sweeps.plan(sweep, folder, scale=scale, overrides=overrides)
    if not runs:
        reasons = "; ".join(sweep.absent.values())
        raise UserError(f"{name} must have rows for scale {scale}, got none: {reasons}; choose another scale")
    for method in {run.config.method for run in runs if ".py:" in run.config.method}:
        training.custom_loss_class(method)  # found before a row trains
    made, meant = (
        len({active_settings(sweep.settings(row, 0, scale, more)) for row in sweep.present})
        for more in (overrides, {}))
    if made < meant:
        raise UserError(f"--set must keep rows different, got {' '.join(pairs)}: {meant} become {made}; leave it out")
    if scale == "paper" and any(run.config.data == "digits" for run in runs):
        raise UserError("scale paper must know where COCO is, got no folder; add --set data=FOLDER")
    if dry_run:
        local = None if where["cluster"] or where["slurm"] else sweeps.cpu_slots(runs)  # a cluster decides
        slots = len(where["gpus"] or ()) or where["jobs"] or local
        lines = sweeps.dry_run(runs, sweep, scale, slots, retry_failed, keep_stale)
        click.echo("\n".join(lines))
        return
    note = (sweep.scales.get(scale) or {}).get("note", "")
    with open_executor(runs, folder, **where) as (executor, jobs):
        click.echo(f"{sweep.title}: {len(runs)} runs in {folder}" + (f" ({note})" if note else ""))
        states = sweeps.execute(
            runs, jobs=jobs, executor=executor, elsewhere=executor is not None, retry_failed=retry_failed,
            keep_stale=keep_stale, fail_fast=fail_fast, say=click.echo,
        )
    # earlier seeds with these settings stay in the results
    if earlier := sorted(sweeps.seeds_in(folder) - {*sweep.seeds}):
        others = sweeps.plan(sweep.at(scale, earlier), folder, scale=scale, overrides=overrides)
        kept = {run.seed for run in others if run.state() in ("done", *["stale"] * keep_stale)}
        sweep = sweep.at(scale, sorted({*sweep.seeds, *kept}))
        runs = sorted([*runs, *(run for run in others if run.seed in kept)], key=lambda run: run.seed)
    frame = sweeps.collect(runs, sweep, keep_stale)
    path, figure = sweeps.write_results(frame, folder / "results.csv"), folder / f"{sweep.name}.png"
    if states["done"]:
        click.echo()
        show_table(sweep, frame, "text", figure)
        click.echo(f"\nruns: {folder}   numbers: {path}   figure: {figure}")
    report_missing(states)


@contextmanager
def open_executor(
    runs: list, folder: Path, jobs, gpus, cluster, slurm, slurm_partition, slurm_minutes, slurm_gpus,
) -> Iterator[tuple]:
    """(executor, runs at a time) for ``execute``; no executor: this machine."""
    flags = {"--gpus": gpus is not None, "--cluster": cluster, "--slurm": slurm, "--jobs": gpus is not None and jobs}
    chosen = [flag for flag, value in flags.items() if value]  # GPUs already say how many runs at a time
    if len(chosen) > 1:
        raise UserError(f"runs must go to one place, got {' and '.join(chosen)}; choose one of them")
    if not slurm and (slurm_partition or slurm_gpus is not None):
        raise UserError("--slurm-partition and --slurm-gpus must go with --slurm, got them alone; add --slurm")
    needs_gpu = any(run.config.device == "cuda" for run in runs)
    if gpus is not None:
        with sweeps.LocalExecutor(sweeps.gpu_slots(gpus, runs)) as pool:
            yield pool, len(gpus)
    elif cluster:
        with sweeps.DaskExecutor(cluster, needs_gpu) as pool:
            yield pool, lambda: min(pool.room(), jobs or pool.room())
    elif slurm:
        resources = {
            "partition": slurm_partition or "", "minutes": slurm_minutes,
            "gpus": int(needs_gpu) if slurm_gpus is None else slurm_gpus,
            "cpus": max(run.config.threads + run.config.workers for run in runs),
        }
        with sweeps.SlurmExecutor(folder / "slurm", **resources, at_once=jobs or 0) as pool:
            yield pool, len(runs)
    else:
        yield None, jobs or sweeps.cpu_slots(runs)


def report_missing(states: dict) -> None:
    """If a run failed or was interrupted, list such runs and exit with status 1."""
    unfinished = ("stale", "failed", "interrupted", "running", "pending")
    missing = [(state, run) for state in unfinished for run in states[state]]
    if not missing:
        return
    click.echo(f"\n{len(missing)} runs are missing:", err=True)
    for state, run in missing:
        reason = sweeps.outcome_text(run.here, state) if state == "failed" else ""
        click.echo(f"{state:>11}  {run}{reason}", err=True)
    flag = " with --retry-failed" if states["failed"] else ""
    click.echo(f"the same command{flag} runs these and nothing else", err=True)
    sys.exit(1)
