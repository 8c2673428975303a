"""Between images: what lies on the way from one to another among the latents of the probability-flow ODE.

Song et al. (2021), App. D.3, and DDIM, §5.3: two images are led up to where all is noise, mixed there along
an arc, and led down again. The ends of each row come back as they were; between them lie images of the
model's own. Mixed pixel by pixel instead, two images show through each other.

The table holds for every step how far the image is from either end and from the pixelwise mixture, root
mean square over pixels in [0, 1]; for the ends this is the error of the round trip.

References:
    Song et al. (2021). https://arxiv.org/abs/2011.13456
    Song et al. (2021), DDIM. https://arxiv.org/abs/2010.02502
"""

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Generator, Tensor

from scorefield.data.image import to_float, to_uint8
from scorefield.data.image_set import ImageSet
from scorefield.errors import UserError
from scorefield.figures.drawing import Made, Show, claim, silent, tiles, write_csv
from scorefield.model import ScoreModel
from scorefield.samplers.adaptive_ode import RungeKutta, torchdiffeq
from scorefield.samplers.inversion import interpolation as between

FILES = ("interpolation.png", "interpolation.csv")


@dataclass(frozen=True, kw_only=True)
class Interpolation:
    """What is shown.

    Args:
        pairs: of images, a row each, spread over the set.
        parts: of the way from one to the other.
        rtol: see `samplers.RungeKutta`; also its atol.
    """

    pairs: int = 6
    parts: int = 8
    rtol: float = 1e-5


def interpolation(
    model: ScoreModel,
    held_out: ImageSet,
    out: Path,
    settings: Interpolation | None = None,
    *,
    seed: int = 0,
    overwrite: bool = False,
    show: Show = silent,
) -> Made:
    """Write interpolation.png and interpolation.csv into `out`.

    Args:
        model: of such images.
        held_out: where the pairs are taken from.
        out: a folder.
        settings: what is shown.
        seed: of the choice of pairs, and of the noise that images are encoded with.
        overwrite: replace what is there.
        show: told how far it is.

    Raises:
        UserError: the files are there already, fewer images than two a pair, no pair, no part, or
            torchdiffeq or matplotlib is missing.
    """
    settings = settings or Interpolation()
    check(held_out, settings)
    image, table = claim(out, *FILES, overwrite=overwrite)
    order = torch.randperm(len(held_out), generator=Generator().manual_seed(seed))
    chosen = order[: 2 * settings.pairs].reshape(2, -1)
    a, b = (to_float(held_out.images[which], model.value_range).to(model.device) for which in chosen)
    made = between(
        model,
        a,
        b,
        settings.parts,
        generator=Generator(model.device).manual_seed(seed),
        solver=RungeKutta(rtol=settings.rtol, atol=settings.rtol),
        progress=lambda done, total: show(done / total, f"{done} of {total}"),
    )
    low, high = model.value_range
    made_u, a_u, b_u = ((x.cpu() - low) / (high - low) for x in (made, a, b))
    rows = _rows(made_u, a_u, b_u, chosen)
    write_csv(table, rows)
    shown = [a, *made, b]
    pixels = torch.stack([to_uint8(x, model.value_range).cpu() for x in shown], 1)
    names = ["image", "encoded,\ndecoded", *[""] * (settings.parts - 1), "encoded,\ndecoded", "image"]
    tiles(pixels, image, columns=names, apart=(1, len(shown) - 1))
    return Made(files=(image, table), numbers=_numbers(rows, settings.parts))


def check(held_out: ImageSet, settings: Interpolation) -> None:
    """See that the settings can be met, before any work.

    Raises:
        UserError: too few images, no pair, no part, or torchdiffeq is missing.
    """
    torchdiffeq()
    if not 1 <= settings.pairs <= len(held_out) // 2:
        raise UserError("pairs", f"{settings.pairs} pairs of {len(held_out)} images.", "Ask for others.")
    if settings.parts < 1:
        raise UserError("parts", f"need at least one, got {settings.parts}.")


def _rows(made: Tensor, a: Tensor, b: Tensor, chosen: Tensor) -> list[dict[str, object]]:
    """How far each image is from the ends and from their mixture; pixels in [0, 1]."""
    parts, rows = len(made) - 1, list[dict[str, object]]()
    for pair in range(len(a)):
        for k in range(parts + 1):
            x, mixed = made[k, pair], (1 - k / parts) * a[pair] + k / parts * b[pair]
            rows.append(
                {
                    "first": int(chosen[0, pair]),
                    "last": int(chosen[1, pair]),
                    "share": k / parts,
                    "rms_from_first": _rms(x - a[pair]),
                    "rms_from_last": _rms(x - b[pair]),
                    "rms_from_mixture": _rms(x - mixed),
                }
            )
    return rows


def _rms(difference: Tensor) -> float:
    return float(difference.square().mean().sqrt())


def _numbers(rows: list[dict[str, object]], parts: int) -> dict[str, str]:
    ends = [cast(float, row["rms_from_mixture"]) for row in rows if row["share"] in (0.0, 1.0)]
    numbers = {"round trip": f"rms error of an image {max(ends):.4f} at most, pixels in [0, 1]"}
    if parts > 1:
        inner = [cast(float, row["rms_from_mixture"]) for row in rows if row["share"] not in (0.0, 1.0)]
        numbers["between"] = f"rms difference from the pixelwise mixture {sum(inner) / len(inner):.3f}"
    return numbers
