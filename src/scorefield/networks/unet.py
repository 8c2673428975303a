"""The U-Net: the default network for images, and in larger forms that of DDPM and of Palette.

Residual blocks of two 3×3 convolutions take the noise level as a scale and a shift after the second
normalization. Self-attention stands where the image is small, skip connections join equal sizes. `patch` folds
squares of pixels into channels first, which makes a small network several times cheaper.

Any height and width is accepted. The image is padded inside by its own edge to a multiple of the least size,
and the output is cut back.

A block that halves the size averages squares of 2×2 after its first activation and on its shortcut; one that
doubles it repeats every pixel there (the blocks of BigGAN; Song et al. 2021; Dhariwal & Nichol 2021, §3).

A network with `classes` adds an embedding of the image's class to that of the noise level. One more embedding
stands for "no class", so that one network knows both p(x) and p(x | c).

On a CPU images lie in memory channels last, which convolutions and attention take as they are. Normalization and
activation are in float32, which is more accurate there and no slower than half precision.

References:
    Ho et al. (2020), App. B. https://arxiv.org/abs/2006.11239
    Song et al. (2021), App. H. https://arxiv.org/abs/2011.13456
    Dhariwal & Nichol (2021), §3 (blocks, scale and shift), §4 (classes). https://arxiv.org/abs/2105.05233
    Ho & Salimans (2022), §3.2 (one network for both). https://arxiv.org/abs/2207.12598
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, pixel_shuffle, pixel_unshuffle, silu
from torch.utils.checkpoint import checkpoint

from scorefield.errors import UserError, did_you_mean
from scorefield.kernels.prepacked import channels_last, upsample
from scorefield.networks.layers import (
    Attention,
    Conv3x3,
    check_bounds,
    check_inputs,
    group_norm,
    pad_to,
    time_embedding,
    upcast,
    zeroed,
)

__all__ = ["HasClasses", "UNet"]


@runtime_checkable
class HasClasses(Protocol):
    """A network whose fourth argument may be the class of each image, (B,); -1 is no class."""

    classes: int
    """How many classes; 0 where the network takes no such argument."""


class _Resample(NamedTuple):
    """How a residual block changes the size."""

    shortcut: Callable[[Tensor], Tensor]
    convolve: Callable[[Tensor, Conv3x3], Tensor]
    """The same change, followed by the convolution."""


def _identity(x: Tensor) -> Tensor:
    return x


def _convolve(x: Tensor, conv: Conv3x3) -> Tensor:
    return conv(x)


def _halve(x: Tensor) -> Tensor:
    return avg_pool2d(x, 2)


def _halve_and_convolve(x: Tensor, conv: Conv3x3) -> Tensor:
    return conv(_halve(x))


def _double_and_convolve(x: Tensor, conv: Conv3x3) -> Tensor:
    return conv.upsampled(x)


_KEEP = _Resample(_identity, _convolve)
_DOWN = _Resample(_halve, _halve_and_convolve)
_UP = _Resample(upsample, _double_and_convolve)


class Block(nn.Module):
    """A residual block that takes the noise level, followed by self-attention where heads have a width.

    Args:
        into: channels at the input.
        out: channels at the output.
        embedding: features of the time embedding.
        head_width: of attention; 0 for none.
        dropout: share of features dropped in training.
        groups: of channels, in every normalization.
        pieces: of `Attention`.
        resample: how the size changes.
    """

    def __init__(
        self,
        into: int,
        out: int,
        *,
        embedding: int,
        head_width: int = 0,
        dropout: float = 0.0,
        groups: int | None = None,
        pieces: int = 1,
        resample: _Resample = _KEEP,
    ) -> None:
        super().__init__()
        self.resample = resample
        self.norm1 = group_norm(into, groups)
        self.conv1 = Conv3x3(into, out)
        self.tell = zeroed(nn.Linear(embedding, 2 * out))  # scale and shift; checkpoints know it by this name
        self.norm2 = group_norm(out, groups)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = zeroed(Conv3x3(out, out))
        self.skip = nn.Conv2d(into, out, 1) if into != out else nn.Identity()
        self.attend = Attention(out, head_width, groups, pieces) if head_width else nn.Identity()

    def forward(self, x: Tensor, temb: Tensor) -> Tensor:
        """(B, into, H, W) and the time embedding (B, embedding) to (B, out, H, W), or half or twice the side."""
        hidden = self.resample.convolve(silu(self.norm1(upcast(x))), self.conv1)
        scale, shift = upcast(self.tell(temb))[..., None, None].chunk(2, 1)
        hidden = torch.addcmul(shift, self.norm2(upcast(hidden)), 1 + scale)
        hidden = self.conv2(self.dropout(silu(hidden)))
        return self.attend(self.skip(self.resample.shortcut(x)) + hidden)


class Downsample(nn.Module):
    """A convolution of stride 2; it ignores the time embedding."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Tensor, temb: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H/2, W/2)."""
        return self.conv(x)


class Upsample(nn.Module):
    """Pixels repeated, then a convolution; it ignores the time embedding."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = Conv3x3(width, width)

    def forward(self, x: Tensor, temb: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, 2H, 2W)."""
        return self.conv.upsampled(x)


