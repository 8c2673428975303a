"""scorefield inpaint and uncrop."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scorefield.cli.console import note, tell
from scorefield.cli.inputs import Found, find_images
from scorefield.cli.planned import Work, check_request
from scorefield.cli.restore_options import Restoring, restores
from scorefield.cli.runs import mend
from scorefield.errors import UserError
from scorefield.files import refuse_existing

if TYPE_CHECKING:
    from scorefield.model import ScoreModel


@restores
def inpaint(
    request: Restoring,
    *,
    mask: Annotated[
        str,
        typer.Option(
            "--mask",
            help="What to fill: an image that is white there; a folder of such images, named like those "
            "to restore; alpha, what is transparent; center, left, right, top, bottom; brush:SEED, boxes:SEED.",
        ),
    ] = "center",
    invert: Annotated[bool, typer.Option("--invert", help="Fill the mask's black instead.")] = False,
    preview: Annotated[
        bool, typer.Option("--preview", help="Restore nothing; show in red what would be filled.")
    ] = False,
) -> None:
    """Fill in what is missing of images; known pixels come back byte for byte.

    Example: scorefield inpaint photo.jpg --mask scratches.png --out restored
    """
    mask_of = _masks(mask)
    if preview:
        _preview(request, mask_of, invert=invert)
        return
    mend(request, Work(task="inpaint", settings=lambda one: {"mask": mask_of(one), "invert": invert}))


@restores
def uncrop(
    request: Restoring,
    *,
    sides: Annotated[
        str, typer.Option("--sides", help="Where to draw on: out of top,right,bottom,left.")
    ] = "left,right",
    amount: Annotated[
        float, typer.Option("--amount", help="How much, as a part of the image's width or height.")
    ] = 0.5,
    times: Annotated[
        int, typer.Option("--times", min=1, help="Draw on so often, each time beyond the last: a panorama.")
    ] = 1,
) -> None:
    """Draw images on beyond their edges; their own pixels come back byte for byte.

    Example: scorefield uncrop view.jpg --sides left,right --amount 0.5 --out wide
    """
    named = [side.strip() for side in sides.split(",") if side.strip()]
    settings = {"sides": named, "amount": amount, "times": times}
    check = partial(_check_uncrop, named, amount)
    mend(request, Work(task="uncrop", settings=lambda _: settings, check=check))


def _check_uncrop(sides: list[str], amount: float, model: "ScoreModel") -> None:
    from scorefield.restoration.tasks import TASKS, Request

    TASKS["uncrop"].degradation(Request(sides=sides, amount=amount), "", (64, 64), model)


def _masks(mask: str) -> Callable[[Found], str]:
    """From an image to its mask, as `restoration.restore` takes it.

    Raises:
        UserError: no such name, file or folder, or a folder without images.
    """
    from scorefield.degradations import named_mask

    folder = Path(mask)
    if not folder.is_dir():
        if not folder.exists() and mask != "alpha":
            named_mask(mask, (64, 64))  # or a clear word
        return lambda _: mask
    from scorefield.data.folder import list_images

    try:
        listed = list_images(folder)
    except UserError as error:
        raise UserError(folder, error.what, "Name a folder of masks, or one mask.") from None
    same = {name: name for name in listed}
    stems = {str(Path(name).with_suffix("")): name for name in listed}

    def mask_of(one: Found) -> str:
        name = same.get(one.name) or stems.get(str(Path(one.name).with_suffix("")))
        if name is None:
            raise UserError(one.path, f"has no mask: {folder / one.name} is not there.", "White = fill.")
        return str(folder / name)

    return mask_of


def _preview(request: Restoring, mask_of: Callable[[Found], str], *, invert: bool) -> None:
    """Write `stem`-preview.png of every image: in red what would be filled."""
    from scorefield.data.grids import save_image
    from scorefield.data.image import read_image
    from scorefield.degradations import mask_preview, named_mask

    check_request(request)
    found = find_images(request.inputs, request.out)
    paths = [request.out / f"{one.stem}-preview.png" for one in found]
    for path in paths:
        refuse_existing(path, overwrite=request.overwrite, mend="Choose another --out or pass --overwrite.")
    failed = False
    for one, path in zip(found, paths, strict=True):
        try:
            image = read_image(one.path)
            size = (image.height, image.width)
            made = named_mask(mask_of(one), size, invert=invert, image=one.path)
            save_image(mask_preview(image, made.fill), path)
        except UserError as error:
            line = str(error) if str(one.path) in str(error) else f"{one.path}: {error}"
            note(f"scorefield: {line}")
            failed = True
            continue
        share = float(made.fill.mean())
        tell(f"{one.path} -> {path} ({share:.0%} to fill)")
    if failed:
        raise typer.Exit(2)
