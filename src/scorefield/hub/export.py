"""Our models as pipelines of `diffusers`.

Our U-Net maps to theirs weight for weight if both have the same form: residual blocks conditioned on the noise level
by scale and shift, cosines before sines, one number of groups in every normalization. Their middle has a second
residual block. Its last convolution is written as zeros, so it is the identity and can be trained.

The files are written without diffusers.

References:
    von Platen et al. (2022), diffusers. https://github.com/huggingface/diffusers
"""

import json
import math
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from scorefield.errors import UserError
from scorefield.files import atomic_folder
from scorefield.hub.pipelines import CONFIG, INDEX, SCHEDULER, WEIGHTS
from scorefield.hub.schedules import Settings, write_schedule
from scorefield.model import ScoreModel
from scorefield.networks.diffusers_unet import Diffusers
from scorefield.networks.layers import groups_of, heads_of
from scorefield.networks.unet import UNet

__all__ = ["export_diffusers"]

_VERSION = "0.35.0"  # the first that knows every setting written here
_LAYERS = {  # of our residual block: where theirs has them, {} being its number
    "norm1": "resnets.{}.norm1",
    "conv1": "resnets.{}.conv1",
    "tell": "resnets.{}.time_emb_proj",
    "norm2": "resnets.{}.norm2",
    "conv2": "resnets.{}.conv2",
    "skip": "resnets.{}.conv_shortcut",
    "attend.norm": "attentions.{}.group_norm",
    "attend.qkv": "attentions.{}.to_qkv",
    "attend.out": "attentions.{}.to_out.0",
}


def export_diffusers(model: ScoreModel, folder: str | Path) -> Path:
    """Write a model as the folder of a DDPMPipeline, atomically.

    Args:
        model: a variance-preserving model of pixels in [−1, 1] conditioned on the step (`conditioning="index"`),
            with a U-Net of their form.
        folder: new, or empty.

    Returns:
        The folder.

    Raises:
        UserError: the folder is not empty, or a setting of the model has no counterpart; the error names it.
    """
    folder = Path(folder)
    scheduler = write_schedule(model.parameterization, "parameterization")
    if model.value_range != (-1.0, 1.0):
        low, high = model.value_range
        raise UserError(
            "value_range",
            f"a DDPMPipeline's pixels are in [-1, 1], this model's in [{low:g}, {high:g}].",
            "Train one with data.value_range = [-1, 1].",
        )
    config, weights = _network(model)
    index = {
        "_class_name": "DDPMPipeline",
        "_diffusers_version": _VERSION,
        "scheduler": ["diffusers", scheduler["_class_name"]],
        "unet": ["diffusers", "UNet2DModel"],
    }
    with atomic_folder(folder) as part:
        (part / "unet").mkdir()
        (part / "scheduler").mkdir()
        _write_json(part / INDEX, index)
        _write_json(part / "scheduler" / SCHEDULER, scheduler | {"_diffusers_version": _VERSION})
        _write_json(part / "unet" / CONFIG, config)
        save_file(weights, part / "unet" / WEIGHTS, metadata={"format": "pt"})
    return folder


def _write_json(path: Path, content: Settings) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _network(model: ScoreModel) -> tuple[Settings, dict[str, Tensor]]:
    """The settings and weights of the UNet2DModel that the model's network is."""
    network = model.network
    named = {"_class_name": "UNet2DModel", "_diffusers_version": _VERSION}
    if isinstance(network, Diffusers):
        return named | network.settings["config"], _plain(network.unet.state_dict())
    if not isinstance(network, UNet):
        raise UserError(
            "network",
            f"{type(network).__name__} is no UNet2DModel.",
            'Train one with network.kind = "unet" and energy = false.',
        )
    return named | _config(network, model.shape), _plain(_weights(network))


def _plain(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in weights.items()}


