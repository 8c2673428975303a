"""What the paper's figures share."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image

from oracles import tiny_model
from scorefield.errors import UserError
from scorefield.figures.drawing import claim, save, tiles, write_csv
from scorefield.figures.driver import images_for
from training.toys import write_set

pytest.importorskip("matplotlib")


def test_a_table_is_read_back_as_it_was(tmp_path):
    rows = [{"name": "a, b", "value": 0.1234567}, {"name": "c", "value": 2}]
    with write_csv(tmp_path / "t.csv", rows).open(encoding="utf-8") as file:
        assert list(csv.DictReader(file)) == [
            {"name": "a, b", "value": "0.123457"},
            {"name": "c", "value": "2"},
        ]


@pytest.mark.parametrize("channels", [1, 3])
def test_every_tile_stands_in_its_place_pixel_for_pixel(tmp_path, channels):
    """Tiles of one grey each: row i, column k has the grey 40 i + 10 k."""
    greys = 40 * torch.arange(2)[:, None] + 10 * torch.arange(3)
    images = greys[..., None, None, None].expand(2, 3, channels, 28, 28).to(torch.uint8)
    path = save(tiles(images, columns=["", "", ""], apart=(1,)), tmp_path / "t.png")
    with Image.open(path) as image:
        seen = np.asarray(image.convert("RGB")).astype(int)
    runs = [v for v in seen[seen.shape[0] // 4].mean(1).tolist() if v != 255]
    assert len(runs) == 3 * 84
    assert runs[::84] == [0, 10, 20]
    assert len({tuple(line) for line in (runs[:84], runs[84:168], runs[168:])}) == 3
    assert seen[3 * seen.shape[0] // 4].mean(1).min() == 40


def test_labels_widen_the_margin(tmp_path):
    images = torch.zeros(2, 2, 1, 8, 8, dtype=torch.uint8)
    plain = save(tiles(images, columns=["", ""]), tmp_path / "a.png")
    labelled = save(tiles(images, columns=["one", "two\nlines"], rows=["a long label", "b"]), tmp_path / "b.png")
    with Image.open(plain) as a, Image.open(labelled) as b:
        assert b.width > a.width + 40
        assert b.height > a.height + 20


def test_what_is_there_is_claimed_only_on_demand(tmp_path):
    (tmp_path / "a.png").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"a\.png: already exists"):
        claim(tmp_path, "b.png", "a.png", overwrite=False)
    assert claim(tmp_path, "a.png", overwrite=True) == (tmp_path / "a.png",)
    with pytest.raises(UserError, match="is a file"):
        claim(tmp_path / "a.png", "b.png", overwrite=False)


def test_larger_images_are_shrunk_and_others_refused(tmp_path):
    model = tiny_model(1, size=8)
    assert images_for(model, str(write_set(tmp_path / "l.npz", side=16))).shape == (1, 8, 8)
    with pytest.raises(UserError, match=r"6×6.*1×8×8.*--model"):
        images_for(model, str(write_set(tmp_path / "s.npz", side=6)))
    with pytest.raises(UserError, match=r"3×8×8, the model draws 1×8×8"):
        images_for(model, str(write_set(tmp_path / "c.npz", channels=3)))
