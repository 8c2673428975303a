"""Models that restore: beside the community's Palette, the cost of making degradation, and large images.

**Race.** The network of Janspiry/Palette-Image-to-Image-Diffusion-Models as its configurations have it (64
channels, multipliers 1, 2, 4, 8, two blocks, residual blocks that change the size, attention in the middle)
and ours in the same form, at 64 and 256 pixels, each in a process of its own, taking turns. Theirs is run
from a clone (`--peer`), as it stands, and in bfloat16 under autocast, in which its checkpointed attention
does not train; it never becomes part of this repository. Sampling is theirs by its 1,000 evaluations, ours by
ten.

**Degradation.** Seconds to degrade an image, by each family and by the recipe `palette-small` with what
it shows under masks, over those of a training step of that recipe on images of the same size. In training a
thread of its own makes it meanwhile; the share is what that costs where no processor is free.

**Megapixels.** `restore` takes a JPEG file out of its blocks, in a fresh process for each size: seconds, and
the largest resident memory, which holds Python and torch too.
"""

import json
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, nullcontext
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from scorefield import degradations, noise_distributions
from scorefield.degradations import DegradationFamily, network_input
from scorefield.kernels.malloc import tune_malloc
from scorefield.kernels.prepacked import prepacked
from scorefield.model import Condition
from scorefield.networks import UNet
from scorefield.objectives import denoising_score_matching
from scorefield.training import read_recipe
from scorefield.training.batch import degrade
from scorefield.training.recipe import build_model

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
SIZES = {64: 8, 256: 1}
"""Side to batch, of the race."""
STEPS = {64: 16, 256: 2}
"""Side to batch, of training steps."""
THEIR_EVALUATIONS, OUR_EVALUATIONS = 1000, 10
MEGAPIXELS = (0.25, 1.0, 3.0, 12.0)


def run(peer: Path | None, model: str, *, rounds: int = 3) -> dict[str, Any]:
    """All figures.

    Args:
        peer: a clone of theirs; without it there is no race.
        model: that restores, for the megapixels.
        rounds: of the race.
    """
    results: dict[str, Any] = {"degradation": degradation_shares(), "megapixels": [large(model, m) for m in MEGAPIXELS]}
    if peer is not None:
        results["race"] = [race(peer, side, rounds) for side in SIZES]
    return results


# --- the race ------------------------------------------------------------------------------------


def race(peer: Path, side: int, rounds: int) -> dict[str, Any]:
    """Images a second at one size, and ours over theirs."""
    batch = SIZES[side]
    names = [
        f"{whose} {precision} {work}"
        for work in ("evaluation", "training")
        for precision in PRECISIONS
        for whose in ("theirs", "ours")
        if (whose, precision, work) != ("theirs", "bfloat16", "training")
    ]
    seconds: dict[str, list[float]] = {name: [] for name in names}
    with ExitStack() as stack:
        programs = {w: stack.enter_context(_Program(w, peer, side, batch)) for w in ("theirs", "ours")}
        weights = {whose: program.ask("weights") for whose, program in programs.items()}
        for _ in range(rounds):
            for name in names:
                whose, _, rest = name.partition(" ")
                seconds[name] += programs[whose].ask(rest)
    rates = {name: batch / statistics.median(times) for name, times in seconds.items()}
    print(side, {name: round(rate, 2) for name, rate in rates.items()}, flush=True)
    times_as_fast = {
        f"{work}, {name} over {against}": rates[f"ours {name} {work}"] / rates[f"theirs {against} {work}"]
        for work in ("evaluation", "training")
        for name in PRECISIONS
        for against in dict.fromkeys((name, "float32"))
        if f"theirs {against} {work}" in rates
    }
    best = max(rates[f"ours {name} evaluation"] for name in PRECISIONS) / OUR_EVALUATIONS
    theirs = max(rates[f"theirs {name} evaluation"] for name in PRECISIONS) / THEIR_EVALUATIONS
    return {
        "side": side, "batch": batch, "parameters": weights, "images_per_second": rates,
        "times_as_fast": times_as_fast,
        "sampling": {"theirs": theirs, "ours": best, "times_as_fast": best / theirs},
    }  # fmt: skip


class _Program:
    """One of the two in a process of its own, which works when it is asked."""

    def __init__(self, whose: str, peer: Path, side: int, batch: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.line, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, whose, peer, side, batch), daemon=True)

    def __enter__(self) -> "_Program":
        self.process.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.line.send(None)
        self.process.join()

    def ask(self, name: str) -> Any:
        """What came of it."""
        self.line.send(name)
        return self.line.recv()


def _serve(line: Connection, whose: str, peer: Path, side: int, batch: int) -> None:
    network = _ours() if whose == "ours" else _theirs(peer)
    for weight in network.parameters():  # none may be skipped for being 0
        if not weight.detach().any():
            nn.init.normal_(weight, 0, 0.02)
    x, source = torch.randn(2, batch, 3, side, side)
    gamma = torch.rand(batch)

    def call() -> Tensor:
        return network(x, gamma, source) if whose == "ours" else network(torch.cat([source, x], 1), gamma)

    while (asked := line.recv()) is not None:
        if asked == "weights":
            line.send(sum(weight.numel() for weight in network.parameters()))
            continue
        precision, work = asked.split()
        line.send(_timed(network, call, PRECISIONS[precision], training=work == "training"))


def _timed(network: nn.Module, call: Any, precision: torch.dtype, *, training: bool) -> list[float]:
    network.train(training)
    half = precision != torch.float32
    times: list[float] = []
    held = nullcontext() if training else prepacked()
    with held:
        for _ in range(4):
            start = time.perf_counter()
            with (
                torch.set_grad_enabled(training),
                torch.autocast("cpu", precision) if half else nullcontext(),
            ):
                output = call()
            if training:
                output.float().square().mean().backward()
                network.zero_grad()
            times.append(time.perf_counter() - start)
    return times[1:]


