"""PSNR, SSIM and MS-SSIM against closed forms, plain sums, scikit-image and torchmetrics."""

import math

import pytest
import torch

from oracles import seeded
from scorefield.metrics.fidelity import WEIGHTS, ms_ssim, ms_ssim_name, psnr, scales_for, ssim


def smooth_and_noisy(n=2, channels=3, height=48, width=40, noise=20.0, seed=0):
    """Smooth images, and the same with noise."""
    generator = seeded(seed)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    phase = torch.arange(n * channels).reshape(n, channels, 1, 1)
    clean = 128 + 90 * torch.sin(0.15 * x + phase) * torch.cos(0.11 * y - phase)
    noisy = clean + noise * torch.randn(clean.shape, generator=generator)
    return clean.round().to(torch.uint8), noisy.round().clamp(0, 255).to(torch.uint8)


def test_psnr_of_a_constant_error_of_two_levels_is_20_log_of_127_and_a_half():
    a = torch.full((2, 3, 5, 7), 100, dtype=torch.uint8)
    b = a + torch.tensor([2, 0], dtype=torch.uint8).reshape(2, 1, 1, 1)
    assert psnr(a, b).tolist() == pytest.approx([20 * math.log10(255 / 2), math.inf])


def test_ssim_of_two_constants_is_their_luminance_term():
    # No variance: cs = 1, l = (2ab + C₁)/(a² + b² + C₁).
    a, b = (torch.full((1, 1, 16, 16), v, dtype=torch.uint8) for v in (50, 150))
    c1 = (0.01 * 255) ** 2
    expected = (2 * 50 * 150 + c1) / (50**2 + 150**2 + c1)
    assert float(ssim(a, b)) == pytest.approx(expected, abs=3e-5)
    # MS-SSIM takes it at the coarsest scale alone: one scale at 16 pixels.
    assert float(ms_ssim(a, b)) == pytest.approx(expected, abs=3e-5)
    a, b = (torch.full((1, 1, 32, 32), v, dtype=torch.uint8) for v in (50, 150))
    share = WEIGHTS[1] / (WEIGHTS[0] + WEIGHTS[1])
    assert float(ms_ssim(a, b)) == pytest.approx(expected**share, abs=3e-5)


def test_ssim_is_one_for_equal_images_and_symmetric():
    a, b = smooth_and_noisy()
    torch.testing.assert_close(ssim(a, a), torch.ones(2))
    torch.testing.assert_close(ms_ssim(b, b), torch.ones(2))
    torch.testing.assert_close(ssim(a, b), ssim(b, a))
    assert (ssim(a, 255 - a) < 0).all()  # an inverted image varies the other way
    assert (ms_ssim(a, 255 - a) == 0).all()


def test_stored_numbers():
    a, b = smooth_and_noisy()
    assert psnr(a, b).tolist() == pytest.approx(STORED["psnr"], abs=1e-3)
    assert ssim(a, b).tolist() == pytest.approx(STORED["ssim"], abs=1e-5)
    large = smooth_and_noisy(height=190, width=176)
    assert ms_ssim(*large).tolist() == pytest.approx(STORED["ms_ssim"], abs=1e-5)


STORED = {"psnr": [22.154232, 22.091093], "ssim": [0.462595, 0.464234], "ms_ssim": [0.937113, 0.937506]}


def test_ssim_is_that_of_scikit_image():
    metrics = pytest.importorskip("skimage.metrics")
    a, b = smooth_and_noisy()
    theirs = [
        metrics.structural_similarity(
            x.permute(1, 2, 0).numpy(), y.permute(1, 2, 0).numpy(), channel_axis=2, data_range=255,
            gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        )
        for x, y in zip(a, b, strict=True)
    ]  # fmt: skip
    assert ssim(a, b).tolist() == pytest.approx(theirs, abs=2e-5)
    assert psnr(a, b).tolist() == pytest.approx(
        [metrics.peak_signal_noise_ratio(x.numpy(), y.numpy()) for x, y in zip(a, b, strict=True)], abs=1e-4
    )


@pytest.mark.slow  # its import alone takes longer than all other tests of this file
def test_ms_ssim_is_that_of_torchmetrics_but_for_its_mirrored_edges():
    # Theirs lets the window of the coarsest scale reach beyond the edge, where the image is mirrored.
    functional = pytest.importorskip("torchmetrics.functional.image")
    a, b = smooth_and_noisy(height=400, width=384, noise=40)
    theirs = functional.multiscale_structural_similarity_index_measure(
        a.float(), b.float(), data_range=255.0, reduction="none", betas=WEIGHTS
    )
    torch.testing.assert_close(ms_ssim(a, b), theirs, atol=5e-3, rtol=0)


def test_ms_ssim_is_the_product_of_means_of_its_scales():
    ndimage = pytest.importorskip("scipy.ndimage")
    a, b = smooth_and_noisy(n=1, channels=1, height=100, width=90, noise=50)

    def terms(x, y):
        def smoothed(v):
            return ndimage.gaussian_filter(v, 1.5, truncate=3.5)[5:-5, 5:-5]

        c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
        mx, my = smoothed(x), smoothed(y)
        vx, vy, vxy = smoothed(x * x) - mx**2, smoothed(y * y) - my**2, smoothed(x * y) - mx * my
        cs = (2 * vxy + c2) / (vx + vy + c2)
        return ((2 * mx * my + c1) / (mx**2 + my**2 + c1) * cs).mean(), cs.mean()

    def halved(v):
        h, w = (side // 2 * 2 for side in v.shape)
        return v[:h, :w].reshape(h // 2, 2, w // 2, 2).mean((1, 3))

    x, y = (v[0, 0].double().numpy() for v in (a, b))
    expected, weights = 1.0, WEIGHTS[:4]
    for scale, weight in enumerate(weights):
        whole, cs = terms(x, y)
        expected *= (whole if scale == 3 else cs) ** (weight / sum(weights))
        x, y = halved(x), halved(y)
    assert ms_ssim_name((100, 90)) == "MS-SSIM[4]"
    assert float(ms_ssim(a, b)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("side", "scales"), [(10, 0), (11, 1), (22, 2), (64, 3), (88, 4), (175, 4), (176, 5)])
def test_so_many_scales_fit(side, scales):
    assert scales_for((side, 300)) == scales
    if scales == 5:
        assert ms_ssim_name((side, side)) == "MS-SSIM"


def test_what_cannot_be_compared_is_reported():
    a, b = smooth_and_noisy()
    with pytest.raises(ValueError, match="differ"):
        psnr(a, b[..., 1:])
    with pytest.raises(ValueError, match="uint8"):
        ssim(a.float(), b)
    with pytest.raises(ValueError, match=r"9×9 are smaller than the window"):
        ssim(a[..., :9, :9], b[..., :9, :9])
    with pytest.raises(ValueError, match="5 scales for images of 40×48, which allow 1 to 2.*176"):
        ms_ssim(a, b, scales=5)
