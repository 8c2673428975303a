"""Many images: what is done is skipped, what fails is named, and the rest is restored.

Results are written into a hidden folder first. Then the manifest's line is written, and then the files take their
places. Whatever the moment of a kill, the same command restores what is not whole.
"""

import heapq
import json
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from scorefield.cli.compact import Names, NameSet
from scorefield.cli.console import Show, note, progress, require_free, tell, write_json_list
from scorefield.cli.inputs import Found, FoundImages, find_images
from scorefield.cli.manifest import DIGITS, MANIFEST, Manifest, Record, digest, stamp, stamped
from scorefield.cli.restore_options import RestoreOptions
from scorefield.errors import NothingToRestore, UserError
from scorefield.files import PART, disk_is_full, locked, refuse_existing, sweep

if TYPE_CHECKING:
    from PIL import Image

    from scorefield.model import ScoreModel
    from scorefield.restoration import MethodPlan, Restoration, Task

PAGE = "index.html"
SOME_FAILED = 3
"""Exit code where some images failed and the rest are done."""

_RESULT = re.compile(r"(.+)-(\d+(-page)?|sheet|map|before)\.[A-Za-z]+")
_READY, _PART, _NEW, _BAD = range(4)  # restored; in part; not at all; cannot be
_IN_BROWSERS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".avif", ".bmp"})
_PAGE_SIDE = 1600  # pixels; a page shows no more
_ON_PAGE = 2000  # images; about 2 MB of HTML, as much as browsers show at once


def restore_all(options: RestoreOptions, task_of: Callable[[Found], "Task"], *, kind: "type[Task]") -> None:
    """Restore every image; one that fails is named, and the others go on.

    Args:
        options: of the command.
        task_of: the task for an image; a UserError says what the image lacks.
        kind: of task.

    Raises:
        UserError: before any work: a model that cannot be loaded or was not trained for the task, settings out of
            range, a folder without images, results that exist, or another process that writes into the folder.
    """
    import scorefield as sf
    from scorefield.hub import find, is_pipeline
    from scorefield.restoration import tasks_of

    require_free(options.json, overwrite=options.overwrite)
    check_options(options)
    found = find_images(options.inputs, options.out)
    tasks = tasks_of(task_of(next(iter(found)))) if kind.name == "restore" else (kind.name,)
    one_task = tasks[0] if len(tasks) == 1 else None
    path = None if is_pipeline(options.model) else find(options.model, task=one_task)
    model = sf.load(options.model, device=options.device).for_task(one_task)
    if options.best:
        model = model.with_flips()
    chosen = _chosen(options, model, tasks, kind)
    first = _first(options, options.model if path is None else digest(path), chosen, kind)
    with locked(options.out):
        sweep(options.out)
        manifest = Manifest(out=options.out)
        batch = _Batch(
            options=options,
            manifest=manifest,
            model=model,
            chosen=chosen,
            job=lambda one: _job(one, first, task_of, manifest),
        )
        try:
            code = batch.run(found)
            if options.json is not None:
                write_json_list(options.json, batch.results(found))
        finally:
            sweep(options.out)
    if code:
        raise typer.Exit(code)


def check_options(options: RestoreOptions) -> None:
    """Check that the results can be written as requested.

    Raises:
        UserError: they cannot.
    """
    from scorefield.data.encode import FORMATS

    if options.out.exists() and not options.out.is_dir():
        raise UserError(options.out, "is a file, not a folder.", "Name a folder for the results: --out.")
    if options.format is not None and f".{options.format.lower().lstrip('.')}" not in FORMATS:
        known = ", ".join(suffix[1:] for suffix in FORMATS)
        raise UserError("--format", f"cannot write `{options.format}`.", f"Use one of {known}.")
    if (options.out / MANIFEST).exists() and not (options.out / MANIFEST).is_file():
        raise UserError(options.out / MANIFEST, "is no file, but where the manifest goes.", "Choose another --out.")
    if options.map and options.candidates < 2:
        raise UserError("--map", "shows where candidates differ; one cannot.", "Ask for more: --candidates 4.")
    if not (options.out / MANIFEST).exists():
        mend = "Choose another --out or pass --overwrite."
        refuse_existing(options.out / PAGE, overwrite=options.overwrite, mend=mend)


def _chosen(options: RestoreOptions, model: "ScoreModel", tasks: tuple[str, ...], kind: "type[Task]") -> "MethodPlan":
    """The method with its sampler and noise schedule."""
    from scorefield.restoration import METHODS, palette_plan, resolve_method
    from scorefield.samplers import Plan, plan

    chosen = resolve_method(model, options.method, options.sampler, options.steps, tasks=tasks, task_steps=kind.steps)
    if options.schedule is None:
        return chosen
    sampler = options.sampler or METHODS[chosen.name].sampler
    made: Plan = (
        palette_plan(model, sampler, options.steps)
        if options.schedule == "palette"
        else plan(model, sampler, options.steps, schedule=options.schedule)
    )
    return replace(chosen, plan=made)


