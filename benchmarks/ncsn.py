"""RefineNet beside the network of NCSN's authors: images a second in training and in sampling, in one run.

Both are NCSN's network for MNIST (28×28, width 64, ten noise levels, 7,638,657 parameters, 3.8 GFLOP forward)
with the same threads and batch, and take turns, so that a busy machine hurts both. Each has a process of its
own, as it has in use, where only its own settings hold: ours those of our commands (`kernels.malloc.tune_malloc`).
Training is a step of Adam on denoising score matching; sampling is an update of annealed Langevin dynamics.
Theirs is run from a clone (`--peer`), as it stands, and in bfloat16 under autocast; it never becomes part of
this repository.

The last figure is the share of a sampling run that is the sampler's own arithmetic, the network excluded.
"""

import importlib.util
import multiprocessing
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from scorefield import schedules
from scorefield.hub.load import preferred_precision
from scorefield.kernels.malloc import tune_malloc
from scorefield.model import ModelSpec, ScoreModel
from scorefield.networks import RefineNet
from scorefield.objectives import denoising_score_matching
from scorefield.parameterization import NCSN
from scorefield.samplers import AnnealedLangevin

SIGMAS = schedules.geometric(1, 0.01, 10)
STEP_SIZE = 2e-5
PRECISIONS = {"float32": torch.float32}
if preferred_precision("cpu") == torch.bfloat16:  # else it is imitated, at a fraction of the speed
    PRECISIONS["bfloat16"] = torch.bfloat16


def run(peer: Path, *, batch: int = 64, repeats: int = 3, rounds: int = 4) -> dict[str, Any]:
    """All figures; `peer` is a clone of github.com/ermongroup/ncsn."""
    images = torch.rand(batch, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    network, _ = load(peer)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(images[:1], torch.zeros(1, dtype=torch.long))
    flop = counter.get_total_flops()
    names = [
        f"{whose} {precision} {work}"
        for precision in PRECISIONS
        for work in ("training", "sampling")
        for whose in ("theirs", "ours")
    ]
    seconds: dict[str, list[float]] = {name: [] for name in names}
    with ExitStack() as stack:
        programs = {whose: stack.enter_context(_Program(whose, peer, images)) for whose in ("theirs", "ours")}
        for _ in range(rounds):
            for name in names:
                times = programs[name.split()[0]].times(name, repeats)
                seconds[name] += times
                print(f"{name}: {batch / statistics.median(times):.1f} images/s", flush=True)
    rates = {name: batch / statistics.median(times) for name, times in seconds.items()}
    return {
        "parameters": sum(p.numel() for p in network.parameters()),
        "gflop_forward": flop / 1e9,
        "images_per_second": rates,
        "images_per_second_in_each_round": {
            name: [batch / statistics.median(each) for each in _parts(times, repeats)]
            for name, times in seconds.items()
        },
        "gflop_per_second_of_theirs": {
            name: rate * flop * (3 if "training" in name else 1) / 1e9 for name, rate in rates.items()
        },
        "convolution_limit_gflop_per_second": {n: convolution_limit(p) for n, p in PRECISIONS.items()},
        "times_as_fast": ratios(rates),
        "sampler_share": sampler_share(images),
    }


class _Program:
    """One of the two programs in a process of its own, which works when it is asked."""

    def __init__(self, whose: str, peer: Path, images: Tensor) -> None:
        context = multiprocessing.get_context("spawn")
        self.line, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, whose, peer, images), daemon=True)

    def __enter__(self) -> "_Program":
        self.process.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.line.send(None)
        self.process.join()

    def times(self, name: str, repeats: int) -> list[float]:
        """Seconds of each of `repeats` calls, after one that warms up."""
        self.line.send((name, repeats))
        return self.line.recv()


def _serve(line: Connection, whose: str, peer: Path, images: Tensor) -> None:
    turns: dict[str, Callable[[], None]] = {}
    if whose == "ours":
        tune_malloc()
        for name, precision in PRECISIONS.items():
            turns[f"ours {name} training"] = our_training(images, precision)
            turns[f"ours {name} sampling"] = our_sampling(images, precision)
    else:
        network, objective = load(peer)
        for name, precision in PRECISIONS.items():
            turns[f"theirs {name} training"] = their_training(network, objective, images, precision)
            turns[f"theirs {name} sampling"] = their_sampling(network, images, precision)
    while (asked := line.recv()) is not None:
        name, repeats = asked
        times: list[float] = []
        for _ in range(repeats + 1):
            start = time.perf_counter()
            turns[name]()
            times.append(time.perf_counter() - start)
        line.send(times[1:])


def _parts(values: list[float], size: int) -> list[list[float]]:
    return [values[i : i + size] for i in range(0, len(values), size)]


