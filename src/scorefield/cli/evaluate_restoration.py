"""`scorefield evaluate` for conditional models: their restorations, measured beside other methods."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scorefield.cli.console import columns, note, progress, require_free, tell, write_json
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


@dataclass(frozen=True, kw_only=True)
class EvaluationRequest:
    """The options of `scorefield evaluate`; see there."""

    model: str
    data: str
    n: int | None
    tasks: list[str]
    quality: list[int]
    against: list[str]
    size: int | None
    zoom: str | None
    candidates: int
    sampler: str | None
    steps: int | None
    seed: int
    features: list[str]
    out: Path | None
    overwrite: bool
    json: Path | None
    device: str


def evaluate_restorations(request: EvaluationRequest, model: "ScoreModel") -> None:
    """Measure a conditional model beside other methods; write tables and sheets."""
    from scorefield.data.grids import save_image
    from scorefield.evaluation.restoration import compare_restorations
    from scorefield.evaluation.restoration_methods import check_methods
    from scorefield.evaluation.tables import markdown
    from scorefield.files import write_atomic

    cases = _cases(request, model)
    files = _files(request.out, [case.slug for case in cases])
    require_free(request.json, *files.values(), overwrite=request.overwrite)
    methods = _methods(request, model)
    check_methods(methods, cases)
    with progress("Reading images") as show:
        crops = _crops(request, model, lambda done, total: show(done / max(total, 1), ""))
    features, lpips = _features(request, crops, str(model.device))
    with progress("Measuring") as show:
        report, sheets = compare_restorations(
            methods,
            cases,
            crops,
            features=features,
            lpips=lpips,
            candidates=request.candidates,
            seed=request.seed,
            progress=show,
        )
    _print(report)
    if request.out is not None:
        write_atomic(files["table.md"], markdown(report))
        write_json(files["table.json"], report.to_dict())
        for slug, sheet in sheets.items():
            save_image(sheet, files[slug])
        tell("", f"written to {request.out}")
    write_json(request.json, report.to_dict())


def _cases(request: EvaluationRequest, model: "ScoreModel") -> "list[Case]":
    """The cases of --task, or of all tasks that the model was trained for."""
    from scorefield.evaluation.cases import CASES, jpeg_cases

    texts = request.tasks or [task for task in model.spec.tasks if task in CASES]
    if not texts:
        raise UserError(request.model, f"restores by {', '.join(model.spec.tasks)}, for which there is no degradation.")
    cases = [case for text in texts for case in jpeg_cases(text, request.quality)]
    if request.quality and not any(case.task == "dejpeg" for case in cases):
        raise UserError("--quality", "belongs to dejpeg.", "Add --task dejpeg.")
    return list({case.text: case for case in cases}.values())


def _files(out: Path | None, slugs: list[str]) -> dict[str, Path]:
    if out is None:
        return {}
    if out.suffix or (out.exists() and not out.is_dir()):
        raise UserError(out, "is no folder.", "Tables and sheets go into one: name it with --out.")
    tables = {name: out / name for name in ("table.md", "table.json")}
    return tables | {slug: out / f"sheet-{slug}.png" for slug in slugs}


def _methods(request: EvaluationRequest, model: "ScoreModel") -> "list[ModelMethod]":
    """The model, then the methods of --against."""
    import scorefield as sf
    from scorefield.evaluation.restoration_methods import model_method, parse_method
    from scorefield.restoration.methods import CONDITIONAL_METHOD

    methods = [model_method(_short(request.model), model, sampler=request.sampler, steps=request.steps)]
    for text in request.against:
        named = parse_method(text)
        other = model if named.model in ("", request.model) else sf.load(named.model, device=request.device)
        if other.shape[0] != model.shape[0]:
            raise UserError(text, f"has {other.shape[0]} channels, {request.model} has {model.shape[0]}.")
        conditional = named.method == CONDITIONAL_METHOD
        name = f"{text.removesuffix(named.model)}{_short(named.model or request.model)}"
        if any(name == one.name for one in methods):
            name = text
        methods.append(
            model_method(
                name,
                other,
                method=named.method,
                sampler=request.sampler if conditional else None,
                steps=named.steps or (request.steps if conditional else None),
            )
        )
    return methods


def _short(model: str) -> str:
    """A name for tables: a run's folder, or a file's stem."""
    path = Path(model)
    if path.name == "model.safetensors" and path.parent.name:
        return path.parent.name
    return path.stem if model.endswith(".safetensors") else path.name or model


def _crops(request: EvaluationRequest, model: "ScoreModel", track: Callable[[int, int], None]) -> "CropSet":
    """Held-out crops of the model's size, or of --size."""
    from scorefield.data.datasets import held_out
    from scorefield.evaluation.degraded import open_crop_set

    channels, height, width = model.shape
    if request.size is None and height != width:
        raise UserError("--size", f"the model samples {width}×{height}; crops are square.", "Give their side.")
    zoom, limit = _zoom(request)
    split = held_out(request.data)
    if split == "train":
        note("these images are the split `train`: they are not held out if the models were trained on it")
    return open_crop_set(
        request.data,
        request.size or height,
        n=_CROPS if request.n is None else request.n,
        split=split,
        channels=channels,
        zoom=zoom,
        limit=limit,
        seed=request.seed,
        track=track,
    )


def _zoom(request: EvaluationRequest) -> "tuple[Zoom, int | None]":
    """The reduction of crops and the limit of their size: from --zoom, else from the training."""
    from scorefield import hub

    data: dict[str, Any] = hub.notes(request.model).get("recipe", {}).get("data", {})
    limit = data.get("size")
    if request.zoom is None:
        found = data.get("zoom", "whole") if data.get("window") else "whole"
        return ("whole" if isinstance(found, str) else (float(found[0]), float(found[1]))), limit
    if request.zoom == "whole":
        return "whole", limit
    try:
        ends = [float(part) for part in request.zoom.split(",")]
    except ValueError:
        ends = []
    if len(ends) not in (1, 2) or not 0 < ends[0] <= ends[-1] <= 1:
        raise UserError("--zoom", f"cannot be {request.zoom!r}.", "Write whole, 1, or two ends, e.g. 0.2,1.")
    return (ends[0], ends[-1]), limit


def _features(request: EvaluationRequest, crops: "CropSet", device: str) -> "tuple[list[Features], list[LPIPS]]":
    """The named features and perceptual distances."""
    from scorefield.data.datasets import open_images
    from scorefield.evaluation.reference import choose_features
    from scorefield.metrics.lpips import read_lpips

    features: list[Features] = []
    lpips: list[LPIPS] = []
    names: list[str | None] = [*request.features] or [None if crops.set.labels is not None else "random"]
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
                train = open_images(request.data, size=(size[0], size[1]), channels=channels)
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
