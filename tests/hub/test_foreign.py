"""Networks of other programs: built, restored with, and refused."""

import os
import pickle
import sys
import zipfile
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import scorefield as sf
from hub.foreign import MADE, with_spandrel, write
from oracles import tiny_model
from scorefield import checkpoint
from scorefield.data.photo import Photo, as_photo
from scorefield.errors import UserError
from scorefield.hub import foreign as module
from scorefield.hub import import_spandrel, is_foreign, load, notes
from scorefield.restoration import Custom, Denoise, Upscale, restore
from scorefield.restoration.tiles import Tiling

TASK = {"fbcnn": "dejpeg", "nafnet": "deblur", "dncnn": "denoise", "swinir": "denoise"}
SCALE = {"esrgan": 4, "compact": 2, "compact3": 3, "grey": 2}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A file and a network by name, each made once."""
    folder, there = tmp_path_factory.mktemp("foreign"), {}

    def of(name):
        if name not in there:
            there[name] = write(folder, name)
        return there[name]

    return of


def pixels(height, width, channels=3, bits=8):
    """A smooth image with some noise."""
    rng = np.random.default_rng(0)
    y, x = np.meshgrid(range(height), range(width), indexing="ij")
    wave = np.stack([np.sin(x / (5 + c)) * np.cos(y / (7 - c)) for c in range(channels)], 2)
    image = 0.5 + 0.3 * wave + 0.05 * rng.standard_normal(wave.shape)
    top = 2**bits - 1
    return np.rint(image.clip(0, 1) * top).astype(np.uint8 if bits == 8 else np.uint16)


def own(network, image):
    """What the network itself makes of levels, (H, W, C), in levels."""
    top = np.iinfo(image.dtype).max
    x = torch.from_numpy(image.astype(np.float32) / top).permute(2, 0, 1)[None]
    with torch.no_grad():
        out = network(x)
    out = out[0] if isinstance(out, tuple | list) else out
    return (out[0].clamp(0, 1).permute(1, 2, 0).numpy() * top).round()


def difference(a, b):
    return np.abs(a.astype(float) - b.astype(float))


@pytest.mark.parametrize("name", MADE)
def test_a_restoration_is_what_the_network_itself_returns(made, name):
    path, network = made(name)
    model = load(path, device="cpu")
    image = pixels(48, 40, model.shape[0])
    (levels,) = restore(model, image, TASK.get(name, "upscale")).levels
    assert levels.shape == (48 * SCALE.get(name, 1), 40 * SCALE.get(name, 1), model.shape[0])
    assert difference(levels, own(network, image)).max() <= 1  # a value halfway between two levels may go either way
    assert levels.std() > 1  # the network's output is not clipped


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("size", [(21, 35), (1, 1), pytest.param((9, 100), marks=pytest.mark.slow)])
def test_any_size_goes_in(made, name, size):
    model, scale = load(made(name)[0], device="cpu"), SCALE.get(name, 1)
    image = pixels(*size, model.shape[0])
    (levels,) = restore(model, image, TASK.get(name, "upscale")).levels
    assert levels.shape == (scale * size[0], scale * size[1], model.shape[0])


@pytest.mark.parametrize(("name", "radius"), [("compact", 4), ("compact3", 4), ("dncnn", 8), ("esrgan", 21)])
def test_tiles_give_the_whole_image_beyond_the_receptive_field(made, name, radius):
    """`radius`: of the convolutions before enlarging, one pixel each, and what those after it add, in small pixels."""
    model, scale = load(made(name)[0], device="cpu"), SCALE.get(name, 1)
    image, task = pixels(150, 100, model.shape[0]), TASK.get(name, "upscale")
    tile = 96 * scale
    whole = restore(model, image, task, tile=160 * scale)
    tiled = restore(model, image, task, tile=tile)
    assert whole.evaluations == 1 < tiled.evaluations
    grid = 48 if scale == 3 else 16
    tiling = Tiling(size=whole.levels[0].shape[:2], tile=tile, overlap=32 * scale, grid=grid)
    inside = np.ones(whole.levels[0].shape[:2], bool)
    for axis, cuts in enumerate((tiling.rows, tiling.columns)):
        for start, extent in cuts:
            for edge, interior in ((start, start > 0), (start + extent, start + extent < inside.shape[axis])):
                if interior:
                    near = [slice(None)] * 2
                    near[axis] = slice(edge - radius * scale, edge + radius * scale)
                    inside[tuple(near)] = False
    assert inside.mean() > 0.1
    apart = difference(whole.levels[0], tiled.levels[0]).max(2)
    assert apart[inside].max() <= 1


def test_enlarging_is_by_the_network_s_own_factor(made):
    model, image = load(made("compact")[0], device="cpu"), pixels(20, 30)
    by_itself, named = restore(model, image, Upscale()), restore(model, image, Upscale(factor=2))
    custom = restore(model, image, Custom(degradation="downscale:2"))
    assert np.array_equal(by_itself.levels[0], named.levels[0])
    assert np.array_equal(by_itself.levels[0], custom.levels[0])
    for task in (Upscale(factor=4), Custom(degradation="downscale:4")):
        with pytest.raises(UserError, match="enlarges 2 times"):
            restore(model, image, task)
    with pytest.raises(UserError, match="not trained for dejpeg"):
        restore(model, image, "dejpeg")


def test_a_grey_image_comes_back_grey(made):
    model = load(made("compact")[0], device="cpu")
    (levels,) = restore(model, pixels(20, 30, 1), "upscale").levels
    assert levels.shape == (40, 60, 1)
    equal = np.repeat(pixels(20, 30, 1), 3, 2)
    (levels,) = restore(model, equal, "upscale").levels
    assert levels.shape == (40, 60, 3)
    assert (levels[..., 0] == levels[..., 1]).all()
    with pytest.raises(UserError, match="3 channels"):
        restore(load(made("grey")[0]), pixels(20, 30, 3), "upscale")


def test_alpha_and_16_bits_are_kept(made, tmp_path):
    path, network = made("compact")
    deep = pixels(20, 30, bits=16)
    alpha = np.zeros((20, 30), np.uint16)
    alpha[5:, 7:] = 65535
    photo = replace(as_photo(deep), alpha=alpha)
    opaque = restore(load(path, device="cpu"), deep, "upscale").levels[0]
    assert opaque.dtype == np.uint16
    assert difference(opaque, own(network, deep)).max() <= 1
    restored = restore(load(path, device="cpu"), photo, "upscale")
    assert np.array_equal(restored.photo.alpha, alpha.repeat(2, 0).repeat(2, 1))


def test_precision_is_what_the_network_supports(made):
    assert load(made("nafnet")[0], device="cpu").precision == torch.float32
    with pytest.raises(UserError, match=r"DnCNN does not compute in torch\.float16"):
        load(made("dncnn")[0], device="cpu", precision=torch.float16)
    half = load(made("compact")[0], device="cpu", precision=torch.bfloat16)
    image = pixels(32, 32)
    (levels,) = restore(half, image, "upscale").levels
    (exact,) = restore(half.with_precision(torch.float32), image, "upscale").levels
    assert 0 < difference(levels, exact).max() <= 255 * 2**-8 * 8  # four layers, each rounded to 8 bits, and sums
    network = load(made("compact")[0], device="cpu").network
    assert module.precision_of(network, "cuda", None) == torch.float16
    assert module.precision_of(load(made("dncnn")[0], device="cpu").network, "cuda", None) == torch.float32


def test_safetensors_without_a_card_are_of_another_program(made, tmp_path):
    path, network = made("compact")
    save_file(network.state_dict(), tmp_path / "other.safetensors")
    ours = checkpoint.save(tiny_model(), tmp_path / "ours.safetensors")
    assert is_foreign(tmp_path / "other.safetensors")
    assert is_foreign(path)
    assert not is_foreign(ours)
    image = pixels(16, 16)
    levels = [
        restore(load(p, device="cpu"), image, "upscale").levels[0] for p in (path, tmp_path / "other.safetensors")
    ]
    assert np.array_equal(*levels)
    assert notes(path) == {}


def test_a_network_of_another_program_is_not_saved_as_ours(made, tmp_path):
    with pytest.raises(UserError, match="has no card"):
        checkpoint.save(load(made("compact")[0], device="cpu"), tmp_path / "x.safetensors")


class Runs:
    """A pickle that runs code when it is read by the common unpickler."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def test_no_code_of_a_file_runs(tmp_path):
    with_spandrel()
    marker = tmp_path / "ran"
    for number, save in enumerate((torch.save, lambda value, path: path.write_bytes(pickle.dumps(value)))):
        for suffix in module.SUFFIXES:
            path = tmp_path / f"{number}{suffix}"
            save({"params": {"weight": Runs(marker)}}, path)
            with pytest.raises(UserError, match="could run code") as caught:
                sf.load(path)
            assert "\n" not in str(caught.value)
    assert not marker.exists()
    pickle.loads((tmp_path / "1.pth").read_bytes())
    assert marker.exists()  # it would have


