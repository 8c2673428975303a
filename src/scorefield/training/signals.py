"""Stopping by a signal: it is noted, and whoever runs sees to the rest."""

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType


class Interrupted(Exception):  # noqa: N818
    """A signal stopped training, after saving; `signum` says which."""

    def __init__(self, signum: int, run: Path, step: int) -> None:
        super().__init__(f"stopped by a signal at step {step}; everything is saved in {run}")
        self.signum, self.run, self.step = signum, run, step


@contextmanager
def noted_signals() -> Generator[list[int]]:
    """Collects SIGINT and SIGTERM instead of dying of them; a second one kills."""
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