def _config(network: UNet, shape: tuple[int, ...]) -> Settings:
    """The settings of the UNet2DModel that computes what our network does.

    Raises:
        UserError: there is none.
    """
    ours = network.settings
    channels, height, width = shape
    widths, attention = ours["widths"], set(ours["attention"])
    _refuse("patch", ours["patch"] != 1, "UNet2DModel folds no pixels into channels", "network.patch = 1")
    _refuse("source_channels", ours["source_channels"] != 0, "a DDPMPipeline has no condition", "none")
    _refuse("classes", network.classes != 0, "a DDPMPipeline has no classes", "data.labels = false")
    _refuse("linear", "linear" in ours, "UNet2DModel adds no linear map", "network.linear = false")
    _refuse("resample", "resample" in ours, "its residual resampling is not mapped", 'network.resample = "conv"')
    _refuse("middle", "middle" in ours, "its middle is not mapped", 'network.middle = "plain"')
    _refuse("attention", "attention_pieces" in ours, "UNet2DModel attends to all", "attention_pieces = 1")
    groups = _groups(network)
    if height % network.multiple or width % network.multiple:
        raise UserError(
            "shape",
            f"UNet2DModel does not pad: {height}×{width} must divide by {network.multiple}.",
            "Train one with another data.size, or fewer network.widths.",
        )
    kinds = ["Attn" if level in attention else "" for level in range(len(widths))]
    return {
        "sample_size": height if height == width else [height, width],
        "in_channels": channels,
        "out_channels": channels,
        "center_input_sample": False,
        "time_embedding_type": "positional",
        "freq_shift": 0,
        "flip_sin_to_cos": True,
        "down_block_types": [f"{kind}DownBlock2D" for kind in kinds],
        "up_block_types": [f"{kind}UpBlock2D" for kind in reversed(kinds)],
        "block_out_channels": widths,
        "layers_per_block": ours["blocks"],
        "mid_block_scale_factor": 1,
        "downsample_padding": 1,
        "downsample_type": "conv",
        "upsample_type": "conv",
        "dropout": ours["dropout"],
        "act_fn": "silu",
        "attention_head_dim": _head_width(network),
        "norm_num_groups": groups,
        "attn_norm_num_groups": groups,
        "norm_eps": network.norm.eps,
        "resnet_time_scale_shift": "scale_shift",
        "add_attention": len(widths) - 1 in attention,
    }


def _refuse(setting: str, stands: bool, what: str, mend: str) -> None:
    if stands:
        raise UserError(f"network.{setting}", f"{what}.", f"Train one with {mend}.")


def _groups(network: UNet) -> int:
    """The one number of groups of all normalizations."""
    found = {module.num_groups for module in network.modules() if isinstance(module, nn.GroupNorm)}
    _refuse(
        "groups",
        len(found) > 1,
        f"UNet2DModel has one number of groups for all widths, this network {sorted(found)}",
        f"network.groups = {groups_of(math.gcd(*network.settings['widths']), at_least=1)}",
    )
    return min(found)


def _head_width(network: UNet) -> int | None:
    """The one width of attention's heads; None is one head, as wide as its block."""
    widths = {network.settings["widths"][level] for level in network.settings["attention"]}
    heads = {width: heads_of(width, network.settings["head_width"]) for width in widths}
    if set(heads.values()) <= {1}:
        return None
    found = {width // count for width, count in heads.items()}
    _refuse(
        "head_width",
        len(found) > 1,
        f"UNet2DModel has one width of heads, this network {sorted(found)}",
        "a network.head_width that divides every width with attention",
    )
    return min(found)


def _weights(network: UNet) -> dict[str, Tensor]:
    """Our weights under their names."""
    places = _places(network)
    weights: dict[str, Tensor] = {}
    for name, value in network.state_dict().items():
        layer, _, kind = name.rpartition(".")
        theirs = places[layer]
        flat = value.flatten(1) if ".attend." in name and value.ndim == 4 else value  # theirs is no convolution
        if theirs.endswith(".to_qkv"):
            for letter, part in zip("qkv", flat.chunk(3), strict=True):
                weights[f"{theirs[:-3]}{letter}.{kind}"] = part
        else:
            weights[f"{theirs}.{kind}"] = flat
    for name in [name for name in weights if name.startswith("mid_block.resnets.0.")]:
        nothing = ".conv2." in name
        value = torch.zeros_like(weights[name]) if nothing else weights[name].clone()
        weights[name.replace("resnets.0", "resnets.1")] = value
    return weights


def _places(network: UNet) -> dict[str, str]:
    """From the name of a layer of ours to theirs."""
    places = {
        "embed.1": "time_embedding.linear_1",
        "embed.3": "time_embedding.linear_2",
        "first": "conv_in",
        "norm": "conv_norm_out",
        "last": "conv_out",
    }

    def block(ours: str, theirs: str, number: int) -> None:
        places.update({f"{ours}.{key}": f"{theirs}.{value.format(number)}" for key, value in _LAYERS.items()})

    levels, blocks = len(network.settings["widths"]), network.settings["blocks"]
    down, up = iter(range(len(network.down))), iter(range(len(network.up)))
    for level in range(levels):
        if level > 0:
            places[f"down.{next(down)}.conv"] = f"down_blocks.{level - 1}.downsamplers.0.conv"
        for number in range(blocks):
            block(f"down.{next(down)}", f"down_blocks.{level}", number)
    block("middle", "mid_block", 0)
    for level in range(levels):
        for number in range(blocks + 1):
            block(f"up.{next(up)}", f"up_blocks.{level}", number)
        if level < levels - 1:
            places[f"up.{next(up)}.conv"] = f"up_blocks.{level}.upsamplers.0.conv"
    return places
