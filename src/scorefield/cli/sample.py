"""scorefield sample."""

import math
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from scorefield.cli.class_options import Classes, Guidance, GuidanceInterval, chosen_classes, guidance_interval
from scorefield.cli.console import note, progress, require_free, table, write_json
from scorefield.cli.manifest import digest
from scorefield.cli.options import Device, Json, ModelName, Overwrite, Sampler, Seed, Steps
from scorefield.cli.samples import BATCH, SampleWriter, begun
from scorefield.errors import UserError
from scorefield.sampler_names import SAMPLER_SUMMARIES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from scorefield.model import ScoreModel
    from scorefield.samplers import Plan, Setting


def sample(
    model: ModelName,
    *,
    out: Annotated[
        Path,
        typer.Option("--out", help="A .png (a grid), .npz, .npy or a folder of 00000.png … (all are replaced)."),
    ],
    n: Annotated[int, typer.Option("-n", help="How many images.")] = 64,
    sampler: Sampler = "heun",
    steps: Steps = None,
    schedule: Annotated[
        str | None,
        typer.Option(
            "--schedule",
            help="Noise levels: karras, own (the model's noise levels), another name, or a list: 80,20,5,1,0.1,0.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting of the sampler, e.g. eta=0.5 or churn=10; may come again."),
    ] = None,
    steps_each: Annotated[
        int | None, typer.Option("--steps-each", help="Langevin samplers: updates on each noise level.")
    ] = None,
    step_size: Annotated[
        float | None,
        typer.Option("--step-size", help="Langevin samplers: epsilon, the step on the last noise level."),
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
        typer.Option("--denoise/--no-denoise", help="annealed-langevin: end with the denoised image, or not."),
    ] = None,
    start: Annotated[
        str,
        typer.Option("--start", help="gaussian noise, or uniform over the value range, as NCSN's program."),
    ] = "gaussian",
    init: Annotated[
        Path | None,
        typer.Option("--from", help="Begin with this image made noisy, and vary it; needs --sigma."),
    ] = None,
    sigma: Annotated[
        float | None,
        typer.Option("--sigma", help="The noise that --from is given: more is freer. Try 0.5 to 5."),
    ] = None,
    clamp: Annotated[
        bool, typer.Option("--clamp", help="Keep what the model sees in the noise within the value range.")
    ] = False,
    classes: Classes = None,
    guidance: Guidance = 1.0,
    interval: GuidanceInterval = None,
    seed: Seed = 0,
    size: Annotated[
        str | None, typer.Option("--size", help="Height x width, e.g. 32x48; by default the model's own.")
    ] = None,
    trace: Annotated[
        bool, typer.Option("--trace", help="Also write the way from noise to images: OUT-trace.gif.")
    ] = False,
    overwrite: Overwrite = False,
    json: Json = None,
    device: Device = "auto",
) -> None:
    """Draw images from a model.

    Example: scorefield sample fashion -n 64 --out samples.png --trace

    In nine evaluations: scorefield sample fashion --sampler dpm++-2m --steps 9 --out s.png

    Variations: scorefield sample fashion --from shirt.png --sigma 1 -n 16 --out s.png

    Of classes: scorefield sample RUN --class sandal,bag --guidance 2 --out s.png

    With NCSN's own numbers: scorefield sample RUN --sampler annealed-langevin --start uniform --out s.png
    """
    import scorefield as sf
    from scorefield.data.encode import FORMATS
    from scorefield.data.image import to_uint8
    from scorefield.figures.trace import Trace
    from scorefield.hub import find, is_pipeline
    from scorefield.samplers import Start, WarmStart, plan, sample_batches

    known = [*FORMATS, ".npz", ".npy"]
    if out.suffix and out.suffix.lower() not in known and not out.is_dir():
        raise UserError(out, f"cannot write `{out.suffix}`.", f"Use a folder's name, or one of {', '.join(known)}.")
    film = out.with_name(f"{out.stem}-trace.gif")
    require_free(None if begun(out) else out, film if trace else None, json, overwrite=overwrite)
    if (init is None) != (sigma is None):
        raise UserError("--from", "an image to begin with and --sigma, its noise level, go together.")
    flags = {"steps_each": steps_each, "step_size": step_size, "convention": convention, "denoise": denoise}
    asked = _settings(settings or [], flags)
    name, sigmas = _schedule(schedule)
    score_model = sf.load(model, device=device)
    chosen = plan(score_model, sampler, steps, sigmas=sigmas, schedule=name, settings=asked, init_sigma=sigma)
    told, where = chosen_classes(classes, model, score_model.classes), guidance_interval(interval)
    begun_with = None if init is None or sigma is None else WarmStart(images=_image(init, score_model), sigma=sigma)
    recorder = Trace(score_model.value_range) if trace else None
    request = {
        "model": model, "n": n, "sampler": sampler, "sigmas": chosen.sigmas.tolist(), "settings": chosen.settings,
        "start": start, "from": None if init is None else digest(init), "sigma": sigma, "clamp": clamp,
        "classes": classes, "guidance": guidance, "interval": interval, "size": size, "seed": seed,
        "weights": "" if is_pipeline(model) else digest(find(model)),
    }  # fmt: skip
    writer = SampleWriter(out=out, n=n, request=request, overwrite=overwrite)
    started = time.perf_counter()
    with progress("Sampling") as show:

        def track(done: int, total: int, step: sf.samplers.Step) -> None:
            show(min(1.0, done / total), f"σ {step.sigma:.3g}")
            if recorder is not None:
                recorder.add(step)

        def draw(first: int) -> "Iterator[Tensor]":
            batches = sample_batches(
                score_model,
                n,
                sampler=chosen,
                start=cast(Start, start) if begun_with is None else begun_with,
                clamp=clamp,
                classes=told,
                guidance=guidance,
                interval=where,
                size=_size(size),
                seed=seed,
                batch=BATCH,
                first=first,
                progress=track,
            )
            for images in batches:
                yield to_uint8(images, score_model.value_range).cpu()

        writer.write(draw)
    seconds = time.perf_counter() - started
    if recorder is not None:
        recorder.save(film)
    results: dict[str, Any] = {
        "out": str(out),
        "n": n,
        "sampler": sampler,
        **_used(chosen),
        **({"start": start} if init is None else {"from": str(init), "sigma": sigma}),
        "clamp": clamp,
        "classes": told,
        "guidance": guidance,
        "guidance_interval": [end if end < math.inf else None for end in where],
        "seed": seed,
        "seconds": round(seconds, 2),
        "images_per_second": round(n / seconds, 2),
    }
    table(_told(results, chosen) | ({"trace": str(film)} if trace else {}))
    if chosen.max_mismatch > 1.01 and (levels := score_model.schedule) is not None:
        note(
            f"Noise levels are up to {chosen.max_mismatch:.3g} times off the nearest of the model's "
            f"{len(levels)} noise levels; --schedule own stays on them."
        )
    write_json(json, results)


