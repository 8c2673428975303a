"""scorefield train."""

from pathlib import Path
from typing import Annotated

import typer

from scorefield.cli.console import note, progress, table, tell
from scorefield.cli.options import DATA, Channels, Crop, Device, Size
from scorefield.errors import UserError


def train(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE", help="A TOML file or a bundled recipe's name; `scorefield models` lists them."
        ),
    ],
    *,
    out: Annotated[Path, typer.Option("--out", help="A new folder for the run: model, log, sample grids.")],
    data: Annotated[str | None, typer.Option("--data", help=f"{DATA}; wins over the recipe.")] = None,
    size: Size = None,
    crop: Crop = None,
    channels: Channels = None,
    stop_after: Annotated[
        str | None,
        typer.Option("--stop-after", help="Save and stop after 90s, 3m, 1h30m …, or when the recipe's steps are made."),
    ] = None,
    resume: Annotated[
        str,
        typer.Option("--resume", help="auto: continue the run in --out, if there is one. never: --out must be free."),
    ] = "never",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override a setting of the recipe, e.g. optimizer.lr=1e-3; repeatable."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, print all settings, and stop.")] = False,
    device: Device = "auto",
) -> None:
    """Train a score model on images.

    Ctrl-C saves and stops; the same command with --resume auto continues. A setting of --set that differs from the
    run's, such as optimizer.lr, is then changed from that step on.
    The run's folder is the MODEL of the other commands.

    Example: scorefield train default --data fashion --out runs/fashion --stop-after 3m
    """
    from scorefield.training import Trainer, open_recipe_data, parse_duration, read_recipe
    from scorefield.training.checks import can_resume, refuse_many_processes

    refuse_many_processes()

    if resume not in {"auto", "never"}:
        raise UserError("--resume", f"no such choice {resume!r}.", "Use auto or never.")
    try:
        seconds = None if stop_after is None else parse_duration(stop_after)
    except ValueError as error:
        raise UserError("--stop-after", f"{error}.") from error
    if seconds is not None and seconds <= 0:
        raise UserError("--stop-after", "training needs a length.", "Write for example 90s, 3m or 1h30m.")
    flags = {"data.source": data, "data.size": size, "data.crop": crop, "data.channels": channels}
    overrides = [
        *(settings or []),
        *(f"{key}={_toml(value)}" for key, value in flags.items() if value is not None),
    ]
    resolved = read_recipe(recipe, overrides)
    change = {setting.partition("=")[0].strip() for setting in settings or ()}
    can_resume(resolved, out, resume=resume == "auto", change=change)
    with progress("Reading images") as show:
        images = open_recipe_data(resolved, track=lambda done, total: show(done / max(total, 1), ""))
    note(images.summary())

    with progress("Training") as show:
        trainer = Trainer(
            resolved,
            out=out,
            data=images,
            stop_after=seconds,
            resume=resume == "auto",
            change=change,
            device=device,
            report=lambda now: show(now.share, f"step {now.step}  loss {now.loss:.4f}"),
        )
        if dry_run:
            tell(trainer.recipe.to_toml())
            tell(f"# {trainer.summary()}")
            return
        if trainer.step:
            note(f"resuming at step {trainer.step}")
            for line in trainer.changes:
                note(line)
        trainer.fit()
    skipped = {"skipped steps (loss not finite)": trainer.skipped} if trainer.skipped else {}
    table({"run": out, "steps": trainer.step, "seconds": round(trainer.seconds, 1), **skipped})
    tell(f"Next: {_next(resolved.tasks, out)}")


def _next(tasks: tuple[str, ...], run: Path) -> str:
    """The command that uses the trained model."""
    model = run if len(run.parts) > 1 else f"./{run}"  # a bare name would be a bundled model
    if not tasks:
        return f"scorefield sample {model} -n 64 --out samples.png"
    verb = tasks[0] if tasks[0] in {"colorize", "inpaint", "uncrop", "dejpeg", "upscale", "deblur"} else "restore"
    mask = " --mask mask.png" if verb == "inpaint" else ""
    return f"scorefield {verb} photo.png --model {model}{mask} --out restored"


def _toml(value: str | int) -> str:
    import json

    return json.dumps(value)
