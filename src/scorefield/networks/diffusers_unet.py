"""The U-Net of `diffusers` as a network of this library.

The wrapper passes on x, with a condition's channels beside it, and the label as the timestep. What the output
means is the parameterization's matter. The network is built from the settings in its `config.json`, which a
checkpoint's card keeps; the package is imported only then.

References:
    von Platen et al. (2022), diffusers. https://github.com/huggingface/diffusers
"""

from typing import Any, cast

import torch
from torch import Tensor, nn

from scorefield.errors import UserError
from scorefield.networks.layers import pad_to
from scorefield.plain import check_plain

__all__ = ["Diffusers"]


class Diffusers(nn.Module):
    """`diffusers.UNet2DModel`: (B, C, H, W) to (B, C, H, W), any H and W.

    An image whose sides do not divide by the network's halvings is padded inside by its own edge, and the output is
    cut back.

    Args:
        config: the settings of its `config.json`; names that begin with `_`, and settings that this version
            of the package does not know, are ignored.

    Raises:
        UserError: diffusers is not installed, or cannot build a network of these settings.
    """

    def __init__(self, *, config: dict[str, Any]) -> None:
        super().__init__()
        config = {key: value for key, value in config.items() if not key.startswith("_")}
        _check_config(config)
        self.settings: dict[str, Any] = {"config": config}
        self.unet = _build(config)
        self.multiple = 2 ** (len(self.unet.down_blocks) - 1)
        self.integer_label = config.get("time_embedding_type") == "learned"  # a table of steps

    def forward(self, x: Tensor, label: Tensor, source: Tensor | None = None) -> Tensor:
        """F(x, label, source). Of a network that also predicts a variance, the first half of the channels.

        Args:
            x: (B, C, H, W).
            label: (B,), the timestep.
            source: (B, K, H, W), where the network takes C + K channels.
        """
        height, width = x.shape[-2:]
        hidden = pad_to(x if source is None else torch.cat([x, source], 1), self.multiple)
        output = self.unet(hidden, label.round().long() if self.integer_label else label, return_dict=False)[0]
        return output[:, : x.shape[1], :height, :width]


def _check_config(config: dict[str, Any]) -> None:
    """Bounds on every number, and narrower ones on counts of layers, which are built one by one."""
    check_plain(config, "network diffusers")
    for key, value in config.items():
        numbers = cast(list[Any], value) if isinstance(value, list | tuple) else [value]
        most = 64 if "layers" in key else 2**16
        wild = [n for n in numbers if isinstance(n, int | float) and not abs(n) <= most]
        if wild or len(numbers) > 64:
            what = f"{wild[0]} is more than {most}" if wild else f"{len(numbers)} values are more than 64"
            raise UserError(f"network.{key}", f"{what}.")


def _build(config: dict[str, Any]) -> Any:
    try:
        from diffusers import UNet2DModel  # noqa: PLC0415  # pyright: ignore[reportPrivateImportUsage]
    except ImportError as error:
        raise UserError(
            "network diffusers", "needs the package diffusers.", "pip install 'scorefield[diffusers]'"
        ) from error
    try:
        return cast(Any, UNet2DModel).from_config(config)
    except Exception as error:  # of diffusers: ValueError, TypeError, KeyError and others
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError("network diffusers", f"its settings build no UNet2DModel: {reason}") from error
