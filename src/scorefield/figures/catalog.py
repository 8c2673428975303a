"""The figures: names, options and files. This module loads no torch, so the command line is made from it.

Each figure is drawn by the module of its name: `draw(options, inputs)`, and, where it has one, `check(options, inputs)`
before any work.
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
        help: of its command.
        default: options sized for a CPU.
        paper: the paper's own options, where the default ones differ.
        needs: out of "model", "train", "held_out" and "features". Images get the model's shape if there is one.
        images: what its images add to its name; a figure of one image adds nothing.
    """

    help: str
    default: Any
    paper: Any = None
    needs: tuple[str, ...] = ()
    images: tuple[str, ...] = ("",)

    @property
    def name(self) -> str:
        """Its command."""
        return next(name for name, spec in FIGURES.items() if spec is self)

    @property
    def files(self) -> tuple[str, ...]:
        """Images, then the table."""
        return (*(f"{self.name}{image}.png" for image in self.images), f"{self.name}.csv")

    @property
    def module(self) -> str:
        """The module that draws it."""
        return f"scorefield.figures.{self.name.replace('-', '_')}"


def option(default: Any, help: str, *flags: str, min: int | None = None) -> Any:  # noqa: A002
    """A field that the command line offers, as `--name` unless flags are given; `make` checks its least value."""
    return field(default=default, metadata={"help": help, "flags": flags, "min": min})


def _data() -> Any:
    return option("fashion", "Images, as for the other commands.")


def _iterations(default: int, of: str = "") -> Any:
    return option(default, f"Training steps{of}.", "--steps", min=1)


def _rows() -> Any:
    return option(8, "Samples, one row each.", "-n", min=1)


def _sampler(name: str) -> Any:
    return option(name, "Sampler: see scorefield sample --help.")


def _steps(default: int | None = None) -> Any:
    by_default = " By default the plan's." if default is None else ""
    return option(default, f"Updates of the sampler.{by_default}", min=1)


@dataclass(frozen=True, kw_only=True)
class Manifold:
    """Fig. 1's settings."""

    data: str = _data()  # the paper's is CIFAR-10
    size: int | None = option(None, "Crop and reduce to squares of this side.", min=1)
    iterations: int = _iterations(50_000)  # of Adam, for each of the two curves
    batch: int = 128
    learning_rate: float = 1e-3
    width: int = 32  # of the first block; the others are 2, 2, 4 and 4 times as wide
    sigma: float = 0.01  # of the noise in the second curve, on pixels in [0, 1]


@dataclass(frozen=True, kw_only=True)
class LowDensity:
    """Fig. 2's settings."""

    iterations: int = _iterations(10_000)  # of Adam
    batch: int = 128  # fresh samples of p in each
    learning_rate: float = 1e-3
    width: int = 128  # of the two hidden layers
    side: float = 8.0  # the fields are drawn on [−side, side]²
    points: int = 161  # of the grid that the error is measured on, along a side
    decades: int = 9  # of density below its greatest that get a bin each; the last takes all that is rarer


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """Fig. 3's settings."""

    samples: int = 1280  # chains, and as many exact samples
    side: float = 8.0  # chains start uniform on [−side, side]²
    langevin_steps: int = 1000  # T of plain Langevin dynamics
    step_size: float = 0.1  # ε
    levels: int = 10  # L
    steps: int = 100  # T on each noise level
    schedule: tuple[float, float] = (20.0, 1.0)  # σ_1 and σ_L of the appendix and the authors' program
    schedule_in_text: tuple[float, float] = (10.0, 0.1)  # σ_1 and σ_L of §4.3


@dataclass(frozen=True, kw_only=True)
class Anneal:
    """What is shown.

    The levels are spread evenly over the schedule from where σ is twice the width of the value range; above,
    everything is noise.
    """

    samples: int = _rows()
    levels: int = option(10, "Noise levels, one column each.", min=1)
    steps: int | None = _steps(2000)  # 500, the plan's, leave half of the samples torn


