"""scorefield train."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from scorefield.cli.console import note, progress, table, tell
from scorefield.cli.options import DATA, Channels, Crop, Device, Size, with_options
from scorefield.errors import UserError

_DATA_FLAGS = {"source": "data", "size": "size", "crop": "crop", "channels": "channels"}  # of the recipe's [data]

Recipe = Annotated[
    str,
    typer.Argument(metavar="RECIPE", help="A TOML file or a bundled recipe's name; `scorefield models` lists them."),
]
Out = Annotated[Path, typer.Option("--out", help="A new folder for the run: model, log, sample grids.")]
DataSource = Annotated[str | None, typer.Option("--data", help=f"{DATA}; wins over the recipe.")]
StopAfter = Annotated[
    str | None,
    typer.Option("--stop-after", help="Save and stop after 90s, 3m, 1h30m …, or when the recipe's steps are made."),
]
Resume = Annotated[
    str,
    typer.Option("--resume", help="auto: continue the run in --out, if there is one. never: --out must be free."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a setting of the recipe, e.g. optimizer.lr=1e-3; repeatable."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, print all settings, and stop.")]


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """What `scorefield train` takes; see the options above."""

    recipe: Recipe
    out: Out
    data: DataSource = None
    size: Size = None
    crop: Crop = None
    channels: Channels = None
    stop_after: StopAfter = None
    resume: Resume = "never"
    settings: Settings = None
    dry_run: DryRun = False
    device: Device = "auto"


@with_options
def train(options: TrainOptions) -> None:
    """Train a score model on images.

    Ctrl-C saves and stops; the same command with --resume auto continues. A setting of --set that differs from the
    run's, such as optimizer.lr, is then changed from that step on.
    The run's folder is the MODEL of the other commands.

    Example: scorefield train default --data fashion --out runs/fashion --stop-after 3m
    """
    from scorefield.training import Trainer, open_recipe_data, read_recipe
    from scorefield.training.checks import can_resume, refuse_many_processes

    refuse_many_processes()
    if options.resume not in {"auto", "never"}:
        raise UserError("--resume", f"no such choice {options.resume!r}.", "Use auto or never.")
    out, resume, seconds = options.out, options.resume == "auto", _seconds(options.stop_after)
    recipe = read_recipe(options.recipe, _overrides(options))
    change = {setting.partition("=")[0].strip() for setting in options.settings or ()}
    can_resume(recipe, out, resume=resume, change=change)
    with progress("Reading images") as show:
        images = open_recipe_data(recipe, track=lambda done, total: show(done / max(total, 1), ""))
    note(images.summary())
    with progress("Training") as show:
        trainer = Trainer(
            recipe,
            out=out,
            data=images,
            stop_after=seconds,
            resume=resume,
            change=change,
            device=options.device,
            report=lambda now: show(now.share, f"step {now.step}  loss {now.loss:.4f}"),
        )
        if options.dry_run:
            tell(*trainer.recipe.to_toml().split("\n"))
            tell(f"# {trainer.summary()}")
            return
        if trainer.step:
            note(f"resuming at step {trainer.step}")
            for line in trainer.changes:
                note(line)
        trainer.fit()
    skipped = {"skipped steps (loss not finite)": trainer.skipped} if trainer.skipped else {}
    table({"run": out, "steps": trainer.step, "seconds": round(trainer.seconds, 1), **skipped})
    tell(f"Next: {_next(recipe.tasks, out)}")


def _seconds(text: str | None) -> float | None:
    """The length of --stop-after."""
    from scorefield.training import parse_duration

    if text is None:
        return None
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise UserError("--stop-after", f"{error}.") from error
    if seconds <= 0:
        raise UserError("--stop-after", "training needs a length.", "Write for example 90s, 3m or 1h30m.")
    return seconds


def _overrides(options: TrainOptions) -> list[str]:
    """Settings of the recipe as `section.key=value`."""
    import json

    flags = {f"data.{key}": getattr(options, name) for key, name in _DATA_FLAGS.items()}
    given = (f"{key}={json.dumps(value)}" for key, value in flags.items() if value is not None)
    return [*(options.settings or []), *given]


def _next(tasks: tuple[str, ...], run: Path) -> str:
    """The command that uses the trained model."""
    model = run if len(run.parts) > 1 else f"./{run}"  # the name alone may be that of a bundled model
    if not tasks:
        return f"scorefield sample {model} -n 64 --out samples.png"
    verb = "restore --degradation paired" if tasks[0] == "paired" else tasks[0]
    mask = " --mask mask.png" if verb == "inpaint" else ""
    photo = "photo.jpg" if verb == "dejpeg" else "photo.png"
    return f"scorefield {verb} {photo} --model {model}{mask} --out restored"
