"""`scorefield evaluate` for conditional models: their restorations, compared with other methods."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scorefield.cli.console import columns, note, progress, require_free, tell, write_json
from scorefield.cli.evaluate_options import EvaluationOptions
from scorefield.errors import UserError

if TYPE_CHECKING:
    from scorefield.data.crops import Zoom
    from scorefield.evaluation.cases import Case
    from scorefield.evaluation.degraded import CropSet
    from scorefield.evaluation.restoration_methods import ModelMethod
    from scorefield.evaluation.tables import RestorationReport
    from scorefield.metrics.features import Features
    from scorefield.metrics.lpips import LPIPS
    from scorefield.model import ScoreModel

_CROPS = 200
_LPIPS = "lpips"


def evaluate_restorations(options: EvaluationOptions, model: "ScoreModel") -> None:
    """Measure a conditional model beside other methods; write tables and sheets."""
    from scorefield.data.grids import save_image
    from scorefield.evaluation.restoration import compare_restorations
    from scorefield.evaluation.restoration_methods import check_methods
    from scorefield.evaluation.tables import markdown
    from scorefield.files import write_atomic

    cases = _cases(options, model)
    files = _files(options.out, [case.slug for case in cases])
    require_free(options.json, *files.values(), overwrite=options.overwrite)
    methods = _methods(options, model)
    check_methods(methods, cases)
    with progress("Reading images") as show:
        crops = _crops(options, model, lambda done, total: show(done / max(total, 1), ""))
    features, lpips = _features(options, crops, str(model.device))
    with progress("Measuring") as show:
        report, sheets = compare_restorations(
            methods,
            cases,
            crops,
            features=features,
            lpips=lpips,
            candidates=options.candidates,
            seed=options.seed,
            progress=show,
        )
    _print(report)
    if options.out is not None:
        write_atomic(files["table.md"], markdown(report))
        write_json(files["table.json"], report.to_dict())
        for slug, sheet in sheets.items():
            save_image(sheet, files[slug])
        tell("", f"written to {options.out}")
    write_json(options.json, report.to_dict())


def _cases(options: EvaluationOptions, model: "ScoreModel") -> "list[Case]":
    """The cases of --task, or of all tasks that the model was trained for."""
    from scorefield.evaluation.cases import CASES, jpeg_cases

    texts = options.task or [task for task in model.tasks if task in CASES]
    if not texts:
        raise UserError(options.model, f"restores by {', '.join(model.tasks)}, for which there is no degradation.")
    cases = [case for text in texts for case in jpeg_cases(text, options.quality or [])]
    if options.quality and not any(case.task == "dejpeg" for case in cases):
        raise UserError("--quality", "belongs to dejpeg.", "Add --task dejpeg.")
    return list({case.text: case for case in cases}.values())


def _files(out: Path | None, slugs: list[str]) -> dict[str, Path]:
    if out is None:
        return {}
    if out.suffix or (out.exists() and not out.is_dir()):
        raise UserError(out, "is no folder.", "Tables and sheets go into one: name it with --out.")
    tables = {name: out / name for name in ("table.md", "table.json")}
    return tables | {slug: out / f"sheet-{slug}.png" for slug in slugs}


def _methods(options: EvaluationOptions, model: "ScoreModel") -> "list[ModelMethod]":
    """The model, then the methods of --against."""
    import scorefield as sf
    from scorefield.evaluation.restoration_methods import model_method, parse_method
    from scorefield.restoration.methods import CONDITIONAL_METHOD

    methods = [model_method(_short(options.model), model, sampler=options.sampler, steps=options.steps)]
    for text in options.against or []:
        named = parse_method(text)
        other = model if named.model in ("", options.model) else sf.load(named.model, device=options.device)
        if other.shape[0] != model.shape[0]:
            raise UserError(text, f"has {other.shape[0]} channels, {options.model} has {model.shape[0]}.")
        conditional = named.method == CONDITIONAL_METHOD
        name = f"{text.removesuffix(named.model)}{_short(named.model or options.model)}"
        if any(name == one.name for one in methods):
            name = text
        methods.append(
            model_method(
                name,
                other,
                method=named.method,
                sampler=options.sampler if conditional else None,
                steps=named.steps or (options.steps if conditional else None),
            )
        )
    return methods


def _short(model: str) -> str:
    """A name for tables: a run's folder, or a file's stem."""
    path = Path(model)
    if path.name == "model.safetensors" and path.parent.name:
        return path.parent.name
    return path.stem if model.endswith(".safetensors") else path.name or model


def _crops(options: EvaluationOptions, model: "ScoreModel", track: Callable[[int, int], None]) -> "CropSet":
    """Held-out crops of the model's size, or of --size."""
    from scorefield.data.datasets import held_out
    from scorefield.evaluation.degraded import open_crop_set

    channels, height, width = model.shape
    if options.size is None and height != width:
        raise UserError("--size", f"the model samples {width}×{height}; crops are square.", "Give their side.")
    zoom, limit = _zoom(options)
    split = held_out(options.data)
    if split == "train":
        note("these images are the split `train`: they are not held out if the models were trained on it")
    return open_crop_set(
        options.data,
        options.size or height,
        n=_CROPS if options.n is None else options.n,
        split=split,
        channels=channels,
        zoom=zoom,
        limit=limit,
        seed=options.seed,
        track=track,
    )


