"""What a photograph has suffered, estimated from its pixels: noise, blur, JPEG compression, lost color.

**Noise.** The diagonal detail of the Haar wavelet, d = (a − b − c + e)/2 of each 2 × 2 pixels, is of the noise's own
standard deviation and nearly blind to smooth structure (Donoho & Johnstone 1994; Immerkær 1996 uses a similar mask).
Texture adds to it, so σ is taken from the flattest quarter of blocks of 8 × 8 details. White noise is as strong in
horizontal and vertical detail; texture, whose spectrum falls, is stronger there, and is not taken for noise.

**Blur.** A step edge blurred by a Gaussian of std s has the gradient 1/√(2π(s² + s0²)) once it is blurred again by s0.
The ratio of the gradients before and after, R = √((s² + s0²)/s²), gives s = s0/√(R² − 1) (Zhuo & Sim 2011). Each
strong edge votes; an image is as sharp as the sharpest tenth of its edges, the rest may be out of focus by intent.
Edges side by side, as in texture, look sharper than they are: the number tells sharp from blurred, but is too low.

**JPEG.** The decoder leaves cosine coefficients c_k at multiples of the table's steps q_k, blurred by the rounding of
pixels. With e = mean cos(2π c_k/q_k) over coefficients beyond q_k/2, e is near 1 for the quality that was used and
about 0 or negative for others (Fan & de Queiroz 2003, §III, who maximise the same periodicity as a likelihood).

References:
    Donoho & Johnstone (1994), Ideal spatial adaptation by wavelet shrinkage, §4. https://doi.org/10.1093/biomet/81.3.425
    Immerkær (1996), Fast noise variance estimation. https://doi.org/10.1006/cviu.1996.0060
    Zhuo & Sim (2011), Defocus map estimation from a single image, §3. https://doi.org/10.1016/j.patcog.2011.03.009
    Fan & de Queiroz (2003), Identification of bitmap compression history. https://doi.org/10.1109/TIP.2002.807361
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scorefield.data.color import LUMA
from scorefield.data.image import Levels, in_8_bits
from scorefield.data.photo import Photo
from scorefield.degradations import nearest_quality
from scorefield.degradations.dct import cosines
from scorefield.degradations.jpeg import standard_tables
from scorefield.restoration.pixels import is_grey

__all__ = ["Inspection", "Proposal", "blur_std", "doubt", "former_quality", "inspect_photo", "noise_std", "proposals"]

Plane = NDArray[np.float32]

_SIDE = 1024  # pixels of a side that are looked at, from the middle, where the subject is


def _middle(levels: Levels) -> NDArray[np.float32]:
    """The middle of an image in steps of 8 bits, (h, w, C); its corner lies at a multiple of 8."""
    h, w = levels.shape[:2]
    top, left = max(0, (h - _SIDE) // 16 * 8), max(0, (w - _SIDE) // 16 * 8)
    return in_8_bits(levels[top : top + _SIDE, left : left + _SIDE]).astype(np.float32)


def _luma(pixels: NDArray[np.float32]) -> Plane:
    return pixels @ np.array(LUMA, np.float32) if pixels.shape[2] == 3 else pixels[..., 0]


def noise_std(levels: Levels) -> float:
    """The standard deviation of white noise, in steps of 8 bits; of color the root mean square of the channels.

    0 where the flattest parts hold texture rather than noise, which are told apart by their spectra, and for images
    below 32 × 32 pixels. Noise that JPEG compression or a camera's own filter has smoothed is not white, and not found.

    Args:
        levels: (H, W, C).
    """
    pixels = _middle(levels)
    if min(pixels.shape[:2]) < 4 * 8:
        return 0.0
    found = np.array([_details(pixels[..., c]) for c in range(pixels.shape[2])])
    diagonal, others = found.mean(0)
    return float(np.sqrt(diagonal / _FLATTEST_MEAN)) if others < _WHITE * diagonal else 0.0


_FLATTEST = 0.25  # of the blocks
_FLATTEST_MEAN = 0.870
"""The mean of the lower quarter of χ²/192 with 192 degrees of freedom: what choosing the flattest blocks does to pure
noise. Normal approximation: 1 − 1.271 √(2/192)."""
_WHITE = 1.5
"""The largest ratio of horizontal and vertical to diagonal detail that counts as noise. Of 60 photographs and their
halves none with more than 3 levels has less; with noise of 10, 25 and 50 levels 87, 100 and 100 % have."""


def _details(plane: Plane) -> tuple[float, float]:
    """Mean squares of the diagonal detail, and of the horizontal and vertical, over the flattest blocks."""
    h, w = (length // 16 * 16 for length in plane.shape)
    a, b, c, e = (plane[row:h:2, column:w:2] for row in (0, 1) for column in (0, 1))
    details = (a - b - c + e, a + b - c - e, a - b + c - e)
    squares = np.stack([_blocks(np.square(x / 2, dtype=np.float32)).mean(-1) for x in details])
    clipped = np.maximum.reduce([(x == 0) | (x == 255) for x in (a, b, c, e)]).astype(np.float32)
    clear = _blocks(clipped).mean(-1) < 0.1  # black and white cut the noise off
    if clear.sum() >= 8:
        squares = squares[:, clear]
    total = squares.sum(0)
    means = squares[:, total <= np.quantile(total, _FLATTEST)].mean(1)
    return float(means[0]), float(means[1] + means[2]) / 2


def _blocks(plane: Plane) -> Plane:
    """Blocks of 8 × 8, (n, 64)."""
    h, w = (length // 8 for length in plane.shape)
    return plane[: 8 * h, : 8 * w].reshape(h, 8, w, 8).transpose(0, 2, 1, 3).reshape(h * w, 64)


_AGAIN = 1.0  # s0, in pixels
_LEAST_STEP = 4.0  # of 255 a pixel: weaker edges drown in the rounding
_LEAST_EDGES = 50
_SHARPEST = 0.1  # of the edges


def blur_std(levels: Levels) -> float | None:
    """The standard deviation, in pixels, of the Gaussian blur of an image's sharpest edges.

    A step from one pixel to the next has 0.4. On texture it is up to half too low, and noise and the blocks of JPEG are
    sharp: with them a blur is not found.

    Args:
        levels: (H, W, C).

    Returns:
        None where there are too few edges to tell.
    """
    luma = torch.from_numpy(np.ascontiguousarray(_luma(_middle(levels))))
    if min(luma.shape) < 16:
        return None
    least = max(_LEAST_STEP, 4 * 2**0.5 * noise_std(levels))
    again = _blurred(_blurred(luma).T).T
    found = torch.cat([_edge_stds(x, y, least) for x, y in ((luma, again), (luma.T, again.T))])
    return None if len(found) < _LEAST_EDGES else float(found.quantile(_SHARPEST))


def _blurred(image: Tensor) -> Tensor:
    """Along the rows, by a Gaussian of s0."""
    weights = torch.exp(-(torch.arange(-4.0, 5.0) ** 2) / (2 * _AGAIN**2))
    padded = torch.nn.functional.pad(image[:, None], (4, 4), mode="reflect")
    return torch.nn.functional.conv1d(padded, (weights / weights.sum())[None, None])[:, 0]


def _edge_stds(image: Tensor, again: Tensor, least: float) -> Tensor:
    """The std of every strong edge across the rows, where the gradient is largest along its row."""
    before, after = image.diff(dim=1).abs(), again.diff(dim=1).abs()
    inner = before[:, 1:-1]
    edge = (inner >= least) & (inner >= before[:, :-2]) & (inner > before[:, 2:])
    ratio = (inner[edge] / after[:, 1:-1][edge].clamp(min=1e-6)).clamp(min=1.001)
    return (_AGAIN / (ratio**2 - 1).sqrt())[:_MOST_EDGES]


_MOST_EDGES = 2**22  # `quantile` takes 2²⁴
_FREQUENCIES = (1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4)  # the zigzag's first, row by row
_LEAST_COEFFICIENTS = 100
_PERIODIC = 0.6
"""Of e. Compression leaves exp(−2π²r²/q²), where r = 0.19 is the std of rounding to RGB: 0.92 for steps of 3, 0.84 of
2."""


def former_quality(levels: Levels) -> int | None:
    """The quality, 5 to 92, at which an image was once compressed by JPEG with the standard tables; None if it was not.

    The block grid must begin at the image's corner: an image that was cropped or resized since shows none.

    Args:
        levels: (H, W, C).
    """
    blocks = torch.from_numpy(_blocks(_luma(_middle(levels)) - 128)).reshape(-1, 8, 8)
    basis = cosines(8, blocks)
    coefficients = (basis @ blocks @ basis.T).reshape(-1, 64)[:, list(_FREQUENCIES)]
    _, first = np.unique((4 * coefficients).round().int().numpy(), axis=0, return_index=True)
    coefficients = coefficients[torch.from_numpy(first)]  # equal blocks, as of a ramp, are periodic by any step
    known: dict[tuple[int, int], tuple[float, int]] = {}

    def periodicity(place: int, step: int) -> tuple[float, int]:
        if (place, step) not in known:
            c = coefficients[:, place]
            c = c[c.abs() > step / 2]
            known[place, step] = float((2 * torch.pi / step * c).cos().sum()), len(c)
        return known[place, step]

    scores: dict[int, float] = {}
    for quality in range(5, 93):
        steps = standard_tables(quality)[0]
        sums = [periodicity(place, steps[k]) for place, k in enumerate(_FREQUENCIES)]
        count = sum(n for _, n in sums)
        if count >= _LEAST_COEFFICIENTS:
            scores[quality] = sum(total for total, _ in sums) / count
    best = max(scores.values(), default=0.0)
    if best < _PERIODIC:
        return None
    return min(quality for quality, score in scores.items() if score > best - 0.05)  # finer steps divide coarser ones


NOISY, BLURRED = 3.0, 0.8
"""From which on `noise_std` and `blur_std` are worth a word. Of 60 photographs none has noise above 3; of 30, and the
same reduced to a third, none has more than 0.37 of blur, and blurred by 2 pixels all have more than 1."""


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What was found.

    Args:
        jpeg_quality: of the JPEG file, or of the one that the image was once; None if it shows none.
        is_jpeg: whether the file is a JPEG.
        noise_std: of white noise, in steps of 8 bits; see `noise_std`.
        blur_std: of the sharpest edges, in pixels; None where there are too few to tell.
        grey: whether it has no color.
    """

    jpeg_quality: int | None
    is_jpeg: bool
    noise_std: float
    blur_std: float | None
    grey: bool

    @property
    def noisy(self) -> bool:
        """Whether there is noise worth removing."""
        return self.noise_std >= NOISY

    @property
    def blurred(self) -> bool:
        """Whether even the sharpest edges are soft."""
        return self.blur_std is not None and self.blur_std >= BLURRED


