"""The typed options that verbs share."""

from pathlib import Path
from typing import Annotated

import typer

from scorefield.errors import UserError

DATA = "A folder of images, IDX, CIFAR (binary), .npz, .npy, or a bundled name (fashion, emoji)"
SAMPLER_WORDS = {
    "heun": "ODE of order 2, two evaluations a step (Karras 2022)",
    "dpm++-2m": "ODE of order 2, one evaluation a step: fast (Lu 2022)",
    "dpm++-2m-sde": "the same with fresh noise in every step",
    "adams": "ODE of order 1 to 4, one evaluation a step (Zhang 2023)",
    "euler": "ODE of order 1; churn=... adds noise",
    "ddim": "ODE of order 1; eta=1 draws DDPM's noise (Song 2021)",
    "ddpm": "the reverse chain, noise in every step (Ho 2020)",
    "predictor-corrector": "DDIM and Langevin dynamics in turn (Song 2021)",
    "consistent": "Langevin, one update a noise level (Jolicoeur-Martineau 2021)",
    "runge-kutta": "ODE with error control: rtol, atol; needs torchdiffeq",
    "annealed-langevin": "NCSN's: many updates on each noise level (Song & Ermon 2019)",
    "langevin": "at one low noise level: refines, does not find",
    "mala": "annealed, with a Metropolis test; for energy networks",
}
SAMPLERS = f"{', '.join(SAMPLER_WORDS)} (scorefield sample --help says more)"


def _device(name: str) -> str:
    """A device that this machine has, or a clear word before any work."""
    if name == "auto":
        return name
    import torch

    try:
        if torch.device(name).type in {"cpu", "cuda", "mps", "xpu"}:
            torch.empty(1, device=name)
            return name
    except (RuntimeError, AssertionError):
        pass
    raise UserError("--device", f"this machine has no device {name!r}.", "Use cpu, cuda or auto.")


ModelName = Annotated[
    str, typer.Argument(metavar="MODEL", help="A bundled model's name, a run folder or a .safetensors file.")
]
Data = Annotated[
    str,
    typer.Option(
        "--data",
        help=f"{DATA}.",
    ),
]
Size = Annotated[
    int | None,
    typer.Option("--size", min=1, help="Cut and shrink to squares of this side; images are never enlarged."),
]
Crop = Annotated[
    int | None,
    typer.Option("--crop", min=1, help="First cut a square of this side from the middle, e.g. 140 for aligned CelebA."),
]
Channels = Annotated[
    int | None, typer.Option("--channels", min=1, max=3, help="1 grey, 3 color; by default the data's own.")
]
Sampler = Annotated[str, typer.Option("--sampler", help=f"{SAMPLERS}.")]
Steps = Annotated[
    int | None,
    typer.Option("--steps", help="Of the sampler: more are better and slower; by default its own number."),
]
Seed = Annotated[int, typer.Option("--seed", help="Same seed, same images.", min=0)]
Device = Annotated[
    str,
    typer.Option("--device", help="cpu, cuda, cuda:1 …; auto takes the best there is.", callback=_device),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")]
Json = Annotated[Path | None, typer.Option("--json", help="Write the results as JSON to this file.")]
NamedFeatures = Annotated[
    str | None,
    typer.Option(
        "--features",
        help="Other features: inception (the standard network, fetched once), inception:FILE (its weights), "
        "mobilenet:FILE (torchvision's), random, a classifier kept in the cache, or a TorchScript module.",
    ),
]
