"""Models by name: bundled weights, run folders, files, and checkpoints of other programs."""

from scorefield.hub.load import bundled, find, load, preferred_precision
from scorefield.hub.ncsn import import_ncsn

__all__ = ["bundled", "find", "import_ncsn", "load", "preferred_precision"]
