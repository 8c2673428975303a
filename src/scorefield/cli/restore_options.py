"""The options that all verbs of restoration share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from scorefield.cli.options import SAMPLERS, Device, Json, Overwrite, Seed, Steps

METHOD_WORDS = {
    "palette": "a conditional model, trained on degraded images (Saharia et al. 2022); fast",
    "projection": "known pixels replace the state's at every update (Song & Ermon 2019)",
    "repaint": "projection on a schedule that climbs back (Lugmayr et al. 2022)",
    "null-space": "the observation replaces its part of every denoised image (Wang et al. 2023); fast",
    "pigdm": "the same, through the network's Jacobian (Song et al. 2023)",
    "dps": "down the gradient of the misfit, with a step length of our own (Chung et al. 2023)",
    "dps-published": "the same with the published steps, 1,000 of them (Chung et al. 2023); slow",
    "moment-matching": "as pigdm, with the network's own covariance (Rozet et al. 2024); slow",
}
"""As `restoration.METHODS` has them, which would load torch for the help."""

Inputs = Annotated[
    list[Path], typer.Argument(metavar="INPUT", help="Images to restore, of any size, or folders of them.")
]
Out = Annotated[
    Path,
    typer.Option("--out", help="Folder for the results, a page to compare them (index.html) and manifest.jsonl."),
]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        help="A bundled model's name, a run folder, a .safetensors file, or another program's weights (.pth).",
    ),
]
Candidates = Annotated[int, typer.Option("--candidates", min=1, help="How many results for each image.")]
Average = Annotated[
    bool, typer.Option("--average", help="One result, the mean of the candidates: less sharp, less wrong.")
]
Best = Annotated[
    bool,
    typer.Option("--best", help="Average over the four flips of the image: a little better, in four times the time."),
]
Map = Annotated[bool, typer.Option("--map", help="Also write where the candidates differ, as an image; needs two.")]
Format = Annotated[
    str | None,
    typer.Option("--format", help="Of the results: png, jpg, webp, tif …; by default a lossless one."),
]
Method = Annotated[
    str | None,
    typer.Option(
        "--method",
        help="\n\n".join(
            [
                "The method of restoration; by default what suits the model:",
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
        help="Noise schedule: palette (the 1,000 noise levels of the paper; with --sampler ddpm its sampling), own "
        "(the model's noise levels) or karras; by default what suits the sampler.",
    ),
]
Tile = Annotated[
    int | None,
    typer.Option(
        "--tile", min=1, help="Side of the tiles in which a large image is restored: small tiles need less memory."
    ),
]

DEFAULT_MODEL = "photos"


@dataclass(frozen=True, kw_only=True)
class RestoreOptions:
    """What every verb takes; see the options above."""

    inputs: Inputs
    out: Out = Path("restored")
    model: Model = DEFAULT_MODEL
    candidates: Candidates = 1
    average: Average = False
    best: Best = False
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
