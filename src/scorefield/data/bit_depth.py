"""Former place of a part of `scorefield.data.image`."""

from scorefield.data.image import Levels, image_of, in_8_bits, in_16_bits

__all__ = ["Levels", "image_of", "in_8_bits", "in_16_bits"]
