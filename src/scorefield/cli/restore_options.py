"""What the verbs that restore images share: their options."""

import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from scorefield.cli.options import SAMPLERS, Device, Json, Overwrite, Seed, Steps

METHOD_WORDS = {
    "learned": "the model's own, if it learned to restore (Saharia et al. 2022); fast",
    "projection": "what is known is laid over every state (Song & Ermon 2019)",
    "repaint": "the same on a schedule that climbs (Lugmayr et al. 2022)",
    "null-space": "what is known replaces its part of every denoised image (Wang et al. 2023); fast",
    "pigdm": "the same, and the network is asked what follows from it (Song et al. 2023)",
    "dps": "down the gradient of the misfit (Chung et al. 2023)",
    "moment-matching": "as pigdm, with the network's own uncertainty (Rozet et al. 2024); slow",
}

Inputs = Annotated[
    list[Path], typer.Argument(metavar="INPUT", help="Images to restore, of any size, or folders of them.")
]
Out = Annotated[
    Path,
    typer.Option("--out", help="Folder for the answers, a page to see them by (index.html) and manifest.jsonl."),
]
Model = Annotated[str, typer.Option("--model", help="A bundled model's name, a run folder or a .safetensors file.")]
Candidates = Annotated[int, typer.Option("--candidates", min=1, help="How many answers for each image.")]
Average = Annotated[
    bool, typer.Option("--average", help="One answer, the mean of the candidates: less sharp, less wrong.")
]
Map = Annotated[bool, typer.Option("--map", help="Also write where the candidates disagree, as an image; needs two.")]
Format = Annotated[
    str | None,
    typer.Option("--format", help="Of the answers: png, jpg, webp, tif …; by default one that loses nothing."),
]
Method = Annotated[
    str | None,
    typer.Option(
        "--method",
        help="\n\n".join(
            [
                "How the rest is made to fit what is known; by default what suits the model:",
                *(f"{n}: {w}" for n, w in METHOD_WORDS.items()),
            ]
        ),
    ),
]
OwnSampler = Annotated[
    str | None, typer.Option("--sampler", help=f"By default the method's own; else one of {SAMPLERS}.")
]
Schedule = Annotated[
    str | None,
    typer.Option(
        "--schedule",
        help="Noise levels: palette (the 1,000 of the paper; --sampler ddpm then is its sampling), own (the "
        "model's noise levels) or karras; by default what suits the sampler.",
    ),
]
Tile = Annotated[
    int | None,
    typer.Option(
        "--tile",
        min=1,
        help="Side of the squares in which a large image is restored: smaller ones take less memory.",
    ),
]

USUAL_MODEL = "photos"


@dataclass(frozen=True, kw_only=True)
class Restoring:
    """What every verb is asked for; see the options."""

    inputs: Inputs
    out: Out = Path("restored")
    model: Model = USUAL_MODEL
    candidates: Candidates = 1
    average: Average = False
    map: Map = False
    format: Format = None
    method: Method = None
    sampler: OwnSampler = None
    steps: Steps = None
    schedule: Schedule = None
    seed: Seed = 0
    tile: Tile = None
    overwrite: Overwrite = False
    json: Json = None
    device: Device = "auto"


def restores(verb: Callable[..., None]) -> Callable[..., None]:
    """A verb whose first argument is a `Restoring`, as a command with an option for each field of that.

    The verb's own options stand first in its help.
    """
    own = list(inspect.signature(verb).parameters.values())[1:]
    shared = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=field.type,
        )
        for field in fields(Restoring)
    ]

    @wraps(verb)
    def command(**given: Any) -> None:  # of the names in the signature below, by Typer
        request = Restoring(**{field.name: given.pop(field.name) for field in fields(Restoring)})
        verb(request, **given)

    command.__signature__ = inspect.Signature([shared[0], *own, *shared[1:]])  # pyright: ignore[reportAttributeAccessIssue]
    return command
