"""scorefield models."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from scorefield.cli.console import require_free, table, tell, write_json
from scorefield.cli.options import Json, Overwrite


class _ShowUnlessTold(TyperGroup):
    """`models` and `models NAME` are short for `models show NAME`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] != "--help"):
            args = ["show", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_ShowUnlessTold,
    help="List models and recipes, show a card, import weights. Example: scorefield models fashion",
)


@app.command()
def show(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL", help="A bundled name, a run folder or a .safetensors file: show its card."
        ),
    ] = None,
    *,
    overwrite: Overwrite = False,
    json: Json = None,
) -> None:
    """List the models and recipes that come along, or show one model's card; `show` may be left out.

    Example: scorefield models fashion
    """
    from scorefield import checkpoint, hub
    from scorefield.training.recipe import bundled_recipes

    require_free(json, overwrite=overwrite)
    if name is None:
        facts: dict[str, Any] = {}
        for model, path in hub.bundled().items():
            card = checkpoint.read_card(path)
            shape = "×".join(str(side) for side in card["shape"])
            facts[model] = (
                f"model, {shape}, {path.stat().st_size / 1e6:.1f} MB: {card['notes'].get('about', '')}"
            )
        for recipe, path in bundled_recipes().items():
            facts[recipe] = f"recipe: {path.read_text(encoding='utf-8').splitlines()[0].lstrip('# ')}"
        table(facts)
        write_json(json, facts)
        return
    card = checkpoint.read_card(hub.find(name))
    for section in ("network", "parameterization", "notes"):
        inner = {key: value for key, value in card[section].items() if key != "recipe"}
        table(inner, title=section)
        tell("")
    table({key: card[key] for key in ("shape", "value_range", "sigma_range")}, title="pictures")
    write_json(json, card)


@app.command("import")
def bring(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A checkpoint of ncsn or ncsnv2 (.pth).")],
    *,
    out: Annotated[Path, typer.Option("--out", help="The .safetensors file to write.")],
    raw: Annotated[bool, typer.Option("--raw", help="The last weights, not their average.")] = False,
    rescaled: Annotated[bool, typer.Option("--rescaled", help="Pixels were in [-1, 1], not [0, 1].")] = False,
    sigma_max: Annotated[
        float | None, typer.Option("--sigma-max", help="First rung; by default the file's own, or 1.")
    ] = None,
    sigma_min: Annotated[
        float | None, typer.Option("--sigma-min", help="Last rung; by default the file's own, or 0.01.")
    ] = None,
    levels: Annotated[
        int | None, typer.Option("--levels", min=1, help="Rungs, where the file does not tell.")
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            "--size", min=1, help="Side of the pictures; by default 28 for grey ones, 32 for color."
        ),
    ] = None,
    overwrite: Overwrite = False,
    json: Json = None,
) -> None:
    """Take over weights of NCSN or NCSNv2 that their authors' programs saved.

    Example: scorefield models import checkpoint_300000.pth --out cifar10.safetensors
    """
    from scorefield import checkpoint, hub
    from scorefield.errors import UserError

    if out.suffix != ".safetensors":
        raise UserError("--out", f"a model is a .safetensors file, got {out.name}.")
    require_free(out, json, overwrite=overwrite)
    found = hub.import_ncsn(
        file,
        raw=raw,
        rescaled=rescaled,
        sigma_max=sigma_max,
        sigma_min=sigma_min,
        levels=levels,
        size=size,
    )
    checkpoint.save(found.model, out, notes={"about": f"imported from {file.name}", "weights": found.weights})
    table(found.facts | {"saved": out})
    write_json(json, found.facts)