@dataclass(frozen=True, kw_only=True)
class _Job:
    """An image to restore; `task` is None where it cannot be, and the record then has an error."""

    found: Found
    record: Record
    task: "Task | None" = None


def _first(options: RestoreOptions, model_digest: str, chosen: "MethodPlan", kind: "type[Task]") -> Record:
    """What the records of all images have in common."""
    shared = ("candidates", "average", "best", "steps", "schedule", "tile", "format", "map")
    return Record(
        input="",
        stem="",
        task=kind.name,
        settings={name: getattr(options, name) for name in shared},
        seed=options.seed,
        model=options.model,
        model_sha256=model_digest,
        method=chosen.name,
        sampler=options.sampler or chosen.method.sampler,
    )


def _job(found: Found, first: Record, task_of: Callable[[Found], "Task"], manifest: Manifest) -> _Job:
    record = replace(first, input=str(found.path.absolute()), stem=found.stem)
    try:
        record = stamped(record, found.path, manifest.restored.get(found.stem))
        task = task_of(found)
    except UserError as error:
        return _Job(found=found, record=replace(record, error=str(error)))
    own = {name: value for name, value in (asdict(task) if is_dataclass(task) else {}).items() if name != "seed"}
    settings = json.loads(json.dumps({**own, **_digests(own), **record.settings}, default=str))
    return _Job(found=found, record=replace(record, settings=settings), task=task)


def _digests(settings: dict[str, Any]) -> dict[str, str]:
    """Of the files that settings name: another mask under the same name is another setting."""
    paths = {name: Path(value) for name, value in settings.items() if isinstance(value, str | Path)}
    return {f"{name}_sha256": digest(path) for name, path in paths.items() if path.is_file()}


