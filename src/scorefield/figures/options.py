"""The figures: names, options and files. This module loads no torch, so the command line is made from it.

Each figure is drawn by the module of its name: `draw(options, inputs)`, and `check(options, inputs)` before any work.
"""

from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "FIGURES", "MANIFOLD_PAPER", "SINGLE_SIGMA_PAPER",
    "Anneal", "Completions", "FigureSpec", "Interpolation", "LowDensity", "Manifold", "Mixing", "Neighbours",
    "SingleSigma",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class FigureSpec:
    """A figure.

    Args:
        name: its command.
        help: of the command.
        default: options sized for a CPU.
        paper: the paper's own options, where the default ones differ.
        files: images, then the table.
        needs: out of "model", "train", "held_out" and "features". Images get the model's shape if there is one.
    """

    name: str
    help: str
    default: Any
    files: tuple[str, ...]
    paper: Any = None
    needs: tuple[str, ...] = ()

    @property
    def module(self) -> str:
        """The module that draws it."""
        return f"scorefield.figures.{self.name.replace('-', '_')}"


def option(default: Any, help: str, *flags: str, min: int | None = None) -> Any:  # noqa: A002
    """A field that the command line offers, as `--name` unless flags are given."""
    return field(default=default, metadata={"help": help, "flags": flags, "min": min})


@dataclass(frozen=True, kw_only=True)
class Manifold:
    """Fig. 1's settings.

    Args:
        data: what `open_images` takes; the paper's is CIFAR-10.
        size: side that images are cropped and reduced to; by default their own, 32 in the paper.
        iterations: of Adam, for each of the two curves.
        batch: images in each.
        learning_rate: Adam's.
        width: of the first block; the others are 2, 2, 4 and 4 times as wide.
        sigma: of the noise in the second curve, on pixels in [0, 1].
    """

    data: str = option("fashion", "Images, as for the other commands.")
    size: int | None = option(None, "Crop and reduce to squares of this side.", min=1)
    iterations: int = option(50_000, "Training steps.", "--steps", min=1)
    batch: int = 128
    learning_rate: float = 1e-3
    width: int = 32
    sigma: float = 0.01


@dataclass(frozen=True, kw_only=True)
class LowDensity:
    """Fig. 2's settings.

    Args:
        iterations: of Adam.
        batch: fresh samples of p in each.
        learning_rate: Adam's.
        width: of the two hidden layers.
        side: the fields are drawn on [−side, side]².
        points: of the grid that the error is measured on, along a side.
        decades: of density below its greatest that get a bin each; the last takes all that is rarer.
    """

    iterations: int = option(10_000, "Training steps.", "--steps", min=1)
    batch: int = 128
    learning_rate: float = 1e-3
    width: int = 128
    side: float = 8.0
    points: int = 161
    decades: int = 9


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """Fig. 3's settings.

    Args:
        samples: chains, and exact samples beside them.
        side: chains start uniform on [−side, side]².
        langevin_steps: T of plain Langevin dynamics.
        step_size: ε.
        levels: L.
        steps: T on each noise level.
        schedule: σ_1 and σ_L of the appendix and the authors' program.
        schedule_in_text: σ_1 and σ_L of §4.3.
    """

    samples: int = 1280
    side: float = 8.0
    langevin_steps: int = 1000
    step_size: float = 0.1
    levels: int = 10
    steps: int = 100
    schedule: tuple[float, float] = (20.0, 1.0)
    schedule_in_text: tuple[float, float] = (10.0, 0.1)


@dataclass(frozen=True, kw_only=True)
class Anneal:
    """What is shown.

    Args:
        samples: rows.
        levels: largest number of columns between the start and the result, spread evenly over the schedule from
            where σ is twice the width of the value range; above, everything is noise.
        steps: updates in all. 500, the plan's for a continuous range of σ, leave half of the chains torn.
    """

    samples: int = option(8, "Samples, one row each.", "-n", min=1)
    levels: int = option(10, "Noise levels, one column each.", min=1)
    steps: int | None = option(2000, "Updates of the sampler.", min=1)


@dataclass(frozen=True, kw_only=True)
class Completions:
    """What is completed, and how often.

    Args:
        images: how many, spread evenly over the set.
        candidates: for each mask.
        masks: names in `degradations.MASKS`.
        sampler: a name in `samplers.PRESETS`.
        steps: see `samplers.plan`. 500 leave seams and dark spots in most completions.
    """

    images: int = option(4, "Images.", "-n", min=1)
    candidates: int = option(6, "Candidates for each mask.", min=1)
    masks: tuple[str, ...] = option(
        ("left", "right", "center"), "left, right, center, top or bottom; repeatable.", "--mask"
    )
    sampler: str = option("annealed-langevin", "Sampler: see scorefield sample --help.")
    steps: int | None = option(2000, "Updates of the sampler.", min=1)


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """What is drawn and shown.

    Args:
        samples: rows.
        neighbours: k, columns beside each sample.
        sampler: a name in `samplers.PRESETS`.
        steps: see `samplers.plan`.
    """

    samples: int = option(8, "Samples, one row each.", "-n", min=1)
    neighbours: int = option(9, "Training images beside each.", "-k", min=1)
    sampler: str = option("heun", "Sampler: see scorefield sample --help.")
    steps: int | None = option(None, "Updates of the sampler; by default the plan's.", min=1)


