"""Windows: cut where and as large as they say, the same from the same seed, and pairs at one place."""

import numpy as np
import pytest
import torch

from oracles import ramp, seeded
from scorefield.data.batches import Batches
from scorefield.data.crops import open_crops
from scorefield.errors import UserError


def test_a_window_at_full_size_is_a_square_of_the_image(tmp_path):
    ramp(tmp_path / "a.png", 90, 60)
    windows = open_crops(tmp_path, 16, zoom=(1.0, 1.0))
    (cut,) = windows.cut(torch.tensor([0]), generator=seeded())
    left, top = int(cut[0, 0, 0]), int(cut[1, 0, 0])
    assert (cut[0] == torch.arange(left, left + 16)).all()
    assert (cut[1] == torch.arange(top, top + 16)[:, None]).all()


def test_windows_reach_every_place(tmp_path):
    ramp(tmp_path / "a.png", 20, 17)
    windows = open_crops(tmp_path, 16, zoom=(1.0, 1.0))
    cuts = windows.cut(torch.zeros(200, dtype=torch.long), generator=seeded())
    assert set(cuts[:, 0, 0, 0].tolist()) == set(range(5))
    assert set(cuts[:, 1, 0, 0].tolist()) == {0, 1}


def test_the_whole_zoom_shows_the_largest_square(tmp_path):
    ramp(tmp_path / "a.png", 200, 64)
    windows = open_crops(tmp_path, 16)
    (cut,) = windows.cut(torch.tensor([0]), generator=seeded())
    # A square of 64 brought to 16: the first of its pixels shows rows 0 to 3 or so, the last 60 to 63.
    assert cut[1, 0, 8] == pytest.approx(1.5, abs=1)
    assert cut[1, -1, 8] == pytest.approx(61.5, abs=1)


def test_zoom_is_log_uniform_between_its_ends(tmp_path):
    ramp(tmp_path / "a.png", 250, 250)
    windows = open_crops(tmp_path, 16, zoom=(0.1, 1.0))
    cuts = windows.cut(torch.zeros(400, dtype=torch.long), generator=seeded()).float()
    slope = (cuts[:, 0, 8, 13] - cuts[:, 0, 8, 3]) / 10  # columns of the image to a pixel of the window
    assert float(slope.log().mean()) == pytest.approx(np.log(10) / 2, abs=0.1)
    assert float(slope.min()) >= 0.95
    assert float(slope.max()) <= 10.5


def test_a_batch_is_a_function_of_seed_and_step(tmp_path):
    for name in "abc":
        ramp(tmp_path / f"{name}.png", 60, 50)
    windows = open_crops(tmp_path, 16, zoom=(0.5, 1.0))
    first, again = (Batches(windows, 4, seed=3).batch(7) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, Batches(windows, 4, seed=3).batch(8))
    assert first.shape == (4, 3, 16, 16)


def test_images_too_large_to_keep_are_decoded_each_time(tmp_path):
    ramp(tmp_path / "a.png", 60, 50)
    kept, decoded = open_crops(tmp_path, 16), open_crops(tmp_path, 16, memory=10)
    assert decoded.images is None
    cut = [w.cut(torch.tensor([0]), generator=seeded(5)) for w in (kept, decoded)]
    assert torch.equal(*cut)


def test_pairs_are_cut_at_one_place(tmp_path):
    ramp(tmp_path / "after" / "a.png", 60, 50)
    ramp(tmp_path / "before" / "a.jpg.png", 60, 50).rename(tmp_path / "before" / "a.png")
    windows = open_crops(tmp_path, 16, zoom=(1.0, 1.0), paired=True)
    (cut,) = windows.cut(torch.tensor([0]), generator=seeded())
    assert cut.shape == (6, 16, 16)
    assert torch.equal(cut[:3], cut[3:])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "holds no images|empty"),
        (lambda root: ramp(root / "a.png", 9, 9), "none of its 1 images gives a window of 16"),
        (lambda root: (root / "a.png").write_bytes(b"no image"), "none of its 1 images"),
    ],
)
def test_a_folder_without_windows_is_reported(tmp_path, make, message):
    make(tmp_path)
    with pytest.raises(UserError, match=message):
        open_crops(tmp_path, 16)


def test_a_pair_without_its_partner_is_reported(tmp_path):
    ramp(tmp_path / "after" / "a.png", 60, 50)
    with pytest.raises(UserError, match="no sub-folders before and after"):
        open_crops(tmp_path, 16, paired=True)
    ramp(tmp_path / "before" / "b.png", 60, 50)
    with pytest.raises(UserError, match="no partner"):
        open_crops(tmp_path, 16, paired=True)


def test_small_and_broken_files_are_left_out_and_listed(tmp_path):
    ramp(tmp_path / "a.png", 60, 50)
    ramp(tmp_path / "small.png", 60, 10)
    (tmp_path / "broken.png").write_bytes(b"no image")
    windows = open_crops(tmp_path, 16)
    assert len(windows) == 1
    assert {skipped.path.rsplit("/")[-1] for skipped in windows.skipped} == {"small.png", "broken.png"}


@pytest.mark.parametrize("harm", ["gone", "damaged", "small"])
def test_a_file_that_changed_after_the_folder_was_opened_is_named(tmp_path, harm):
    ramp(tmp_path / "a.png", 90, 60)
    windows = open_crops(tmp_path, 16, memory=0)
    assert windows.images is None
    if harm == "gone":
        (tmp_path / "a.png").unlink()
    elif harm == "damaged":
        (tmp_path / "a.png").write_bytes(b"no image")
    else:
        ramp(tmp_path / "a.png", 90, 15)
    result = {"gone": "is gone; the folder was changed", "damaged": "the folder was changed", "small": "is 90×15 now"}
    with pytest.raises(UserError, match=rf"a\.png: .*{result[harm]}"):
        windows.cut(torch.tensor([0]), generator=seeded())
