"""scorefield figures."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scorefield.cli.console import progress, require_free, table, tell
from scorefield.cli.options import DATA, SAMPLERS, Device, Overwrite, Seed, Size

if TYPE_CHECKING:
    from scorefield.data.image_set import ImageSet
    from scorefield.figures.drawing import Made
    from scorefield.metrics.features import Features

app = typer.Typer(
    no_args_is_help=True,
    help=(
        "The experiments of Song & Ermon (2019): an image and the numbers behind it, one command each. "
        "Example: scorefield figures mixing --out figures"
    ),
)

Out = Annotated[Path, typer.Option("--out", help="Folder for the image and its table.")]
Set = Annotated[str, typer.Option("--data", help=f"{DATA}.")]
Model = Annotated[str, typer.Option("--model", help="A bundled model's name, a run folder or a .safetensors file.")]
Paper = Annotated[
    bool, typer.Option("--paper", help="The paper's own settings, where the usual ones are cut to a CPU's.")
]
Iterations = Annotated[
    int | None, typer.Option("--steps", min=1, help="Training steps, in place of the setting's own.")
]
Updates = Annotated[
    int | None, typer.Option("--steps", min=1, help="Updates of the sampler; by default its own number.")
]


@app.command()
def mixing(*, out: Out, seed: Seed = 0, overwrite: Overwrite = False) -> None:
    """Fig. 3: Langevin dynamics gets the weights of two modes wrong, annealed it gets them right.

    Example: scorefield figures mixing --out figures
    """
    from scorefield.figures import mixing as figure

    with progress("Mixing") as show:
        made = figure.mixing(out, seed=seed, overwrite=overwrite, show=show)
    _report(made)


@app.command("low-density")
def low_density(*, out: Out, steps: Iterations = None, seed: Seed = 0, overwrite: Overwrite = False) -> None:
    """Fig. 2: a learned score is right where the data are, and wrong where they are rare.

    The settings are the paper's: half a minute on a CPU.

    Example: scorefield figures low-density --out figures
    """
    from dataclasses import replace

    from scorefield.figures import low_density as figure

    settings = figure.LowDensity()
    settings = settings if steps is None else replace(settings, iterations=steps)
    with progress("Low density") as show:
        made = figure.low_density(out, settings, seed=seed, overwrite=overwrite, show=show)
    _report(made)


@app.command()
def manifold(
    *,
    out: Out,
    data: Set = "fashion",
    size: Size = None,
    steps: Iterations = None,
    paper: Paper = False,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Fig. 1: the sliced score matching loss without noise on the images, and with a little.

    Example: scorefield figures manifold --out figures
    """
    from dataclasses import replace

    from scorefield.figures import manifold as figure

    settings = replace(figure.PAPER if paper else figure.CPU, data=data)
    settings = settings if steps is None else replace(settings, iterations=steps)
    settings = settings if size is None else replace(settings, size=size)
    with progress("Manifold") as show:
        made = figure.manifold(out, settings, seed=seed, overwrite=overwrite, show=show)
    _report(made)


@app.command()
def anneal(
    *,
    out: Out,
    model: Model = "fashion",
    n: Annotated[int, typer.Option("-n", min=1, help="Samples, a row each.")] = 8,
    levels: Annotated[int, typer.Option("--levels", min=1, help="Noise levels, a column each.")] = 10,
    steps: Updates = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    device: Device = "auto",
) -> None:
    """Figs. 4-5: what annealed Langevin dynamics holds on the way from noise to images.

    Example: scorefield figures anneal --model fashion --out figures
    """
    import scorefield as sf
    from scorefield.figures import anneal as figure

    require_free(*(out / name for name in figure.FILES), overwrite=overwrite)
    score_model = sf.load(model, device=device)
    settings = figure.Anneal(samples=n, levels=levels, steps=steps)
    with progress("Annealing") as show:
        made = figure.anneal(score_model, out, settings, seed=seed, overwrite=overwrite, show=show)
    _report(made)


@app.command()
def neighbours(
    *,
    out: Out,
    model: Model = "fashion",
    data: Set = "fashion",
    n: Annotated[int, typer.Option("-n", min=1, help="Samples, a row each.")] = 8,
    k: Annotated[int, typer.Option("-k", min=1, help="Training images beside each.")] = 9,
    sampler: Annotated[str, typer.Option("--sampler", help=f"{SAMPLERS}.")] = "heun",
    steps: Updates = None,
    features: Annotated[Path | None, typer.Option("--features", help="Other features, as for `evaluate`.")] = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    device: Device = "auto",
) -> None:
    """Figs. 9-10: samples beside their nearest training images, in pixels and in features.

    Example: scorefield figures neighbours --model fashion --data fashion --out figures
    """
    import scorefield as sf
    from scorefield.figures import nearest as figure
    from scorefield.figures.drawing import images_for

    require_free(*(out / name for name in figure.FILES), overwrite=overwrite)
    score_model = sf.load(model, device=device)
    train, test = (images_for(score_model, data, split=split) for split in ("train", "test"))
    settings = figure.Neighbours(samples=n, neighbours=k, sampler=sampler, steps=steps)
    figure.check(score_model, train, settings)
    judge = _judge(train, features)
    with progress("Neighbours") as show:
        made = figure.neighbours(
            score_model, train, test, judge, out, settings, seed=seed, overwrite=overwrite, show=show
        )
    _report(made)


