"""All families say the same of one density, at every σ from 1e-3 to 1e3, in float32.

Each family's network output is made exact: F = (D − skip x)/out from the closed-form D of a mixture in
float64, then rounded to float32. What the model makes of it must be D and (x − D)/σ up to a few roundings.
"""

import json
import math

import pytest
import torch

from oracles import Answers, float64_mixture, lively, seeded
from scorefield.errors import UserError
from scorefield.model import ModelSpec, ScoreModel, score
from scorefield.networks import UNet
from scorefield.networks.layers import SinusoidalEmbedding
from scorefield.parameterization import (
    EDM,
    NCSN,
    NCSNv2,
    Score,
    VariancePreserving,
    from_card,
    to_card,
)
from scorefield.samplers import Heun
from scorefield.schedules import geometric, linear_beta, palette_training, sigma_to_gamma, subsample, vp, vp_time

EPS = torch.finfo(torch.float32).eps
SCHEDULE = tuple(geometric(1e3, 1e-3, 25).tolist())
FAMILIES = {
    "edm": EDM(),
    "edm-unit": EDM(sigma_data=1.0),
    "edm-wiener": EDM(input="wiener"),
    "noise": VariancePreserving(),
    "data": VariancePreserving(predicts="x0"),
    "velocity": VariancePreserving(predicts="velocity"),
    "ncsn": NCSN(sigmas=SCHEDULE),
    "ncsnv2": NCSNv2(),
    "score": Score(),
    "noise-index": VariancePreserving(conditioning="index", sigmas=SCHEDULE),
    "noise-root-gamma": VariancePreserving(conditioning="root-gamma"),
    "data-index": VariancePreserving(predicts="x0", conditioning="index", sigmas=SCHEDULE),
    "velocity-time": VariancePreserving(predicts="velocity", conditioning="time"),
}
families = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)


def truth():
    """Noisy points (R, B, 2), σ (R, B), D and (x − D)/σ in float64; x and σ are float32 numbers."""
    mixture, generator = float64_mixture(), seeded()
    sigmas = torch.tensor(SCHEDULE)
    sigma = sigmas[:, None].expand(-1, 64).double()
    clean = mixture.sample(sigma.numel(), generator=generator).reshape(*sigma.shape, 2)
    noise = torch.randn(clean.shape, generator=generator, dtype=torch.float64)
    x = (clean + sigma[..., None] * noise).float().double()
    denoised = mixture(x.reshape(-1, 2), sigma.flatten()).reshape(x.shape)
    # −σ · score, which unlike (x − D)/σ loses nothing where σ is small
    noise = -(sigma[..., None] * mixture.score(x.reshape(-1, 2), sigma.flatten()).reshape(x.shape))
    return x, sigma, denoised, noise


def exact_output(family, x, sigma, denoised, noise):
    """F in float64, from whichever of the two equations is the better conditioned."""
    c = family(sigma.flatten())
    skip, out, noise_skip, noise_out = (v.reshape(*sigma.shape, 1) for v in c[:4])
    by_noise = (noise - noise_skip * x) / noise_out
    by_denoised = (denoised - skip * x) / out
    return torch.where(sigma[..., None] < 1, by_noise, by_denoised)


@families
def test_denoised_and_noise_are_exact_at_every_sigma_in_float32(family):
    x, sigma, denoised, noise = truth()
    output = exact_output(family, x, sigma, denoised, noise).float().reshape(-1, 2)
    model = ScoreModel(Answers(output), family, ModelSpec(shape=(2,)))
    flat, levels = x.float().reshape(-1, 2), sigma.float().flatten()
    denoised_error = (model(flat, levels).double().reshape(x.shape) - denoised).abs()
    noise_error = (model.noise(flat, levels).double().reshape(x.shape) - noise).abs()
    assert model(flat, levels).dtype == model.noise(flat, levels).dtype == torch.float32

    # x = D + σ n is a sum of float32 numbers: no family can tell D better than to a rounding of x
    assert (denoised_error / x.abs().clamp_min(1)).max() < 4 * EPS  # measured 0.5 to 2.4
    if isinstance(family, EDM) or getattr(family, "predicts", "noise") != "noise":  # these do not even lose that
        assert (denoised_error / denoised.abs().clamp_min(1)).max() < 4 * EPS  # measured 0.5 to 2.4; else 966
    if getattr(family, "predicts", "") == "x0":  # the noise of a network that gives D has to be a difference
        assert (noise_error / (x.abs() / sigma[..., None]).clamp_min(1)).max() < 4 * EPS  # 1.2
    else:
        assert (noise_error / noise.abs().clamp_min(1)).max() < 4 * EPS  # measured 0.5 to 2.1


