"""The manifest of a folder of results: what was done, one JSON line for each image.

A line is written and flushed as soon as its image is restored, before its files take their places. The same command
therefore continues where a kill stopped it. A line that a kill has cut is ignored.
"""

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from scorefield.errors import UserError
from scorefield.files import is_special

MANIFEST = "manifest.jsonl"
DIGITS = 16


@dataclass(frozen=True, kw_only=True)
class Record:
    """What became of one image.

    Args:
        input: the image's path.
        stem: what its results' names begin with.
        bytes: the file's size.
        mtime_ns: when the file was changed last.
        sha256: the first digits of the file's digest.
        task: its name, or "restore" where the degradation is named.
        settings: all that has a bearing on the results.
        seed: of all noise.
        model: as it was named.
        model_sha256: the first digits of its file's digest.
        method: how it was restored.
        sampler: what drew the results.
        outputs: the results and their sheet, below the manifest's folder.
        before: the image as it was read, for the page.
        page: the results, for the page, where browsers do not show their files.
        evaluations: of the network, over all results.
        seconds: it took.
        jpeg_quality: of the file, estimated from its quantisation tables.
        notes: what was left behind of the file, in words.
        error: why there are no results.
        skipped: whether that is because there was nothing to restore.
    """

    input: str
    stem: str
    task: str
    settings: dict[str, Any]
    seed: int
    model: str
    model_sha256: str
    method: str
    sampler: str
    bytes: int = 0
    mtime_ns: int = 0
    sha256: str = ""
    outputs: list[str] = field(default_factory=list)
    before: str | None = None
    page: list[str] = field(default_factory=list)
    evaluations: int = 0
    seconds: float = 0.0
    jpeg_quality: int | None = None
    notes: list[str] = field(default_factory=list)
    error: str | None = None
    skipped: bool = False

    def same_request(self, other: "Record") -> bool:
        """Whether the other is of the same image, with the same settings and model."""
        one, two = ((e.task, e.settings, e.seed, e.model_sha256, e.method, e.sampler, e.sha256) for e in (self, other))
        return one == two


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The manifest in a folder, which need not be there yet.

    Args:
        out: the folder.
    """

    out: Path

    @cached_property
    def restored(self) -> dict[str, Record]:
        """The last record without an error of every stem, read from the file once."""
        return {record.stem: record for record in self._records() if record.error is None}

    @property
    def written(self) -> set[str]:
        """All files that any run has written into the folder: results, their sheets, and what the page shows."""
        return {name for r in self._records() for name in (*r.outputs, *r.page, *([r.before] if r.before else ()))}

    @property
    def unrestored(self) -> list[Record]:
        """The last record of every stem that failed or was skipped and has no results, by stem."""
        last = {record.stem: record for record in self._records()}
        return [
            record for stem, record in sorted(last.items()) if record.error is not None and stem not in self.restored
        ]

    def _records(self) -> list[Record]:
        try:
            lines = (self.out / MANIFEST).read_text(encoding="utf-8", errors="replace").split("\n")
        except FileNotFoundError:
            return []
        return [record for record in map(_read, lines) if record is not None]

    def append(self, *records: Record) -> None:
        """Write the lines to the disk, after whatever is there, and keep those without an error."""
        known = self.restored
        self.out.mkdir(parents=True, exist_ok=True)
        with (self.out / MANIFEST).open("ab+") as file:
            if file.tell() and _last_byte(self.out / MANIFEST) != b"\n":
                file.write(b"\n")
            for record in records:
                file.write(json.dumps(asdict(record)).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        known.update({record.stem: record for record in records if record.error is None})

    def left(self, record: Record) -> list[str]:
        """Outputs of the same request that are gone, of an `record` that was restored; all if it was not."""
        before = self.restored.get(record.stem)
        if before is None or not before.same_request(record):
            return ["all"]
        return [name for name in before.outputs if not (self.out / name).is_file()]


def digest(path: Path) -> str:
    """The first digits of a file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:DIGITS]


def stamped(record: Record, path: Path, before: Record | None) -> Record:
    """The record with the file's size and time, and with its digest where that decides whether it is done already.

    The digest is the earlier record's where size and time stand. Where there is no earlier record it is left empty:
    the image is restored in any case, and its digest is known when it is read.

    Raises:
        UserError: there is no such file, or it cannot be read.
    """
    if is_special(path):
        raise UserError(path, "is a pipe or a device, not a file.")
    try:
        stat = path.stat()
        known = before is not None and (before.bytes, before.mtime_ns) == (stat.st_size, stat.st_mtime_ns)
        sha256 = "" if before is None else before.sha256 if known else digest(path)
    except OSError as error:
        what = "no such file." if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})."
        raise UserError(path, what) from None
    return replace(record, bytes=stat.st_size, mtime_ns=stat.st_mtime_ns, sha256=sha256)


def _read(line: str) -> Record | None:
    try:
        return Record(**json.loads(line))
    except (ValueError, TypeError):
        return None  # cut by a kill, or of another program


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1)
