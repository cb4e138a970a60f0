"""The command line: ``fgdlab`` and ``python -m fgdlab``. The commands lie in ``commands/``; they print, and leave all work to the other files."""
import os
import sys
import time

import click

from ..errors import UserError
from ..training import torchrun
from .checkpoints import export, import_
from .data import data
from .doctor import doctor
from .run import run
from .stats import compare, seeds
from .sweep import sweep
from .table import report, table
from .teacher import teacher


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
    if torchrun.rank() > 0:
        time.sleep(2)                                                # what all processes complain of the leader says, and torchrun ends the others meanwhile
    click.echo(f"Error: {' '.join(message.split())}", err=True)
    sys.exit(status)


@click.group(cls=OneLineErrors, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="fgdlab")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Focal and Global Knowledge Distillation for detectors: train, ablate, compare with the paper.

    \b
    Start here:
      fgdlab sweep table1_areas           Table 1 of the paper on this machine, about ten minutes on two cores
      fgdlab table table1_areas           the table again, as text, Markdown, LaTeX, CSV or HTML, and as a figure
      fgdlab report table1_areas          one page with everything about it, to read in a browser
    \b
    Then:
      fgdlab run --method fgd --epochs 1  one student, any setting as a flag; --preset NAME --coco DIR for the paper's
      fgdlab doctor                       whether this machine is ready; with settings, whether they are
      fgdlab data digits | check DIR      the built-in scenes; whether a COCO-format folder can be used
      fgdlab teacher                      train or find the teacher, and measure it
      fgdlab import | export FILE         MMDetection's checkpoints in; a trained student out, as plain weights
      fgdlab seeds SWEEP                  how many more seeds a difference needs
      fgdlab compare RUN_A RUN_B          two detectors on the same images, with the noise of images and of seeds

    Results lie in runs/ of the current folder, what can be made again in the cache ($FGDLAB_HOME). Interrupt and repeat any command: it goes
    on where it stopped.
    """
    if torchrun.world_size() > 1 and ctx.invoked_subcommand != "run":
        raise UserError(f"torchrun must start `fgdlab run`, got {ctx.invoked_subcommand!r}; start that one by itself, a sweep's runs get a card each by --gpus")


for command in (sweep, table, report, run, doctor, data, teacher, import_, export, seeds, compare):
    main.add_command(command)