@families
def test_noise_at_the_smallest_sigma_is_better_than_the_naive_difference(family):
    x, sigma, denoised, noise = (t[-1] for t in truth())
    output = exact_output(family, x, sigma, denoised, noise).float()
    model = ScoreModel(Answers(output), family, ModelSpec(shape=(2,)))
    level = sigma.float()

    def error(estimate):
        return float((estimate.double() - noise).norm() / noise.norm())

    naive = (x.float() - model(x.float(), level)) / level[:, None]
    assert error(naive) > 1e-3  # measured 1.4e-2 to 3.8e-2: the bound below has teeth
    if getattr(family, "predicts", "") != "x0":
        assert error(model.noise(x.float(), level)) < 8 * EPS  # eight operations on each number
        scored = score(model, x.float(), level)
        torch.testing.assert_close(scored.double(), -noise / sigma[:, None], rtol=1e-6, atol=1e-6 / SCHEDULE[-1])


def test_the_wiener_input_is_the_best_linear_guess_at_the_image():
    # Of x = x0 + σ n with variances σ_d² and σ², a x is nearest to x0 in the mean for a = σ_d²/(σ_d² + σ²).
    sigma = torch.tensor([0.01, 0.3, 5.0])
    c = EDM(sigma_data=0.4, input="wiener")(sigma)
    torch.testing.assert_close(0.4 * c.c_in, 0.16 / (0.16 + sigma**2))
    plain = EDM(sigma_data=0.4)(sigma)
    assert all(torch.equal(a, b) for a, b in zip(c[:4], plain[:4], strict=True))


