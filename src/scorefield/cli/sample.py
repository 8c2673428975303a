"""scorefield sample."""

import math
import re
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from scorefield.cli.console import progress, require_free, table, write_json
from scorefield.cli.options import Device, Json, ModelName, Overwrite, Sampler, Seed, Steps
from scorefield.errors import UserError


def sample(
    model: ModelName,
    *,
    out: Annotated[
        Path,
        typer.Option(
            "--out", help="A .png (a grid), .npz, .npy or a folder of 00000.png … (all are replaced)."
        ),
    ],
    n: Annotated[int, typer.Option("-n", help="How many pictures.")] = 64,
    sampler: Sampler = "heun",
    steps: Steps = None,
    steps_each: Annotated[
        int | None, typer.Option("--steps-each", help="Langevin samplers: updates on each rung.")
    ] = None,
    step_size: Annotated[
        float | None,
        typer.Option("--step-size", help="Langevin samplers: epsilon, the step on the last rung."),
    ] = None,
    convention: Annotated[
        str | None,
        typer.Option(
            "--convention",
            help="How step sizes are meant: paper, x + e/2 s + sqrt(e) z, or code, x + e s + sqrt(2e) z.",
        ),
    ] = None,
    denoise: Annotated[
        bool | None,
        typer.Option(
            "--denoise/--no-denoise", help="annealed-langevin: end with the denoised picture, or not."
        ),
    ] = None,
    start: Annotated[
        str,
        typer.Option("--start", help="gaussian noise, or uniform over the value range, as NCSN's program."),
    ] = "gaussian",
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

    With NCSN's own numbers: scorefield sample RUN --sampler annealed-langevin --start uniform --out s.png
    """
    import scorefield as sf
    from scorefield.data.images import to_uint8
    from scorefield.data.sheets import PICTURES, save_images
    from scorefield.figures.trace import Trace
    from scorefield.samplers import Convention, Start, Tuning, plan

    known = [*PICTURES, ".npz", ".npy"]
    if out.suffix and out.suffix.lower() not in known and not out.is_dir():
        raise UserError(
            out, f"cannot write `{out.suffix}`.", f"Use a folder's name, or one of {', '.join(known)}."
        )
    film = out.with_name(f"{out.stem}-trace.gif")
    require_free(out, film if trace else None, json, overwrite=overwrite)
    tuning = Tuning(
        steps_each=steps_each,
        step_size=step_size,
        convention=cast(Convention | None, convention),
        denoise=denoise,
    )
    score_model = sf.load(model, device=device)
    chosen = plan(score_model, sampler, steps, tuning=tuning)
    recorder = Trace(score_model.value_range) if trace else None
    begun = time.perf_counter()
    with progress("Sampling") as show:

        def track(done: int, total: int, step: sf.samplers.Step) -> None:
            show(done / total, f"σ {step.sigma:.3g}")
            if recorder is not None:
                recorder.add(step)

        pictures = sf.sample(
            score_model,
            n,
            sampler=sampler,
            steps=steps,
            tuning=tuning,
            start=cast(Start, start),
            size=_size(size),
            seed=seed,
            track=track,
        )
    seconds = time.perf_counter() - begun
    save_images(to_uint8(pictures, score_model.value_range).cpu(), out)
    if recorder is not None:
        recorder.save(film)
    settings = {name: v for name, v in asdict(cast(Any, chosen.sampler)).items() if v != math.inf}
    results: dict[str, Any] = {
        "out": str(out),
        "n": n,
        "sampler": sampler,
        "settings": settings,
        "start": start,
        "rungs": len(chosen.sigmas),
        "evaluations": chosen.evaluations,
        "seed": seed,
        "seconds": round(seconds, 2),
        "images_per_second": round(n / seconds, 2),
    }
    told = ", ".join(
        f"{name} {v:.4g}" if isinstance(v, float) else f"{name} {v}" for name, v in settings.items()
    )
    table(results | {"settings": told} | ({"trace": str(film)} if trace else {}))
    write_json(json, results)


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    sides = re.fullmatch(r"([1-9][0-9]{0,4})(?:[xX×]([1-9][0-9]{0,4}))?", text.strip())
    if not sides:
        raise UserError("--size", f"{text!r} is no size.", "Write 32 or 32x48 (height x width).")
    return int(sides[1]), int(sides[2] or sides[1])
