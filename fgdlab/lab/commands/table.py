"""``fgdlab table``, ``claims`` and ``report``: results beside the paper's, the papers' claims, and a page."""
from pathlib import Path

import click

from ..errors import UserError
from .settings_flags import PATH, results_flag, scale_flag, seeds_flag


def comma_list(ctx, param, value: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in value.split(",") if word.strip())


def show_table(sweep, frame, format: str, figure: Path | None, metrics=("AP", "AR"), **options) -> None:
    from ..tables import render, save_figure, table_figure

    click.echo(render(frame, sweep, format, metrics, older_code=True, **options))
    if figure is not None:
        save_figure(table_figure(frame, sweep, metrics[0]), figure)


@click.command()
@click.argument("name")
@scale_flag
@seeds_flag
@results_flag("--out")
@click.option("--format", "format", type=click.Choice(["text", "markdown", "latex", "csv", "html"]), default="text",
              show_default=True, help="how to print it")
@click.option("--metrics", callback=comma_list, default="AP,AR", show_default=True,
              help="scores to show, with commas between, such as AP,AP50,AP_S; or error types, such as FN,BG")
@click.option("--noise", type=click.Choice(["seeds", "images", "both"]), default="seeds", show_default=True,
              help="what intervals cover: seeds; images, or both, from the detections of the runs in the folder")
@click.option("--resamples", type=click.IntRange(100), default=1000, show_default=True,
              help="number of bootstrap samples of the images")
@click.option("--figure", type=PATH, default=None, help="write a figure with one point per run to this .png or .svg")
@click.option("--publish", is_flag=True,
              help="write results, table and figure to ablations/results, and the table into README.md, for a commit; "
                   "at scale gpu as NAME-gpu")
def table(name, scale, seeds, out, format, metrics, noise, resamples, figure, publish) -> None:
    """Print the table of a sweep beside the paper's.

    It takes your own runs if there are any, else the committed ones.
    """
    from ..reports import SweepRuns, check_scale, with_error_types
    from ..reports import publish as publish_results
    from ..stats import ERROR_TYPES
    from ..sweeps import outdated

    if publish:
        check_scale(scale)
        if seeds:
            raise UserError("--publish must go with all seeds of the runs, got --seeds; leave it out")
        if noise != "seeds":
            raise UserError(
                "--publish must go with intervals over seeds, which can be computed from the committed results, "
                f"got --noise {noise}; leave one out"
            )
    runs = SweepRuns.of(name, scale, out, seeds)
    intervals = {}
    if noise != "seeds":
        from ..reports import resampled_intervals

        found = resampled_intervals(runs, metrics or ("AP",), noise, resamples, lambda line: click.echo(line, err=True))
        intervals = {"variance": noise, "intervals": found}
    frame = with_error_types(runs) if publish or set(metrics) & set(ERROR_TYPES) else runs.frame
    show_table(runs.sweep, frame, format, figure, metrics, **intervals)
    click.echo(f"from {runs.path}", err=True)
    if why := outdated(runs.frame, runs.sweep, scale):
        click.echo(f"these runs do not answer the sweep as it is now: {why}", err=True)
    if publish:
        files = publish_results(frame, runs.sweep, scale)
        click.echo("published " + ", ".join(str(file) for file in files), err=True)


@click.command()
@click.option("--publish", is_flag=True, help="write the table into README.md, for a commit")
def claims(publish) -> None:
    """Print every claim of the papers with a verdict: does it hold here?

    Claims and their rules are in ablations/claims.yaml, the numbers in ablations/results. A result counts while its
    settings are those of its sweep.
    """
    from ..reports import claims_text, publish_claims

    click.echo(claims_text())
    if publish:
        click.echo("published " + (", ".join(map(str, publish_claims())) or "nothing new"), err=True)


@click.command()
@click.argument("name")
@scale_flag
@seeds_flag
@results_flag("--runs")
@click.option("--out", type=PATH, default=None, help="the page to write  [default: report.html beside the runs]")
def report(name, scale, seeds, runs, out) -> None:
    """Write one page about a sweep, readable without a network.

    Table, figures, masks, detections, provenance, failures and cost; of your own runs if there are any, else of the
    committed ones.
    """
    from ..reports import write_report

    click.echo(f"report: {write_report(name, scale, runs, out, seeds)}")
