"""Steps whose loss or gradient is not finite: they are skipped and counted, and in the end training stops.

A skipped step leaves weights and moments as they were; the next one has another batch and other noise. If many come in
a row, training goes back to its last checkpoint and draws other noise from there, once. If they come again before the
next checkpoint, it stops.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from scorefield.training.recipe import Recipe


class Diverged(RuntimeError):  # noqa: N818
    """Training cannot go on: step after step the loss or the gradient is not finite.

    Args:
        run: its folder.
        step: where it stopped.
        patience: steps in a row that were not finite.
        recipe: of the run.
    """

    def __init__(self, run: Path, step: int, patience: int, recipe: Recipe) -> None:
        lower = f"optimizer.lr={recipe.optimizer.lr / 4:.3g}"
        precision = "" if recipe.training.precision == "float32" else " --set training.precision=float32"
        super().__init__(
            f"{run}: the loss or the gradient was not finite in {patience} steps in a row, to step {step}; the last "
            f"checkpoint stands. Go on from it with a lower rate: --resume auto --set {lower}{precision}"
        )


class Steadiness:
    """Counts steps that are not finite, on the device, so that no step waits for a number to be read.

    Args:
        device: of the losses.
    """

    def __init__(self, device: torch.device) -> None:
        self._in_row = torch.zeros((), dtype=torch.int64, device=device)
        self._skipped = self._in_row.clone()
        self.times_back = 0
        self._trouble = -1  # the step from which training went back last

    @property
    def in_row(self) -> int:
        """How many of the last steps were skipped in a row."""
        return int(self._in_row)

    @property
    def skipped(self) -> int:
        """How many steps were skipped in all."""
        return int(self._skipped)

    def step(self, optimizer: Optimizer, loss: Tensor, norm: Tensor) -> None:
        """Let the optimizer make its step, unless loss or norm are not finite."""
        bad = ~torch.isfinite(loss + norm)
        cast(Any, optimizer).found_inf = bad.to(torch.float32)  # as torch.amp.GradScaler tells a fused optimizer
        optimizer.step()
        self._in_row = (self._in_row + 1) * bad
        self._skipped = self._skipped + bad

    def may_go_back(self, saved: int) -> bool:
        """Whether a checkpoint was reached beyond the step from which training went back last."""
        return saved > self._trouble

    def went_back(self, step: int) -> None:
        """Count a return from this step."""
        self._in_row = torch.zeros_like(self._in_row)
        self._trouble, self.times_back = step, self.times_back + 1

    def state(self) -> dict[str, int]:
        """The counts, for a checkpoint."""
        return {
            "in_row": self.in_row, "skipped": self.skipped, "trouble": self._trouble, "times_back": self.times_back
        }  # fmt: skip

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over the counts of a checkpoint."""
        self._in_row = torch.full_like(self._in_row, state.get("in_row", 0))
        self._skipped = torch.full_like(self._skipped, state.get("skipped", 0))
        self._trouble, self.times_back = state.get("trouble", -1), state.get("times_back", 0)


__all__ = ["Diverged", "Steadiness"]
