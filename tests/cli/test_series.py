"""`sample` of more images than memory should hold: written as they come, gone on with, put together."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from scorefield import checkpoint, samplers
from scorefield.cli.samples import SampleWriter
from scorefield.data import grids
from scorefield.errors import UserError
from scorefield.files import locked

N = 150  # three batches


@pytest.fixture
def go(call, run, tmp_path):
    def sample(out, *arguments, code=0, n=N):
        result = call("sample", run, "-n", n, "--steps", 2, "--out", tmp_path / out, *arguments)
        assert result.code == code, result.err
        return result

    return sample


def stop_after(monkeypatch, batches):
    """End the drawing after so many batches, as a signal would."""
    true, drawn = samplers.sample_batches, []

    def stopping(*arguments, first, **settings):
        for number, images in enumerate(true(*arguments, first=first, **settings), first):
            if len(drawn) == batches:
                raise KeyboardInterrupt
            drawn.append(number)
            yield images

    monkeypatch.setattr(samplers, "sample_batches", stopping)
    return drawn


def interrupt(*arguments, **settings):
    raise KeyboardInterrupt


def images(out):
    if out.suffix == ".npy":
        return np.load(out)
    if out.suffix == ".npz":
        return np.load(out)["arr_0"]
    return np.stack([np.asarray(Image.open(path)) for path in sorted(out.iterdir())])[..., None]


@pytest.fixture(scope="module")
def expected(run):
    model = checkpoint.load(run / "model.safetensors")
    return samplers.sample(model, N, steps=2)


@pytest.mark.parametrize("name", ["set.npy", "set.npz", "folder"])
def test_a_series_that_was_stopped_is_gone_on_with_and_is_the_whole_one(go, tmp_path, monkeypatch, expected, name):
    with monkeypatch.context() as patched:
        stop_after(patched, 2)
        go(name, code=130)
    with monkeypatch.context() as patched:
        drawn = stop_after(patched, 9)
        go(name)
    assert drawn == [2]
    from scorefield.data.image import to_uint8

    low_high = (-1.0, 1.0)
    assert np.array_equal(images(tmp_path / name), to_uint8(expected, low_high).permute(0, 2, 3, 1).numpy())
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert "already exists" in go(name, code=2).complaint()


def test_other_settings_do_not_go_on_with_a_series(go, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        stop_after(patched, 1)
        go("folder", code=130)
    line = go("folder", "--seed", 1, code=2).complaint()
    assert "holds a part of other samples" in line
    assert len(list((tmp_path / "folder").glob("*.png"))) == 64
    go("folder", "--seed", 1, "--overwrite", n=70)
    assert len(list((tmp_path / "folder").iterdir())) == 70


def test_an_image_that_is_gone_from_a_stopped_series_is_drawn_again(go, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        stop_after(patched, 2)
        go("folder", code=130)
    (tmp_path / "folder" / "00003.png").unlink()
    with monkeypatch.context() as patched:
        drawn = stop_after(patched, 9)
        go("folder")
    assert drawn == [0, 1, 2]


def test_a_folder_of_samples_belongs_to_one_process(go, tmp_path):
    with locked(tmp_path / "folder"):
        assert "another process writes here" in go("folder", code=2).complaint()


def test_what_else_lies_in_a_folder_stays_when_samples_are_replaced(go, tmp_path):
    go("folder", n=3)
    (tmp_path / "folder" / "notes.txt").write_text("mine")
    go("folder", "--overwrite", n=2)
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == ["00000.png", "00001.png", "notes.txt"]


def test_samples_that_are_not_finite_are_an_error_and_no_image(call, tmp_path, run, monkeypatch):
    true = samplers.sample_batches

    def broken(*arguments, **settings):
        for drawn in true(*arguments, **settings):
            yield drawn * float("nan")

    monkeypatch.setattr(samplers, "sample_batches", broken)
    result = call("sample", run, "-n", 2, "--steps", 2, "--out", tmp_path / "s.png", "--json", tmp_path / "s.json")
    assert result.code == 1 and "not finite" in result.err
    assert list(tmp_path.iterdir()) == []


def test_the_memory_of_a_series_is_that_of_a_batch(run):
    """No tensor of more images than a batch is alive while a long series is drawn."""
    import gc

    model = checkpoint.load(run / "model.safetensors")
    largest = 0
    for number, _ in enumerate(samplers.sample_batches(model, 100_000, sampler=samplers.plan(model, "ddim", 1))):
        alive = [t.numel() for t in gc.get_objects() if issubclass(type(t), torch.Tensor) and t.ndim == 4]
        largest = max(largest, *alive)
        if number == 2:
            break
    assert largest <= 64 * max(64, 8 * 8 * 8 * 4)


def test_what_was_asked_is_kept_beside_the_parts(go, tmp_path, monkeypatch):
    stop_after(monkeypatch, 1)
    go("set.npy", code=130)
    request = json.loads((tmp_path / ".set.npy.batches" / ".request.json").read_text())
    assert request["batches"] == 1 and request["request"]["n"] == N


@pytest.mark.parametrize("drawn", [0, 1, 2, 3])
def test_a_trace_is_written_wherever_the_series_was_stopped(go, tmp_path, monkeypatch, drawn):
    """After the last batch too: nothing is left to draw then but the trace."""
    with monkeypatch.context() as patched:
        stop_after(patched, drawn)
        if drawn == 3:
            patched.setattr(grids, "remove_numbered", interrupt)
        go("folder", "--trace", code=130)
    go("folder", "--trace")
    with Image.open(tmp_path / "folder-trace.gif") as trace:
        assert trace.n_frames >= 2
    assert len(list((tmp_path / "folder").iterdir())) == N


def series(out, n, **how):
    return SampleWriter(out=out, n=n, request={"n": n}, **how)


def drawing(n, value, meanwhile=lambda: None):
    """Batches of images of one value; something happens while they are drawn."""

    def draw(first):
        for begin in range(64 * first, n, 64):
            meanwhile()
            yield torch.full((min(64, n - begin), 1, 2, 2), value, dtype=torch.uint8)

    return draw


@pytest.mark.parametrize("n", [3, 70])
@pytest.mark.parametrize("name", ["s.png", "s.npy", "s.npz", "folder"])
def test_of_two_that_draw_to_one_place_the_second_is_told(tmp_path, name, n):
    """Whichever ends first; what lies there is whole and of one of them."""
    out, told = tmp_path / name, []

    def other():
        if not told:
            try:
                series(out, n).write(drawing(n, 2))
                told.append("the first")
            except UserError as error:
                told.append(str(error))

    try:
        series(out, n).write(drawing(n, 1, other))
    except UserError as error:
        assert told == ["the first"] and "already exists" in str(error)
    else:
        assert "another process writes here" in told[0]
    values = np.asarray(Image.open(out)) if name == "s.png" else images(out)
    assert set(np.unique(values)) - {255} == {2 if told == ["the first"] else 1}
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_the_parts_of_a_file_are_removed_under_the_lock_and_nothing_else(tmp_path):
    hidden = tmp_path / ".s.npy.batches"
    hidden.mkdir()
    (hidden / "mine.txt").write_text("kept")
    series(tmp_path / "s.npy", 70).write(drawing(70, 1))
    assert [path.name for path in hidden.iterdir()] == ["mine.txt"]
