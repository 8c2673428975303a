"""Images' pipelines of `diffusers`, as our models.

A pipeline is a folder: `model_index.json` says what is in it, `unet/` has the network's settings and weights,
`scheduler/` those of the noise schedule. Older ones have all of it in one place. Only JSON and safetensors
are read, so that no code of anyone runs; a pickle (`.bin`) is not opened.

References:
    von Platen et al. (2022), diffusers. https://github.com/huggingface/diffusers
"""

import json
import re
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from scorefield.checkpoint import fit_weights
from scorefield.errors import UserError
from scorefield.hub.schedules import Settings, read_schedule
from scorefield.model import ModelSpec, ScoreModel
from scorefield.networks.diffusers_unet import Diffusers
from scorefield.plain import check_plain

__all__ = ["import_diffusers", "is_pipeline"]

INDEX, CONFIG, SCHEDULER = "model_index.json", "config.json", "scheduler_config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"

_NEEDED = [INDEX, CONFIG, WEIGHTS, SCHEDULER, f"unet/{CONFIG}", f"unet/{WEIGHTS}", f"scheduler/{SCHEDULER}"]
_RENAMED = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}  # in 2022, attention
_MAX_JSON = 2**20
_AUTOENCODERS = {"vae", "vqvae", "movq"}


def is_pipeline(source: str | Path) -> bool:
    """Whether a name means a pipeline: `hf:owner/name`, or a folder with their files."""
    folder = Path(source)
    return str(source).startswith("hf:") or (folder / INDEX).is_file() or (folder / CONFIG).is_file()


def import_diffusers(source: str | Path) -> ScoreModel:
    """A pipeline with a `UNet2DModel`, as a model in evaluation mode.

    Networks of a variance-preserving scheduler predict the noise, x0 or the velocity on pixels in [−1, 1];
    those of the VE SDE give the score on pixels in [0, 1]. A variance that a network gives too is left out.

    Args:
        source: a pipeline's folder, the folder of its U-Net with the scheduler's settings in it or beside it,
            or `hf:owner/name` for one on the Hugging Face Hub (`hf:owner/name@revision` for a revision).

    Raises:
        UserError: files that are missing, cut short or only there as a pickle, a pipeline on latents or with
            classes, another network, or a schedule that is not known; diffusers is not installed.
    """
    folder = _fetch(str(source)) if str(source).startswith("hf:") else Path(source)
    if not folder.is_dir():
        raise UserError(source, "no such folder.", "Give a pipeline that diffusers saved, or hf:owner/name.")
    _check_index(folder)
    unet = folder / "unet" if (folder / "unet").is_dir() else folder
    config = _read_json(unet / CONFIG)
    schedule_file = _schedule_file(folder)
    schedule = read_schedule(_read_json(schedule_file), schedule_file)
    shape = _shape(config, unet / CONFIG)
    weights = _read_weights(unet)
    network = Diffusers(config=config)
    fit_weights(network.unet, weights, where=unet / WEIGHTS)
    return ScoreModel(
        network,
        schedule.parameterization,
        ModelSpec(shape=shape, value_range=schedule.value_range, sigma_range=schedule.sigma_range),
    ).eval()


def _fetch(name: str) -> Path:
    """The folder of a pipeline from the Hub: only the files that are needed, kept in the Hub's own cache."""
    try:
        import huggingface_hub as hub  # noqa: PLC0415 (an extra)
    except ImportError as error:
        mend = "pip install 'scorefield[diffusers]'"
        raise UserError(name, "needs the package huggingface_hub.", mend) from error
    found = re.fullmatch(r"hf:([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", name)
    if not found:
        raise UserError(name, "not a name on the Hub.", "Write hf:owner/name or hf:owner/name@revision.")
    try:
        return Path(hub.snapshot_download(found[1], revision=found[2], allow_patterns=_NEEDED))
    except Exception as error:  # no such name, no network, no rights, a full disk: a kind of error for each
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(name, f"could not be fetched: {reason}", "Or give a folder that you have.") from error


def _check_index(folder: Path) -> None:
    """Check that a pipeline, where its index is there, draws images by a UNet2DModel only."""
    if not (folder / INDEX).is_file():
        return
    index = _read_json(folder / INDEX)
    if latent := _AUTOENCODERS & index.keys():
        raise UserError(folder, f"a pipeline on latents (it has a {min(latent)}); only pixels are read.")
    part: Any = index.get("unet")
    name = part[-1] if isinstance(part, list) and part else None  # pyright: ignore[reportUnknownVariableType]
    if name != "UNet2DModel":
        raise UserError(folder, f"its network is {name or 'no U-Net'}; only a UNet2DModel is read.")


def _schedule_file(folder: Path) -> Path:
    places = [folder / "scheduler", folder, folder.parent / "scheduler"]
    for place in places:
        if (place / SCHEDULER).is_file():
            return place / SCHEDULER
    raise UserError(
        folder,
        f"no scheduler/{SCHEDULER}: the network's noise levels are unknown.",
        "Copy the pipeline's into it.",
    )


def _shape(config: Settings, where: Path) -> tuple[int, int, int]:
    """(C, H, W) of the images; checks that the network is unconditional."""
    name = config.get("_class_name", "UNet2DModel")
    if name != "UNet2DModel":
        raise UserError(where, f"its network is {name}; only a UNet2DModel is read.")
    if config.get("class_embed_type") is not None or config.get("num_class_embeds") is not None:
        raise UserError(where, "its network needs a class; only networks without classes are read.")
    channels, given = config.get("in_channels", 3), config.get("out_channels", 3)
    if given not in {channels, 2 * channels}:
        raise UserError(where, f"its network takes {channels} channels and returns {given}: not unconditional.")
    size: Any = config.get("sample_size")
    sides = cast(list[Any], size if isinstance(size, list) else [size, size])
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise UserError(where, f"sample_size {size} is no size of an image.", "Write the side into it.")
    return channels, sides[0], sides[1]


def _read_json(path: Path) -> Settings:
    if not path.is_file():
        raise UserError(path, "no such file.", "Give the whole folder that diffusers saved.")
    try:
        if path.stat().st_size > _MAX_JSON:
            raise ValueError(f"{path.stat().st_size} bytes are no settings")
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(path, f"not valid JSON, or cut short: {error}.", "Copy it again.") from error
    if not isinstance(content, dict):
        raise UserError(path, "not settings of diffusers.", "Give the whole folder that diffusers saved.")
    check_plain(content, path)
    return cast(Settings, content)


def _read_weights(folder: Path) -> dict[str, Tensor]:
    """The weights under the names of today's networks."""
    path = folder / WEIGHTS
    if not path.is_file():
        if any(folder.glob("*.bin")):
            raise UserError(
                folder,
                "its weights are a pickle (.bin), which could run code; not read.",
                "Save it with safe_serialization=True.",
            )
        raise UserError(path, "no such file.", "Weights in safetensors are read, in one file, and no .bin.")
    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(path, f"half-written or damaged ({error}).", "Copy it again.") from error
    return {_today(name): value for name, value in weights.items()}


def _today(name: str) -> str:
    *inner, part, kind = name.split(".")
    return ".".join([*inner, _RENAMED.get(part, part), kind]) if "attentions" in inner else name
