"""What a run leaves on disk, so that it can go on exactly where it stopped.

RUN/recipe.toml          the resolved recipe
RUN/model.safetensors    averaged weights and card, what `load` reads
RUN/state.pt             everything else: raw weights, averages, optimizer, random states, position
RUN/log.csv, samples/    what happened
"""

import pickle
from pathlib import Path
from typing import Any

import torch

from scorefield.errors import UserError
from scorefield.files import atomic

STATE, MODEL, RECIPE, LOG, SAMPLES = "state.pt", "model.safetensors", "recipe.toml", "log.csv", "samples"


def save_state(state: dict[str, Any], run: Path) -> None:
    """Write the resume state atomically."""
    with atomic(run / STATE) as part:
        torch.save(state, part)


def load_state(run: Path) -> dict[str, Any]:
    """The resume state of a run, read without running any code of it.

    Raises:
        UserError: damaged.
    """
    path = run / STATE
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, OSError, ValueError) as error:
        raise UserError(
            path, "half-written or damaged; the run cannot go on from it.", "Start anew in another folder."
        ) from error


def trim_log(run: Path, step: int) -> None:
    """Take rows after `step` out of the log: they come again."""
    path = run / LOG
    if not path.is_file():
        return
    head, *rows = path.read_text().splitlines()
    kept = [row for row in rows if row.split(",")[0].isdigit() and int(row.split(",")[0]) <= step]
    with atomic(path) as part:
        part.write_text("\n".join([head, *kept]) + "\n")
