"""The images that a user names, each with a name of its own for its results.

A folder's tree is repeated below the folder for the results: the first result of `old/sea/a.jpg`, in the folder `old`,
is `sea/a-1.png`. With several folders, each result keeps its folder's name before that. Images that differ in their
suffix alone keep it: `a.jpg` and `a.png` become `a-jpg-1.png` and `a-png-1.png`.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from scorefield.cli.compact import Names, NameSet, repeated
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


@dataclass(frozen=True, kw_only=True)
class _Given:
    """A folder, or the folder of a file, with the names of its images and what stands before them."""

    root: Path
    above: str
    names: Names


_PLAIN, _WITH_SUFFIX = 1, 2  # how an image's stem follows from its name; 0: it was found before


class FoundImages:
    """The images that were found, in order: their names alone are in memory.

    Args:
        given: where.
        ways: of each, how its stem follows from its name.
    """

    def __init__(self, given: Sequence[_Given], ways: bytes) -> None:
        self._given, self._ways = given, ways
        self._n = len(ways) - ways.count(0)

    def __len__(self) -> int:
        """How many there are."""
        return self._n

    def __iter__(self) -> Iterator[Found]:
        """The images."""
        for (path, name), way in zip(_all(self._given), self._ways, strict=True):
            if way:
                yield Found(path=path, name=name, stem=_stem(name, keep=way == _WITH_SUFFIX))


def find_images(inputs: Iterable[Path], out: Path) -> FoundImages:
    """The images that these files and folders are, in order, none twice; those below `out` are results.

    A file that is not there is found too, so that it can be named and the others go on. Results of earlier runs among
    other images are none. Of a folder that holds nothing but such results, these are the images, without their sheets.

    Raises:
        UserError: a folder without images or one that the results would be mixed into, or two images
            whose results would have the same names.
    """
    inputs = list(inputs)
    several = sum(path.is_dir() for path in inputs) > 1
    given = [
        _Given(root=path, above=f"{path.resolve().name}/" if several else "", names=_below(path, out))
        if path.is_dir()
        else _Given(root=path.parent, above="", names=Names([path.name]))
        for path in inputs
    ]
    n = sum(len(one.names) for one in given)
    ways = bytearray([_PLAIN]) * n
    if len(given) > 1:
        _, before = repeated((str(path.absolute()) for path, _ in _all(given)), n)
        for index in before.nonzero()[0]:
            ways[index] = 0
    _apart(given, ways, out)
    return FoundImages(given, bytes(ways))


def _all(given: Iterable[_Given]) -> Iterator[tuple[Path, str]]:
    return ((one.root / name, one.above + name) for one in given for name in one.names)


def _below(folder: Path, out: Path) -> Names:
    """The images of a folder that are not below `out`."""
    from scorefield.data.encode import FORMATS
    from scorefield.data.folder import SUFFIXES, Scan

    inside, outside = out.resolve(), folder.resolve()
    if inside == outside:
        raise UserError(out, "is the folder of the images themselves.", "Choose another for the results: --out.")
    scan = Scan(folder=folder, suffixes=SUFFIXES | set(FORMATS))
    below = f"{inside.relative_to(outside).as_posix()}/" if inside.is_relative_to(outside) else "\0"
    there = Names(name for name in scan if not name.startswith(below))
    if not scan.images:
        raise UserError(folder, scan.nothing().what, "Name an image, or a folder that has some.")
    for left in scan.skipped:
        note(f"skipped {folder / left.path}: {left.reason}")
    within, around = _manifests(folder, there)
    written = NameSet(_named(within + around, lambda manifest: manifest.written))
    if kept := Names(name for name in there if name not in written):
        return kept
    results = NameSet(_named(around, lambda manifest: manifest.results))
    if kept := Names(name for name in there if name in results):
        return kept
    mend = "Name the files themselves, or the folder that has their manifest.jsonl."
    raise UserError(folder, "holds no images but results of earlier runs.", mend)


_Manifests = list[tuple[Manifest, str, str]]


def _manifests(folder: Path, names: Names) -> tuple[_Manifests, _Manifests]:
    """The manifests below a folder, and those in it and above it, each with what it puts before and takes off names."""
    folders = {name.rpartition("/")[0] for name in names}
    folders = {str(above) for name in folders for above in (PurePosixPath(name), *PurePosixPath(name).parents)} - {"."}
    within = [(Manifest(out=folder / name), f"{name}/", "") for name in sorted(folders)]
    inner = folder.resolve()
    above = [(Manifest(out=one), "", f"{inner.relative_to(one).as_posix()}/") for one in inner.parents]
    around = [(Manifest(out=folder), "", ""), *above]
    return [one for one in within if _is_there(one[0])], [one for one in around if _is_there(one[0])]


def _is_there(manifest: Manifest) -> bool:
    return (manifest.out / MANIFEST).is_file()


def _named(manifests: _Manifests, names_of: Callable[[Manifest], Iterator[str]]) -> Iterator[str]:
    """The names that manifests hold, as they are below the folder that was named."""
    for manifest, before, off in manifests:
        for name in names_of(manifest):
            if name.startswith(off):
                yield before + name.removeprefix(off)


def _apart(given: Sequence[_Given], ways: bytearray, out: Path) -> None:
    """Have the names that would give the same stem keep their suffixes.

    Raises:
        UserError: two stems are the same even so.
    """
    while True:
        images = FoundImages(given, bytes(ways))
        places = [index for index, way in enumerate(ways) if way] if 0 in ways else range(len(ways))
        often, _ = repeated((one.stem for one in images), len(images))
        again = [places[i] for i in often.nonzero()[0] if ways[places[i]] == _PLAIN]
        if not again:
            break
        for index in again:
            ways[index] = _WITH_SUFFIX
    taken: dict[str, Path] = {}
    for one, twice in zip(images, often, strict=True):
        if twice and one.stem in taken:
            raise UserError(
                one.path,
                f"its results would have the names of {taken[one.stem]}'s: {out / one.stem}-1.",
                "Name their common folder instead, or restore them one after another, each with its own --out.",
            )
        if twice:
            taken[one.stem] = one.path


def _stem(name: str, *, keep: bool = False) -> str:
    """The name without its suffix, or with it in another way; short enough for the names of results."""
    path = PurePosixPath(name)
    stem = f"{path.stem}-{path.suffix[1:]}" if keep and path.suffix else path.stem
    if len(encoded := os.fsencode(stem)) > _LONGEST:
        cut = encoded[: _LONGEST - 9].decode("utf-8", "ignore")
        stem = f"{cut}-{hashlib.sha256(encoded).hexdigest()[:8]}"
    return str(path.with_name(stem))
