"""Degradations of images: replayable operators, random families of them, and observations."""

from scorefield.degradations.base import (
    Box,
    Degradation,
    DegradationFamily,
    HasNetworkInput,
    Local,
    MaskedInput,
    NetworkInput,
    Observation,
    adjoint,
    known_pixels,
    network_input,
    predict_all,
    with_masked_input,
)
from scorefield.degradations.blur import Blur, RandomBlur
from scorefield.degradations.color import Grey
from scorefield.degradations.composed import Composed
from scorefield.degradations.crop import Crop
from scorefield.degradations.encoded import EncodedJPEG, RandomJPEG
from scorefield.degradations.freeform import Boxes, Brush, FreeForm
from scorefield.degradations.jpeg import JPEG, jpeg_operator, nearest_quality
from scorefield.degradations.mask import CenterBox, Mask, Side, Uncropping
from scorefield.degradations.mask_files import (
    ALPHA,
    MASKS,
    alpha_mask,
    array_mask,
    checked_mask,
    color_mask,
    grown_mask,
    is_color,
    mask_family,
    mask_from,
    mask_preview,
    named_mask,
    read_mask,
)
from scorefield.degradations.noise import AdditiveNoise, Identity, RandomNoise
from scorefield.degradations.one_of import OneOf
from scorefield.degradations.parse import (
    DEGRADATIONS,
    DegradationSpec,
    crop_margins,
    fixed_degradation,
    parse_degradation,
)
from scorefield.degradations.resize import Downscale, RandomDownscale
from scorefield.degradations.rotated import Rotated
from scorefield.degradations.scratches import Scratched, Scratches

__all__ = [
    "ALPHA",
    "DEGRADATIONS",
    "JPEG",
    "MASKS",
    "AdditiveNoise",
    "Blur",
    "Box",
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
    "HasNetworkInput",
    "Identity",
    "Local",
    "Mask",
    "MaskedInput",
    "NetworkInput",
    "Observation",
    "OneOf",
    "RandomBlur",
    "RandomDownscale",
    "RandomJPEG",
    "RandomNoise",
    "Rotated",
    "Scratched",
    "Scratches",
    "Side",
    "Uncropping",
    "adjoint",
    "alpha_mask",
    "array_mask",
    "checked_mask",
    "color_mask",
    "crop_margins",
    "fixed_degradation",
    "grown_mask",
    "is_color",
    "jpeg_operator",
    "known_pixels",
    "mask_family",
    "mask_from",
    "mask_preview",
    "named_mask",
    "nearest_quality",
    "network_input",
    "parse_degradation",
    "predict_all",
    "read_mask",
    "with_masked_input",
]
