"""The files of a run, from which it resumes exactly where it stopped.

RUN/recipe.toml          the resolved recipe
RUN/model.safetensors    averaged weights and card, what `load` reads
RUN/checkpoints/         all that it takes to go on: raw weights, averages, optimizer, random states, step
RUN/log.csv, samples/    its history

A checkpoint is named STEP-DIGEST.pt, after the first half of its SHA-256, so that digest and content become visible by
one rename. The last two are kept. One that is damaged is never used: the run goes on from the one before it.
"""

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch

from scorefield.errors import UserError
from scorefield.files import atomic, sha256, sweep, write_atomic

MODEL, RECIPE, LOG, SAMPLES, CHECKPOINTS = "model.safetensors", "recipe.toml", "log.csv", "samples", "checkpoints"
KEPT = 2  # the newest may be damaged after it was written, by the disk or a copy
_UNDIGESTED = "state.pt"  # the one checkpoint of runs that versions before 0.2 began
_DIGITS = 32
_NAME = re.compile(rf"(\d+)-([0-9a-f]{{{_DIGITS}}})\.pt")
_ENTRIES = {"step", "seconds", "network", "average", "optimizer", "generator", "torch"}


def copied(state: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of nested dictionaries and lists of tensors, in the CPU's memory."""
    return cast(dict[str, Any], _copied(state))


def _copied(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: _copied(inner) for key, inner in cast(Mapping[Any, Any], value).items()}
    if isinstance(value, list):
        return [_copied(inner) for inner in cast(list[Any], value)]
    return value


def checkpoints(run: Path) -> list[Path]:
    """The checkpoints of a run, newest first."""
    found = {path: int(match[1]) for path in (run / CHECKPOINTS).glob("*.pt") if (match := _NAME.fullmatch(path.name))}
    old = run / _UNDIGESTED
    return [*sorted(found, key=lambda path: (found[path], path.name), reverse=True), *([old] if old.is_file() else [])]


def save_state(state: dict[str, Any], run: Path) -> Path:
    """Write a checkpoint, on the disk and whole when this returns, and remove those before the last two."""
    folder, step = run / CHECKPOINTS, state["step"]

    def name(part: Path) -> str:
        return f"{step:07d}-{sha256(part)[:_DIGITS]}.pt"

    with atomic(folder / "checkpoint.pt", name=name) as part, part.open("wb") as file:
        torch.save(state, file)  # an open file reports why writing fails
    kept = checkpoints(run)
    for path in kept[KEPT:]:
        path.unlink(missing_ok=True)
    return kept[0]


def load_state(run: Path) -> dict[str, Any] | None:
    """The newest whole checkpoint of a run, read without running code from it; None where there is none yet.

    Each that is damaged is named in a warning, and the one before it is read. Nothing is changed on the disk.

    Raises:
        UserError: there are checkpoints, and none is whole.
    """
    found = checkpoints(run)
    for path in found:
        state = _read(path)
        if state is not None:
            return state
        warnings.warn(f"{path}: damaged; it is not used.", stacklevel=2)
    if found:
        what = f"damaged, and so {'is' if len(found) == 2 else 'are'} the {len(found) - 1} before it" * (len(found) > 1)
        mend = f"Copy it again, or train in another folder from its model: --set training.init={run}."
        raise UserError(found[0], f"{what or 'damaged'}; the run cannot resume.", mend)
    return None


def _read(path: Path) -> dict[str, Any] | None:
    """A checkpoint, or None if it is damaged."""
    match = _NAME.fullmatch(path.name)
    try:
        if match is None:
            with zipfile.ZipFile(path) as file:
                whole = file.testzip() is None
        else:
            whole = sha256(path)[:_DIGITS] == match[2]
        if not whole:
            return None
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None
    return cast(dict[str, Any], state) if isinstance(state, dict) and state.keys() >= _ENTRIES else None


def begin_session(run: Path, step: int) -> None:
    """Put a locked run in order: half-written files are removed, damaged checkpoints set aside.

    Args:
        run: its folder.
        step: of the checkpoint that training goes on from; 0 for none.

    Raises:
        UserError: another process has trained here since that checkpoint was read.
    """
    for folder in (run, run / CHECKPOINTS, run / SAMPLES):
        sweep(folder)
    for path in checkpoints(run):
        match = _NAME.fullmatch(path.name)
        if match is None or int(match[1]) <= step:
            continue
        if _read(path) is not None:
            raise UserError(
                run, f"another process has trained here meanwhile, to step {int(match[1])}.", "Start again."
            )
        path.replace(path.with_suffix(".damaged"))


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


__all__ = [
    "CHECKPOINTS",
    "KEPT",
    "LOG",
    "MODEL",
    "RECIPE",
    "SAMPLES",
    "begin_session",
    "checkpoints",
    "copied",
    "load_state",
    "save_state",
    "trim_log",
]
