"""scorefield sample."""

import re
import time
from pathlib import Path
from typing import Annotated

import typer

from scorefield.cli.console import progress, require_free, table, write_json
from scorefield.cli.options import Device, Json, ModelName, Overwrite, Sampler, Seed, Steps
from scorefield.errors import UserError


def sample(
    model: ModelName,
    *,
    out: Annotated[
        Path, typer.Option("--out", help="A .png (a grid), a folder (one file each), .npz or .npy.")
    ],
    n: Annotated[int, typer.Option("-n", help="How many pictures.")] = 64,
    sampler: Sampler = "heun",
    steps: Steps = None,
    seed: Seed = 0,
    size: Annotated[
        str | None, typer.Option("--size", help="Height x width, e.g. 32x48; by default the model's own.")
    ] = None,
    trace: Annotated[
        bool, typer.Option("--trace", help="Also write the way from noise to pictures: OUT-trace.gif.")
    ] = False,
    overwrite: Overwrite = False,
    json: Json = None,
    device: Device = "auto",
) -> None:
    """Draw pictures from a model.

    Example: scorefield sample fashion -n 64 --out samples.png --trace
    """
    import scorefield as sf
    from scorefield.data.images import to_uint8
    from scorefield.data.sheets import PICTURES, save_images
    from scorefield.figures.trace import Trace
    from scorefield.samplers import plan

    known = [*PICTURES, ".npz", ".npy"]
    if out.suffix and out.suffix.lower() not in known and not out.is_dir():
        raise UserError(
            out, f"cannot write `{out.suffix}`.", f"Use a folder's name, or one of {', '.join(known)}."
        )
    film = out.with_name(f"{out.stem}-trace.gif")
    require_free(out, film if trace else None, json, overwrite=overwrite)
    score_model = sf.load(model, device=device)
    recorder = Trace(score_model.value_range) if trace else None
    begun = time.perf_counter()
    with progress("Sampling") as show:

        def track(done: int, total: int, step: sf.samplers.Step) -> None:
            show(done / total, f"σ {step.sigma:.3g}")
            if recorder is not None:
                recorder.add(step)

        pictures = sf.sample(
            score_model, n, sampler=sampler, steps=steps, seed=seed, size=_size(size), track=track
        )
    seconds = time.perf_counter() - begun
    save_images(to_uint8(pictures, score_model.value_range).cpu(), out)
    if recorder is not None:
        recorder.save(film)
    chosen = plan(score_model, sampler, steps)
    results = {
        "out": str(out),
        "n": n,
        "sampler": sampler,
        "evaluations": chosen.evaluations,
        "seed": seed,
        "seconds": round(seconds, 2),
        "images_per_second": round(n / seconds, 2),
    }
    table(results | ({"trace": str(film)} if trace else {}))
    write_json(json, results)


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    sides = re.fullmatch(r"([1-9][0-9]{0,4})(?:[xX×]([1-9][0-9]{0,4}))?", text.strip())
    if not sides:
        raise UserError("--size", f"{text!r} is no size.", "Write 32 or 32x48 (height x width).")
    return int(sides[1]), int(sides[2] or sides[1])
