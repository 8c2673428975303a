"""scorefield demo."""

from pathlib import Path
from typing import Annotated

import typer

from scorefield.cli.console import progress, table, tell
from scorefield.cli.options import DATA, Seed
from scorefield.errors import UserError


def demo(
    *,
    out: Annotated[Path, typer.Option("--out", help="A new folder for images and the page.")] = Path("demo"),
    data: Annotated[str, typer.Option("--data", help=f"{DATA}.")] = "fashion",
    train_for: Annotated[str, typer.Option("--train-for", help="How long to train: 90s, 2m …")] = "110s",
    seed: Seed = 0,
) -> None:
    """The tour: train a little, sample, restore; writes images and a page that explains them.

    Example: scorefield demo --out demo
    """
    from scorefield.figures.tour import demo as tour
    from scorefield.training import parse_duration

    try:
        seconds = parse_duration(train_for)
    except ValueError as error:
        raise UserError("--train-for", f"{error}.") from error
    if seconds <= 0:
        raise UserError("--train-for", "training needs a length.", "Write for example 90s or 2m.")
    with progress("Tour") as show:
        shares = {"Training": (0.0, 0.8), "Sampling": (0.8, 0.82), "Restoring": (0.82, 1.0), "Done": (1.0, 1.0)}

        def shown(part: str, share: float, words: str) -> None:
            low, high = shares[part]
            show(low + (high - low) * share, f"{part.lower()}: {words}")

        made = tour(out, data=data, train_seconds=seconds, seed=seed, show=shown)
    table({
        "images seen": f"{made.images:,} in {made.train_seconds:.0f} s",
        "64 samples": f"{made.sample_seconds:.1f} s",
        "whole tour": f"{made.seconds:.0f} s",
    })  # fmt: skip
    tell(f"Open {made.page}")
    tell(f"Next: scorefield sample {out / 'run'} -n 64 --out samples.png")
