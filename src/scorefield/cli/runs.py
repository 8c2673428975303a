"""The way through many images: what is done is skipped, what fails is named, and the rest is restored."""

import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from scorefield.cli.answers import keep, refuse_answers, sweep, write_run_page
from scorefield.cli.console import Show, note, progress, require_free, tell, write_json
from scorefield.cli.inputs import find_images
from scorefield.cli.manifest import MANIFEST, Entry, Manifest
from scorefield.cli.planned import Planned, Work, check_request, draft, planned
from scorefield.cli.restore_options import Restoring
from scorefield.errors import UserError
from scorefield.files import disk_is_full

if TYPE_CHECKING:
    from scorefield.restoration import Restored


def mend(request: Restoring, work: Work) -> None:
    """Restore every image; one that fails is named, and the others go on.

    Raises:
        UserError: before any work: a model that cannot be loaded or did not learn the task, settings that
            cannot be, a folder without images, or answers that exist.
    """
    import scorefield as sf
    from scorefield.restoration import TASKS, approach

    require_free(request.json, overwrite=request.overwrite)
    check_request(request)
    found = find_images(request.inputs, request.out)
    model = sf.load(request.model, device=request.device)
    task = work.task if work.task in TASKS else None
    chosen = approach(model, request.method, request.sampler, request.steps, schedule=request.schedule, task=task)
    if work.check is not None:
        work.check(model)
    restore = partial(sf.restore, model, task=task, **_shared(request))
    run = Run(request=request, manifest=Manifest(out=request.out), restore=restore)
    sweep(request.out)
    first = draft(request, work, chosen)
    plans = [planned(one, first, work, run.manifest) for one in found]
    failed = run.through(plans)
    entries = [run.results[plan.found.stem] for plan in plans]
    write_json(request.json, [_told(entry, request.out) for entry in entries])
    if failed:
        raise typer.Exit(failed)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One command on its way.

    Args:
        request: what was asked for.
        manifest: of the folder for the answers.
        restore: `restoration.restore` with all settled but the image and what belongs to it.
        results: by stem, what became of each image.
        waiting: lines about images that failed before the first was restored; until then there is no folder.
    """

    request: Restoring
    manifest: Manifest
    restore: Callable[..., "Restored"]
    results: dict[str, Entry] = field(default_factory=dict)
    waiting: list[Entry] = field(default_factory=list)

    def through(self, plans: list[Planned]) -> int:
        """Restore what is left to do; the exit code."""
        todo = self._left(plans)
        codes = [self._fail(plan, plan.entry.error) for plan in plans if plan.entry.error is not None]
        total = sum(plan.share for plan in todo) or 1.0
        done = 0.0
        with self._page(), progress(f"Restoring {len(todo)} of {len(plans)}") as show:
            for k, plan in enumerate(todo):
                words = f"{plan.found.path.name} ({k + 1}/{len(todo)})"
                codes.append(self._one(plan, _within(show, done / total, plan.share / total, words)))
                done += plan.share
                show(done / total, words)
        codes = [code for code in codes if code]
        return min(codes, default=0)

    def _left(self, plans: list[Planned]) -> list[Planned]:
        """Those that can be restored and are not, once it is seen that no answer is in their way."""
        good = [plan for plan in plans if plan.entry.error is None]
        left = {plan.found.stem: self.manifest.left(plan.entry) for plan in good}
        todo = [plan for plan in good if left[plan.found.stem]]
        for plan in good:
            if not left[plan.found.stem]:
                self.results[plan.found.stem] = self.manifest.restored[plan.found.stem]
        if len(todo) < len(good):
            tell(f"{len(good) - len(todo)} of {len(plans)} are restored already, in this same way: skipped")
        if not self.request.overwrite:
            refuse_answers(self.request.out, [plan.found for plan in todo if left[plan.found.stem] == ["all"]])
        return todo

    def _one(self, plan: Planned, show: Callable[[int, int], None]) -> int:
        """Restore one image, whatever comes; 0, or an exit code."""
        begun, evaluations = time.perf_counter(), 0

        def track(done: int, total: int) -> None:
            nonlocal evaluations
            evaluations = max(evaluations, done)
            show(done, total)

        try:
            restored = self.restore(plan.found.path, **plan.settings, track=track)
            spent = round(time.perf_counter() - begun, 2)
            self._keep(plan, restored, replace(plan.entry, seconds=spent, evaluations=evaluations))
        except Exception as error:  # the images behind this one are not to suffer from it
            ours = not isinstance(error, UserError)
            if disk_is_full(error) or (ours and "--debug" in sys.argv):
                raise
            spent = round(time.perf_counter() - begun, 2)
            return self._fail(replace(plan, entry=replace(plan.entry, seconds=spent)), error, ours=ours)
        return 0

    def _fail(self, plan: Planned, error: object, *, ours: bool = False) -> int:
        """Name an image that cannot be restored; the exit code."""
        line = " ".join(str(error).split()) or type(error).__name__
        path = str(plan.found.path)
        line = line if path in line else f"{path}: {line}"
        line += " (scorefield --debug VERB … shows where)" if ours else ""
        note(f"scorefield: {line}")
        entry = replace(plan.entry, error=line)
        self.results[plan.found.stem] = entry
        if (self.request.out / MANIFEST).exists():
            self.manifest.append(entry)
        else:
            self.waiting.append(entry)
        return 1 if ours else 2

    def _keep(self, plan: Planned, restored: "Restored", entry: Entry) -> None:
        """Write the answers and their line."""
        entry = keep(restored, entry, self.request, self.manifest, self.waiting)
        self.waiting.clear()
        self.results[entry.stem] = entry
        notes = f" ({'; '.join(entry.notes)})" if entry.notes else ""
        tell(f"{plan.found.path} -> {self.request.out / entry.outputs[0]}{notes}")

    @contextmanager
    def _page(self) -> Generator[None]:
        """When all is done or something stops it, the page of all that the folder holds."""
        try:
            yield
        finally:
            if any(entry.error is None for entry in self.results.values()):
                tell(f"see {write_run_page(self.request.out, self.manifest)}")


def _within(show: Show, begin: float, share: float, words: str) -> Callable[[int, int], None]:
    """How far the whole run is, from how far one image is."""
    return lambda done, total: show(begin + share * done / max(total, 1), words)


def _shared(request: Restoring) -> dict[str, Any]:
    """What `restoration.restore` is told of every image alike."""
    return {
        "method": request.method,
        "candidates": request.candidates,
        "average": request.average,
        "sampler": request.sampler,
        "steps": request.steps,
        "schedule": request.schedule,
        "seed": request.seed,
        "tile": request.tile,
    }


def _told(entry: Entry, out: Path) -> dict[str, Any]:
    """An entry for --json: its outputs as they are reached from here."""
    return asdict(entry) | {"outputs": [str(out / name) for name in entry.outputs]}
