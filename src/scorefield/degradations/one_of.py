"""A random choice among several families: the training data of a multi-task model."""

from dataclasses import dataclass

from torch import Generator

from scorefield.degradations.base import Degradation, DegradationFamily, fast_rng
from scorefield.errors import UserError


@dataclass(frozen=True, kw_only=True)
class OneOf:
    """The distribution that draws a family by weight, and an operator from it.

    Args:
        families: to choose from.
        weights: relative frequencies; equal by default.

    Raises:
        UserError: no family, another number of weights, or a weight that is not positive.
    """

    families: tuple[DegradationFamily, ...]
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if not self.families:
            raise UserError("degradation", "there is nothing to choose from.")
        if self.weights is None:
            return
        if len(self.weights) != len(self.families) or not min(self.weights) > 0:
            raise UserError("degradation", f"{len(self.families)} weights above 0 are needed, got {self.weights}.")

    def draw(self, shape: tuple[int, ...], *, generator: Generator) -> Degradation:
        """One operator of one family."""
        return self.families[self.choose(generator)].draw(shape, generator=generator)

    def choose(self, generator: Generator) -> int:
        """The index of a family."""
        (index,) = fast_rng(generator).choices(range(len(self.families)), self.weights)
        return index
