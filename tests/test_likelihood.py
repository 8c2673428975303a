"""Likelihoods against densities that are known."""

import math

import pytest
import torch

from oracles import Counting, Gaussian, exact_model, float32_mixture, seeded, tiny_model
from scorefield.distributions import GaussianMixture
from scorefield.errors import UserError
from scorefield.likelihood import dequantized, log_likelihood
from scorefield.samplers import RungeKutta

pytest.importorskip("torchdiffeq")

BIT = math.log(2)
WIDE = {"sigma_range": (0.002, 80.0)}
LOOSE = RungeKutta(rtol=1e-2, atol=1e-2)


def bits_of(density, x, sigma=0.002):
    """−log2 p(x; σ)/D."""
    return -density.log_density(x, sigma) / (x[0].numel() * BIT)


@pytest.mark.parametrize("probes", [None, 1])
def test_a_gaussians_likelihood_is_its_density(probes):
    """Its Jacobian is a multiple of the identity, which ±1 probes see without error."""
    x = 0.7 + 0.5 * torch.randn(5, 1, 4, 4, generator=seeded())
    found = log_likelihood(Gaussian(), x, probes=probes, repeats=2, generator=seeded(1), **WIDE)
    distribution = torch.distributions.Normal(0.7, math.hypot(0.5, 0.002))
    exact = distribution.log_prob(x.double()).flatten(1).sum(1)
    torch.testing.assert_close(found.nats, exact, rtol=0, atol=16 * BIT * 1e-3)
    torch.testing.assert_close(found.bits, -exact / (16 * BIT), rtol=0, atol=1e-3)
    assert float(found.standard_error.max()) < 1e-6


def test_a_mixtures_likelihood_is_its_density():
    mixture = float32_mixture()
    x = mixture.sample(40, generator=seeded())
    found = log_likelihood(mixture, x, probes=None, generator=seeded(1), **WIDE)
    torch.testing.assert_close(found.bits, bits_of(mixture, x).double(), rtol=0, atol=1e-3)
    assert torch.equal(found.standard_error, torch.zeros(40).double())


def test_hutchinsons_estimate_lies_within_its_standard_error():
    mixture = float32_mixture()
    x = mixture.sample(60, generator=seeded())
    found = log_likelihood(mixture, x, repeats=12, solver=RungeKutta(rtol=1e-3, atol=1e-3), generator=seeded(1), **WIDE)
    off = (found.bits - bits_of(mixture, x).double()) / found.standard_error
    assert float(found.standard_error.mean()) > 1e-3
    assert float(off.abs().median()) < 1.2  # 0.7 of Student's distribution with 11 degrees
    assert float(off.mean().abs()) < 0.5  # s.e. 0.14
    assert float(off.std()) == pytest.approx(1, abs=0.35)


def test_more_probes_make_the_error_smaller():
    mixture = float32_mixture()
    x, errors = mixture.sample(60, generator=seeded()), []
    for probes in (1, 16):
        found = log_likelihood(mixture, x, probes=probes, repeats=6, solver=LOOSE, generator=seeded(1), **WIDE)
        errors.append(float(found.standard_error.square().mean().sqrt()))
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.25)


def test_narrow_data_are_more_probable_than_wide_ones():
    """The sign of the divergence: ln(wide/narrow) nats per dimension at the mean."""
    x = torch.full((1, 1, 4, 4), 0.7)
    narrow, wide = (log_likelihood(Gaussian(std=std), x, probes=None, generator=seeded(), **WIDE) for std in (0.1, 1.0))
    assert float(narrow.nats - wide.nats) == pytest.approx(16 * math.log(10), abs=0.02)


def test_published_bits_keep_the_bias_of_a_prior_at_zero():
    """N(0, σ_max²) in place of N(m, σ_max²): −(m·x_T − m²/2)/σ_max² nats."""
    x = 3 + 0.5 * torch.randn(6, 1, 1, 2, generator=seeded())
    distribution = {"generator": seeded(), "sigma_range": (0.002, 20.0), "probes": None}
    ours = log_likelihood(Gaussian(mean=3.0), x, **distribution)
    published = log_likelihood(Gaussian(mean=3.0), x, centre=0.0, **distribution)
    latent = 3 + (x - 3) * math.sqrt((0.25 + 400) / 0.25)
    bias = -(3 * latent - 4.5).flatten(1).sum(1).double() / 400
    torch.testing.assert_close(published.nats - ours.nats, bias, rtol=1e-2, atol=1e-3)


def test_the_models_own_variance_counts_where_noise_drowns_little():
    """Without it, as at a given centre, the distribution at σ_max is too narrow by s²/2σ_max² (z² − 1) nats."""
    x = 0.7 + 1.5 * torch.linspace(-1, 1, 7).reshape(-1, 1, 1, 1).expand(-1, 1, 4, 4)
    exact = torch.distributions.Normal(0.7, math.hypot(0.5, 0.002)).log_prob(x.double()).flatten(1).sum(1)
    off = {}
    for centre in (None, 0.7):
        found = log_likelihood(
            Gaussian(), x, centre=centre, probes=None, sigma_range=(0.002, 5.0),
            generator=seeded(1),
        )  # fmt: skip
        off[centre] = found.nats - exact
    z = (x[:, 0, 0, 0].double() - 0.7) / 0.5
    torch.testing.assert_close(off[0.7], -16 * (z**2 - 1) * 0.25 / 50, rtol=0.02, atol=0.01)
    assert float(off[None].abs().max()) < 0.2  # measured 0.108, the other way's 0.643