@app.command("single-sigma")
def single_sigma(
    *,
    out: Out,
    data: Set = "fashion",
    steps: Iterations = None,
    n: Annotated[int | None, typer.Option("-n", min=2, help="Samples of each, for the distances.")] = None,
    paper: Paper = False,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """App. C.1: a network that knows one noise level, against the same network on a schedule.

    Trains both, a few minutes; the runs stay in the folder, and the same command goes on with them.

    Example: scorefield figures single-sigma --out figures
    """
    from dataclasses import replace

    from scorefield.data.datasets import held_out, open_images
    from scorefield.figures import single_sigma as figure
    from scorefield.training import Interrupted

    require_free(*(out / name for name in figure.FILES), overwrite=overwrite)
    settings = replace(figure.PAPER if paper else figure.CPU, data=data)
    settings = settings if steps is None else replace(settings, iterations=steps)
    settings = settings if n is None else replace(settings, samples=n)
    train, test = (open_images(data, split=split) for split in ("train", held_out(data)))
    judge = _judge(train)
    try:
        with progress("Single sigma") as show:
            made = figure.single_sigma(train, test, judge, out, settings, seed=seed, overwrite=overwrite, show=show)
    except Interrupted as stop:
        tell(f"{stop}. The same command goes on.")
        raise typer.Exit(128 + stop.signum) from stop
    _report(made)


@app.command()
def completions(
    *,
    out: Out,
    model: Model = "fashion",
    data: Set = "fashion",
    n: Annotated[int, typer.Option("-n", min=1, help="Images.")] = 4,
    candidates: Annotated[int, typer.Option("--candidates", min=1, help="Answers to each mask.")] = 6,
    mask: Annotated[
        list[str] | None, typer.Option("--mask", help="left, right, center, top or bottom; repeatable.")
    ] = None,
    sampler: Annotated[str, typer.Option("--sampler", help=f"{SAMPLERS}.")] = "annealed-langevin",
    steps: Updates = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    device: Device = "auto",
) -> None:
    """Fig. 6 and Algorithm 2: held-out images, half covered, completed several times over.

    Example: scorefield figures completions --model fashion --data fashion --out figures
    """
    import scorefield as sf
    from scorefield.figures import completions as figure
    from scorefield.figures.drawing import images_for

    require_free(*(out / name for name in figure.FILES), overwrite=overwrite)
    score_model = sf.load(model, device=device)
    held_out = images_for(score_model, data, split="test")
    masks = tuple(mask) if mask else figure.Completions().masks
    settings = figure.Completions(images=n, candidates=candidates, masks=masks, sampler=sampler, steps=steps)
    with progress("Completions") as show:
        made = figure.completions(score_model, held_out, out, settings, seed=seed, overwrite=overwrite, show=show)
    _report(made)


@app.command()
def interpolation(
    *,
    out: Out,
    model: Model = "fashion",
    data: Set = "fashion",
    n: Annotated[int, typer.Option("-n", min=1, help="Pairs of images, a row each.")] = 6,
    parts: Annotated[int, typer.Option("--parts", min=1, help="Parts of the way between them.")] = 8,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    device: Device = "auto",
) -> None:
    """Held-out images led to noise and back along the ODE, and what lies between two of them.

    Example: scorefield figures interpolation --model fashion --data fashion --out figures
    """
    import scorefield as sf
    from scorefield.figures import interpolation as figure
    from scorefield.figures.drawing import images_for

    require_free(*(out / name for name in figure.FILES), overwrite=overwrite)
    score_model = sf.load(model, device=device)
    held_out = images_for(score_model, data, split="test")
    settings = figure.Interpolation(pairs=n, parts=parts)
    figure.check(held_out, settings)
    with progress("Interpolation") as show:
        made = figure.interpolation(score_model, held_out, out, settings, seed=seed, overwrite=overwrite, show=show)
    _report(made)


def _judge(train: "ImageSet", file: Path | None = None) -> "Features":
    """The features that distances are measured on; a classifier is trained once and kept."""
    from scorefield.evaluation.reference import choose_features

    with progress("The judge") as show:
        return choose_features(train, file, progress=show)


def _report(made: "Made") -> None:
    table(made.numbers)
    for path in made.files:
        tell(str(path))
