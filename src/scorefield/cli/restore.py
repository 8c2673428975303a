"""scorefield colorize, dejpeg, upscale, deblur and restore."""

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from scorefield.cli.mending import Mending, mends
from scorefield.cli.planned import Work
from scorefield.cli.runs import mend

if TYPE_CHECKING:
    from scorefield.model import ScoreModel


@mends
def colorize(
    wish: Mending,
    *,
    keep_luminance: Annotated[
        bool,
        typer.Option(
            "--keep-luminance/--own-luminance",
            help="Keep the picture's own light and dark to the last detail, and take the colors alone.",
        ),
    ] = True,
) -> None:
    """Color grey pictures, each one or a whole folder of them.

    A picture in color is made grey first, and stands last on the sheet.

    Example: scorefield colorize old.jpg --out colored
    """
    mend(wish, Work(task="colorize", settings=lambda _: {"keep_luminance": keep_luminance}))


@mends
def dejpeg(
    wish: Mending,
    *,
    quality: Annotated[
        int | None,
        typer.Option("--quality", help="Of the JPEG file, 1 to 100; by default read from the file itself."),
    ] = None,
) -> None:
    """Undo JPEG: what the pictures may have been before, without its blocks.

    Example: scorefield dejpeg photos --out clean
    """
    from scorefield.degradations import parse_damage

    if quality is not None:
        parse_damage(f"jpeg:{quality}")
    mend(wish, Work(task="dejpeg", settings=lambda _: {"quality": quality}))


@mends
def upscale(
    wish: Mending,
    *,
    factor: Annotated[
        int | None,
        typer.Option("--factor", min=2, help="How many times; by default up to the model's own size."),
    ] = None,
) -> None:
    """Enlarge pictures, and draw what was too small to be seen.

    Example: scorefield upscale small.png --model runs/photos --factor 2 --out large
    """
    mend(wish, Work(task="upscale", settings=lambda _: {"factor": factor}))


@mends
def deblur(
    wish: Mending,
    *,
    std: Annotated[
        float, typer.Option("--std", help="How wide the blur is: its standard deviation, in pixels.")
    ] = 1.0,
) -> None:
    """Sharpen pictures that are out of focus.

    Example: scorefield deblur soft.png --model runs/photos --std 1.5 --out sharp
    """
    from scorefield.degradations import parse_damage

    parse_damage(f"blur:{std}")
    mend(wish, Work(task="deblur", settings=lambda _: {"std": std}))


@mends
def restore(
    wish: Mending,
    *,
    damage: Annotated[
        list[str],
        typer.Option(
            "--damage",
            help="What the pictures went through, once for each damage, in order: grey, downscale:4, blur:2, "
            "jpeg:10, noise:25, scratches, mask:left, mask:FILE, crop:8 (pixels cut off around) or "
            "crop:TOP,RIGHT,BOTTOM,LEFT.",
        ),
    ],
    simulate: Annotated[
        bool, typer.Option("--simulate", help="The inputs are clean: do the damage first, to try it out.")
    ] = False,
    noise: Annotated[
        float,
        typer.Option("--noise", min=0, help="Gaussian noise in the pictures: standard deviation, of 255."),
    ] = 0.0,
) -> None:
    """Mend pictures that went through one damage or several.

    Example: scorefield restore old.jpg --damage grey --damage jpeg:20 --out mended

    To try it on a clean picture: add --simulate; the sheet then ends with the original.
    """
    from scorefield.degradations import parse_damage

    parse_damage(damage)
    settings = {"damage": damage, "simulate": simulate, "noise": noise}
    check = partial(_check_learned, damage, wish.method)
    mend(wish, Work(task="restore", settings=lambda _: settings, check=check))


def _check_learned(damage: list[str], method: str | None, model: "ScoreModel") -> None:
    from scorefield.restoration import approach
    from scorefield.restoration.tasks import tasks_named

    for task in tasks_named(damage):
        approach(model, method, task=task)