def inspect_photo(photo: Photo) -> Inspection:
    """What a photograph seems to have suffered."""
    return Inspection(
        jpeg_quality=former_quality(photo.levels) if photo.jpeg is None else nearest_quality(photo.jpeg),
        is_jpeg=photo.jpeg is not None,
        noise_std=noise_std(photo.levels),
        blur_std=blur_std(photo.levels),
        grey=is_grey(photo.levels),
    )


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A verb that may help.

    Args:
        finding: what was found, in words.
        verb: of the command line.
        options: of the verb.
    """

    finding: str
    verb: str
    options: tuple[str, ...] = ()


def proposals(found: Inspection, *, max_jpeg_quality: int) -> list[Proposal]:
    """What may help, the surest first: compression, noise, blur, color.

    Args:
        found: what was found.
        max_jpeg_quality: up to which a restoration gains.
    """
    made: list[Proposal] = []
    if found.jpeg_quality is not None and found.jpeg_quality <= max_jpeg_quality:
        was = "a JPEG file" if found.is_jpeg else "was a JPEG file once"
        options = () if found.is_jpeg else ("--quality", str(found.jpeg_quality))
        made.append(Proposal(finding=f"{was}, of quality {found.jpeg_quality}", verb="dejpeg", options=options))
    if found.noisy:
        std = f"{found.noise_std:.0f}"
        made.append(Proposal(finding=f"noise of {std} of 255 levels", verb="denoise", options=("--std", std)))
    if found.blurred:
        std = f"{found.blur_std:.1f}"
        made.append(Proposal(finding=f"blur of {std} pixels or more", verb="deblur", options=("--std", std)))
    if found.grey:
        made.append(Proposal(finding="grey", verb="colorize"))
    return made


def doubt(photo: Photo, task: str) -> str | None:
    """Why a task may make this photograph worse, in words; None if nothing speaks against it."""
    if task == "denoise" and noise_std(photo.levels) < NOISY:
        return "no noise was found: detail may have been lost"
    if task in {"deblur", "upscale"}:
        blur = blur_std(photo.levels)
        if task == "deblur" and blur is not None and blur < BLURRED:
            return "no blur was found: edges may be too sharp"
        if task == "upscale" and blur is not None and blur >= BLURRED:
            return "its finest detail is wider than a pixel: enlarging adds none"
    return None
