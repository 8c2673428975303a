"""Files are written whole or not at all."""

import errno
import os
import socket
import stat
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest

from scorefield.errors import UserError, did_you_mean
from scorefield.files import (
    atomic,
    atomic_folder,
    cache_dir,
    locked,
    refuse_existing,
    refuse_locked,
    sweep,
    write_atomic,
)


@pytest.mark.parametrize("content", [b"\x00\xff", "grüße"])
def test_content_arrives_whole_in_a_new_folder(tmp_path, content):
    path = write_atomic(tmp_path / "a" / "b.txt", content)
    assert path.read_bytes() == (content if isinstance(content, bytes) else content.encode())
    assert list(path.parent.iterdir()) == [path]


def test_a_written_file_has_the_rights_that_any_new_file_has(tmp_path):
    (tmp_path / "plain").touch()
    written = write_atomic(tmp_path / "ours", b"")
    assert stat.S_IMODE(written.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


@pytest.mark.parametrize(
    "failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), ValueError()]
)
@pytest.mark.parametrize("old", [None, b"old"])
def test_a_failure_leaves_the_old_file_and_no_litter(tmp_path, failure, old):
    path = tmp_path / "file.bin"
    if old is not None:
        path.write_bytes(old)
    with pytest.raises(type(failure)), atomic(path) as part:
        part.write_bytes(b"half")
        raise failure
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == ({} if old is None else {"file.bin": old})


def test_while_it_is_written_the_old_file_stands(tmp_path):
    path = write_atomic(tmp_path / "file.bin", b"old")
    with atomic(path) as part:
        part.write_bytes(b"new")
        assert part.parent == path.parent and part.suffix == path.suffix
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


def test_who_reads_the_old_file_meanwhile_reads_all_of_it(tmp_path):
    path = write_atomic(tmp_path / "file.bin", b"old")
    with path.open("rb") as reader:
        write_atomic(path, b"new")
        assert reader.read() == b"old"


def test_what_is_taken_is_refused_unless_overwriting(tmp_path):
    taken, full, empty = tmp_path / "taken", tmp_path / "full", tmp_path / "empty"
    taken.touch()
    full.mkdir()
    (full / "x").touch()
    empty.mkdir()
    for path in (taken, full):
        with pytest.raises(UserError, match=r"already exists.*--overwrite"):
            refuse_existing(path)
        assert refuse_existing(path, overwrite=True) == path
    for path in (empty, tmp_path / "new"):
        assert refuse_existing(path) == path


def test_the_cache_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("SCOREFIELD_CACHE", str(tmp_path / "own"))
    assert cache_dir() == tmp_path / "own"
    monkeypatch.delenv("SCOREFIELD_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "scorefield"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / ".cache" / "scorefield"


def test_an_error_names_where_what_and_the_remedy():
    error = UserError("recipe.toml", "no such setting.", "Remove it.")
    assert str(error) == "recipe.toml: no such setting. Remove it."
    assert (error.where, error.what, error.mend) == ("recipe.toml", "no such setting.", "Remove it.")
    assert str(UserError("a", "b.")) == "a: b."


def test_a_near_name_is_offered_and_otherwise_all():
    assert did_you_mean("huen", ["langevin", "heun"]) == "Did you mean `heun`?"
    assert did_you_mean("x", ["b", "a"]) == "Known: a, b."


# --- on the disk -----------------------------------------------------------------------------------


@pytest.fixture
def synced(monkeypatch):
    """The paths that were brought to the disk, in order."""
    true, paths = os.fsync, []

    def fsync(handle):
        status = os.fstat(handle)
        paths.append((status.st_dev, status.st_ino))
        true(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    return paths


def place(path):
    status = path.stat()
    return status.st_dev, status.st_ino


def test_a_file_and_its_folder_are_on_the_disk_when_it_is_written(tmp_path, synced):
    path = write_atomic(tmp_path / "file.bin", b"new")
    assert synced == [place(path), place(tmp_path)]


def test_a_folder_with_all_in_it_is_on_the_disk_when_it_is_written(tmp_path, synced):
    with atomic_folder(tmp_path / "made") as part:
        (part / "inner").mkdir()
        (part / "inner" / "file").write_bytes(b"x")
    made = tmp_path / "made"
    assert set(synced) == {place(made / "inner" / "file"), place(made / "inner"), place(made), place(tmp_path)}
    assert synced[-1] == place(tmp_path)


def test_a_name_that_holds_a_digest_appears_with_its_content(tmp_path):
    with atomic(tmp_path / "file.bin", name=lambda part: f"{len(part.read_bytes())}.bin") as part:
        part.write_bytes(b"five!")
    assert [path.name for path in tmp_path.iterdir()] == ["5.bin"]


def test_parts_that_a_kill_left_are_swept_and_are_nothing_in_the_way(tmp_path):
    (tmp_path / ".part-a.png").touch()
    (tmp_path / ".part-folder").mkdir()
    (tmp_path / ".part-folder" / "x").touch()
    assert refuse_existing(tmp_path) == tmp_path
    (tmp_path / ".mine").touch()
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".mine"]
    with pytest.raises(UserError, match="already exists"):
        refuse_existing(tmp_path)


@pytest.mark.parametrize("kind", ["file", "hidden", "folder", "whole"])
def test_what_others_put_into_a_folders_place_meanwhile_stays(tmp_path, kind):
    made = tmp_path / "made"
    if kind != "whole":
        made.mkdir()
    with pytest.raises(UserError, match="already exists"), atomic_folder(made) as part:
        (part / "ours").touch()
        if kind == "whole":
            made.write_text("theirs")
        elif kind == "folder":
            (made / "theirs").mkdir()
        else:
            (made / {"file": "theirs", "hidden": ".theirs"}[kind]).write_text("theirs")
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
    kept = made if kind == "whole" else next(made.iterdir())
    assert kept.is_dir() if kind == "folder" else kept.read_text() == "theirs"


@pytest.mark.parametrize("moment", ["before", "meanwhile"])
def test_a_folder_that_another_process_holds_is_not_replaced(tmp_path, moment):
    made, done = tmp_path / "made", False
    with ExitStack() as held:
        if moment == "before":
            held.enter_context(locked(made))
        with pytest.raises(UserError, match="another process writes here"), atomic_folder(made):
            held.enter_context(locked(made))
            (made / ".part-theirs").touch()
            done = True
        assert done == (moment == "meanwhile") == (made / ".part-theirs").exists()
        assert (made / ".lock").exists()


def test_what_a_kill_left_in_a_folders_place_is_swept(tmp_path):
    made = tmp_path / "made"
    made.mkdir()
    (made / ".lock").touch()
    (made / ".part-x").touch()
    with atomic_folder(made) as part:
        (part / "ours").touch()
    assert [path.name for path in made.iterdir()] == ["ours"]


def test_a_link_to_an_empty_folder_is_filled_and_stays_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with atomic_folder(tmp_path / "link") as part:
        (part / "ours").touch()
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real" / "ours").exists()


# --- locks -----------------------------------------------------------------------------------------

HOLD = """
import sys, time
from pathlib import Path
from scorefield.files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_folder_belongs_to_one_process_until_that_ends_however_it_does(tmp_path):
    folder = tmp_path / "a" / "b"
    process = subprocess.Popen([sys.executable, "-c", HOLD, folder], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        result = f"another process writes here: number {process.pid} on {socket.gethostname()}, since 20"
        with pytest.raises(UserError, match=result) as error, locked(folder):
            pass
        assert "\n" not in str(error.value)
        with pytest.raises(UserError, match=result):
            refuse_locked(folder)
    finally:
        process.kill()
        process.wait()
    assert (folder / ".lock").exists()  # which holds nothing
    refuse_locked(folder)
    with locked(folder):
        (folder / "file").touch()
    assert [path.name for path in folder.iterdir()] == ["file"]


def test_a_lock_leaves_no_folder_that_nothing_was_written_into(tmp_path):
    with locked(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path):
        pass
    assert tmp_path.is_dir()


def test_a_lock_that_ended_while_another_waited_for_it_is_taken_anew(tmp_path, monkeypatch):
    """Who opened the file before its holder removed it locks a file that no one else sees."""
    import fcntl

    true, calls = fcntl.flock, []

    def flock(handle, how):
        if not calls:
            (tmp_path / ".lock").unlink()
        calls.append(handle)
        true(handle, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with locked(tmp_path):
        assert len(calls) == 2
        with pytest.raises(UserError, match="another process"), locked(tmp_path):
            pass


def test_where_there_are_no_locks_there_is_none(tmp_path, monkeypatch):
    import fcntl

    def flock(handle, how):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", flock)
    with locked(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_reported(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written: Not a directory"), locked(tmp_path / "file" / "run"):
        pass


@pytest.fixture
def windows(monkeypatch):
    """Its locks, of bytes that bar readers too, and its files, which cannot be removed while they are open."""
    import fcntl

    held, true = {}, Path.unlink

    def locking(handle, mode, count):
        place = os.lseek(handle, 0, os.SEEK_CUR)
        assert count == 1
        if mode == "unlock":
            assert held.pop(handle) == place
            fcntl.flock(handle, fcntl.LOCK_UN)
            return
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PermissionError(errno.EACCES, "Permission denied") from None
        held[handle] = place

    def unlink(path, *, missing_ok=False):
        if held and path.name == ".lock":
            raise PermissionError(errno.EACCES, "it is open in another process")
        true(path, missing_ok=missing_ok)

    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK="lock", LK_UNLCK="unlock"))
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(Path, "unlink", unlink)
    for name in ("pread", "pwrite", "O_CLOEXEC"):
        monkeypatch.delattr(os, name)
    return held


def test_a_folder_belongs_to_one_process_on_windows_too(tmp_path, windows):
    with locked(tmp_path / "a"):
        (place,) = windows.values()
        assert place > 1000  # beyond what the file says
        with pytest.raises(UserError, match=f"another process writes here: number {os.getpid()} on"):
            refuse_locked(tmp_path / "a")
        with pytest.raises(UserError, match="another process"), locked(tmp_path / "a"):
            pass
        (tmp_path / "a" / "file").touch()
    assert not windows and [path.name for path in (tmp_path / "a").iterdir()] == ["file"]
    with locked(tmp_path / "a"):
        pass
    assert write_atomic(tmp_path / "b", b"new").read_bytes() == b"new"


def test_a_lock_file_that_another_opened_stays_on_windows(tmp_path, windows):
    with locked(tmp_path):
        windows[-1] = 0  # another process has it open
    assert (tmp_path / ".lock").exists()
    windows.clear()
    with locked(tmp_path):
        pass
    assert not (tmp_path / ".lock").exists()
