"""Many images: what is done is skipped, what fails is named, and the rest is restored.

Results are written into a hidden folder first. Then the manifest's line is written, and then the files take their
places. Whatever the moment of a kill, the same command restores what is not whole.
"""

import json
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from scorefield.cli.console import Show, note, printable, progress, require_free, tell, write_json
from scorefield.cli.inputs import Found, find_images
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
_NUMBERED = re.compile(r"-\d+\.[A-Za-z]+$")
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
    tasks = tasks_of(task_of(found[0])) if kind.name == "restore" else (kind.name,)
    path = None if is_pipeline(options.model) else find(options.model, task=tasks[0] if len(tasks) == 1 else None)
    model = sf.load(path or options.model, device=options.device)
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
        code = batch.run(found)
    if options.json is not None:
        write_json(options.json, [_reachable(batch.results[one.stem], options.out) for one in found])
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
    shared = ("candidates", "average", "steps", "schedule", "tile", "format", "map")
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
        results: by stem, what became of each image, where --json is to tell.
        waiting: records of images that failed before the first was restored; until then there is no folder.
    """

    options: RestoreOptions
    manifest: Manifest
    model: "ScoreModel"
    chosen: "MethodPlan"
    job: Callable[[Found], _Job]
    tally: Counter[str] = field(default_factory=Counter)
    results: dict[str, Record] = field(default_factory=dict)
    waiting: list[Record] = field(default_factory=list)

    def run(self, found: list[Found]) -> int:
        """Restore what is left to do; the exit code."""
        todo, bad = self._left(found)
        codes = {self._fail(job, job.record.error) for job in bad}
        total, done = sum(size for _, size in todo) or 1, 0
        try:
            with progress(f"Restoring {len(todo)} of {len(found)}") as show:
                for k, (one, size) in enumerate(todo):
                    words = f"{one.path.name} ({k + 1}/{len(todo)})"
                    job = self.job(one)
                    within = _within(show, done / total, size / total, words)
                    codes.add(self._fail(job, job.record.error) if job.task is None else self._one(job, within))
                    done += size
                    show(done / total, words)
        finally:
            if self.tally["restored"]:
                tell(f"see {_write_run_page(self.options.out, self.manifest)}")
        return self._code(codes - {0}, len(found))

    def _code(self, failed: set[int], n: int) -> int:
        if skipped := self.tally["skipped"]:
            tell(f"{skipped} of {n} had nothing to restore: skipped")
        if failed:
            return SOME_FAILED if self.tally["restored"] else min(failed)
        return 0 if self.tally["restored"] else 2

    def _left(self, found: list[Found]) -> tuple[list[tuple[Found, int]], list[_Job]]:
        """The images that are not done, with their bytes, and those that cannot be.

        Raises:
            UserError: a result of another request is in the way of one.
        """
        todo: list[tuple[Found, int]] = []
        new: list[Found] = []
        bad: list[_Job] = []
        for one in found:
            job = self.job(one)
            if job.task is None:
                bad.append(job)
            elif left := self.manifest.left(job.record):
                todo.append((one, job.record.bytes))
                new += [one] if left == ["all"] else []
            else:
                self._note(self.manifest.restored[one.stem])
        if ready := len(found) - len(todo) - len(bad):
            tell(f"{ready} of {len(found)} are restored already, in this same way: skipped")
        if not self.options.overwrite:
            _refuse_results(self.options.out, new)
        return todo, bad

    def _note(self, record: Record) -> None:
        self.tally["skipped" if record.skipped else "restored" if record.error is None else "failed"] += 1
        if self.options.json is not None:
            self.results[record.stem] = record

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
        if (self.options.out / MANIFEST).exists():
            self.manifest.append(record)
        else:
            self.waiting.append(record)
        return 0 if skipped else 1 if ours else 2

    def _keep(self, job: _Job, restored: "Restoration", record: Record) -> None:
        """Write the results and their record."""
        record = _write(restored, record, self.options, self.manifest, self.waiting)
        self.waiting.clear()
        self._note(record)
        notes = f" ({'; '.join(record.notes)})" if record.notes else ""
        tell(f"{printable(str(job.found.path))} -> {self.options.out / record.outputs[0]}{notes}")


def _within(show: Show, begin: float, share: float, words: str) -> Callable[[int, int], None]:
    """The progress of the whole batch, from the progress of one image."""
    return lambda done, total: show(begin + share * done / max(total, 1), words)


def _reachable(record: Record, out: Path) -> dict[str, Any]:
    """A record for --json: its outputs as paths from here."""
    return asdict(record) | {"outputs": [str(out / name) for name in record.outputs]}


# --- results on the disk ---------------------------------------------------------------------------


def _refuse_results(out: Path, images: list[Found]) -> None:
    """See that no image has results in `out` already.

    Raises:
        UserError: names the first that is in the way.
    """
    stems = {one.stem for one in images}
    taken: dict[str, Path] = {}
    for folder in {(out / stem).parent for stem in stems}:
        for found in folder.iterdir() if folder.is_dir() else ():
            match = _RESULT.fullmatch(found.name)
            stem = "" if match is None else (folder.relative_to(out) / match[1]).as_posix()
            if stem in stems:
                taken[stem] = min(found, taken.get(stem, found))
    if taken:
        others = f", and {len(taken) - 1} like it" if len(taken) > 1 else ""
        raise UserError(
            next(taken[one.stem] for one in images if one.stem in taken),
            f"already exists, of other settings or another image{others}.",
            "Choose another --out or pass --overwrite.",
        )


def _write(
    restored: "Restoration", record: Record, options: RestoreOptions, manifest: Manifest, waiting: list[Record]
) -> Record:
    """Write the results and, after the records that are waiting, theirs; the record, with the files' names."""
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
        manifest.append(*waiting, record)
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

    shown: list[ShownImage] = []
    for stem in sorted(manifest.restored):
        if len(shown) == _ON_PAGE:
            break
        record = manifest.restored[stem]
        results = [name for name in record.outputs if _NUMBERED.search(name)]
        seen = record.page or results
        if record.before is None or not all((out / name).is_file() for name in (record.before, *seen)):
            continue
        shown.append(
            ShownImage(
                title=record.stem,
                before=record.before,
                after=seen,
                map=next((name for name in record.outputs if name.endswith("-map.png")), None),
                facts=_facts(record),
                files=results if record.page else (),
            )
        )
    n = len(manifest.restored)
    some = f": the first {_ON_PAGE} of {n}" if n > len(shown) == _ON_PAGE else ""
    left = [LeftOut(name=r.stem, why=r.error or "", skipped=r.skipped) for r in manifest.unrestored[:_ON_PAGE]]
    return write_page(out, shown, left, title=f"Restored images{some}")


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
