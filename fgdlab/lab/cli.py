"""The command line: ``fgdlab`` and ``python -m fgdlab``. Prints, and leaves all work to the other files."""
import json
import os
import sys
from dataclasses import fields
from pathlib import Path

import click

from .commands.checkpoints import export, import_
from .commands.stats import compare, seeds
from .commands.sweep import sweep
from .config import RunConfig
from .errors import UserError


class OneLineErrors(click.Group):
    """A user's mistake ends in one line on stderr, never in a traceback: exit status 2 for the command line itself, 1 for anything else, 130 for Ctrl-C."""

    def main(self, *args, standalone_mode: bool = True, **settings):
        if not standalone_mode:
            return super().main(*args, standalone_mode=False, **settings)
        try:
            status = super().main(*args, standalone_mode=False, **settings)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(2)
        except click.UsageError as error:
            complain(f"{error.format_message().rstrip('.')}; see `{error.ctx.command_path if error.ctx else 'fgdlab'} --help`", 2)
        except (UserError, FloatingPointError) as error:
            complain(str(error), 1)
        except BrokenPipeError:                                      # the reader of the output, such as `head`, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        except OSError as error:                                     # a disk, a right, a name that no check before has met
            complain(f"{error.filename or 'every file'} must be usable, got: {error.strerror or error}; check its name, its rights and the space on its disk", 1)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            complain(f"the memory must suffice, got: {str(error).splitlines()[0] if str(error) else 'no more of it'}; lower batch_size or image_size", 1)
        except click.ClickException as error:
            complain(error.format_message(), error.exit_code)
        sys.exit(status if isinstance(status, int) else 0)

    def invoke(self, ctx: click.Context):
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("interrupted; the same command goes on where it stopped", err=True)
            sys.exit(130)


def out_of_memory(error: BaseException) -> bool:
    """Python's own error, torch's for a card, or torch's for the host, which has no type of its own."""
    return isinstance(error, MemoryError) or "out of memory" in str(error) or "can't allocate memory" in str(error)


def complain(message: str, status: int) -> None:
    click.echo(f"Error: {' '.join(message.split())}", err=True)
    sys.exit(status)


@click.group(cls=OneLineErrors, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="fgdlab")
def main() -> None:
    """Focal and Global Knowledge Distillation for detectors: train, ablate, compare with the paper.

    \b
    Start here:
      fgdlab sweep table1_areas           Table 1 of the paper on this machine, about ten minutes on two cores
      fgdlab table table1_areas           the table again, as text, Markdown, LaTeX, CSV or HTML, and as a figure
      fgdlab report table1_areas          one page with everything about it, to read in a browser
    \b
    Then:
      fgdlab run --method fgd --epochs 1  one student, any setting as a flag
      fgdlab data digits | check DIR      the built-in scenes; whether a COCO-format folder can be used
      fgdlab teacher                      train or find the teacher, and measure it
      fgdlab import | export FILE         MMDetection's checkpoints in; a trained student out, as plain weights
      fgdlab seeds SWEEP                  how many more seeds a difference needs
      fgdlab compare RUN_A RUN_B          two detectors on the same images, with the noise of images and of seeds

    Results lie in runs/ of the current folder, what can be made again in the cache ($FGDLAB_HOME). Interrupt and repeat any command: it goes
    on where it stopped.
    """


# --- run ----------------------------------------------------------------------------------------------------------------------------

def knobs(command):
    """Every field of RunConfig as a flag of a command, with its words, its default and its values."""
    for each in reversed(fields(RunConfig)):
        flag, kind = "--" + each.name.strip("_").replace("_", "-"), type(each.default)
        settings = {"default": None, "help": f"{each.metadata['help']}  [default: {each.default!r}]"}
        if kind is bool:
            option = click.option(f"{flag}/--no-{flag[2:]}", each.name, **settings)
        else:
            words, open_ended = each.metadata["among"], each.metadata["also"]
            settings["help"] += f"  ({', '.join(words)})" if open_ended else ""
            option = click.option(flag, each.name, type=click.Choice(words) if words and not open_ended else kind, **settings)
        command = option(command)
    return command


