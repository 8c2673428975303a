"""scorefield: generative modelling by estimating gradients of the data distribution.

    import scorefield as sf

    model = sf.load("fashion")
    images = sf.sample(model, 16)
    restored = sf.restore(model, "image.png", "inpaint", candidates=4)

Names load when they are first used, so that `import scorefield` alone does not load torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scorefield import (
        checkpoint as checkpoint,
    )
    from scorefield import (
        data as data,
    )
    from scorefield import (
        degradations as degradations,
    )
    from scorefield import (
        distributions as distributions,
    )
    from scorefield import (
        evaluation as evaluation,
    )
    from scorefield import (
        likelihood as likelihood,
    )
    from scorefield import (
        networks as networks,
    )
    from scorefield import (
        noise_distributions as noise_distributions,
    )
    from scorefield import (
        objectives as objectives,
    )
    from scorefield import (
        parameterization as parameterization,
    )
    from scorefield import (
        restoration as restoration,
    )
    from scorefield import (
        samplers as samplers,
    )
    from scorefield import (
        schedules as schedules,
    )
    from scorefield import (
        training as training,
    )
    from scorefield.errors import UserError as UserError
    from scorefield.hub import load as load
    from scorefield.model import Condition as Condition
    from scorefield.model import ScoreField as ScoreField
    from scorefield.model import ScoreModel as ScoreModel
    from scorefield.model import score as score
    from scorefield.restoration import restore as restore
    from scorefield.samplers import sample as sample
    from scorefield.training import Recipe as Recipe
    from scorefield.training import Trainer as Trainer

__version__ = "0.1.0"

_MODULES = (
    "checkpoint", "data", "degradations", "distributions", "evaluation", "likelihood", "networks", "noise_distributions", "schedules",
    "objectives", "parameterization", "restoration", "samplers", "training",
)  # fmt: skip
_NAMES = {
    "Condition": "model",
    "Recipe": "training",
    "ScoreField": "model",
    "ScoreModel": "model",
    "Trainer": "training",
    "UserError": "errors",
    "load": "hub",
    "restore": "restoration",
    "sample": "samplers",
    "score": "model",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"scorefield.{name}")
    if name in _NAMES:
        return getattr(import_module(f"scorefield.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'scorefield' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*_MODULES, *_NAMES, "__version__"])
