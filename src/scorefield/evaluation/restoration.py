"""Methods of restoration side by side on the same degraded images: fidelity, naturalness, diversity.

Every image is restored by `scorefield.restoration.restore`, the call that the command line's verbs make, so a method
is measured as it is used. For each method the mean over images of

    PSNR, SSIM, MS-SSIM     fidelity in pixels and structure (`metrics.fidelity`)
    PD, LPIPS               distance of features to the original's (`metrics.perceptual`, `metrics.lpips`)
    agreement, accuracy     whether a classifier finds the class that it finds in the original, or the label

and of all images together FD and KD between the features of restorations and of originals, with the inception-type
score; on the standard Inception network these are FID, KID and IS. The first candidate of each image counts; several
candidates give their diversity. Every number has its 95 % interval over photographs, and so have the paired
differences between the first method and every other one (`metrics.confidence`).

The mean of all candidates wins in PSNR and loses in distance, a single candidate the other way round (Saharia et al.
2022, §5.4; Blau & Michaeli 2018): no single number ranks methods.

References:
    Saharia et al. (2022), §4. https://arxiv.org/abs/2111.05826
    Blau & Michaeli (2018). https://arxiv.org/abs/1711.06077
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from scorefield.errors import UserError
from scorefield.evaluation.cases import Case
from scorefield.evaluation.degraded import CropSet, DegradedSet, degrade
from scorefield.evaluation.restoration_methods import RestorationMethod, Unrestored, check_methods
from scorefield.evaluation.tables import ORIGINAL, CaseTable, MethodRow, RestorationReport, image_sheet
from scorefield.metrics.confidence import FEWEST_GROUPS, ConfidenceInterval, bootstrap, jackknife
from scorefield.metrics.distances import IS_SPLITS, frechet_distance, inception_score, kernel_distance
from scorefield.metrics.features import ClassifierFeatures, Extracted, Features, metric_names
from scorefield.metrics.fidelity import WINDOW, ms_ssim, ms_ssim_name, psnr, ssim
from scorefield.metrics.lpips import LPIPS
from scorefield.metrics.perceptual import accuracy, agreement, consecutive, feature_distance, first_with_rest
from scorefield.progress import ProgressCallback, ignore_progress, portion, portions

__all__ = ["MAX_PSNR", "FeatureSet", "compare_restorations", "measure_restorations"]

MAX_PSNR = 58.9
"""PSNR of equal images: that of values known to half a level, 10 log₁₀(12 · 255²) dB."""

_BATCH = 25  # images whose metrics are computed together
_SHEET_ROWS = 8
_METRICS_COST = 3.0  # of one image, in evaluations of a network, for the progress


@dataclass(frozen=True, kw_only=True)
class FeatureSet:
    """The features by which restorations are compared, in addition to their pixels.

    Args:
        features: named extractors.
        lpips: perceptual distances.
        real: features of the originals, by the extractors' names.
    """

    features: tuple[Features, ...]
    lpips: tuple[LPIPS, ...]
    real: Mapping[str, Extracted]

    @classmethod
    def of(cls, features: Sequence[Features], lpips: Sequence[LPIPS], originals: Tensor) -> "FeatureSet":
        """With the features of the originals."""
        real = {extractor.name: extractor(originals) for extractor in features}
        return cls(features=tuple(features), lpips=tuple(lpips), real=real)


def compare_restorations(
    methods: Sequence[RestorationMethod],
    cases: Sequence[Case],
    crops: CropSet,
    *,
    features: Sequence[Features] = (),
    lpips: Sequence[LPIPS] = (),
    candidates: int = 1,
    seed: int = 0,
    progress: ProgressCallback = ignore_progress,
) -> tuple[RestorationReport, dict[str, Image.Image]]:
    """Measure the degraded images, and all methods on every case that they serve.

    Args:
        methods: differences are taken to the first, which must serve every case.
        cases: tasks with their degradations.
        crops: clean held-out images.
        features: extractors.
        lpips: perceptual distances.
        candidates: for each image, for diversity.
        seed: of degradations and candidates.
        progress: called on the way.

    Returns:
        The report, and for each case a sheet of images.

    Raises:
        UserError: a method that serves no case, or a case that does not fit the images.
    """
    check_methods(methods, cases)
    judged = FeatureSet.of(features, lpips, crops.set.images)
    served: list[list[RestorationMethod]] = [
        [*(one for one in methods if one.serves(case.task)), Unrestored()] for case in cases
    ]
    work = [sum(_cost(one, case.task, candidates) for one in ones) for case, ones in zip(cases, served, strict=True)]
    tables: list[CaseTable] = []
    sheets: dict[str, Image.Image] = {}
    for case, ones, part in zip(cases, served, portions(progress, work), strict=True):
        images = degrade(crops, case, seed=seed)
        words = portion(part, 0, 1, case.text)
        words(0.0, "")
        table, first = measure_restorations(images, ones, judged, candidates=candidates, seed=seed, progress=words)
        tables.append(table)
        names = [one.name for one in ones[:-1]]
        sheets[case.slug] = image_sheet(
            images.shown, first[:-1], images.originals, names, rows=_one_per_photograph(crops)
        )
    report = RestorationReport(images=crops.words, candidates=candidates, seed=seed, tables=tuple(tables))
    return report, sheets


def measure_restorations(
    images: DegradedSet,
    methods: Sequence[RestorationMethod],
    judged: FeatureSet,
    *,
    candidates: int = 1,
    seed: int = 0,
    progress: ProgressCallback = ignore_progress,
) -> tuple[CaseTable, list[Tensor]]:
    """Every method on the same degraded images.

    Args:
        images: the degraded images.
        methods: differences are taken to the first.
        judged: features and distances.
        candidates: for each image, of methods that are random; the first counts, all give the diversity.
        seed: of the candidates.
        progress: called on the way.

    Returns:
        The table, and each method's first candidates, uint8 (N, C, H, W).

    Raises:
        UserError: candidates < 1.
    """
    if candidates < 1:
        raise UserError("candidates", f"need at least one, got {candidates}.")
    parts = portions(progress, [_cost(one, images.case.task, candidates) for one in methods])
    results = [
        _restored(images, method, judged, candidates if method.is_random(images.case.task) else 1, seed, part)
        for method, part in zip(methods, parts, strict=True)
    ]
    return _table(images, methods, results, judged), [one.first for one in results]


@dataclass(frozen=True, kw_only=True)
class _Results:
    """Of a method: first candidates, numbers of each image, features, and seconds for a candidate."""

    first: Tensor
    numbers: dict[str, Tensor]
    features: dict[str, Extracted]
    seconds: float


def _cost(method: RestorationMethod, task: str, candidates: int) -> float:
    return (method.cost(task) + _METRICS_COST) * (candidates if method.is_random(task) else 1)


def _restored(
    images: DegradedSet,
    method: RestorationMethod,
    judged: FeatureSet,
    count: int,
    seed: int,
    progress: ProgressCallback,
) -> _Results:
    """A batch at a time, so that only first candidates and numbers are kept."""
    first, numbers, seconds = list[Tensor](), list[dict[str, Tensor]](), 0.0
    extracted: dict[str, list[Extracted]] = {one.name: [] for one in judged.features}
    for start in range(0, len(images), _BATCH):
        rows = range(start, min(start + _BATCH, len(images)))
        begun = time.perf_counter()
        drawn = method.candidates(images, rows, count=count, seed=seed)
        seconds += time.perf_counter() - begun
        features = {one.name: [one(candidate) for candidate in drawn] for one in judged.features}
        numbers.append(_numbers(images, rows, drawn, features, judged))
        first.append(drawn[0])
        for name, several in features.items():
            extracted[name].append(several[0])
        progress(rows.stop / len(images), "")
    return _Results(
        first=torch.cat(first),
        numbers={name: torch.cat([part[name] for part in numbers]) for name in numbers[0]},
        features={name: Extracted.cat(parts) for name, parts in extracted.items()},
        seconds=seconds / (count * len(images)),
    )


def _numbers(
    images: DegradedSet,
    rows: range,
    drawn: list[Tensor],
    features: Mapping[str, list[Extracted]],
    judged: FeatureSet,
) -> dict[str, Tensor]:
    """The numbers of each image, by name."""
    part = slice(rows.start, rows.stop)
    first, originals = drawn[0], images.originals[part]
    size = tuple(originals.shape[-2:])
    numbers = {"PSNR": psnr(first, originals).clamp_max(MAX_PSNR)}
    if min(size) >= WINDOW:
        numbers |= {"SSIM": ssim(first, originals), ms_ssim_name(size): ms_ssim(first, originals)}
    for distance in judged.lpips:
        numbers[distance.name] = distance(first, originals)
    labels = images.crops.set.labels
    for one in judged.features:
        ours, real = features[one.name][0], judged.real[one.name]
        numbers[f"PD[{one.name}]"] = feature_distance(ours.features, real.features[part])
        if ours.probabilities is not None and real.probabilities is not None:
            if labels is not None and isinstance(one, ClassifierFeatures):
                numbers[f"accuracy[{one.name}]"] = accuracy(ours.probabilities, labels[part])
            else:
                numbers[f"agreement[{one.name}]"] = agreement(ours.probabilities, real.probabilities[part])
    if len(drawn) > 1:
        if min(size) >= WINDOW:
            numbers[f"diversity {ms_ssim_name(size)}"] = first_with_rest(drawn, ms_ssim)
        for distance in judged.lpips:
            numbers[f"diversity {distance.name}"] = consecutive(drawn, distance)
        for one in judged.features:
            several = [extracted.features for extracted in features[one.name]]
            numbers[f"diversity PD[{one.name}]"] = consecutive(several, feature_distance)
    return numbers


def _table(
    images: DegradedSet, methods: Sequence[RestorationMethod], results: Sequence[_Results], judged: FeatureSet
) -> CaseTable:
    groups, task = images.crops.groups, images.case.task
    distances, distance_differences = _distances(results, judged, groups)
    first = results[0].numbers
    rows: list[MethodRow] = []
    for index, (method, one) in enumerate(zip(methods, results, strict=True)):
        numbers = {name: bootstrap(values, groups) for name, values in one.numbers.items()}
        differences = {n: bootstrap(first[n] - v, groups) for n, v in one.numbers.items() if n in first}
        rows.append(
            MethodRow(
                name=method.name,
                words=method.describe(task),
                evaluations=method.evaluations(task),
                seconds=one.seconds,
                numbers=numbers | distances[index] | _scores(one.features),
                above=differences | distance_differences[index] if index else {},
            )
        )
    clean = MethodRow(name=ORIGINAL, words="", evaluations=0, seconds=0.0, numbers=_scores(judged.real), above={})
    return CaseTable(case=images.case.text, rows=(*rows, clean))


_Intervals = dict[str, ConfidenceInterval]


def _distances(
    results: Sequence[_Results], judged: FeatureSet, groups: Tensor
) -> tuple[list[_Intervals], list[_Intervals]]:
    """Of each method the distances to the originals, and the paired differences to the first method.

    Few photographs give a distance without an interval, and no difference.
    """
    own: list[_Intervals] = [{} for _ in results]
    differences: list[_Intervals] = [{} for _ in results]
    for name, real in judged.real.items():
        frechet, kernel, _ = metric_names(name)
        ours = [one.features[name].features for one in results]
        for title, distance in ((frechet, frechet_distance), (kernel, _paired_kernel_distance)):
            compared = _compared(distance, ours, real.features)
            if len(groups.unique()) < FEWEST_GROUPS:
                for index, value in enumerate(compared(torch.arange(len(groups)))[: len(results)].tolist()):
                    own[index][title] = ConfidenceInterval(value=value, low=value, high=value)
                continue
            positive = len(results) if title == frechet else 0
            intervals = jackknife(compared, groups, positive=positive)
            for index in range(len(results)):
                own[index][title] = intervals[index]
                differences[index][title] = intervals[len(results) + index]
    return own, differences


def _compared(
    distance: Callable[[Tensor, Tensor], float], ours: Sequence[Tensor], real: Tensor
) -> Callable[[Tensor], Tensor]:
    """Of some rows: each method's distance, and the first's minus each, (2 S,)."""

    def compared(rows: Tensor) -> Tensor:
        found = torch.tensor([distance(x[rows], real[rows]) for x in ours], dtype=torch.float64)
        return torch.cat([found, found[0] - found])

    return compared


def _paired_kernel_distance(a: Tensor, b: Tensor) -> float:
    """Of restorations to their own originals: over pairs of different images."""
    return kernel_distance(a, b, paired=True)[0]


def _scores(features: Mapping[str, Extracted]) -> _Intervals:
    """The inception-type score on all features with classes, without an interval."""
    scores: _Intervals = {}
    for name, found in features.items():
        if found.probabilities is not None:
            p = found.probabilities
            value, _ = inception_score(p, splits=min(IS_SPLITS, max(1, len(p) // 100)))
            scores[metric_names(name)[2]] = ConfidenceInterval(value=value, low=value, high=value)
    return scores


def _one_per_photograph(crops: CropSet) -> list[int]:
    """Rows of a few crops, each of another photograph."""
    first: dict[int, int] = {}
    for row, group in enumerate(crops.groups.tolist()):
        first.setdefault(group, row)
    rows = list(first.values())
    return rows[:: max(1, len(rows) // _SHEET_ROWS)][:_SHEET_ROWS]