def saved(folder, weights):
    torch.save(weights, folder / "made.pth")
    return folder / "made.pth"


def changed(made, folder, **values):
    """The file of the small compact network with other weights."""
    weights = made("compact")[1].state_dict() | {name.replace("_", "."): value for name, value in values.items()}
    return saved(folder, weights)


def wrong(made, folder):
    """A file of each kind that is refused, and words of the line."""
    weights = made("compact")[1].state_dict()
    yield saved(folder, [1, 2]), ["holds a list", "scorefield models import"]
    yield saved(folder, {"a": 1}), ["other things than the weights"]
    yield saved(folder, {}), ["other things than the weights"]
    yield saved(folder, {"a": torch.ones(3)}), ["does not know"]
    yield changed(made, folder, body_0_weight=torch.full((8, 3, 3, 3), torch.nan)), ["`body.0.weight` is not finite"]
    yield saved(folder, weights | {"body.0.weight": torch.ones(1).expand(2**20, 3, 3, 3)}), ["claims to be more"]
    yield saved(folder, weights | {"body.99999999.weight": torch.ones(1)}), ["index beyond"]
    yield saved(folder, weights | {"body.9999999999.weight": torch.ones(1)}), ["index beyond"]
    wide = {"body.0.weight": torch.zeros(2**17, 3, 3, 3)}
    yield saved(folder, weights | wide), ["larger than the file"]
    yield saved(folder, weights | {"body.2.weight": torch.ones(8, 8, 5, 5)}), ["no network could be built"]
    (folder / "text.pth").write_text("hello")
    yield folder / "text.pth", ["not weights of PyTorch"]
    (folder / "short.pth").write_bytes(saved(folder, weights).read_bytes()[:2000])
    yield folder / "short.pth", ["not weights of PyTorch"]
    with zipfile.ZipFile(folder / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(2**25))
    yield folder / "bomb.pth", ["would unfold"]
    torch.jit.trace(torch.nn.Conv2d(3, 3, 3), torch.ones(1, 3, 8, 8)).save(folder / "script.pt")
    yield folder / "script.pt", ["TorchScript is not read"]


