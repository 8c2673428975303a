"""From a name to a model.

The name of a bundled model, such as `fashion`, means that model; a path of the same name is written `./fashion`.

One bundled name may hold several models: `NAME.TASK.safetensors` beside `NAME.safetensors` is a specialist. The loaded
model knows it (`ScoreModel.for_task`), and it restores that task.
"""

import re
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any, cast

import torch

from scorefield import checkpoint
from scorefield.errors import UserError, did_you_mean
from scorefield.hub.foreign import ForeignNetwork, import_spandrel, is_foreign, precision_of
from scorefield.hub.pipelines import import_diffusers, is_pipeline
from scorefield.model import ScoreModel

__all__ = ["bundled", "find", "load", "notes", "preferred_precision", "specialists"]

_WEIGHTS = Path(__file__).parent.parent / "assets" / "models"


def bundled() -> dict[str, Path]:
    """The models that come with the package, by name; specialists are left out."""
    return {path.stem: path for path in sorted(_WEIGHTS.glob("*.safetensors")) if "." not in path.stem}


def specialists(name: str | Path) -> dict[str, Path]:
    """The files of a bundled model that restore one task each in its place, by task; none for any other name."""
    if not _is_bare(name):
        return {}
    return {path.stem.partition(".")[2]: path for path in sorted(_WEIGHTS.glob(f"{name}.*.safetensors"))}


def find(name: str | Path, *, task: str | None = None) -> Path:
    """The checkpoint of a bundled model, a file, or a run folder.

    Args:
        name: a bundled model, or a path; every `Path` is a path.
        task: what it is to restore, such as "dejpeg": a bundled model may have a specialist for it.

    Raises:
        UserError: nothing of that name.
    """
    path = Path(name)
    if isinstance(name, str) and name in bundled():
        return specialists(name).get(task or "", bundled()[name])
    if is_pipeline(name):
        mend = f"Import it first: scorefield models import {name} --out model.safetensors"
        raise UserError(name, "a pipeline of diffusers, not a checkpoint of scorefield.", mend)
    if path.is_dir():
        if (path / "model.safetensors").is_file():
            return path / "model.safetensors"
        raise UserError(path, "this folder holds no model.safetensors.", "Give a run folder of `scorefield train`.")
    if path.is_file():
        return path
    raise UserError(name, "no such model, file or run folder.", _known_models(str(name)))


def _is_bare(name: str | Path) -> bool:
    return isinstance(name, str) and re.fullmatch(r"\w[\w-]*", name) is not None


def _is_pipeline(name: str | Path) -> bool:
    return not _is_bare(name) and is_pipeline(name)


def _known_models(name: str) -> str:
    return did_you_mean(name, bundled()) if bundled() else "Train one: scorefield train."


def notes(name: str | Path) -> dict[str, Any]:
    """The notes in a model's card: its data, licence and measures. Models of other programs have none.

    Raises:
        UserError: nothing of that name.
    """
    if _is_pipeline(name) or is_foreign(path := find(name)):
        return {}
    return checkpoint.read_card(path)["notes"]


def preferred_precision(device: str | torch.device) -> torch.dtype:
    """bfloat16 where the device multiplies it natively, else float32: emulated, it is over a hundred times slower."""
    device = torch.device(device)
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()  # pyright: ignore[reportPrivateUsage]
    else:
        native = False
    return torch.bfloat16 if native else torch.float32


def load(name: str | Path, *, device: str = "auto", precision: torch.dtype | None = None) -> ScoreModel:
    """A trained model, ready to denoise. One of a bundled name knows its specialists, `ScoreModel.for_task`.

    Args:
        name: a bundled model's name; the path of a .safetensors file or a run folder, `./name` if it has no
            slash; a pipeline of diffusers, its folder or `hf:owner/name`, see `import_diffusers`; or weights of
            another program's restoration network, such as `./realesrgan.pth`, see `import_spandrel`.
        device: a torch device, or `auto` for the best there is.
        precision: number format inside the network; by default that of `preferred_precision`; of another
            program's network, see `precision_of`.

    Raises:
        UserError: no such model, a damaged file, or weights that do not fit.
    """
    where = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    if _is_pipeline(name):
        model = import_diffusers(name).to(where)
    elif is_foreign(path := find(name)):
        model = import_spandrel(path).to(where)
        return model.with_precision(precision_of(cast(ForeignNetwork, model.network), where, precision))
    else:
        model = checkpoint.load(path, device=where)
        model.specialists = {task: _LazyModel(each) for task, each in specialists(name).items()}
    return model.with_precision(precision or preferred_precision(where))


class _LazyModel:
    """A specialist that is read when it is first needed, once for each device and precision; threads share it."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, Lock()
        self._loaded: dict[tuple[torch.device, torch.dtype], ScoreModel] = {}

    def __call__(self, general: ScoreModel) -> ScoreModel:
        """See `Specialist`."""
        key = general.device, general.precision
        with self._lock:
            if key not in self._loaded:
                self._loaded[key] = checkpoint.load(self._path, device=key[0]).with_precision(key[1])
            return self._loaded[key]

    def __reduce__(self) -> tuple[Callable[[Path], "_LazyModel"], tuple[Path]]:
        return _LazyModel, (self._path,)  # a lock can be neither copied nor pickled
