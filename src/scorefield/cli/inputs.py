"""The images that a user names, each with a name of its own for its results.

A folder's tree is repeated below the folder for the results: the first result of `old/sea/a.jpg`, in the folder `old`,
is `sea/a-1.png`. With several folders, each result keeps its folder's name before that. Images that differ in their
suffix alone keep it: `a.jpg` and `a.png` become `a-jpg-1.png` and `a-png-1.png`.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from scorefield.errors import UserError


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
    stems = Counter(_stem(name) for _, name in named.values())
    found = [
        Found(path=path, name=name, stem=_stem(name, keep=stems[_stem(name)] > 1)) for path, name in named.values()
    ]
    _tell_apart(found, out)
    return found


def _below(folder: Path, out: Path) -> list[str]:
    """The images of a folder that are not below `out`."""
    from scorefield.data.encode import FORMATS
    from scorefield.data.folder import SUFFIXES, list_images

    inside, outside = out.resolve(), folder.resolve()
    if inside == outside:
        raise UserError(out, "is the folder of the images themselves.", "Choose another for the results: --out.")
    try:
        listed = list_images(folder, suffixes=SUFFIXES | set(FORMATS))
    except UserError as error:
        raise UserError(folder, error.what, "Name an image, or a folder that has some.") from None
    below = f"{inside.relative_to(outside).as_posix()}/" if inside.is_relative_to(outside) else None
    kept = [name for name in listed if below is None or not name.startswith(below)]
    if not kept:
        raise UserError(folder, f"holds no images but the results in {out}.", "Name one with others.")
    return kept


def _stem(name: str, *, keep: bool = False) -> str:
    """The name without its suffix, or with it in another way."""
    path = PurePosixPath(name)
    return str(path.with_name(f"{path.stem}-{path.suffix[1:]}" if keep and path.suffix else path.stem))


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
