"""Other distributions of degradation: an encoder's, noise, marks, sizes and blurs, and one of several."""

import io
import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from oracles import seeded
from scorefield import degradations
from scorefield.degradations import (
    JPEG,
    AdditiveNoise,
    Blur,
    Boxes,
    Brush,
    Downscale,
    EncodedJPEG,
    FreeForm,
    Grey,
    Identity,
    Mask,
    OneOf,
    RandomBlur,
    RandomCompression,
    RandomDownscale,
    RandomJPEG,
    RandomNoise,
    Scratched,
    Scratches,
    Uncropping,
    adjoint,
    network_input,
)
from scorefield.errors import UserError

RANDOM = {
    "brush": Brush(),
    "boxes": Boxes(),
    "freeform": FreeForm(),
    "uncropping": Uncropping(),
    "jpeg": RandomJPEG(),
    "compression": RandomCompression(),
    "smaller": RandomDownscale(),
    "blur": RandomBlur(),
    "noisy": AdditiveNoise(std=0.1),
    "noise": RandomNoise(std=(2.55, 51.0)),
    "scratches": Scratches(),
    "one of": OneOf(families=(Grey(), FreeForm(), Uncropping(), RandomJPEG())),
}


def image(b=1, c=3, h=64, w=64, seed=0):
    """Smooth and in range, (b, c, h, w)."""
    x = torch.randn(b, c, h, w, generator=seeded(seed))
    return (Blur(std=2.0)(x) * 4).clamp(-1, 1)


def test_the_list_has_every_public_family():
    public = {
        name for name in degradations.__all__
        if hasattr(getattr(degradations, name), "draw") and name != "DegradationFamily"
    }  # fmt: skip
    fixed = {"CenterBox", "Side"}  # always the same mask
    operators = {"Blur", "Downscale", "Grey"}  # which draw themselves
    assert public == {type(family).__name__ for family in RANDOM.values()} | fixed | operators


@pytest.mark.parametrize("name", RANDOM)
def test_a_seed_repeats_an_operator_and_an_operator_repeats_its_degradation(name):
    x = image()
    one, same, *others = (RANDOM[name].draw(x.shape, generator=seeded(seed)) for seed in (3, 3, *range(9)))
    assert torch.equal(one(x), one(x))
    assert torch.equal(one(x), same(x))
    assert not all(torch.equal(one(x), other(x)) for other in others)


@given(
    st.sampled_from([n for n in RANDOM if n not in ("jpeg", "one of")]),
    st.integers(2, 12),
    st.integers(2, 12),
    st.integers(0, 99),
)
def test_an_observation_is_degraded_to_itself(name, rows, columns, seed):
    if name == "compression":
        return  # saved again it is another file, of shifted or smaller blocks
    x = image(2, h=4 * rows, w=4 * columns, seed=seed)
    degradation = RANDOM[name].draw(x.shape, generator=seeded(seed))
    y = degradation(x)
    torch.testing.assert_close(degradation(degradation.pinv(y)), y, atol=1e-4, rtol=0)


# --- the encoder ---------------------------------------------------------------------------------


@pytest.mark.parametrize("subsampling", ["4:2:0", "4:4:4"])
@pytest.mark.parametrize("value_range", [(-1.0, 1.0), (0.0, 1.0)])
@pytest.mark.parametrize(("channels", "quality", "size"), [(3, 5, (64, 64)), (1, 30, (33, 50)), (3, 75, (9, 8))])
def test_an_encoded_image_is_what_pillow_writes_and_reads(channels, quality, size, subsampling, value_range):
    levels = torch.randint(0, 256, (2, channels, *size), generator=seeded(1), dtype=torch.uint8)
    low, high = value_range
    y = EncodedJPEG(quality=quality, subsampling=subsampling, value_range=value_range)(
        levels / 255 * (high - low) + low
    )
    assert y.dtype == torch.float32
    for image_, seen in zip(levels, y, strict=True):
        array = image_[0].numpy() if channels == 1 else image_.permute(1, 2, 0).contiguous().numpy()
        file = io.BytesIO()
        Image.fromarray(array).save(file, "JPEG", quality=quality, subsampling=subsampling)
        expected = np.asarray(Image.open(file)).reshape(*size, channels)
        back = ((seen - low) / (high - low) * 255).round().to(torch.uint8)
        assert np.array_equal(back.permute(1, 2, 0).numpy(), expected)