@dataclass(frozen=True, kw_only=True)
class _Batch:
    """One command's images.

    Args:
        options: of the command.
        manifest: of the folder for the results.
        model: the score model.
        chosen: the method with its sampler.
        job: what is to be done with an image; made anew when it is needed: a million of them would not fit in memory.
        tally: how many images were restored, were so already, were skipped, failed.
        failures: stems of the images that failed or were skipped, where --json is to tell.
    """

    options: RestoreOptions
    manifest: Manifest
    model: "ScoreModel"
    chosen: "MethodPlan"
    job: Callable[[Found], _Job]
    tally: Counter[str] = field(default_factory=Counter)
    failures: Names = field(default_factory=Names)

    def run(self, found: FoundImages) -> int:
        """Restore what is left to do; the exit code."""
        states, total = self._left(found)
        codes = {self._try(one, _unseen) for one in _of(found, states, _BAD)}
        n, done = len(states) - states.count(_READY) - states.count(_BAD), 0
        try:
            with progress(f"Restoring {n} of {len(found)}") as show:
                for k, one in enumerate(_of(found, states, _PART, _NEW), 1):
                    words = f"{one.path.name} ({k}/{n})"
                    size = one.path.stat().st_size if one.path.is_file() else 0
                    codes.add(self._try(one, _within(show, done / total, size / total, words)))
                    done += size
                    show(min(1.0, done / total), words)
        finally:
            if self.tally["restored"] or self.tally["skipped"]:
                tell(f"see {_write_run_page(self.options.out, self.manifest)}")
        return self._code(codes - {0}, len(found))

    def _code(self, failed: set[int], n: int) -> int:
        if skipped := self.tally["skipped"]:
            tell(f"{skipped} of {n} had nothing to restore: skipped")
        if failed:
            return SOME_FAILED if self.tally["restored"] or self.tally["skipped"] else min(failed)
        return 0

    def _left(self, found: FoundImages) -> tuple[bytes, int]:
        """What is to be done with each image, and the bytes of those that are to be restored.

        Raises:
            UserError: a result of another request is in the way of one.
        """
        states, total = bytearray(), 0
        for one in found:
            job = self.job(one)
            if job.task is None:
                states.append(_BAD)
            elif left := self.manifest.left(job.record):
                states.append(_NEW if left == ["all"] else _PART)
                total += job.record.bytes
            else:
                states.append(_READY)
                self._note(self.manifest.restored[one.stem])
        if ready := states.count(_READY):
            tell(f"{ready} of {len(found)} are restored already, in this same way: skipped")
        if not self.options.overwrite:
            _refuse_results(self.options.out, lambda: _of(found, states, _NEW))
        return bytes(states), total or 1

    def results(self, found: FoundImages) -> Iterator[dict[str, Any]]:
        """What became of each image."""
        failures = NameSet(self.failures)
        for one in found:
            records = self.manifest.failed if one.stem in failures else self.manifest.restored
            yield _reachable(records[one.stem], self.options.out)

    def _try(self, one: Found, show: Callable[[int, int], None]) -> int:
        job = self.job(one)
        return self._fail(job, job.record.error) if job.task is None else self._one(job, show)

    def _note(self, record: Record) -> None:
        self.tally["skipped" if record.skipped else "restored" if record.error is None else "failed"] += 1
        if record.error is not None and self.options.json is not None:
            self.failures.append(record.stem)

    def _one(self, job: _Job, show: Callable[[int, int], None]) -> int:
        """Restore one image, whatever comes; 0, or an exit code."""
        import scorefield as sf
        from scorefield.data.photo import Photo
        from scorefield.degradations import nearest_quality
        from scorefield.restoration.inspection import doubt

        begun = time.perf_counter()
        options, task = self.options, job.task
        assert task is not None
        try:
            photo = Photo.read(job.found.path)
            quality = None if photo.jpeg is None else nearest_quality(photo.jpeg)
            job = replace(job, record=replace(job.record, sha256=photo.sha256[:DIGITS], jpeg_quality=quality))
            restored = sf.restore(
                self.model, photo, task, method=self.chosen.name, candidates=options.candidates,
                sampler=self.chosen.plan, tile=options.tile, seed=options.seed, progress=show,
            )  # fmt: skip
            if options.average:
                restored = restored.average()
            spent = round(time.perf_counter() - begun, 2)
            doubts = [words for words in (doubt(photo, job.record.task),) if words]
            record = replace(job.record, seconds=spent, evaluations=restored.evaluations, notes=doubts)
            self._keep(job, restored, record)
        except Exception as error:  # the images after this one are not to suffer from it
            ours = not isinstance(error, UserError)
            if disk_is_full(error) or (ours and "--debug" in sys.argv):
                raise
            spent = round(time.perf_counter() - begun, 2)
            return self._fail(replace(job, record=replace(job.record, seconds=spent)), error, ours=ours)
        return 0

    def _fail(self, job: _Job, error: object, *, ours: bool = False) -> int:
        """Name an image that cannot be restored, or that has nothing to restore; the exit code."""
        line = " ".join(str(error).split()) or type(error).__name__
        path = str(job.found.path)
        line = line if path in line else f"{path}: {line}"
        line += " (scorefield --debug VERB … shows where)" if ours else ""
        note(f"scorefield: {line}")
        skipped = isinstance(error, NothingToRestore)
        record = replace(job.record, error=line, skipped=skipped)
        self._note(record)
        self.manifest.append(record)
        return 0 if skipped else 1 if ours else 2

    def _keep(self, job: _Job, restored: "Restoration", record: Record) -> None:
        """Write the results and their record."""
        record = _write(restored, record, self.options, self.manifest)
        self._note(record)
        notes = f" ({'; '.join(record.notes)})" if record.notes else ""
        tell(f"{job.found.path} -> {self.options.out / record.outputs[0]}{notes}")


def _of(found: FoundImages, states: bytes | bytearray, *wanted: int) -> Iterator[Found]:
    """The images of these states."""
    return (one for one, state in zip(found, states, strict=True) if state in wanted)


def _unseen(done: int, total: int) -> None:
    """No progress is shown."""


def _within(show: Show, begin: float, share: float, words: str) -> Callable[[int, int], None]:
    """The progress of the whole batch, from the progress of one image."""
    return lambda done, total: show(begin + share * done / max(total, 1), words)


def _reachable(record: Record, out: Path) -> dict[str, Any]:
    """A record for --json: its outputs as paths from here."""
    return asdict(record) | {"outputs": [str(out / name) for name in record.outputs]}


# --- results on the disk ---------------------------------------------------------------------------


def _refuse_results(out: Path, images: Callable[[], Iterator[Found]]) -> None:
    """See that no image has results in `out` already.

    Raises:
        UserError: names the first that is in the way.
    """
    there = NameSet(
        stem for folder in {(out / one.stem).parent for one in images()} for stem, _ in _results(out, folder)
    )
    taken = (one for one in images() if one.stem in there)
    first = next(taken, None)
    if first is not None:
        others = sum(1 for _ in taken)
        like = f", and {others} like it" if others else ""
        raise UserError(
            min(path for stem, path in _results(out, (out / first.stem).parent) if stem == first.stem),
            f"already exists, of other settings or another image{like}.",
            "Choose another --out or pass --overwrite.",
        )


