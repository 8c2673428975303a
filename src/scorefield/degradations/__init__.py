"""Damage to pictures: operators that can be replayed, and what was observed through them."""

from scorefield.degradations.base import (
    Degradation,
    DegradationFamily,
    Observation,
    adjoint,
    known_pixels,
)
from scorefield.degradations.blur import Blur
from scorefield.degradations.color import Grey
from scorefield.degradations.composed import Composed
from scorefield.degradations.crop import Crop
from scorefield.degradations.jpeg import JPEG, read_jpeg
from scorefield.degradations.mask import MASKS, CenterBox, Mask, Side, named_mask, read_mask
from scorefield.degradations.named import (
    DAMAGES,
    Damage,
    crop_margins,
    fixed_damage,
    parse_damage,
)
from scorefield.degradations.resize import Downscale
from scorefield.degradations.turned import Turned

__all__ = [
    "DAMAGES",
    "JPEG",
    "MASKS",
    "Blur",
    "CenterBox",
    "Composed",
    "Crop",
    "Damage",
    "Degradation",
    "DegradationFamily",
    "Downscale",
    "Grey",
    "Mask",
    "Observation",
    "Side",
    "Turned",
    "adjoint",
    "crop_margins",
    "fixed_damage",
    "known_pixels",
    "named_mask",
    "parse_damage",
    "read_jpeg",
    "read_mask",
]
