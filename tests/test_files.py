"""Files are written whole or not at all."""

import errno
import stat

import pytest

from scorefield.errors import UserError, did_you_mean
from scorefield.files import atomic, cache_dir, hidden_folder, refuse_existing, sweep, write_atomic


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


def test_a_hidden_folder_is_unguessable_private_and_removed(tmp_path):
    with hidden_folder(tmp_path, prefix=".work-") as one, hidden_folder(tmp_path, prefix=".work-") as other:
        assert one != other and one.stat().st_mode & 0o777 == 0o700
        (one / "part").write_text("x")
    assert not list(tmp_path.iterdir())


def test_sweeping_leaves_what_a_living_process_writes_and_whatever_a_link_points_to(tmp_path):
    dead, target = tmp_path / ".work-dead", tmp_path / "target"
    dead.mkdir()
    target.mkdir()
    (target / "kept").touch()
    (tmp_path / ".work-link").symlink_to(target)
    (tmp_path / ".work-file").touch()
    with hidden_folder(tmp_path, prefix=".work-") as alive:
        sweep(tmp_path, prefix=".work-")
        assert alive.is_dir() and not dead.exists()
        assert (target / "kept").exists() and (tmp_path / ".work-file").exists()
