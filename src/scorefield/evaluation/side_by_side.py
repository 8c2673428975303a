"""Models that restore, others and classical tools on several cases in one call; `restored` tells the numbers."""

from collections.abc import Callable, Sequence
from functools import partial

from PIL import Image

from scorefield.errors import UserError, did_you_mean
from scorefield.evaluation.cases import Case
from scorefield.evaluation.classical import CLASSICAL, Degraded
from scorefield.evaluation.restored import Judges, measure, part
from scorefield.evaluation.systems import Input, Restoring, System, classical
from scorefield.evaluation.tables import Restored, Table, image_sheet
from scorefield.evaluation.trial import Trial, Windows, make_trial
from scorefield.metrics.features import Features
from scorefield.metrics.lpips import LPIPS

Track = Callable[[str, float], None]

_ROWS = 8  # of a sheet
_SETTING = 60.0  # what setting a tool costs, in answers of a network of one evaluation


def compare_restoring(
    systems: Sequence[Restoring],
    cases: Sequence[Case],
    windows: Windows,
    *,
    training: Callable[[], Windows],
    tools: Sequence[str] | None = None,
    features: Sequence[Features] = (),
    lpips: Sequence[LPIPS] = (),
    candidates: int = 1,
    seed: int = 0,
    track: Track = lambda words, share: None,
) -> tuple[Restored, dict[str, Image.Image]]:
    """Measure all systems on every case.

    Args:
        systems: differences are taken against the first, which must serve every case; of the others each is
            measured where it serves.
        cases: tasks with their degradation.
        windows: clean images that none has learned from.
        training: images that classical tools are set by, opened if there are such.
        tools: names in `classical.CLASSICAL`; by default all that serve a case. `input` is always there.
        features: that answers are judged by.
        lpips: distances that answers are judged by.
        candidates: answers to each image, for diversity.
        seed: of degradation and answers.
        track: told how far it is.

    Returns:
        The report, and for each case a sheet of images.

    Raises:
        UserError: a system or tool that serves no case, or whatever keeps one from being measured.
    """
    check_systems(systems, cases, tools)
    planned = [(case, *_serving(systems, case, tools)) for case in cases]
    costs = [_work(len(windows), others, named, candidates) for _, others, named in planned]
    learns = any(CLASSICAL[name].learns for _, _, named in planned for name in named)
    opened = training() if learns else None
    judges = Judges.of(features, lpips, windows.set.images)
    tables: list[Table] = []
    sheets: dict[str, Image.Image] = {}
    for index, (case, others, named) in enumerate(planned):
        told = part(partial(track, case.text), costs, index)
        told(0.0)
        trial = make_trial(case, windows, seed=seed)
        train = make_trial(case, opened, seed=seed + 1).degraded() if opened is not None else None
        set_up = [classical(name, _given(name, train, trial)) for name in named]
        measured: list[System] = [*others, *set_up, Input()]
        table, answers = measure(trial, measured, judges, candidates=candidates, seed=seed, track=told)
        tables.append(table)
        names = [one.name for one in measured[:-1]]
        sheets[case.slug] = image_sheet(trial.seen, answers[:-1], trial.originals, names, rows=_apart(windows))
    report = Restored(
        images=windows.words,
        training="" if opened is None else opened.words,
        candidates=candidates,
        seed=seed,
        tables=tuple(tables),
    )
    return report, sheets


def check_systems(systems: Sequence[Restoring], cases: Sequence[Case], tools: Sequence[str] | None) -> None:
    """See before any work that each system serves a case, and the first all of them.

    Raises:
        UserError: one does not, two have one name, or there is no such tool.
    """
    first, *others = systems
    for case in cases:
        if not first.serves(case.task):
            known = ", ".join(first.model.spec.tasks)
            raise UserError(first.name, f"was not trained to {case.task}.", f"It knows: {known}.")
    tasks = {case.task for case in cases}
    for system in others:
        if not any(system.serves(task) for task in tasks):
            known = ", ".join(system.model.spec.tasks)
            raise UserError(system.name, f"was trained for none of {', '.join(sorted(tasks))}.", f"It knows: {known}.")
    for name in tools or ():
        if name not in CLASSICAL:
            raise UserError("--against", f"no such tool {name!r}.", did_you_mean(name, CLASSICAL))
        if not tasks & set(CLASSICAL[name].tasks):
            serves = ", ".join(CLASSICAL[name].tasks)
            raise UserError(name, f"serves {serves}, which is not measured.", "Leave it out.")
    names = [system.name for system in systems]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(twice, "is named twice.", "Name each system once.")


def _serving(
    systems: Sequence[Restoring], case: Case, tools: Sequence[str] | None
) -> tuple[list[Restoring], list[str]]:
    """The systems and the tools of a case."""
    wanted = CLASSICAL if tools is None else tools
    named = [name for name in wanted if case.task in CLASSICAL[name].tasks]
    return [system for system in systems if system.serves(case.task)], named


def _work(n: int, systems: Sequence[Restoring], named: Sequence[str], candidates: int) -> float:
    """What a case costs, for the clock."""
    drawn = sum((one.cost + 3) * (candidates if one.random else 1) for one in systems)
    return n * (drawn + 5 * len(named) + 3) + _SETTING * len(named)


def _given(name: str, train: Degraded | None, trial: Trial) -> Degraded:
    """Training images for a tool that learns; any others else, which it does not look at."""
    if CLASSICAL[name].learns and train is not None:
        return train
    return trial.degraded(slice(0, 1))


def _apart(windows: Windows) -> list[int]:
    """A few windows, of as many photographs as there are."""
    first: dict[int, int] = {}
    for row, group in enumerate(windows.groups.tolist()):
        first.setdefault(group, row)
    rows = list(first.values())
    return rows[:: max(1, len(rows) // _ROWS)][:_ROWS]
