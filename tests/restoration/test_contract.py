"""What every restorer keeps to, once over the list of all."""

import pytest
import torch

from oracles import seeded, tiny_model
from restoration.learners import tiny_learner
from scorefield import restoration as package
from scorefield.degradations import Mask, Observation
from scorefield.restoration import DPS, METHODS, MomentMatching, NullSpace, Palette, PiGDM, Projection
from scorefield.samplers import Euler, run

PLAIN, TRAINED = tiny_model(3), tiny_learner(3, size=8)
RESTORERS = {
    "palette": Palette(model=TRAINED),
    "projection": Projection(denoiser=PLAIN),
    "null-space": NullSpace(denoiser=PLAIN),
    "pigdm": PiGDM(denoiser=PLAIN),
    "dps": DPS(denoiser=PLAIN),
    "dps-published": DPS(denoiser=PLAIN, step="published"),
    "moment-matching": MomentMatching(denoiser=PLAIN),
}
MASK = Mask(mask=(torch.rand(1, 1, 8, 8, generator=seeded(1)) > 0.5).float())
X0 = torch.rand(3, 3, 8, 8, generator=seeded(2)) * 2 - 1
SIGMA = torch.tensor([0.2, 1.0, 5.0])

every = pytest.mark.parametrize("restorer", RESTORERS.values(), ids=RESTORERS)


def posterior(restorer, rows=slice(None)):
    with torch.no_grad():
        return restorer.posterior(Observation(y=MASK(X0[rows]), degradation=MASK), generator=seeded(3))


def noisy():
    return X0 + SIGMA.reshape(-1, 1, 1, 1) * torch.randn(X0.shape, generator=seeded(4))


@torch.no_grad()
def denoised(restorer, rows=slice(None)):
    return posterior(restorer, rows).denoiser(noisy()[rows], SIGMA[rows])


def test_the_list_has_every_restorer_of_the_package_and_of_every_method():
    public = [getattr(package, name) for name in package.__all__]
    found = {kind for kind in public if hasattr(kind, "posterior") and hasattr(kind, "__dataclass_fields__")}
    listed = {type(restorer) for restorer in RESTORERS.values()}
    assert found == listed
    assert {type(method.restorer(TRAINED if method.conditional else PLAIN)) for method in METHODS.values()} == listed


@every
def test_a_posterior_denoises_to_images_of_the_same_shape_in_float32_without_a_graph(restorer):
    found = denoised(restorer)
    assert found.shape == X0.shape and found.dtype == torch.float32
    assert bool(found.isfinite().all()) and not found.requires_grad


@every
def test_the_same_call_gives_the_same_bytes_and_changes_neither_x_nor_the_observation(restorer):
    observation, x = Observation(y=MASK(X0), degradation=MASK), noisy()
    y = observation.y.clone()
    with torch.no_grad():
        one, other = (restorer.posterior(observation, generator=seeded(3)).denoiser(x, SIGMA) for _ in range(2))
    assert torch.equal(one, other)
    assert torch.equal(observation.y, y) and torch.equal(x, noisy())


@every
def test_the_observation_is_heard(restorer):
    """With another image around it, the masked is filled otherwise."""
    ends = []
    for y in (MASK(X0), MASK(-X0)):
        made = restorer.posterior(Observation(y=y, degradation=MASK), generator=seeded(3))
        start = torch.randn(X0.shape, generator=seeded(4))
        with torch.no_grad():
            ends.append(run(Euler(), made.denoiser, start, [1.0, 0.5, 0.2], generator=seeded(), project=made.project))
    masked = MASK.mask.bool().expand_as(X0)
    assert not torch.allclose(ends[0][masked], ends[1][masked])


@pytest.mark.parametrize("name", sorted(RESTORERS.keys() - {"palette", "projection"}))  # which draw for a whole batch
def test_images_of_a_batch_do_not_know_of_each_other(name):
    restorer = RESTORERS[name]
    together = denoised(restorer)
    for i in range(3):
        torch.testing.assert_close(together[i : i + 1], denoised(restorer, slice(i, i + 1)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", sorted(RESTORERS.keys() - {"dps-published"}))  # whose algorithm has no such end
def test_where_nothing_is_noisy_the_end_is_degraded_to_what_was_observed(name):
    restorer = RESTORERS[name]
    made, x = posterior(restorer), denoised(restorer)
    end = x if made.project is None else made.project(x, 0.0)
    torch.testing.assert_close(MASK(end), MASK(X0), rtol=0, atol=1e-5)