@dataclass(frozen=True, kw_only=True)
class SingleSigma:
    """App. C.1's settings.

    Args:
        data: what the runs' recipes name as their data; the paper's is CIFAR-10.
        iterations: training steps of each network.
        samples: of each, for the distances; 16 are shown.
        sigma_max: σ_1 of the schedule.
        sigma_min: σ_L of the schedule, and the single level.
        levels: L.
        steps: T on each noise level; the single level gets L·T.
        step_size: ε.
        network: further settings of both recipes, as `section.key=value`.
    """

    data: str = option("fashion", "Images, as for the other commands.")
    iterations: int = option(200_000, "Training steps of each network.", "--steps", min=1)
    samples: int = option(1000, "Samples of each, for the distances.", "-n", min=2)
    sigma_max: float = 1.0
    sigma_min: float = 0.01
    levels: int = 10
    steps: int = 100
    step_size: float = 2e-5
    network: tuple[str, ...] = (
        'network={kind="refinenet", width=128}',
        'parameterization={kind="ncsn"}',
        "optimizer={lr=1e-3, betas=[0.9, 0.999], batch=128, warmup=0, clip=0.0}",
        "average.decay=0.0",
    )


@dataclass(frozen=True, kw_only=True)
class Interpolation:
    """What is shown.

    Args:
        pairs: of images, one row each, spread over the set.
        parts: steps from one to the other.
        rtol: relative and absolute tolerance, see `samplers.RungeKutta`.
    """

    pairs: int = option(6, "Pairs of images, one row each.", "-n", min=1)
    parts: int = option(8, "Steps from one image to the other.", min=1)
    rtol: float = 1e-5


MANIFOLD_PAPER = Manifold()
SINGLE_SIGMA_PAPER = SingleSigma()

_ALL = (
    FigureSpec(
        name="manifold",
        help="Fig. 1: the sliced score matching loss on images without noise, and with a little.",
        default=Manifold(iterations=1000, batch=32, width=8, size=14),
        paper=MANIFOLD_PAPER,
        files=("manifold.png", "manifold.csv"),
    ),
    FigureSpec(
        name="low-density",
        help="Fig. 2: a learned score is accurate where data are dense, and wrong where they are rare.",
        default=LowDensity(),
        files=("low-density.png", "low-density.csv"),
    ),
    FigureSpec(
        name="mixing",
        help="Fig. 3: Langevin dynamics recovers the wrong weights of two modes, annealed the right ones.",
        default=Mixing(),
        files=("mixing.png", "mixing.csv"),
    ),
    FigureSpec(
        name="anneal",
        help="Figs. 4-5: annealed Langevin dynamics on the way from noise to images.",
        default=Anneal(),
        files=("anneal.png", "anneal.csv"),
        needs=("model",),
    ),
    FigureSpec(
        name="completions",
        help="Fig. 6 and Algorithm 2: held-out images, half masked, completed several times.",
        default=Completions(),
        files=("completions.png", "completions.csv"),
        needs=("model", "held_out"),
    ),
    FigureSpec(
        name="neighbours",
        help="Figs. 9-10: samples beside their nearest training images, in pixels and in features.",
        default=Neighbours(),
        files=("neighbours-pixels.png", "neighbours-features.png", "neighbours.csv"),
        needs=("model", "train", "held_out", "features"),
    ),
    FigureSpec(
        name="single-sigma",
        help="App. C.1: a network of one noise level against the same network on a schedule. Trains both, a few "
        "minutes; the runs stay in the folder, and the same command resumes them.",
        default=SingleSigma(iterations=1200, samples=64, network=('parameterization={kind="ncsnv2"}',)),
        paper=SINGLE_SIGMA_PAPER,
        files=("single-sigma.png", "single-sigma.csv"),
        needs=("train", "held_out", "features"),
    ),
    FigureSpec(
        name="interpolation",
        help="Held-out images encoded by the ODE and decoded, and what lies between two of them.",
        default=Interpolation(),
        files=("interpolation.png", "interpolation.csv"),
        needs=("model", "held_out"),
    ),
)

FIGURES: dict[str, FigureSpec] = {spec.name: spec for spec in _ALL}
"""By command, in the order of the paper."""
