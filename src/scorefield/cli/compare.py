"""scorefield compare."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scorefield.cli.console import columns, note, progress, require_free, tell, write_json
from scorefield.cli.evaluate import trained_crop
from scorefield.cli.options import (
    Crop,
    Data,
    Device,
    Json,
    NamedFeatures,
    Overwrite,
    Sampler,
    Seed,
    Steps,
    with_options,
)
from scorefield.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from scorefield.data.image_set import ImageSet
    from scorefield.evaluation.compare import Comparison, ComparisonSettings, Curve
    from scorefield.evaluation.reference import Reference
    from scorefield.model import ScoreModel

Models = Annotated[list[str], typer.Argument(metavar="A B …", help="Bundled names, run folders or .safetensors files.")]
Split = Annotated[str | None, typer.Option("--split", help="Of held-out images; test where there is one, else train.")]
Samples = Annotated[
    int | None,
    typer.Option("--samples", min=0, help="Drawn from each for distances; as many as -n, 0 for none."),
]
Levels = Annotated[int, typer.Option("--levels", min=1, help="Noise levels, at most.")]
ScheduleOf = Annotated[
    str | None, typer.Option("--schedule-of", help="Take every noise level of this model's schedule as a level.")
]
Projections = Annotated[
    int,
    typer.Option("--projections", min=0, help="Directions of the sliced loss for each image; 0 for none."),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", help="A folder for the plot, the JSON and a sheet of samples of each model."),
]


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """What `scorefield compare` takes; see the options above."""

    models: Models
    data: Data
    split: Split = None
    crop: Crop = None
    n: Annotated[int, typer.Option("-n", min=2, help="Held-out images for the losses.")] = 500
    samples: Samples = None
    levels: Levels = 10
    schedule_of: ScheduleOf = None
    projections: Projections = 1
    sampler: Sampler = "heun"
    steps: Steps = None
    features: NamedFeatures = None
    seed: Seed = 0
    out: Out = None
    json: Json = None
    overwrite: Overwrite = False
    device: Device = "auto"


@with_options
def compare(options: CompareOptions) -> None:
    """Compare models on held-out images.

    Denoising and sliced score-matching losses at each noise level with 95 % intervals,
    paired differences to the first model, distances of samples, and cost.

    Example: scorefield compare fashion runs/mine --data fashion --out compared/
    """
    import scorefield as sf
    from scorefield.evaluation.compare import check_models, choose_levels, compare_models

    settings = _settings(options)
    drawn, models, names = settings.samples.n, options.models, _names(options.models)
    files = _files(options.out, names if drawn else [])
    require_free(options.json, *files.values(), overwrite=options.overwrite)
    loaded = {name: sf.load(model, device=options.device) for name, model in zip(names, models, strict=True)}
    shape = next(iter(loaded.values())).shape
    for name, model in loaded.items():
        _same_shape(name, model, shape)
    train, test = _open(options.data, shape, options.split, _crop(options.crop, models), both=drawn > 0)
    check_models(loaded, test, settings.samples)
    sigmas = choose_levels(loaded, count=options.levels, schedule_of=_called(options.schedule_of, models, names))
    reference = _reference(options, loaded, train, test, drawn) if drawn else None
    with progress("Comparing") as show:
        comparison, images = compare_models(loaded, test, settings, sigmas=sigmas, reference=reference, progress=show)
    _print(comparison)
    if options.out is not None:
        _write(comparison, images, files)
        tell(f"written to {options.out}")
    write_json(options.json, comparison.to_dict())


def _settings(options: CompareOptions) -> "ComparisonSettings":
    from scorefield.evaluation.compare import ComparisonSettings
    from scorefield.evaluation.level_losses import LossSettings
    from scorefield.evaluation.report import SampleSettings

    drawn, seed = options.n if options.samples is None else options.samples, options.seed
    if drawn == 1:
        raise UserError("--samples", "a distance needs at least two.", "Use 0 for none.")
    return ComparisonSettings(
        losses=LossSettings(n=options.n, projections=options.projections, seed=seed),
        samples=SampleSettings(n=drawn, sampler=options.sampler, steps=options.steps, seed=seed),
    )


def _reference(
    options: CompareOptions, models: "dict[str, ScoreModel]", train: "ImageSet", test: "ImageSet", n: int
) -> "Reference":
    """What samples are measured against."""
    from scorefield.evaluation.reference import prepare

    device = next(iter(models.values())).device
    with progress("Preparing") as show:
        return prepare(train, test, n=n, features=options.features, device=device, progress=show)


def _open(
    data: str, shape: tuple[int, ...], split: str | None, crop: int | None, *, both: bool
) -> "tuple[ImageSet, ImageSet]":
    """Training and held-out images of the models' shape; the former are read where `both` are needed."""
    from scorefield.data.datasets import held_out, open_images, splits

    channels, height, width = shape
    known = splits(data)
    chosen = split or held_out(data)
    wanted = [chosen, *(["train"] if both and "train" in known and chosen != "train" else [])]
    with progress("Reading images") as show:
        test, *others = (
            open_images(
                data,
                size=(height, width),
                crop=crop,
                channels=channels,
                split=which,
                track=lambda done, total: show(done / max(total, 1), ""),
            )
            for which in wanted
        )
    if chosen == "train":
        note("these images are the split `train`: they are not held out if the models were trained on it")
    return (others or [test])[0], test