def ratios(rates: dict[str, float]) -> dict[str, float]:
    """Ours over theirs, in the same precision and over theirs in float32, which is all that they offer."""
    found: dict[str, float] = {}
    for work in ("training", "sampling"):
        for name in PRECISIONS:
            for against in dict.fromkeys((name, "float32")):
                found[f"{work}, {name} over {against}"] = (
                    rates[f"ours {name} {work}"] / rates[f"theirs {against} {work}"]
                )
    return found


def load(peer: Path) -> tuple[nn.Module, Callable[..., Tensor]]:
    """Their network for MNIST and their objective, from their source."""
    config = SimpleNamespace(
        data=SimpleNamespace(logit_transform=False, channels=1, image_size=28),
        model=SimpleNamespace(ngf=64, num_classes=len(SIGMAS)),
    )
    torch.manual_seed(0)
    network = _module(peer / "models" / "cond_refinenet_dilated.py").CondRefineNetDilated(config)
    return network, _module(peer / "losses" / "dsm.py").anneal_dsm_score_estimation


def ours() -> ScoreModel:
    """The same network as our model."""
    torch.manual_seed(0)
    network = RefineNet(channels=1, width=64, levels=len(SIGMAS))
    parameterization = NCSN(sigmas=tuple(SIGMAS.tolist()))
    return ScoreModel(
        network, parameterization, ModelSpec(shape=(1, 28, 28), value_range=(0, 1), sigma_range=(0.01, 1))
    )


def their_training(
    network: nn.Module, objective: Callable[..., Tensor], images: Tensor, precision: torch.dtype
) -> Callable[[], None]:
    """One step of theirs, at the settings of their configuration for MNIST."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, betas=(0.9, 0.999))
    half = precision != torch.float32

    def step() -> None:
        labels = torch.randint(0, len(SIGMAS), (len(images),))
        with torch.autocast("cpu", precision) if half else nullcontext():
            loss = objective(network, images, labels, SIGMAS, 2.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def our_training(images: Tensor, precision: torch.dtype) -> Callable[[], None]:
    """One step of ours: the same objective, per pixel and twice theirs, and Adam as `Trainer` runs it."""
    model, generator = ours().with_precision(precision), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, betas=(0.9, 0.999), fused=True)

    def step() -> None:
        sigma = SIGMAS[torch.randint(0, len(SIGMAS), (len(images),), generator=generator)]
        loss = denoising_score_matching(model, images, sigma, generator=generator).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def their_sampling(network: nn.Module, images: Tensor, precision: torch.dtype) -> Callable[[], None]:
    """One update of theirs on the middle noise level, by the arithmetic of their sampler."""
    half, label = precision != torch.float32, len(SIGMAS) // 2
    size = STEP_SIZE * (SIGMAS[label] / SIGMAS[-1]) ** 2

    def update() -> None:
        with torch.no_grad(), torch.autocast("cpu", precision) if half else nullcontext():
            labels = torch.ones(len(images)).long() * label
            shake = torch.randn_like(images) * (2 * size).sqrt()
            _ = images + size * network(images, labels) + shake

    return update


def our_sampling(images: Tensor, precision: torch.dtype) -> Callable[[], None]:
    """One update of ours on the same noise level."""
    model, generator = ours().eval().with_precision(precision), torch.Generator().manual_seed(0)
    sigma = SIGMAS[len(SIGMAS) // 2][None]

    def update() -> None:
        with torch.no_grad():
            for _ in AnnealedLangevin(step_size=STEP_SIZE, steps_each=1).iterate(
                model, images, sigma, generator=generator
            ):
                pass

    return update


def sampler_share(images: Tensor, updates: int = 4) -> float:
    """The share of annealed Langevin's time that is not the network's."""
    model, inside = ours().eval(), 0.0
    network = model.network.forward

    def timed(*arguments: Any) -> Tensor:
        nonlocal inside
        start = time.perf_counter()
        output = network(*arguments)
        inside += time.perf_counter() - start
        return output

    model.network.forward = timed
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        start = time.perf_counter()
        for _ in AnnealedLangevin(steps_each=updates).iterate(model, images, SIGMAS[-1:], generator=generator):
            pass
        return 1 - inside / (time.perf_counter() - start)


def convolution_limit(precision: torch.dtype) -> float:
    """The most GFLOP/s of one 3×3 convolution of 128 channels at 14×14, the network's commonest."""
    x = torch.randn(64, 128, 14, 14).to(precision, memory_format=torch.channels_last)
    weight = torch.randn(128, 128, 3, 3).to(precision, memory_format=torch.channels_last)
    best = float("inf")
    with torch.no_grad():
        for _ in range(30):
            start = time.perf_counter()
            nn.functional.conv2d(x, weight, padding=1)
            best = min(best, time.perf_counter() - start)
    return 2 * 9 * 128**2 * 14**2 * 64 / best / 1e9


def _module(path: Path) -> ModuleType:
    if not path.is_file():
        raise SystemExit(f"{path}: not there; --peer takes a clone of github.com/ermongroup/ncsn")
    spec = importlib.util.spec_from_file_location(f"peer_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
