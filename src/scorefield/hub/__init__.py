"""Models by name: bundled weights, run folders and files."""

from scorefield.hub.load import bundled, find, load, preferred_precision

__all__ = ["bundled", "find", "load", "preferred_precision"]
