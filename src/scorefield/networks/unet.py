"""The U-Net: our default network for images, and in larger forms DDPM's and Palette's.

Residual blocks of two 3×3 convolutions, told the noise level by a scale and a shift after the second
normalization, self-attention where the image is small, skip connections across equal sizes. `patch` folds
squares of pixels into channels first, which makes a small network several times cheaper.

Any height and width go in: the image is padded inside by its own edge to what the halvings need, and cut
back after.

A network with `classes` adds a vector for the image's class to the one for the noise level, and has one
more vector for images whose class is not told, so that one network knows both p(x) and p(x | c).

References:
    Ho et al. (2020), App. B. https://arxiv.org/abs/2006.11239
    Dhariwal & Nichol (2021), §3 (scale and shift), §4 (classes). https://arxiv.org/abs/2105.05233
    Ho & Salimans (2022), §3.2 (one network for both). https://arxiv.org/abs/2207.12598
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle, silu
from torch.utils.checkpoint import checkpoint

from scorefield.errors import UserError, did_you_mean
from scorefield.kernels.prepacked import lay
from scorefield.networks.layers import full, pad_to, telling, zeroed
from scorefield.networks.unet_layers import DOUBLE, HALVE, Block, Double, Halve, Resize, norm_of


@runtime_checkable
class HasClasses(Protocol):
    """A network whose fourth argument may be the class of each image, (B,), -1 where it is not told."""

    classes: int
    """How many there are; 0 where the network takes no such argument."""


class UNet(nn.Module):
    """(B, C, H, W) to (B, C, H, W), any H and W.

    Args:
        channels: C of the image, 1 to 4.
        source_channels: further input channels that a condition lays beside it.
        widths: channels at each size, the first even; the size halves from one to the next.
        blocks: residual blocks at each size on the way down (one more on the way up).
        attention: positions in `widths` that get self-attention.
        patch: side of the square of pixels folded into channels at the input.
        head_width: channels of one attention head, or the least above that divides the width.
        dropout: share of features dropped in each block in training.
        classes: how many classes of images there are; 0 where the network is told none.
        groups: of channels, how many every normalization has; by default by its width, see `groups_of`.
        resample: by what the size changes: "conv", one convolution, or "residual", a residual block.
        middle: at the smallest size: "plain", one more block like those before it, or "attention", two with
            self-attention between them, whatever `attention` says.
        attention_pieces: pieces along each side within which attention stays; 1 is global, 2 the quarters of
            the image.
        linear: also add to the output a linear map of the pixel's input channels, A x + b, whose A and b
            follow the noise level, so that no layer need carry the image itself.
        checkpointing: in training, compute each block anew for its gradient instead of keeping what it
            computed: a third more time for a fraction of the memory, the same numbers (Chen et al. 2016).

    Raises:
        UserError: a setting that makes no network.
    """

    def __init__(
        self,
        *,
        channels: int,
        source_channels: int = 0,
        widths: tuple[int, ...] | list[int] = (32, 64, 64),
        blocks: int = 1,
        attention: tuple[int, ...] | list[int] = (),
        patch: int = 1,
        head_width: int = 32,
        dropout: float = 0.0,
        classes: int = 0,
        groups: int | None = None,
        resample: Literal["conv", "residual"] = "conv",
        middle: Literal["plain", "attention"] = "plain",
        attention_pieces: int = 1,
        linear: bool = False,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        _check(channels, widths, blocks, patch, attention, classes, groups)
        _check_form(resample, middle, attention_pieces)
        self.settings: dict[str, Any] = {
            "channels": channels,
            "source_channels": source_channels,
            "widths": list(widths),
            "blocks": blocks,
            "attention": list(attention),
            "patch": patch,
            "head_width": head_width,
            "dropout": dropout,
            # Cards without these stay as they were.
            **({"classes": classes} if classes else {}),
            **({"groups": groups} if groups else {}),
            **({"resample": resample} if resample != "conv" else {}),
            **({"middle": middle} if middle != "plain" else {}),
            **({"attention_pieces": attention_pieces} if attention_pieces > 1 else {}),
            **({"linear": True} if linear else {}),
            **({"checkpointing": True} if checkpointing else {}),
        }
        self.classes, self.checkpointing = classes, checkpointing
        lowest, smallest = max(attention, default=0), patch * 2 ** (len(widths) - 1)
        self.patch, self.multiple = patch, math.lcm(smallest, attention_pieces * patch * 2**lowest)
        told = 4 * widths[0]
        self.embed = telling(widths[0])
        make = partial(Block, told=told, dropout=dropout, groups=groups, pieces=attention_pieces)

        def block(into: int, out: int, level: int) -> Block:
            return make(into, out, head_width=head_width if level in attention else 0)

        def resized(width: int, resize: Resize) -> nn.Module:
            if resample == "residual":
                return make(width, width, resize=resize)
            return Halve(width) if resize is HALVE else Double(width)

        self.first = nn.Conv2d((channels + source_channels) * patch**2, widths[0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        width, skips = widths[0], [widths[0]]
        for level, out in enumerate(widths):
            if level > 0:
                self.down.append(resized(width, HALVE))
                skips.append(width)
            for _ in range(blocks):
                self.down.append(block(width, out, level))
                width = out
                skips.append(width)
        last = len(widths) - 1
        if middle == "plain":
            self.middle, self.after = block(width, width, last), None
        else:
            self.middle, self.after = make(width, width, head_width=head_width), make(width, width)
        self.joins: list[bool] = []
        for level, out in reversed(list(enumerate(widths))):
            for _ in range(blocks + 1):
                self.up.append(block(width + skips.pop(), out, level))
                self.joins.append(True)
                width = out
            if level > 0:
                self.up.append(resized(width, DOUBLE))
                self.joins.append(False)
        self.norm = norm_of(width, groups)
        self.last = zeroed(nn.Conv2d(width, channels * patch**2, 3, padding=1))
        # Last, so that the other weights begin as they do without them.
        self.embed_class = nn.Embedding(classes + 1, told) if classes else nn.Identity()
        taken = channels + source_channels + 1
        self.linear = zeroed(nn.Linear(told, channels * taken)) if linear else None

    def forward(self, x: Tensor, label: Tensor, source: Tensor | None = None, classes: Tensor | None = None) -> Tensor:
        """F(x, label, source, classes).

        Args:
            x: (B, C, H, W).
            label: (B,).
            source: (B, source_channels, H, W), where the network has any.
            classes: (B,), whole numbers; -1, or None for all, where the class is not told.
        """
        height, width = x.shape[-2:]
        told = self._told(label, classes)
        taken = x if source is None else torch.cat([x, source], 1)
        hidden = self.first(lay(pixel_unshuffle(pad_to(taken, self.multiple), self.patch)))
        skips = [hidden]
        for layer in self.down:
            hidden = self._through(layer, told, hidden)
            skips.append(hidden)
        hidden = self._through(self.middle, told, hidden)
        if self.after is not None:
            hidden = self._through(self.after, told, hidden)
        for layer, joins in zip(self.up, self.joins, strict=True):
            hidden = self._through(layer, told, hidden, *([skips.pop()] if joins else []))
        hidden = pixel_shuffle(self.last(silu(self.norm(full(hidden)))), self.patch)[..., :height, :width]
        return hidden if self.linear is None else hidden + self._straight(taken, told)

    def _through(self, layer: nn.Module, told: Tensor, *parts: Tensor) -> Tensor:
        """A layer's output, of what comes to it side by side."""

        def run(told: Tensor, first: Tensor, *others: Tensor) -> Tensor:
            return layer(torch.cat([first, *others], 1) if others else first, told)

        if self.checkpointing and torch.is_grad_enabled():
            return cast(Tensor, checkpoint(run, told, *parts, use_reentrant=False))
        return run(told, *parts)

    def _straight(self, taken: Tensor, told: Tensor) -> Tensor:
        """A x + b at each pixel; in float32, as half precision would round the image itself."""
        assert self.linear is not None
        with torch.autocast(taken.device.type, enabled=False):
            weights = self.linear(told.float()).unflatten(1, (-1, taken.shape[1] + 1))
            mapped = torch.baddbmm(weights[..., -1:], weights[..., :-1], taken.float().flatten(2))
        return mapped.unflatten(2, taken.shape[2:])

    def _told(self, label: Tensor, classes: Tensor | None) -> Tensor:
        """The vector that each block hears; noise level and class are added before the last SiLU."""
        if not self.classes:
            assert classes is None, "this network takes no classes"
            return self.embed(label)
        if classes is None:
            classes = torch.full_like(label, -1, dtype=torch.long)
        rows = torch.where(classes < 0, self.classes, classes)
        return silu(self.embed[:-1](label) + self.embed_class(rows))


