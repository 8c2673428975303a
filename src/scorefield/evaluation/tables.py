"""What was measured of restored images: numbers, tables in Markdown, and a sheet of the images."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from scorefield.data.grids import grid
from scorefield.data.image import to_tensor
from scorefield.metrics.confidence import ConfidenceInterval

ORIGINAL = "original"

_LOWER = ("PD", "LPIPS", "FD", "FID", "KD", "KID")
_LINE = 18
_TILE = 128


@dataclass(frozen=True, kw_only=True)
class Row:
    """What was measured of a system.

    Args:
        name: of the system.
        words: how it was set.
        evaluations: of a network for an answer.
        seconds: for an answer, several at once.
        numbers: by name; only the inception-type score has no interval, and there all three are the same.
        above: what the first system has above this one; empty for itself.
    """

    name: str
    words: str
    evaluations: int
    seconds: float
    numbers: dict[str, ConfidenceInterval]
    above: dict[str, ConfidenceInterval]


@dataclass(frozen=True, kw_only=True)
class Table:
    """The systems on one case.

    Args:
        case: as it was written.
        rows: the systems; last the originals.
    """

    case: str
    rows: tuple[Row, ...]

    @property
    def columns(self) -> list[str]:
        """Names of the numbers, in order."""
        return list(dict.fromkeys(name for row in self.rows for name in row.numbers))


@dataclass(frozen=True, kw_only=True)
class Restored:
    """All cases.

    Args:
        images: what was measured on, with its number and digest.
        training: what classical tools were set by; empty if none had to be.
        candidates: answers to each image, for diversity.
        seed: of windows, degradation and answers.
        tables: one for each case.
    """

    images: str
    training: str
    candidates: int
    seed: int
    tables: tuple[Table, ...]

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain data."""
        return asdict(self)


def is_lower_better(column: str) -> bool:
    """Which way a number is good: distances are good when small."""
    return column.partition("[")[0] in _LOWER


def shown(column: str, number: ConfidenceInterval | None, *, signed: bool = False) -> str:
    """A number with its interval, to as many digits as tell something."""
    if number is None:
        return ""
    size = max(abs(number.value), abs(number.high - number.low), 1e-9)
    digits = 2 if column.startswith("PSNR") else 3 if size < 10 else 2 if size < 100 else 1
    if column.startswith(("KD", "KID")):
        digits = 5
    if number.low == number.high:
        return f"{number.value:.{digits}f}"
    return number.text(digits, signed=signed)


def heads(table: Table) -> list[str]:
    """The columns' names, each with an arrow to where it is good."""
    return [
        column if column.startswith("diversity") else f"{column} {'↓' if is_lower_better(column) else '↑'}"
        for column in table.columns
    ]


def numbers(table: Table) -> list[list[str]]:
    """A row for each system, its name first."""
    return [[row.name, *(shown(c, row.numbers.get(c)) for c in table.columns)] for row in table.rows]


def above(table: Table) -> list[list[str]]:
    """What the first system has above each other, a row each; bold where the interval excludes 0."""
    compared = [row for row in table.rows if row.above]
    return [[f"above {row.name}", *(_difference(c, row) for c in table.columns)] for row in compared]


def markdown(report: Restored) -> str:
    """The whole report: what was measured, and two tables for each case."""
    lines = [f"{report.images}; seed {report.seed}. In brackets: 95 % intervals over images."]
    for table in report.tables:
        first = table.rows[0].name
        lines += ["", f"## {table.case}", "", *_markdown(["", *heads(table)], numbers(table))]
        lines += ["", f"What {first} has above the others, on the same images:"]
        lines += ["", *_markdown(["", *heads(table)], above(table)), ""]
        lines += [f"- {row.name}: {_told(row)}" for row in table.rows if row.words]
    if report.training:
        lines += ["", f"Strengths and colors were chosen on {report.training}."]
    return "\n".join(lines) + "\n"


def image_sheet(
    degraded: Tensor,
    answers: Sequence[Tensor],
    originals: Tensor,
    names: Sequence[str],
    *,
    rows: Sequence[int],
) -> Image.Image:
    """Rows of images: degraded, each system's answer, original; names above.

    Args:
        degraded: uint8, (N, C, H, W).
        answers: the same of each system.
        originals: the same.
        names: of the systems.
        rows: which images.
    """
    chosen = torch.tensor(rows)
    across = [degraded[chosen], *(one[chosen] for one in answers), originals[chosen]]
    tiles = torch.stack(across, 1).flatten(0, 1)
    if tiles.shape[1] == 1:
        tiles = tiles.expand(-1, 3, -1, -1)
    scale = max(1, _TILE // tiles.shape[-1])
    below = to_tensor(grid(tiles, columns=len(across), pad=4, scale=scale).convert("RGB"))
    step = tiles.shape[-1] * scale + 4
    font = ImageFont.load_default(12)
    lines = [_wrapped(name, step - 4, font) for name in ("degraded", *names, "original")]
    head = Image.new("RGB", (below.shape[-1], _LINE * max(len(one) for one in lines) + 4), "white")
    pen = ImageDraw.Draw(head)
    for column, words in enumerate(lines):
        for line, text in enumerate(words):
            pen.text((4 + column * step, 2 + line * _LINE), text, fill="black", font=font)
    return Image.fromarray(np.concatenate([np.asarray(head), below.permute(1, 2, 0).numpy()]))


def _wrapped(text: str, width: int, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> list[str]:
    """The text in lines that fit a column, broken anywhere."""
    lines = [""]
    for letter in text:
        if lines[-1] and font.getlength(lines[-1] + letter) > width:
            lines.append("")
        lines[-1] += letter
    return lines


def _difference(column: str, row: Row) -> str:
    number = row.above.get(column)
    text = shown(column, number, signed=True)
    return f"**{text}**" if number is not None and number.excludes_zero else text


def _told(row: Row) -> str:
    return row.words + (f"; {row.seconds * 1000:.3g} ms an image" if row.seconds else "")


def _markdown(head: list[str], rows: list[list[str]]) -> list[str]:
    ruled = ["---", *["---:"] * (len(head) - 1)]
    return [f"| {' | '.join(row)} |" for row in (head, ruled, *rows)]
