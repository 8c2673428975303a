"""Samples that are written as they are drawn, so that memory is that of a batch and a stopped command goes on.

A folder belongs to one command at a time and takes its images as they come. For a .npy or .npz file of several
batches, each batch is kept in a hidden folder beside it, from which the file is put together in the end.
`.request.json` says what was asked for, until all is there: the same command goes on with the first batch that is not
whole.
"""

import json
import zipfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
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
        from scorefield.data.grids import remove_numbered, save_images

        if not self.by_batches:
            import torch

            drawn = torch.cat(list(draw(0)))
            refuse_existing(self.out, overwrite=self.overwrite)  # again: another command may have written it meanwhile
            save_images(drawn, self.out)
            return
        with self._folder_of_request() as (folder, written):
            first = min(written, self._first_missing(folder))
            for number, images in enumerate(draw(first), first):
                self._keep(folder, number, images)
                self._note(folder, number + 1)
            if self._one_file:
                refuse_existing(self.out, overwrite=self.overwrite)
                self._assemble(folder)
            else:
                remove_numbered(folder, keep=self.n)
            (folder / REQUEST).unlink()
            if self._one_file:
                for part in self._parts(folder):
                    part.unlink()
        if self._one_file:
            with suppress(OSError):  # another command has begun here
                folder.rmdir()

    @property
    def _one_file(self) -> bool:
        return _is_array(self.out)

    @property
    def by_batches(self) -> bool:
        """Whether each batch is written when it is drawn."""
        if self._one_file:
            return self.n > BATCH or begun(self.out)
        return not self.out.suffix or self.out.is_dir()

    @contextmanager
    def _folder_of_request(self) -> Generator[tuple[Path, int]]:
        """The folder of the batches, locked, and how many of this request are in it."""
        folder = _folder(self.out)
        with locked(folder):
            sweep(folder)
            written, path = 0, folder / REQUEST
            if path.is_file():
                told = json.loads(path.read_text(encoding="utf-8"))
                if told["request"] == self._plain_request():
                    written = int(told["batches"])
                elif not self.overwrite:
                    what = "holds a part of other samples; a stopped command left it."
                    raise UserError(self.out, what, "Give the same command, choose another name or pass --overwrite.")
            elif folder == self.out:
                refuse_existing(folder, overwrite=self.overwrite)
            self._note(folder, written)
            yield folder, written

    def _plain_request(self) -> Any:
        return json.loads(json.dumps(self.request, default=str))

    def _note(self, folder: Path, batches: int) -> None:
        text = json.dumps({"batches": batches, "request": self._plain_request()}, indent=1)
        write_atomic(folder / REQUEST, text)

    def _first_missing(self, folder: Path) -> int:
        """The number of the first batch that is not whole."""
        whole = (all(path.is_file() for path in self._paths(folder, k)) for k in range(self._batches))
        return next((k for k, there in enumerate(whole) if not there), self._batches)

    @property
    def _batches(self) -> int:
        return -(-self.n // BATCH)

    def _parts(self, folder: Path) -> list[Path]:
        """The batches' files, of one file in the end."""
        return [path for number in range(self._batches) for path in self._paths(folder, number)]

    def _paths(self, folder: Path, number: int) -> list[Path]:
        if self._one_file:
            return [folder / f"{number:08}.npy"]
        from scorefield.data.grids import numbered_name

        indices = range(number * BATCH, min(self.n, (number + 1) * BATCH))
        return [folder / numbered_name(index, self.n) for index in indices]

    def _keep(self, folder: Path, number: int, images: "Tensor") -> None:
        from scorefield.data.grids import save_image, save_images
        from scorefield.data.image import to_pil

        paths = self._paths(folder, number)
        if paths[0].suffix == ".npy":
            save_images(images, paths[0])
            return
        for path, image in zip(paths, images, strict=True):
            save_image(to_pil(image), path)

    def _assemble(self, folder: Path) -> None:
        """The one file of all batches, (N, H, W, C)."""
        import numpy as np

        from scorefield.data.encode import writing

        parts = self._parts(folder)
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


def _is_array(out: Path) -> bool:
    return out.suffix.lower() in _ARRAYS and not out.is_dir()


def _folder(out: Path) -> Path:
    """Where batches are kept until all are drawn."""
    return out.with_name(f".{out.name}.batches") if _is_array(out) else out


__all__ = ["BATCH", "SampleWriter", "begun"]
