"""``fgdlab seeds`` and ``fgdlab compare``: how far a difference can be trusted, and what it would take to trust it more."""
from pathlib import Path

import click


@click.command()
@click.argument("name")
@click.option("--row", default=None, help="a row of the sweep  [default: every row, and the sweep's contrasts]")
@click.option("--against", default=None, help="the row it is compared with  [default: the sweep's baseline]")
@click.option("--metric", default="AP", show_default=True, help="a score of the results, such as AP or AR")
@click.option("--half-width", default=0.5, show_default=True, help="how far an interval may reach to each side, in points of the metric")
@click.option("--difference", type=float, default=None, help="the smallest difference that matters  [default: the mean so far, which flatters]")
@click.option("--power", default=0.8, show_default=True, help="the chance of telling that difference from 0")
@click.option("--looks", default=None, metavar="3,6,12", help="numbers of seeds at which you had planned to look, before you saw any")
@click.option("--scale", default="laptop", show_default=True, help="smoke, laptop, gpu or paper")
@click.option("--out", type=click.Path(path_type=Path), default=None, help="folder of the runs  [default: runs/NAME or runs/NAME-SCALE, then ablations/results]")
def seeds(name, row, against, metric, half_width, difference, power, looks, scale, out) -> None:
    """Say how many seeds a paired difference needs: for an interval of a wanted half-width, and to be told from 0.

    A line for each contrast. Numbers of seeds come with the range that the std so far leaves open; the interval shown holds
    however often you look and whenever you stop (with --looks: at the looks that you had planned).
    """
    from ..reports import SeedTargets, parse_analyses, seeds_report
    from ..sweeps import load_sweep, read_results

    described = load_sweep(name).at(scale)
    targets = SeedTargets(metric, half_width, difference, power, parse_analyses(looks))
    frame, path = read_results(described, scale, out)
    click.echo(seeds_report(frame, described, targets, row, against))
    click.echo(f"from {path}", err=True)


@click.command()
@click.argument("a")
@click.argument("b")
@click.option("--truth", type=click.Path(path_type=Path, dir_okay=False), default=None, help="COCO ground truth, where A and B are files of detections")
@click.option("--sweep", default=None, help="A and B are rows of this sweep; all seeds that are done in both are compared")
@click.option("--scale", default="laptop", show_default=True, help="of the sweep: smoke, laptop, gpu or paper")
@click.option("--out", type=click.Path(path_type=Path), default=None, help="folder of the sweep's runs  [default: runs/NAME, at another scale runs/NAME-SCALE]")
@click.option("--metric", default="AP", show_default=True, help="one of COCO's twelve: AP, AP50, AP75, AP_S, AP_M, AP_L, AR, ...")
@click.option("--resamples", type=click.IntRange(100), default=1000, show_default=True, help="how often the images are drawn anew")
@click.option("--figure", type=click.Path(path_type=Path), default=None, help="write a picture to this .png or .svg")
def compare(a, b, truth, sweep, scale, out, metric, resamples, figure) -> None:
    """Compare two detectors on the same images, with the noise of the images and that of the seeds side by side.

    A and B are folders of finished runs; or files of detections, with --truth; or rows of a sweep, with --sweep. Several
    runs of a side, one a seed, are written with commas between: a0,a1,a2 b0,b1,b2.
    """
    from ..errors import UserError
    from ..reports import compare as compare_sides
    from ..reports import comparison_figure, comparison_of_files, comparison_of_rows, comparison_text
    from ..stats import metric_of
    from ..sweeps import load_sweep
    from ..tables import save_figure

    metric_of(metric)                                                # a misspelt one is told before anything is read
    if figure is not None and figure.suffix not in (".png", ".svg"):
        raise UserError(f"--figure must end in .png or .svg, got {figure.name!r}")
    if sweep is not None and truth is not None:
        raise UserError("--truth must go with files of detections, got it beside --sweep; rows of a sweep are judged by the data of their runs")
    if sweep is not None:
        inputs = comparison_of_rows(load_sweep(sweep).at(scale), a, b, scale, out)
    else:
        inputs = comparison_of_files(*([Path(each) for each in side.split(",") if each] for side in (a, b)), truth)
    result = compare_sides(inputs, metric, resamples)
    click.echo(comparison_text(result))
    if figure is not None:
        click.echo(f"\nfigure: {save_figure(comparison_figure(result), figure)}")
