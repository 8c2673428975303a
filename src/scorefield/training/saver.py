"""Writing beside training: one checkpoint at a time, in a thread."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Saver:
    """Runs one job at a time in a thread; what a job raises is raised where its end is next looked for.

    Args:
        pool: of one thread.
    """

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self._job: Future[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether a job is running."""
        return self._job is not None and not self._job.done()

    def start(self, job: Callable[[], None]) -> None:
        """Begin a job; the last one must have ended."""
        self._job = self._pool.submit(job)

    def finished(self) -> bool:
        """Whether a job has ended since this was asked last."""
        if self._job is None or self.busy:
            return False
        self.wait()
        return True

    def wait(self) -> None:
        """Wait for the end of the job, if there is one."""
        job, self._job = self._job, None
        if job is not None:
            job.result()


__all__ = ["Saver"]
