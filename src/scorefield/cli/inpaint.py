"""scorefield inpaint."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from scorefield.cli.console import note, progress, require_free, tell, write_json
from scorefield.cli.options import SAMPLERS, Device, Json, Overwrite, Seed, Steps
from scorefield.errors import UserError
from scorefield.files import refuse_existing


def inpaint(
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT", help="Pictures to mend, of any size.")],
    *,
    out: Annotated[Path, typer.Option("--out", help="Folder for the answers and a before/after sheet.")],
    model: Annotated[
        str, typer.Option("--model", help="A bundled model's name, a run folder or a .safetensors file.")
    ],
    mask: Annotated[
        str,
        typer.Option(
            "--mask", help="What to fill: a picture that is white there, or center, left, right, top, bottom."
        ),
    ] = "center",
    invert: Annotated[bool, typer.Option("--invert", help="Fill the mask's black instead.")] = False,
    candidates: Annotated[
        int, typer.Option("--candidates", min=1, help="How many answers for each picture.")
    ] = 4,
    sampler: Annotated[str, typer.Option("--sampler", help=f"{SAMPLERS}.")] = "annealed-langevin",
    steps: Steps = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    json: Json = None,
    device: Device = "auto",
) -> None:
    """Fill in what is missing of pictures; known pixels come back byte for byte.

    Writes every answer, and a sheet: damaged, answers, original.

    Example: scorefield inpaint shirt.png --model fashion --mask bottom --out mended
    """
    import scorefield as sf
    from scorefield.samplers import plan

    require_free(json, overwrite=overwrite)
    score_model = sf.load(model, device=device)
    plan(score_model, sampler, steps)
    results: list[dict[str, Any]] = []
    for path in inputs:
        begun = time.perf_counter()
        entry: dict[str, Any] = {
            "input": str(path),
            "outputs": [],
            "seed": seed,
            "model": model,
            "error": None,
        }
        try:
            refuse_existing(out / f"{path.stem}-1.png", overwrite=overwrite)
            with progress(f"Mending {path.name}") as show:
                mended = sf.restore(
                    score_model,
                    path,
                    "inpaint",
                    mask=mask,
                    invert=invert,
                    candidates=candidates,
                    sampler=sampler,
                    steps=steps,
                    seed=seed,
                    track=lambda done, total, show=show: show(done / total, ""),
                )
            written = mended.save(out, stem=path.stem, overwrite=overwrite)
            entry["outputs"] = [str(name) for name in written]
            tell(f"{path} -> {written[-1]}")
        except UserError as error:
            entry["error"] = str(error)
            note(f"scorefield: {error}")
        results.append(entry | {"seconds": round(time.perf_counter() - begun, 2)})
    write_json(json, results)
    if any(entry["error"] for entry in results):
        raise typer.Exit(2)
