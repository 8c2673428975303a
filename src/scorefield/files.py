"""Files on the user's disk: written whole or not at all, never over another unasked, by one process at a time."""

import errno
import hashlib
import json
import os
import shutil
import socket
import stat
import sys
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import cast

from scorefield.errors import UserError

PART = ".part-"
"""What the name of a file or folder that is being written begins with."""
LOCK = ".lock"
"""The file in a folder that the process which writes into it holds."""
_LOCKED_BYTE = 2**30  # of LOCK, on Windows: who reads what the file says must not meet the lock, which bars readers too
_PREFIX = 32  # characters of a name that its temporary file repeats: names may be as long as the disk takes


def is_special(path: Path) -> bool:
    """Whether a path is a pipe, a socket or a device, which may never end; false where nothing is there."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


@contextmanager
def atomic(path: Path, *, name: Callable[[Path], str] | None = None) -> Generator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well.

    A kill at any moment leaves the old file or the new one, never half of one. When the block has ended, file and name
    are on the disk: a power cut does not bring the old one back.

    Args:
        path: of the file; its folder is made if need be.
        name: the file's name, from what was written, if it is not that of `path`: one that holds a digest, say.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f"{PART}{path.stem[:_PREFIX]}-", suffix=path.suffix)
    os.close(handle)
    part = Path(temporary)
    try:
        yield part
        _sync(part)
        part.chmod(0o666 & ~_umask())
        part.replace(path if name is None else path.with_name(name(part)))
        _sync(path.parent)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Generator[Path]:
    """A temporary folder beside `path`, which must be free, that takes its place when the block ends well.

    A kill at any moment leaves nothing at `path`, or all of it. What others put there meanwhile stays.

    Raises:
        UserError: something is already there, before the block or after it, or another process holds the folder.
    """
    mend = "Choose another name."
    refuse_existing(path, mend=mend)
    refuse_locked(path)
    path = path.resolve()  # a link to an empty folder stays a link
    path.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=path.parent, prefix=f"{PART}{path.name[:_PREFIX]}-"))
    try:
        yield part
        for written in (*part.rglob("*"), part):
            _sync(written)
        part.chmod(0o777 & ~_umask())
        if path.is_dir():
            with locked(path):
                sweep(path)
        try:
            if path.is_dir():
                path.rmdir()
            part.replace(path)
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}:
                raise
            raise UserError(path, "already exists.", mend) from error
        _sync(path.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_atomic(path: Path, content: bytes | bytearray | str) -> Path:
    """Write `content` to `path` atomically and return the path."""
    with atomic(path) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def refuse_existing(
    path: Path, *, overwrite: bool = False, mend: str = "Choose another name or pass --overwrite."
) -> Path:
    """Return `path` if it is free (or an empty folder), or if overwriting was asked for.

    A folder that holds nothing but what a killed process left half-written is empty.

    Raises:
        UserError: something is already there.
    """
    taken = any(not _is_leftover(found) for found in path.iterdir()) if path.is_dir() else path.exists()
    if taken and not overwrite:
        raise UserError(path, "already exists.", mend)
    return path


def sweep(folder: Path) -> None:
    """Remove what killed processes left half-written in a folder, which must be locked by this one."""
    for found in folder.glob(f"{PART}*"):
        if found.is_dir() and not found.is_symlink():
            shutil.rmtree(found, ignore_errors=True)
        else:
            found.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path) -> Generator[None]:
    """A context in which the folder belongs to this process alone; the folder is made if need be.

    The lock is the system's own (`flock`; on Windows, on a byte of the file), so that it ends with the process, however
    that ends. The file that carries it says who holds it. Where the file system knows no locks there is none.

    Raises:
        UserError: another process holds the folder.
    """
    new = [part for part in (folder, *folder.parents) if not part.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = _acquire(folder)
    except OSError as error:
        raise UserError(folder, f"cannot be written: {error.strerror}.", "Choose another folder.") from error
    try:
        yield
    finally:
        _release(folder, handle)
        with suppress(OSError):
            for part in new:  # that nothing was written into
                part.rmdir()


def refuse_locked(folder: Path) -> None:
    """See, before long preparations, that no other process holds the folder.

    Raises:
        UserError: one does.
    """
    if (folder / LOCK).exists() and os.access(folder, os.W_OK):
        with locked(folder):
            pass


def _acquire(folder: Path) -> int:
    """An open, locked LOCK file in the folder."""
    path = folder / LOCK
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not _lock(handle):
                holder = _holder(handle)
                what, mend = f"another process writes here: {holder}.", "Wait for its end, or choose another folder."
                raise UserError(folder, what, mend)
        except BaseException:
            os.close(handle)
            raise
        with suppress(FileNotFoundError):
            if os.fstat(handle).st_ino == path.stat().st_ino:
                break
        os.close(handle)  # its last holder removed it meanwhile
    me = {"host": socket.gethostname(), "process": os.getpid(), "since": f"{datetime.now().astimezone():%F %T %z}"}
    os.ftruncate(handle, 0)
    os.lseek(handle, 0, os.SEEK_SET)
    os.write(handle, json.dumps(me).encode())
    return handle


def _lock(handle: int) -> bool:
    """Lock an open file until it is closed; false if another process has."""
    if sys.platform == "win32":
        import msvcrt  # noqa: PLC0415 - there alone

        os.lseek(handle, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True
    import fcntl  # noqa: PLC0415 - not on Windows

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}:
            raise
    return True


def _release(folder: Path, handle: int) -> None:
    """End a lock, and remove its file."""
    if sys.platform == "win32":
        import msvcrt  # noqa: PLC0415 - there alone

        os.lseek(handle, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)
        os.close(handle)
        with suppress(PermissionError):  # another process has opened it: an open file cannot be removed there
            (folder / LOCK).unlink(missing_ok=True)
        return
    (folder / LOCK).unlink(missing_ok=True)  # first: who opens it now waits in vain for no one
    os.close(handle)


def _holder(handle: int) -> str:
    os.lseek(handle, 0, os.SEEK_SET)
    try:
        said = cast(object, json.loads(os.read(handle, 1000)))
    except ValueError:  # it has just begun
        said = None
    values = cast(dict[str, object], said) if isinstance(said, dict) else {}
    host, process, since = (values.get(name, "?") for name in ("host", "process", "since"))
    return f"number {process} on {host}, since {since}"


def _is_leftover(path: Path) -> bool:
    return path.name == LOCK or path.name.startswith(PART)


def _sync(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk; a few file systems cannot, for folders."""
    if path.is_dir() and sys.platform == "win32":
        return
    handle = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)  # Windows syncs what may be written
    try:
        os.fsync(handle)
    except OSError as error:
        if not path.is_dir() or error.errno not in {errno.EINVAL, errno.ENOTSUP, errno.EBADF}:
            raise
    finally:
        os.close(handle)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
