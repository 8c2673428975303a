"""The images that a user names, each with a name of its own for its results.

A folder's tree is repeated below the folder for the results: the first result of `old/sea/a.jpg`, in the folder `old`,
is `sea/a-1.png`. With several folders, each result keeps its folder's name before that. Images that differ in their
suffix alone keep it: `a.jpg` and `a.png` become `a-jpg-1.png` and `a-png-1.png`.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from scorefield.cli.console import note
from scorefield.cli.manifest import MANIFEST, Manifest
from scorefield.errors import UserError

_LONGEST = 255 - len("-1000-page.jpeg")  # bytes of a stem: file systems take names of 255


@dataclass(frozen=True, kw_only=True)
class Found:
    """An image to restore.

    Args:
        path: where it is.
        name: where it is below the folder that was named, as "sea/a.jpg"; of a single file its own name.
        stem: what the names of its results begin with, as "sea/a".
    """

    path: Path
    name: str
    stem: str


def find_images(inputs: Iterable[Path], out: Path) -> list[Found]:
    """The images that these files and folders are, in order, none twice; those below `out` are results.

    A file that is not there is found too, so that it can be named and the others go on.

    Raises:
        UserError: a folder without images or one that the results would be mixed into, or two images
            whose results would have the same names.
    """
    inputs = list(inputs)
    folders = [path for path in inputs if path.is_dir()]
    named: dict[Path, tuple[Path, str]] = {}
    for given in inputs:
        if not given.is_dir():
            named.setdefault(given.absolute(), (given, given.name))
            continue
        above = f"{given.resolve().name}/" if len(folders) > 1 else ""
        for name in _below(given, out):
            named.setdefault((given / name).absolute(), (given / name, above + name))
    stems = _apart([name for _, name in named.values()])
    found = [Found(path=path, name=name, stem=stems[name]) for path, name in named.values()]
    _tell_apart(found, out)
    return found


def _below(folder: Path, out: Path) -> list[str]:
    """The images of a folder that are not below `out`."""
    from scorefield.data.encode import FORMATS
    from scorefield.data.folder import SUFFIXES, listing

    inside, outside = out.resolve(), folder.resolve()
    if inside == outside:
        raise UserError(out, "is the folder of the images themselves.", "Choose another for the results: --out.")
    try:
        there = listing(folder, suffixes=SUFFIXES | set(FORMATS))
    except UserError as error:
        raise UserError(folder, error.what, "Name an image, or a folder that has some.") from None
    for left in there.skipped:
        note(f"skipped {folder / left.path}: {left.reason}")
    results = {
        (path.parent.relative_to(folder) / name).as_posix()
        for path in folder.rglob(MANIFEST)
        for name in Manifest(out=path.parent).written
    }
    listed = [name for name in there.files if name not in results]
    below = f"{inside.relative_to(outside).as_posix()}/" if inside.is_relative_to(outside) else None
    kept = [name for name in listed if below is None or not name.startswith(below)]
    if not kept:
        raise UserError(folder, "holds no images but results of earlier runs.", "Name the files themselves.")
    return kept


def _apart(names: list[str]) -> dict[str, str]:
    """The stem of every name; those that would be the same keep their suffixes."""
    keep: set[str] = set()
    while True:
        stems = {name: _stem(name, keep=name in keep) for name in names}
        counts = Counter(stems.values())
        again = {name for name, stem in stems.items() if counts[stem] > 1} - keep
        if not again:
            return stems
        keep |= again


def _stem(name: str, *, keep: bool = False) -> str:
    """The name without its suffix, or with it in another way; short enough for the names of results."""
    path = PurePosixPath(name)
    stem = f"{path.stem}-{path.suffix[1:]}" if keep and path.suffix else path.stem
    if len(encoded := os.fsencode(stem)) > _LONGEST:
        cut = encoded[: _LONGEST - 9].decode("utf-8", "ignore")
        stem = f"{cut}-{hashlib.sha256(encoded).hexdigest()[:8]}"
    return str(path.with_name(stem))


def _tell_apart(found: list[Found], out: Path) -> None:
    taken: dict[str, Path] = {}
    for one in found:
        if one.stem in taken:
            raise UserError(
                one.path,
                f"its results would have the names of {taken[one.stem]}'s: {out / one.stem}-1.",
                "Name their common folder instead, or restore them one after another, each with its own --out.",
            )
        taken[one.stem] = one.path
