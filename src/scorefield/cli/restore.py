"""scorefield colorize, dejpeg, upscale, deblur and restore."""

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from scorefield.cli.planned import Work
from scorefield.cli.restore_options import Restoring, restores
from scorefield.cli.runs import mend

if TYPE_CHECKING:
    from scorefield.model import ScoreModel


@restores
def colorize(
    request: Restoring,
    *,
    keep_luminance: Annotated[
        bool,
        typer.Option(
            "--keep-luminance/--own-luminance",
            help="Keep the image's own light and dark to the last detail, and take the colors alone.",
        ),
    ] = True,
) -> None:
    """Color grey images, each one or a whole folder of them.

    An image in color is made grey first, and stands last on the sheet.

    Example: scorefield colorize old.jpg --out colored
    """
    mend(request, Work(task="colorize", settings=lambda _: {"keep_luminance": keep_luminance}))


@restores
def dejpeg(
    request: Restoring,
    *,
    quality: Annotated[
        int | None,
        typer.Option("--quality", help="Of the JPEG file, 1 to 100; by default read from the file itself."),
    ] = None,
) -> None:
    """Undo JPEG: what the images may have been before, without its blocks.

    Example: scorefield dejpeg photos --out clean
    """
    from scorefield.degradations import parse_degradation

    if quality is not None:
        parse_degradation(f"jpeg:{quality}")
    mend(request, Work(task="dejpeg", settings=lambda _: {"quality": quality}))


@restores
def upscale(
    request: Restoring,
    *,
    factor: Annotated[
        int | None,
        typer.Option("--factor", min=2, help="How many times; by default up to the model's own size."),
    ] = None,
) -> None:
    """Enlarge images, and draw what was too small to be seen.

    Example: scorefield upscale small.png --model runs/photos --factor 2 --out large
    """
    mend(request, Work(task="upscale", settings=lambda _: {"factor": factor}))


@restores
def deblur(
    request: Restoring,
    *,
    std: Annotated[float, typer.Option("--std", help="How wide the blur is: its standard deviation, in pixels.")] = 1.0,
) -> None:
    """Sharpen images that are out of focus.

    Example: scorefield deblur soft.png --model runs/photos --std 1.5 --out sharp
    """
    from scorefield.degradations import parse_degradation

    parse_degradation(f"blur:{std}")
    mend(request, Work(task="deblur", settings=lambda _: {"std": std}))


@restores
def restore(
    request: Restoring,
    *,
    degradation: Annotated[
        list[str],
        typer.Option(
            "--degradation",
            help="What the images went through, once for each degradation, in order: grey, downscale:4, blur:2, "
            "jpeg:10, noise:25, scratches, mask:left, mask:FILE, crop:8 (pixels cut off around) or "
            "crop:TOP,RIGHT,BOTTOM,LEFT.",
        ),
    ],
    simulate: Annotated[
        bool, typer.Option("--simulate", help="The inputs are clean: do the degradation first, to try it out.")
    ] = False,
    noise: Annotated[
        float,
        typer.Option("--noise", min=0, help="Gaussian noise in the images: standard deviation, of 255."),
    ] = 0.0,
) -> None:
    """Restore images that went through one degradation or several.

    Example: scorefield restore old.jpg --degradation grey --degradation jpeg:20 --out restored

    To try it on a clean image: add --simulate; the sheet then ends with the original.
    """
    from scorefield.degradations import parse_degradation

    parse_degradation(degradation)
    settings = {"degradation": degradation, "simulate": simulate, "noise": noise}
    check = partial(_check_learned, degradation, request.method)
    mend(request, Work(task="restore", settings=lambda _: settings, check=check))


def _check_learned(degradation: list[str], method: str | None, model: "ScoreModel") -> None:
    from scorefield.restoration import approach
    from scorefield.restoration.tasks import tasks_named

    for task in tasks_named(degradation):
        approach(model, method, task=task)
