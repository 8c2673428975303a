"""Training-free restoration: every method on every degradation, with one model, on held-out images.

Each method of the common budget has the sampler that it was published with, or the nearest here, and the same number of
network evaluations, except Langevin dynamics, which fails with so few and gets five times as many. Those of PUBLISHED
have the settings of their papers. Passes forwards and backwards are counted, for a candidate. Each candidate has a seed
of its own, 0, 1, ….

    psnr            10 log₁₀ 1/MSE, values from 0 to 1, in dB, mean over images and candidates
    psnr_unknown    the same over what the degradation does not show, x − A⁺A x; of a mask, its pixels
    misfit          ‖A(x̂) − A(x)‖ as root mean square, values from 0 to 1
    distance        Fréchet distance on named features between one candidate of each image and the originals, geometric
                    mean over candidates; equal n alone can be compared
    diversity       root mean square between two candidates of one image, and the distance of their features
    seconds         of a processor, for a candidate

Intervals are at 95 %: of PSNR by a bootstrap over images; of the distance by Student's t over the candidates'
logarithms, which holds for these images and other seeds, and cannot reach below 0.

The row `A⁺y` is the degraded image. Results are saved after every row, and an interrupted run resumes.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scorefield import schedules
from scorefield.data.datasets import held_out, open_images
from scorefield.data.grids import grid, save_image
from scorefield.data.image import to_float, to_uint8
from scorefield.degradations import Degradation, Mask, Observation, parse_degradation
from scorefield.evaluation.reference import choose_features
from scorefield.files import write_atomic
from scorefield.hub import load
from scorefield.metrics.confidence import bootstrap, student_quantile
from scorefield.metrics.distances import frechet_distance
from scorefield.metrics.features import Features
from scorefield.model import ScoreModel
from scorefield.restoration import DPS, MomentMatching, NullSpace, Projection, Restorer, resolve_method
from scorefield.restoration import METHODS as NAMED
from scorefield.samplers import Ancestral, Plan, plan
from scorefield.samplers import run as run_sampler

DEGRADATIONS: dict[str, tuple[str, ...]] = {
    "center": ("mask:center",),
    "half": ("mask:bottom",),
    "brush": (),
    "grey": ("grey",),
    "downscale": ("downscale:4",),
    "blur": ("blur:1.5",),
    "jpeg": ("jpeg:10",),
    "composite": ("downscale:2", "mask:center"),
}
SHOWN = 6  # images of a sheet
COLUMNS = (
    "forward",
    "backward",
    "psnr",
    "psnr_unknown",
    "misfit",
    "distance",
    "diversity",
    "feature_diversity",
    "seconds",
)


@dataclass(frozen=True, kw_only=True)
class Method:
    """A restorer, and the plan that it is run with.

    Args:
        restorer: of a model.
        plan: of a model and a number of evaluations.
    """

    restorer: Callable[[ScoreModel], Restorer]
    plan: Callable[[ScoreModel, int], Plan]


def ddim(eta: float) -> Callable[[ScoreModel, int], Plan]:
    """DDIM with this η."""
    return lambda model, evaluations: plan(model, "ddim", evaluations, settings={"eta": eta})


def langevin(model: ScoreModel, evaluations: int) -> Plan:
    """Annealed Langevin dynamics, as `plan` fits it, with five times the evaluations."""
    return plan(model, "annealed-langevin", 5 * evaluations)


def repaint(model: ScoreModel, evaluations: int) -> Plan:
    """RePaint's schedule: each fifth of it four times."""
    low, high = model.sigma_range
    levels = max(10, evaluations // 4 + evaluations // 25)
    sigmas = schedules.repaint(schedules.karras(high, low, levels), jump=levels // 5, times=4)
    return Plan(sampler=Ancestral(), sigmas=sigmas)


METHODS: dict[str, Method] = {
    "projection": Method(restorer=lambda m: Projection(denoiser=m), plan=langevin),
    "repaint": Method(restorer=lambda m: Projection(denoiser=m), plan=repaint),
    "null-space": Method(restorer=lambda m: NullSpace(denoiser=m), plan=ddim(0.85)),
    "pigdm": Method(restorer=NAMED["pigdm"].restorer, plan=ddim(1.0)),
    "dps": Method(restorer=lambda m: DPS(denoiser=m), plan=ddim(1.0)),
    "moment-matching": Method(restorer=lambda m: MomentMatching(denoiser=m, iterations=3), plan=ddim(1.0)),
}
"""At a common budget."""


def named(name: str) -> Method:
    """The method of that name with its own plan, whatever the budget."""
    return Method(restorer=NAMED[name].restorer, plan=lambda model, _: resolve_method(model, name).plan)


def repaint_published(model: ScoreModel, evaluations: int) -> Plan:
    """Lugmayr et al. (2022), §5.1: 250 noise levels of DDPM's β, jumps of 10, 10 times each."""
    sigmas = plan(model, "ddpm", 250, schedule="linear-beta").sigmas
    return Plan(sampler=Ancestral(), sigmas=schedules.repaint(sigmas, jump=10, times=10))


PUBLISHED: dict[str, Method] = {
    "repaint-published": Method(restorer=lambda m: Projection(denoiser=m), plan=repaint_published),
    "dps-published": named("dps-published"),
    "moment-matching-heun": named("moment-matching"),
}
"""With the settings of their papers: moment matching by Heun's rule, three iterations."""


ALL = METHODS | PUBLISHED
Row = dict[str, float | list[float] | None]


def run(
    model: str,
    data: str | Path,
    out: Path,
    *,
    n: int = 100,
    candidates: int = 2,
    evaluations: int = 100,
    batch: int = 50,
    features: str | None = None,
    degradations: list[str] | None = None,
    methods: list[str] | None = None,
) -> dict[str, Any]:
    """All rows, in `out`/restoration.json, .md and a sheet of images for each degradation.

    Args:
        model: what `load` takes.
        data: what `open_images` takes; its held-out images are degraded.
        out: a folder.
        n: images.
        candidates: of each.
        evaluations: of the network for a candidate.
        batch: candidates at once.
        features: see `evaluation.choose_features`.
        degradations: some of DEGRADATIONS.
        methods: some of METHODS and PUBLISHED; by default METHODS.
    """
    out.mkdir(parents=True, exist_ok=True)
    drawing = load(model)
    test, judge, real = _images(drawing, data, n, features)
    settings = {
        "model": model,
        "data": str(data),
        "n": n,
        "candidates": candidates,
        "evaluations": evaluations,
        "features": judge.name,
        "floor": frechet_distance(judge(real).features, judge(test).features),
    }
    path = out / "restoration.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    if results.get("settings") != settings:
        results = {"settings": settings, "rows": {}}
    bench = _Bench(model=drawing, test=test, judge=judge, candidates=candidates, batch=batch, out=out)
    for name, degradation in _operators(drawing, degradations or list(DEGRADATIONS)):
        rows = results["rows"].setdefault(name, {})
        rows.setdefault("A⁺y", bench.unrestored(degradation))
        for method in methods or list(METHODS):
            if method not in rows:
                rows[method] = bench.row(name, degradation, method, evaluations)
                write_atomic(path, json.dumps(results, indent=1) + "\n")
                print(name, method, rows[method], flush=True)
        bench.sheet(name, degradation)
    write_atomic(path, json.dumps(results, indent=1) + "\n")
    write_atomic(out / "restoration.md", table(results))
    return results


def table(results: dict[str, Any]) -> str:
    """The rows as Markdown."""
    settings = ", ".join(f"{key} {value}" for key, value in results["settings"].items())
    lines = [settings, ""]
    for degradation, rows in results["rows"].items():
        lines += [f"| {degradation} | {' | '.join(COLUMNS)} |", "| --- |" + " --- |" * len(COLUMNS)]
        for method, row in rows.items():
            cells = [_cell(row.get(column), row.get(f"{column}_interval")) for column in COLUMNS]
            lines.append(f"| {method} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def _cell(value: float | None, interval: list[float] | None) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" + (f" [{interval[0]:.4g}, {interval[1]:.4g}]" if interval else "")


@contextmanager
def _counted(model: ScoreModel) -> Iterator[dict[str, int]]:
    """The model's passes forwards and backwards, of a batch each."""
    passes = {"forward": 0, "backward": 0}

    def count(kind: str) -> None:
        passes[kind] += 1

    def forward(_module: object, _inputs: object, output: Tensor) -> None:
        count("forward")
        if output.requires_grad:
            output.register_hook(lambda _: count("backward"))

    handle = model.register_forward_hook(forward)
    try:
        yield passes
    finally:
        handle.remove()


@dataclass(frozen=True, kw_only=True)
class _Bench:
    """What all rows share."""

    model: ScoreModel
    test: Tensor
    judge: Features
    candidates: int
    batch: int
    out: Path

    def unrestored(self, degradation: Degradation) -> Row:
        """The row of what the degradation leaves."""
        clean = to_float(self.test, self.model.value_range)
        return self._judged(degradation, degradation.pinv(degradation(clean))[None])

    def row(self, name: str, degradation: Degradation, method: str, evaluations: int) -> Row:
        """Draw, keep for the sheet, judge."""
        way = ALL[method].plan(self.model, evaluations)
        start = time.process_time()
        with _counted(self.model) as passes:
            drawn = torch.stack([self._drawn(degradation, method, way, k) for k in range(self.candidates)])
        seconds = (time.process_time() - start) / drawn[:, :, 0, 0, 0].numel()
        kept = to_uint8(drawn[:, :SHOWN], self.model.value_range)
        torch.save(kept, self.out / f"{name}-{method}.pt")
        batches = self.candidates * len(self.test.split(self.batch))
        each: Row = {kind: count // batches for kind, count in passes.items()}
        return {**each, **self._judged(degradation, drawn), "seconds": seconds}

    def sheet(self, name: str, degradation: Degradation) -> None:
        """What was left, a candidate or two of every method, and the originals, as columns."""
        shown = self.test[:SHOWN]
        clean = to_float(shown, self.model.value_range)
        columns = [to_uint8(degradation.pinv(degradation(clean)), self.model.value_range)]
        for method in ALL:
            path = self.out / f"{name}-{method}.pt"
            if path.exists():
                columns += list(torch.load(path)[:2])
        columns.append(shown)
        tiles = torch.stack(columns, 1).flatten(0, 1)
        save_image(grid(tiles, columns=len(columns)), self.out / f"{name}.png")

    def _drawn(self, degradation: Degradation, method: str, way: Plan, candidate: int) -> Tensor:
        clean = to_float(self.test, self.model.value_range)
        generator = torch.Generator(self.model.device).manual_seed(candidate)
        return torch.cat([self._batch(degradation, method, way, rows, generator) for rows in clean.split(self.batch)])

    @torch.no_grad()
    def _batch(
        self, degradation: Degradation, method: str, way: Plan, clean: Tensor, generator: torch.Generator
    ) -> Tensor:
        observation = Observation(y=degradation(clean), degradation=degradation)
        posterior = ALL[method].restorer(self.model).posterior(observation, generator=generator)
        x = float(way.sigmas[0]) * torch.randn(clean.shape, generator=generator)
        return run_sampler(
            way.sampler, posterior.denoiser, x, way.sigmas, generator=generator, project=posterior.project
        )

    def _judged(self, degradation: Degradation, drawn: Tensor) -> Row:
        low, high = self.model.value_range
        width = high - low
        clean = to_float(self.test, self.model.value_range)
        error = (drawn.clamp(low, high) - clean) / width
        misfit = torch.stack([degradation(x) for x in drawn]) - degradation(clean)
        seen = [self.judge(to_uint8(x, self.model.value_range)).features for x in drawn]
        real = self.judge(self.test).features
        each = _decibels(error).mean(0)  # of an image
        psnr = bootstrap(each, torch.arange(len(each)))
        logs = torch.tensor([frechet_distance(one, real) for one in seen], dtype=torch.float64).log()
        found: Row = {
            "psnr": psnr.value,
            "psnr_interval": [psnr.low, psnr.high],
            "psnr_unknown": _unknown(degradation, error),
            "misfit": float((misfit / width).square().mean().sqrt()),
            "distance": float(logs.mean().exp()),
        }
        if len(drawn) > 2:  # with two, t is 12.7, and the interval says nothing
            half = student_quantile(len(drawn) - 1) * float(logs.std()) / len(drawn) ** 0.5
            found["distance_interval"] = [float((logs.mean() + sign * half).exp()) for sign in (-1, 1)]
        if len(drawn) > 1:
            apart = (drawn[0] - drawn[1]).clamp(-width, width) / width
            found["diversity"] = float(apart.square().mean((1, 2, 3)).sqrt().mean())
            found["feature_diversity"] = float((seen[0] - seen[1]).norm(dim=1).mean())
        return found


def _images(model: ScoreModel, data: str | Path, n: int, features: str | None) -> tuple[Tensor, Features, Tensor]:
    """So many held-out images, the features, and as many that the model was trained on."""
    size, channels = (model.shape[1], model.shape[2]), model.shape[0]
    train = open_images(data, size=size, channels=channels)
    test = open_images(data, size=size, channels=channels, split=held_out(data), limit=n)
    judge = choose_features(train, features)
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[: len(test)]
    return test.images, judge, train.images[order]


def _operators(model: ScoreModel, names: list[str]) -> Iterator[tuple[str, Degradation]]:
    for name in names:
        if name == "grey" and model.shape[0] == 1:
            continue
        shape = (model.shape[0], model.shape[1], model.shape[2])
        texts = DEGRADATIONS[name]
        yield name, parse_degradation(texts).operator(shape, model.value_range) if texts else brush(*shape[1:])


def brush(h: int, w: int, *, strokes: int = 4, share: float = 0.08) -> Mask:
    """A mask of a few strokes that wander; the same each time."""
    generator = torch.Generator().manual_seed(3)
    mask = torch.zeros(1, 1, h, w)
    rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    for _ in range(strokes):
        place = torch.rand(2, generator=generator) * torch.tensor([h, w])
        angle = 6.28 * torch.rand((), generator=generator)
        for _ in range(max(h, w)):
            near = (rows - place[0]) ** 2 + (columns - place[1]) ** 2 <= (share * min(h, w)) ** 2
            mask[0, 0][near] = 1
            angle = angle + 0.4 * torch.randn((), generator=generator)
            place = place + torch.stack([angle.sin(), angle.cos()])
    return Mask(mask=mask)


def _decibels(error: Tensor, share: float = 1.0) -> Tensor:
    """PSNR of errors, (K, N, C, H, W), in dB, (K, N)."""
    return -10 * (error.square().mean((2, 3, 4)) / share).clamp_min(1e-10).log10()


def _unknown(degradation: Degradation, error: Tensor) -> float | None:
    """Decibels over x − A⁺A x, whose share of all values random signs tell; None if A is not linear."""
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, (64, *error.shape[2:]), generator=generator) * 2.0 - 1
    a, b = signs[:32], signs[32:]
    bent = degradation(a + b) - degradation(a) - degradation(b) + degradation(torch.zeros_like(a))
    if float(bent.abs().max()) > 1e-3:
        return None
    share = 1 - float((signs * degradation.pinv(degradation(signs))).mean())
    unseen = torch.stack([e - degradation.pinv(degradation(e)) for e in error])
    return float(_decibels(unseen, share).mean()) if share > 0.01 else None
