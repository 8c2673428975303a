"""scorefield data."""

from pathlib import Path
from typing import Annotated, Any

import typer

from scorefield.cli.console import progress, require_free, table, tell, write_json
from scorefield.cli.options import DATA, Channels, Json, Overwrite, Size

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
    channels: Channels = None,
    split: Annotated[str, typer.Option("--split", help="train or test.")] = "train",
    out: Annotated[Path | None, typer.Option("--out", help="Write a contact sheet to this .png.")] = None,
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
            data, size=size, channels=channels, split=split, track=lambda d, t: show(d / max(t, 1), "")
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
        facts["classes"] = dict(enumerate(pictures.labels.bincount().tolist()))
    table(facts)
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
    write_json(json, facts | {"notes": pictures.notes, "skipped": skipped})
