"""scorefield data."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scorefield.cli.console import progress, require_free, table, tell, write_json
from scorefield.cli.options import DATA, Channels, Crop, Json, Overwrite, Size

if TYPE_CHECKING:
    from torch import Tensor

    from scorefield.noise import LadderProposal

app = typer.Typer(
    no_args_is_help=True,
    help="Look at pictures before training on them. Example: scorefield data inspect photos/",
)


@app.callback()
def _group() -> None:  # pyright: ignore[reportUnusedFunction]
    """Keeps `inspect` a verb of its own while it is the only one."""


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
        bool, typer.Option("--noise", help="Work out the noise levels that suit the pictures, and why.")
    ] = False,
    overwrite: Overwrite = False,
    json: Json = None,
) -> None:
    """Count, measure and list: shape, values, classes, and what could not be read.

    Example: scorefield data inspect photos/ --size 32 --out sheet.png
    """
    from scorefield.data.datasets import open_images
    from scorefield.data.sheets import grid, save_image

    require_free(out, json, overwrite=overwrite)
    with progress("Reading pictures") as show:
        pictures = open_images(
            data,
            size=size,
            crop=crop,
            channels=channels,
            split=split,
            track=lambda d, t: show(d / max(t, 1), ""),
        )
    values = pictures.images[:10_000].float() / 255
    facts: dict[str, Any] = {
        "name": pictures.name,
        "pictures": len(pictures),
        "shape": "×".join(str(side) for side in pictures.shape),
        "mean": [round(v, 4) for v in values.mean((0, 2, 3)).tolist()],
        "spread": [round(v, 4) for v in values.std((0, 2, 3)).tolist()],
        "digest": pictures.digest(),
        "skipped": len(pictures.skipped),
    }
    if pictures.labels is not None:
        facts["classes"] = _counted(pictures.labels, pictures.class_names)
    table(facts)
    for name, count in facts.get("classes", {}).items():
        if count == 0:
            tell(f"note: class {name} has no images.")
    for remark in pictures.notes:
        tell(f"note: {remark}")
    for left in pictures.skipped:
        tell(f"skipped {left.path}: {left.reason}")
    if out is not None:
        chosen = (
            [round(i * (len(pictures) - 1) / 63) for i in range(64)]
            if len(pictures) > 64
            else range(len(pictures))
        )
        save_image(grid(pictures.images[list(chosen)]), out)
        tell(f"sheet {out}")
    skipped = [{"path": s.path, "reason": s.reason} for s in pictures.skipped]
    found: dict[str, Any] = {}
    if noise:
        from dataclasses import asdict

        from scorefield.noise import propose_ladder

        with progress("Measuring distances"):
            ladder = propose_ladder(pictures.images)
        _explain(ladder)
        found = {"noise": asdict(ladder)}
    write_json(json, facts | {"notes": pictures.notes, "skipped": skipped} | found)


def _explain(ladder: "LadderProposal") -> None:
    """The proposal with a line of explanation for each number, and what to write in a recipe."""
    wide, measured = ladder.scaled(2), ladder.distances
    sure = "exact" if measured.exact else "at least: the search was cut short"
    tell("\nnoise levels after Song & Ermon (2020), for pixels in [0, 1], and in [-1, 1]")
    rows = [
        ("largest distance", measured.largest, wide.distances.largest, f"of any two pictures ({sure})"),
        ("median distance", measured.median, wide.distances.median, "of two pictures"),
        ("sigma_max", ladder.sigma_max, wide.sigma_max, "the largest distance: noise that leads anywhere"),
        ("sigma_min", ladder.sigma_min, wide.sigma_min, "too little to be seen"),
        (
            "ratio",
            ladder.ratio,
            wide.ratio,
            f"of neighbouring rungs, set by the {measured.dim} values a picture",
        ),
        ("levels", ladder.levels, wide.levels, f"rungs, so that neighbours overlap by {ladder.overlap:.3f}"),
        ("updates a rung", ladder.steps, wide.steps, "T; more are better and slower"),
        ("step size", ladder.step_size, wide.step_size, "of x + a/2 s + sqrt(a) z (convention paper)"),
        ("", ladder.step_size_code, wide.step_size_code, "of x + a s + sqrt(2a) z (convention code)"),
        ("evaluations", ladder.evaluations, wide.evaluations, "of the network for a picture"),
    ]
    for name, narrow, broad, words in rows:
        numbers = (f"{v:.4g}" if isinstance(v, float) else f"{v:,}" for v in (narrow, broad))
        tell(f"{name:<16}  {'  '.join(f'{number:<9}' for number in numbers)}  {words}")
    law = f'{{ kind = "rungs", levels = {ladder.levels} }}'
    tell('\nin a recipe: noise = "auto", which for the default value_range [-1, 1] becomes')
    tell(f"[noise]\nsigma_max = {wide.sigma_max:.4g}\nsigma_min = {wide.sigma_min:.4g}\nlaw = {law}")


def _counted(labels: "Tensor", names: tuple[str, ...] | None) -> dict[int | str, int]:
    """How many pictures each class has, by its name where it is known."""
    counts = labels.bincount(minlength=len(names or ())).tolist()
    return dict(zip(names, counts, strict=True)) if names else dict(enumerate(counts))
