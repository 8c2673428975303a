"""What a user feels: start-up, memory over steps, the share of a step that data takes, samplers' overhead."""

import csv
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from scorefield import schedules
from scorefield.samplers import AnnealedLangevin, Heun
from scorefield.samplers.base import Sampler
from scorefield.training import Trainer, build_model, read_recipe


def run() -> dict[str, Any]:
    """All of them."""
    return {"startup": startup(), "training": training(), "overhead": overhead()}


def startup(runs: int = 9) -> dict[str, float]:
    """Median seconds of `scorefield --help` and of `import scorefield`, as whole processes."""
    program = Path(sys.executable).with_name("scorefield")
    commands = {"help": [str(program), "--help"], "import": [sys.executable, "-c", "import scorefield"]}
    times: dict[str, float] = {}
    for name, command in commands.items():
        seconds: list[float] = []
        for _ in range(runs):
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            seconds.append(time.perf_counter() - start)
        times[name] = statistics.median(seconds)
    return times


def training(steps: int = 300) -> dict[str, Any]:
    """Speed, share of time spent on data, and peak memory after a third of the steps and after all."""
    with tempfile.TemporaryDirectory() as folder:
        settings = [f"training.steps={steps}", 'training.sample_every="1d"', "training.log_every=50"]
        recipe = read_recipe("default", ['data.source="fashion"', *settings])
        peaks: list[int] = []
        trainer = Trainer(recipe, out=folder, report=lambda now: peaks.append(_peak()))
        trainer.fit()
        with (Path(folder) / "log.csv").open() as file:
            rows = list(csv.DictReader(file))
    half = rows[len(rows) // 2 :]
    return {
        "images_per_second": statistics.median(float(row["images_per_second"]) for row in half),
        "data_share": statistics.median(float(row["data_share"]) for row in half),
        "peak_mb_after_a_third": peaks[len(peaks) // 3] / 1024,
        "peak_mb_after_all": peaks[-1] / 1024,
    }


def overhead() -> dict[str, float]:
    """Share of a sampler's time that is its own arithmetic, at 64 × 1 × 28 × 28 with the default network."""
    model = build_model(read_recipe("default"), (1, 28, 28)).eval()
    shares: dict[str, float] = {}
    runs: dict[str, tuple[Sampler, torch.Tensor]] = {
        "heun": (Heun(), schedules.karras(80, 0.002, 18)),
        "annealed-langevin": (AnnealedLangevin(steps_each=4), schedules.geometric(80, 0.01, 10)),
    }
    for name, (sampler, sigmas) in runs.items():
        inside = 0.0

        def timed(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
            nonlocal inside
            start = time.perf_counter()
            denoised = model(x, sigma)
            inside += time.perf_counter() - start
            return denoised

        generator = torch.Generator().manual_seed(0)
        x = float(sigmas[0]) * torch.randn(64, 1, 28, 28, generator=generator)
        with torch.no_grad():
            start = time.perf_counter()
            for _ in sampler.iterate(timed, x, sigmas, generator=generator):
                pass
            shares[name] = 1 - inside / (time.perf_counter() - start)
    return shares


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
