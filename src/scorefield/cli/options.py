"""The typed options that verbs share, and verbs that take theirs as one dataclass."""

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from scorefield.errors import UserError
from scorefield.sampler_names import SAMPLER_SUMMARIES

DATA = "A folder of images, IDX, CIFAR (binary), .npz, .npy, or a bundled name (fashion, emoji)"
SAMPLERS = f"{', '.join(SAMPLER_SUMMARIES)} (scorefield sample --help says more)"


def with_options(verb: Callable[..., None]) -> Callable[..., None]:
    """A verb whose first argument is a dataclass, as a command with one option for each field.

    The verb's own options follow the first field in its help.
    """
    first, *own = inspect.signature(verb).parameters.values()
    kind = get_type_hints(verb)[first.name]
    head, *rest = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=field.type,
        )
        for field in fields(kind)
    ]

    @wraps(verb)
    def command(**given: Any) -> None:  # the names of the signature below, from Typer
        verb(kind(**{field.name: given.pop(field.name) for field in fields(kind)}), **given)

    command.__signature__ = inspect.Signature([head, *own, *rest])  # pyright: ignore[reportAttributeAccessIssue]
    return command


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
        "mobilenet:FILE (torchvision's), random, or a classifier kept in the cache (.safetensors).",
    ),
]
