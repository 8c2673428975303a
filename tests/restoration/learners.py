"""Models that restore, with results known in closed form."""

import numpy as np
import torch
from torch import nn

from oracles import lively
from restoration.gaussians import bayes, gaussian
from scorefield.model import ModelSpec, RestorationSpec, ScoreModel
from scorefield.networks import UNet
from scorefield.parameterization import EDM, Regression
from scorefield.restoration import TASKS as TASK_KINDS
from scorefield.restoration import Custom, Inpaint, palette_plan, resolve_method
from scorefield.restoration import restore as pipeline_restore
from scorefield.restoration.tiled_sampling import TiledSampler

EDM_1 = EDM(sigma_data=1.0)
TASKS = ("inpaint", "colorize", "uncrop", "dejpeg", "upscale", "deblur", "denoise", "descratch", "paired")


def as_network(denoised, scaled, label):
    """The output with which EDM(sigma_data=1) gives this D, and x, σ, from what the network is given."""
    sigma = (4 * label).exp()[:, None, None, None]
    root = (1 + sigma**2).sqrt()
    noisy = scaled * root
    return (denoised(noisy, sigma) - noisy / root**2) * root / sigma


class EachPixel(nn.Module):
    """Pixels x0 ~ N(0, s²), each by itself, shown as y = x0 + t n:

        D(x; σ, y) = (x/σ² + y/t²)/(1/σ² + 1/t² + 1/s²).

    It remembers the shapes of what it was given.
    """

    source_channels = 3

    def __init__(self, spread=0.3, seen=0.2):
        super().__init__()
        self.spread, self.seen, self.shapes = spread, seen, []
        self.anchor = nn.Parameter(torch.zeros(()))

    def forward(self, x, label, source=None):
        self.shapes.append(tuple(x.shape))

        def denoised(noisy, sigma):
            worth = sigma**-2, self.seen**-2
            return (worth[0] * noisy + worth[1] * source) / (sum(worth) + self.spread**-2)

        return as_network(denoised, x, label)


class Row(nn.Module):
    """Images of one row, of a Gaussian distribution, some of whose pixels are known and given clean in x itself."""

    source_channels = 1

    def __init__(self, distribution, known):
        super().__init__()
        eye = torch.eye(len(known), dtype=torch.float64)
        self.distribution, self.known, self.seen, self.unseen = distribution, known, eye[known], eye[~known]
        self.anchor = nn.Parameter(torch.zeros(()))

    def forward(self, x, label, source=None):
        def denoised(noisy, sigma):
            return torch.stack([self._mean(*each) for each in zip(x, noisy, sigma, strict=True)])

        return as_network(denoised, x, label)

    def _mean(self, clean, noisy, sigma):
        posterior = gaussian(*bayes(self.distribution, self.seen, self.seen @ clean.flatten().double(), 0.0))
        mean, _ = bayes(posterior, self.unseen, self.unseen @ noisy.flatten().double(), float(sigma))
        return mean.float().reshape(noisy.shape)


def model_of(network, *, shape=(3, 16, 16), tasks=TASKS, masked_input=1.0, sigma_range=(0.002, 20.0)):
    restoration = RestorationSpec(tasks=tasks, masked_input=masked_input)
    return ScoreModel(network, EDM_1, ModelSpec(shape=shape, sigma_range=sigma_range, restoration=restoration)).eval()


def tiny_learner(channels=3, *, size=16, tasks=TASKS, regression=False):
    """A small untrained U-Net that is shown a source."""
    torch.manual_seed(0)
    network = lively(UNet(channels=channels, source_channels=channels, widths=(8, 8)))
    parameterization = Regression() if regression else EDM()
    spec = ModelSpec(shape=(channels, size, size), restoration=RestorationSpec(tasks=tasks))
    return ScoreModel(network, parameterization, spec).eval()


def restore(model, image, task=None, *, degradation=None, simulate=False, noise=0.0, schedule=None, **settings):
    """`scorefield.restoration.restore` with the settings of task and call together, to be varied one by one."""
    kinds = {**TASK_KINDS, None: Inpaint}
    call = {name: settings.pop(name) for name in CALL if name in settings}
    if degradation is not None:
        made = Custom(degradation=degradation, simulate=simulate, noise_std=noise)
    elif simulate and task != "colorize":
        text = f"jpeg:{settings['quality']}" if task == "dejpeg" else f"downscale:{settings['factor']}"
        made = Custom(degradation=text, simulate=True, stands_for=task)
    elif isinstance(task, str) and task not in kinds:
        made = task
    elif task == "denoise":
        made = kinds[task](std=noise, **settings)
    else:
        made = kinds[task](**settings)
    if schedule is not None:
        call["sampler"] = palette_plan(model, call.get("sampler", "ddpm"), call.pop("steps", None))
    return pipeline_restore(model, image, made, **call)


CALL = ("method", "candidates", "sampler", "steps", "tile", "seed", "progress")


def nothing(count):
    """A report that nobody reads."""


def levels(height, width, dtype=np.uint8, channels=3, seed=0):
    """A random image, (H, W, C)."""
    top = np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(0, top + 1, (height, width, channels), dtype)


def tiled(model, *, tile=64, overlap=16, candidates=1, steps=8, sampler="dpm++-2m", **settings):
    """A tiled sampler of that model."""
    chosen = resolve_method(model, None, sampler, steps)
    return TiledSampler(
        model=model, chosen=chosen, candidates=candidates, seed=3, tile=tile, overlap=overlap, **settings
    )