@dataclass(frozen=True, kw_only=True)
class Completions:
    """What is completed, and how often; the images are spread evenly over the set."""

    images: int = option(4, "Images.", "-n", min=1)
    candidates: int = option(6, "Candidates for each mask.", min=1)
    masks: tuple[str, ...] = option(
        ("left", "right", "center"), "left, right, center, top or bottom; repeatable.", "--mask"
    )
    method: str = option("pigdm", "Method of restoration: see scorefield inpaint --help.")
    sampler: str | None = option(None, "Sampler. By default the method's.")
    steps: int | None = option(None, "Updates of the sampler. By default the method's.", min=1)


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """What is drawn and shown."""

    samples: int = _rows()
    neighbours: int = option(9, "Training images for each sample.", "-k", min=1)
    sampler: str = _sampler("heun")
    steps: int | None = _steps()


@dataclass(frozen=True, kw_only=True)
class SingleSigma:
    """App. C.1's settings."""

    data: str = _data()  # what the runs' recipes name as their data; the paper's is CIFAR-10
    iterations: int = _iterations(200_000, " of each network")
    samples: int = option(1000, "Samples of each, for the distances.", "-n", min=2)  # 16 are shown
    sigma_max: float = 1.0  # σ_1 of the schedule
    sigma_min: float = 0.01  # σ_L of the schedule, and the single level
    levels: int = 10  # L
    steps: int = 100  # T on each noise level; the single level gets L·T
    step_size: float = 2e-5  # ε
    network: tuple[str, ...] = (  # further settings of both recipes, as `section.key=value`
        'network={kind="refinenet", width=128}',
        'parameterization={kind="ncsn"}',
        "optimizer={lr=1e-3, betas=[0.9, 0.999], batch=128, warmup=0, clip=0.0}",
        "average.decay=0.0",
    )


@dataclass(frozen=True, kw_only=True)
class Interpolation:
    """What is shown; the pairs are spread over the set."""

    pairs: int = option(6, "Pairs of images, one row each.", "-n", min=1)
    parts: int = option(8, "Steps from one image to the other.", min=1)
    rtol: float = 1e-5  # relative and absolute tolerance, see `samplers.RungeKutta`


MANIFOLD_PAPER = Manifold()
SINGLE_SIGMA_PAPER = SingleSigma()

FIGURES: dict[str, FigureSpec] = {
    "manifold": FigureSpec(
        help="Fig. 1: the sliced score matching loss on images without noise, and with a little.",
        default=Manifold(iterations=1000, batch=32, width=8, size=14),
        paper=MANIFOLD_PAPER,
    ),
    "low-density": FigureSpec(
        help="Fig. 2: a learned score is accurate where data are dense, and wrong where they are rare.",
        default=LowDensity(),
    ),
    "mixing": FigureSpec(
        help="Fig. 3: Langevin dynamics recovers the wrong weights of two modes, annealed the right ones.",
        default=Mixing(),
    ),
    "anneal": FigureSpec(
        help="Figs. 4-5: annealed Langevin dynamics on the way from noise to images.",
        default=Anneal(),
        needs=("model",),
    ),
    "completions": FigureSpec(
        help="Fig. 6: held-out images, half masked, completed several times; --paper by Algorithm 2.",
        default=Completions(),
        paper=Completions(method="projection", sampler="annealed-langevin", steps=2000),
        needs=("model", "held_out"),
    ),
    "neighbours": FigureSpec(
        help="Figs. 9-10: samples and their nearest training images, in pixels and in features.",
        default=Neighbours(),
        needs=("model", "train", "held_out", "features"),
        images=("-pixels", "-features"),
    ),
    "single-sigma": FigureSpec(
        help="App. C.1: a network of one noise level against the same network on a schedule. Trains both, a few "
        "minutes; the runs stay in the folder, and the same command resumes them.",
        default=SingleSigma(iterations=1200, samples=64, network=('parameterization={kind="ncsnv2"}',)),
        paper=SINGLE_SIGMA_PAPER,
        needs=("train", "held_out", "features"),
    ),
    "interpolation": FigureSpec(
        help="Held-out images encoded by the ODE and decoded, and interpolations between two of them.",
        default=Interpolation(),
        needs=("model", "held_out"),
    ),
}
"""By command, in the order of the paper."""
