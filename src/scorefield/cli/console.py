"""What commands print: results to standard output, progress to standard error."""

import json
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scorefield.errors import printable
from scorefield.files import atomic, refuse_existing, write_atomic

if TYPE_CHECKING:
    from rich.console import Console

Show = Callable[[float, str], None]
"""Shows the share done, 0 to 1, and a few words."""


@contextmanager
def progress(title: str) -> Generator[Show]:
    """A bar with elapsed and remaining time; plain lines where there is no terminal."""
    if not _console(stderr=True).is_terminal:
        yield _plain(title)
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.percentage:3.0f}%"))
    clock = (
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[words]}", markup=False),
    )
    with Progress(*columns, *clock, console=_console(stderr=True), transient=True) as bar:
        task = bar.add_task(printable(title), total=1.0, words="")
        yield lambda share, words="": bar.update(task, completed=share, words=printable(words))


def _plain(title: str) -> Show:
    begun = reported = time.monotonic()

    def show(share: float, words: str = "") -> None:
        nonlocal reported
        now = time.monotonic()
        if share > 0 and now - reported >= 5:
            reported = now
            left = (now - begun) * (1 / share - 1)
            note(f"{title} {share:.0%}, ETA {left:.0f} s {words}".rstrip())

    return show


def tell(*lines: str) -> None:
    """Lines for people."""
    for line in lines:
        _console().print(printable(line), soft_wrap=True, markup=False)


def note(text: str) -> None:
    """A line about the way, to standard error."""
    _console(stderr=True).print(printable(text), soft_wrap=True, markup=False)


def table(rows: dict[str, Any], title: str = "") -> None:
    """Names and values, one a line, never broken: a path can be copied."""
    if title:
        tell(title)
    width = max((len(name) for name in rows), default=0)
    for name, value in rows.items():
        tell(f"{name:<{width}}  {f'{value:.4g}' if isinstance(value, float) else value}")


def columns(title: str, header: list[str], rows: list[list[str]]) -> None:
    """A table of text, a line each row, never broken."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    tell("", title)
    made = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for i, name in enumerate(header):
        made.add_column(Text(printable(name)), justify="right" if i else "left", no_wrap=True)
    for row in rows:
        made.add_row(*(Text(printable(cell)) for cell in row))
    _console(width=10_000).print(made, crop=False)


def require_free(*paths: Path | None, overwrite: bool) -> None:
    """See, before any work, that what a command will write is not there yet.

    Raises:
        UserError: something is, and overwriting was not requested.
    """
    for path in paths:
        if path is not None:
            refuse_existing(path, overwrite=overwrite)


def write_json(path: Path | None, values: Any) -> None:
    """Write the results, if a file was named."""
    if path is not None:
        write_atomic(path, json.dumps(values, indent=2, default=str) + "\n")


def write_json_list(path: Path, values: Iterable[Any]) -> None:
    """Write the results of many images, one after another."""
    with atomic(path) as part, part.open("w", encoding="utf-8") as file:
        file.write("[")
        for k, value in enumerate(values):
            file.write(",\n" if k else "\n")
            json.dump(value, file, indent=2, default=str)
        file.write("\n]\n")


@cache
def _console(*, stderr: bool = False, width: int | None = None) -> "Console":
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, emoji=False, width=width)
