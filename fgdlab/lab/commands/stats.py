"""``fgdlab seeds``, ``compare`` and ``errors``: how sure a difference is, and which errors are left."""
from pathlib import Path

import click

from .. import reports, stats, tables
from ..errors import UserError
from ..io import user_path
from .settings_flags import PATH, UserPath, numbers, option, results_flag, scale_flag


@click.command()
@click.argument("name")
@option("--row", "a row of the sweep  [default: every row, and the sweep's contrasts]")
@option("--against", "the row to compare with  [default: the sweep's baseline]")
@option("--metric", "a score of the results, such as AP or AR", default="AP")
@option("--half-width",
        "largest half-width of the interval, in points", type=click.FloatRange(0, min_open=True), default=0.5)
@option("--difference",
        "the smallest difference that matters  [default: the mean so far, which is optimistic]", type=float)
@option("--power",
        "the probability of telling that difference from 0",
        type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.8)
@option("--looks",
        "numbers of seeds at which you planned, before you saw results, to look at them",
        callback=numbers(2), metavar="3,6,12")
@scale_flag
@results_flag("--out")
def seeds(name, row, against, metric, half_width, difference, power, looks, scale, out) -> None:
    """Print how many seeds a paired difference needs.

    One line per contrast: seeds for an interval of the given half-width, and to tell the difference from 0. Each number
    of seeds comes with the range that the standard deviation so far allows. The interval is valid however often you
    look and whenever you stop; with --looks, only at the planned looks.
    """
    targets = reports.SeedTargets(metric, half_width, difference, power, tuple(sorted(set(looks or ()))))
    runs = reports.SweepRuns.of(name, scale, out)
    click.echo(reports.seeds_report(runs.frame, runs.sweep, targets, row, against))
    click.echo(f"from {runs.path}", err=True)


@click.command()
@click.argument("a")
@click.argument("b")
@option("--truth",
        "COCO ground truth, when A and B are files of detections", type=UserPath(path_type=Path, dir_okay=False))
@option("--sweep", "A and B are rows of this sweep; seeds that are done in both are compared")
@scale_flag
@option("--out", "folder of the sweep's runs  [default: runs/NAME, at another scale runs/NAME-SCALE]", type=PATH)
@option("--metric", "one of COCO's twelve: AP, AP50, AP75, AP_S, AP_M, AP_L, AR, ...", default="AP")
@option("--resamples", "number of bootstrap samples of the images", type=click.IntRange(100), default=1000)
@option("--figure", "write a figure to this .png or .svg", type=PATH)
def compare(a, b, truth, sweep, scale, out, metric, resamples, figure) -> None:
    """Compare two detectors on the same images.

    Prints intervals over images, over seeds, and over both. A and B are folders of finished runs; or files of
    detections, with --truth; or rows of a sweep, with --sweep. Join several runs of one side, one per seed, by commas:
    a0,a1,a2 b0,b1,b2.
    """
    stats.metric_of(metric)  # refuses an unknown name before anything is read
    if figure is not None and figure.suffix not in (".png", ".svg"):
        raise UserError(f"--figure must end in .png or .svg, got {figure.name!r}")
    if sweep is not None and truth is not None:
        raise UserError(
            "--truth must go with files of detections, got it with --sweep; "
            "rows of a sweep are evaluated on the data of their runs"
        )
    if sweep is not None:
        inputs = reports.comparison_of_rows(reports.SweepRuns.of(sweep, scale, out), a, b)
    else:
        sides = [[user_path(name) for name in side.split(",") if name] for side in (a, b)]
        inputs = reports.comparison_of_files(*sides, truth)
    result = reports.compare(inputs, metric, resamples)
    click.echo(reports.comparison_text(result))
    if figure is not None:
        click.echo(f"\nfigure: {tables.save_figure(reports.comparison_figure(result), figure)}")


@click.command()
@click.argument("runs", nargs=-1)
@option("--sweep", "all finished runs of this sweep instead, row by row", metavar="NAME")
@scale_flag
@results_flag("--out")
@option("--figure", "write a figure that compares the rows to this .png or .svg", type=PATH)
def errors(runs, sweep, scale, out, figure) -> None:
    """Print which errors cost AP: localisation, wrong class, detections on background, missed objects.

    COCO's analysis of errors, as in Fig. 6 of the paper. RUNS are folders of finished runs; join several of one row,
    one per seed, by commas. `fgdlab table NAME --metrics FN,BG` gives differences paired by seed.
    """
    if bool(runs) == bool(sweep):
        raise UserError(f"give folders of finished runs or --sweep NAME, got {'both' if sweep else 'neither'}")
    if sweep:
        of_sweep = reports.SweepRuns.of(sweep, scale, out)
        rows, title = reports.error_types_of_rows(of_sweep), of_sweep.sweep.title
    else:
        rows, title = {each: reports.error_types_of_runs(map(user_path, each.split(","))) for each in runs}, "Runs"
        if twice := [each for each in rows if not rows[each].index.is_unique]:
            raise UserError(f"joined runs must be of different seeds, got {twice[0]}")
    click.echo(reports.errors_text(rows))
    if figure is not None:
        click.echo(f"\nfigure: {tables.save_figure(reports.errors_figure(rows, title), figure)}")