def _names(models: list[str]) -> list[str]:
    """Short names: the last part of each path, or the whole where two would be one."""
    if len(set(models)) < len(models):
        twice = next(model for model in models if models.count(model) > 1)
        raise UserError(twice, "is named twice.", "Name each model once.")
    short = [Path(model).stem if model.endswith(".safetensors") else Path(model).name or model for model in models]
    return [name if short.count(name) == 1 else model for name, model in zip(short, models, strict=True)]


def _called(schedule_of: str | None, models: list[str], names: list[str]) -> str | None:
    """The short name of a model named as on the command line, or short already."""
    return dict(zip(models, names, strict=True)).get(schedule_of or "", schedule_of)


def _crop(crop: int | None, models: list[str]) -> int | None:
    """The crop asked for, else the one that all models were trained with."""
    if crop is not None:
        return crop
    crops = {trained_crop(model) for model in models}
    if len(crops) > 1:
        listed = ", ".join(str(c or "none") for c in crops)
        raise UserError("--crop", f"the models were trained on different crops: {listed}.", "Name one.")
    if (crop := crops.pop()) is not None:
        note(f"images are first cropped to {crop}×{crop}, as in training")
    return crop


def _same_shape(name: str, model: "ScoreModel", shape: tuple[int, ...]) -> None:
    if len(shape) != 3:
        raise UserError(name, "draws points, not images.", "Name models of images.")
    if model.shape != shape:
        theirs, first = ("×".join(map(str, s)) for s in (model.shape, shape))
        raise UserError(name, f"draws images of {theirs}, the first model of {first}.", "Compare models of one shape.")


def _files(out: Path | None, sheets: list[str]) -> dict[str, Path]:
    """What goes into the folder: the plot, the JSON, and each model's sheet under its name."""
    if out is None:
        return {}
    if out.exists() and not out.is_dir():
        raise UserError(out, "is a file.", "Give --out the name of a folder.")
    from scorefield.figures.plots import matplotlib

    matplotlib()  # if missing, an error before any work
    slugs = {name: re.sub(r"[^\w.-]+", "-", name).strip("-") for name in sheets}
    fixed = {"plot": out / "losses.png", "json": out / "comparison.json"}
    return fixed | {f"sheet {name}": out / f"samples-{slug}.png" for name, slug in slugs.items()}


def _write(comparison: "Comparison", images: "dict[str, Tensor]", files: dict[str, Path]) -> None:
    from scorefield.data.grids import grid, save_image
    from scorefield.figures.comparison import plot

    plot(comparison, files["plot"])
    write_json(files["json"], comparison.to_dict())
    for name, drawn in images.items():
        save_image(grid(drawn[:64]), files[f"sheet {name}"])


def _print(comparison: "Comparison") -> None:
    """One table of losses, one of differences, one of single numbers."""
    entries, names = comparison.entries, [entry.name for entry in comparison.entries]
    tell(f"{comparison.n} of {comparison.data}; σ of pixels in [0, 1]; 95 % intervals over images")
    _curves(comparison, "Denoising loss E |(D − x0)/σ|² per pixel", names, [e.denoising for e in entries])
    _curves(comparison, "Sliced loss + 1, an estimate of the same", names, [e.sliced for e in entries], shift=1)
    minus_first = f"minus that of {names[0]}, paired"
    _curves(comparison, f"Denoising loss {minus_first}", names, [e.denoising_difference for e in entries])
    _curves(comparison, f"Sliced loss {minus_first}", names, [e.sliced_difference for e in entries])
    columns("Models", ["", *names], _facts(comparison))


def _curves(
    comparison: "Comparison", title: str, names: list[str], curves: "list[Curve | None]", *, shift: float = 0
) -> None:
    kept = [(name, curve) for name, curve in zip(names, curves, strict=True) if curve is not None]
    if not kept:
        return
    rows = [
        [f"{sigma:.4g}", *(str(c.levels[i].plus(shift)) for _, c in kept)] for i, sigma in enumerate(comparison.sigmas)
    ]
    rows.append(["mean", *(str(c.mean.plus(shift)) for _, c in kept)])
    columns(title, ["σ", *(name for name, _ in kept)], rows)


def _facts(comparison: "Comparison") -> list[list[str]]:
    """Rows of one fact each, a column for each model."""
    entries = comparison.entries
    rows = [
        ["parameters", *(f"{e.parameters:,}" for e in entries)],
        ["GFLOP an evaluation", *(f"{e.gflops:.3g}" for e in entries)],
    ]
    reports = [e.report.rows() for e in entries if e.report is not None]
    if reports:
        rows += [[fact, *(str(report.get(fact, "")) for report in reports)] for fact in reports[0]]
    return rows
