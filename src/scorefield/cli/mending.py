"""What the verbs that mend pictures share: their options, and the way through many files."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from scorefield.cli.console import note, progress, require_free, tell, write_json
from scorefield.cli.options import SAMPLERS
from scorefield.errors import UserError
from scorefield.files import refuse_existing

if TYPE_CHECKING:
    from scorefield.model import ScoreModel
    from scorefield.restoration import Restored

METHOD_WORDS = {
    "projection": "what is known is laid over every state (Song & Ermon 2019)",
    "repaint": "the same on a ladder that climbs (Lugmayr et al. 2022)",
    "null-space": "what is known replaces its part of every denoised picture (Wang et al. 2023); fast",
    "pigdm": "the same, and the network is asked what follows from it (Song et al. 2023)",
    "dps": "down the gradient of the misfit (Chung et al. 2023)",
    "moment-matching": "as pigdm, with the network's own uncertainty (Rozet et al. 2024); slow",
}

Inputs = Annotated[list[Path], typer.Argument(metavar="INPUT", help="Pictures to mend, of any size.")]
Out = Annotated[Path, typer.Option("--out", help="Folder for the answers and a before/after sheet.")]
Model = Annotated[
    str, typer.Option("--model", help="A bundled model's name, a run folder or a .safetensors file.")
]
Candidates = Annotated[int, typer.Option("--candidates", min=1, help="How many answers for each picture.")]
Method = Annotated[
    str,
    typer.Option(
        "--method",
        help="\n\n".join(
            [
                "How the rest is made to fit what is known:",
                *(f"{n}: {w}" for n, w in METHOD_WORDS.items()),
            ]
        ),
    ),
]
OwnSampler = Annotated[
    str | None, typer.Option("--sampler", help=f"By default the method's own; else one of {SAMPLERS}.")
]


@dataclass(frozen=True, kw_only=True)
class Mending:
    """What every verb is asked for; see the options."""

    inputs: list[Path]
    out: Path
    model: str
    method: str
    candidates: int
    sampler: str | None
    steps: int | None
    seed: int
    overwrite: bool
    json: Path | None
    device: str


class Restore(Protocol):
    """`restoration.restore` with all but these settled."""

    def __call__(
        self,
        model: "ScoreModel",
        picture: Path,
        *,
        method: str,
        candidates: int,
        sampler: str | None,
        steps: int | None,
        seed: int,
        track: Callable[[int, int], None],
    ) -> "Restored":
        """The picture, mended."""
        ...


def mend(restore: Restore, wish: Mending, task: str) -> None:
    """Mend every input; one that fails is named, and the others go on.

    Args:
        restore: mends one picture and tells how far it is.
        wish: what was asked for.
        task: a name in `restoration.TASKS`, or another word where damage is named.

    Raises:
        UserError: the model cannot be loaded, or there is no such method or sampler.
    """
    import scorefield as sf
    from scorefield.restoration import approach

    require_free(wish.json, overwrite=wish.overwrite)
    model = sf.load(wish.model, device=wish.device)
    approach(model, wish.method, wish.sampler, wish.steps)
    results: list[dict[str, Any]] = []
    for path in wish.inputs:
        begun = time.perf_counter()
        entry: dict[str, Any] = {
            "input": str(path),
            "outputs": [],
            "seed": wish.seed,
            "model": wish.model,
            "task": task,
            "method": wish.method,
            "error": None,
        }
        try:
            refuse_existing(wish.out / f"{path.stem}-1.png", overwrite=wish.overwrite)
            with progress(f"Mending {path.name}") as show:
                mended = restore(
                    model,
                    path,
                    method=wish.method,
                    candidates=wish.candidates,
                    sampler=wish.sampler,
                    steps=wish.steps,
                    seed=wish.seed,
                    track=lambda done, total, show=show: show(done / total, ""),
                )
            written = mended.save(wish.out, stem=path.stem, overwrite=wish.overwrite)
            entry["outputs"] = [str(name) for name in written]
            tell(f"{path} -> {written[-1]}")
        except UserError as error:
            entry["error"] = str(error)
            note(f"scorefield: {error}")
        results.append(entry | {"seconds": round(time.perf_counter() - begun, 2)})
    write_json(wish.json, results)
    if any(entry["error"] for entry in results):
        raise typer.Exit(2)
