"""Pairs of images before and after, as a folder holds them.

    FOLDER/before/NAME.png  →  FOLDER/after/NAME.jpg          (or input/ and target/)

The two of a pair are called alike but for the suffix, in sub-folders too, and have the same size.
"""

from dataclasses import dataclass
from pathlib import Path

from scorefield.data.folder import list_images
from scorefield.data.image import ImageReadError, header
from scorefield.errors import UserError

LAYOUTS = (("before", "after"), ("input", "target"))
"""Names of the two sub-folders: the degraded images, and how they should be."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two images of the same size.

    Args:
        name: of both, without suffix, from the sub-folder on.
        before: the degraded one.
        after: how it should be.
        size: (H, W) of both.
    """

    name: str
    before: Path
    after: Path
    size: tuple[int, int]


def pair_folders(folder: str | Path) -> tuple[Path, Path]:
    """The sub-folders of the degraded images and of those that they should be.

    Raises:
        UserError: no folder, or no such two in it.
    """
    root = Path(folder)
    if not root.is_dir():
        raise UserError(folder, "is no folder.", "Pairs lie in its sub-folders before and after.")
    for layout in LAYOUTS:
        before, after = (root / name for name in layout)
        if before.is_dir() and after.is_dir():
            return before, after
    raise UserError(folder, "has no sub-folders before and after, or input and target.")


def read_pairs(folder: str | Path) -> tuple[Pair, ...]:
    """All pairs of a folder, by name; no image is decoded.

    Raises:
        UserError: no such sub-folders, an empty one, an image without partner or with two of one name, one
            that cannot be read, or a partner of another size.
    """
    sides = pair_folders(folder)
    files = [_by_name(side) for side in sides]
    for here, there, side in ((files[0], files[1], sides[1]), (files[1], files[0], sides[0])):
        alone = sorted(here.keys() - there.keys())
        if alone:
            rest = len(alone) - 1
            more = f"Nor {'has 1 other' if rest == 1 else f'have {rest} others'}." if rest else ""
            raise UserError(here[alone[0]], f"has no partner of that name in {side.name}/.", more)
    return tuple(_pair(name, files[0][name], files[1][name]) for name in sorted(files[0]))


def _by_name(side: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for name in list_images(side):
        path = side / name
        key = Path(name).with_suffix("").as_posix()
        if key in found:
            raise UserError(path, f"is called as {found[key].name} is.", "Keep one of the two.")
        found[key] = path
    return found


def _pair(name: str, before: Path, after: Path) -> Pair:
    sizes: list[tuple[int, int]] = []
    for path in (before, after):
        try:
            sizes.append(header(path)[0])
        except ImageReadError as problem:
            raise UserError(path, f"{problem}.") from None
    (h, w), (other_h, other_w) = sizes
    if sizes[0] != sizes[1]:
        raise UserError(
            before, f"is {w}×{h}, its partner {other_w}×{other_h}.", "The two of a pair have the same size."
        )
    return Pair(name=name, before=before, after=after, size=(h, w))
