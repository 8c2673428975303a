"""What `scorefield evaluate` does for models that restore."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scorefield.cli.console import columns, note, progress, require_free, tell, write_json
from scorefield.errors import UserError

if TYPE_CHECKING:
    from scorefield.data.crops import Zoom
    from scorefield.evaluation.cases import Case
    from scorefield.evaluation.systems import Restoring
    from scorefield.evaluation.tables import Restored
    from scorefield.evaluation.trial import Windows
    from scorefield.metrics.features import Features
    from scorefield.metrics.lpips import LPIPS
    from scorefield.model import ScoreModel

_SETTING = 32  # training images that classical tools are set by
_WINDOWS = 200
_WEIGHTS = "lpips"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What `scorefield evaluate` was asked for; see there."""

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


def evaluate_restoring(request: Request, model: "ScoreModel") -> None:
    """Measure a model that restores, and what it is to be compared with; write tables and sheets."""
    from scorefield.data.grids import save_image
    from scorefield.evaluation.side_by_side import check_systems, compare_restoring
    from scorefield.evaluation.tables import markdown
    from scorefield.files import write_atomic

    cases = _cases(request, model)
    files = _files(request.out, [case.slug for case in cases])
    require_free(request.json, *files.values(), overwrite=request.overwrite)
    systems, tools = _systems(request, model)
    check_systems(systems, cases, tools)
    with progress("Reading images") as show:
        windows, training = _images(request, model, lambda done, total: show(done / max(total, 1), ""))
    features, lpips = _judges(request, windows, str(model.device))
    with progress("Measuring") as show:
        report, sheets = compare_restoring(
            systems,
            cases,
            windows,
            training=training,
            tools=tools,
            features=features,
            lpips=lpips,
            candidates=request.candidates,
            seed=request.seed,
            track=lambda words, share: show(share, words),
        )
    _print(report)
    if request.out is not None:
        write_atomic(files["table.md"], markdown(report))
        write_json(files["table.json"], report.to_dict())
        for slug, sheet in sheets.items():
            save_image(sheet, files[slug])
        tell(f"\nwritten to {request.out}")
    write_json(request.json, report.to_dict())


def _cases(request: Request, model: "ScoreModel") -> "list[Case]":
    """Those asked for, or all that the model was trained for."""
    from scorefield.evaluation.cases import CASES, jpeg_cases

    texts = request.tasks or [task for task in model.spec.tasks if task in CASES]
    if not texts:
        raise UserError(request.model, f"restores by {', '.join(model.spec.tasks)}, which no degradation is made for.")
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


def _systems(request: Request, model: "ScoreModel") -> "tuple[list[Restoring], list[str] | None]":
    """The model, the other networks, and the classical tools if any is named."""
    import scorefield as sf
    from scorefield.evaluation.classical import CLASSICAL
    from scorefield.evaluation.systems import read_name, restoring
    from scorefield.restoration.methods import CONDITIONAL_METHOD as LEARNED

    systems = [restoring(_short(request.model), model, sampler=request.sampler, steps=request.steps)]
    tools = [name for name in request.against if name in CLASSICAL]
    for text in request.against:
        if text in CLASSICAL or text == "input":
            continue
        named = read_name(text)
        other = model if named.model in ("", request.model) else sf.load(named.model, device=request.device)
        if other.shape[0] != model.shape[0]:
            raise UserError(text, f"has {other.shape[0]} channels, {request.model} has {model.shape[0]}.")
        learned = named.method == LEARNED
        steps = named.steps or (request.steps if learned else None)
        prefix = text.removesuffix(named.model)
        name = f"{prefix}{_short(named.model or request.model)}"
        if any(name == one.name for one in systems):
            name = text
        systems.append(
            restoring(name, other, method=named.method, sampler=request.sampler if learned else None, steps=steps)
        )
    return systems, tools or None


def _short(model: str) -> str:
    """A name for tables: of a run its folder's, of a file its own."""
    path = Path(model)
    if path.name == "model.safetensors" and path.parent.name:
        return path.parent.name
    return path.stem if model.endswith(".safetensors") else path.name or model


def _images(
    request: Request, model: "ScoreModel", track: Callable[[int, int], None]
) -> "tuple[Windows, Callable[[], Windows]]":
    """Windows that nothing was trained on, and a way to those that were."""
    from scorefield.data.datasets import held_out, splits
    from scorefield.evaluation.trial import open_test_windows

    channels, height, width = model.shape
    if request.size is None and height != width:
        raise UserError("--size", f"the model draws {width}×{height}; windows are square.", "Name their side.")
    side = request.size or height
    zoom, limit = _cut(request)
    split = held_out(request.data)
    if split == "train":
        note("these images are of the split `train`: not held out, if the models learned from it")

    def opened(split: str, n: int, seed: int) -> "Windows":
        return open_test_windows(
            request.data,
            side,
            n=n,
            split=split,
            channels=channels,
            zoom=zoom,
            limit=limit,
            seed=seed,
            track=track,
        )

    trained = "train" if "train" in splits(request.data) else split
    n = _WINDOWS if request.n is None else request.n
    return opened(split, n, request.seed), lambda: opened(trained, _SETTING, request.seed + 1)


def _cut(request: Request) -> "tuple[Zoom, int | None]":
    """How windows are cut: as asked for, or else as in training."""
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


def _judges(request: Request, windows: "Windows", device: str) -> "tuple[list[Features], list[LPIPS]]":
    """Named features, and perceptual distances."""
    from scorefield.data.datasets import open_images
    from scorefield.evaluation.reference import choose_features
    from scorefield.metrics.lpips import read_lpips

    features: list[Features] = []
    lpips: list[LPIPS] = []
    names: list[str | None] = [*request.features] or [None if windows.set.labels is not None else "random"]
    with progress("Preparing") as show:
        for name in names:
            if (name or "").partition(":")[0] == _WEIGHTS:
                network, comma, heads = (name or "").partition(":")[2].partition(",")
                if not comma:
                    raise UserError("--features", "LPIPS takes two files.", "Write lpips:ALEXNET_FILE,LIN_FILE.")
                lpips.append(read_lpips(Path(network), Path(heads), device=device))
                continue
            train = windows.set
            if name is None:
                channels, *size = train.shape
                train = open_images(request.data, size=(size[0], size[1]), channels=channels)
            features.append(choose_features(train, name, device=device, progress=show))
    return features, lpips


def _print(report: "Restored") -> None:
    from scorefield.evaluation.tables import above, heads, numbers

    tell(f"{report.images}; 95 % intervals over images")
    for table in report.tables:
        columns(table.case, ["", *heads(table)], numbers(table))
        columns(f"{table.case}: {table.rows[0].name} above the others", ["", *heads(table)], above(table))
        for row in table.rows:
            if row.words:
                timed = f"; {row.seconds * 1000:.3g} ms an image" if row.seconds else ""
                tell(f"{row.name}: {row.words}{timed}")
