"""The files of a run, from which it resumes exactly where it stopped.

RUN/recipe.toml          the resolved recipe
RUN/model.safetensors    averaged weights and card, what `load` reads
RUN/state.pt             the rest: raw weights, averages, optimizer, random states, step
RUN/log.csv, samples/    its history
"""

import pickle
from pathlib import Path
from typing import Any, cast

import torch

from scorefield.errors import UserError
from scorefield.files import atomic, write_atomic

STATE, MODEL, RECIPE, LOG, SAMPLES = "state.pt", "model.safetensors", "recipe.toml", "log.csv", "samples"
_ENTRIES = {"step", "seconds", "network", "average", "optimizer", "generator", "torch"}


def save_state(state: dict[str, Any], run: Path) -> None:
    """Write the resume state atomically."""
    with atomic(run / STATE) as part, part.open("wb") as file:  # an open file reports why writing fails
        torch.save(state, file)


def load_state(run: Path) -> dict[str, Any] | None:
    """The resume state of a run, read without running code from it; None where there is none yet.

    Half-written files of a killed run are removed.

    Raises:
        UserError: a file that cannot be read.
    """
    path = run / STATE
    for part in [*run.glob(".state-*.pt"), *run.glob(".model-*.safetensors")]:
        part.unlink(missing_ok=True)
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or not state.keys() >= _ENTRIES:
            raise ValueError
    except (RuntimeError, EOFError, pickle.UnpicklingError, OSError, ValueError, KeyError) as error:
        raise UserError(
            path, "half-written or damaged; the run cannot resume from it.", "Start anew in another folder."
        ) from error
    return cast(dict[str, Any], state)


def trim_log(run: Path, step: int) -> None:
    """Remove the log's rows after `step`; a resumed run writes them again."""
    path = run / LOG
    if not path.is_file():
        return
    lines = path.read_text(encoding="utf-8").splitlines()
    if not lines:  # killed before the first row
        path.unlink()
        return
    head, *rows = lines
    cells = [row.split(",") for row in rows]
    whole = [row for row in cells if len(row) == head.count(",") + 1 and row[0].isdigit()]
    kept = [",".join(row) for row in whole if int(row[0]) <= step]
    write_atomic(path, "\n".join([head, *kept]) + "\n")


__all__ = ["LOG", "MODEL", "RECIPE", "SAMPLES", "STATE", "load_state", "save_state", "trim_log"]
