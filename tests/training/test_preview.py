"""Grids on the way: which sampler shows a model."""

import sys

import pytest
import torch

from scorefield.samplers import Tuning
from scorefield.training import build_model
from scorefield.training.preview import preview

from .toys import recipe

module = sys.modules["scorefield.training.preview"]
LADDER = "noise={{sigma_max=1.0, sigma_min=0.01, law={{kind='rungs', levels={levels}}}}}"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ([], {"steps": 9}),
        (['parameterization={kind="ncsn"}', LADDER.format(levels=10)],
         {"sampler": "annealed-langevin", "start": "uniform", "tuning": Tuning(steps_each=10, denoise=True)}),
        (['parameterization={kind="ncsnv2"}', LADDER.format(levels=232)], {"steps": 9}),
    ],
    ids=["no ladder", "few rungs", "many rungs"],
)  # fmt: skip
def test_a_model_of_few_rungs_walks_them_and_any_other_takes_ten_steps(monkeypatch, settings, expected):
    asked = {}

    def spy(model, n, **options):
        asked.update(options)
        return torch.zeros(n, *model.shape)

    monkeypatch.setattr(module, "sample", spy)
    preview(build_model(recipe(*settings), (1, 8, 8)), 4)
    assert asked == expected | {"seed": 0}


def test_the_walk_down_few_rungs_gives_pictures():
    model = build_model(
        recipe('parameterization={kind="ncsn"}', LADDER.format(levels=3), "data.value_range=[0.0, 1.0]"),
        (1, 8, 8),
    )
    first, second = preview(model, 3), preview(model, 3)
    assert first.mode == "L"
    assert first.tobytes() == second.tobytes()