class UNet(nn.Module):
    """(B, C, H, W) to (B, C, H, W), any H and W.

    Args:
        channels: C of the image, 1 to 4.
        source_channels: further input channels, of a condition.
        widths: channels at each size, the first even; the size halves from one to the next.
        blocks: residual blocks at each size on the way down (one more on the way up).
        attention: positions in `widths` that have self-attention.
        patch: side of the square of pixels folded into channels at the input.
        head_width: channels of one attention head, or the least above that divides the width.
        dropout: share of features dropped in each block in training.
        classes: how many classes of images there are; 0 for a network without classes.
        groups: of channels, in every normalization; by default `groups_of` its width.
        resample: what changes the size: "conv", one convolution, or "residual", a residual block.
        middle: at the smallest size: "plain", one more block like those before it, or "attention", two blocks
            with self-attention between them, whatever `attention` says.
        attention_pieces: pieces along each side within which attention stays; 1 is global, 2 the quarters of
            the image.
        linear: also add to the output a linear map of the pixel's input channels, A x + b, whose A and b
            depend on the noise level, so that the layers need not carry the image itself.
        checkpointing: in training, recompute each block for its gradient instead of keeping its activations:
            a third more time for a fraction of the memory, the same numbers (Chen et al. 2016).

    Raises:
        UserError: a setting out of its range.
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
        check_inputs(source_channels, head_width)
        if not 0 <= dropout < 1:
            raise UserError("network.dropout", f"lies from 0 to 1, without 1, got {dropout:g}.")
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
        features = 4 * widths[0]
        self.embed = time_embedding(widths[0])
        make = partial(Block, embedding=features, dropout=dropout, groups=groups, pieces=attention_pieces)

        def block(into: int, out: int, level: int) -> Block:
            return make(into, out, head_width=head_width if level in attention else 0)

        def resized(width: int, resize: _Resample) -> nn.Module:
            if resample == "residual":
                return make(width, width, resample=resize)
            return Downsample(width) if resize is _DOWN else Upsample(width)

        self.first = nn.Conv2d((channels + source_channels) * patch**2, widths[0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        width, skips = widths[0], [widths[0]]
        for level, out in enumerate(widths):
            if level > 0:
                self.down.append(resized(width, _DOWN))
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
                self.up.append(resized(width, _UP))
                self.joins.append(False)
        self.norm = group_norm(width, groups)
        self.last = zeroed(nn.Conv2d(width, channels * patch**2, 3, padding=1))
        # Made last, so that the other weights start as they do without these.
        self.embed_class = nn.Embedding(classes + 1, features) if classes else nn.Identity()
        terms = channels + source_channels + 1
        self.linear = zeroed(nn.Linear(features, channels * terms)) if linear else None

    def forward(self, x: Tensor, label: Tensor, source: Tensor | None = None, classes: Tensor | None = None) -> Tensor:
        """F(x, label, source, classes).

        Args:
            x: (B, C, H, W).
            label: (B,).
            source: (B, source_channels, H, W), where the network has any.
            classes: (B,), int64; -1 is no class, None is no class for all.
        """
        height, width = x.shape[-2:]
        temb = self._embed(label, classes)
        given = x if source is None else torch.cat([x, source], 1)
        hidden = self.first(channels_last(pixel_unshuffle(pad_to(given, self.multiple), self.patch)))
        skips = [hidden]
        for layer in self.down:
            hidden = self._through(layer, temb, hidden)
            skips.append(hidden)
        hidden = self._through(self.middle, temb, hidden)
        if self.after is not None:
            hidden = self._through(self.after, temb, hidden)
        for layer, joins in zip(self.up, self.joins, strict=True):
            hidden = self._through(layer, temb, hidden, *([skips.pop()] if joins else []))
        hidden = pixel_shuffle(self.last(silu(self.norm(upcast(hidden)))), self.patch)[..., :height, :width]
        return hidden if self.linear is None else hidden + self._linear_map(given, temb)

    def _through(self, layer: nn.Module, temb: Tensor, *parts: Tensor) -> Tensor:
        """A layer's output, of its inputs concatenated."""

        def run(temb: Tensor, first: Tensor, *others: Tensor) -> Tensor:
            return layer(torch.cat([first, *others], 1) if others else first, temb)

        if self.checkpointing and torch.is_grad_enabled():
            return cast(Tensor, checkpoint(run, temb, *parts, use_reentrant=False))
        return run(temb, *parts)

    def _linear_map(self, given: Tensor, temb: Tensor) -> Tensor:
        """A x + b at each pixel, in float32: half precision would round the image itself."""
        assert self.linear is not None
        with torch.autocast(given.device.type, enabled=False):
            weights = self.linear(temb.float()).unflatten(1, (-1, given.shape[1] + 1))
            mapped = torch.baddbmm(weights[..., -1:], weights[..., :-1], given.float().flatten(2))
        return mapped.unflatten(2, given.shape[2:])

    def _embed(self, label: Tensor, classes: Tensor | None) -> Tensor:
        """The embedding that each block takes; noise level and class are added before the last SiLU."""
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
    check_bounds("blocks", [blocks], 64)
    check_bounds("widths", widths, 2**14)
    check_bounds("attention", attention, 15)
    check_bounds("patch", [patch], 64)
    check_bounds("classes", [classes], 10**6)
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
    check_bounds("attention_pieces", [pieces], 1024)
    if pieces < 1:
        raise UserError("network.attention_pieces", f"must be 1 or more, got {pieces}.")
