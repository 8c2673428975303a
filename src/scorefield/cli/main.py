"""The program: its verbs, and how it ends.

Exit codes: 0 done, or nothing needed doing; 1 a failure; 2 a mistake of the user's; 3 some images of a folder failed
and the rest are done; 128 and its number a signal (after saving): 130 for Ctrl-C, 143 for SIGTERM, 129 for a closed
terminal.
"""

import errno
import os
import sys
import warnings
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from scorefield import __version__
from scorefield.cli import (
    compare,
    data,
    demo,
    doctor,
    evaluate,
    figures,
    models,
    restore,
    sample,
    train,
)
from scorefield.cli.console import note
from scorefield.errors import UserError, printable
from scorefield.files import disk_is_full
from scorefield.kernels.malloc import tune_malloc

_CTRL_C = 130

app = typer.Typer(
    name="scorefield",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help=(
        "Generate and restore images by the gradient of the data distribution.\n\n"
        "Start with: scorefield demo. Then: scorefield VERB --help; each shows an example."
    ),
)
for verb in (
    demo.demo,
    train.train,
    sample.sample,
    restore.inpaint,
    restore.uncrop,
    restore.colorize,
    restore.dejpeg,
    restore.denoise,
    restore.upscale,
    restore.deblur,
    restore.descratch,
    restore.restore,
    evaluate.evaluate,
    compare.compare,
    doctor.doctor,
):
    app.command()(verb)
app.add_typer(data.app, name="data")
app.add_typer(figures.app, name="figures")
app.add_typer(models.app, name="models")


def _version(requested: bool) -> None:
    if requested:
        typer.echo(f"scorefield {__version__}")
        raise typer.Exit


@app.callback()
def options(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_version)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    modules: Annotated[
        list[str] | None,
        typer.Option(
            "--import",
            metavar="MODULE",
            help="Import a module of your own first, one that registers networks, say; may be repeated.",
        ),
    ] = None,
) -> None:
    """Options of the program as a whole."""
    tune_malloc()
    warnings.showwarning = _show_warning
    if not debug:
        warnings.filterwarnings("ignore", module=r"(?!scorefield)")
    for name in modules or ():
        _import(name)


def _show_warning(message: Warning | str, *place: object) -> None:
    """A warning in one line, without the place in the code that it comes from."""
    note(f"scorefield: {_one_line(message)}")


def _import(name: str) -> None:
    """Import a module by its name; the working directory is searched last.

    Raises:
        UserError: no such module, or it fails.
    """
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        import_module(name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == name:
            mend = "Give a module's name, without .py, from the working directory or installed."
            raise UserError(f"--import {name}", "no such module.", mend) from error
        raise UserError(f"--import {name}", f"{type(error).__name__}: {error}") from error


def main() -> None:
    """Run the program and exit with its code."""
    message = ""
    try:
        code = app(standalone_mode=False)
        message = "stopped." if code == _CTRL_C else ""  # Typer makes an exit code of it, and no word
    except KeyboardInterrupt:
        message, code = "stopped.", _CTRL_C
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        message, code = _verdict(error)
    with suppress(OSError):  # a terminal that was closed takes no words
        if message:
            typer.echo(f"scorefield: {printable(message)}", err=True)
    sys.exit(code if isinstance(code, int) else 0)


def _verdict(error: BaseException) -> tuple[str, int]:
    """One line and an exit code for whatever went wrong; no line where the help was shown already."""
    context = error.__context__
    while context is not None:  # a signal comes first: after it a terminal that was closed may raise errors of its own
        if type(context).__name__ == "Interrupted":
            return _verdict(context)
        context = context.__context__
    line, code = _own_verdict(error)
    return " ".join([line, *map(_one_line, getattr(error, "__notes__", ()))]), code


def _own_verdict(error: BaseException) -> tuple[str, int]:
    if disk_is_full(error):
        where = getattr(error, "where", None) or getattr(error, "filename", None) or "output"
        return f"{where}: the disk is full. Free some room; what was saved before is whole.", 1
    if isinstance(error, UserError):
        return _one_line(error), 2
    if isinstance(error, typer.TyperException):
        line = _one_line(error.format_message())
        ended = line if line.endswith("?") else f"{line.rstrip('.')}."
        return (f"{ended} See --help." if line else ""), 2
    if isinstance(error, typer.Abort):
        return "stopped.", _CTRL_C
    if type(error).__name__ == "Interrupted":
        resume = "Go on with the same command and --resume auto."
        return f"{error}. {resume}", 128 + int(getattr(error, "signum", 2))
    if isinstance(error, OSError) and error.errno == errno.EPIPE:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return "the reader of the output went away.", 1
    line = _one_line(error) or type(error).__name__
    return f"{line} (scorefield --debug VERB … shows where)", 1


def _one_line(text: object) -> str:
    return " ".join(str(text).split())