def _check(
    channels: int,
    widths: Sequence[int],
    blocks: int,
    patch: int,
    attention: Sequence[int],
    classes: int,
    groups: int | None,
) -> None:
    if not 1 <= channels <= 4:
        raise UserError("network.channels", f"an image has 1 to 4 channels, got {channels}.")
    if not widths or min(widths) < 1 or blocks < 1 or patch < 1:
        raise UserError("network", "widths, blocks and patch must be positive.")
    if widths[0] % 2:
        raise UserError("network.widths", f"the first must be even, got {widths[0]}.")
    if any(not 0 <= level < len(widths) for level in attention):
        raise UserError("network.attention", f"positions in widths run from 0 to {len(widths) - 1}.")
    if classes < 0:
        raise UserError("network.classes", f"cannot be fewer than none, got {classes}.")
    if groups is not None and (groups < 1 or any(width % groups for width in widths)):
        raise UserError("network.groups", f"must divide each of the widths {list(widths)}, got {groups}.")


def _check_form(resample: str, middle: str, pieces: int) -> None:
    for name, given, known in (
        ("resample", resample, ("conv", "residual")),
        ("middle", middle, ("plain", "attention")),
    ):
        if given not in known:
            raise UserError(f"network.{name}", f"no such kind {given!r}.", did_you_mean(given, known))
    if pieces < 1:
        raise UserError("network.attention_pieces", f"must be 1 or more, got {pieces}.")
