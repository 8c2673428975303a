"""JPEG by a real encoder: exactly what a file of this quality holds.

    x → 8 bits → Pillow's encoder → Pillow's decoder → x's range

Palette draws the quality Q from 5 to 30 with p(Q) ∝ e^(−Q/10), so heavy degradation is more frequent. Bytes are
rounded and clamped, so A(A(x)) = A(x), and A(pinv(y)) = y with pinv(y) = y, hold approximately: on photographs
of 256 pixels to 0.03–0.05 of 255 levels on average, to tens in single pixels. `JPEG` is the operator without
bytes. Rounding has zero derivative; gradients pass straight through it (Bengio et al. 2013).

References:
    Saharia et al. (2022), §4. https://arxiv.org/abs/2111.05826
    Bengio et al. (2013). https://arxiv.org/abs/1308.3432
"""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from scorefield.data.image import to_float, to_pil, to_tensor, to_uint8
from scorefield.data.photo import JPEGHeader
from scorefield.degradations.base import NetworkInput, SameSize, fast_rng, predict_all
from scorefield.degradations.compression import Save
from scorefield.degradations.jpeg import SUBSAMPLINGS, Subsampling, check_jpeg, standard_tables, table_tensor
from scorefield.errors import UserError


@dataclass(frozen=True, kw_only=True)
class EncodedJPEG(SameSize):
    """The operator of a JPEG file written by Pillow and read again.

    Args:
        quality: 1 to 100, as libjpeg defines it.
        subsampling: of chroma; Pillow's own by default.
        value_range: black and white in x.

    Raises:
        UserError: no such quality or subsampling.
    """

    quality: int = 75
    subsampling: Subsampling = "4:2:0"
    value_range: tuple[float, float] = (-1.0, 1.0)

    def __post_init__(self) -> None:
        check_jpeg(self.quality, self.subsampling)

    def __call__(self, x: Tensor) -> Tensor:
        """The decoded file of x, (B, C, H, W), C of 1 or 3, in its range.

        Raises:
            UserError: x has another number of channels.
        """
        if x.shape[1] not in (1, 3):
            raise UserError("jpeg", f"made for 1 or 3 channels, the image has {x.shape[1]}.")
        pixels = to_uint8(x, self.value_range).cpu()
        save = Save(quality=self.quality, subsampling=self.subsampling)
        coded = torch.stack([to_tensor(save(to_pil(image))) for image in pixels])
        y = to_float(coded, self.value_range).to(x)
        return y + (x - x.detach()) if x.requires_grad else y

    def pinv(self, y: Tensor) -> Tensor:
        """y itself."""
        return y

    def network_input(self, y: Tensor, *, generator: Generator) -> NetworkInput:
        """The source is y, with the quantisation tables; every pixel is to be predicted."""
        return predict_all(y)._replace(tables=table_tensor(standard_tables(self.quality), y))

    def header(self, pixels: Tensor) -> JPEGHeader:
        """That of the file of an image, (C, H, W)."""
        luma, chroma = standard_tables(self.quality)
        grey = pixels.shape[0] == 1
        return JPEGHeader(
            tables={0: luma} if grey else {0: luma, 1: chroma},
            mode="L" if grey else "RGB",
            sampling=SUBSAMPLINGS.index(self.subsampling),
            orientation=1,
        )


@dataclass(frozen=True, kw_only=True)
class RandomJPEG:
    """JPEG of a quality drawn by p(Q) ∝ e^(−Q/decay).

    Args:
        quality: lowest and highest, both drawn.
        decay: in steps of quality.
        subsampling: of chroma.
        value_range: black and white in x.

    Raises:
        UserError: no such qualities or subsampling, or a decay that is not positive.
    """

    quality: tuple[int, int] = (5, 30)
    decay: float = 10.0
    subsampling: Subsampling = "4:2:0"
    value_range: tuple[float, float] = (-1.0, 1.0)

    def __post_init__(self) -> None:
        low, high = self.quality
        for quality in self.quality:
            check_jpeg(quality, self.subsampling)
        if low > high or not self.decay > 0:
            raise UserError("jpeg", f"no quality from {low} to {high} with a decay of {self.decay:g}.")

    def draw(self, shape: tuple[int, ...], *, generator: Generator) -> EncodedJPEG:
        """An encoder of one quality."""
        low, high = self.quality
        qualities = range(low, high + 1)
        weights = [math.exp(-(q - low) / self.decay) for q in qualities]
        (quality,) = fast_rng(generator).choices(qualities, weights)
        return EncodedJPEG(quality=quality, subsampling=self.subsampling, value_range=self.value_range)
