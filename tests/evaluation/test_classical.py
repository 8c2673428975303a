"""Classical tools on images whose restoration is known."""

from types import SimpleNamespace

import pytest
import torch
from benchmarks.restoration import classical
from benchmarks.restoration.classical import (
    CLASSICAL,
    mean_chroma,
    non_local,
    opencv_inpaint,
    replicated,
    total_variation,
)

from oracles import seeded
from scorefield.errors import UserError


def step(n=1, channels=3, side=16, low=60, high=160):
    x = torch.full((n, channels, side, side), low, dtype=torch.uint8)
    x[..., side // 2 :] = high
    return x


def box(side=16, n=1):
    masked = torch.zeros(n, 1, side, side, dtype=torch.bool)
    masked[..., 5:10, 5:10] = True
    return masked


def degraded(seen, originals):
    return SimpleNamespace(shown=seen, mask=torch.zeros(len(seen), 1, *seen.shape[2:]).bool(), originals=originals)


@pytest.mark.parametrize("channels", [1, 3])
def test_total_variation_of_a_step_moves_both_sides_by_lambda_over_their_width(channels):
    # ½‖u − g‖² + λ TV(u): each row of 8 pixels gives way by λ/8; of C channels together, by λ/(8 √C).
    u = total_variation(step(channels=channels), 40.0, iterations=300).float()
    moved = 40 / 8 / channels**0.5
    assert u[..., :8].unique().tolist() == pytest.approx([60 + moved], abs=0.6)
    assert u[..., 8:].unique().tolist() == pytest.approx([160 - moved], abs=0.6)


def test_total_variation_is_as_little_as_that_of_scikit_image():
    restoration = pytest.importorskip("skimage.restoration")
    g = (128 + 20 * torch.randn(1, 1, 24, 24, generator=seeded(0))).clamp(0, 255).to(torch.uint8)

    def energy(u, strength):
        u = u.double().reshape(24, 24)
        right, down = torch.zeros_like(u), torch.zeros_like(u)
        right[:, :-1], down[:-1] = u[:, 1:] - u[:, :-1], u[1:] - u[:-1]
        total = (right**2 + down**2).sqrt().sum()
        return float((u - g[0, 0]).square().sum() / 2 + strength * total)

    theirs = torch.from_numpy(
        restoration.denoise_tv_chambolle(g[0, 0].double().numpy(), weight=12, eps=1e-9, max_num_iter=3000)
    )
    assert energy(total_variation(g, 12.0), 12) <= energy(theirs, 12) * 1.006  # ours is rounded to 8 bits


def test_the_strength_is_the_best_on_training_images():
    clean = step(n=4, side=24)
    noisy = (clean + 5 * torch.randn(clean.shape, generator=seeded(1))).clamp(0, 255).to(torch.uint8)
    mend, words = CLASSICAL["tv"].fit(degraded(noisy, clean))
    strengths = {s: classical.psnr(total_variation(noisy, s), clean).mean() for s in classical.STRENGTHS}
    best = max(strengths, key=lambda s: strengths[s])
    assert f"strength {best:g}, the best of 10 on 4 training images" in words
    assert torch.equal(mend(noisy, noisy[:, :1] > 300), total_variation(noisy, best))
    assert 1 < best < 28


def test_edges_are_repeated_to_every_side():
    x = torch.arange(36, dtype=torch.uint8).reshape(1, 1, 6, 6)
    masked = torch.ones(1, 1, 6, 6, dtype=torch.bool)
    masked[..., 2:4, 1:4] = False
    restored = replicated(x, masked)
    assert restored[0, 0, 0].tolist() == [13, 13, 14, 15, 15, 15]
    assert restored[0, 0, 5].tolist() == [19, 19, 20, 21, 21, 21]
    assert torch.equal(restored[~masked], x[~masked])
    with pytest.raises(UserError, match="no rectangle"):
        replicated(step(), box())


def test_mean_chroma_keeps_luma():
    originals = torch.randint(0, 200, (3, 3, 9, 9), generator=seeded(2)).to(torch.uint8)
    chroma = mean_chroma(originals).flatten()
    assert float(chroma @ torch.tensor([0.299, 0.587, 0.114])) == pytest.approx(0, abs=1e-4)
    luma = originals.float().mean((0, 2, 3)) @ torch.tensor([0.299, 0.587, 0.114])
    torch.testing.assert_close(chroma, originals.float().mean((0, 2, 3)) - luma)
    grey = torch.full((1, 3, 9, 9), 100, dtype=torch.uint8)
    restored = CLASSICAL["mean-chroma"].fit(degraded(grey, originals))[0](grey, grey[:, :1] > 300)
    torch.testing.assert_close(restored[0, :, 0, 0].float(), 100 + chroma, atol=0.51, rtol=0)


@pytest.mark.parametrize("method", ["telea", "ns"])
@pytest.mark.parametrize("channels", [1, 3])
def test_opencv_fills_a_ramp_nearly_as_it_was(method, channels):
    pytest.importorskip("cv2")
    ramp = torch.arange(0, 160, 10, dtype=torch.uint8).expand(2, channels, 16, 16).clone()
    ramp[:, 0] = ramp[:, 0].flip(-1)  # the channels keep their order
    masked = box(n=2)
    spoiled = torch.where(masked, 255, ramp)
    restored = opencv_inpaint(spoiled, masked, method=method)
    assert restored.shape == ramp.shape
    kept = ~masked.expand_as(ramp)
    assert torch.equal(restored[kept], ramp[kept])
    assert (restored.float() - ramp.float()).abs().max() < 25


def test_non_local_means_takes_noise_away():
    pytest.importorskip("cv2")
    clean = step(n=2, side=32)
    noisy = (clean + 8 * torch.randn(clean.shape, generator=seeded(3))).clamp(0, 255).to(torch.uint8)
    for x, y in ((noisy, clean), (noisy[:, :1], clean[:, :1])):
        assert classical.psnr(non_local(x, 11.0), y).mean() > classical.psnr(x, y).mean() + 4


def test_without_opencv_one_line_says_how_to_get_it(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(classical, "import_module", missing)
    with pytest.raises(UserError, match=r"opencv: is not installed\. pip install 'scorefield\[photos\]'"):
        CLASSICAL["opencv-ns"].fit(degraded(step(), step()))
