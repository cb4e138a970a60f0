"""The command line ``fgdlab``: the group of all commands, and how errors end."""
import os
import sys
import time
from contextlib import nullcontext
from unittest import mock

import click
from tqdm import tqdm

from ..errors import UserError, reason
from ..training import torchrun
from .checkpoints import export, import_
from .data import data
from .doctor import doctor
from .predict import predict
from .run import run, teacher
from .stats import compare, errors, seeds
from .sweep import sweep
from .table import claims, report, table


class OneLineErrors(click.Group):
    """A group whose user errors are one line on stderr, without a traceback.

    Exit status: 2 for a wrong command line, 1 for any other error, 130 for Ctrl-C.
    """

    def main(self, *args, **settings):
        lines = {"display": line_per_tenth, "clear": lambda *_, **__: None, "close": end_of_lines}
        try:
            with nullcontext() if sys.stderr.isatty() else mock.patch.multiple(tqdm, **lines):
                status = super().main(*args, standalone_mode=False, **settings)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(2)
        except click.UsageError as error:
            command = error.ctx.command_path if error.ctx else "fgdlab"
            exit_with(f"{error.format_message().rstrip('.')}; see `{command} --help`", 2)
        except (UserError, FloatingPointError) as error:
            exit_with(str(error), 1)
        except BrokenPipeError:  # the reader of the output, such as `head`, has ended
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        except OSError as error:  # of a disk, a permission or a name that no earlier check covers
            hint = "check its name, its permissions and the disk space"
            exit_with(f"{error.filename or 'every file'} must be usable, got: {reason(error)}; {hint}", 1)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            got = str(error).splitlines()[0] if str(error) else "no more memory"
            exit_with(f"the memory must suffice, got: {got}; lower batch_size or image_size", 1)
        except click.ClickException as error:
            exit_with(error.format_message(), error.exit_code)
        sys.exit(status if isinstance(status, int) else 0)

    def invoke(self, ctx: click.Context):
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("interrupted; the same command continues where it stopped", err=True)
            sys.exit(130)


def line_per_tenth(bar: tqdm, msg: str | None = None, pos: int | None = None) -> None:
    """tqdm's ``display`` for a log: a line whenever another tenth is done, in place of a bar that is drawn over."""
    tenth = 10 * bar.n // bar.total if bar.total else 0
    if tenth > getattr(bar, "tenth", 0):
        bar.tenth = tenth
        bar.fp.write(f"{bar}\n")
        bar.fp.flush()


def end_of_lines(bar: tqdm) -> None:
    """tqdm's ``close`` for a log: the last tenth, and nothing to clear."""
    if not bar.disable:
        line_per_tenth(bar)
        bar.disable = True


def out_of_memory(error: BaseException) -> bool:
    """Whether this is Python's memory error or torch's, which on the CPU has no type of its own."""
    return isinstance(error, MemoryError) or "out of memory" in str(error) or "can't allocate memory" in str(error)


def exit_with(message: str, status: int) -> None:
    if torchrun.rank() > 0:
        time.sleep(2)  # rank 0 prints an error of all processes; torchrun ends the others meanwhile
    click.echo(f"Error: {' '.join(message.split())}", err=True)
    sys.exit(status)


@click.group(cls=OneLineErrors, context_settings={
    "help_option_names": ["-h", "--help"], "max_content_width": 110, "show_default": True})
@click.version_option(package_name="fgdlab")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Focal and Global Knowledge Distillation for detectors: train, run ablations, compare with the paper.

    \b
    Start here:
      fgdlab sweep table1_areas           run Table 1 of the paper on this machine: half an hour on two cores
      fgdlab table table1_areas           print the table again: text, Markdown, LaTeX, CSV, HTML, or a figure
      fgdlab claims                       print every claim of the papers: does it hold here?
      fgdlab report table1_areas          write one page about the sweep, to read in a browser
    \b
    Then:
      fgdlab run --method fgd --epochs 1  train one student; every setting is a flag (fgdlab run --help)
      fgdlab run --preset NAME --coco DIR the same with the paper's settings (fgdlab run --list-presets)
      fgdlab doctor                       check this machine; with settings, check data and teacher too

    Results are in runs/ of the current folder. The cache ($FGDLAB_HOME) holds what can be made again. An
    interrupted command continues where it stopped when you repeat it.
    """
    if torchrun.world_size() > 1 and ctx.invoked_subcommand != "run":
        raise UserError(
            f"torchrun must start `fgdlab run`, got {ctx.invoked_subcommand!r}; start that command without torchrun "
            "(a sweep takes --gpus)"
        )


for command in (
    sweep, table, claims, report, run, doctor, data, predict, teacher, import_, export, seeds, compare, errors,
):
    main.add_command(command)