def given(settings: dict) -> dict:
    return {name: value for name, value in settings.items() if value is not None}


@main.command()
@click.option("--out", type=click.Path(path_type=Path), default=None, help="folder of the run  [default: runs/one-HASH]")
@knobs
def run(out: Path | None, **settings) -> None:
    """Train and judge one student; every setting is a flag.

    Interrupted, the same command goes on from the last checkpoint. Done, it prints the scores again.
    """
    from .disk import digest
    from .run import run as run_one

    config = scaled(given(settings))
    folder = out or Path("runs") / f"one-{digest(config.dict())}"
    result = run_one(config, folder)
    scores = "  ".join(f"{name} " + ("none, for nothing of it is there to find" if result[name] is None else f"{result[name]:.1f}") for name in ("AP", "AP50", "AR"))
    click.echo(f"{scores}   ({result['data_line']})")
    if result["teacher_AP"] is not None:
        click.echo(f"teacher AP {result['teacher_AP']:.1f} ({result['teacher']['origin']})")
    click.echo(f"everything about it: {folder}")


def scaled(settings: dict) -> RunConfig:
    from .scales import scale_settings

    return RunConfig.of({**scale_settings(settings.get("scale", "laptop")), **settings})


# --- sweep and table ----------------------------------------------------------------------------------------------------------------

main.add_command(sweep)


def words(ctx, param, value: str) -> tuple[str, ...]:
    return tuple(each.strip() for each in value.split(",") if each.strip())


def show_table(described, frame, format: str, figure: Path | None, metrics: tuple[str, ...] = ("AP", "AR")) -> None:
    from .tables import render
    from .tabular.figure import save_figure, table_figure

    click.echo(render(frame, described, format, metrics))
    if figure is not None:
        save_figure(table_figure(frame, described, metrics[0]), figure)


@main.command()
@click.argument("name")
@click.option("--scale", default="laptop", show_default=True, help="smoke, laptop or gpu")
@click.option("--out", type=click.Path(path_type=Path), default=None, help="folder of the runs  [default: runs/NAME, then ablations/results]")
@click.option("--format", "format", type=click.Choice(["text", "markdown", "latex", "csv", "html"]), default="text", show_default=True, help="how to print it")
@click.option("--metrics", callback=words, default="AP,AR", show_default=True, help="scores to show, with commas between, such as AP,AP50,AP_S")
@click.option("--figure", type=click.Path(path_type=Path), default=None, help="write the figure with every run's point to this .png or .svg")
@click.option("--publish", is_flag=True, help="write results, table and figure to ablations/results and the table into README.md, to be committed")
def table(name, scale, out, format, metrics, figure, publish) -> None:
    """Print the table of a sweep beside the paper's: the reader's own runs if there are any, else the committed ones."""
    from .reporting.runs import SweepRuns

    seen = SweepRuns.of(name, scale, out)
    described, frame, path = seen.sweep, seen.frame, seen.path
    show_table(described, frame, format, figure, metrics)
    click.echo(f"from {path}", err=True)
    if publish:
        from .sweeps.publish import publish as publish_results

        click.echo("published " + ", ".join(str(each) for each in publish_results(frame, described)), err=True)


@main.command()
@click.argument("name")
@click.option("--scale", default="laptop", show_default=True, help="smoke, laptop or gpu")
@click.option("--runs", type=click.Path(path_type=Path), default=None, help="folder of the runs  [default: runs/NAME, then ablations/results]")
@click.option("--out", type=click.Path(path_type=Path), default=None, help="the page to write  [default: report.html in the folder of the runs]")
def report(name, scale, runs, out) -> None:
    """Write one page on a sweep that can be read without a network: table, figures, masks, detections, provenance, failures, cost.

    It shows the reader's own runs if there are any, else the committed ones.
    """
    from .report import Report

    made = Report.of(name, scale, runs)
    path = made.write(out or made.runs.home / "report.html")
    click.echo(f"report: {path}")


# --- data and teacher ---------------------------------------------------------------------------------------------------------------

@main.group()
def data() -> None:
    """Make the built-in digit scenes, or check a COCO-format folder."""


