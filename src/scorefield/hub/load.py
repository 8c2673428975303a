"""From a name to a model."""

from pathlib import Path

import torch

from scorefield import checkpoint
from scorefield.errors import UserError, did_you_mean
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
    if path.is_dir():
        if (path / "model.safetensors").is_file():
            return path / "model.safetensors"
        raise UserError(
            path, "this folder holds no model.safetensors.", "Give a run folder of `scorefield train`."
        )
    if path.is_file():
        return path
    if str(name) in bundled():
        return bundled()[str(name)]
    mend = did_you_mean(str(name), bundled()) if bundled() else "Train one: scorefield train."
    raise UserError(name, "no such model, file or run folder.", mend)


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
        name: a bundled model's name, a .safetensors file, or a run folder.
        device: a torch device, or `auto` for the best there is.
        precision: of the network's inside; by default what `preferred_precision` says.

    Raises:
        UserError: no such model, a damaged file, or weights that do not fit.
    """
    where = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    model = checkpoint.load(find(name), device=where)
    model.precision = precision or preferred_precision(where)
    return model
