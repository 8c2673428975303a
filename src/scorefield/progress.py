"""How long work reports how far it is.

A callback receives the share that is done, from 0 to 1, and a few words. A part of the work reports through
`portion`, which maps its 0 … 1 to its own part of the whole.
"""

from collections.abc import Callable, Sequence

__all__ = ["ProgressCallback", "ignore_progress", "portion", "portions"]

ProgressCallback = Callable[[float, str], None]
"""Called with the share that is done, 0 to 1, and a few words."""


def ignore_progress(share: float, words: str) -> None:
    """Report nothing."""


def portion(progress: ProgressCallback, start: float, end: float, words: str | None = None) -> ProgressCallback:
    """A callback for the part of the work between the shares `start` and `end` of the whole.

    Args:
        progress: for the whole.
        start: share of the whole that is done when the part begins.
        end: likewise when it ends.
        words: shown in place of the part's own.
    """

    def report(share: float, part_words: str) -> None:
        progress(start + (end - start) * min(share, 1.0), part_words if words is None else words)

    return report


def portions(progress: ProgressCallback, costs: Sequence[float]) -> list[ProgressCallback]:
    """A callback for each of several parts that follow one another and take times proportional to `costs`."""
    total = max(sum(costs), 1e-9)
    starts = [sum(costs[:k]) / total for k in range(len(costs) + 1)]
    return [portion(progress, starts[k], min(starts[k + 1], 1.0)) for k in range(len(costs))]
