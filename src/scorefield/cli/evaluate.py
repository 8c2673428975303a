"""scorefield evaluate."""

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scorefield.cli.class_options import guidance_interval
from scorefield.cli.console import note, progress, require_free, table, tell, write_json
from scorefield.cli.evaluate_options import EvaluationOptions
from scorefield.cli.evaluate_restoration import evaluate_restorations
from scorefield.cli.options import with_options
from scorefield.errors import UserError

if TYPE_CHECKING:
    from scorefield.data.image_set import ImageSet
    from scorefield.evaluation.bits import Bits
    from scorefield.model import ScoreModel


@with_options
def evaluate(options: EvaluationOptions) -> None:
    """Measure a model: Fréchet and kernel distance, inception-type score, nearest neighbours, speed.

    Distances compare features of samples and images: those of a small classifier,
    trained once on the data's own labels and kept. Without labels, fixed random features.
    A model trained with labels draws the classes of the held-out images in their shares.

    Example: scorefield evaluate fashion --data fashion

    A conditional model restores degraded images: PSNR, SSIM, distance of features, Fréchet distance,
    agreement and diversity, with confidence intervals and compared with other methods.

    Example: scorefield evaluate runs/mine --data photographs/ --task dejpeg --quality 10 --out measured
    """
    import scorefield as sf

    model = sf.load(options.model, device=options.device)
    if model.spec.tasks:
        _refuse(options, f"{options.model} restores images", ("crop", "interval", "likelihood", "guidance"))
        evaluate_restorations(options, model)
        return
    restores = ("task", "quality", "against", "size", "zoom", "candidates")
    _refuse(options, f"{options.model} is an unconditional model", restores)
    _evaluate_samples(options, model)


def _evaluate_samples(options: EvaluationOptions, model: "ScoreModel") -> None:
    """Measure an unconditional model by its samples and its likelihood."""
    from scorefield.data.grids import check_image_name, save_image
    from scorefield.evaluation.report import SampleSettings, sheet_of_neighbours
    from scorefield.evaluation.report import evaluate as measure
    from scorefield.guidance import Guidance

    n, out, crop = 2000 if options.n is None else options.n, options.out, options.crop
    require_free(out, options.json, overwrite=options.overwrite)
    _check(n, options.likelihood, out)
    features = _one(options.features or [])
    if out is not None:
        check_image_name(out)
    if crop is None and (crop := trained_crop(options.model)) is not None:
        note(f"images are first cropped to {crop}×{crop}, as in training")
    train, test = _images(model, options.data, crop)
    results: dict[str, Any] = {}
    if n:
        settings = SampleSettings(
            n=n,
            sampler=options.sampler or "heun",
            steps=options.steps,
            seed=options.seed,
            guidance=Guidance(weight=options.guidance, interval=guidance_interval(options.interval)),
        )
        with progress("Measuring") as show:
            report, pairs = measure(model, train, test, settings, features=features, progress=show)
        table(report.rows())
        results = report.to_dict()
        if out is not None:
            save_image(sheet_of_neighbours(pairs), out)
            tell(f"sheet {out}")
    if options.likelihood is not None:
        bits = _bits(model, test, options.likelihood, options.seed)
        table(bits.rows())
        results["likelihood"] = bits.to_dict()
    write_json(options.json, results)


def _refuse(options: EvaluationOptions, why: str, names: tuple[str, ...]) -> None:
    """Check that the options that do not apply to this model are as they are by default.

    Raises:
        UserError: one is not.
    """
    for field in fields(options):
        if field.name in names and (getattr(options, field.name) or None) != (field.default or None):
            flag = "--guidance-interval" if field.name == "interval" else f"--{field.name}"
            raise UserError(flag, f"does not apply: {why}.", "Leave it out.")


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
