"""Damage to pictures: operators that can be replayed, and what was observed through them."""

from scorefield.degradations.base import Degradation, DegradationFamily, Observation
from scorefield.degradations.mask import CenterBox, Mask, Side, read_mask

__all__ = [
    "CenterBox",
    "Degradation",
    "DegradationFamily",
    "Mask",
    "Observation",
    "Side",
    "read_mask",
]
