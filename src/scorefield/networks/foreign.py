"""The U-Net of `diffusers`, called as ours are.

Which package built a network is no matter of what its output means, so that the wrapper only passes on: x,
with a condition's channels beside it, and the label as their timestep. Their network is built from the
settings in its `config.json`, which a checkpoint's card keeps; the package is needed only then.

References:
    von Platen et al. (2022), diffusers. https://github.com/huggingface/diffusers
"""

from typing import Any, cast

import torch
from torch import Tensor, nn

from scorefield.errors import UserError
from scorefield.networks.layers import pad_to


class Diffusers(nn.Module):
    """`diffusers.UNet2DModel`: (B, C, H, W) to (B, C, H, W), any H and W.

    An image whose sides their halvings do not divide is padded inside by its own edge and cut back after.

    Args:
        config: the settings of its `config.json`; names that begin with `_` and settings that this version
            of the package does not know are left out.

    Raises:
        UserError: diffusers is not installed, or cannot build a network of these settings.
    """

    def __init__(self, *, config: dict[str, Any]) -> None:
        super().__init__()
        config = {key: value for key, value in config.items() if not key.startswith("_")}
        self.settings: dict[str, Any] = {"config": config}
        self.unet = _build(config)
        self.multiple = 2 ** (len(self.unet.down_blocks) - 1)
        self.whole = config.get("time_embedding_type") == "learned"  # a table of steps

    def forward(self, x: Tensor, label: Tensor, source: Tensor | None = None) -> Tensor:
        """F(x, label, source); of a network that gives a variance too, the first half alone.

        Args:
            x: (B, C, H, W).
            label: (B,), their timestep.
            source: (B, K, H, W), where the network takes C + K channels.
        """
        height, width = x.shape[-2:]
        hidden = pad_to(x if source is None else torch.cat([x, source], 1), self.multiple)
        output = self.unet(hidden, label.round().long() if self.whole else label, return_dict=False)[0]
        return output[:, : x.shape[1], :height, :width]


def _build(config: dict[str, Any]) -> Any:
    try:
        from diffusers import UNet2DModel  # noqa: PLC0415  # pyright: ignore[reportPrivateImportUsage]
    except ImportError as error:
        raise UserError(
            "network diffusers", "needs the package diffusers.", "pip install 'scorefield[diffusers]'"
        ) from error
    try:
        return cast(Any, UNet2DModel).from_config(config)
    except Exception as error:  # theirs: ValueError, TypeError, KeyError and others, by what does not fit
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError("network diffusers", f"its settings build no UNet2DModel: {reason}") from error
