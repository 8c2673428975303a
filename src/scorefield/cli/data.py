"""scorefield data."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scorefield.cli.console import progress, require_free, table, tell, write_json
from scorefield.cli.options import DATA, Channels, Crop, Json, Overwrite, Size

if TYPE_CHECKING:
    from torch import Tensor

    from scorefield.training.schedule_from_data import ScheduleProposal

app = typer.Typer(
    no_args_is_help=True,
    help="Look at images before training on them. Example: scorefield data inspect photos/",
)


@app.callback()
def _group() -> None:  # pyright: ignore[reportUnusedFunction]
    """Keeps `inspect` a subcommand while it is the only one."""


@app.command()
def inspect(
    data: Annotated[str, typer.Argument(metavar="DATA", help=f"{DATA}.")],
    *,
    size: Size = None,
    crop: Crop = None,
    channels: Channels = None,
    split: Annotated[str, typer.Option("--split", help="train or test.")] = "train",
    out: Annotated[Path | None, typer.Option("--out", help="Write a contact sheet to this .png.")] = None,
    noise: Annotated[
        bool, typer.Option("--noise", help="Propose noise levels for the images, with the reasons.")
    ] = False,
    overwrite: Overwrite = False,
    json: Json = None,
) -> None:
    """List shape, statistics, classes and unreadable files of a data set.

    Example: scorefield data inspect photos/ --size 32 --out sheet.png
    """
    from scorefield.data.datasets import open_images
    from scorefield.data.grids import grid, save_image

    require_free(out, json, overwrite=overwrite)
    with progress("Reading images") as show:
        images = open_images(
            data,
            size=size,
            crop=crop,
            channels=channels,
            split=split,
            track=lambda d, t: show(d / max(t, 1), ""),
        )
    values = images.images[:10_000].float() / 255
    facts: dict[str, Any] = {
        "name": images.name,
        "images": len(images),
        "shape": "×".join(str(side) for side in images.shape),
        "mean": [round(v, 4) for v in values.mean((0, 2, 3)).tolist()],
        "spread": [round(v, 4) for v in values.std((0, 2, 3)).tolist()],
        "digest": images.digest(),
        "skipped": len(images.skipped),
    }
    if images.labels is not None:
        facts["classes"] = _counted(images.labels, images.class_names)
    table(facts)
    for name, count in facts.get("classes", {}).items():
        if count == 0:
            tell(f"note: class {name} has no images.")
    for remark in images.notes:
        tell(f"note: {remark}")
    for left in images.skipped:
        tell(f"skipped {left.path}: {left.reason}")
    if out is not None:
        chosen = [round(i * (len(images) - 1) / 63) for i in range(64)] if len(images) > 64 else range(len(images))
        save_image(grid(images.images[list(chosen)]), out)
        tell(f"sheet {out}")
    skipped = [{"path": s.path, "reason": s.reason} for s in images.skipped]
    found: dict[str, Any] = {}
    if noise:
        from dataclasses import asdict

        from scorefield.training.schedule_from_data import propose_schedule

        with progress("Measuring distances"):
            schedule = propose_schedule(images.images)
        _explain(schedule)
        found = {"noise": asdict(schedule)}
    write_json(json, facts | {"notes": images.notes, "skipped": skipped} | found)


def _explain(schedule: "ScheduleProposal") -> None:
    """Print the proposal, a line of explanation for each number, and the lines for a recipe."""
    wide, measured = schedule.scaled(2), schedule.distances
    sure = "exact" if measured.exact else "at least: the search was cut short"
    tell("", "noise levels after Song & Ermon (2020), for pixels in [0, 1], and in [-1, 1]")
    rows = [
        ("largest distance", measured.largest, wide.distances.largest, f"of any two images ({sure})"),
        ("median distance", measured.median, wide.distances.median, "of two images"),
        ("sigma_max", schedule.sigma_max, wide.sigma_max, "the largest distance: from any image to any other"),
        ("sigma_min", schedule.sigma_min, wide.sigma_min, "invisible"),
        (
            "ratio",
            schedule.ratio,
            wide.ratio,
            f"of neighbouring noise levels, set by the {measured.dim} values an image",
        ),
        ("levels", schedule.levels, wide.levels, f"noise levels, so that neighbours overlap by {schedule.overlap:.3f}"),
        ("updates a noise level", schedule.steps, wide.steps, "T; more are better and slower"),
        ("step size", schedule.step_size, wide.step_size, "of x + a/2 s + sqrt(a) z (convention paper)"),
        ("", schedule.step_size_code, wide.step_size_code, "of x + a s + sqrt(2a) z (convention code)"),
        ("evaluations", schedule.evaluations, wide.evaluations, "of the network for an image"),
    ]
    for name, narrow, broad, words in rows:
        numbers = (f"{v:.4g}" if isinstance(v, float) else f"{v:,}" for v in (narrow, broad))
        tell(f"{name:<16}  {'  '.join(f'{number:<9}' for number in numbers)}  {words}")
    distribution = f'{{ kind = "levels", levels = {schedule.levels} }}'
    tell("", 'in a recipe: noise = "auto", which for the default value_range [-1, 1] becomes')
    tell(
        "[noise]",
        f"sigma_max = {wide.sigma_max:.4g}",
        f"sigma_min = {wide.sigma_min:.4g}",
        f"distribution = {distribution}",
    )


def _counted(labels: "Tensor", names: tuple[str, ...] | None) -> dict[int | str, int]:
    """Number of images of each class, by name if it is known."""
    counts = labels.bincount(minlength=len(names or ())).tolist()
    return dict(zip(names, counts, strict=True)) if names else dict(enumerate(counts))
