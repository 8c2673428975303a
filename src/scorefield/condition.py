"""What is known of an image before it is drawn."""

from dataclasses import dataclass

import torch
from torch import Tensor

from scorefield.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What is known of an image before it is drawn.

    Args:
        source: (B, K, H, W), laid beside the network's input as further channels.
        mask: (B, 1, H, W), 1 where a pixel is to be filled. Elsewhere the network's input is `source`
            itself, clean, written in after the input scaling (Saharia et al. 2022, §4, inpainting).
        classes: (B,), int64, the class of each image, or one number for all; −1 where it is not told.

    Raises:
        UserError: a mask without a source.
    """

    source: Tensor | None = None
    mask: Tensor | None = None
    classes: Tensor | int | None = None

    def __post_init__(self) -> None:
        if self.mask is not None and self.source is None:
            raise UserError("mask", "tells what is known of a source, and there is none.", "Give it a source.")


def check_classes(count: int, classes: Tensor, n: int) -> None:
    """See that a model of `count` classes can be told these of n images.

    Their values are looked at in the processor's own memory alone: to read them elsewhere would make it
    wait.

    Raises:
        UserError: a model without classes, not one for each image, or a class out of range.
    """
    if not count:
        raise UserError("classes", "this model was trained without class labels.", "Train one with data.labels = true.")
    if classes.shape != (n,) or classes.is_floating_point() or classes.dtype == torch.bool:
        raise UserError(
            "classes",
            f"{n} images need ({n},) whole numbers, got {tuple(classes.shape)} of {classes.dtype}.",
        )
    if classes.device.type != "cpu":
        return
    wrong = (classes < -1) | (classes >= count)
    if bool(wrong.any()):
        raise UserError(
            "classes",
            f"this model knows 0 to {count - 1}, got {int(classes[wrong][0])}.",
            "Write -1 where a class is not told.",
        )
