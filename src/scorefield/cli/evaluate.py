"""scorefield evaluate."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scorefield.cli.classes import Guidance, GuidanceInterval, guidance_interval
from scorefield.cli.console import note, progress, require_free, table, tell, write_json
from scorefield.cli.options import (
    Crop,
    Data,
    Device,
    Json,
    ModelName,
    NamedFeatures,
    Overwrite,
    Sampler,
    Seed,
    Steps,
)
from scorefield.errors import UserError

if TYPE_CHECKING:
    from scorefield.data.imageset import ImageSet
    from scorefield.evaluation.bits import Bits
    from scorefield.model import ScoreModel


def evaluate(
    model: ModelName,
    *,
    data: Data,
    crop: Crop = None,
    n: Annotated[
        int, typer.Option("-n", min=0, help="Samples to draw; distances need many, 0 leaves them out.")
    ] = 2000,
    sampler: Sampler = "heun",
    steps: Steps = None,
    seed: Seed = 0,
    features: NamedFeatures = None,
    guidance: Guidance = 1.0,
    interval: GuidanceInterval = None,
    likelihood: Annotated[
        int | None,
        typer.Option(
            "--likelihood", metavar="N", min=2, help="Also bits per dimension of N held-out pictures."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write samples over their nearest training pictures (.png).")
    ] = None,
    overwrite: Overwrite = False,
    json: Json = None,
    device: Device = "auto",
) -> None:
    """Measure a model: Fréchet and kernel distance, inception-type score, nearest neighbours, speed.

    Distances compare features of samples and pictures: those of a small classifier,
    trained once on the data's own labels and kept. Without labels, fixed random features.
    A model trained with labels draws the classes of the held-out pictures in their shares.

    Example: scorefield evaluate fashion --data fashion
    """
    import scorefield as sf
    from scorefield.data.sheets import check_picture_name, save_image
    from scorefield.evaluation.report import evaluate as measure
    from scorefield.evaluation.report import sheet_of_neighbours

    require_free(out, json, overwrite=overwrite)
    _check(n, likelihood, out)
    if out is not None:
        check_picture_name(out)
    score_model = sf.load(model, device=device)
    if crop is None and (crop := trained_crop(model)) is not None:
        note(f"pictures are first cut to {crop}×{crop}, as in training")
    train, test = _pictures(score_model, data, crop)
    results: dict[str, Any] = {}
    if n:
        with progress("Measuring") as show:
            report, pairs = measure(
                score_model,
                train,
                test,
                n=n,
                sampler=sampler,
                steps=steps,
                seed=seed,
                features=features,
                guidance=guidance,
                interval=guidance_interval(interval),
                track=lambda words, share: show(share, words),
            )
        table(report.rows())
        results = report.to_dict()
        if out is not None:
            save_image(sheet_of_neighbours(pairs), out)
            tell(f"sheet {out}")
    if likelihood is not None:
        bits = _bits(score_model, test, likelihood, seed)
        table(bits.rows())
        results["likelihood"] = bits.to_dict()
    write_json(json, results)


def _check(n: int, likelihood: int | None, out: Path | None) -> None:
    """See before any work that what is asked for can be had."""
    if n == 1:
        raise UserError("-n", "a distance needs at least two samples, got 1.")
    if n == 0 and likelihood is None:
        raise UserError("-n", "0 samples and no likelihood: nothing to measure.", "Add --likelihood 100.")
    if n == 0 and out is not None:
        raise UserError("--out", "shows samples, and -n 0 draws none.", "Leave one of them out.")
    if likelihood is not None:
        from scorefield.samplers.flow import torchdiffeq

        torchdiffeq()


def _pictures(model: "ScoreModel", data: str, crop: int | None) -> "tuple[ImageSet, ImageSet]":
    """What the model learned from, and what is held out."""
    from scorefield.data.datasets import held_out, open_images

    channels, height, width = model.shape
    with progress("Reading pictures") as show:
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
    """Bits per dimension of n pictures."""
    from scorefield.evaluation.bits import bits_per_dimension

    with progress("Likelihood") as show:
        return bits_per_dimension(model, test, n=n, seed=seed, track=lambda words, share: show(share, ""))


def trained_crop(model: str) -> int | None:
    """The crop that the model's recipe cut its pictures with."""
    from scorefield import hub

    recipe = hub.notes(model).get("recipe", {})
    return recipe.get("data", {}).get("crop")
