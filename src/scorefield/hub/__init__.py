"""Models by name: bundled weights, run folders, files, and checkpoints of other programs."""

from scorefield.hub.export import export_diffusers
from scorefield.hub.foreign import foreign_facts, import_spandrel, is_foreign
from scorefield.hub.load import bundled, find, load, notes, preferred_precision, specialists
from scorefield.hub.ncsn import import_ncsn
from scorefield.hub.pipelines import import_diffusers, is_pipeline

__all__ = [
    "bundled",
    "export_diffusers",
    "find",
    "foreign_facts",
    "import_diffusers",
    "import_ncsn",
    "import_spandrel",
    "is_foreign",
    "is_pipeline",
    "load",
    "notes",
    "preferred_precision",
    "specialists",
]
