"""Samples that are written as they are drawn, so that memory is that of a batch and a stopped command goes on.

A folder takes its images as they come. For a .npy or .npz file of several batches, each batch is kept in a hidden
folder beside it, from which the file is put together in the end. `.request.json` says what was asked for, until all is
there: the same command goes on with the first batch that is not whole.
"""

import json
import re
import shutil
import zipfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scorefield.errors import UserError
from scorefield.files import locked, refuse_existing, sweep, write_atomic

if TYPE_CHECKING:
    from torch import Tensor

REQUEST = ".request.json"
BATCH = 64
_ARRAYS = (".npy", ".npz")
_IMAGE = re.compile(r"[0-9]{5,}\.png")


def begun(out: Path) -> bool:
    """Whether a command that was stopped has left samples here, to be gone on with."""
    return (_folder(out) / REQUEST).is_file()


@dataclass(frozen=True, kw_only=True)
class SampleWriter:
    """Writes a series of samples.

    Args:
        out: an image's name for a grid, a .npy or .npz file, or a folder.
        n: how many.
        request: all that the samples depend on, as plain data.
        overwrite: whether samples that are there are replaced.
    """

    out: Path
    n: int
    request: dict[str, Any]
    overwrite: bool = False

    def write(self, draw: "Callable[[int], Iterator[Tensor]]") -> None:
        """Draw and write what is not there yet.

        Args:
            draw: the batches from that number on: uint8, (B, C, H, W).

        Raises:
            UserError: samples of another request are there, or another process writes them.
        """
        from scorefield.data.grids import save_images

        if not self.by_batches:
            import torch

            save_images(torch.cat(list(draw(0))), self.out)
            return
        with self._folder_of_request() as folder:
            first = self._first_missing(folder)
            for number, images in enumerate(draw(first), first):
                self._keep(folder, number, images)
            if self.out.suffix.lower() in _ARRAYS:
                self._assemble(folder)
            (folder / REQUEST).unlink()
        if folder != self.out:
            shutil.rmtree(folder)

    @property
    def by_batches(self) -> bool:
        """Whether each batch is written when it is drawn."""
        suffix = self.out.suffix.lower()
        return (suffix in _ARRAYS and self.n > BATCH) or not suffix or self.out.is_dir()

    @contextmanager
    def _folder_of_request(self) -> Generator[Path]:
        """The folder of the batches, locked, with nothing in it but those of this request."""
        folder = _folder(self.out)
        with locked(folder):
            sweep(folder)
            path = folder / REQUEST
            text = json.dumps(self.request, indent=1, sort_keys=True, default=str)
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                if not self.overwrite and path.is_file():
                    what = "holds a part of other samples; a stopped command left it."
                    raise UserError(self.out, what, "Give the same command, choose another name or pass --overwrite.")
                if folder == self.out:
                    refuse_existing(folder, overwrite=self.overwrite)
                for found in folder.iterdir():
                    if _IMAGE.fullmatch(found.name) or found.suffix == ".npy":
                        found.unlink()
                write_atomic(path, text)
            yield folder

    def _first_missing(self, folder: Path) -> int:
        """The number of the first batch that is not whole."""
        batches = -(-self.n // BATCH)
        return next((k for k in range(batches) if not all(path.is_file() for path in self._paths(folder, k))), batches)

    def _paths(self, folder: Path, number: int) -> list[Path]:
        if self.out.suffix.lower() in _ARRAYS and not self.out.is_dir():
            return [folder / f"{number:08}.npy"]
        digits = max(5, len(str(self.n - 1)))
        return [folder / f"{i:0{digits}}.png" for i in range(number * BATCH, min(self.n, (number + 1) * BATCH))]

    def _keep(self, folder: Path, number: int, images: "Tensor") -> None:
        from scorefield.data.grids import save_image, save_images
        from scorefield.data.image import to_pil

        paths = self._paths(folder, number)
        if paths[0].suffix == ".npy":
            save_images(images, paths[0])
            return
        for path, image in zip(paths, images, strict=True):
            if not path.is_file():
                save_image(to_pil(image), path)

    def _assemble(self, folder: Path) -> None:
        """The one file of all batches, (N, H, W, C)."""
        import numpy as np

        from scorefield.data.encode import writing

        parts = [self._paths(folder, number)[0] for number in range(-(-self.n // BATCH))]
        shape = np.load(parts[0], mmap_mode="r").shape
        header = {"descr": "|u1", "fortran_order": False, "shape": (self.n, *shape[1:])}
        with writing(self.out) as whole:
            zipped = self.out.suffix.lower() == ".npz"
            archive = zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) if zipped else None
            with (
                whole.open("wb") if archive is None else archive.open("arr_0.npy", "w", force_zip64=True)
            ) as file:  # as numpy names an array without a name
                np.lib.format.write_array_header_1_0(file, header)
                for part in parts:
                    file.write(np.load(part).tobytes())
            if archive is not None:
                archive.close()


def _folder(out: Path) -> Path:
    """Where batches are kept until all are drawn."""
    one_file = out.suffix.lower() in _ARRAYS and not out.is_dir()
    return out.with_name(f".{out.name}.batches") if one_file else out


__all__ = ["BATCH", "SampleWriter", "begun"]
