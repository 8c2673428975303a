"""scorefield models."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from scorefield.cli.console import require_free, table, tell, write_json
from scorefield.cli.options import Json, ModelName, Overwrite

if TYPE_CHECKING:
    from scorefield.model import ScoreModel


class _ShowUnlessTold(TyperGroup):
    """`models` and `models NAME` are short for `models show NAME`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] != "--help"):
            args = ["show", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_ShowUnlessTold,
    help="List models and recipes, show a card, import or export weights. Example: scorefield models fashion",
)


@app.command()
def show(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="A bundled name, a run folder, a .safetensors file or another program's weights: show its card.",
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
            shape = "×".join(str(side) for side in card["spec"]["shape"])
            others = hub.specialists(model)
            size = sum(file.stat().st_size for file in (path, *others.values())) / 1e6
            with_them = f", with a specialist for {', '.join(others)}" if others else ""
            facts[model] = f"model, {shape}, {size:.1f} MB: {card['notes'].get('about', '')}{with_them}"
        for recipe, path in bundled_recipes().items():
            facts[recipe] = f"recipe: {path.read_text(encoding='utf-8').splitlines()[0].lstrip('# ')}"
        table(facts)
        write_json(json, facts)
        return
    if hub.is_foreign(path := hub.find(name)):
        _show_foreign(path, json)
        return
    card = checkpoint.read_card(path)
    for section in ("network", "parameterization", "notes"):
        inner = {key: value for key, value in card[section].items() if key != "recipe"}
        table(inner, title=section)
        tell("")
    table({key: value for key, value in card["spec"].items() if key != "restoration"}, title="images")
    if card["spec"].get("restoration") is not None:
        table(card["spec"]["restoration"], title="restoration")
    write_json(json, card)


def _show_foreign(path: Path, json: Path | None) -> None:
    """The properties of another program's network."""
    from dataclasses import asdict

    from scorefield import hub

    model = hub.import_spandrel(path)
    assert model.spec.restoration is not None
    facts = hub.foreign_facts(model)
    table(facts, title="network")
    tell("")
    table(asdict(model.spec.restoration), title="restoration")
    write_json(json, facts | {"restoration": asdict(model.spec.restoration)})


@app.command("import")
def bring(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A checkpoint of ncsn or ncsnv2 (.pth), or a pipeline of diffusers (folder, hf:owner/name).",
        ),
    ],
    *,
    out: Annotated[Path, typer.Option("--out", help="The .safetensors file to write.")],
    raw: Annotated[bool, typer.Option("--raw", help="The last weights, not their average.")] = False,
    rescaled: Annotated[bool, typer.Option("--rescaled", help="Pixels were in [-1, 1], not [0, 1].")] = False,
    sigma_max: Annotated[
        float | None, typer.Option("--sigma-max", help="First noise level; by default the file's own, or 1.")
    ] = None,
    sigma_min: Annotated[
        float | None, typer.Option("--sigma-min", help="Last noise level; by default the file's own, or 0.01.")
    ] = None,
    levels: Annotated[
        int | None, typer.Option("--levels", min=1, help="Noise levels, where the file does not hold them.")
    ] = None,
    size: Annotated[
        int | None,
        typer.Option("--size", min=1, help="Side of the images; by default 28 for grey ones, 32 for color."),
    ] = None,
    overwrite: Overwrite = False,
    json: Json = None,
) -> None:
    """Take over weights of NCSN or NCSNv2 that their authors' programs saved, or a pipeline of diffusers.

    All options but --out, --overwrite and --json are for NCSN.

    Example: scorefield models import checkpoint_300000.pth --out cifar10.safetensors
    """
    from scorefield import checkpoint, hub
    from scorefield.errors import UserError

    if out.suffix != ".safetensors":
        raise UserError("--out", f"a model is a .safetensors file, got {out.name}.")
    require_free(out, json, overwrite=overwrite)
    if file.is_dir() or hub.is_pipeline(file):
        if raw or rescaled or any(value is not None for value in (sigma_max, sigma_min, levels, size)):
            raise UserError(file, "a pipeline has its own noise levels, range and size.", "Pass only --out.")
        model = hub.import_diffusers(file)
        facts, weights = _facts(model), "the pipeline's"
    else:
        found = hub.import_ncsn(
            file,
            raw=raw,
            rescaled=rescaled,
            sigma_max=sigma_max,
            sigma_min=sigma_min,
            levels=levels,
            size=size,
        )
        model, facts, weights = found.model, found.facts, found.weights
    checkpoint.save(model, out, notes={"about": f"imported from {file.name}", "weights": weights})
    table(facts | {"saved": out})
    write_json(json, facts)


def _facts(model: "ScoreModel") -> dict[str, Any]:
    """The properties of a pipeline, by name."""
    low, high = model.sigma_range
    schedule = "" if model.schedule is None else f"{len(model.schedule)} noise levels, "
    return {
        "network": "UNet2DModel",
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "parameterization": model.parameterization.kind,
        "shape": "×".join(str(side) for side in model.shape),
        "schedule": f"{schedule}{high:g} to {low:g}",
    }


@app.command()
def export(
    model: ModelName,
    *,
    out: Annotated[Path, typer.Option("--out", help="The folder to write, which must not be there yet.")],
) -> None:
    """Write a model as a pipeline of diffusers, if its U-Net is one that theirs can be.

    Example: scorefield models export runs/ddpm --out pipeline
    """
    from scorefield import hub

    folder = hub.export_diffusers(hub.load(model, device="cpu"), out)
    table({"saved": folder, "load it with": f'diffusers.DDPMPipeline.from_pretrained("{folder}")'})
