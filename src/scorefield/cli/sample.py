"""scorefield sample."""

import math
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from scorefield.cli.class_options import Classes, GuidanceInterval, GuidanceWeight, chosen_classes, guidance_interval
from scorefield.cli.console import note, progress, require_free, table, write_json
from scorefield.cli.manifest import digest
from scorefield.cli.options import Device, Json, ModelName, Overwrite, Sampler, Seed, Steps, with_options
from scorefield.cli.samples import BATCH, SampleWriter, begun
from scorefield.errors import UserError
from scorefield.sampler_names import SAMPLER_SUMMARIES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from scorefield.figures.trace import Trace
    from scorefield.model import ScoreModel
    from scorefield.samplers import Plan, Setting, Step


Out = Annotated[
    Path,
    typer.Option("--out", help="A .png (a grid), .npz, .npy or a folder of 00000.png … (all are replaced)."),
]
Schedule = Annotated[
    str | None,
    typer.Option(
        "--schedule",
        help="Noise levels: karras, own (the model's noise levels), another name, or a list: 80,20,5,1,0.1,0.",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="A setting of the sampler, e.g. eta=0.5 or churn=10; may come again."),
]
StepsEach = Annotated[int | None, typer.Option("--steps-each", help="Langevin samplers: updates on each noise level.")]
StepSize = Annotated[
    float | None, typer.Option("--step-size", help="Langevin samplers: epsilon, the step on the last noise level.")
]
Convention = Annotated[
    str | None,
    typer.Option(
        "--convention", help="How step sizes are meant: paper, x + e/2 s + sqrt(e) z, or code, x + e s + sqrt(2e) z."
    ),
]
Denoise = Annotated[
    bool | None, typer.Option("--denoise/--no-denoise", help="annealed-langevin: end with the denoised image, or not.")
]
StartName = Annotated[
    str, typer.Option("--start", help="gaussian noise, or uniform over the value range, as NCSN's program.")
]
From = Annotated[
    Path | None, typer.Option("--from", help="Begin with this image made noisy, and vary it; needs --sigma.")
]
Sigma = Annotated[
    float | None, typer.Option("--sigma", help="The noise that --from is given: more is freer. Try 0.5 to 5.")
]
Clamp = Annotated[bool, typer.Option("--clamp", help="Keep what the model sees in the noise within the value range.")]
ImageSize = Annotated[
    str | None, typer.Option("--size", help="Height x width, e.g. 32x48; by default the model's own.")
]
TraceFlag = Annotated[bool, typer.Option("--trace", help="Also write the way from noise to images: OUT-trace.gif.")]


@dataclass(frozen=True, kw_only=True)
class SampleOptions:
    """What `scorefield sample` takes; see the options above."""

    model: ModelName
    out: Out
    n: Annotated[int, typer.Option("-n", help="How many images.")] = 64
    sampler: Sampler = "heun"
    steps: Steps = None
    schedule: Schedule = None
    settings: Settings = None
    steps_each: StepsEach = None
    step_size: StepSize = None
    convention: Convention = None
    denoise: Denoise = None
    start: StartName = "gaussian"
    init: From = None
    sigma: Sigma = None
    clamp: Clamp = False
    classes: Classes = None
    guidance: GuidanceWeight = 1.0
    interval: GuidanceInterval = None
    seed: Seed = 0
    size: ImageSize = None
    trace: TraceFlag = False
    overwrite: Overwrite = False
    json: Json = None
    device: Device = "auto"

    @property
    def film(self) -> Path:
        """The file of the trace."""
        return self.out.with_name(f"{self.out.stem}-trace.gif")


@with_options
def sample(options: SampleOptions) -> None:
    """Draw images from a model.

    Example: scorefield sample fashion -n 64 --out samples.png --trace

    In nine evaluations: scorefield sample fashion --sampler dpm++-2m --steps 9 --out s.png

    Variations: scorefield sample fashion --from shirt.png --sigma 1 -n 16 --out s.png

    Of classes: scorefield sample RUN --class sandal,bag --guidance 2 --out s.png

    With NCSN's own numbers: scorefield sample RUN --sampler annealed-langevin --start uniform --out s.png
    """
    import scorefield as sf
    from scorefield.figures.trace import Trace

    _check(options)
    settings, schedule, size = _settings(options), _schedule(options.schedule), _size(options.size)
    model = sf.load(options.model, device=options.device)
    model = model if size is None else model.with_size(*size)
    chosen = _plan(options, model, settings, schedule)
    recorder = Trace(model.value_range) if options.trace else None
    started = time.perf_counter()
    facts = _draw(options, model, chosen, recorder)
    seconds = time.perf_counter() - started
    if recorder is not None:
        recorder.save(options.film)
    results = facts | {"seconds": round(seconds, 2), "images_per_second": round(options.n / seconds, 2)}
    table(_shown(results, chosen) | ({"trace": str(options.film)} if options.trace else {}))
    if chosen.max_mismatch > 1.01 and (levels := model.schedule) is not None:
        note(
            f"Noise levels are up to {chosen.max_mismatch:.3g} times off the nearest of the model's "
            f"{len(levels)} noise levels; --schedule own stays on them."
        )
    write_json(options.json, results)


sample.__doc__ = "\n".join(  # where the help has its whole width
    [
        sample.__doc__ or "",
        "    Samplers:",
        *(f"    {name:<{max(map(len, SAMPLER_SUMMARIES))}}  {words}" for name, words in SAMPLER_SUMMARIES.items()),
    ]
)


