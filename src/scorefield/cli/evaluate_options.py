"""The options of `scorefield evaluate`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from scorefield.cli.class_options import GuidanceInterval, GuidanceWeight
from scorefield.cli.options import SAMPLERS, Crop, Data, Device, Json, ModelName, Overwrite, Seed, Steps

_RESTORES = "Conditional models"

Count = Annotated[
    int | None,
    typer.Option(
        "-n",
        min=0,
        show_default="2000; 200 crops",
        help="Samples to draw; distances need many, 0 leaves them out. For a conditional model: crops to restore.",
    ),
]
OptionalSampler = Annotated[
    str | None, typer.Option("--sampler", show_default="heun; a method's own", help=f"{SAMPLERS}.")
]
FeatureNames = Annotated[
    list[str] | None,
    typer.Option(
        "--features",
        help="Other features: inception (the standard network, fetched once), inception:FILE (its "
        "weights), mobilenet:FILE, random, a classifier kept in the cache (.safetensors). "
        "For a conditional model: repeatable, and lpips:ALEXNET,LIN (two files).",
    ),
]
Likelihood = Annotated[
    int | None,
    typer.Option("--likelihood", metavar="N", min=2, help="Also bits per dimension of N held-out images."),
]
TaskNames = Annotated[
    list[str] | None,
    typer.Option(
        "--task",
        rich_help_panel=_RESTORES,
        help="Task, repeatable: colorize, inpaint, inpaint:brush,20-30, inpaint:boxes, "
        "inpaint:center, uncrop, uncrop:left, dejpeg, dejpeg:10, upscale:2, deblur:2, denoise:25, "
        "descratch; by default all tasks of the model.",
    ),
]
Qualities = Annotated[
    list[int] | None,
    typer.Option("--quality", rich_help_panel=_RESTORES, help="Of dejpeg, repeatable; by default 5 to 30."),
]
Against = Annotated[
    list[str] | None,
    typer.Option(
        "--against",
        rich_help_panel=_RESTORES,
        help="Another method, repeatable: a conditional MODEL; pigdm:MODEL or pigdm@50:MODEL, a method (with "
        "steps) and an unconditional model; @5:, the model itself with other steps.",
    ),
]
CropSize = Annotated[
    int | None,
    typer.Option("--size", min=8, rich_help_panel=_RESTORES, help="Side of the crops; by default the training's."),
]
ZoomText = Annotated[
    str | None,
    typer.Option(
        "--zoom",
        rich_help_panel=_RESTORES,
        help="Reduction of the images before cropping: whole, 1, or two ends, 0.2,1; by default the training's.",
    ),
]
CandidateCount = Annotated[
    int,
    typer.Option("--candidates", min=1, rich_help_panel=_RESTORES, help="Candidates for each image, for diversity."),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="Write samples over their nearest training images (.png); for a conditional model, "
        "a folder for tables and sheets.",
    ),
]


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """What `scorefield evaluate` takes; see the options above."""

    model: ModelName
    data: Data
    crop: Crop = None
    n: Count = None
    sampler: OptionalSampler = None
    steps: Steps = None
    seed: Seed = 0
    features: FeatureNames = None
    guidance: GuidanceWeight = 1.0
    interval: GuidanceInterval = None
    likelihood: Likelihood = None
    task: TaskNames = None
    quality: Qualities = None
    against: Against = None
    size: CropSize = None
    zoom: ZoomText = None
    candidates: CandidateCount = 1
    out: Out = None
    overwrite: Overwrite = False
    json: Json = None
    device: Device = "auto"
