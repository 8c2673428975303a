"""Between images: interpolation among the latents of the probability-flow ODE.

Song et al. (2021), App. D.3, and DDIM, §5.3: two images are encoded to noise, interpolated there along an arc, and
decoded. The ends of each row reproduce the images; between them lie samples of the model. A pixelwise mixture of two
images shows both at once.

The table holds for every step the root mean square difference of the image to either end and to the pixelwise
mixture, over pixels in [0, 1]. For the ends this is the error of the round trip.

References:
    Song et al. (2021). https://arxiv.org/abs/2011.13456
    Song et al. (2021), DDIM. https://arxiv.org/abs/2010.02502
"""

from typing import Any

import torch
from torch import Generator, Tensor

from scorefield.data.image import to_float, to_uint8
from scorefield.figures.catalog import Interpolation
from scorefield.figures.drawing import tiles
from scorefield.figures.driver import Drawing, FigureInputs, check_count, mean_of
from scorefield.samplers.adaptive_ode import RungeKutta, torchdiffeq
from scorefield.samplers.inversion import interpolation as between

__all__ = ["check", "draw"]


def draw(options: Interpolation, inputs: FigureInputs) -> Drawing:
    """Rows of images from one to the other, with their distances."""
    model, images = inputs.model, inputs.held_out.images
    order = torch.randperm(len(images), generator=Generator().manual_seed(inputs.seed))
    chosen = order[: 2 * options.pairs].reshape(2, -1)
    a, b = (to_float(images[which], model.value_range).to(model.device) for which in chosen)
    made = between(
        model,
        a,
        b,
        options.parts,
        generator=Generator(model.device).manual_seed(inputs.seed),
        solver=RungeKutta(rtol=options.rtol, atol=options.rtol),
        progress=lambda done, total: inputs.progress(done / total, f"{done} of {total}"),
    )
    low, high = model.value_range
    a_u, b_u = ((x.cpu() - low) / (high - low) for x in (a, b))
    rows = _rows((made.cpu() - low) / (high - low), a_u, b_u, chosen)
    shown = [a, *made, b]
    pixels = torch.stack([to_uint8(x, model.value_range).cpu() for x in shown], 1)
    names = ["image", "encoded,\ndecoded", *[""] * (options.parts - 1), "encoded,\ndecoded", "image"]
    return Drawing(
        images=[tiles(pixels, columns=names, apart=(1, len(shown) - 1))],
        rows=rows,
        numbers=_numbers(rows),
    )


def check(options: Interpolation, inputs: FigureInputs) -> None:
    """Raise UserError where the options do not fit the inputs."""
    torchdiffeq()  # if missing, an error before any work
    check_count("pairs", options.pairs, len(inputs.held_out), each=2)


def _rows(made: Tensor, a: Tensor, b: Tensor, chosen: Tensor) -> list[dict[str, Any]]:
    """Root mean square differences to the ends and to their mixture, over pixels in [0, 1]."""

    def rms(difference: Tensor) -> float:
        return float(difference.square().mean().sqrt())

    parts = len(made) - 1
    return [
        {
            "first": int(chosen[0, pair]),
            "last": int(chosen[1, pair]),
            "share": k / parts,
            "rms_from_first": rms(made[k, pair] - a[pair]),
            "rms_from_last": rms(made[k, pair] - b[pair]),
            "rms_from_mixture": rms(made[k, pair] - ((1 - k / parts) * a[pair] + k / parts * b[pair])),
        }
        for pair in range(len(a))
        for k in range(parts + 1)
    ]


def _numbers(rows: list[dict[str, Any]]) -> dict[str, str]:
    ends = [row["rms_from_mixture"] for row in rows if row["share"] in (0.0, 1.0)]
    numbers = {"round trip": f"rms error of an image {max(ends):.4f} at most, pixels in [0, 1]"}
    if inner := [row for row in rows if row["share"] not in (0.0, 1.0)]:
        numbers["between"] = f"rms difference from the pixelwise mixture {mean_of(inner, 'rms_from_mixture'):.3f}"
    return numbers
