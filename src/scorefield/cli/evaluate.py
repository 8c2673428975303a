"""scorefield evaluate."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scorefield.cli.class_options import Guidance, GuidanceInterval, guidance_interval
from scorefield.cli.console import note, progress, require_free, table, tell, write_json
from scorefield.cli.evaluate_restoration import EvaluationRequest, evaluate_restorations
from scorefield.cli.options import (
    SAMPLERS,
    Crop,
    Data,
    Device,
    Json,
    ModelName,
    Overwrite,
    Seed,
    Steps,
)
from scorefield.errors import UserError

if TYPE_CHECKING:
    from scorefield.data.image_set import ImageSet
    from scorefield.evaluation.bits import Bits
    from scorefield.model import ScoreModel

RESTORES = "Conditional models"


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
        rich_help_panel=RESTORES,
        help="Task, repeatable: colorize, inpaint, inpaint:brush,20-30, inpaint:boxes, "
        "inpaint:center, uncrop, uncrop:left, dejpeg, dejpeg:10, upscale:2, deblur:2, denoise:25, "
        "descratch; by default all tasks of the model.",
    ),
]
Qualities = Annotated[
    list[int] | None,
    typer.Option("--quality", rich_help_panel=RESTORES, help="Of dejpeg, repeatable; by default 5 to 30."),
]
Against = Annotated[
    list[str] | None,
    typer.Option(
        "--against",
        rich_help_panel=RESTORES,
        help="Another method, repeatable: a conditional MODEL; pigdm:MODEL or pigdm@50:MODEL, a method (with "
        "steps) and an unconditional model; @5:, the model itself with other steps.",
    ),
]
CropSize = Annotated[
    int | None,
    typer.Option("--size", min=8, rich_help_panel=RESTORES, help="Side of the crops; by default the training's."),
]
ZoomText = Annotated[
    str | None,
    typer.Option(
        "--zoom",
        rich_help_panel=RESTORES,
        help="Reduction of the images before cropping: whole, 1, or two ends, 0.2,1; by default the training's.",
    ),
]
CandidateCount = Annotated[
    int,
    typer.Option("--candidates", min=1, rich_help_panel=RESTORES, help="Candidates for each image, for diversity."),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="Write samples over their nearest training images (.png); for a conditional model, "
        "a folder for tables and sheets.",
    ),
]


def evaluate(
    model: ModelName,
    *,
    data: Data,
    crop: Crop = None,
    n: Count = None,
    sampler: OptionalSampler = None,
    steps: Steps = None,
    seed: Seed = 0,
    features: FeatureNames = None,
    guidance: Guidance = 1.0,
    interval: GuidanceInterval = None,
    likelihood: Likelihood = None,
    task: TaskNames = None,
    quality: Qualities = None,
    against: Against = None,
    size: CropSize = None,
    zoom: ZoomText = None,
    candidates: CandidateCount = 1,
    out: Out = None,
    overwrite: Overwrite = False,
    json: Json = None,
    device: Device = "auto",
) -> None:
    """Measure a model: Fréchet and kernel distance, inception-type score, nearest neighbours, speed.

    Distances compare features of samples and images: those of a small classifier,
    trained once on the data's own labels and kept. Without labels, fixed random features.
    A model trained with labels draws the classes of the held-out images in their shares.

    Example: scorefield evaluate fashion --data fashion

    A conditional model restores degraded images: PSNR, SSIM, perceptual distance, Fréchet distance,
    agreement and diversity, beside other methods, with confidence intervals.

    Example: scorefield evaluate runs/mine --data photographs/ --task dejpeg --quality 10 --out measured
    """
    import scorefield as sf

    score_model = sf.load(model, device=device)
    request = EvaluationRequest(
        model=model, data=data, n=n, tasks=task or [], quality=quality or [], against=against or [],
        size=size, zoom=zoom, candidates=candidates, sampler=sampler, steps=steps, seed=seed,
        features=features or [], out=out, overwrite=overwrite, json=json, device=device,
    )  # fmt: skip
    if score_model.spec.tasks:
        other = {"--crop": crop, "--interval": interval, "--likelihood": likelihood}
        _refuse(f"{model} restores images", other | {"--guidance": guidance != 1})
        evaluate_restorations(request, score_model)
        return
    restores = {"--task": task, "--quality": quality, "--against": against, "--size": size, "--zoom": zoom}
    _refuse(f"{model} is an unconditional model", restores | {"--candidates": candidates > 1})
    _evaluate_samples(request, score_model, crop, guidance, interval, likelihood)


def _evaluate_samples(
    request: EvaluationRequest,
    model: "ScoreModel",
    crop: int | None,
    guidance: float,
    interval: str | None,
    likelihood: int | None,
) -> None:
    """Measure an unconditional model by its samples and its likelihood."""
    from scorefield.data.grids import check_image_name, save_image
    from scorefield.evaluation.report import SampleSettings, sheet_of_neighbours
    from scorefield.evaluation.report import evaluate as measure

    n, out = 2000 if request.n is None else request.n, request.out
    require_free(out, request.json, overwrite=request.overwrite)
    _check(n, likelihood, out)
    features = _one(request.features)
    if out is not None:
        check_image_name(out)
    if crop is None and (crop := trained_crop(request.model)) is not None:
        note(f"images are first cropped to {crop}×{crop}, as in training")
    train, test = _images(model, request.data, crop)
    results: dict[str, Any] = {}
    if n:
        with progress("Measuring") as show:
            report, pairs = measure(
                model,
                train,
                test,
                SampleSettings(
                    n=n,
                    sampler=request.sampler or "heun",
                    steps=request.steps,
                    seed=request.seed,
                    guidance=guidance,
                    interval=guidance_interval(interval),
                ),
                features=features,
                progress=show,
            )
        table(report.rows())
        results = report.to_dict()
        if out is not None:
            save_image(sheet_of_neighbours(pairs), out)
            tell(f"sheet {out}")
    if likelihood is not None:
        bits = _bits(model, test, likelihood, request.seed)
        table(bits.rows())
        results["likelihood"] = bits.to_dict()
    write_json(request.json, results)


def _refuse(why: str, given: dict[str, Any]) -> None:
    """Check that every option applies to this model.

    Raises:
        UserError: one does not.
    """
    for option, value in given.items():
        if value:
            raise UserError(option, f"does not apply: {why}.", "Leave it out.")


def _one(features: list[str]) -> str | None:
    """The named features, at most one.

    Raises:
        UserError: several, or a distance of pairs, which does not apply to samples.
    """
    if len(features) > 1 or any(name.startswith("lpips:") for name in features):
        raise UserError("--features", f"{', '.join(features)}: samples are measured on one network.", "Name one.")
    return features[0] if features else None


def _check(n: int, likelihood: int | None, out: Path | None) -> None:
    """See before any work that what is request for can be had."""
    if n == 1:
        raise UserError("-n", "a distance needs at least two samples, got 1.")
    if n == 0 and likelihood is None:
        raise UserError("-n", "0 samples and no likelihood: nothing to measure.", "Add --likelihood 100.")
    if n == 0 and out is not None:
        raise UserError("--out", "shows samples, and -n 0 draws none.", "Leave one of them out.")
    if likelihood is not None:
        from scorefield.samplers.adaptive_ode import torchdiffeq

        torchdiffeq()


def _images(model: "ScoreModel", data: str, crop: int | None) -> "tuple[ImageSet, ImageSet]":
    """The training images and the held-out images."""
    from scorefield.data.datasets import held_out, open_images

    channels, height, width = model.shape
    with progress("Reading images") as show:
        train, test = (
            open_images(
                data,
                size=(height, width),
                crop=crop,
                channels=channels,
                split=split,
                track=lambda done, total: show(done / max(total, 1), ""),
            )
            for split in ("train", held_out(data))
        )
    return train, test


def _bits(model: "ScoreModel", test: "ImageSet", n: int, seed: int) -> "Bits":
    """Bits per dimension of n images."""
    from scorefield.evaluation.bits import bits_per_dimension

    with progress("Likelihood") as show:
        return bits_per_dimension(model, test, n=n, seed=seed, progress=show)


def trained_crop(model: str) -> int | None:
    """The crop of the model's recipe."""
    from scorefield import hub

    recipe = hub.notes(model).get("recipe", {})
    return recipe.get("data", {}).get("crop")
