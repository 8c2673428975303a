"""A model of restoration beside the classical tools that serve its tasks, as `scorefield evaluate` measures it."""

import json
from dataclasses import replace
from pathlib import Path

from benchmarks.restoration.classical import CLASSICAL, fit_tool
from scorefield.data.datasets import held_out, splits
from scorefield.data.grids import save_image
from scorefield.evaluation.cases import parse_case
from scorefield.evaluation.degraded import degrade, open_crop_set
from scorefield.evaluation.restoration import compare_restorations
from scorefield.evaluation.restoration_methods import model_method
from scorefield.evaluation.tables import RestorationReport, markdown
from scorefield.files import write_atomic
from scorefield.hub import load
from scorefield.metrics.features import random_features

_TRAINING = 32  # crops that the tools' strengths are chosen on


def compare_with_tools(
    model: str, data: str, out: Path, *, tasks: list[str], n: int = 200, candidates: int = 1, seed: int = 0
) -> RestorationReport:
    """Tables and sheets in `out`, of the model and all tools of each task.

    Args:
        model: see `hub.load`; a conditional model.
        data: see `evaluation.degraded.open_crop_set`.
        out: a folder.
        tasks: as `evaluation.cases.parse_case` reads them; by default the model's.
        n: number of crops.
        candidates: for each image.
        seed: of crops, degradations and candidates.
    """
    loaded = load(model)
    channels, side, _ = loaded.shape
    test = held_out(data)
    trained = "train" if "train" in splits(data) else test
    crops = open_crop_set(data, side, n=n, split=test, channels=channels, seed=seed)
    training = open_crop_set(data, side, n=_TRAINING, split=trained, channels=channels, seed=seed + 1)
    tables, report = [], None
    for case in [parse_case(text) for text in tasks or loaded.tasks]:
        degraded = degrade(training, case, seed=seed + 1)
        tools = [fit_tool(name, degraded) for name, tool in CLASSICAL.items() if case.task in tool.tasks]
        report, sheets = compare_restorations(
            [model_method(model, loaded), *tools],
            [case],
            crops,
            features=[random_features(channels)],
            candidates=candidates,
            seed=seed,
        )
        tables += report.tables
        save_image(sheets[case.slug], out / f"sheet-{case.slug}.png")
    assert report is not None
    report = replace(report, tables=tuple(tables))
    write_atomic(out / "table.md", markdown(report))
    write_atomic(out / "table.json", json.dumps(report.to_dict(), indent=2) + "\n")
    return report