@data.command()
@click.option("--size", default=128, show_default=True, help="side of the square scenes in pixels")
@click.option("--train", default=3600, show_default=True, help="scenes to learn from")
@click.option("--tune", default=400, show_default=True, help="scenes to choose hyper-parameters on")
@click.option("--val", default=400, show_default=True, help="scenes to report")
@click.option("--lookalikes/--no-lookalikes", default=True, show_default=True, help="letters, mirrored and turned digits that are no objects")
@click.option("--seed", default=0, show_default=True, help="seed of everything that is drawn")
@click.option("--out", type=click.Path(path_type=Path), default=None, help="folder to make  [default: the cache]")
def digits(size, train, tune, val, lookalikes, seed, out) -> None:
    """Make the digit scenes as a COCO folder (images/, annotations.json, splits.json) and say what is in them."""
    from .digits import DigitScenes, digit_folder

    if out is not None and out.exists():
        raise UserError(f"--out must be a folder that is not there yet, got {str(out)!r}; delete it or choose another")
    folder = digit_folder(DigitScenes(size, train, tune, val, lookalikes, seed), out)
    click.echo(f"{folder}")
    summarise(parts(folder))


@data.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--pixels/--no-pixels", default=True, show_default=True, help="decode every image as well")
def check(folder: Path, pixels: bool) -> None:
    """Read a COCO-format folder as a run would: annotations, splits, and every image; say what is in it or what is wrong."""
    from .coco.images import check_pixels

    splits = parts(folder)
    if pixels:
        seen: set[Path] = set()
        for annotations in splits:
            names = {annotations.image_folder / each["file_name"] for each in annotations.images}
            if not names <= seen:
                check_pixels(annotations)
                seen |= names
    summarise(splits)


def parts(folder: Path) -> list:
    """Every split of a folder. A share of train that is too small to hold an image is passed over: nobody asked for it."""
    from .coco.annotations import EmptySplit, read_split, splits_of
    from .coco.splits import DERIVED

    found = []
    for split in splits_of(folder):
        try:
            found.append(read_split(folder, split))
        except EmptySplit:
            if split not in DERIVED:
                raise
    return found


def summarise(splits: list) -> None:
    """One line a split: images, boxes, classes, and the share of cells of each pyramid level that lie in a box."""
    from .data import Scenes, foreground_shares

    notes: dict[str, None] = {}
    for annotations in splits:
        boxes = sum(len(each) for each in annotations.boxes.values())
        shares = foreground_shares(Scenes(annotations, limit=500))
        click.echo(
            f"{annotations.split:>12}: {len(annotations.images):6d} images  {boxes:7d} boxes  {len(annotations.classes):3d} classes   "
            f"cells in a box: {', '.join(f'{level} {share:.0%}' for level, share in shares.items())}"
        )
        notes |= dict.fromkeys(annotations.notes)
    for note in notes:
        click.echo(f"note: {note}")


@main.command()
@click.option("--weights", type=click.Path(path_type=Path), default=None, help="copy the teacher's weights to this .safetensors file")
@knobs
def teacher(weights: Path | None, **settings) -> None:
    """Find the teacher that a run with these settings would learn from, train it if there is none, and measure it."""
    import shutil

    import torch

    from .disk import make_folder, whole
    from .run import device_of
    from .teachers import get_teacher
    from .weights import read_facts

    config = scaled(given(settings))
    if weights is not None:
        make_folder(weights.parent)                                  # known before a teacher is trained
    torch.set_num_threads(os.cpu_count() or 1)
    found = get_teacher(config, device=device_of(config))
    click.echo(f"{config.teacher} ({found.origin}): AP {found.AP:.1f} on {config.eval_split}\n{found.path}")
    click.echo(json.dumps({name: value for name, value in read_facts(found.path).items() if name != "settings"}))
    if weights is not None:
        with whole(weights) as unfinished:
            shutil.copyfile(found.path, unfinished)
        click.echo(f"copied to {weights}")


# --- checkpoints --------------------------------------------------------------------------------------------------------------------

main.add_command(seeds)
main.add_command(compare)
main.add_command(import_)
main.add_command(export)
