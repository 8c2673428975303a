"""What annealed Langevin dynamics holds on its way."""

from dataclasses import replace

import pytest
import torch

from oracles import exact_model, float32_mixture, mixture_moments, tiny_model
from scorefield.figures.anneal import follow
from scorefield.figures.catalog import Anneal
from scorefield.samplers import plan


def test_what_is_kept_is_the_start_the_end_of_each_level_and_the_result():
    model = exact_model(float32_mixture())
    kept = follow(model, Anneal(samples=400, levels=4, steps=300))
    levels = plan(model, "annealed-langevin", 300).sigmas
    assert kept[0].sigma == pytest.approx(float(levels[0]))
    assert kept[1].sigma == pytest.approx(float(levels[levels <= 4][0]))  # twice the width of −1…1
    assert kept[-2].sigma == pytest.approx(float(levels[-1]))
    assert [step.sigma for step in kept] == sorted((step.sigma for step in kept), reverse=True)
    _, covariance = mixture_moments(float32_mixture(), kept[1].sigma)
    spread = kept[1].x.flatten(1).T.cov().trace()
    assert float(spread / covariance.trace()) == pytest.approx(1, abs=0.25)  # 400 chains, 60 noise levels


def test_of_a_short_schedule_every_level_is_shown():
    model = exact_model(float32_mixture())
    model.spec = replace(model.spec, sigma_range=(0.01, 1.0))
    kept = follow(model, Anneal(samples=2, levels=50, steps=20))
    assert [step.sigma for step in kept[1:-1]] == plan(model, "annealed-langevin", 20).sigmas.tolist()


def test_the_same_seed_gives_the_same_images():
    model = tiny_model()
    first, second = (follow(model, Anneal(samples=2, steps=10), seed=5)[-1].x for _ in range(2))
    assert torch.equal(first, second)
