"""scorefield inpaint."""

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


def inpaint(
    inputs: Inputs,
    *,
    out: Out,
    model: Model,
    mask: Annotated[
        str,
        typer.Option(
            "--mask", help="What to fill: a picture that is white there, or center, left, right, top, bottom."
        ),
    ] = "center",
    invert: Annotated[bool, typer.Option("--invert", help="Fill the mask's black instead.")] = False,
    method: Method = "pigdm",
    candidates: Candidates = 4,
    sampler: OwnSampler = None,
    steps: Steps = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    json: Json = None,
    device: Device = "auto",
) -> None:
    """Fill in what is missing of pictures; known pixels come back byte for byte.

    Writes every answer, and a sheet: damaged, answers, original.

    Example: scorefield inpaint shirt.png --model fashion --mask bottom --out mended
    """
    import scorefield as sf

    mend(
        partial(sf.restore, task="inpaint", mask=mask, invert=invert),
        Mending(
            inputs=inputs, out=out, model=model, method=method, candidates=candidates, sampler=sampler,
            steps=steps, seed=seed, overwrite=overwrite, json=json, device=device,
        ),
        "inpaint",
    )  # fmt: skip
