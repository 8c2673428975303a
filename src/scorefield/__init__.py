"""scorefield: generative modelling by estimating gradients of the data distribution.

    import scorefield as sf

    model = sf.load("fashion")
    images = sf.sample(model, 16)
    restored = sf.restore(model, "image.png", "inpaint", candidates=4)

Names load when they are first used, so that `import scorefield` alone does not load torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the same names, for type checkers; a test compares the two
    # isort: off
    # fmt: off
    from scorefield import (
        checkpoint as checkpoint, data as data, degradations as degradations,
        distributions as distributions, evaluation as evaluation, hub as hub, likelihood as likelihood,
        metrics as metrics, networks as networks, noise_distributions as noise_distributions,
        objectives as objectives, parameterization as parameterization, restoration as restoration,
        samplers as samplers, schedules as schedules, training as training,
    )
    from scorefield.data import (
        Photo as Photo, as_photo as as_photo, grid as grid, open_images as open_images,
        save_images as save_images, to_float as to_float, to_uint8 as to_uint8,
    )
    from scorefield.errors import UserError as UserError
    from scorefield.hub import load as load
    from scorefield.model import (
        Condition as Condition, ModelSpec as ModelSpec, RestorationSpec as RestorationSpec,
        ScoreModel as ScoreModel, ScoreNetwork as ScoreNetwork, score as score,
    )
    from scorefield.restoration import restore as restore
    from scorefield.samplers import sample as sample
    from scorefield.training import Recipe as Recipe, Trainer as Trainer
    # fmt: on
    # isort: on

from scorefield.version import __version__ as __version__

# name → the module that it is taken from; "" for the submodule of that name
_PUBLIC = {
    name: module
    for module, names in {
        "": "checkpoint data degradations distributions evaluation hub likelihood metrics networks noise_distributions "
        "objectives parameterization restoration samplers schedules training",
        "data": "Photo as_photo grid open_images save_images to_float to_uint8",
        "errors": "UserError",
        "hub": "load",
        "model": "Condition ModelSpec RestorationSpec ScoreModel ScoreNetwork score",
        "restoration": "restore",
        "samplers": "sample",
        "training": "Recipe Trainer",
    }.items()
    for name in names.split()
}


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'scorefield' has no attribute {name!r}")
    module = _PUBLIC[name]
    return getattr(import_module(f"scorefield.{module}"), name) if module else import_module(f"scorefield.{name}")


def __dir__() -> list[str]:
    return sorted([*_PUBLIC, "__version__"])