@pytest.mark.filterwarnings("ignore")
def test_what_is_no_network_is_refused_before_it_is_built(made, tmp_path):
    for path, words in wrong(made, tmp_path):
        with pytest.raises(UserError) as caught:
            sf.load(path, device="cpu")
        assert all(word in str(caught.value) for word in words), str(caught.value)
        assert str(caught.value).startswith(str(path))


def described(spandrel, kind, purpose, channels=3):
    network = torch.nn.Conv2d(3, 3, 1)
    facts = {
        "architecture": SimpleNamespace(name="Made", id="Made"), "purpose": purpose, "tags": [], "supports_half": True,
        "supports_bfloat16": True, "input_channels": channels, "output_channels": 3,
    }  # fmt: skip
    scale = {"scale": 1} if kind == "ImageModelDescriptor" else {}
    return getattr(spandrel, kind)(network, network.state_dict(), **facts, **scale)


@pytest.mark.parametrize(
    ("kind", "purpose", "channels", "words"),
    [
        ("MaskedImageModelDescriptor", "Inpainting", 3, "needs a mask"),
        ("ImageModelDescriptor", "FaceSR", 3, "faces alone"),
        ("ImageModelDescriptor", "SR", 4, "takes 4 channels"),
    ],
)
def test_what_takes_more_than_an_image_is_refused(made, monkeypatch, kind, purpose, channels, words):
    made_up = described(with_spandrel(), kind, purpose, channels)
    monkeypatch.setattr(module, "_build", lambda *_: made_up)
    with pytest.raises(UserError, match=words):
        import_spandrel(made("compact")[0])


def test_without_the_package_one_line_says_how_to_install_it(made, monkeypatch):
    path, _ = made("compact")
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(UserError, match=r'the package spandrel: pip install "scorefield\[spandrel\]"$'):
        load(path)


def test_every_task_of_an_architecture_takes_an_image(made):
    model, image = load(made("nafnet")[0], device="cpu"), pixels(24, 24)
    assert model.spec.tasks == ("dejpeg", "denoise", "deblur", "descratch", "paired")
    plain = restore(model, image, Denoise()).levels[0]
    for task in ("deblur", "descratch", "paired", Custom(degradation="noise:20")):
        assert np.array_equal(restore(model, image, task).levels[0], plain)


def test_a_jpeg_file_is_restored_within_its_cells(made, tmp_path):
    from PIL import Image

    from scorefield.restoration.file_cells import FileCells

    Image.fromarray(pixels(48, 64)).save(tmp_path / "x.jpg", quality=20)
    photo = Photo.read(tmp_path / "x.jpg")
    model = load(made("fbcnn")[0], device="cpu")
    (free,) = restore(model, photo.levels, "dejpeg").levels
    (levels,) = restore(model, photo, "dejpeg").levels
    assert np.array_equal(levels, FileCells.of(photo).nearest(free))
    assert difference(free, levels).max() > 1  # random weights alone leave the cells
