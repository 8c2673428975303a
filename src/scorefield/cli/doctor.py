"""scorefield doctor."""

import os
import platform
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from scorefield.cli.console import progress, require_free, table, tell, write_json
from scorefield.cli.options import Json, Overwrite


def doctor(
    recipe: Annotated[str, typer.Option("--recipe", help="The recipe to try.")] = "default",
    *,
    data: Annotated[str, typer.Option("--data", help="The images to try it on.")] = "fashion",
    size: Annotated[int | None, typer.Option("--size", min=1, help="Side of the images.")] = None,
    overwrite: Overwrite = False,
    json: Json = None,
) -> None:
    """Check this machine and a recipe before training: versions, memory, disk, speed, expected time.

    Trains for eight seconds in a folder that is thrown away.

    Example: scorefield doctor --recipe mine.toml --data photos/
    """
    import torch

    from scorefield import hub
    from scorefield.files import cache_dir

    require_free(json, overwrite=overwrite)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    machine: dict[str, Any] = {
        "python": platform.python_version(),
        **{name: _version(name) for name in ("scorefield", "torch", "numpy", "pillow", "matplotlib", "tensorboard")},
        "processor": torch.cuda.get_device_name() if device == "cuda" else _processor(),
        "threads": torch.get_num_threads(),
        "precision": str(hub.preferred_precision(device)).removeprefix("torch."),
        "memory": f"{_memory() / 1e9:.1f} GB",
        "disk free here": f"{shutil.disk_usage(Path.cwd()).free / 1e9:.1f} GB",
        "cache": cache_dir(),
    }
    table(machine, title="machine")
    tell("")
    tried = _try(recipe, data, size, device)
    table(tried, title=f"{recipe} on {data}")
    write_json(json, {"machine": machine, "recipe": tried})


def _try(recipe: str, data: str, size: int | None, device: str) -> dict[str, Any]:
    """A few seconds of training in a folder that is thrown away."""
    import json
    import resource
    import tempfile

    from scorefield.training import Trainer, open_recipe_data, read_recipe

    overrides = [f"data.source={json.dumps(data)}", *([f"data.size={size}"] if size else [])]
    quiet = ['training.save_every="1d"', 'training.sample_every="1d"', "training.sample_count=1"]
    resolved = read_recipe(recipe, [*overrides, *quiet])
    with progress("Reading images") as show:
        images = open_recipe_data(resolved, track=lambda done, total: show(done / max(total, 1), ""))
    with tempfile.TemporaryDirectory() as folder, progress("Training for eight seconds") as show:
        trainer = Trainer(
            resolved,
            out=folder,
            data=images,
            stop_after=8,
            device=device,
            report=lambda now: show(now.share, ""),
        )
        trainer.fit()
    rate = trainer.step * resolved.optimizer.batch / trainer.seconds
    whole = resolved.training.steps * resolved.optimizer.batch / rate
    return {
        "images": images.summary(),
        "model": trainer.summary(),
        "training": f"{rate:.0f} images/s",
        "an epoch": f"{len(images) / rate:.0f} s",
        "the whole recipe": f"{whole / 3600:.1f} h for {resolved.training.steps} steps; --stop-after ends it",
        "peak memory": f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB",
    }


def _version(name: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed (optional)"


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
