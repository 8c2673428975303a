"""Runs over many images: what is done, skipped, named, and gone on with."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli.test_bad_input import bomb
from scorefield import checkpoint
from scorefield.cli import batch
from scorefield.cli.inputs import find_images
from scorefield.cli.manifest import Manifest, Record
from scorefield.errors import UserError
from scorefield.files import locked
from scorefield.model import RestorationSpec


@pytest.fixture(scope="module")
def other(restorer, tmp_path_factory):
    """A file with another model, of one task."""
    model = checkpoint.load(restorer)
    model.spec = replace(model.spec, restoration=RestorationSpec(tasks=("colorize",)))
    return checkpoint.save(model, tmp_path_factory.mktemp("other") / "model.safetensors")


def image(path, *, shade=90, size=(16, 16), **how):
    """A ramp, written to `path`."""
    ramp = np.linspace(40, 210, size[0]).astype(np.uint8)
    rgb = np.stack([np.tile(ramp, (size[1], 1))] * 2 + [np.full((size[1], size[0]), shade, np.uint8)], -1)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb).save(path, **how)
    return path


@pytest.fixture
def tree(tmp_path):
    """A folder with three images on two floors."""
    image(tmp_path / "old" / "a.png")
    image(tmp_path / "old" / "sea" / "b.jpg", quality=20)
    image(tmp_path / "old" / "sea" / "deep" / "c.png", shade=30)
    return tmp_path / "old"


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def lines(out):
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]


def of(stem, candidates=1):
    return [*(f"{stem}-{k + 1}.png" for k in range(candidates)), f"{stem}-before.png", f"{stem}-sheet.png"]


def stamped(path):
    return [path.stat().st_size, path.stat().st_mtime_ns, sha(path)]


@pytest.fixture
def go(call, restorer, tmp_path):
    """Run a verb with few steps; its results go to tmp_path / "out"."""

    def run(verb, *arguments, code=0, out=tmp_path / "out", model=restorer):
        result = call(verb, *arguments, "--model", model, "--steps", 2, "--out", out)
        assert result.code == code, result.err
        return result

    return run


# --- where results go ----------------------------------------------------------------------------


def test_a_trees_form_comes_again(go, tree, tmp_path):
    result = go("colorize", tree)
    assert files(tmp_path / "out") == sorted(
        ["index.html", "manifest.jsonl", *of("a"), *of("sea/b"), *of("sea/deep/c")]
    )
    assert f"{tree / 'sea' / 'b.jpg'} -> {tmp_path / 'out' / 'sea'}" in result.out


def test_images_that_differ_by_suffix_alone_are_distinguished(tmp_path):
    for name in ("a.png", "a.jpg", "b.png", "c/a.png"):
        image(tmp_path / "in" / name)
    found = find_images([tmp_path / "in"], tmp_path / "out")
    assert [one.stem for one in found] == ["a-jpg", "a-png", "b", "c/a"]
    assert [one.name for one in found] == ["a.jpg", "a.png", "b.png", "c/a.png"]


def test_several_folders_keep_their_names_and_nothing_is_found_twice(tmp_path):
    for name in ("one/a.png", "two/a.png"):
        image(tmp_path / name)
    found = find_images([tmp_path / "one", tmp_path / "two", tmp_path / "one" / "a.png"], tmp_path / "out")
    assert [one.stem for one in found] == ["one/a", "two/a"]


def test_results_below_the_folder_of_images_are_no_images(go, tree):
    go("colorize", tree, out=tree / "done")
    result = go("colorize", tree, out=tree / "done")
    assert "3 of 3 are restored already" in result.out
    assert files(tree / "done") == sorted(["index.html", "manifest.jsonl", *of("a"), *of("sea/b"), *of("sea/deep/c")])


def test_results_of_the_same_name_are_refused(tmp_path):
    image(tmp_path / "one" / "a.png")
    image(tmp_path / "two" / "a.png")
    with pytest.raises(UserError, match="would have the names of"):
        find_images([tmp_path / "one" / "a.png", tmp_path / "two" / "a.png"], tmp_path / "out")


@pytest.mark.parametrize("how", ["link", "link within", "folder", "deeper"])
def test_results_of_earlier_runs_are_no_images_wherever_they_lie(go, tree, tmp_path, how):
    out = {"folder": tree / "done", "deeper": tree / "sea" / "done"}.get(how, tmp_path / "elsewhere" / "done")
    go("colorize", tree / "a.png", "--candidates", 2, out=out)
    if how == "link":
        (tree / "linked").symlink_to(out)
    elif how == "link within":
        (tree / "linked").symlink_to(out.parent)
    assert [one.name for one in find_images([tree], tmp_path / "out")] == ["a.png", "sea/b.jpg", "sea/deep/c.png"]


@pytest.mark.parametrize("where", ["", "sea"])
def test_the_results_of_a_verb_are_the_images_of_the_next(go, tree, tmp_path, where):
    """Of the folder of results, or of one below it: the candidates, without thumbnails, sheets and maps."""
    first = tmp_path / "first"
    go("colorize", tree, "--candidates", 2, "--map", out=first)
    go("inpaint", first / where, "--mask", "left")
    stems = {"": ["a-1", "a-2", "sea/b-1", "sea/b-2", "sea/deep/c-1", "sea/deep/c-2"],
             "sea": ["b-1", "b-2", "deep/c-1", "deep/c-2"]}[where]  # fmt: skip
    assert sorted(entry["stem"] for entry in lines(tmp_path / "out")) == stems
    assert f"{len(stems)} of {len(stems)} are restored already" in go("inpaint", first / where, "--mask", "left").out


def test_a_folder_that_has_results_below_it_alone_is_no_folder_of_images(go, tree, tmp_path):
    go("colorize", tree, out=tmp_path / "above" / "first")
    line = go("colorize", tmp_path / "above", code=2).complaint()
    assert "holds no images but results of earlier runs. Name the files themselves, or the folder that has" in line


@pytest.mark.parametrize("where", ["in", "out"])
def test_a_folder_of_the_manifests_name_is_none(go, tree, tmp_path, where):
    place = {"in": tree, "out": tmp_path / "out"}[where]
    (place / "manifest.jsonl").mkdir(parents=True)
    if where == "in":
        go("colorize", tree)
    else:
        assert "manifest.jsonl: is no file" in go("colorize", tree, code=2).complaint()


MEMORY = """
import os, sys, tracemalloc
from pathlib import Path
import scorefield.data.folder as listing
from scorefield.cli import batch
from scorefield.cli.compact import Places
from scorefield.cli.inputs import find_images