def _zoom(options: EvaluationOptions) -> "tuple[Zoom, int | None]":
    """The reduction of crops and the limit of their size: from --zoom, else from the training."""
    from scorefield import hub

    data: dict[str, Any] = hub.notes(options.model).get("recipe", {}).get("data", {})
    limit = data.get("size")
    if options.zoom is None:
        found = data.get("zoom", "whole") if data.get("window") else "whole"
        return ("whole" if isinstance(found, str) else (float(found[0]), float(found[1]))), limit
    if options.zoom == "whole":
        return "whole", limit
    try:
        ends = [float(part) for part in options.zoom.split(",")]
    except ValueError:
        ends = []
    if len(ends) not in (1, 2) or not 0 < ends[0] <= ends[-1] <= 1:
        raise UserError("--zoom", f"cannot be {options.zoom!r}.", "Write whole, 1, or two ends, e.g. 0.2,1.")
    return (ends[0], ends[-1]), limit


def _features(options: EvaluationOptions, crops: "CropSet", device: str) -> "tuple[list[Features], list[LPIPS]]":
    """The named features, and LPIPS where it is named."""
    from scorefield.data.datasets import open_images
    from scorefield.evaluation.reference import choose_features
    from scorefield.metrics.lpips import read_lpips

    features: list[Features] = []
    lpips: list[LPIPS] = []
    names: list[str | None] = [*(options.features or [])] or [None if crops.set.labels is not None else "random"]
    with progress("Preparing") as show:
        for name in names:
            if (name or "").partition(":")[0] == _LPIPS:
                network, comma, heads = (name or "").partition(":")[2].partition(",")
                if not comma:
                    raise UserError("--features", "LPIPS takes two files.", "Write lpips:ALEXNET_FILE,LIN_FILE.")
                lpips.append(read_lpips(Path(network), Path(heads), device=device))
                continue
            train = crops.set
            if name is None:
                channels, *size = train.shape
                train = open_images(options.data, size=(size[0], size[1]), channels=channels)
            features.append(choose_features(train, name, device=device, progress=show))
    return features, lpips


def _print(report: "RestorationReport") -> None:
    from scorefield.evaluation.tables import differences, heads, numbers

    tell(f"{report.images}; 95 % intervals over images")
    for table in report.tables:
        columns(table.case, ["", *heads(table)], numbers(table))
        columns(f"{table.case}: {table.rows[0].name} minus the others", ["", *heads(table)], differences(table))
        for row in table.rows:
            if row.words:
                timed = f"; {row.seconds * 1000:.3g} ms per candidate" if row.seconds else ""
                tell(f"{row.name}: {row.words}{timed}")
