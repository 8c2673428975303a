"""The tour: train a score network, draw with it, restore with it, and explain the images on one page."""

import base64
import html
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template

import torch
from PIL import Image

from scorefield.data.datasets import held_out, open_images
from scorefield.data.grids import grid, save_image
from scorefield.data.image import to_uint8
from scorefield.errors import printable
from scorefield.figures.plots import loss_curve, matplotlib
from scorefield.figures.trace import Trace
from scorefield.files import refuse_existing, write_atomic
from scorefield.model import ScoreModel
from scorefield.restoration import DEFAULT_METHOD, Inpaint, Restoration, resolve_method, restore
from scorefield.samplers import plan, sample
from scorefield.training import Progress, Trainer, read_recipe

Show = Callable[[str, float, str], None]
"""Receives the part of the tour, the share of it that is done, and a few words."""

_MASKS = ("center", "bottom", "right", "top")


@dataclass(frozen=True, kw_only=True)
class Tour:
    """What the tour made.

    Args:
        page: index.html, with all images inside.
        images: seen in training.
        train_seconds: of training.
        sample_seconds: for the 64 samples.
        seconds: of the whole tour.
    """

    page: Path
    images: int
    train_seconds: float
    sample_seconds: float
    seconds: float


def demo(out: Path, *, data: str = "fashion", train_seconds: float = 110, seed: int = 0, show: Show) -> Tour:
    """Train on `data`, sample 64 images, restore 8 with four candidates each, and write it all into `out`.

    Args:
        out: a free folder.
        data: what `open_images` takes.
        train_seconds: of training.
        seed: of everything.
        show: receives the progress.

    Raises:
        UserError: `out` is taken, the data cannot be read, or matplotlib is missing.
    """
    begun = time.perf_counter()
    matplotlib()
    refuse_existing(out, mend="Choose another folder with --out, or remove it.")
    recipe = read_recipe("demo", [f"data.source={json.dumps(data)}", f"training.seed={seed}"])
    images = open_images(data, size=recipe.data.size, channels=recipe.data.channels)

    def training(now: Progress) -> None:
        show("Training", now.share, f"{now.step * recipe.optimizer.batch:,} images seen, loss {now.loss:.3f}")

    trainer = Trainer(recipe, out=out / "run", data=images, stop_after=train_seconds, report=training)
    model = trainer.fit()
    loss_curve(out / "run" / "log.csv", out / "loss.png")

    trace, start = Trace(model.value_range), time.perf_counter()
    drawn = sample(
        model,
        64,
        seed=seed,
        progress=lambda done, total, step: (
            trace.add(step),
            show("Sampling", done / total, f"σ {step.sigma:.3g}"),
        )[1],
    )
    sample_seconds = time.perf_counter() - start
    save_image(grid(to_uint8(drawn, model.value_range).cpu(), columns=16), out / "samples.png")
    trace.save(out / "trace.gif")

    channels, height, width = images.shape
    unseen = open_images(data, size=(height, width), channels=channels, split=held_out(data))
    every = len(unseen) // 8  # one further each time: classes may take turns
    restored: list[Restoration] = []
    for k in range(min(8, len(unseen))):
        show("Restoring", k / 8, f"image {k + 1} of 8")
        mask = _MASKS[k % len(_MASKS)]
        restored.append(
            restore(
                model,
                unseen.images[k * (every + 1) % len(unseen)],
                Inpaint(mask=mask),
                candidates=4,
                seed=seed + k,
            )
        )
    save_image(_stack([one.sheet() for one in restored]), out / "inpainting.png")
    save_image(_row([one.degraded for one in restored]), out / "degraded.png")
    save_image(_row([one.images[0] for one in restored]), out / "restored.png")

    tour = Tour(
        page=out / "index.html",
        images=trainer.step * recipe.optimizer.batch,
        train_seconds=trainer.seconds,
        sample_seconds=sample_seconds,
        seconds=time.perf_counter() - begun,
    )
    write_atomic(tour.page, _page(out, model, tour, images.name, len(images)))
    show("Done", 1.0, "")
    return tour


def _page(out: Path, model: ScoreModel, tour: Tour, data: str, count: int) -> str:
    template = files("scorefield").joinpath("assets", "demo.html").read_text(encoding="utf-8")
    grids = sorted((out / "run" / "samples").glob("*.png"))
    early = grids[0] if grids else out / "samples.png"
    words = {
        "data": html.escape(printable(data)),
        "count": f"{count:,}",
        "parameters": f"{sum(p.numel() for p in model.parameters()):,}",
        "seen": f"{tour.images:,}",
        "train_seconds": f"{tour.train_seconds:.0f}",
        "rate": f"{64 / tour.sample_seconds:.0f}",
        "evaluations": str(plan(model).evaluations),
        "inpaint_evaluations": str(resolve_method(model, DEFAULT_METHOD).plan.evaluations),
        "threads": str(torch.get_num_threads()),
        "early_step": early.stem.lstrip("0") or "0",
        "run": html.escape(printable(out / "run")),
    }
    images = {
        "samples": out / "samples.png",
        "trace": out / "trace.gif",
        "loss": out / "loss.png",
        "inpainting": out / "inpainting.png",
        "degraded": out / "degraded.png",
        "restored": out / "restored.png",
        "early": early,
    }
    return Template(template).substitute(words, **{name: _inline(path) for name, path in images.items()})


def _inline(path: Path) -> str:
    kind = {".png": "image/png", ".gif": "image/gif"}[path.suffix]
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _stack(sheets: list[Image.Image]) -> Image.Image:
    whole = Image.new(sheets[0].mode, (sheets[0].width, sum(s.height for s in sheets)), "white")
    for k, sheet in enumerate(sheets):
        whole.paste(sheet, (0, sum(s.height for s in sheets[:k])))
    return whole


def _row(images: list[Image.Image]) -> Image.Image:
    scale = max(1, 84 // images[0].width)
    large = [p.resize((p.width * scale, p.height * scale), Image.Resampling.NEAREST) for p in images]
    whole = Image.new(large[0].mode, (sum(p.width + 4 for p in large) - 4, large[0].height), "white")
    for k, image in enumerate(large):
        whole.paste(image, (k * (image.width + 4), 0))
    return whole