def _ours() -> nn.Module:
    tune_malloc()
    return UNet(
        channels=3, source_channels=3, widths=(64, 128, 256, 512), blocks=2, head_width=32, groups=32,
        resample="residual", middle="attention", dropout=0.2,
    )  # fmt: skip


def _theirs(peer: Path) -> nn.Module:
    if not (peer / "models" / "guided_diffusion_modules").is_dir():
        raise SystemExit(f"{peer}: not there; --peer takes a clone of Janspiry/Palette-Image-to-Image-Diffusion-Models")
    sys.path.insert(0, str(peer))
    from models.guided_diffusion_modules.unet import UNet as Theirs

    # As their configuration for faces, whose attention "at 16" their program takes as a factor of reduction.
    return Theirs(
        image_size=256, in_channel=6, inner_channel=64, out_channel=3, res_blocks=2, attn_res=[16],
        channel_mults=(1, 2, 4, 8), num_head_channels=32, dropout=0.2,
    )  # fmt: skip


# --- degradation --------------------------------------------------------------------------------------


def degradation_shares() -> dict[str, Any]:
    """Milliseconds an image for each distribution at both sizes, and the share of a step of `palette-small`."""
    families: dict[str, DegradationFamily] = {
        "grey": degradations.Grey(),
        "masks": degradations.FreeForm(),
        "uncrop": degradations.Uncropping(),
        "jpeg": degradations.RandomJPEG(),
        "downscale": degradations.RandomDownscale(),
        "blur": degradations.RandomBlur(),
        "noise": degradations.RandomNoise(std=(5.1, 51.0)),
        "scratches": degradations.Scratches(),
    }
    found: dict[str, Any] = {}
    for side, batch in STEPS.items():
        step = 1e3 * _step_seconds(side, batch)
        x0 = torch.rand(1, 3, side, side) * 2 - 1
        times = {name: 1e3 * _damaging(family, x0) for name, family in families.items()}
        times["the recipe"] = 1e3 * _as_in_training(side, batch)
        shares = {name: time / step for name, time in times.items()}
        found[str(side)] = {"step_ms": step, "degradation_ms": times, "share": shares}
        print(side, f"step {step:.1f} ms,", {name: f"{share:.2%}" for name, share in shares.items()})
    return found


def _damaging(family: DegradationFamily, x0: Tensor, times: int = 100) -> float:
    generator = torch.Generator().manual_seed(0)
    start = time.perf_counter()
    for _ in range(times):
        degradation = family.draw(x0.shape, generator=generator)
        network_input(degradation, degradation(x0), generator=generator)
    return (time.perf_counter() - start) / times


def _as_in_training(side: int, batch: int, times: int = 20) -> float:
    """Of the recipe's own mix and what it shows under masks, for one image."""
    recipe = read_recipe("palette-small")
    x0, generator = torch.rand(batch, 3, side, side) * 2 - 1, torch.Generator().manual_seed(0)
    start = time.perf_counter()
    for _ in range(times):
        degrade(recipe.degradation, x0, masked_input=recipe.data.masked_input, generator=generator)
    return (time.perf_counter() - start) / times / batch


def _step_seconds(side: int, batch: int, steps: int = 6) -> float:
    """Of training, for one image."""
    tune_malloc()
    recipe = read_recipe("palette-small")
    precision = torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32
    model = build_model(recipe, (3, side, side)).with_precision(precision)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
    generator = torch.Generator().manual_seed(0)
    x0 = torch.rand(batch, 3, side, side)
    condition = Condition(source=x0, mask=torch.ones(batch, 1, side, side))
    times: list[float] = []
    for _ in range(steps):
        start = time.perf_counter()
        sigma = noise_distributions.draw_sigma(recipe.noise_levels.distribution, batch, generator=generator)
        loss = denoising_score_matching(model, x0, sigma, condition=condition, generator=generator).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:]) / batch


# --- megapixels ----------------------------------------------------------------------------------

_RESTORING = """
import json, resource, sys, time
from scorefield.kernels.malloc import tune_malloc
tune_malloc()
import scorefield as sf
start = time.perf_counter()
out = sf.restore(sys.argv[1], sys.argv[2], "dejpeg")
seconds = time.perf_counter() - start
out.save(sys.argv[3])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"seconds": seconds, "peak_MB": peak / 1024}))
"""


def large(model: str, megapixels: float) -> dict[str, Any]:
    """Seconds and memory to restore a JPEG file of quality 20, 4:3, of so many million pixels."""
    height = round((megapixels * 1e6 * 3 / 4) ** 0.5)
    width = round(height * 4 / 3)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.jpg"
        _texture(height, width).save(path, quality=20)
        command = [sys.executable, "-c", _RESTORING, model, str(path), folder]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    found |= {"megapixels": width * height / 1e6, "size": [width, height]}
    found["seconds_per_megapixel"] = found["seconds"] / found["megapixels"]
    print(found, flush=True)
    return found


def _texture(height: int, width: int) -> Image.Image:
    """Noise of all scales in three channels, as clouds have it."""
    generator = np.random.default_rng(0)
    total = np.zeros((height, width, 3), np.float32)
    for octave in range(2, 9):
        size = (max(2, width >> octave), max(2, height >> octave))
        layer = (generator.random((size[1], size[0], 3)) * 255).astype(np.uint8)
        grown = Image.fromarray(layer).resize((width, height), Image.Resampling.BICUBIC)
        total += np.asarray(grown, np.float32) * 2.0**octave
    total -= total.min()
    return Image.fromarray((total / total.max() * 255).astype(np.uint8))
