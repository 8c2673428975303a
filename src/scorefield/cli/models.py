"""scorefield models."""

from typing import Annotated, Any

import typer

from scorefield.cli.console import require_free, table, tell, write_json
from scorefield.cli.options import Json, Overwrite


def models(
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
    """List the models and recipes that come along, or show one model's card.

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
