"""Reports of restoration methods: numbers, tables in Markdown, and a sheet of the images."""

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

__all__ = [
    "ORIGINAL", "CaseTable", "MethodRow", "RestorationReport", "differences", "heads", "image_sheet",
    "is_lower_better", "markdown", "numbers", "shown",
]  # fmt: skip

ORIGINAL = "original"

_LOWER = ("PD", "LPIPS", "FD", "FID", "KD", "KID")
_LINE = 18
_TILE = 128


@dataclass(frozen=True, kw_only=True)
class MethodRow:
    """The measurements of one method.

    Args:
        name: of the method.
        words: its settings.
        evaluations: of the network for one candidate.
        seconds: for one candidate.
        numbers: by name; the inception-type score has no interval, and its ends equal its value.
        above: paired differences of the first method minus this one; empty for the first.
    """

    name: str
    words: str
    evaluations: int
    seconds: float
    numbers: dict[str, ConfidenceInterval]
    above: dict[str, ConfidenceInterval]


@dataclass(frozen=True, kw_only=True)
class CaseTable:
    """All methods on one case.

    Args:
        case: as the user wrote it.
        rows: the methods, and last the originals.
    """

    case: str
    rows: tuple[MethodRow, ...]

    @property
    def columns(self) -> list[str]:
        """Names of all numbers, in order."""
        return list(dict.fromkeys(name for row in self.rows for name in row.numbers))


@dataclass(frozen=True, kw_only=True)
class RestorationReport:
    """All cases.

    Args:
        images: what was measured on, with its number and digest.
        candidates: restored to each image, for diversity.
        seed: of windows, degradation and restored.
        tables: one for each case.
    """

    images: str
    candidates: int
    seed: int
    tables: tuple[CaseTable, ...]

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain data."""
        return asdict(self)


def is_lower_better(column: str) -> bool:
    """Whether lower is better, as for distances."""
    return column.partition("[")[0] in _LOWER


def shown(column: str, number: ConfidenceInterval | None, *, signed: bool = False) -> str:
    """A number with its interval, to as many digits as are significant."""
    if number is None:
        return ""
    size = max(abs(number.value), abs(number.high - number.low), 1e-9)
    digits = 2 if column.startswith("PSNR") else 3 if size < 10 else 2 if size < 100 else 1
    if column.startswith(("KD", "KID")):
        digits = 5
    if number.low == number.high:
        return f"{number.value:.{digits}f}"
    return number.text(digits, signed=signed)


def heads(table: CaseTable) -> list[str]:
    """The names of the columns, each with an arrow in the direction of better."""
    return [
        column if column.startswith("diversity") else f"{column} {'↓' if is_lower_better(column) else '↑'}"
        for column in table.columns
    ]


def numbers(table: CaseTable) -> list[list[str]]:
    """One row for each method, its name first."""
    return [[row.name, *(shown(c, row.numbers.get(c)) for c in table.columns)] for row in table.rows]


def differences(table: CaseTable) -> list[list[str]]:
    """Paired differences to the first method, one row per other method; bold where the 95 % interval excludes 0."""
    compared = [row for row in table.rows if row.above]
    return [[f"minus {row.name}", *(_difference(c, row) for c in table.columns)] for row in compared]


def markdown(report: RestorationReport) -> str:
    """The whole report: the data, and two tables for each case."""
    lines = [f"{report.images}; seed {report.seed}. In brackets: 95 % intervals over images."]
    for table in report.tables:
        first = table.rows[0].name
        lines += ["", f"## {table.case}", "", *_markdown(["", *heads(table)], numbers(table))]
        lines += ["", f"Paired differences: {first} minus the others, on the same images:"]
        lines += ["", *_markdown(["", *heads(table)], differences(table)), ""]
        lines += [f"- {row.name}: {_settings(row)}" for row in table.rows if row.words]
    return "\n".join(lines) + "\n"


def image_sheet(
    degraded: Tensor,
    restored: Sequence[Tensor],
    originals: Tensor,
    names: Sequence[str],
    *,
    rows: Sequence[int],
) -> Image.Image:
    """Rows of images: degraded, each method's first candidate, original; names above.

    Args:
        degraded: uint8, (N, C, H, W).
        restored: the first candidates of each method.
        originals: the same.
        names: of the methods.
        rows: indices of the images.
    """
    chosen = torch.tensor(rows)
    across = [degraded[chosen], *(one[chosen] for one in restored), originals[chosen]]
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
    """The text in lines that fit the column, broken at any letter."""
    lines = [""]
    for letter in text:
        if lines[-1] and font.getlength(lines[-1] + letter) > width:
            lines.append("")
        lines[-1] += letter
    return lines


def _difference(column: str, row: MethodRow) -> str:
    number = row.above.get(column)
    text = shown(column, number, signed=True)
    return f"**{text}**" if number is not None and number.excludes_zero else text


def _settings(row: MethodRow) -> str:
    return row.words + (f"; {row.seconds * 1000:.3g} ms per candidate" if row.seconds else "")


def _markdown(head: list[str], rows: list[list[str]]) -> list[str]:
    ruled = ["---", *["---:"] * (len(head) - 1)]
    return [f"| {' | '.join(row)} |" for row in (head, ruled, *rows)]