def _check(options: SampleOptions) -> None:
    """Check, before torch loads, that the options go together and the files can be written."""
    from scorefield.data.encode import FORMATS

    out, known = options.out, [*FORMATS, ".npz", ".npy"]
    if out.suffix and out.suffix.lower() not in known and not out.is_dir():
        raise UserError(out, f"cannot write `{out.suffix}`.", f"Use a folder's name, or one of {', '.join(known)}.")
    film = options.film if options.trace else None
    require_free(None if begun(out) else out, film, options.json, overwrite=options.overwrite)
    if (options.init is None) != (options.sigma is None):
        raise UserError("--from", "an image to begin with and --sigma, its noise level, go together.")


def _plan(
    options: SampleOptions,
    model: "ScoreModel",
    settings: "dict[str, Setting]",
    schedule: "tuple[str | None, Tensor | None]",
) -> "Plan":
    """The sampler with its schedule."""
    from scorefield.samplers import plan

    return plan(
        model,
        options.sampler,
        options.steps,
        sigmas=schedule[1],
        schedule=schedule[0],
        settings=settings,
        init_sigma=options.sigma,
        clamp=options.clamp,
    )


def _draw(options: SampleOptions, model: "ScoreModel", chosen: "Plan", recorder: "Trace | None") -> dict[str, Any]:
    """Draw the images and write them, batch by batch; how they were drawn."""
    from scorefield.data.image import to_uint8
    from scorefield.guidance import Guidance
    from scorefield.samplers import Start, WarmStart, sample_batches

    classes = chosen_classes(options.classes, options.model, model.classes)
    interval = guidance_interval(options.interval)
    start = cast(Start, options.start)
    if options.init is not None and options.sigma is not None:
        start = WarmStart(images=_image(options.init, model, sized=options.size is not None), sigma=options.sigma)
    request = _request(options, chosen)
    writer = SampleWriter(out=options.out, n=options.n, request=request, overwrite=options.overwrite)
    with progress("Sampling") as show:

        def track(done: int, total: int, step: "Step") -> None:
            show(min(1.0, done / total), f"σ {step.sigma:.3g}")
            if recorder is not None:
                recorder.add(step)

        def batches(first: int) -> "Iterator[Tensor]":
            drawn = sample_batches(
                model,
                options.n,
                sampler=chosen,
                start=start,
                classes=classes,
                guidance=Guidance(weight=options.guidance, interval=interval),
                seed=options.seed,
                batch=BATCH,
                first=first,
                progress=track,
            )
            return (to_uint8(images, model.value_range).cpu() for images in drawn)

        writer.write(batches)
        if recorder is not None and recorder.empty:  # all was drawn before this command
            next(batches(0))
    begin = {"start": options.start} if options.init is None else {"from": str(options.init), "sigma": options.sigma}
    return {
        "out": str(options.out),
        "n": options.n,
        "sampler": options.sampler,
        **_used(chosen),
        **begin,
        "clamp": options.clamp,
        "classes": classes,
        "guidance": options.guidance,
        "guidance_interval": [end if end < math.inf else None for end in interval],
        "seed": options.seed,
    }


def _request(options: SampleOptions, chosen: "Plan") -> dict[str, Any]:
    """All that the samples depend on: the same command goes on where it was stopped."""
    from scorefield.hub import find, is_pipeline

    kept = ("model", "n", "sampler", "start", "sigma", "clamp", "classes", "guidance", "interval", "size", "seed")
    return {name: getattr(options, name) for name in kept} | {
        "sigmas": chosen.sigmas.tolist(),
        "settings": chosen.settings,
        "from": None if options.init is None else digest(options.init),
        "weights": "" if is_pipeline(options.model) else digest(find(options.model)),
    }


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


def _shown(results: dict[str, Any], chosen: "Plan") -> dict[str, Any]:
    """The results as people read them: settings in a row, and only what is not as usual."""
    settings = ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in results["settings"].items()
    )
    span = f"{chosen.schedule}, σ {results['sigma_max']:.4g} to {results['sigma_min']:.4g}"
    ends_at_0 = ", then 0" if float(chosen.sigmas[-1]) == 0 else ""
    shown = results | {"settings": settings, "schedule": span + ends_at_0}
    left_out = {"sigma_max", "sigma_min", "max_mismatch"}
    left_out |= {name for name in ("burn_in_updates", "clamp", "settings", "classes") if not shown[name]}
    left_out |= {name for name, usual in _UNGUIDED.items() if shown[name] == usual}
    return {name: value for name, value in shown.items() if name not in left_out}


def _settings(options: SampleOptions) -> "dict[str, Setting]":
    """Settings by name, from `--set name=value` and, over them, from the flags that were given."""
    found: dict[str, Setting] = {}
    for text in options.settings or []:
        name, sign, value = text.partition("=")
        if not (sign and name.strip() and value.strip()):
            raise UserError(f"--set {text}", "not of the form name=value.", "For example: --set eta=0.5.")
        found[name.strip()] = _value(value.strip())
    flags = {name: getattr(options, name) for name in ("steps_each", "step_size", "convention", "denoise")}
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


def _image(path: Path, model: "ScoreModel", *, sized: bool) -> "Tensor":
    """An image in the model's channels and value range, (1, C, H, W), and of its size if `sized`."""
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
    if sized and pixels.shape != model.shape:
        theirs, ours = ("×".join(map(str, shape)) for shape in (pixels.shape[1:], model.shape[1:]))
        raise UserError(path, f"is {theirs}, --size asks for {ours}.", "Leave --size out.")
    return to_float(pixels, model.value_range)[None]


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    sides = re.fullmatch(r"([1-9][0-9]{0,4})(?:[xX×]([1-9][0-9]{0,4}))?", text.strip())
    if not sides:
        raise UserError("--size", f"{text!r} is no size.", "Write 32 or 32x48 (height x width).")
    return int(sides[1]), int(sides[2] or sides[1])
