"""Stopping by a signal: the signal is recorded, and the training loop saves and stops at its next step.

Terminals and wrappers often deliver one Ctrl-C several times, so repetitions are ignored. Only a Ctrl-C that comes more
than a second after the last signal raises KeyboardInterrupt, in the middle of a step; the loop then saves the step
before.
"""

import signal
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
"""Ctrl-C; `kill`, containers and schedulers; a closed terminal; what Slurm sends before a job's time is over."""
_REPEATED = 1.0  # seconds


class Interrupted(Exception):  # noqa: N818
    """A signal stopped training, and the run is saved.

    Args:
        signum: of the signal.
        run: the run's folder.
        step: steps made.
        saved: of them, those in the last checkpoint; by default all.
    """

    def __init__(self, signum: int, run: Path, step: int, *, saved: int | None = None) -> None:
        whole = saved is None or saved == step
        kept = f"everything is saved in {run}" if whole else f"the steps to {saved} are saved in {run}"
        super().__init__(f"stopped by a signal at step {step}; {kept}")
        self.signum, self.run, self.step = signum, run, step


@contextmanager
def recorded_signals() -> Generator[list[int]]:
    """A context that records signals which ask for an end; those that the process ignores it goes on ignoring.

    Outside the main thread, where Python delivers no signals, the list stays empty.
    """
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    last = 0.0

    def note(signum: int, frame: FrameType | None) -> None:
        nonlocal last
        before, last = last, time.monotonic()
        if not caught:
            caught.append(signum)
        elif signum == signal.SIGINT and last - before > _REPEATED:
            raise KeyboardInterrupt

    numbers = [int(getattr(signal, name)) for name in _NAMES if hasattr(signal, name)]  # Windows has two of them
    old = {number: signal.signal(number, note) for number in numbers if signal.getsignal(number) is not signal.SIG_IGN}
    try:
        yield caught
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


__all__ = ["Interrupted", "recorded_signals"]
