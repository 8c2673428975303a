"""The log of a run: a CSV file, and TensorBoard's where it is installed."""

import csv
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from scorefield.training.state import LOG, trim_log

COLUMNS = ("step", "images", "seconds", "loss", "lr", "gradient_norm", "images_per_second", "data_share", "skipped")


class RunLog:
    """Appends rows of COLUMNS; a context.

    Args:
        run: the run's folder.
        step: where the run starts or resumes; later rows of an earlier session are removed.
    """

    def __init__(self, run: Path, *, step: int) -> None:
        self._run = run
        self._open(step)

    def _open(self, step: int) -> None:
        trim_log(self._run, step)
        path = self._run / LOG
        fresh = not path.is_file()
        columns = COLUMNS if fresh else path.read_text(encoding="utf-8").partition("\n")[0].split(",")
        self._file = path.open("a", newline="", encoding="utf-8")
        self._csv: csv.DictWriter[str] = csv.DictWriter(
            self._file, columns, restval="", extrasaction="ignore", lineterminator="\n"
        )
        if fresh:
            self._csv.writeheader()
        self._board: Any = None
        if find_spec("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415

            self._board = SummaryWriter(str(self._run / "tensorboard"), purge_step=step + 1)

    def rewind(self, step: int) -> None:
        """Remove the rows after `step`, to which training went back."""
        self._close()
        self._open(step)

    def row(self, values: Mapping[str, float]) -> None:
        """Write one row; `values` has a number for every column."""
        self._csv.writerow(
            {key: f"{value:.6g}" if isinstance(value, float) else value for key, value in values.items()}
        )
        self._file.flush()
        if self._board is not None:
            for key, value in values.items():
                self._board.add_scalar(f"train/{key}", value, int(values["step"]))

    def image(self, name: str, pixels: Any, step: int) -> None:
        """Show an image, uint8 (H, W, C), on the board."""
        if self._board is not None:
            self._board.add_image(name, pixels, step, dataformats="HWC")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()


__all__ = ["COLUMNS", "RunLog"]
