"""``fgdlab seeds``, ``compare`` and ``errors``: how sure a difference is, and which errors are left."""
from pathlib import Path

import click

from .settings_flags import PATH, results_flag, scale_flag


@click.command()
@click.argument("name")
@click.option("--row", default=None, help="a row of the sweep  [default: every row, and the sweep's contrasts]")
@click.option("--against", default=None, help="the row to compare with  [default: the sweep's baseline]")
@click.option("--metric", default="AP", show_default=True, help="a score of the results, such as AP or AR")
@click.option("--half-width", default=0.5, show_default=True, help="largest half-width of the interval, in points")
@click.option("--difference", type=float, default=None,
              help="the smallest difference that matters  [default: the mean so far, which is optimistic]")
@click.option("--power", default=0.8, show_default=True, help="the probability of telling that difference from 0")
@click.option("--looks", default=None, metavar="3,6,12",
              help="numbers of seeds at which you planned, before you saw results, to look at them")
@scale_flag
@results_flag("--out")
def seeds(name, row, against, metric, half_width, difference, power, looks, scale, out) -> None:
    """Print how many seeds a paired difference needs.

    One line per contrast: seeds for an interval of the given half-width, and to tell the difference from 0. Each number
    of seeds comes with the range that the standard deviation so far allows. The interval is valid however often you
    look and whenever you stop; with --looks, only at the planned looks.
    """
    from ..reports import SeedTargets, parse_analyses, seeds_report
    from ..sweeps import load_sweep, read_results

    sweep = load_sweep(name).at(scale)
    targets = SeedTargets(metric, half_width, difference, power, parse_analyses(looks))
    frame, path = read_results(sweep, scale, out)
    click.echo(seeds_report(frame, sweep, targets, row, against))
    click.echo(f"from {path}", err=True)


@click.command()
@click.argument("a")
@click.argument("b")
@click.option("--truth", type=click.Path(path_type=Path, dir_okay=False), default=None,
              help="COCO ground truth, when A and B are files of detections")
@click.option("--sweep", default=None, help="A and B are rows of this sweep; seeds that are done in both are compared")
@scale_flag
@click.option("--out", type=PATH, default=None,
              help="folder of the sweep's runs  [default: runs/NAME, at another scale runs/NAME-SCALE]")
@click.option("--metric", default="AP", show_default=True,
              help="one of COCO's twelve: AP, AP50, AP75, AP_S, AP_M, AP_L, AR, ...")
@click.option("--resamples", type=click.IntRange(100), default=1000, show_default=True,
              help="number of bootstrap samples of the images")
@click.option("--figure", type=PATH, default=None, help="write a figure to this .png or .svg")
def compare(a, b, truth, sweep, scale, out, metric, resamples, figure) -> None:
    """Compare two detectors on the same images.

    Prints intervals over images, over seeds, and over both. A and B are folders of finished runs; or files of
    detections, with --truth; or rows of a sweep, with --sweep. Join several runs of one side, one per seed, by commas:
    a0,a1,a2 b0,b1,b2.
    """
    from ..errors import UserError
    from ..reports import compare as compare_sides
    from ..reports import comparison_figure, comparison_of_files, comparison_of_rows, comparison_text
    from ..stats import metric_of
    from ..sweeps import load_sweep
    from ..tables import save_figure

    metric_of(metric)  # refuses an unknown name before anything is read
    if figure is not None and figure.suffix not in (".png", ".svg"):
        raise UserError(f"--figure must end in .png or .svg, got {figure.name!r}")
    if sweep is not None and truth is not None:
        raise UserError(
            "--truth must go with files of detections, got it with --sweep; "
            "rows of a sweep are evaluated on the data of their runs"
        )
    if sweep is not None:
        inputs = comparison_of_rows(load_sweep(sweep).at(scale), a, b, scale, out)
    else:
        inputs = comparison_of_files(*([Path(name) for name in side.split(",") if name] for side in (a, b)), truth)
    result = compare_sides(inputs, metric, resamples)
    click.echo(comparison_text(result))
    if figure is not None:
        click.echo(f"\nfigure: {save_figure(comparison_figure(result), figure)}")


@click.command()
@click.argument("runs", nargs=-1)
@click.option("--sweep", default=None, metavar="NAME", help="all finished runs of this sweep instead, row by row")
@scale_flag
@results_flag("--out")
@click.option("--figure", type=PATH, default=None, help="write a figure that compares the rows to this .png or .svg")
def errors(runs, sweep, scale, out, figure) -> None:
    """Print what runs lose AP by: bad places, wrong classes, detections on background, missed objects.

    COCO's analysis of errors, as in Fig. 6 of the paper. RUNS are folders of finished runs; join several of one row,
    one per seed, by commas. `fgdlab table NAME --metrics FN,BG` gives differences paired by seed.
    """
    from ..errors import UserError
    from ..reports import SweepRuns, error_types_of_rows, error_types_of_runs, errors_figure, errors_text
    from ..tables import save_figure

    if bool(runs) == bool(sweep):
        raise UserError(f"give folders of finished runs or --sweep NAME, got {'both' if sweep else 'neither'}")
    if sweep:
        of_sweep = SweepRuns.of(sweep, scale, out)
        rows, title = error_types_of_rows(of_sweep), of_sweep.sweep.title
    else:
        rows, title = {each: error_types_of_runs(map(Path, each.split(","))) for each in runs}, "Runs"
    click.echo(errors_text(rows))
    if figure is not None:
        click.echo(f"\nfigure: {save_figure(errors_figure(rows, title), figure)}")
