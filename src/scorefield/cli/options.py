"""The typed options that verbs share."""

from pathlib import Path
from typing import Annotated

import typer

ModelName = Annotated[
    str, typer.Argument(metavar="MODEL", help="A bundled model's name, a run folder or a .safetensors file.")
]
Data = Annotated[
    str,
    typer.Option(
        "--data",
        help="A folder of pictures, IDX, .npz, .npy, or a bundled name (fashion, emoji).",
    ),
]
Size = Annotated[int | None, typer.Option("--size", min=1, help="Side of the square pictures are fitted to.")]
Channels = Annotated[
    int | None, typer.Option("--channels", min=1, max=4, help="1 grey, 3 color; by default the data's own.")
]
Out = Annotated[Path, typer.Option("--out", help="Where results go.")]
Sampler = Annotated[str, typer.Option("--sampler", help="heun, annealed-langevin or langevin.")]
Steps = Annotated[int | None, typer.Option("--steps", help="Steps of the sampler; by default its own.")]
Seed = Annotated[int, typer.Option("--seed", help="Same seed, same pictures.")]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, or auto.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
Json = Annotated[Path | None, typer.Option("--json", help="Write the results as JSON to this file.")]