def test_the_encoder_halves_chroma_as_pillow_does_by_default():
    x = image()
    array = ((x[0] + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    file = io.BytesIO()
    Image.fromarray(array).save(file, "JPEG", quality=20)
    expected = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1) / 127.5 - 1
    torch.testing.assert_close(EncodedJPEG(quality=20)(x)[0], expected, atol=1e-6, rtol=0)


def test_the_encoder_and_the_operator_without_bytes_agree_to_a_few_levels():
    x = image(c=1) / 2
    far = (EncodedJPEG(quality=10)(x) - JPEG(quality=10)(x)).abs().mean() * 127.5
    assert float(far) < 0.8  # measured 0.49: bytes are rounded and clamped


def test_gradients_pass_straight_through_the_encoder():
    x, v = image(), torch.randn(1, 3, 64, 64, generator=seeded())
    torch.testing.assert_close(adjoint(EncodedJPEG(quality=10), x, v), v)
    again = x.clone().requires_grad_()
    assert torch.equal(EncodedJPEG(quality=10)(again), EncodedJPEG(quality=10)(x))


def test_qualities_follow_their_distribution():
    generator, n = seeded(), 4000
    seen = Counter(RandomJPEG().draw((1, 3, 64, 64), generator=generator).quality for _ in range(n))
    assert set(seen) == set(range(5, 31))
    weights = {q: math.exp(-q / 10) for q in range(5, 31)}
    expected = {q: n * weight / sum(weights.values()) for q, weight in weights.items()}
    chi_square = sum((seen[q] - expected[q]) ** 2 / expected[q] for q in expected)
    assert chi_square < 52.6  # the 99.9 % quantile for 25 degrees of freedom


def test_an_encoders_settings_reach_it():
    distribution = RandomJPEG(quality=(9, 9), subsampling="4:4:4", value_range=(0.0, 1.0))
    expected = EncodedJPEG(quality=9, subsampling="4:4:4", value_range=(0.0, 1.0))
    assert distribution.draw((1, 3, 8, 8), generator=seeded()) == expected


# --- noise ---------------------------------------------------------------------------------------


def test_noise_has_its_strength_and_is_white():
    x = torch.zeros(1, 3, 128, 128)
    n = AdditiveNoise(std=0.3, seed=5)(x)
    assert float(n.mean()) == pytest.approx(0, abs=0.005)
    assert float(n.std()) == pytest.approx(0.3, rel=0.01)
    assert float((n[..., 1:] * n[..., :-1]).mean()) == pytest.approx(0, abs=0.002)
    assert float(n.pow(4).mean() / n.pow(2).mean() ** 2) == pytest.approx(3, abs=0.1)  # Gaussian


def test_drawn_noise_is_of_the_same_strength_and_another():
    one, other = (AdditiveNoise(std=0.3).draw((1, 3, 8, 8), generator=seeded(seed)) for seed in (0, 1))
    assert one.std == other.std == 0.3
    assert one.seed != other.seed


def test_grey_noise_is_the_same_in_all_channels_in_its_share_of_draws():
    drawn = [RandomNoise(std=(10, 10), grey=0.4).draw((3, 8, 8), generator=seeded(k)) for k in range(300)]
    made = [(noise(torch.zeros(1, 3, 8, 8))) for noise in drawn]
    same = [bool((each == each[:, :1]).all()) for each in made]
    assert same == [noise.grey for noise in drawn]
    assert abs(sum(same) / 300 - 0.4) < 5 * (0.4 * 0.6 / 300) ** 0.5
    one = AdditiveNoise(std=1.0, seed=3, grey=True)
    assert torch.allclose(one.pinv(one(image())), image(), atol=1e-6) and one.draw((3, 8, 8), generator=seeded()).grey
    with pytest.raises(ValueError, match="a share from 0 to 1"):
        RandomNoise(grey=1.5)


def test_strengths_are_spread_over_their_range():
    generator = seeded()
    drawn = [RandomNoise(std=(12.75, 38.25)).draw((1, 3, 8, 8), generator=generator).std for _ in range(2000)]
    blurs = [RandomBlur(std=(1.0, 3.0)).draw((1, 3, 8, 8), generator=generator).std for _ in range(2000)]
    for seen, low, high in ((drawn, 0.1, 0.3), (blurs, 1.0, 3.0)):
        assert low <= min(seen) and max(seen) <= high
        assert np.mean(seen) == pytest.approx((low + high) / 2, rel=0.02)
        assert np.std(seen) == pytest.approx((high - low) / math.sqrt(12), rel=0.05)


def test_the_identity_leaves_all_as_it_is():
    x = image()
    assert torch.equal(Identity()(x), x) and torch.equal(Identity().pinv(x), x)


# --- marks ---------------------------------------------------------------------------------------


def test_marks_lie_between_the_image_and_their_value():
    degradation = Scratched(
        opacity=torch.tensor([0.0, 0.25, 1.0]).reshape(1, 1, 1, 3),
        value=torch.tensor([9.0, 1.0, -1.0]).reshape(1, 1, 1, 3),
    )
    x = torch.zeros(1, 1, 1, 3) + 0.5
    assert degradation(x).flatten().tolist() == pytest.approx([0.5, 0.75 * 0.5 + 0.25, -1.0])
    assert degradation.pinv(degradation(x)).flatten().tolist() == pytest.approx([0.5, 0.5, -1.0])


@pytest.mark.parametrize("size", [(64, 64), (256, 200)])
@pytest.mark.parametrize("value_range", [(-1.0, 1.0), (0.0, 1.0)])
def test_marks_are_few_thin_bright_and_dark(size, value_range):
    generator, distribution = seeded(), Scratches(value_range=value_range)
    drawn = [distribution.draw((1, 3, *size), generator=generator) for _ in range(60)]
    opacity = torch.cat([d.opacity for d in drawn])
    assert opacity.shape == (60, 1, *size)
    assert float(opacity.min()) >= 0 and float(opacity.max()) <= 1
    marked = (opacity > 0).float().mean((1, 2, 3))
    assert float(marked.min()) > 0  # there is always a scratch
    assert float(marked.mean()) < 0.08
    low, high = value_range
    level = (torch.cat([d.value for d in drawn])[opacity > 0.5] - low) / (high - low)
    assert float(level.min()) >= 0 and float(level.max()) <= 1
    assert 0.5 < float((level > 0.5).float().mean()) < 0.95  # three of four marks are bright


# --- sizes, and one of several -------------------------------------------------------------------


def test_widths_are_those_of_an_image_of_the_side():
    # marks are drawn in units of √(H W)/side: an image of 64 with side 64 draws those of one of 256, cut to its size
    wide, narrow = (
        torch.stack([Scratches(lines=(3, 3), specks=(0, 0), side=side).draw((3, 64, 64), generator=seeded(k)).opacity
                     for k in range(20)]).gt(0).float().mean()
        for side in (64, 256)
    )  # fmt: skip
    assert wide > 1.5 * narrow  # 0.8 to 3 pixels, against 0.5 (the least that is drawn) to 0.75
    with pytest.raises(UserError, match="a side is 1 pixel or more"):
        Scratches(side=0)


def test_a_factor_is_one_that_divides():
    generator, distribution = seeded(), RandomDownscale(factors=(2, 3, 5))
    seen = Counter(distribution.draw((1, 3, 12, 18), generator=generator).factor for _ in range(1000))
    assert set(seen) == {2, 3}
    assert seen[2] / 1000 == pytest.approx(0.5, abs=0.05)
    with pytest.raises(UserError, match=r"7×9 divides by none of \(2, 3, 5\)"):
        distribution.draw((1, 3, 7, 9), generator=generator)


@pytest.mark.parametrize(
    ("weights", "shares"), [(None, (1 / 3, 1 / 3, 1 / 3)), ((1.0, 2.0, 5.0), (1 / 8, 2 / 8, 5 / 8))]
)
def test_families_are_drawn_by_their_weights(weights, shares):
    generator = seeded()
    distribution = OneOf(families=(Grey(), Blur(std=1.0), RandomDownscale(factors=(2,))), weights=weights)
    seen = Counter(type(distribution.draw((1, 3, 8, 8), generator=generator)) for _ in range(4000))
    for kind, share in zip((Grey, Blur, Downscale), shares, strict=True):
        assert seen[kind] / 4000 == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OneOf(families=()), "nothing to choose"),
        (lambda: OneOf(families=(Grey(),), weights=(1.0, 2.0)), "1 weights"),
        (lambda: OneOf(families=(Grey(),), weights=(0.0,)), "above 0"),
        (lambda: EncodedJPEG(quality=0), "1 to 100"),
        (lambda: EncodedJPEG()(torch.zeros(1, 2, 8, 8)), "1 or 3 channels"),
        (lambda: RandomJPEG(quality=(30, 5)), "no quality from 30 to 5"),
        (lambda: RandomJPEG(decay=0), "decay of 0"),
        (lambda: RandomJPEG(quality=(5, 101)), "1 to 100"),
        (lambda: RandomDownscale(factors=()), "1 or more"),
        (lambda: RandomBlur(std=(0.0, 1.0)), "above 0"),
        (lambda: RandomBlur(std=(1.0, 5000.0)), "at most 1000"),
        (lambda: AdditiveNoise(std=-1.0), "0 or more"),
        (lambda: RandomNoise(std=(20.0, 10.0)), "must rise"),
        (lambda: Scratches(lines=(3, 2)), "lines go"),
    ],
)
def test_what_cannot_be_drawn_is_reported(make, message):
    with pytest.raises((UserError, ValueError), match=message):
        make()


@pytest.mark.parametrize("name", RANDOM)
def test_a_family_gives_a_network_input_of_the_images_size(name):
    x, generator = image(), seeded()
    degradation = RANDOM[name].draw(x.shape, generator=generator)
    seen = network_input(degradation, degradation(x), generator=generator)
    assert seen.source.shape == x.shape and seen.mask.shape == (1, 1, 64, 64)


def test_a_mask_drawn_for_one_image_degradations_a_batch():
    x = image(4)
    assert isinstance(degradation := Brush().draw((1, 3, 64, 64), generator=seeded()), Mask)
    assert degradation(x).shape == x.shape
