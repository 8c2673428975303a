"""Classical restoration without networks, measured beside models: 8-bit images in, 8-bit images out.

| name | tasks | method |
| --- | --- | --- |
| `opencv-telea` | inpaint, uncrop | fast marching into the mask (Telea 2004), radius 3 |
| `opencv-ns` | inpaint, uncrop | isophotes continued like a fluid flow (Bertalmio et al. 2001), radius 3 |
| `replicate` | uncrop | the nearest known pixel |
| `tv` | dejpeg, denoise | the minimizer u of ½‖u − g‖² + λ TV(u) (Rudin, Osher & Fatemi 1992) |
| `non-local` | dejpeg, denoise | means of pixels with similar patches (Buades et al. 2005) |
| `mean-chroma` | colorize | grey plus the mean chroma of training images |

TV(u) is the sum over pixels of the length of the differences to the right and below, of all channels together; u
is found by fast gradient steps in the dual (Beck & Teboulle 2009). The strength, λ of `tv` or h of `non-local`, in
levels of 8 bits, is the one of ten with the highest mean PSNR on training images with the same degradation, so
that the tools are compared at their best.

References:
    Rudin, Osher & Fatemi (1992). https://doi.org/10.1016/0167-2789(92)90242-F
    Beck & Teboulle (2009), §4 (FGP). https://doi.org/10.1109/TIP.2009.2028250
    Telea (2004). https://doi.org/10.1080/10867651.2004.10487596
    Bertalmio, Bertozzi & Sapiro (2001). https://doi.org/10.1109/CVPR.2001.990497
    Buades, Coll & Morel (2005). https://doi.org/10.1109/CVPR.2005.38
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from scorefield.errors import UserError
from scorefield.evaluation.degraded import DegradedSet
from scorefield.metrics.fidelity import psnr

STRENGTHS = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 11.0, 15.0, 20.0, 28.0)
_RADIUS = 3
_ITERATIONS = 40

Restore = Callable[[Tensor, Tensor], Tensor]
"""Degraded images, uint8 (N, C, H, W), and their masks, bool (N, 1, H, W), to restored images."""


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A classical tool.

    Args:
        tasks: that it serves.
        fit: from degraded training images to the tool with its best settings, and a description of these.
    """

    tasks: tuple[str, ...]
    fit: Callable[[DegradedSet], tuple[Restore, str]]


@dataclass(frozen=True, kw_only=True)
class ClassicalMethod:
    """A fitted tool as a method of `evaluation.restoration`.

    Args:
        name: in CLASSICAL.
        tasks: that it serves.
        settings: a description.
        restore: the tool.
    """

    name: str
    tasks: tuple[str, ...]
    settings: str
    restore: Restore

    def is_random(self, task: str) -> bool:
        """Never."""
        return False

    def serves(self, task: str) -> bool:
        """Whether it restores this task."""
        return task in self.tasks

    def describe(self, task: str) -> str:
        """Its settings."""
        return self.settings

    def evaluations(self, task: str) -> int:
        """Of a network: none."""
        return 0

    def cost(self, task: str) -> float:
        """About that of two evaluations of a small network."""
        return 2.0

    def candidates(self, images: DegradedSet, rows: range, *, count: int, seed: int) -> list[Tensor]:
        """Its result; the seed changes nothing."""
        part = slice(rows.start, rows.stop)
        shown, unknown = images.shown[part], images.unknown[part]
        return [torch.where(unknown, self.restore(shown, images.mask[part]), shown)]


def fit_tool(name: str, training: DegradedSet) -> ClassicalMethod:
    """The tool of that name at its best on degraded training images.

    Raises:
        UserError: OpenCV is missing.
    """
    tool = CLASSICAL[name]
    restore, settings = tool.fit(training)
    return ClassicalMethod(name=name, tasks=tool.tasks, settings=settings, restore=restore)


def total_variation(images: Tensor, strength: float, *, iterations: int = _ITERATIONS) -> Tensor:
    """The minimizer of ½‖u − g‖² + λ TV(u), uint8 like `images`.

    Args:
        images: g, uint8, (N, C, H, W).
        strength: λ, in levels of 8 bits, above 0.
        iterations: of Beck & Teboulle's FGP.
    """
    g = images.float()
    dual = momentum = g.new_zeros(2, *g.shape)
    t = 1.0
    for _ in range(iterations):
        free = momentum + _slopes(g - strength * _divergence(momentum)) / (8 * strength)
        length = free.square().sum((0, 2), keepdim=True).sqrt()  # of both slopes in all channels
        before, dual = dual, free / length.clamp_min(1)
        t_next = (1 + (1 + 4 * t**2) ** 0.5) / 2
        momentum = dual + (t - 1) / t_next * (dual - before)
        t = t_next
    return (g - strength * _divergence(dual)).round().clamp(0, 255).to(torch.uint8)


def non_local(images: Tensor, strength: float) -> Tensor:
    """OpenCV's non-local means with patches of 7 × 7 within 21 × 21, uint8 like `images`.

    Args:
        images: uint8, (N, 1 or 3, H, W).
        strength: h, for luma and chroma alike.

    Raises:
        UserError: OpenCV is missing.
    """
    cv2 = _opencv()

    def one(image: Any) -> Any:
        if image.ndim == 2:
            return cv2.fastNlMeansDenoising(image, None, strength, 7, 21)
        return cv2.fastNlMeansDenoisingColored(image, None, strength, strength, 7, 21)

    return _each(images, one)


