"""From a task to what an image went through.

| task | what comes in | what it went through |
| --- | --- | --- |
| `inpaint` | an image with a mask | `Mask` |
| `colorize` | a grey image; color is taken off first | `Grey` |
| `uncrop` | an image, and how much is to be drawn at which sides | `Crop` |
| `dejpeg` | a JPEG file, whose tables tell how it was made | `JPEG` |
| `upscale` | a small image | `Downscale` |
| `deblur` | a blurred image | `Blur` |
| `denoise` | a noisy image | noise alone |
| `descratch` | a print with scratches and dust, not told where | only a trained model knows |
| `paired` | an image like those before which a model was trained | only such a model knows |
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image, JpegImagePlugin
from torch import Tensor

from scorefield.degradations import (
    DegradationSpec,
    Mask,
    crop_margins,
    fixed_degradation,
    named_mask,
    parse_degradation,
    read_jpeg,
)
from scorefield.degradations.jpeg import standard_tables
from scorefield.errors import UserError, did_you_mean
from scorefield.model import ScoreModel

ImageInput = str | Path | Image.Image | Tensor
Size = tuple[int, int]  # (H, W)

SIDES = ("top", "right", "bottom", "left")
"""In the order of `crop_margins`."""

FINE = 95
"""A JPEG file of this quality or a higher one has nothing to restore."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a task may be told; each belongs to one task. See `restore`."""

    mask: str | Path | Tensor = "center"
    invert: bool = False
    sides: Sequence[str] = ("left", "right")
    amount: float = 0.5
    quality: int | None = None
    factor: int | None = None
    std: float = 1.0
    noise: float = 0.0
    seed: int = 0


Seen = Literal["itself", "around a hole", "by the operator"]
"""What a model that restores is shown: the image as it came in, the same with a hole to fill, or what the
operator says."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task by name.

    Args:
        degradation: what the image went through, from the request, the image, its size (H, W) and the model.
        strips: whether a clean image may come in too, and is degraded first.
        seen: what a model that was trained to restore is shown. Shown the image itself, it finds out alone
            what happened, and `degradation` is asked only to simulate.
        afar: whether the whole image must be in view: what is answered here hangs on what lies far off.
    """

    degradation: Callable[[Request, ImageInput, Size, ScoreModel], DegradationSpec]
    strips: bool = False
    seen: Seen = "itself"
    afar: bool = False


def _inpaint(request: Request, image: ImageInput, size: Size, model: ScoreModel) -> DegradationSpec:
    if not isinstance(request.mask, Tensor):
        file = None if isinstance(image, Tensor) else image
        return fixed_degradation("mask", named_mask(request.mask, size, invert=request.invert, image=file))
    return fixed_degradation("mask", _mask(request.mask, size, invert=request.invert))


def _mask(mask: Tensor, size: Size, *, invert: bool) -> Mask:
    if tuple(mask.shape[-2:]) != size or mask.numel() != size[0] * size[1]:
        raise UserError("mask", f"shape {tuple(mask.shape)} does not fit an image of {size}.")
    fill = (mask.reshape(1, 1, *size) > 0.5).float()
    if bool((fill == fill[..., :1, :1]).all()):
        state = "white: nothing would be kept" if bool(fill[0, 0, 0, 0]) else "black: nothing to fill"
        raise UserError("mask", f"all {state}.", "1 = fill.")
    return Mask(fill=1 - fill if invert else fill)


def _colorize(request: Request, image: ImageInput, size: Size, model: ScoreModel) -> DegradationSpec:
    if model.shape[0] != 3:
        raise UserError("model", "draws grey images.", "To colorize takes a model for color.")
    return parse_degradation("grey")


def _uncrop(request: Request, image: ImageInput, size: Size, model: ScoreModel) -> DegradationSpec:
    unknown = [side for side in request.sides if side not in SIDES]
    if unknown or not request.sides:
        named = f"no such side {unknown[0]!r}." if unknown else "none is named."
        raise UserError("sides", named, f"Known: {', '.join(SIDES)}.")
    if not 0 < request.amount <= 10:
        raise UserError("amount", f"need more than 0 and at most 10 of a side, got {request.amount:g}.")
    grown = {side: size[0] if side in ("top", "bottom") else size[1] for side in SIDES}
    top, right, bottom, left = (
        max(1, round(request.amount * grown[side])) if side in request.sides else 0 for side in SIDES
    )
    return crop_margins((top, right, bottom, left), "uncrop")


def _dejpeg(request: Request, image: ImageInput, size: Size, model: ScoreModel) -> DegradationSpec:
    if request.quality is not None:
        return parse_degradation(f"jpeg:{request.quality}")
    if not isinstance(image, str | Path):
        raise UserError("quality", "only a file tells how it was made.", "Give the quality.")
    jpeg = read_jpeg(image, model.value_range)
    return fixed_degradation("jpeg", jpeg)


