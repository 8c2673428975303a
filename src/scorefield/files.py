"""Files on the user's disk: written whole or not at all, never over another unasked."""

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from scorefield.errors import UserError

_PREFIX = 32  # characters of a name that its temporary file repeats: names may be as long as the disk takes


def is_special(path: Path) -> bool:
    """Whether a path is a pipe, a socket or a device, which may never end; false where nothing is there."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


@contextmanager
def atomic(path: Path) -> Generator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well.

    A kill at any moment leaves the old file or the new one, never half of one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem[:_PREFIX]}-", suffix=path.suffix)
    os.close(handle)
    part = Path(name)
    try:
        yield part
        with part.open("rb") as written:
            os.fsync(written.fileno())
        part.chmod(0o666 & ~_umask())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Generator[Path]:
    """A temporary folder beside `path`, which must be free, that takes its place when the block ends well.

    A kill at any moment leaves nothing at `path`, or all of it.

    Raises:
        UserError: something is already there.
    """
    refuse_existing(path, mend="Choose another name.")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-"))
    try:
        yield part
        for written in part.rglob("*"):
            if written.is_file():
                with written.open("rb") as file:
                    os.fsync(file.fileno())
        part.chmod(0o777 & ~_umask())
        if path.is_dir():  # an empty one
            path.rmdir()
        part.replace(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def hidden_folder(parent: Path, *, prefix: str) -> Generator[Path]:
    """A folder of an unguessable name that only this user may enter, removed when the block ends.

    It is locked as long as its process lives, on whatever machine or container shares the disk: see `sweep`.
    """
    folder = Path(tempfile.mkdtemp(dir=parent, prefix=prefix))
    held = os.open(folder, os.O_RDONLY)
    try:
        _lock(held)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def sweep(parent: Path, *, prefix: str) -> None:
    """Remove the `hidden_folder`s that killed processes left: those that nobody locks, and that are not links."""
    for folder in parent.glob(f"{prefix}*"):
        if folder.is_symlink() or not folder.is_dir():
            continue
        held = os.open(folder, os.O_RDONLY)
        try:
            if _lock(held):
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(held)


def _lock(held: int) -> bool:
    """Lock an open file or folder, if nobody else has; the lock ends with the process."""
    import fcntl  # noqa: PLC0415 (of POSIX alone)

    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def write_atomic(path: Path, content: bytes | str) -> Path:
    """Write `content` to `path` atomically and return the path."""
    with atomic(path) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def refuse_existing(
    path: Path, *, overwrite: bool = False, mend: str = "Choose another name or pass --overwrite."
) -> Path:
    """Return `path` if it is free (or an empty folder), or if overwriting was asked for.

    Raises:
        UserError: something is already there.
    """
    taken = any(path.iterdir()) if path.is_dir() else path.exists()
    if taken and not overwrite:
        raise UserError(path, "already exists.", mend)
    return path


def disk_is_full(error: BaseException | None) -> bool:
    """Whether a full disk is behind an error: not every library lets the system's own error through."""
    while error is not None:
        number = error.errno if isinstance(error, OSError) else None
        if number in {errno.ENOSPC, errno.EDQUOT} or os.strerror(errno.ENOSPC) in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def cache_dir() -> Path:
    """Where computed things are kept: $SCOREFIELD_CACHE, else the user's cache folder."""
    if own := os.environ.get("SCOREFIELD_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "scorefield"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
