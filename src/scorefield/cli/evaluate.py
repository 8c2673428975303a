"""scorefield evaluate."""

from pathlib import Path
from typing import Annotated

import typer

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


def evaluate(
    model: ModelName,
    *,
    data: Data,
    crop: Crop = None,
    n: Annotated[int, typer.Option("-n", min=2, help="Samples to draw; distances need many.")] = 2000,
    sampler: Sampler = "heun",
    steps: Steps = None,
    seed: Seed = 0,
    features: NamedFeatures = None,
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

    Example: scorefield evaluate fashion --data fashion
    """
    import scorefield as sf
    from scorefield.data.datasets import held_out, open_images
    from scorefield.data.sheets import check_picture_name, save_image
    from scorefield.evaluation.report import evaluate as measure
    from scorefield.evaluation.report import sheet_of_neighbours

    require_free(out, json, overwrite=overwrite)
    if out is not None:
        check_picture_name(out)
    score_model = sf.load(model, device=device)
    channels, *size = score_model.shape
    if crop is None and (crop := trained_crop(model)) is not None:
        note(f"pictures are first cut to {crop}×{crop}, as in training")
    with progress("Reading pictures") as show:
        train, test = (
            open_images(
                data,
                size=(size[0], size[1]),
                crop=crop,
                channels=channels,
                split=split,
                track=lambda done, total: show(done / max(total, 1), ""),
            )
            for split in ("train", held_out(data))
        )
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
            track=lambda words, share: show(share, words),
        )
    table(report.rows())
    if out is not None:
        save_image(sheet_of_neighbours(pairs), out)
        tell(f"sheet {out}")
    write_json(json, report.to_dict())


def trained_crop(model: str) -> int | None:
    """The crop that the model's recipe cut its pictures with."""
    from scorefield import checkpoint, hub

    recipe = checkpoint.read_card(hub.find(model))["notes"].get("recipe", {})
    return recipe.get("data", {}).get("crop")
