"""Degradation to images: operators that can be replayed, and what was observed through them."""

from scorefield.degradations.base import (
    Degradation,
    DegradationFamily,
    Hole,
    Observation,
    Shown,
    Shows,
    adjoint,
    known_pixels,
    shown,
)
from scorefield.degradations.blur import Blur, RandomBlur
from scorefield.degradations.color import Grey
from scorefield.degradations.composed import Composed
from scorefield.degradations.crop import Crop
from scorefield.degradations.encoded import EncodedJPEG, RandomJPEG
from scorefield.degradations.freeform import Boxes, Brush, FreeForm
from scorefield.degradations.jpeg import JPEG, read_jpeg
from scorefield.degradations.mask import CenterBox, Mask, Side, Uncropping
from scorefield.degradations.masks import (
    ALPHA,
    MASKS,
    alpha_mask,
    mask_family,
    mask_preview,
    named_mask,
    read_mask,
)
from scorefield.degradations.named import (
    DEGRADATIONS,
    DegradationSpec,
    crop_margins,
    fixed_degradation,
    parse_degradation,
)
from scorefield.degradations.noisy import Identity, Noisy, RandomNoise
from scorefield.degradations.oneof import OneOf
from scorefield.degradations.resize import Downscale, RandomDownscale
from scorefield.degradations.scratches import Scratched, Scratches
from scorefield.degradations.turned import Turned

__all__ = [
    "ALPHA",
    "DEGRADATIONS",
    "JPEG",
    "MASKS",
    "Blur",
    "Boxes",
    "Brush",
    "CenterBox",
    "Composed",
    "Crop",
    "Degradation",
    "DegradationFamily",
    "DegradationSpec",
    "Downscale",
    "EncodedJPEG",
    "FreeForm",
    "Grey",
    "Hole",
    "Identity",
    "Mask",
    "Noisy",
    "Observation",
    "OneOf",
    "RandomBlur",
    "RandomDownscale",
    "RandomJPEG",
    "RandomNoise",
    "Scratched",
    "Scratches",
    "Shown",
    "Shows",
    "Side",
    "Turned",
    "Uncropping",
    "adjoint",
    "alpha_mask",
    "crop_margins",
    "fixed_degradation",
    "known_pixels",
    "mask_family",
    "mask_preview",
    "named_mask",
    "parse_degradation",
    "read_jpeg",
    "read_mask",
    "shown",
]
