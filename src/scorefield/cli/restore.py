"""The verbs of restoration, scorefield inpaint to restore: parse, make the task, run the batch."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from scorefield.cli.batch import check_options, restore_all
from scorefield.cli.console import note, tell
from scorefield.cli.inputs import Found, find_images
from scorefield.cli.look import look
from scorefield.cli.options import with_options
from scorefield.cli.restore_options import RestoreOptions
from scorefield.errors import UserError
from scorefield.files import refuse_existing


@with_options
def inpaint(
    options: RestoreOptions,
    *,
    mask: Annotated[
        str,
        typer.Option(
            "--mask",
            help="What to fill: an image that is white there; a folder of such images, named like those "
            "to restore; alpha, what is transparent; '#ff00ff', what was painted in this color; center, left, "
            "right, top, bottom; brush:SEED, boxes:SEED.",
        ),
    ] = "center",
    invert: Annotated[bool, typer.Option("--invert", help="Fill the mask's black instead.")] = False,
    grow: Annotated[int, typer.Option("--grow", min=0, help="Fill so many pixels more to all sides of the mask.")] = 0,
    preview: Annotated[
        bool, typer.Option("--preview", help="Restore nothing; show in red what would be filled.")
    ] = False,
) -> None:
    """Fill the masked pixels of images; known pixels come back byte for byte.

    Example: scorefield inpaint photo.jpg --mask scratches.png --out restored
    """
    mask_of = _masks(mask)
    if preview:
        _preview(options, mask_of, invert=invert, grow=grow)
        return
    from scorefield.restoration import Inpaint

    restore_all(options, lambda found: Inpaint(mask=mask_of(found), invert=invert, grow=grow), kind=Inpaint)


@with_options
def uncrop(
    options: RestoreOptions,
    *,
    sides: Annotated[
        str, typer.Option("--sides", help="Which sides to extend: out of top,right,bottom,left.")
    ] = "left,right",
    amount: Annotated[
        float, typer.Option("--amount", help="How much, as a part of the image's width or height.")
    ] = 0.5,
    times: Annotated[
        int, typer.Option("--times", min=1, help="Extend so often, each time beyond the last: a panorama.")
    ] = 1,
) -> None:
    """Extend images beyond their edges; their own pixels come back byte for byte.

    Example: scorefield uncrop view.jpg --sides left,right --amount 0.5 --out wide
    """
    from scorefield.restoration import Uncrop

    named = tuple(side.strip() for side in sides.split(",") if side.strip())
    task = Uncrop(sides=named, amount=amount, times=times)
    restore_all(options, lambda _: task, kind=Uncrop)


@with_options
def colorize(
    options: RestoreOptions,
    *,
    keep_luminance: Annotated[
        bool,
        typer.Option(
            "--keep-luminance/--own-luminance",
            help="Keep the image's own luma to the last level, and take only the colors.",
        ),
    ] = True,
    hint: Annotated[
        Path | None,
        typer.Option(
            "--hint",
            help='Colors of places, which spread to the next edges: a JSON file such as [{"x": 120, "y": 80, "color": '
            '"#c03020"}], in pixels from the upper left.',
        ),
    ] = None,
) -> None:
    """Color grey images, each one or a whole folder of them.

    An image in color is made grey first, and comes last on the sheet.

    Example: scorefield colorize old.jpg --out colored
    """
    from scorefield.restoration import Colorize, read_hints

    task = Colorize(keep_luminance=keep_luminance, hints=read_hints(hint) if hint is not None else ())
    restore_all(options, lambda _: task, kind=Colorize)


@with_options
def dejpeg(
    options: RestoreOptions,
    *,
    quality: Annotated[
        int | None,
        typer.Option("--quality", help="Of the JPEG file, 1 to 100; by default read from the file itself."),
    ] = None,
) -> None:
    """Remove JPEG artifacts.

    A file of another format that shows no trace of JPEG, or a JPEG of a quality too high to gain, is skipped, unless
    --quality is given.

    Example: scorefield dejpeg photos --out clean
    """
    from scorefield.restoration import Dejpeg

    task = Dejpeg(quality=quality)
    restore_all(options, lambda _: task, kind=Dejpeg)


@with_options
def denoise(
    options: RestoreOptions,
    *,
    std: Annotated[
        float,
        typer.Option(
            "--std", min=0, help="Standard deviation of the noise, of 255; a model that was trained for it needs none."
        ),
    ] = 0.0,
) -> None:
    """Remove noise, such as that of a camera in the dark.

    Example: scorefield denoise night.png --out calm
    """
    from scorefield.restoration import Denoise

    task = Denoise(std=std)
    restore_all(options, lambda _: task, kind=Denoise)


@with_options
def upscale(
    options: RestoreOptions,
    *,
    factor: Annotated[
        int | None,
        typer.Option(
            "--factor",
            min=2,
            help="How many times; by default the model's own factor or 2, or up to the size of a model without a task.",
        ),
    ] = None,
) -> None:
    """Enlarge images, with detail that a larger image may have had.

    Example: scorefield upscale small.png --factor 4 --out large
    """
    from scorefield.restoration import Upscale

    task = Upscale(factor=factor)
    restore_all(options, lambda _: task, kind=Upscale)


@with_options
def deblur(
    options: RestoreOptions,
    *,
    std: Annotated[float, typer.Option("--std", help="Standard deviation of the Gaussian blur, in pixels.")] = 1.0,
) -> None:
    """Sharpen images that are out of focus.

    Example: scorefield deblur soft.png --model runs/photos --std 1.5 --out sharp
    """
    from scorefield.restoration import Deblur

    task = Deblur(std=std)
    restore_all(options, lambda _: task, kind=Deblur)


@with_options
def descratch(options: RestoreOptions) -> None:
    """Remove scratches and dust, wherever they are; for marks of a known place, `inpaint` is better.

    Example: scorefield descratch scan.png --out clean
    """
    from scorefield.restoration import Descratch

    restore_all(options, lambda _: Descratch(), kind=Descratch)


@with_options
def restore(
    options: RestoreOptions,
    *,
    degradation: Annotated[
        list[str] | None,
        typer.Option(
            "--degradation",
            help="What the images went through, once for each degradation, in order: grey, downscale:4, blur:2, "
            "jpeg:10, noise:25, scratches, mask:left, mask:FILE, crop:8 (pixels cut off around), "
            "crop:TOP,RIGHT,BOTTOM,LEFT. Without it the images are looked at, and what may help is proposed.",
        ),
    ] = None,
    auto: Annotated[
        bool, typer.Option("--auto", help="Look, and do what is sure to help: undo JPEG compression.")
    ] = False,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="The inputs are clean: apply the degradation first, to try it out.")
    ] = False,
    noise: Annotated[
        float,
        typer.Option("--noise", min=0, help="Gaussian noise in the images: standard deviation, of 255."),
    ] = 0.0,
) -> None:
    """Restore images that went through one degradation or several; or look at them, and propose what may help.

    Example: scorefield restore old.jpg --degradation grey --degradation jpeg:20 --out restored

    To try it on a clean image, add --simulate: the sheet then ends with the original.

    To look: scorefield restore album/. To restore what is sure to gain: scorefield restore album/ --auto --out restored
    """
    if degradation:
        if auto:
            raise UserError("--auto", "finds the degradation by itself.", "Leave out --degradation.")
        from scorefield.restoration import Custom, Paired

        if degradation == ["paired"]:
            if simulate or noise:
                raise UserError("--degradation", "paired is known by its examples alone.", "Leave the others out.")
            restore_all(options, lambda _: Paired(), kind=Paired)
            return
        task = Custom(degradation=tuple(degradation), noise_std=noise, simulate=simulate, seed=options.seed)
        restore_all(options, lambda _: task, kind=Custom)
        return
    if simulate or noise:
        raise UserError("--degradation", "is needed with --simulate or --noise.", "Name one, such as jpeg:20.")
    look(options, auto=auto)
    if auto:
        from scorefield.restoration import Dejpeg

        restore_all(options, lambda _: Dejpeg(), kind=Dejpeg)


def _masks(mask: str) -> Callable[[Found], str]:
    """From an image to its mask.

    Raises:
        UserError: no such name, file or folder, or a folder without images.
    """
    from scorefield.degradations import is_color, named_mask

    folder = Path(mask)
    if not folder.is_dir():
        if not folder.exists() and mask != "alpha" and not is_color(mask):
            named_mask(mask, (64, 64))  # raises if there is no mask of that name
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


def _preview(options: RestoreOptions, mask_of: Callable[[Found], str], *, invert: bool, grow: int) -> None:
    """Write `stem`-preview.png of every image: in red what would be filled."""
    from scorefield.data.grids import save_image
    from scorefield.data.image import read_image
    from scorefield.degradations import mask_preview, named_mask

    check_options(options)
    found = find_images(options.inputs, options.out)
    for one in found:
        path = options.out / f"{one.stem}-preview.png"
        refuse_existing(path, overwrite=options.overwrite, mend="Choose another --out or pass --overwrite.")
    failed = False
    for one in found:
        path = options.out / f"{one.stem}-preview.png"
        try:
            image = read_image(one.path)
            size = (image.height, image.width)
            made = named_mask(mask_of(one), size, invert=invert, grow=grow, image=one.path)
            save_image(mask_preview(image, made.mask), path)
        except UserError as error:
            line = str(error) if str(one.path) in str(error) else f"{one.path}: {error}"
            note(f"scorefield: {line}")
            failed = True
            continue
        share = float(made.mask.mean())
        tell(f"{one.path} -> {path} ({share:.0%} to fill)")
    if failed:
        raise typer.Exit(2)