def opencv_inpaint(images: Tensor, mask: Tensor, *, method: str) -> Tensor:
    """OpenCV's inpainting, radius 3, uint8 like `images`.

    Args:
        images: uint8, (N, 1 or 3, H, W).
        mask: bool, (N, 1, H, W).
        method: "telea" or "ns".

    Raises:
        UserError: OpenCV is missing.
    """
    cv2 = _opencv()
    flag = {"telea": cv2.INPAINT_TELEA, "ns": cv2.INPAINT_NS}[method]
    masks = iter(mask[:, 0].to(torch.uint8).numpy())
    return _each(images, lambda image: cv2.inpaint(image, next(masks), _RADIUS, flag))


def replicated(images: Tensor, mask: Tensor) -> Tensor:
    """Every pixel under the mask like the nearest known one, uint8 like `images`.

    Args:
        images: uint8, (N, C, H, W).
        mask: bool, (N, 1, H, W), all but a rectangle.

    Raises:
        UserError: the known pixels are no rectangle.
    """
    filled: list[Tensor] = []
    for one, unknown in zip(images, mask[:, 0], strict=True):
        known = ~unknown
        rows, columns = known.any(1).nonzero()[:, 0], known.any(0).nonzero()[:, 0]
        if int(known.sum()) != len(rows) * len(columns) or not len(rows):
            raise UserError("replicate", "the known pixels are no rectangle.", "It serves uncrop.")
        places = (torch.arange(n) for n in one.shape[-2:])
        y, x = (p.clamp(int(k[0]), int(k[-1])) for p, k in zip(places, (rows, columns), strict=True))
        filled.append(one[:, y][:, :, x])
    return torch.stack(filled)


def mean_chroma(originals: Tensor) -> Tensor:
    """The mean difference of each channel to the luma, (C, 1, 1), in levels of 8 bits.

    Args:
        originals: uint8, (N, 3, H, W).
    """
    mean = originals.float().mean((0, 2, 3))
    return (mean - mean @ torch.tensor([0.299, 0.587, 0.114])).reshape(3, 1, 1)


def _with_strength(restore: Callable[[Tensor, float], Tensor]) -> Callable[[DegradedSet], tuple[Restore, str]]:
    """Of ten strengths the one with the highest mean PSNR."""

    def fitted(train: DegradedSet) -> tuple[Restore, str]:
        quality = [float(psnr(restore(train.shown, s), train.originals).mean()) for s in STRENGTHS]
        best = STRENGTHS[quality.index(max(quality))]
        words = f"strength {best:g}, the best of {len(STRENGTHS)} on {len(train.shown)} training images"
        return lambda shown, mask: restore(shown, best), words

    return fitted


def _inpaints(method: str) -> Callable[[DegradedSet], tuple[Restore, str]]:
    def fitted(train: DegradedSet) -> tuple[Restore, str]:
        _opencv()
        return lambda shown, mask: opencv_inpaint(shown, mask, method=method), f"radius {_RADIUS}"

    return fitted


def _replicates(train: DegradedSet) -> tuple[Restore, str]:
    return replicated, "the nearest known pixel"


def _tints(train: DegradedSet) -> tuple[Restore, str]:
    chroma = mean_chroma(train.originals)
    listed = ", ".join(f"{c:+.0f}" for c in chroma.flatten().tolist())
    return (
        lambda shown, mask: (shown.float() + chroma).round().clamp(0, 255).to(torch.uint8),
        f"grey and ({listed}), the mean of {len(train.shown)} training images",
    )


CLASSICAL: dict[str, Tool] = {
    "opencv-telea": Tool(tasks=("inpaint", "uncrop"), fit=_inpaints("telea")),
    "opencv-ns": Tool(tasks=("inpaint", "uncrop"), fit=_inpaints("ns")),
    "replicate": Tool(tasks=("uncrop",), fit=_replicates),
    "tv": Tool(tasks=("dejpeg", "denoise"), fit=_with_strength(total_variation)),
    "non-local": Tool(tasks=("dejpeg", "denoise"), fit=_with_strength(non_local)),
    "mean-chroma": Tool(tasks=("colorize",), fit=_tints),
}


def _slopes(u: Tensor) -> Tensor:
    """Differences to the right and below, 0 at the last, (2, N, C, H, W)."""
    slopes = u.new_zeros(2, *u.shape)
    slopes[0, ..., :-1] = u[..., 1:] - u[..., :-1]
    slopes[1, ..., :-1, :] = u[..., 1:, :] - u[..., :-1, :]
    return slopes


def _divergence(dual: Tensor) -> Tensor:
    """The transpose of `_slopes`, (N, C, H, W)."""
    across, down = dual[0], dual[1]
    total = torch.zeros_like(across)
    total[..., :-1] -= across[..., :-1]
    total[..., 1:] += across[..., :-1]
    total[..., :-1, :] -= down[..., :-1, :]
    total[..., 1:, :] += down[..., :-1, :]
    return total


def _each(images: Tensor, restore: Callable[[Any], Any]) -> Tensor:
    """A function of OpenCV's on every image: (H, W, 3) in its order of colors, or (H, W)."""
    restored: list[Tensor] = []
    for image in images.cpu():
        if len(image) == 1:
            restored.append(torch.from_numpy(restore(image[0].contiguous().numpy()))[None])
        else:
            turned = image.flip(0).permute(1, 2, 0).contiguous().numpy()
            restored.append(torch.from_numpy(restore(turned)).permute(2, 0, 1).flip(0))
    return torch.stack(restored)


def _opencv() -> Any:
    try:
        return import_module("cv2")
    except ImportError:
        raise UserError("opencv", "is not installed.", "pip install 'scorefield[photos]'") from None
