"""Bits per dimension of a set of images."""

import math

import pytest
import torch

from oracles import seeded, tiny_model
from scorefield.errors import UserError
from scorefield.evaluation.bits import bits_per_dimension
from scorefield.likelihood import log_likelihood
from scorefield.samplers import RungeKutta
from training.toys import images

pytest.importorskip("torchdiffeq")


def test_the_mean_and_its_error_are_those_of_the_images():
    reports, model, test = [], tiny_model(), images(24)
    found = bits_per_dimension(
        model, test, n=5, rtol=1e-2, batch=2, progress=lambda share, words: reports.append((words, share))
    )
    assert found.n == len(found.each) == 5
    assert found.mean == pytest.approx(sum(found.each) / 5)
    assert found.standard_error == pytest.approx(float(torch.tensor(found.each).std()) / math.sqrt(5))
    assert found.data.startswith("ramps, 24 images, ")
    assert "±" in found.rows()["bits per dimension"]
    shares = [share for _, share in reports]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)
    assert {words for words, _ in reports} == {"Likelihood"}


def test_it_is_log_likelihood_in_full_precision():
    model, test = tiny_model(), images(3)
    found = bits_per_dimension(model.with_precision(torch.bfloat16), test, n=9, rtol=1e-2, seed=4)
    solver = RungeKutta(rtol=1e-2, atol=1e-2)
    same = log_likelihood(model, test.images, repeats=1, solver=solver, generator=seeded(4))
    assert found.each == tuple(same.bits.tolist())
    assert found.evaluations == same.evaluations


def test_images_that_cannot_be_measured_are_refused():
    with pytest.raises(UserError, match="its images are 3×8×8, the model draws 1×8×8"):
        bits_per_dimension(tiny_model(), images(channels=3), n=4)
    with pytest.raises(UserError, match="a standard error needs at least two images, got 1"):
        bits_per_dimension(tiny_model(), images(), n=1)
