"""Ways to restore side by side, on the same degraded images: how near, how natural, how manifold.

For each system the mean over images of

    PSNR, SSIM, MS-SSIM     nearness in pixels and structure (`fidelity`)
    PD, LPIPS               distance of features to the original's (`perceptual`, `lpips`)
    agreement, accuracy     whether a classifier sees what it sees in the original, or the label

and of all together FD and KD between the features of answers and of originals, with the inception-type
score; on the standard Inception network they are FID, KID and IS. A system that draws answers is asked for
one of them, and for several to tell their diversity. Every number has its 95 % interval over photographs, and
so has what the first system has above every other on the same images (`intervals`).

A mean answer wins in PSNR and loses in distance, a drawn one the other way round (Saharia et al. 2022, §5.4;
Blau & Michaeli 2018): no one number ranks them.

References:
    Saharia et al. (2022), §4. https://arxiv.org/abs/2111.05826
    Blau & Michaeli (2018). https://arxiv.org/abs/1711.06077
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefield.errors import UserError
from scorefield.evaluation.systems import System
from scorefield.evaluation.tables import ORIGINAL, Row, Table
from scorefield.evaluation.trial import Trial, seed_of
from scorefield.metrics.confidence import ConfidenceInterval, bootstrap, jackknife
from scorefield.metrics.distances import IS_SPLITS, frechet_distance, inception_score, kernel_distance
from scorefield.metrics.features import ClassifierFeatures, Extracted, Features, metric_names
from scorefield.metrics.fidelity import WINDOW, ms_ssim, ms_ssim_name, psnr, ssim
from scorefield.metrics.lpips import LPIPS
from scorefield.metrics.perceptual import accuracy, agreement, consecutive, feature_distance, first_with_rest

MOST_PSNR = 58.9
"""What equal images count as: that of images known to half a level, 10 log₁₀(12 · 255²) dB."""

_MEASURING = 3.0  # what the measures of an answer cost, in evaluations, for the clock
Told = Callable[[float], None]


def part(track: Told, costs: Sequence[float], index: int) -> Told:
    """Tells the whole's share, told a part's, where the parts cost so much."""
    before, own, total = sum(costs[:index]), costs[index], sum(costs)
    return lambda share: track((before + own * share) / total)


@dataclass(frozen=True, kw_only=True)
class Judges:
    """What answers are judged by beside their pixels.

    Args:
        features: named networks.
        lpips: perceptual distances.
        real: of the originals, by the features' names.
    """

    features: tuple[Features, ...]
    lpips: tuple[LPIPS, ...]
    real: Mapping[str, Extracted]

    @classmethod
    def of(cls, features: Sequence[Features], lpips: Sequence[LPIPS], originals: Tensor) -> "Judges":
        """Judges that have seen the originals."""
        real = {judge.name: judge(originals) for judge in features}
        return cls(features=tuple(features), lpips=tuple(lpips), real=real)


def measure(
    trial: Trial,
    systems: Sequence[System],
    judges: Judges,
    *,
    candidates: int = 1,
    seed: int = 0,
    track: Told = lambda share: None,
) -> tuple[Table, list[Tensor]]:
    """Every system on the same degraded images.

    Args:
        trial: the images and what is left of them.
        systems: differences are taken against the first.
        judges: that have seen the originals.
        candidates: answers to each image of systems that draw them; the first counts, all tell diversity.
        seed: of the answers.
        track: told the share that is done.

    Returns:
        The table, and each system's answers, uint8 (N, C, H, W).

    Raises:
        UserError: candidates < 1, or images smaller than a measure takes.
    """
    if candidates < 1:
        raise UserError("candidates", f"need at least one, got {candidates}.")
    costs = [_cost(system, candidates) for system in systems]
    seen = [
        _see(trial, system, judges, candidates, seed, part(track, costs, index)) for index, system in enumerate(systems)
    ]
    return _table(trial, systems, seen, judges), [one.answers for one in seen]


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """Of a system: answers, numbers of each image, features, and seconds for an answer."""

    answers: Tensor
    each: dict[str, Tensor]
    features: dict[str, Extracted]
    seconds: float


def _cost(system: System, candidates: int) -> float:
    return (system.cost + _MEASURING) * (candidates if system.random else 1)


def _see(trial: Trial, system: System, judges: Judges, candidates: int, seed: int, track: Told) -> _Seen:
    """A batch at a time, so that only first answers and numbers are kept."""
    count = candidates if system.random else 1
    size = min(system.at_once(trial), len(trial))
    answers, each, seconds = list[Tensor](), list[dict[str, Tensor]](), 0.0
    found: dict[str, list[Extracted]] = {judge.name: [] for judge in judges.features}
    for start in range(0, len(trial), size):
        rows = slice(start, min(start + size, len(trial)))
        begun, drawn = time.perf_counter(), list[Tensor]()
        for k in range(count):
            drawn.append(system.mend(trial, rows, seed=seed_of(seed, start, k)))
            track((start + (k + 1) / count * (rows.stop - start) * 0.9) / len(trial))
        seconds += time.perf_counter() - begun
        features = {judge.name: [judge(one) for one in drawn] for judge in judges.features}
        each.append(_numbers(trial, rows, drawn, features, judges))
        answers.append(drawn[0])
        for name, several in features.items():
            found[name].append(several[0])
        track(rows.stop / len(trial))
    return _Seen(
        answers=torch.cat(answers),
        each={name: torch.cat([part[name] for part in each]) for name in each[0]},
        features={name: _joined(parts) for name, parts in found.items()},
        seconds=seconds / (count * len(trial)),
    )


def _numbers(
    trial: Trial, rows: slice, drawn: list[Tensor], features: Mapping[str, list[Extracted]], judges: Judges
) -> dict[str, Tensor]:
    """Of each image, by name."""
    first, originals = drawn[0], trial.originals[rows]
    size = tuple(originals.shape[-2:])
    numbers = {"PSNR": psnr(first, originals).clamp_max(MOST_PSNR)}
    similar = ms_ssim_name(size)
    if min(size) >= WINDOW:
        numbers |= {"SSIM": ssim(first, originals), similar: ms_ssim(first, originals)}
    for distance in judges.lpips:
        numbers[distance.name] = distance(first, originals)
    for judge in judges.features:
        ours, real = features[judge.name], judges.real[judge.name]
        numbers[f"PD[{judge.name}]"] = feature_distance(ours[0].features, real.features[rows])
        p, q = ours[0].probabilities, real.probabilities
        if p is not None and q is not None:
            labels = trial.windows.set.labels
            if labels is not None and isinstance(judge, ClassifierFeatures):
                numbers[f"accuracy[{judge.name}]"] = accuracy(p, labels[rows])
            else:
                numbers[f"agreement[{judge.name}]"] = agreement(p, q[rows])
    if len(drawn) > 1:
        if min(size) >= WINDOW:
            numbers[f"diversity {similar}"] = first_with_rest(drawn, ms_ssim)
        for distance in judges.lpips:
            numbers[f"diversity {distance.name}"] = consecutive(drawn, distance)
        for judge in judges.features:
            several = [one.features for one in features[judge.name]]
            numbers[f"diversity PD[{judge.name}]"] = consecutive(several, feature_distance)
    return numbers


def _table(trial: Trial, systems: Sequence[System], seen: Sequence[_Seen], judges: Judges) -> Table:
    groups = trial.windows.groups
    distances, above_distances = _distances(seen, judges, groups)
    rows: list[Row] = []
    for index, (system, one) in enumerate(zip(systems, seen, strict=True)):
        numbers = {name: bootstrap(values, groups) for name, values in one.each.items()}
        numbers |= distances[index] | _scores(one.features)
        first = seen[0].each
        above = {n: bootstrap(first[n] - v, groups) for n, v in one.each.items() if n in first}
        rows.append(
            Row(
                name=system.name,
                words=system.words,
                evaluations=system.evaluations,
                seconds=one.seconds,
                numbers=numbers,
                above=above | above_distances[index] if index else {},
            )
        )
    clean = Row(name=ORIGINAL, words="", evaluations=0, seconds=0.0, numbers=_scores(judges.real), above={})
    return Table(case=trial.case.text, rows=(*rows, clean))


def _distances(
    seen: Sequence[_Seen], judges: Judges, groups: Tensor
) -> tuple[list[dict[str, ConfidenceInterval]], list[dict[str, ConfidenceInterval]]]:
    """Of each system the distances to the originals, and what the first has above it."""
    own: list[dict[str, ConfidenceInterval]] = [{} for _ in seen]
    above: list[dict[str, ConfidenceInterval]] = [{} for _ in seen]
    for name, real in judges.real.items():
        frechet, kernel, _ = metric_names(name)
        ours = [one.features[name].features for one in seen]
        for title, distance in ((frechet, frechet_distance), (kernel, _kernel)):
            intervals = jackknife(_compared(distance, ours, real.features), groups)
            for index in range(len(seen)):
                own[index][title] = intervals[index]
                above[index][title] = intervals[len(seen) + index]
    return own, above


def _compared(
    distance: Callable[[Tensor, Tensor], float], ours: Sequence[Tensor], real: Tensor
) -> Callable[[Tensor], Tensor]:
    """Of some rows: each system's distance, and the first's less each, (2 S,)."""

    def compared(rows: Tensor) -> Tensor:
        found = torch.tensor([distance(x[rows], real[rows]) for x in ours], dtype=torch.float64)
        return torch.cat([found, found[0] - found])

    return compared


def _kernel(a: Tensor, b: Tensor) -> float:
    """Of answers to the originals themselves: over pairs of different images."""
    return kernel_distance(a, b, paired=True)[0]


def _scores(features: Mapping[str, Extracted]) -> dict[str, ConfidenceInterval]:
    """The inception-type score on every features that have classes."""
    scores: dict[str, ConfidenceInterval] = {}
    for name, found in features.items():
        if found.probabilities is not None:
            p = found.probabilities
            value, _ = inception_score(p, splits=min(IS_SPLITS, max(1, len(p) // 100)))
            scores[metric_names(name)[2]] = ConfidenceInterval(value=value, low=value, high=value)
    return scores


def _joined(parts: Sequence[Extracted]) -> Extracted:
    classes = [part.probabilities for part in parts if part.probabilities is not None]
    return Extracted(
        features=torch.cat([part.features for part in parts]),
        probabilities=torch.cat(classes) if classes else None,
    )
