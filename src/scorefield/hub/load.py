"""From a name to a model."""

from pathlib import Path
from typing import Any

import torch

from scorefield import checkpoint
from scorefield.errors import UserError, did_you_mean
from scorefield.hub.pipelines import import_diffusers, is_pipeline
from scorefield.model import ScoreModel

_WEIGHTS = Path(__file__).parent.parent / "assets" / "models"


def bundled() -> dict[str, Path]:
    """The models that come with the package, by name."""
    return {path.stem: path for path in sorted(_WEIGHTS.glob("*.safetensors"))}


def find(name: str | Path) -> Path:
    """The checkpoint that a name means: a bundled model, a file, or a run folder's weights.

    Raises:
        UserError: nothing of that name.
    """
    path = Path(name)
    if is_pipeline(name):
        mend = f"Take it over first: scorefield models import {name} --out model.safetensors"
        raise UserError(name, "a pipeline of diffusers, not a checkpoint of scorefield.", mend)
    if path.is_dir():
        if (path / "model.safetensors").is_file():
            return path / "model.safetensors"
        raise UserError(path, "this folder holds no model.safetensors.", "Give a run folder of `scorefield train`.")
    if path.is_file():
        return path
    if str(name) in bundled():
        return bundled()[str(name)]
    mend = did_you_mean(str(name), bundled()) if bundled() else "Train one: scorefield train."
    raise UserError(name, "no such model, file or run folder.", mend)


def notes(name: str | Path) -> dict[str, Any]:
    """What the card of a model tells beside what builds it; nothing for a pipeline of diffusers.

    Raises:
        UserError: nothing of that name.
    """
    return {} if is_pipeline(name) else checkpoint.read_card(find(name))["notes"]


def preferred_precision(device: str | torch.device) -> torch.dtype:
    """bfloat16 where the processor multiplies it natively, else float32."""
    device = torch.device(device)
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()  # pyright: ignore[reportPrivateUsage]
    else:
        native = False
    return torch.bfloat16 if native else torch.float32


def load(name: str | Path, *, device: str = "auto", precision: torch.dtype | None = None) -> ScoreModel:
    """A trained model, ready to denoise.

    Args:
        name: a bundled model's name, a .safetensors file, a run folder, or a pipeline of diffusers: its
            folder, or `hf:owner/name`, see `import_diffusers`.
        device: a torch device, or `auto` for the best there is.
        precision: of the network's inside; by default what `preferred_precision` says.

    Raises:
        UserError: no such model, a damaged file, or weights that do not fit.
    """
    where = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    model = import_diffusers(name).to(where) if is_pipeline(name) else checkpoint.load(find(name), device=where)
    return model.with_precision(precision or preferred_precision(where))
