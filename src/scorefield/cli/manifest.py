"""The manifest of a folder of results: what was done, one JSON line for each image.

A line is written and flushed as soon as its image is restored, before its files take their places. The same command
therefore continues where a kill stopped it. A line that a kill has cut, or of another program, is ignored.

A line also holds size, time and digest of the files that were written. A file that was damaged or changed afterwards is
set aside and made again by the same command. As with git, a file whose size and time are unchanged is not read.
"""

import heapq
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from types import UnionType
from typing import Any, cast, get_args, get_origin, get_type_hints

from scorefield.cli.compact import Places
from scorefield.errors import UserError
from scorefield.files import PART, is_special, sha256

MANIFEST = "manifest.jsonl"
DIGITS = 16
_NUMBERED = re.compile(r"-\d+\.[A-Za-z0-9]+$")


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
        files: of each that was written: bytes, when it was changed last, and the first digits of its digest.
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
    files: dict[str, tuple[int, int, str]] = field(default_factory=dict)
    evaluations: int = 0
    seconds: float = 0.0
    jpeg_quality: int | None = None
    notes: list[str] = field(default_factory=list)
    error: str | None = None
    skipped: bool = False

    @property
    def results(self) -> list[str]:
        """The restored images among the outputs."""
        return [name for name in self.outputs if _NUMBERED.search(name)]

    def same_request(self, other: "Record") -> bool:
        """Whether the other is of the same image, with the same settings and model."""
        one, two = ((e.task, e.settings, e.seed, e.model_sha256, e.method, e.sampler, e.sha256) for e in (self, other))
        return one == two


class Records(Mapping[str, Record]):
    """Records by stem, read from the manifest when they are asked for: a million of them take little memory.

    Args:
        manifest: whose they are.
    """

    def __init__(self, manifest: "Manifest") -> None:
        self._manifest, self.places = manifest, Places()

    def __getitem__(self, stem: str) -> Record:
        """The record of a stem."""
        place = self.places.get(stem)
        if place is None:
            raise KeyError(stem)
        with self._manifest.path.open("rb") as file:
            file.seek(place)
            record = _read(file.readline())
        if record is None:
            raise UserError(self._manifest.path, "was changed while it was in use.", "Start again.")
        if record.stem != stem:  # of the same digest
            raise KeyError(stem)
        return record

    def in_order(self) -> Iterator[Record]:
        """The records as the file has them."""
        return (record for place, record in self._manifest.lines() if self.places.get(record.stem) == place)

    def __iter__(self) -> Iterator[str]:
        """The stems."""
        return (record.stem for record in self.in_order())

    def __len__(self) -> int:
        """How many there are."""
        return len(self.places)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The manifest in a folder, which need not be there yet.

    Until the first image is done its lines are in a hidden draft, which `files.sweep` removes.

    Args:
        out: the folder.
    """

    out: Path

    @property
    def path(self) -> Path:
        """The file, or its draft."""
        path = self.out / MANIFEST
        return path if path.exists() else self.out / f"{PART}{MANIFEST}"

    @property
    def restored(self) -> Records:
        """The last record without an error of every stem, as the file has them when first asked for."""
        return self._known[0]

    @property
    def failed(self) -> Records:
        """The last record with an error of every stem, in the same way."""
        return self._known[1]

    @cached_property
    def _known(self) -> tuple[Records, Records]:
        known = Records(self), Records(self)
        for place, record in self.lines():
            known[record.error is not None].places[record.stem] = place
        return known

    @property
    def written(self) -> Iterator[str]:
        """All files that any run has written into the folder: results, their sheets, and what the page shows."""
        for _, record in self.lines():
            yield from (*record.outputs, *record.page, *([record.before] if record.before else ()))

    @property
    def results(self) -> Iterator[str]:
        """The restored images that any run has written into the folder."""
        return (name for _, record in self.lines() for name in record.results)

    def unrestored(self, n: int) -> list[Record]:
        """The first n, by stem, of the last records of those that failed or were skipped and have no results."""
        found = (record for record in self.failed.in_order() if record.stem not in self.restored)
        return heapq.nsmallest(n, found, key=lambda record: record.stem)

    def lines(self) -> Iterator[tuple[int, Record]]:
        """All records, and where their lines begin."""
        place = 0
        with suppress(FileNotFoundError), self.path.open("rb") as lines:
            for line in lines:
                if (record := _read(line)) is not None:
                    yield place, record
                place += len(line)

    def append(self, *records: Record) -> None:
        """Write the lines to the disk, after whatever is there; the first that is done makes the draft the manifest."""
        known = self._known
        self.out.mkdir(parents=True, exist_ok=True)
        path = self.path
        with path.open("ab+") as file:
            if file.tell() and _last_byte(path) != b"\n":
                file.write(b"\n")
            for record in records:
                known[record.error is not None].places[record.stem] = file.tell()
                file.write(json.dumps(asdict(record)).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        if any(record.error is None or record.skipped for record in records):
            path.replace(self.out / MANIFEST)

    def left(self, record: Record) -> list[str]:
        """Outputs of the same request that are gone or changed, of a `record` that was restored; all if it was not."""
        before = self.restored.get(record.stem)
        if before is None or not before.same_request(record):
            return ["all"]
        return [name for name in before.outputs if not self.is_intact(before, name)]

    def is_intact(self, record: Record, name: str) -> bool:
        """Whether a file of the record is there, and as it was written."""
        path = self.out / name
        if not path.is_file():
            return False
        if name not in record.files:  # a record of version 0.1
            return True
        size, mtime_ns, first_digits = record.files[name]
        stat = path.stat()
        return stat.st_size == size and (stat.st_mtime_ns == mtime_ns or digest(path) == first_digits)


def digest(path: Path) -> str:
    """The first digits of a file's SHA-256."""
    return sha256(path)[:DIGITS]


def stamp(path: Path) -> tuple[int, int, str]:
    """Size, time of the last change and first digits of the digest."""
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns, digest(path)


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
        first_digits = "" if before is None else before.sha256 if known else digest(path)
    except OSError as error:
        what = "no such file." if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})."
        raise UserError(path, what) from None
    return replace(record, bytes=stat.st_size, mtime_ns=stat.st_mtime_ns, sha256=first_digits)


def _read(line: bytes) -> Record | None:
    try:
        record = Record(**json.loads(line.decode(errors="surrogateescape")))
    except (ValueError, TypeError):
        return None  # cut by a kill, or of another program
    return record if all(_is_of_type(getattr(record, name), kind) for name, kind in _kinds().items()) else None


@cache
def _kinds() -> dict[str, Any]:
    return get_type_hints(Record)


def _is_of_type(value: Any, kind: Any) -> bool:
    """Whether a value read from JSON is of an annotation's type; pydantic would refuse names that are no UTF-8."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return True
    if origin is UnionType:
        return any(_is_of_type(value, one) for one in inner)
    if origin is list:
        return isinstance(value, list) and all(_is_of_type(part, inner[0]) for part in cast(list[Any], value))
    if origin is tuple:
        parts = cast(list[Any], value) if isinstance(value, list) else []
        return len(parts) == len(inner) and all(map(_is_of_type, parts, inner))
    if origin is dict:
        return isinstance(value, dict) and all(
            _is_of_type(part, inner[1]) for part in cast(dict[str, Any], value).values()
        )
    return isinstance(value, (int, float) if kind is float else kind) and (kind is bool or not isinstance(value, bool))


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1)
