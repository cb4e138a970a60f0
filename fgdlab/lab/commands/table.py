"""``fgdlab table``, ``claims`` and ``report``: results beside the paper's, the papers' claims, and a page."""
from pathlib import Path

import click

from .. import reports, stats, sweeps, tables
from ..errors import UserError
from .settings_flags import PATH, option, results_flag, scale_flag, seeds_flag


def comma_list(ctx, param, value: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in value.split(",") if word.strip())


def show_table(sweep, frame, format: str, figure: Path | None, metrics=("AP", "AR"), **options) -> None:
    click.echo(tables.render(frame, sweep, format, metrics, older_code=True, **options))
    if figure is not None:
        tables.save_figure(tables.table_figure(frame, sweep, metrics[0]), figure)


@click.command()
@click.argument("name")
@scale_flag
@seeds_flag
@results_flag("--out")
@option("--format", "how to print it", type=click.Choice(["text", "markdown", "latex", "csv", "html"]), default="text")
@option("--metrics",
        "scores to show, with commas between, such as AP,AP50,AP_S; or error types, such as FN,BG",
        callback=comma_list, default="AP,AR")
@option("--noise",
        "what intervals cover: seeds; images, or both, from the detections of the runs in the folder",
        type=click.Choice(["seeds", "images", "both"]), default="seeds")
@option("--resamples", "number of bootstrap samples of the images", type=click.IntRange(100), default=1000)
@option("--figure", "write a figure with one point per run to this .png or .svg", type=PATH)
@option("--publish",
        "write results, table and figure to ablations/results, and the table into README.md, for a commit; "
        "at scale gpu as NAME-gpu", is_flag=True)
def table(name, scale, seeds, out, format, metrics, noise, resamples, figure, publish) -> None:
    """Print the table of a sweep beside the paper's.

    It takes your own runs if there are any, else the committed ones.
    """
    if publish:
        reports.check_scale(scale)
        if seeds:
            raise UserError("--publish must go with all seeds of the runs, got --seeds; leave it out")
        if noise != "seeds":
            raise UserError(
                "--publish must go with intervals over seeds, which can be computed from the committed results, "
                f"got --noise {noise}; leave one out"
            )
    runs, intervals = reports.SweepRuns.of(name, scale, out, seeds), {}
    if noise != "seeds":
        def say(line: str) -> None:
            click.echo(line, err=True)

        found = reports.resampled_intervals(runs, metrics or ("AP",), noise, resamples, say)
        intervals = {"variance": noise, "intervals": found}
    frame = reports.with_error_types(runs) if publish or set(metrics) & set(stats.ERROR_TYPES) else runs.frame
    show_table(runs.sweep, frame, format, figure, metrics, **intervals)
    click.echo(f"from {runs.path}", err=True)
    if why := sweeps.outdated(runs.frame, runs.sweep, scale):
        click.echo(f"the sweep would make other runs now, by --set or edit: {why}", err=True)
    if publish:
        files = reports.publish(frame, runs.sweep, scale)
        click.echo("published " + ", ".join(map(str, files)), err=True)


@click.command()
@option("--publish", "write the table into README.md, for a commit", is_flag=True)
def claims(publish) -> None:
    """Print every claim of the papers with a verdict: does it hold here?

    Claims and their rules are in ablations/claims.yaml, the numbers in ablations/results. A result counts while its
    settings are those of its sweep.
    """
    click.echo(reports.claims_text())
    if publish:
        click.echo("published " + (", ".join(map(str, reports.publish_claims())) or "nothing new"), err=True)


@click.command()
@click.argument("name")
@scale_flag
@seeds_flag
@results_flag("--runs")
@option("--out", "the page to write  [default: report.html beside the runs]", type=PATH)
def report(name, scale, seeds, runs, out) -> None:
    """Write one page about a sweep, readable without a network.

    Table, figures, masks, detections, provenance, failures and cost; of your own runs if there are any, else of the
    committed ones.
    """
    click.echo(f"report: {reports.write_report(name, scale, runs, out, seeds)}")
