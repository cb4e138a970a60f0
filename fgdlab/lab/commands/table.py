"""``fgdlab table`` and ``fgdlab report``: what a sweep gave, beside the paper's numbers and as a page."""
from pathlib import Path

import click

from ..errors import UserError


def words(ctx, param, value: str) -> tuple[str, ...]:
    return tuple(each.strip() for each in value.split(",") if each.strip())


def show_table(described, frame, format: str, figure: Path | None, metrics: tuple[str, ...] = ("AP", "AR"), **noise) -> None:
    from ..tables import render, save_figure, table_figure

    click.echo(render(frame, described, format, metrics, **noise))
    if figure is not None:
        save_figure(table_figure(frame, described, metrics[0]), figure)


@click.command()
@click.argument("name")
@click.option("--scale", default="laptop", show_default=True, help="smoke, laptop, gpu or paper")
@click.option("--out", type=click.Path(path_type=Path), default=None, help="folder of the runs  [default: runs/NAME or runs/NAME-SCALE, then ablations/results]")
@click.option("--format", "format", type=click.Choice(["text", "markdown", "latex", "csv", "html"]), default="text", show_default=True, help="how to print it")
@click.option("--metrics", callback=words, default="AP,AR", show_default=True, help="scores to show, with commas between, such as AP,AP50,AP_S")
@click.option("--noise", type=click.Choice(["seeds", "images", "both"]), default="seeds", show_default=True,
              help="what intervals cover: the seeds; the choice of images, or both, from the detections of runs that lie here")
@click.option("--resamples", type=click.IntRange(100), default=1000, show_default=True, help="how often the images are drawn anew")
@click.option("--figure", type=click.Path(path_type=Path), default=None, help="write the figure with every run's point to this .png or .svg")
@click.option("--publish", is_flag=True, help="write results, table and figure to ablations/results and the table into README.md, to be committed; at scale gpu as NAME-gpu")
def table(name, scale, out, format, metrics, noise, resamples, figure, publish) -> None:
    """Print the table of a sweep beside the paper's: the reader's own runs if there are any, else the committed ones."""
    from ..reports import SweepRuns, check_scale
    from ..reports import publish as publish_results

    if publish:
        check_scale(scale)
        if noise != "seeds":
            raise UserError(f"--publish must go with intervals over seeds, which the committed results give again, got --noise {noise}; leave one out")
    seen = SweepRuns.of(name, scale, out)
    described, frame, path = seen.sweep, seen.frame, seen.path
    over = {}
    if noise != "seeds":
        from ..reports import resampled_intervals

        over = {"noise": noise, "intervals": resampled_intervals(seen, metrics or ("AP",), noise, resamples, lambda line: click.echo(line, err=True))}
    show_table(described, frame, format, figure, metrics, **over)
    click.echo(f"from {path}", err=True)
    if publish:
        click.echo("published " + ", ".join(str(each) for each in publish_results(frame, described, scale)), err=True)


@click.command()
@click.argument("name")
@click.option("--scale", default="laptop", show_default=True, help="smoke, laptop, gpu or paper")
@click.option("--runs", type=click.Path(path_type=Path), default=None, help="folder of the runs  [default: runs/NAME or runs/NAME-SCALE, then ablations/results]")
@click.option("--out", type=click.Path(path_type=Path), default=None, help="the page to write  [default: report.html in the folder of the runs]")
def report(name, scale, runs, out) -> None:
    """Write one page on a sweep that can be read without a network: table, figures, masks, detections, provenance, failures, cost.

    It shows the reader's own runs if there are any, else the committed ones.
    """
    from ..reports import Report

    made = Report.of(name, scale, runs)
    path = made.write(out or made.runs.home / "report.html")
    click.echo(f"report: {path}")