def _upscale(request: Request, image: ImageInput, size: Size, model: ScoreModel) -> DegradationSpec:
    factor = request.factor
    if factor is None:
        factor, rest = divmod(model.shape[-2], size[0])
        if rest or factor < 2 or model.shape[-1] != factor * size[1]:
            raise UserError(
                "factor",
                f"{size[0]}×{size[1]} grows to the model's {model.shape[-2]}×{model.shape[-1]} by no factor.",
                "Say which, e.g. 2.",
            )
    if factor < 2:
        raise UserError("factor", f"need 2 or more, got {factor}.")
    return parse_degradation(f"downscale:{factor}")


def _deblur(request: Request, image: ImageInput, size: Size, model: ScoreModel) -> DegradationSpec:
    return parse_degradation(f"blur:{request.std}")


def _denoise(request: Request, image: ImageInput, size: Size, model: ScoreModel) -> DegradationSpec:
    if request.noise <= 0:
        raise UserError("noise", "how noisy it is must be told.", "Say it in steps of 8 bits, e.g. 25.")
    return parse_degradation(f"noise:{request.noise}")


def _descratch(request: Request, image: ImageInput, size: Size, model: ScoreModel) -> DegradationSpec:
    if not model.spec.tasks:
        raise _only_trained("descratch")
    return parse_degradation(f"scratches:{request.seed}")


def _paired(request: Request, image: ImageInput, size: Size, model: ScoreModel) -> DegradationSpec:
    raise _only_trained("paired")


def _only_trained(task: str) -> UserError:
    mend = "Only a model that was trained on it knows."
    return UserError("task", f"what {task} is about cannot be told.", mend)


TASKS: dict[str, Task] = {
    "inpaint": Task(degradation=_inpaint, seen="around a hole"),
    "colorize": Task(degradation=_colorize, strips=True, afar=True),
    "uncrop": Task(degradation=_uncrop, seen="around a hole"),
    "dejpeg": Task(degradation=_dejpeg),
    "upscale": Task(degradation=_upscale, seen="by the operator"),
    "deblur": Task(degradation=_deblur),
    "denoise": Task(degradation=_denoise),
    "descratch": Task(degradation=_descratch),
    "paired": Task(degradation=_paired),
}


def task_named(name: str) -> Task:
    """The task of that name.

    Raises:
        UserError: there is none.
    """
    if name not in TASKS:
        raise UserError("task", f"no such task {name!r}.", did_you_mean(name, TASKS))
    return TASKS[name]


_OF_DEGRADATION = {
    "grey": "colorize",
    "downscale": "upscale",
    "blur": "deblur",
    "jpeg": "dejpeg",
    "noise": "denoise",
    "scratches": "descratch",
    "mask": "inpaint",
    "crop": "uncrop",
}


def tasks_named(degradation: Sequence[str]) -> list[str]:
    """The tasks that a model must know for degradation by name."""
    return [_OF_DEGRADATION[text.strip().partition(":")[0]] for text in degradation]


def jpeg_quality(path: str | Path) -> int | None:
    """The quality, 1 to 100, whose standard tables are nearest to a JPEG file's; None of any other file."""
    try:
        with Image.open(path) as image:
            if not isinstance(image, JpegImagePlugin.JpegImageFile):
                return None
            tables = dict(image.quantization)
    except (OSError, SyntaxError, Image.DecompressionBombError):
        return None
    if not tables:
        return None
    luma = tables[min(tables)]

    def apart(quality: int) -> int:
        return sum(abs(a - b) for a, b in zip(standard_tables(quality)[0], luma, strict=True))

    return min(range(1, 101), key=apart)


def check_worth(image: ImageInput, request: Request, model: ScoreModel) -> None:
    """See that a JPEG file has lost something that the model can give back, unless its quality is told.

    Raises:
        UserError: it is as good as the image that it was made of, or better than those that the model
            learned to restore, which then would take away more than it gives.
    """
    if request.quality is not None or not isinstance(image, str | Path):
        return
    quality = jpeg_quality(image)
    if quality is None:
        return
    mend = "Give the quality to restore it all the same."
    if quality >= FINE:
        raise UserError(image, f"nothing to restore: saved at quality {quality}.", mend)
    highest = None if model.spec.restoration is None else model.spec.restoration.max_jpeg_quality
    if highest is not None and quality > highest:
        known = f"saved at quality {quality}; this model helps up to {highest}"
        raise UserError(image, f"nothing to restore: {known}.", mend)
