import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from scorefield.data.datasets import open_images
from scorefield.data.grids import grid, save_animation, save_image, save_images
from scorefield.data.image import to_float, to_pil
from scorefield.errors import UserError


def random_images(n=5, c=3, h=6, w=4):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (n, c, h, w), generator=generator).to(torch.uint8)


@settings(deadline=None)
@given(
    st.tuples(st.integers(1, 12), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)),
    st.none() | st.integers(1, 20),
    st.integers(0, 3),
    st.none() | st.integers(1, 3),
)
def test_a_grid_of_anything_is_an_image(shape, columns, pad, scale):
    image = grid(torch.zeros(shape, dtype=torch.uint8), columns=columns, pad=pad, scale=scale)
    assert image.mode in ("L", "RGB")
    assert min(image.size) >= 1


def test_tiles_stand_in_rows_on_white_with_their_pixels_unchanged():
    images = random_images(n=5)
    sheet = np.asarray(grid(images, columns=3, pad=2, scale=1))
    assert sheet.shape == (2 * 8 + 2, 3 * 6 + 2, 3)
    for i, image in enumerate(images):
        top, left = 2 + (i // 3) * 8, 2 + (i % 3) * 6
        assert np.array_equal(sheet[top : top + 6, left : left + 4], image.permute(1, 2, 0).numpy())
    assert (sheet[10:, 14:] == 255).all()  # the sixth place is empty
    assert (sheet[:2] == 255).all()


def test_scaling_repeats_pixels():
    images = random_images(n=1, c=1)
    sheet = np.asarray(grid(images, pad=0, scale=3))
    assert np.array_equal(sheet[1::3, 1::3], images[0, 0].numpy())
    assert sheet.shape == (18, 12)


def test_small_images_are_enlarged_and_large_sheets_bounded():
    assert grid(torch.zeros(1, 1, 28, 28, dtype=torch.uint8), pad=0).size == (84, 84)
    assert max(grid(torch.zeros(2500, 1, 28, 28, dtype=torch.uint8), pad=0).size) <= 2048


def test_an_empty_tensor_has_no_grid():
    with pytest.raises(ValueError, match="no image in a tensor of shape"):
        grid(torch.zeros(0, 1, 4, 4, dtype=torch.uint8))


@pytest.mark.parametrize("suffix", [".png", ".webp", ".bmp", ".tif"])
def test_images_are_written_without_loss(tmp_path, suffix):
    image = grid(random_images(), scale=1)
    path = save_image(image, tmp_path / f"a{suffix}")
    assert np.array_equal(np.asarray(Image.open(path).convert("RGB")), np.asarray(image))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_an_unknown_suffix_is_reported(tmp_path):
    with pytest.raises(UserError, match=r"cannot write `\.xyz`\. Use one of \.png"):
        save_image(Image.new("L", (1, 1)), tmp_path / "a.xyz")
    with pytest.raises(UserError, match=r"cannot write `\.gif`.*\.npz"):
        save_images(random_images(), tmp_path / "a.gif")
    with pytest.raises(UserError, match=r"cannot write `\.mp4`"):
        save_animation([Image.new("L", (1, 1))], tmp_path / "a.mp4")


def test_a_disk_that_refuses_is_a_user_error_and_leaves_the_old_file(tmp_path, monkeypatch):
    path = save_image(Image.new("L", (1, 1), 7), tmp_path / "a.png")

    def full(self, file, *args, **options):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(UserError, match=r"a\.png: cannot be written: No space left on device"):
        save_image(Image.new("L", (1, 1), 9), path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
    assert Image.open(path).getpixel((0, 0)) == 7


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_an_animation_holds_its_last_frame(tmp_path, suffix):
    frames = [Image.new("RGB", (8, 8), (i * 60, 255 - i * 60, 0)) for i in range(4)]
    path = save_animation(frames, tmp_path / f"a{suffix}", milliseconds=50, hold=900)
    with Image.open(path) as read:
        assert read.n_frames == 4
        durations = []
        for i in range(4):
            read.seek(i)
            read.load()
            durations.append(read.info["duration"])
    assert durations == [50, 50, 50, 900]


def test_floats_are_drawn_in_the_stated_range_or_refused(tmp_path):
    pixels = random_images()
    values = to_float(pixels, (-1.0, 1.0))
    assert np.array_equal(np.asarray(grid(values, value_range=(-1, 1))), np.asarray(grid(pixels)))
    assert np.array_equal(np.asarray(to_pil(values[0], (-1, 1))), np.asarray(to_pil(pixels[0])))
    written = save_images(values, tmp_path / "a.npy", value_range=(-1, 1))
    assert torch.equal(open_images(written).images, pixels)
    for draw in (grid, lambda x: to_pil(x[0]), lambda x: save_images(x, tmp_path / "b.png")):
        with pytest.raises(UserError, match=r"images: float pixels without a range\. Pass value_range=\(-1, 1\)"):
            draw(values)
        with pytest.raises(UserError, match=r"torch\.int64 is not a type of pixels"):
            draw(pixels.long())


def test_an_animation_needs_a_frame(tmp_path):
    with pytest.raises(ValueError, match="at least one frame"):
        save_animation([], tmp_path / "a.gif")


@pytest.mark.parametrize("c", [1, 3])
@pytest.mark.parametrize("name", ["set.npz", "set.npy", "folder"])
def test_a_written_set_opens_as_it_was(tmp_path, name, c):
    images = random_images(n=7, c=c)
    out = save_images(images, tmp_path / name)
    assert torch.equal(open_images(out).images, images)


def test_a_written_set_has_the_documented_form(tmp_path):
    images = random_images(n=3)
    save_images(images, tmp_path / "folder")
    assert sorted(p.name for p in (tmp_path / "folder").iterdir()) == ["00000.png", "00001.png", "00002.png"]
    with np.load(save_images(images, tmp_path / "set.npz")) as arrays:
        assert arrays.files == ["arr_0"]
        assert (arrays["arr_0"].dtype, arrays["arr_0"].shape) == (np.uint8, (3, 6, 4, 3))
    assert Image.open(save_images(images, tmp_path / "a.png")).size == grid(images).size


def test_a_smaller_set_leaves_none_of_a_larger_ones_images_and_nothing_of_anyone_elses(tmp_path):
    folder = tmp_path / "folder"
    save_images(random_images(n=7), folder)
    others = ["mine.png", "0003.png", "00003.jpg", "00003-old.png", "notes.txt"]
    for name in others:
        (folder / name).write_bytes(b"mine")
    images = random_images(n=3, c=1)
    save_images(images, folder)
    assert sorted(p.name for p in folder.iterdir()) == sorted(["00000.png", "00001.png", "00002.png", *others])
    assert all((folder / name).read_bytes() == b"mine" for name in others)
