"""Stopping by a signal: the signal is recorded, and the training loop saves and stops at its next step."""

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType


class Interrupted(Exception):  # noqa: N818
    """A signal stopped training, and the run is saved.

    Args:
        signum: of the signal.
        run: the run's folder.
        step: steps made.
    """

    def __init__(self, signum: int, run: Path, step: int) -> None:
        super().__init__(f"stopped by a signal at step {step}; everything is saved in {run}")
        self.signum, self.run, self.step = signum, run, step


@contextmanager
def recorded_signals() -> Generator[list[int]]:
    """A context that records SIGINT and SIGTERM; a second signal raises KeyboardInterrupt.

    Outside the main thread, where Python delivers no signals, the list stays empty.
    """
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return

    def note(signum: int, frame: FrameType | None) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(signum)

    old = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


__all__ = ["Interrupted", "recorded_signals"]
