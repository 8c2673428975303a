"""One clear line and the right exit code for every mistake and failure."""

import errno
import os
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from safetensors.torch import save as to_bytes

import scorefield as sf
from scorefield import checkpoint
from scorefield.cli.samples import REQUEST
from scorefield.training.state import checkpoints


@pytest.fixture
def shirt(tmp_path):
    path = tmp_path / "shirt.png"
    Image.new("L", (8, 8), 90).save(path)
    return path


def bomb(path):
    """A small PNG that promises 50,000 × 50,000 pixels."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    return path


def test_a_debug_flag_shows_where_and_without_it_nothing_does(call, run, tmp_path):
    command = ("sample", run, "--out", tmp_path / "x.png", "--sampler", "huen")
    call(*command).complaint()
    with pytest.raises(sf.UserError, match="huen"):  # what Python then prints is the traceback
        call("--debug", *command)


# --- data ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["train", "inspect"])
def test_folders_without_a_readable_image_are_reported(call, tiny, tmp_path, verb):
    empty = tmp_path / "empty"
    empty.mkdir()
    command = {
        "train": ("train", tiny, "--out", tmp_path / "run", "--data", empty),
        "inspect": ("data", "inspect", empty),
    }[verb]
    assert str(empty) in call(*command).complaint()
    (empty / "notes.txt").write_text("no image")
    (empty / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    bomb(empty / "bomb.png")
    assert str(empty) in call(*command).complaint()
    assert not (tmp_path / "run").exists()


def test_a_decompression_bomb_is_reported_and_skipped_among_good_ones(call, run, shirt, tmp_path):
    danger = bomb(tmp_path / "bomb.png")
    line = call("inpaint", danger, "--model", run, "--out", tmp_path / "out").complaint()
    assert "decompression bomb" in line
    result = call("data", "inspect", tmp_path)
    assert result.code == 0, result.err
    assert "bomb.png" in result.out


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".npz", b""),
        (".npz", b"PK\x03\x04 cut"),
        (".npz", b"\x93NUMPY"),
        (".npy", b""),
        (".npy", b"\x93NUMPY"),
    ],
)
def test_degraded_arrays_are_reported(call, tmp_path, suffix, content):
    path = tmp_path / f"set{suffix}"
    path.write_bytes(content)
    assert str(path) in call("data", "inspect", path).complaint()


# --- checkpoints ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["half", "empty", "text", "no card", "folder"])
def test_checkpoints_that_are_none_are_reported(call, run, tmp_path, kind):
    path = tmp_path / "broken.safetensors"
    whole = (run / "model.safetensors").read_bytes()
    if kind == "folder":
        path.mkdir()
    elif kind == "no card":
        save_file({"weight": torch.zeros(2)}, path)
    else:
        path.write_bytes({"half": whole[: len(whole) // 2], "empty": b"", "text": b"hello " * 9}[kind])
    line = call("sample", path, "--out", tmp_path / "x.png").complaint()
    assert str(path) in line
    assert not (tmp_path / "x.png").exists()


def test_weights_of_another_shape_are_reported_by_name(call, run, tmp_path, monkeypatch):
    weights = load_file(run / "model.safetensors")
    name = next(iter(sorted(weights)))
    path = tmp_path / "other.safetensors"
    model = checkpoint.load(run / "model.safetensors")
    wrong = {**weights, name: torch.zeros(*weights[name].shape, 2)}
    monkeypatch.setattr(checkpoint, "to_bytes", lambda _, metadata: to_bytes(wrong, metadata))
    checkpoint.save(model, path)
    line = call("sample", path, "--out", tmp_path / "x.png").complaint()
    assert f"made for another network: `{name}`" in line


def test_a_damaged_checkpoint_is_reported(call, tiny, tmp_path):
    out = tmp_path / "run"
    assert call("train", tiny, "--out", out, "--set", "training.steps=2").code == 0
    (path,) = checkpoints(out)
    path.write_bytes(path.read_bytes()[:999])
    result = call("train", tiny, "--out", out, "--resume", "auto")
    assert result.code == 2
    assert f"{path}: damaged; the run cannot resume. Copy it again, or train in another" in result.err.splitlines()[-1]
    line = call("train", tiny, "--out", out, "--resume", "auto", "--set", "optimizer.batch=4").complaint()
    assert "optimizer.batch" in line


# --- failures ------------------------------------------------------------------------------------


def no_room(*arguments, **settings):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def rust_has_no_room(*arguments, **settings):
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize(
    ("module", "name", "fails"), [(torch, "save", no_room), (checkpoint, "to_bytes", rust_has_no_room)]
)
def test_a_disk_that_fills_in_training_ends_with_1_and_leaves_the_last_checkpoint(
    call, tiny, tmp_path, monkeypatch, module, name, fails
):
    out = tmp_path / "run"
    assert call("train", tiny, "--out", out, "--set", "training.steps=2").code == 0
    before = {path: path.read_bytes() for path in (out / "model.safetensors", *checkpoints(out))}
    monkeypatch.setattr(module, name, fails)
    assert "disk is full" in call("train", tiny, "--out", out, "--resume", "auto").complaint(1)
    assert (out / "model.safetensors").read_bytes() == before[out / "model.safetensors"]
    monkeypatch.undo()
    assert call("train", tiny, "--out", out, "--resume", "auto").code == 0


@pytest.mark.parametrize("out", ["x.png", "x.npy", "x.npz", "folder"])
def test_a_disk_that_fills_in_sampling_leaves_the_old_file(call, run, tmp_path, monkeypatch, out):
    old = tmp_path / out / "00000.png" if out == "folder" else tmp_path / out
    old.parent.mkdir(exist_ok=True)
    old.write_bytes(b"mine")
    for owner, name in ((Image.Image, "save"), (np, "save"), (np, "savez_compressed")):
        monkeypatch.setattr(owner, name, no_room)
    result = call("sample", run, "-n", 1, "--steps", 2, "--out", tmp_path / out, "--overwrite")
    line = result.complaint(1)
    assert "disk is full" in line
    assert str(tmp_path / out) in line
    assert old.read_bytes() == b"mine"
    request = [REQUEST] if out == "folder" else []  # by which the same command goes on in a folder
    assert sorted(path.name for path in old.parent.iterdir()) == [*request, old.name]
    monkeypatch.undo()
    assert call("sample", run, "-n", 1, "--steps", 2, "--out", tmp_path / out, "--overwrite").code == 0
    assert old.read_bytes() != b"mine" and [path.name for path in old.parent.iterdir()] == [old.name]


def test_ctrl_c_outside_of_training_is_one_word_and_130(call, run, tmp_path, monkeypatch):
    def interrupted(*arguments, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(sf.ScoreModel, "forward", interrupted)
    line = call("sample", run, "--out", tmp_path / "x.png").complaint(130)
    assert line == "scorefield: stopped."
    assert not (tmp_path / "x.png").exists()


def test_a_failure_of_ours_is_one_line_and_1(call, run, tmp_path, monkeypatch):
    def broken(*arguments, **settings):
        raise ZeroDivisionError("a mistake\nof the program")

    monkeypatch.setattr(sf.ScoreModel, "forward", broken)
    line = call("sample", run, "--out", tmp_path / "x.png").complaint(1)
    assert "a mistake of the program" in line
    assert "--debug" in line