folder = Path(sys.argv[1])
listing.is_special = lambda path: False
for n in (10_000, 20_000):
    os.walk = lambda top, **how: iter([(str(top), [], [f"IMG_{i:08}.jpg" for i in range(n)])])
    tracemalloc.start()
    found, places = find_images([folder], folder / "out"), Places()
    batch._refuse_results(folder / "out", lambda: iter(found))
    for k, one in enumerate(found):
        places[one.stem] = k
    assert len(found) == len(places) == n
    print(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
"""


def test_the_memory_of_a_million_images_is_that_of_their_names(tmp_path, environment):
    """Found, looked up and noted: less than 100 bytes kept for each, by a line through two numbers of them.

    In a process of its own: what other tests leave to be freed would be counted.
    """
    ran = subprocess.run(
        [sys.executable, "-c", MEMORY, tmp_path], env=environment, capture_output=True, text=True, check=True
    )
    few, many = map(int, ran.stdout.split())
    assert (many - few) / 10_000 < 100


# --- the manifest --------------------------------------------------------------------------------


def test_a_line_records_all_that_was_done(go, call, restorer, tmp_path):
    path = image(tmp_path / "small.jpg", quality=20)
    result = call("dejpeg", path, "--model", restorer, "--steps", 3, "--seed", 5, "--sampler", "ddim",
                "--candidates", 2, "--out", tmp_path / "out")  # fmt: skip
    assert result.code == 0, result.err
    (entry,) = lines(tmp_path / "out")
    assert entry["seconds"] >= 0
    del entry["seconds"]
    assert entry == {
        "input": str(path),
        "stem": "small",
        "bytes": path.stat().st_size,
        "mtime_ns": path.stat().st_mtime_ns,
        "sha256": sha(path),
        "task": "dejpeg",
        "settings": {"quality": None, "candidates": 2, "average": False, "best": False, "steps": 3,
                     "schedule": None, "tile": None, "format": None, "map": False},
        "seed": 5,
        "model": str(restorer),
        "model_sha256": sha(restorer),
        "method": "palette",
        "sampler": "ddim",
        "outputs": ["small-1.png", "small-2.png", "small-sheet.png"],
        "before": "small-before.png",
        "page": [],
        "files": {name: stamped(tmp_path / "out" / name) for name in of("small", 2)},
        "evaluations": 6,
        "jpeg_quality": 20,
        "notes": [],
        "error": None,
        "skipped": False,
    }  # fmt: skip


def sha(path):
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


@pytest.fixture
def entry():
    return Record(
        input="/x/a.png", stem="a", bytes=1, mtime_ns=2, sha256="3", task="colorize", settings={"steps": 2},
        seed=0, model="photos", model_sha256="4", method="palette", sampler="ddim", outputs=["a-1.png"],
    )  # fmt: skip


def test_a_cut_line_is_no_line_and_does_not_affect_the_next(tmp_path, entry):
    Manifest(out=tmp_path).append(entry)
    whole = (tmp_path / "manifest.jsonl").read_bytes()
    (tmp_path / "manifest.jsonl").write_bytes(whole + whole[:40])
    again = Manifest(out=tmp_path)
    assert again.restored == {"a": entry}
    again.append(replace(entry, stem="b"))
    assert list(Manifest(out=tmp_path).restored) == ["a", "b"]


def test_an_error_neither_counts_as_restored_nor_hides_what_was(tmp_path, entry):
    Manifest(out=tmp_path).append(entry, replace(entry, error="no"), replace(entry, stem="b", error="no"))
    assert Manifest(out=tmp_path).restored == {"a": entry}


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"settings": {"steps": 3}},
        {"task": "dejpeg"},
        {"model_sha256": "5"},
        {"sampler": "ddpm"},
        {"method": "pigdm"},
        {"sha256": "4"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_request_is_not_the_same(entry, change):
    assert entry.same_request(replace(entry, model="elsewhere", input="/y/a.png", mtime_ns=5, seconds=3.0))
    assert not entry.same_request(replace(entry, **change))


def test_the_schedule_of_the_paper_can_be_requested(go, tree, tmp_path):
    go("colorize", tree / "a.png", "--schedule", "palette", "--sampler", "ddpm")
    (entry,) = lines(tmp_path / "out")
    assert entry["settings"]["schedule"] == "palette" and entry["evaluations"] >= 2


def test_what_a_format_cannot_keep_is_reported_and_the_page_shows_what_browsers_can(call, restorer, tmp_path):
    deep = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    Image.fromarray(deep).save(tmp_path / "deep.tif")
    for name, out, words in (("tif", "same", []), ("jpg", "less", ["without 16 bits a channel"])):
        result = call("inpaint", tmp_path / "deep.tif", "--mask", "left", "--model", restorer, "--steps", 2,
                    "--format", name, "--out", tmp_path / out)  # fmt: skip
        assert result.code == 0, result.err
        (entry,) = lines(tmp_path / out)
        assert entry["notes"] == words and all(word in result.out for word in words)
        assert entry["outputs"] == [f"deep-1.{name}", "deep-sheet.png"]
        page = (tmp_path / out / "index.html").read_text()
        assert ("deep-1-page.png" in page) == (name == "tif") and f"deep-1.{name}" in page
    assert files(tmp_path / "same") == sorted(
        ["deep-1.tif", "deep-1-page.png", "deep-before.png", "deep-sheet.png", "index.html", "manifest.jsonl"]
    )


def test_a_folder_may_hold_heic(tmp_path):
    image(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "b.HEIC").write_bytes(b"")
    assert [one.name for one in find_images([tmp_path / "in"], tmp_path / "out")] == ["a.png", "b.HEIC"]


# --- going on ------------------------------------------------------------------------------------


def spy(monkeypatch, *, stop_at=None):
    """Count the images that are restored; at one of them, a signal."""
    import scorefield as sf

    real, seen = sf.restore, []

    def restore(model, photo, task, **settings):
        if stop_at is not None and photo.path.stem == stop_at:
            raise KeyboardInterrupt
        seen.append(photo.path.stem)
        return real(model, photo, task, **settings)

    monkeypatch.setitem(vars(sf), "restore", restore)
    return seen


def test_the_same_command_goes_on_where_it_was_stopped(go, tree, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        spy(patched, stop_at="c")
        go("colorize", tree, code=130)
    before = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in of("a") + of("sea/b")}
    assert (tmp_path / "out" / "index.html").is_file()
    with (tmp_path / "out" / "manifest.jsonl").open("a") as file:
        file.write('{"input": "/x/c.png", "outp')
    seen = spy(monkeypatch)
    result = go("colorize", tree)
    assert seen == ["c"]
    assert "2 of 3 are restored already, in this same way: skipped" in result.out
    assert {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in before} == before
    assert files(tmp_path / "out" / "sea" / "deep") == of("c")


@pytest.mark.parametrize("killed_after", ["results", "line", "first file"])
def test_a_kill_while_results_are_written_leaves_nothing_half(go, tree, tmp_path, monkeypatch, killed_after):
    """SIGKILL runs no `finally`: what is hidden stays."""
    out = tmp_path / "out"
    whole = tmp_path / "whole"
    go("colorize", tree / "a.png", out=whole)
    out.mkdir()
    hidden = out / ".part-abc"
    hidden.mkdir()
    for name in of("a"):
        shutil.copy(whole / name, hidden)
    if killed_after != "results":
        shutil.copy(whole / "manifest.jsonl", out)
    if killed_after == "first file":
        (hidden / "a-1.png").replace(out / "a-1.png")
    seen = spy(monkeypatch)
    go("colorize", tree / "a.png")
    assert seen == ["a"]
    assert not hidden.exists()
    assert files(out) == files(whole)
    for name in of("a"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()


def test_a_folder_belongs_to_one_process(go, tree, tmp_path, monkeypatch):
    """A number of a process says nothing: another container has the same."""
    with locked(tmp_path / "out"):
        seen = spy(monkeypatch)
        line = go("colorize", tree, code=2).complaint()
        assert f"{tmp_path / 'out'}: another process writes here: number {os.getpid()} on " in line
        assert seen == []
    go("colorize", tree)
    assert seen == ["a", "b", "c"]
    assert not list((tmp_path / "out").rglob(".*"))


def test_a_lock_that_a_kill_left_holds_nothing(go, tree, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".lock").write_text('{"host": "elsewhere", "process": 1, "since": "2026"}')
    go("colorize", tree)


@pytest.mark.parametrize(
    "harm", ["cut", "gone", *(pytest.param(h, marks=pytest.mark.slow) for h in ("emptied", "changed"))]
)
def test_a_result_that_was_damaged_is_made_again_and_what_was_there_is_kept(go, tree, tmp_path, monkeypatch, harm):
    go("colorize", tree)
    path = tmp_path / "out" / "sea" / "b-1.png"
    whole, other = path.read_bytes(), (tmp_path / "out" / "sea" / "b-sheet.png").stat().st_mtime_ns
    harmed = {"cut": whole[:50], "emptied": b"", "changed": whole[:-9] + bytes(9), "gone": None}[harm]
    if harmed is None:
        path.unlink()
    else:
        path.write_bytes(harmed)
    seen = spy(monkeypatch)
    result = go("colorize", tree)
    assert seen == ["b"] and path.read_bytes() == whole
    assert (tmp_path / "out" / "sea" / "b-sheet.png").stat().st_mtime_ns == other
    aside = path.with_name("b-1.png.changed")
    if harmed is None:
        assert not aside.exists()
    else:
        assert aside.read_bytes() == harmed
        assert f"{path}: changed since it was restored; kept as b-1.png.changed" in result.err
    go("colorize", tree)
    assert seen == ["b"]


def test_a_result_that_was_copied_or_touched_is_the_same(go, tree, tmp_path, monkeypatch):
    go("colorize", tree)
    os.utime(tmp_path / "out" / "a-1.png", (0, 0))
    seen = spy(monkeypatch)
    go("colorize", tree)
    assert seen == []


@pytest.mark.parametrize(
    "spoiled",
    [
        {"outputs": None},
        {"seconds": "long"},
        {"stem": 5},
        {"before": 5},
        {"input": None},
        {"settings": []},
        {"files": {"a-1.png": [1, 2]}},
        {"skipped": 1},
        {"bytes": True},
        {"unknown": 1},
        [1],
        "text",
        None,
    ],
    ids=str,
)
def test_a_line_of_the_wrong_type_does_not_end_the_folder(tmp_path, entry, spoiled):
    Manifest(out=tmp_path).append(entry, replace(entry, stem="b"))
    first, second = (tmp_path / "manifest.jsonl").read_text().splitlines()
    line = json.loads(first) | spoiled if isinstance(spoiled, dict) else spoiled
    (tmp_path / "manifest.jsonl").write_text(f"{json.dumps(line)}\n{second}\n")
    assert list(Manifest(out=tmp_path).restored) == ["b"]


@pytest.mark.parametrize("name", ["caf\udce9", "a\u2028b", "a\u0085b", "é"])
def test_any_name_of_a_file_is_one_line_and_comes_back(tmp_path, entry, name):
    named = replace(entry, stem=name, input=f"/x/{name}.png", outputs=[f"{name}-1.png"])
    Manifest(out=tmp_path).append(named)
    assert Manifest(out=tmp_path).restored == {name: named}


def test_what_failed_is_tried_again(go, tree, tmp_path, monkeypatch):
    good = (tree / "a.png").read_bytes()
    (tree / "a.png").write_bytes(good[:60])
    result = go("colorize", tree, code=3)
    assert result.err.count("a.png") == 1 and str(tree / "a.png") in result.err
    assert [entry["error"] is None for entry in lines(tmp_path / "out")] == [False, True, True]
    (tree / "a.png").write_bytes(good)
    seen = spy(monkeypatch)
    go("colorize", tree)
    assert seen == ["a"]


def test_an_image_that_was_touched_is_the_same_and_one_that_changed_is_not(go, tree, tmp_path, monkeypatch):
    go("colorize", tree)
    os.utime(tree / "a.png")
    seen = spy(monkeypatch)
    go("colorize", tree)
    assert seen == []
    image(tree / "a.png", shade=7)
    line = go("colorize", tree, code=2).complaint()
    assert "a-" in line and "already exists" in line and "--overwrite" in line
    assert seen == []
    go("colorize", tree, "--overwrite")
    assert seen == ["a"]


def test_another_request_in_the_same_folder_is_refused_before_any_work(go, tree, tmp_path, monkeypatch):
    go("colorize", tree)
    old = {name: (tmp_path / "out" / name).read_bytes() for name in files(tmp_path / "out")}
    seen = spy(monkeypatch)
    line = go("colorize", tree, "--seed", 1, code=2).complaint()
    assert "already exists, of other settings or another image, and 2 like it" in line
    assert "Choose another --out or pass --overwrite." in line
    assert {name: (tmp_path / "out" / name).read_bytes() for name in files(tmp_path / "out")} == old
    assert seen == []
    go("colorize", tree, "--seed", 1, "--overwrite")
    assert seen == ["a", "b", "c"]
    assert (tmp_path / "out" / "a-1.png").read_bytes() != old["a-1.png"]


def test_a_mask_that_changed_is_another_request(go, tree, tmp_path):
    mask = tmp_path / "mask.png"
    for width in (8, 4):
        Image.fromarray(np.repeat([[255] * width + [0] * (16 - width)], 16, 0).astype(np.uint8)).save(mask)
        if width == 8:
            go("inpaint", tree / "a.png", "--mask", mask)
            result = go("inpaint", tree / "a.png", "--mask", mask)
            assert "1 of 1 are restored already" in result.out
    assert "already exists" in go("inpaint", tree / "a.png", "--mask", mask, code=2).complaint()


def test_what_was_skipped_is_reported_as_json_too(go, tree, tmp_path):
    go("colorize", tree)
    go("colorize", tree, "--json", tmp_path / "r.json")
    entries = json.loads((tmp_path / "r.json").read_text())
    assert [entry["outputs"][0] for entry in entries] == [
        str(tmp_path / "out" / name) for name in ("a-1.png", "sea/b-1.png", "sea/deep/c-1.png")
    ]


def test_an_index_of_someone_elses_is_kept(go, tree, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "index.html").write_text("mine")
    assert "index.html: already exists" in go("colorize", tree, code=2).complaint()
    assert files(tmp_path / "out") == ["index.html"]
    go("colorize", tree, "--overwrite")


@pytest.mark.parametrize(
    ("names", "code"),
    [(("fine",), 0), (("fine", "also"), 0), (("fine", "bad"), 3), (("bad",), 2), (("bad", "worse"), 2)],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else str(value),
)
def test_where_nothing_needed_doing_all_is_done(go, tmp_path, names, code):
    """Page, manifest, --json and the exit code agree."""
    for name in names:
        image(tmp_path / "in" / f"{name}.png")
        if name in {"bad", "worse"}:
            (tmp_path / "in" / f"{name}.png").write_bytes(b"")
    out, told = tmp_path / "out", tmp_path / "r.json"
    go("dejpeg", tmp_path / "in", "--json", told, code=code)
    assert {entry["stem"]: entry["skipped"] for entry in json.loads(told.read_text())} == {
        name: name in {"fine", "also"} for name in names
    }
    if code == 2:
        assert not out.exists()
        return
    assert files(out) == ["index.html", "manifest.jsonl"]
    assert {entry["stem"] for entry in lines(out)} == set(names)
    assert "skipped: nothing to restore" in (out / "index.html").read_text()
    assert ("<h2>failed</h2>" in (out / "index.html").read_text()) == (code == 3)


# --- bad input -----------------------------------------------------------------------------------


def cut(path):
    image(path)
    path.write_bytes(path.read_bytes()[:60])


def cmyk(path):
    path.parent.mkdir(exist_ok=True)
    Image.new("CMYK", (16, 16)).save(path.with_suffix(".jpg"))


def empty(path):
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("spoil", "words"), [(cut, "bad.png"), (cmyk, "CMYK"), (empty, "bad.png")], ids=["cut", "cmyk", "empty"]
)
def test_a_bad_image_is_named_in_one_line_and_the_others_go_on(go, tree, tmp_path, spoil, words):
    spoil(tree / "bad.png")
    result = go("inpaint", tree, code=3)
    (line,) = [line for line in result.err.splitlines() if "ETA" not in line]
    assert words in line and str(tree / "bad") in line
    assert {"a-1.png", "sea/b-1.png", "sea/deep/c-1.png"} <= set(files(tmp_path / "out"))
    errors = [entry["error"] for entry in lines(tmp_path / "out") if entry["error"]]
    assert errors == [line.removeprefix("scorefield: ")]


@pytest.mark.parametrize("verb", ["colorize", "dejpeg"])
def test_a_decompression_bomb_is_a_bad_image_like_others(go, tree, verb):
    result = go(verb, bomb(tree / "bomb.png"), tree / "a.png", *(["--quality", 30] if verb == "dejpeg" else []), code=3)
    (line,) = [line for line in result.err.splitlines() if "ETA" not in line]
    assert "bomb.png" in line and "decompression bomb" in line and "--debug" not in line


def test_masks_of_a_folder_belong_to_images_of_their_names(go, tree, tmp_path):
    masks = tmp_path / "masks"
    half = np.zeros((16, 16), np.uint8)
    half[:8] = 255
    for name, fill in (("a.png", half), ("sea/b.png", half.T)):
        (masks / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(fill).save(masks / name)
    result = go("inpaint", tree, "--mask", masks, code=3)
    (line,) = [line for line in result.err.splitlines() if "ETA" not in line]
    assert "c.png: has no mask" in line
    known = np.asarray(Image.open(tree / "a.png"))[8:]
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "a-1.png"))[8:], known)
    known = np.asarray(Image.open(tree / "sea" / "b.jpg"))[:, 8:]
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "sea" / "b-1.png"))[:, 8:], known)


def test_a_mask_of_another_size_is_reported_for_that_image(go, tree, tmp_path):
    image(tree / "wide.png", size=(40, 16))
    mask = tmp_path / "mask.png"
    Image.fromarray(np.repeat([[255] * 8 + [0] * 8], 16, 0).astype(np.uint8)).save(mask)
    result = go("inpaint", tree, "--mask", mask, code=3)
    (line,) = [line for line in result.err.splitlines() if "ETA" not in line]
    assert "wide.png" in line and "the mask is 16×16, the image 40×16" in line


def test_a_failure_of_ours_is_named_and_the_others_go_on(go, tree, tmp_path, monkeypatch):
    import scorefield as sf

    real = sf.restore

    def broken(model, photo, task, **settings):
        if photo.path.stem == "a":
            raise ZeroDivisionError("a mistake\nof the program")
        return real(model, photo, task, **settings)

    monkeypatch.setitem(vars(sf), "restore", broken)
    result = go("colorize", tree, code=3)
    assert f"{tree / 'a.png'}: a mistake of the program (scorefield --debug" in result.err
    assert "sea/b-1.png" in files(tmp_path / "out")


def test_a_full_disk_ends_the_run_and_what_was_written_is_whole(go, tree, tmp_path, monkeypatch):
    real, calls = batch._write, []

    def full(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(batch, "_write", full)
    assert "the disk is full" in go("colorize", tree, code=1).err
    assert len(calls) == 2
    assert [entry["stem"] for entry in lines(tmp_path / "out")] == ["a"]


# --- preview -------------------------------------------------------------------------------------


def test_a_preview_is_red_where_the_mask_is_and_restores_nothing(call, tree, tmp_path):
    result = call("inpaint", tree, "--mask", "left", "--preview", "--out", tmp_path / "out")
    assert result.code == 0, result.err
    assert files(tmp_path / "out") == ["a-preview.png", "sea/b-preview.png", "sea/deep/c-preview.png"]
    seen, real = (np.asarray(Image.open(path)).astype(int) for path in
                  (tmp_path / "out" / "a-preview.png", tree / "a.png"))  # fmt: skip
    assert np.array_equal(seen[:, 8:], real[:, 8:])
    assert np.abs(seen[:, :8] - (0.6 * np.array([255, 0, 0]) + 0.4 * real[:, :8])).max() <= 1
    assert "50% to fill" in result.out
    again = call("inpaint", tree, "--mask", "left", "--preview", "--out", tmp_path / "out")
    assert "already exists" in again.complaint()


def test_the_share_done_is_weighed_by_pixels(tmp_path):
    shares = []
    track = batch._within(lambda share, words: shares.append((share, words)), 0.25, 0.5, "b.png (2/3)")
    track(1, 4)
    track(4, 4)
    assert shares == [(0.375, "b.png (2/3)"), (0.75, "b.png (2/3)")]


def test_the_page_shows_every_image_that_was_restored(go, tree, tmp_path):
    go("colorize", tree)
    page = (tmp_path / "out" / "index.html").read_text()
    for stem in ("a", "sea/b", "sea/deep/c"):
        assert f"{stem}-before.png" in page and f"{stem}-1.png" in page
    assert Path(tmp_path / "out" / "a-before.png").is_file()
