"""The program from end to end, and one clear line for every bad input."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scorefield.cli.main import main

VERBS = ("demo", "train", "sample", "inpaint", "evaluate", "doctor", "models", "data inspect")


@pytest.fixture
def call(monkeypatch, capsys):
    """Runs the program in this process: exit code, standard output, standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["scorefield", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with twelve grey pictures 8×8."""
    path = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for k in range(12):
        Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(path / f"{k:02}.png")
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory, folder) -> Path:
    """A run of three steps."""
    from scorefield.training import Trainer, read_recipe

    out = tmp_path_factory.mktemp("runs") / "run"
    tiny = ["network.widths=[8]", "optimizer.batch=4", "training.steps=3", "training.sample_count=2"]
    Trainer(read_recipe("default", [f'data.source="{folder}"', *tiny]), out=out).fit()
    return out


def wrong(result: tuple[int, str, str], *words: str, code: int = 2) -> None:
    """One line on standard error that holds the words, and the exit code."""
    assert result[0] == code, result
    lines = [line for line in result[2].splitlines() if "ETA" not in line]
    assert len(lines) == 1, result[2]
    assert all(word in lines[0] for word in words), lines[0]
    assert "Traceback" not in result[2]


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_every_verb_teaches(call, verb):
    code, out, _ = call(*verb.split(), "--help")
    assert code == 0
    assert "Example" in out


@pytest.mark.parametrize("command", [["-c", "import scorefield"], ["-m", "scorefield", "--help"]])
def test_neither_import_nor_help_loads_torch(command):
    script = ["-X", "importtime", *command]
    told = subprocess.run([sys.executable, *script], check=True, capture_output=True, text=True).stderr
    assert not [
        line for line in told.splitlines() if line.split("|")[-1].strip() in {"torch", "numpy", "pydantic"}
    ]


def test_the_whole_way_from_pictures_to_measures(call, folder, tmp_path):
    out = tmp_path / "run"
    tiny = ("network.widths=[8]", "optimizer.batch=4", "training.steps=4", "training.sample_count=2")
    settings = [part for text in tiny for part in ("--set", text)]
    code, told, err = call("train", "default", "--data", folder, "--out", out, *settings)
    assert code == 0, err
    assert "scorefield sample" in told

    for name in ("grid.png", "each", "all.npz", "all.npy"):
        code, _, err = call("sample", out, "-n", 3, "--out", tmp_path / name, "--steps", 2, "--trace")
        assert code == 0, err
    assert len(list((tmp_path / "each").glob("*.png"))) == 3
    assert np.load(tmp_path / "all.npy").shape == (3, 8, 8, 1)
    assert np.array_equal(np.load(tmp_path / "all.npz")["arr_0"], np.load(tmp_path / "all.npy"))
    assert (tmp_path / "grid-trace.gif").is_file()

    mended = tmp_path / "mended"
    code, _, err = call("inpaint", folder / "00.png", "--model", out, "--mask", "left", "--steps", 10,
                        "--candidates", 2, "--out", mended)  # fmt: skip
    assert code == 0, err
    before, after = (np.asarray(Image.open(p)) for p in (folder / "00.png", mended / "00-1.png"))
    assert np.array_equal(before[:, 4:], after[:, 4:])

    code, told, err = call(
        "evaluate", out, "--data", folder, "-n", 4, "--steps", 2, "--json", tmp_path / "r.json"
    )
    assert code == 0, err
    assert "FD[random-conv" in told
    assert "FID" not in told.replace("KID", "")
    assert json.loads((tmp_path / "r.json").read_text())["n"] == 4

    code, told, err = call("models", out)
    assert code == 0, err
    assert "unet" in told


def test_data_inspect_counts_and_lists_what_it_skips(call, folder, tmp_path):
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    whole = (folder / "00.png").read_bytes()
    for k in range(3):
        (mixed / f"{k}.png").write_bytes(whole)
    (mixed / "cut.png").write_bytes(whole[: len(whole) // 2])
    Image.new("L", (4, 4)).save(mixed / "small.png")
    Image.new("CMYK", (9, 8)).save(mixed / "print.jpg")
    Image.new("RGBA", (8, 9), (255, 0, 0, 100)).save(mixed / "alpha.png")
    Image.new("P", (8, 8)).save(mixed / "palette.png")
    Image.fromarray(np.full((8, 8), 40_000, dtype=np.uint16)).save(mixed / "deep.png")
    code, told, err = call("data", "inspect", mixed, "--size", 8, "--json", tmp_path / "facts.json")
    assert code == 0, err
    facts = json.loads((tmp_path / "facts.json").read_text())
    assert facts["pictures"] == 7
    assert {Path(one["path"]).name for one in facts["skipped"]} == {"cut.png", "small.png"}
    assert "cut.png" in told


def test_wrong_names_and_numbers_are_one_line(call, run, folder, tmp_path):
    out = tmp_path / "x.png"
    wrong(call("sampl"), "Did you mean")
    wrong(call("sample", run, "--out", out, "--bogus"), "--bogus")
    wrong(call("sample", run, "--out", out, "--sampler", "huen"), "Did you mean `heun`?")
    wrong(call("sample", run, "--out", out, "-n", 0), "n")
    wrong(call("sample", run, "--out", out, "--steps", 0), "steps")
    wrong(call("sample", run, "--out", out, "--size", "wide"), "--size")
    wrong(call("sample", run, "--out", out, "--device", "toaster"), "toaster")
    wrong(call("sample", "nowhere", "--out", out), "nowhere")
    wrong(call("train", "defalt", "--out", tmp_path / "r", "--data", folder), "Did you mean `default`?")
    wrong(call("train", "default", "--out", tmp_path / "r"), "--data")
    wrong(call("train", "default", "--out", tmp_path / "r", "--data", "nowhere"), "nowhere")
    wrong(call("train", "default", "--out", tmp_path / "r", "--data", folder, "--stop-after", "soon"), "soon")
    wrong(call("train", "default", "--out", tmp_path / "r", "--data", folder, "--set", "optimizer.warm_up=3"),
          "warm_up", "Did you mean `warmup`?")  # fmt: skip
    wrong(call("inpaint", tmp_path / "no.png", "--model", run, "--out", tmp_path / "m"), "no.png")
    wrong(
        call("inpaint", folder / "00.png", "--model", run, "--out", tmp_path / "m", "--mask", "middle"),
        "middle",
    )
    assert not out.exists()


def test_wrong_recipes_name_the_line_and_the_key(call, tmp_path, folder):
    path = tmp_path / "mine.toml"
    path.write_text("[optimizer]\nlr = 1e-3\nwarm_up = 3\n")
    wrong(
        call("train", path, "--out", tmp_path / "r", "--data", folder),
        "mine.toml:3",
        "optimizer.warm_up",
        "`warmup`",
    )
    path.write_text("[optimiser]\nlr = 1e-3\n")
    wrong(call("train", path, "--out", tmp_path / "r", "--data", folder), "mine.toml:1", "`optimizer`")
    path.write_text("[optimizer]\nlr = 'fast'\n")
    wrong(
        call("train", path, "--out", tmp_path / "r", "--data", folder), "mine.toml:2", "optimizer.lr", "fast"
    )
    path.write_text("[optimizer\n")
    wrong(call("train", path, "--out", tmp_path / "r", "--data", folder), "mine.toml", "TOML")


def test_empty_and_broken_data_are_one_line(call, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    wrong(call("data", "inspect", empty), "empty")
    (empty / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    wrong(call("data", "inspect", empty), "empty")
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04")
    wrong(call("data", "inspect", tmp_path / "broken.npz"), "broken.npz")


def test_broken_and_foreign_checkpoints_are_one_line(call, run, tmp_path):
    half = tmp_path / "half.safetensors"
    half.write_bytes((run / "model.safetensors").read_bytes()[:-100])
    wrong(call("sample", half, "--out", tmp_path / "x.png"), "half.safetensors")
    other = tmp_path / "other.npz"
    np.savez(other, images=np.zeros((5, 16, 12, 3), dtype=np.uint8))
    wrong(call("evaluate", run, "--data", other, "-n", 2), "other")
    from safetensors.torch import save_file

    foreign = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(2)}, foreign)
    wrong(call("models", foreign), "no card")


def test_what_exists_is_not_replaced_unasked(call, run, tmp_path):
    out = tmp_path / "x.png"
    out.write_text("mine")
    wrong(call("sample", run, "--out", out, "-n", 1, "--steps", 2), "already exists")
    assert out.read_text() == "mine"
    code, _, err = call("sample", run, "--out", out, "-n", 1, "--steps", 2, "--overwrite")
    assert code == 0, err
    assert out.read_bytes().startswith(b"\x89PNG")


def test_one_bad_picture_does_not_stop_the_others(call, run, folder, tmp_path):
    code, told, err = call("inpaint", tmp_path / "no.png", folder / "01.png", "--model", run, "--steps", 10,
                           "--out", tmp_path / "m", "--candidates", 1)  # fmt: skip
    assert code == 2
    assert "no.png" in err
    assert (tmp_path / "m" / "01-1.png").is_file()


def test_a_full_disk_is_one_line_and_exit_code_1(call, run, tmp_path, monkeypatch):
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    wrong(call("sample", run, "--out", tmp_path / "x.png", "-n", 1, "--steps", 2), "disk is full", code=1)


def test_debug_shows_the_traceback(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["scorefield", "--debug", "models", "nowhere"])
    with pytest.raises(Exception, match="no such model"):
        main()


@pytest.mark.slow
def test_the_tour_writes_one_page_that_needs_nothing_else(call, tmp_path):
    code, told, err = call("demo", "--out", tmp_path / "demo", "--train-for", "3s")
    assert code == 0, err
    page = (tmp_path / "demo" / "index.html").read_text()
    assert "http://" not in page
    assert "https://" not in page
    assert page.count("data:image/") >= 7
    assert "$" not in "".join(part.split(";base64,")[0] for part in page.split("data:image"))
    wrong(call("demo", "--out", tmp_path / "demo"), "already exists")


@pytest.mark.slow
def test_the_doctor_measures_this_machine(call):
    code, told, err = call("doctor")
    assert code == 0, err
    assert "images/s" in told