sample.__doc__ = "\n".join(  # where the help has its whole width
    [
        sample.__doc__ or "",
        "    Samplers:",
        *(f"    {name:<{max(map(len, SAMPLER_SUMMARIES))}}  {words}" for name, words in SAMPLER_SUMMARIES.items()),
    ]
)


_UNGUIDED = {"guidance": 1.0, "guidance_interval": [0.0, None]}


def _used(chosen: "Plan") -> dict[str, Any]:
    """What the plan came to."""
    from scorefield.samplers import BurnIn

    return {
        "settings": {name: value for name, value in chosen.settings.items() if value != math.inf},
        "burn_in_updates": chosen.sampler.updates if isinstance(chosen.sampler, BurnIn) else 0,
        "schedule": chosen.schedule,
        "sigma_max": float(chosen.sigmas.max()),
        "sigma_min": float(chosen.sigmas[chosen.sigmas > 0].min()),
        "levels": int((chosen.sigmas > 0).sum()),
        "max_mismatch": chosen.max_mismatch,
        "evaluations": chosen.evaluations,
    }


def _told(results: dict[str, Any], chosen: "Plan") -> dict[str, Any]:
    """The results as people read them: settings in a row, and only what is not as usual."""
    settings = ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in results["settings"].items()
    )
    span = f"{chosen.schedule}, σ {results['sigma_max']:.4g} to {results['sigma_min']:.4g}"
    ends_at_0 = ", then 0" if float(chosen.sigmas[-1]) == 0 else ""
    told = results | {"settings": settings, "schedule": span + ends_at_0}
    left_out = {"sigma_max", "sigma_min", "max_mismatch"}
    left_out |= {name for name in ("burn_in_updates", "clamp", "settings", "classes") if not told[name]}
    left_out |= {name for name, usual in _UNGUIDED.items() if told[name] == usual}
    return {name: value for name, value in told.items() if name not in left_out}


def _settings(texts: list[str], flags: "dict[str, Setting | None]") -> "dict[str, Setting]":
    """Settings by name, from `--set name=value` and, over them, from the flags that were given."""
    found: dict[str, Setting] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not (sign and name.strip() and value.strip()):
            raise UserError(f"--set {text}", "not of the form name=value.", "For example: --set eta=0.5.")
        found[name.strip()] = _value(value.strip())
    return found | {name: value for name, value in flags.items() if value is not None}


def _value(text: str) -> "Setting":
    """A switch, a number, or else a word."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _schedule(text: str | None) -> "tuple[str | None, Tensor | None]":
    """A schedule's name, or the schedule that a list of numbers is."""
    if text is None or re.match(r"[A-Za-z]", text.strip()):
        return (None if text is None else text.strip()), None
    from scorefield.schedules import parse_schedule

    return None, parse_schedule(text)


def _image(path: Path, model: "ScoreModel") -> "Tensor":
    """An image in the model's channels and value range, (1, C, H, W)."""
    from scorefield.data.image import read_image, to_float, to_tensor

    pixels, channels = to_tensor(read_image(path)), model.shape[0]
    if len(model.shape) == 1:
        raise UserError("--from", "this model draws points, not images.")
    if len(pixels) == 1:
        pixels = pixels.expand(channels, -1, -1)
    elif channels == 1 and bool((pixels == pixels[:1]).all()):
        pixels = pixels[:1]
    if len(pixels) != channels:
        raise UserError(
            path,
            f"the image has {len(pixels)} channels, the model draws {channels}.",
            "Choose a model for color, or make the image grey first.",
        )
    return to_float(pixels, model.value_range)[None]


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    sides = re.fullmatch(r"([1-9][0-9]{0,4})(?:[xX×]([1-9][0-9]{0,4}))?", text.strip())
    if not sides:
        raise UserError("--size", f"{text!r} is no size.", "Write 32 or 32x48 (height x width).")
    return int(sides[1]), int(sides[2] or sides[1])
