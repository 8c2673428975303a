"""Restoration: an observation becomes a denoiser, and any sampler does the rest."""

from scorefield.restoration.posterior import Posterior, Restorer
from scorefield.restoration.projection import Projection
from scorefield.restoration.restore import Restored, restore

__all__ = ["Posterior", "Projection", "Restored", "Restorer", "restore"]