def _results(out: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    """The files in a folder that may be results, each after the stem it would have."""
    for found in folder.iterdir() if folder.is_dir() else ():
        if match := _RESULT.fullmatch(found.name):
            yield (folder.relative_to(out) / match[1]).as_posix(), found


def _write(restored: "Restoration", record: Record, options: RestoreOptions, manifest: Manifest) -> Record:
    """Write the results and their record; the record, with the files' names."""
    out, earlier = options.out, manifest.restored.get(record.stem)
    out.mkdir(parents=True, exist_ok=True)
    hidden = Path(tempfile.mkdtemp(dir=out, prefix=PART))
    path = hidden / record.stem
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        written = restored.save(path.parent, stem=path.name, format=options.format, with_map=options.map)
        degraded = restored.shown(restored.degraded_levels)
        before = _write_small(degraded, path.with_name(f"{path.name}-before.png"), restored)
        seen = _write_for_page(restored, written)
        names = [part.relative_to(hidden).as_posix() for part in (*written, before, *seen)]
        n = len(written)
        notes = [*record.notes, *_left_behind(restored, written[0])]
        if options.overwrite:
            for name in names:
                (out / name).unlink(missing_ok=True)
        kept = [name for name in names if earlier is not None and manifest.is_intact(earlier, name)]
        files = {name: stamp((out if name in kept else hidden) / name) for name in names}
        record = replace(record, outputs=names[:n], before=names[n], page=names[n + 1 :], files=files, notes=notes)
        manifest.append(record)
        for name in names:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            if name in kept:
                continue
            if (out / name).exists():
                _set_aside(out / name)
            (hidden / name).replace(out / name)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
    return record


def _set_aside(path: Path) -> None:
    """Keep a result that was changed after it was written, under another name."""
    aside = path.with_name(f"{path.name}.changed")
    number = 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.changed-{number}")
    path.replace(aside)
    note(f"scorefield: {path}: changed since it was restored; kept as {aside.name}, and made again")


def _write_small(image: "Image.Image", path: Path, restored: "Restoration") -> Path:
    """The image, reduced to what a page shows, with the color of the results."""
    from scorefield.data.grids import save_image

    small = image.copy()
    small.thumbnail((_PAGE_SIDE, _PAGE_SIDE))
    save_image(small, path, metadata=restored.photo.metadata.color)
    return path


def _write_for_page(restored: "Restoration", written: list[Path]) -> list[Path]:
    """PNGs of the results, reduced to what a page shows, where browsers do not show the files themselves."""
    if written[0].suffix.lower() in _IN_BROWSERS:
        return []
    paths = [path.with_name(f"{path.stem}-page.png") for path in written[: len(restored.levels)]]
    for path, levels in zip(paths, restored.levels, strict=True):
        _write_small(restored.shown(levels), path, restored)
    return paths


def _left_behind(restored: "Restoration", result: Path) -> list[str]:
    """The properties of the image's file that its result lacks, apart from the losses of any JPEG."""
    channels = restored.levels[0].shape[2]
    lost = [words for words in restored.photo.lost(result, channels) if words != "each pixel exactly"]
    return [*restored.photo.notes, *(f"without {words}" for words in lost)]


def _write_run_page(out: Path, manifest: Manifest) -> Path:
    """The page of all images in the manifest whose files are there, and of those that have no results."""
    from scorefield.cli.page import LeftOut, ShownImage, write_page

    whole = (record for record in manifest.restored.in_order() if _is_whole(record, out))
    shown: list[ShownImage] = []
    for record in heapq.nsmallest(_ON_PAGE, whole, key=lambda record: record.stem):
        assert record.before is not None
        shown.append(
            ShownImage(
                title=record.stem,
                before=record.before,
                after=record.page or record.results,
                map=next((name for name in record.outputs if name.endswith("-map.png")), None),
                facts=_facts(record),
                files=record.results if record.page else (),
            )
        )
    n = len(manifest.restored)
    some = f": the first {_ON_PAGE} of {n}" if n > len(shown) == _ON_PAGE else ""
    left = [LeftOut(name=r.stem, why=r.error or "", skipped=r.skipped) for r in manifest.unrestored(_ON_PAGE)]
    return write_page(out, shown, left, title=f"Restored images{some}")


def _is_whole(record: Record, out: Path) -> bool:
    """Whether all that the page shows of an image is there."""
    shown = (record.before, *(record.page or record.results))
    return all(name is not None and (out / name).is_file() for name in shown)


def _facts(record: Record) -> dict[str, str]:
    facts = {
        "task": record.task,
        "input": record.input,
        "model": record.model,
        "method": f"{record.method}, {record.sampler}, {record.evaluations} evaluations",
        "seed": str(record.seed),
        "time": f"{record.seconds:.3g} s",
    }
    return facts if record.jpeg_quality is None else facts | {"JPEG quality": str(record.jpeg_quality)}
