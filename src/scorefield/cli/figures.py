"""scorefield figures: one command for each entry of `figures.catalog.FIGURES`."""

import inspect
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from scorefield.cli.console import progress, require_free, table, tell
from scorefield.cli.options import DATA, Device, Overwrite, Seed
from scorefield.figures.catalog import FIGURES, FigureSpec

if TYPE_CHECKING:
    from scorefield.figures.driver import FigureInputs

app = typer.Typer(
    no_args_is_help=True,
    help=(
        "The experiments of Song & Ermon (2019): an image and the numbers behind it, one command each. "
        "Example: scorefield figures mixing --out figures"
    ),
)

Out = Annotated[Path, typer.Option("--out", help="Folder for the images and the table.")]
DataSet = Annotated[str, typer.Option("--data", help=f"{DATA}.")]
ModelOption = Annotated[
    str, typer.Option("--model", help="A bundled model's name, a run folder or a .safetensors file.")
]
FeaturesOption = Annotated[Path | None, typer.Option("--features", help="Other features, as for `evaluate`.")]
Paper = Annotated[bool, typer.Option("--paper", help="The paper's own options; the default ones are sized for a CPU.")]


def _add(spec: FigureSpec) -> None:
    """Register the figure's command, with an option for each field that has a help text."""

    def command(**given: Any) -> None:
        _run(spec, given)

    parameters = [_parameter("out", Out)]
    if "model" in spec.needs:
        parameters += [_parameter("model", ModelOption, "fashion"), _parameter("device", Device, "auto")]
    if spec.needs and "data" not in {one.name for one in fields(spec.default)} and spec.needs != ("model",):
        parameters.append(_parameter("data", DataSet, "fashion"))
    if "features" in spec.needs:
        parameters.append(_parameter("features", FeaturesOption, None))
    if spec.paper is not None:
        parameters.append(_parameter("paper", Paper, False))
    hints = get_type_hints(type(spec.default))
    for one in fields(spec.default):
        if "help" in one.metadata:
            flags = one.metadata["flags"] or (f"--{one.name.replace('_', '-')}",)
            shown = typer.Option(
                *flags,
                help=one.metadata["help"],
                min=one.metadata["min"],
                show_default=str(getattr(spec.default, one.name)),
            )
            kind = list[str] if one.name == "masks" else hints[one.name]
            parameters.append(_parameter(one.name, Annotated[kind | None, shown], None))
    parameters += [_parameter("seed", Seed, 0), _parameter("overwrite", Overwrite, False)]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in parameters}
    command.__doc__ = f"{spec.help}\n\nExample: scorefield figures {spec.name} --out figures"
    app.command(spec.name)(command)


def _parameter(name: str, kind: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=default)


def _run(spec: FigureSpec, given: dict[str, Any]) -> None:
    """Load what the figure needs, draw it, and print its numbers and files."""
    require_free(*(given["out"] / name for name in spec.files), overwrite=given["overwrite"])
    names = {one.name for one in fields(spec.default)}
    chosen = {name: value for name, value in given.items() if name in names and value not in (None, [])}
    if "masks" in chosen:
        chosen["masks"] = tuple(chosen["masks"])
    options = replace(spec.paper if given.get("paper") else spec.default, **chosen)
    from scorefield.training import Interrupted

    try:
        files, numbers = _make(spec, options, given)
    except Interrupted as stop:
        tell(f"{stop}. The same command resumes.")
        raise typer.Exit(128 + stop.signum) from stop
    table(numbers)
    for path in files:
        tell(str(path))


def _make(spec: FigureSpec, options: Any, given: dict[str, Any]) -> tuple[tuple[Path, ...], dict[str, Any]]:
    from scorefield.figures.driver import make

    inputs = _inputs(spec, options, given)
    with progress(spec.name.replace("-", " ").capitalize()) as show:
        return make(spec, options, replace(inputs, progress=show), overwrite=given["overwrite"])


def _inputs(spec: FigureSpec, options: Any, given: dict[str, Any]) -> "FigureInputs":
    import scorefield as sf
    from scorefield.evaluation.reference import choose_features
    from scorefield.figures.driver import FigureInputs, check_options, images_for

    inputs = FigureInputs(out=given["out"], seed=given["seed"])
    if "model" in spec.needs:
        inputs = replace(inputs, model=sf.load(given["model"], device=given["device"]))
    for name, split in (("train", "train"), ("held_out", "test")):
        if name in spec.needs:
            data = given.get("data") or options.data
            inputs = replace(inputs, **{name: images_for(inputs.model, data, split=split)})
    check_options(spec, options, inputs)  # before a classifier is trained for the features
    if "features" in spec.needs:
        where = inputs.model.device if "model" in spec.needs else "cpu"
        with progress("Features") as show:
            features = choose_features(inputs.train, given["features"], device=where, progress=show)
        inputs = replace(inputs, features=features)
    return inputs


for _spec in FIGURES.values():
    _add(_spec)
