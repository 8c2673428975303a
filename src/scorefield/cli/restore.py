"""scorefield colorize, uncrop, dejpeg and restore."""

from functools import partial
from typing import Annotated

import typer

from scorefield.cli.mending import (
    Candidates,
    Inputs,
    Mending,
    Method,
    Model,
    Out,
    OwnSampler,
    mend,
)
from scorefield.cli.options import Device, Json, Overwrite, Seed, Steps


def colorize(
    inputs: Inputs,
    *,
    out: Out,
    model: Model,
    method: Method = "pigdm",
    candidates: Candidates = 4,
    sampler: OwnSampler = None,
    steps: Steps = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    json: Json = None,
    device: Device = "auto",
) -> None:
    """Color grey pictures; each answer has the grey that it was given.

    A picture in color is made grey first, and stands last on the sheet.

    Example: scorefield colorize old.jpg --model runs/photos --out colored
    """
    import scorefield as sf

    mend(
        partial(sf.restore, task="colorize"),
        Mending(
            inputs=inputs, out=out, model=model, method=method, candidates=candidates, sampler=sampler,
            steps=steps, seed=seed, overwrite=overwrite, json=json, device=device,
        ),
        "colorize",
    )  # fmt: skip


def uncrop(
    inputs: Inputs,
    *,
    out: Out,
    model: Model,
    sides: Annotated[
        str, typer.Option("--sides", help="Where to draw on: out of top,right,bottom,left.")
    ] = "left,right",
    amount: Annotated[
        float, typer.Option("--amount", help="How much, as a part of the picture's width or height.")
    ] = 0.5,
    method: Method = "pigdm",
    candidates: Candidates = 4,
    sampler: OwnSampler = None,
    steps: Steps = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    json: Json = None,
    device: Device = "auto",
) -> None:
    """Draw pictures on beyond their edges; their own pixels come back byte for byte.

    Example: scorefield uncrop view.png --model runs/photos --sides left,right --amount 0.5 --out wide
    """
    import scorefield as sf

    named = [side.strip() for side in sides.split(",") if side.strip()]

    mend(
        partial(sf.restore, task="uncrop", sides=named, amount=amount),
        Mending(
            inputs=inputs, out=out, model=model, method=method, candidates=candidates, sampler=sampler,
            steps=steps, seed=seed, overwrite=overwrite, json=json, device=device,
        ),
        "uncrop",
    )  # fmt: skip


def dejpeg(
    inputs: Inputs,
    *,
    out: Out,
    model: Model,
    quality: Annotated[
        int | None,
        typer.Option("--quality", help="Of the JPEG file, 1 to 100; by default read from the file itself."),
    ] = None,
    method: Method = "pigdm",
    candidates: Candidates = 4,
    sampler: OwnSampler = None,
    steps: Steps = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    json: Json = None,
    device: Device = "auto",
) -> None:
    """Undo JPEG: pictures that would have given the same file, without its blocks.

    Example: scorefield dejpeg small.jpg --model runs/photos --out clean
    """
    import scorefield as sf

    mend(
        partial(sf.restore, task="dejpeg", quality=quality),
        Mending(
            inputs=inputs, out=out, model=model, method=method, candidates=candidates, sampler=sampler,
            steps=steps, seed=seed, overwrite=overwrite, json=json, device=device,
        ),
        "dejpeg",
    )  # fmt: skip


def restore(
    inputs: Inputs,
    *,
    out: Out,
    model: Model,
    damage: Annotated[
        list[str],
        typer.Option(
            "--damage",
            help="What the pictures went through, once for each damage, in order: grey, downscale:4, blur:2, "
            "jpeg:10, mask:left, mask:FILE, crop:8 (pixels cut off around) or crop:TOP,RIGHT,BOTTOM,LEFT.",
        ),
    ],
    simulate: Annotated[
        bool, typer.Option("--simulate", help="The inputs are clean: do the damage first, to try it out.")
    ] = False,
    noise: Annotated[
        float,
        typer.Option("--noise", min=0, help="Gaussian noise in the pictures: standard deviation, of 255."),
    ] = 0.0,
    method: Method = "pigdm",
    candidates: Candidates = 4,
    sampler: OwnSampler = None,
    steps: Steps = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    json: Json = None,
    device: Device = "auto",
) -> None:
    """Mend pictures that went through one damage or several.

    Example: scorefield restore old.jpg --model runs/photos --damage grey --damage jpeg:20 --out mended

    To try it on a clean picture: add --simulate; the sheet then ends with the original.
    """
    import scorefield as sf
    from scorefield.degradations import parse_damage

    parse_damage(damage)

    mend(
        partial(sf.restore, damage=damage, simulate=simulate, noise=noise),
        Mending(
            inputs=inputs, out=out, model=model, method=method, candidates=candidates, sampler=sampler,
            steps=steps, seed=seed, overwrite=overwrite, json=json, device=device,
        ),
        "restore",
    )  # fmt: skip
