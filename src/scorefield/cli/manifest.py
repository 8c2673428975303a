"""The manifest of a folder of answers: what was done, one JSON line for each image.

A line is written and flushed as soon as its image is restored, before its files take their places; so the
same command goes on where a kill has stopped it. A line that a kill has cut is no line.
"""

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from scorefield.errors import UserError

MANIFEST = "manifest.jsonl"
_DIGITS = 16


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What became of one image.

    Args:
        input: the image's path.
        stem: what its answers' names begin with.
        bytes: the file's size.
        mtime_ns: when the file was changed last.
        sha256: the first digits of the file's digest.
        task: a name in `restoration.TASKS`, or "restore" where degradation is named.
        settings: what was asked for, whatever has a bearing on the answers.
        seed: of all noise.
        model: as it was named.
        model_sha256: the first digits of its file's digest.
        method: how it was restored.
        sampler: what drew the answers.
        outputs: the answers and their sheet, below the manifest's folder.
        before: the image as it was read, for the page.
        page: the answers, for the page, where browsers do not show their files.
        evaluations: of the network, over all answers.
        seconds: it took.
        jpeg_quality: of the file, where its tables tell.
        notes: what was left behind of the file, in words.
        error: why there are no answers.
    """

    input: str
    stem: str
    bytes: int
    mtime_ns: int
    sha256: str
    task: str
    settings: dict[str, Any]
    seed: int
    model: str
    model_sha256: str
    method: str
    sampler: str
    outputs: list[str] = field(default_factory=list)
    before: str | None = None
    page: list[str] = field(default_factory=list)
    evaluations: int = 0
    seconds: float = 0.0
    jpeg_quality: int | None = None
    notes: list[str] = field(default_factory=list)
    error: str | None = None

    def same_request(self, other: "Entry") -> bool:
        """Whether the other was asked of the same image, in the same way, of the same model."""
        asked, told = (
            (e.task, e.settings, e.seed, e.model_sha256, e.method, e.sampler, e.sha256) for e in (self, other)
        )
        return asked == told


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The manifest in a folder, which need not be there yet.

    Args:
        out: the folder.
    """

    out: Path

    @cached_property
    def restored(self) -> dict[str, Entry]:
        """The last entry without an error of every stem, as the file has them when first asked for."""
        try:
            lines = (self.out / MANIFEST).read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return {}
        entries = [entry for entry in map(_read, lines) if entry is not None]
        return {entry.stem: entry for entry in entries if entry.error is None}

    def append(self, *entries: Entry) -> None:
        """Write the lines to the disk, after whatever is there, and keep those without an error."""
        known = self.restored
        self.out.mkdir(parents=True, exist_ok=True)
        with (self.out / MANIFEST).open("ab+") as file:
            if file.tell() and _last_byte(self.out / MANIFEST) != b"\n":
                file.write(b"\n")
            for entry in entries:
                file.write(json.dumps(asdict(entry), ensure_ascii=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        known.update({entry.stem: entry for entry in entries if entry.error is None})

    def left(self, entry: Entry) -> list[str]:
        """Outputs of the same request that are gone, of an `entry` that was restored; all if it was not."""
        before = self.restored.get(entry.stem)
        if before is None or not before.same_request(entry):
            return ["all"]
        return [name for name in before.outputs if not (self.out / name).is_file()]


def digest(path: Path) -> str:
    """The first digits of a file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:_DIGITS]


def stamped(entry: Entry, path: Path, before: Entry | None) -> Entry:
    """The entry with the file's size, time and digest; that is not read again where the other two stand.

    Raises:
        UserError: there is no such file, or it cannot be read.
    """
    try:
        stat = path.stat()
        known = before is not None and (before.bytes, before.mtime_ns) == (stat.st_size, stat.st_mtime_ns)
        sha256 = before.sha256 if before is not None and known else digest(path)
    except OSError as error:
        what = "no such file." if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})."
        raise UserError(path, what) from None
    return replace(entry, bytes=stat.st_size, mtime_ns=stat.st_mtime_ns, sha256=sha256)


def _read(line: str) -> Entry | None:
    try:
        return Entry(**json.loads(line))
    except (ValueError, TypeError):
        return None  # cut by a kill, or of another program


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1)