def test_bits_count_levels_of_8_bits_in_the_models_range():
    mixture = GaussianMixture(torch.ones(1), torch.zeros(1, 2), torch.full((1,), 0.04))
    x = 0.2 * torch.randn(5, 1, 1, 2, generator=seeded())
    density = bits_of(mixture, x)
    for low, high, more in ((-1.0, 1.0, 7), (0.0, 1.0, 8), (-2.0, 2.0, 6)):
        found = log_likelihood(mixture, x, probes=None, value_range=(low, high), generator=seeded(), **WIDE)
        torch.testing.assert_close(found.bits, density.double() + more, rtol=0, atol=1e-3)
    found = log_likelihood(exact_model(mixture), x, probes=None, generator=seeded())
    torch.testing.assert_close(found.bits, density.double() + 7, rtol=0, atol=1e-3)


def test_a_level_of_a_wide_density_costs_as_the_density_says():
    """−log2 of N(0, 1) at x in [0, 1/128], in the mean, and 7 for the levels."""
    wide = Gaussian(mean=0.0, std=1.0)
    x0 = torch.full((3, 1, 8, 8), 128, dtype=torch.uint8)  # (128 + U)/128 − 1
    found = log_likelihood(
        wide, x0, value_range=(-1, 1), sigma_range=(0.002, 80.0), repeats=2, probes=None,
        solver=RungeKutta(rtol=1e-4, atol=1e-4), generator=seeded(),
    )  # fmt: skip
    nats = 0.5 * math.log(2 * math.pi) + (1 / 128) ** 2 / 6  # E u²/2 of u in [0, 1/128]
    torch.testing.assert_close(found.bits, torch.full((3,), nats / BIT + 7).double(), rtol=0, atol=1e-3)
    assert float(found.standard_error.max()) < 1e-4


def test_dequantisation_stays_within_its_level_and_fills_it():
    levels = torch.arange(256, dtype=torch.uint8).repeat(40, 1)
    x = dequantized(levels, (-1, 1), generator=seeded())
    place = (x + 1) * 128 - levels.float()
    assert float(place.min()) >= -1e-4
    assert float(place.max()) <= 1 + 1e-4
    assert float(place.mean()) == pytest.approx(0.5, abs=0.01)  # s.e. 0.003
    assert float(place.var()) == pytest.approx(1 / 12, rel=0.03)


def test_evaluations_are_counted_and_nothing_is_computed_twice():
    spy = Counting(Gaussian())
    x, reports = torch.ones(2, 1, 2, 2), []
    found = log_likelihood(spy, x, repeats=3, generator=seeded(), track=reports.append, **WIDE)
    assert found.evaluations == spy.calls - 1  # the mean's apart
    assert reports == sorted(reports)
    assert reports[-1] == pytest.approx(1)


def test_one_seed_gives_one_number_and_one_repeat_no_error():
    model, x = tiny_model(), torch.zeros(2, 1, 8, 8)
    how = {"repeats": 1, "solver": LOOSE, "sigma_range": (0.1, 10.0)}
    a, b, c = (log_likelihood(model, x, generator=seeded(seed), **how) for seed in (1, 1, 2))
    assert torch.equal(a.bits, b.bits)
    assert not torch.equal(a.bits, c.bits)
    assert bool(a.standard_error.isnan().all())
    assert not a.bits.requires_grad


def test_exact_and_estimated_traces_of_a_network_agree():
    model, x = tiny_model(size=4), 0.3 * torch.randn(2, 1, 4, 4, generator=seeded())
    how = {"solver": LOOSE, "sigma_range": (0.5, 5.0)}
    exact = log_likelihood(model, x, probes=None, generator=seeded(), **how)
    estimate = log_likelihood(model, x, repeats=6, probes=2, generator=seeded(), **how)
    off = (estimate.bits - exact.bits).abs()
    assert bool((off < 5 * estimate.standard_error + 2e-3).all())


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"repeats": 0}, "repeats: need at least one"),
        ({"probes": 0}, "projections: at least one"),
        ({"sigma_range": (1.0, 0.1)}, "sigma_range: need 0 < σ_min < σ_max"),
    ],
)
def test_impossible_settings_are_refused(how, words):
    with pytest.raises(UserError, match=words):
        log_likelihood(tiny_model(), torch.zeros(1, 1, 8, 8), generator=seeded(), **how)


def test_images_that_do_not_fit_and_ranges_not_known_are_refused():
    x = torch.zeros(1, 1, 8, 8)
    with pytest.raises(UserError, match="their shape is 1×3×8×8"):
        log_likelihood(tiny_model(), torch.zeros(1, 3, 8, 8), generator=seeded())
    with pytest.raises(UserError, match="sigma_range: a plain denoiser has no noise levels"):
        log_likelihood(Gaussian(), x, generator=seeded())
    with pytest.raises(UserError, match="value_range: of images of 8 bits is needed"):
        log_likelihood(Gaussian(), x.byte(), sigma_range=(0.1, 1.0), generator=seeded())
    with pytest.raises(UserError, match="images: of torch.int64"):
        log_likelihood(tiny_model(), x.long(), generator=seeded())