@families
def test_the_two_equations_say_the_same(family):
    sigma = torch.logspace(-3, 3, 61, dtype=torch.float64)
    c = family(sigma)
    torch.testing.assert_close(c.noise_skip, (1 - c.c_skip) / sigma, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(c.noise_out, -c.c_out / sigma, rtol=1e-12, atol=0)
    assert all(v.shape == sigma.shape and v.dtype == sigma.dtype for v in c)


@families
def test_coefficients_in_float32_are_good_to_a_few_roundings(family):
    sigma = torch.logspace(-3, 3, 61)
    for ours, exact in zip(family(sigma), family(sigma.double()), strict=True):
        torch.testing.assert_close(ours.double(), exact, rtol=6 * EPS, atol=1e-12)


@families
def test_the_network_receives_the_scaled_image_and_the_label(family):
    network = Answers(torch.zeros(3, 2))
    x, sigma = torch.tensor([[1.0, -2.0]] * 3), torch.tensor([0.5, 1.0, 4.0])
    ScoreModel(network, family, ModelSpec(shape=(2,)))(x, sigma)
    c, (shown, label, source) = family(sigma), network.shown
    assert torch.equal(shown, c.c_in[:, None] * x) and torch.equal(label, c.label) and source is None


@pytest.mark.parametrize(
    "family", [VariancePreserving(), VariancePreserving(predicts="x0"), VariancePreserving(predicts="velocity")]
)
def test_variance_preserving_families_scale_by_the_root_of_gamma(family):
    c = family(torch.logspace(-3, 3, 61, dtype=torch.float64))
    torch.testing.assert_close(c.c_in**2, c.label)
    sigma = torch.tensor([3.0])
    assert float(family(sigma).label) == pytest.approx(0.1)


def test_velocity_is_edm_at_unit_spread_with_the_sign_reversed():
    sigma = torch.logspace(-3, 3, 61, dtype=torch.float64)
    v, edm = VariancePreserving(predicts="velocity")(sigma), EDM(sigma_data=1.0)(sigma)
    for name in ("c_skip", "noise_skip", "c_in"):
        torch.testing.assert_close(getattr(v, name), getattr(edm, name))
    for name in ("c_out", "noise_out"):
        torch.testing.assert_close(getattr(v, name), -getattr(edm, name))


def test_edm_keeps_input_and_target_at_unit_variance():
    spread, sigma = 0.5, torch.logspace(-2, 2, 9, dtype=torch.float64)
    c = EDM(sigma_data=spread)(sigma)
    # for data of variance σ_d²: Var(scale x) = 1 and Var((x0 − skip x)/out) = 1
    torch.testing.assert_close(c.c_in**2 * (spread**2 + sigma**2), torch.ones_like(sigma))
    torch.testing.assert_close(
        ((1 - c.c_skip) ** 2 * spread**2 + (c.c_skip * sigma) ** 2) / c.c_out**2, torch.ones_like(sigma)
    )
    torch.testing.assert_close(c.label, sigma.log() / 4)


@pytest.mark.parametrize(
    ("family", "target"),
    [
        (VariancePreserving(), lambda x0, n, sigma: n),
        (VariancePreserving(predicts="x0"), lambda x0, n, sigma: x0),
        (VariancePreserving(predicts="velocity"), lambda x0, n, sigma: (n - sigma * x0) / math.sqrt(1 + sigma**2)),
        (NCSN(sigmas=(2.0, 0.5)), lambda x0, n, sigma: -n / sigma),
        (NCSNv2(), lambda x0, n, sigma: -n),
        (Score(), lambda x0, n, sigma: -n / sigma),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_a_network_that_gives_what_its_paper_asks_for_gives_back_the_image(family, target):
    x0, n = torch.tensor([[0.3, -0.9]]), torch.tensor([[1.2, 0.4]])
    for sigma in (0.5, 2.0):
        model = ScoreModel(Answers(target(x0, n, sigma)), family, ModelSpec(shape=(2,)))
        torch.testing.assert_close(model(x0 + sigma * n, torch.tensor([sigma])), x0)
        torch.testing.assert_close(model.noise(x0 + sigma * n, torch.tensor([sigma])), n)


def test_ncsn_receives_the_nearest_level():
    c = NCSN(sigmas=(10.0, 1.0, 0.1))(torch.tensor([10.0, 1.0, 0.1, 0.9, 0.2]))
    assert c.label.tolist() == [0, 1, 2, 1, 2]


class GaussianOnLevels(torch.nn.Module):
    """The score of N(0, s²) at each noise level, as NCSN learns it."""

    def __init__(self, sigmas, spread):
        super().__init__()
        self.sigmas, self.spread = torch.tensor(sigmas), spread

    def forward(self, x, label, source=None):
        return -x / (self.spread**2 + self.sigmas[label.long()] ** 2)[:, None]


@pytest.mark.parametrize("spread", [0.01, 0.3, 1.0])
@pytest.mark.parametrize("off", [0.8, 1.0, 1.25])
def test_between_levels_ncsn_keeps_the_nearest_levels_noise(spread, off):
    # at σ = c σ_i the noise is (s² + c²σ_i²)/(c (s² + σ_i²)) of the truth; by its score, c times it
    schedule = (1.7, 1.0, 0.6)
    model = ScoreModel(GaussianOnLevels(schedule, spread), NCSN(sigmas=schedule), ModelSpec(shape=(1,)))
    x, sigma = torch.linspace(-3, 3, 7)[:, None], torch.full((7,), off)
    truth = sigma[:, None] * x / (spread**2 + off**2)
    share = (spread**2 + off**2) / (off * (spread**2 + 1))
    torch.testing.assert_close(model.noise(x, sigma), share * truth)
    torch.testing.assert_close(model(x, sigma), x - off * share * truth)
    assert abs(share - 1) <= abs(off * share - 1) + 1e-9  # nearer than by the score, as long as s < √3 σ


@pytest.mark.parametrize("sigmas", [(1.0, 2.0), (1.0, 1.0), (1.0, 0.0), (1.0, -0.5), (math.nan,), ()])
def test_levels_that_are_no_schedule_are_refused(sigmas):
    with pytest.raises(UserError, match="sigmas"):
        NCSN(sigmas=sigmas)
    with pytest.raises(UserError, match="sigmas"):
        from_card({"kind": "ncsn", "sigmas": list(sigmas)})


@families
def test_a_card_makes_the_same_family_again(family):
    assert from_card(json.loads(json.dumps(to_card(family)))) == family


def test_unknown_families_and_settings_are_named():
    with pytest.raises(UserError, match=r"no such kind 'edn'.*Did you mean `edm`"):
        from_card({"kind": "edn"})
    with pytest.raises(UserError, match=r"parameterization edm.*sigma_date"):
        from_card({"kind": "edm", "sigma_date": 1})
    with pytest.raises(UserError, match="no such kind"):
        from_card({})


PREDICTS = pytest.mark.parametrize("predicts", ["noise", "x0", "velocity"])


@PREDICTS
def test_the_index_counts_from_the_least_noise(predicts):
    schedule = linear_beta()
    coefficients = VariancePreserving(predicts=predicts, conditioning="index", sigmas=tuple(schedule.tolist()))(
        schedule
    )
    assert coefficients.label.tolist() == list(range(999, -1, -1))


@PREDICTS
def test_between_levels_only_the_label_is_rounded(predicts):
    off = torch.tensor([150.0, 9.0, 7.0, 1.9, 0.001])
    index = VariancePreserving(predicts=predicts, conditioning="index", sigmas=(16.0, 4.0, 1.0))(off)
    assert index.label.tolist() == [2, 2, 1, 0, 0]
    for ours, plain in zip(index[:-1], VariancePreserving(predicts=predicts)(off)[:-1], strict=True):
        assert torch.equal(ours, plain)


@PREDICTS
def test_the_time_is_scaled_by_999(predicts):
    coefficients = VariancePreserving(predicts=predicts, conditioning="time")(vp(5, end=0.2))
    torch.testing.assert_close(coefficients.label, 999 * torch.tensor([1, 0.8, 0.6, 0.4, 0.2]), rtol=1e-5, atol=0)


def test_the_label_of_a_score_network_is_sigma():
    sigma = torch.tensor([50.0, 0.01])
    assert torch.equal(Score()(sigma).label, sigma)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"conditioning": "indx"}, r"no such conditioning 'indx'.*Did you mean `index`"),
        ({"predicts": "nose"}, r"no such predicts 'nose'.*Did you mean `noise`"),
        ({"conditioning": "index", "sigmas": (1.0, 2.0)}, "must decrease"),
        ({"sigmas": (1.0, 1.0)}, "must decrease"),
        ({"conditioning": "index", "sigmas": (1.0, 0.0)}, "own noise levels are positive"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, complaint):
    with pytest.raises((UserError, ValueError), match=complaint):
        VariancePreserving(**settings)
    with pytest.raises(UserError, match=complaint):
        from_card({"kind": "variance-preserving", **settings})


@pytest.mark.parametrize("family", [NCSN(), VariancePreserving(conditioning="index")])
def test_an_index_without_a_schedule_is_refused(family):
    with pytest.raises(ValueError, match="needs `sigmas`, its schedule"):
        family(torch.ones(1))


@PREDICTS
def test_a_variance_preserving_card_holds_its_schedule(predicts):
    made = VariancePreserving(predicts=predicts, conditioning="index", sigmas=(2.0, 1.0))
    again = from_card(json.loads(json.dumps(to_card(made))))
    assert again == made
    model = ScoreModel(Answers(torch.zeros(1, 2)), again, ModelSpec(shape=(2,)))
    assert model.schedule.tolist() == [2.0, 1.0]
    continuous = VariancePreserving(predicts=predicts)
    assert ScoreModel(Answers(torch.zeros(1, 2)), continuous, ModelSpec(shape=(2,))).schedule is None


class SeenAsVE(torch.nn.Module):
    """A network that predicts the noise of √γ x0 + √(1−γ) n at time t, in the coordinate x0 + σn: its score.

    `sigma_of` turns the label into σ, `label_of` σ into the network's label.
    """

    def __init__(self, network, sigma_of, label_of):
        super().__init__()
        self.network, self.sigma_of, self.label_of = network, sigma_of, label_of

    def forward(self, x, label, source=None):
        sigma = self.sigma_of(label)
        wide = sigma[:, None, None, None]
        return -self.network(x / (1 + wide**2).sqrt(), self.label_of(sigma)) / wide


def views():
    """One network as a VP model and twice as a VE model: conditioned on σ, and on the index in the schedule."""
    torch.manual_seed(0)
    network = lively(UNet(channels=1, widths=(8, 8))).eval()
    schedule = linear_beta()
    sigmas = tuple(schedule.tolist())
    for conditioning, label_of in {
        "index": lambda sigma: 999 - (sigma[:, None] / schedule).log().abs().argmin(1).float(),
        "time": lambda sigma: 999 * vp_time(sigma),
        "gamma": sigma_to_gamma,
    }.items():
        vp_view = VariancePreserving(conditioning=conditioning, sigmas=sigmas)
        by_sigma = SeenAsVE(network, lambda label: label, label_of)
        by_place = SeenAsVE(network, lambda label: schedule[label.long()], label_of)
        yield [
            ScoreModel(part, family, ModelSpec(shape=(1, 8, 8))).eval()
            for part, family in [
                (network, vp_view),
                (by_sigma, Score()),
                (by_place, NCSN(sigmas=sigmas)),
            ]
        ]


@pytest.mark.parametrize("which", range(3), ids=["index", "time", "gamma"])
def test_a_network_seen_as_vp_and_as_ve_is_one_denoiser(which):
    models = list(views())[which]
    sigma = linear_beta()[::50]
    x = torch.randn(20, 1, 8, 8, generator=seeded()) * (1 + sigma[:, None, None, None] ** 2).sqrt()
    with torch.no_grad():
        denoised = [model(x, sigma) for model in models]
        # in the paper's own terms: x0 = (x_t − √(1−γ) ε)/√γ
        gamma = (1 / (1 + sigma.double() ** 2))[:, None, None, None]
        label = models[0].parameterization(sigma).label
        epsilon = models[0].network((gamma.sqrt() * x).float(), label).double()
    papers = (gamma.sqrt() * x - (1 - gamma).sqrt() * epsilon) / gamma.sqrt()
    for ours in denoised:
        error = (ours.double() - papers) / (1 + sigma[:, None, None, None])
        assert error.abs().max() < 100 * EPS  # labels to 1000 are rounded, frequencies to 1; √(16 layers) eps


@pytest.mark.parametrize("which", range(3), ids=["index", "time", "gamma"])
def test_a_network_seen_as_vp_and_as_ve_draws_the_same_samples(which):
    models = list(views())[which]
    schedule = torch.cat([subsample(linear_beta(), 6), torch.zeros(1)])
    x = schedule[0] * torch.randn(4, 1, 8, 8, generator=seeded())
    with torch.no_grad():
        drawn = [list(Heun().iterate(model, x, schedule, generator=seeded()))[-1].x for model in models]
    assert float(drawn[0].std()) > 100  # an untrained network takes little of the noise away
    torch.testing.assert_close(drawn[1], drawn[0], rtol=1e-5, atol=1e-3)  # measured 6e-5 at most
    torch.testing.assert_close(drawn[2], drawn[0], rtol=1e-5, atol=1e-3)  # measured 6e-5 at most


def test_only_raw_gamma_leaves_the_embedding_of_palettes_levels_all_but_without_rank():
    schedule = palette_training()
    ranks = {}
    for conditioning in ("gamma", "root-gamma", "index"):
        told = VariancePreserving(conditioning=conditioning, sigmas=tuple(schedule.tolist()))
        features = SinusoidalEmbedding(256)(told(schedule).label).double()
        # the features are float32 of size 1: what they span is counted above its rounding
        values = torch.linalg.svdvals(features)
        ranks[conditioning] = int((values > values[0] * len(schedule) * torch.finfo(torch.float32).eps).sum())
    assert ranks["gamma"] < 10
    assert min(ranks["root-gamma"], ranks["index"]) > 50
