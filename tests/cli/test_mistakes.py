"""Every command's mistakes: what was asked, how it ends, and what the one line says.

A word in capitals names a file or folder of `places`; nothing is written, and no folder of images is begun with.
"""

import shlex

import numpy as np
import pytest
from PIL import Image

import scorefield as sf
from oracles import ramp
from scorefield import checkpoint
from scorefield.model import ModelSpec
from training.toys import ramps, write_set

MISTAKES = {  # by verb: arguments, exit code, words of the line
    "": [
        ("smaple", 2, ["smaple", "Did you mean 'sample'?", "--help"]),
        ("--nope", 2, ["--nope"]),
    ],
    "train": [
        ("TINY --out OUT --stop-after soon", 2, ["--stop-after", "soon", "3m"]),
        ("TINY --out OUT --stop-after 0s", 2, ["--stop-after", "length"]),
        ("TINY --out OUT --stop-after ''", 2, ["--stop-after"]),
        ("TINY --out OUT --resume please", 2, ["--resume", "auto or never"]),
        ("TINY --out OUT --device foo", 2, ["--device"]),
        ("TINY --out OUT --set lr", 2, ["section.key=value"]),
        ("TINY --out OUT --set optimizer.warm_up=1", 2, ["`warmup`"]),
        ("TINY --out OUT --data NONE", 2, ["no such file or folder"]),
        ("TINY --out OUT --size 64", 2, ["smaller", "--size"]),
        ("TINY --out OUT --size 0", 2, ["--size"]),
        ("NONE --out OUT", 2, ["no such recipe"]),
        ("TINY --data BORDERED --out OUT --crop 14", 2, ["too small for a crop of 14", "--crop"]),
        ("TINY --data BORDERED --crop 8 --size 12 --out OUT", 2, ["size = 12 is larger than crop = 8"]),
        ("TINY --data PICKLED --out OUT", 2, ["cifar-10-binary.tar.gz"]),
        ("TINY --data NAN --out OUT", 2, ["NaN or infinite"]),
    ],
    "sample": [
        ("", 2, ["Missing argument 'MODEL'"]),
        ("RUN", 2, ["Missing option '--out'"]),
        ("RUN --out OUT.png --smapler heun", 2, ["--smapler", "--sampler"]),
        ("RUN --out OUT.png -n many", 2, ["-n", "integer. See --help."]),
        ("RUN --out OUT.png -n 0", 2, ["n: need at least one"]),
        ("RUN --out OUT.png --steps 0", 2, ["steps: need at least one"]),
        ("RUN --out OUT.png --seed -1", 2, ["--seed"]),
        ("RUN --out OUT.png --sampler huen", 2, ["Did you mean `heun`?"]),
        ("RUN --out OUT.png --device foo", 2, ["--device", "'foo'", "cpu, cuda or auto"]),
        ("RUN --out OUT.png --device meta", 2, ["--device", "'meta'"]),
        ("RUN --out OUT.png --device cuda:99", 2, ["--device", "'cuda:99'"]),
        ("RUN --out OUT.mp3", 2, ["OUT.mp3", "cannot write `.mp3`", ".npz"]),
        ("NONE --out OUT.png", 2, ["no such model"]),
        ("RUN -n 1 --out OUT.png --step-size 1e-5", 2, ["step_size: the heun sampler has no such setting"]),
        ("RUN -n 1 --out OUT.png --steps-each 5", 2, ["steps_each: the heun sampler"]),
        ("RUN -n 1 --out OUT.png --convention code", 2, ["convention: the heun sampler"]),
        ("RUN -n 1 --out OUT.png --no-denoise", 2, ["denoise: the heun sampler"]),
        ("RUN -n 1 --out OUT.png --sampler langevin --denoise", 2, ["denoise: the langevin sampler"]),
        (
            "RUN -n 1 --out OUT.png --sampler annealed-langevin --steps-each 0",
            2,
            ["steps_each: need at least one, got 0"],
        ),
        ("RUN -n 1 --out OUT.png --sampler annealed-langevin --step-size 0", 2, ["step_size > 0"]),
        ("RUN -n 1 --out OUT.png --sampler annealed-langevin --step-size nan", 2, ["step_size > 0"]),
        ("RUN -n 1 --out OUT.png --sampler annealed-langevin --step-size big", 2, ["--step-size"]),
        ("RUN -n 1 --out OUT.png --sampler annealed-langevin --convention papr", 2, ["Did you mean `paper`?"]),
        ("RUN -n 1 --out OUT.png --start unifrom", 2, ["Did you mean `uniform`?"]),
        ("RUN -n 1 --out OUT.png --sampler mala", 2, ["no density"]),
        ("RUN -n 1 --out OUT.png --set churn", 2, ["not of the form name=value"]),
        ("RUN -n 1 --out OUT.png --set chrun=1", 2, ["Did you mean `churn`?"]),
        ("RUN -n 1 --out OUT.png --set churn=lots", 2, ["churn: need a number, got 'lots'"]),
        ("RUN -n 1 --out OUT.png --set eta=0.5", 2, ["It belongs to dpm++-2m, dpm++-2m-sde, ddim"]),
        ("RUN -n 1 --out OUT.png --schedule kerras", 2, ["Did you mean `karras`?"]),
        ("RUN -n 1 --out OUT.png --schedule own", 2, ["no noise levels of its own"]),
        ("RUN -n 1 --out OUT.png --schedule 5,6,0", 2, ["a schedule must decrease"]),
        ("RUN -n 1 --out OUT.png --schedule '5,1;x,0'", 2, ["'x' is no noise level"]),
        ("RUN -n 1 --out OUT.png --schedule 500,5,0", 2, ["this model knows 80"]),
        ("RUN -n 1 --out OUT.png --schedule 50,5,0 --steps 9", 2, ["fixes the number of noise levels"]),
        ("RUN -n 1 --out OUT.png --from nowhere.png", 2, ["--sigma, its noise level, go together"]),
        ("RUN -n 1 --out OUT.png --sigma 1", 2, ["--sigma, its noise level, go together"]),
        ("RUN -n 1 --out OUT.png --from nowhere.png --sigma 1", 2, ["nowhere.png: no such file"]),
        ("RUN -n 1 --out OUT.png --from COLOR --sigma 1", 2, ["the image has 3 channels, the model draws 1"]),
        ("RUN -n 1 --out OUT.png --from GREY --sigma 0", 2, ["init_sigma: need a finite noise level above 0"]),
        ("RUN -n 1 --out OUT.png --from GREY --sigma 1 --size 9", 2, ["is 8×8, --size asks for 9×9"]),
        ("RUN --out OUT.npy --steps 2 --class 1", 2, ["was trained without class labels"]),
        ("LABELLED --out OUT.npy --steps 2 --class 3", 2, ["no such class '3'"]),
        ("LABELLED --out OUT.npy --steps 2 --guidance 2", 2, ["guidance: needs a class to guide towards"]),
        ("LABELLED --out OUT.npy --steps 2 --class 1 --guidance-interval 5", 2, ["is no interval"]),
        ("LABELLED --out OUT.npy --steps 2 --class 1 --guidance nan", 2, ["guidance: must be a number"]),
    ],
    "colorize": [
        ("PHOTO --hint NONE --model RESTORER --out OUT", 2, ["cannot be read"]),
        ("PHOTO --hint FILE --model RESTORER --out OUT", 2, ["Write a list such as"]),
        ("PHOTO --model RUN --out OUT", 2, ["model", "samples grey images"]),
        ("PHOTO --method pigmd --model ALONE --out OUT", 2, ["no such method", "`pigdm`"]),
        ("PHOTO --method repaint --sampler heun --model ALONE --out OUT", 2, ["climbs", "heun"]),
        ("TREE --method pigdm --model RESTORER --out OUT", 2, ["pigdm is for unconditional models"]),
        ("TREE --format mp3 --model RESTORER --out OUT", 2, ["--format", "`mp3`", "png"]),
        ("TREE --map --model RESTORER --out OUT", 2, ["--map", "--candidates"]),
        ("TREE --out TREE --model RESTORER", 2, ["is the folder of the images themselves"]),
        ("TREE --out FILE --model RESTORER", 2, ["is a file, not a folder"]),
        ("TREE --model BARE --out OUT", 2, ["bare", "model.safetensors"]),
        ("TREE --json FILE --model RESTORER --out OUT", 2, ["file.json", "already exists"]),
        ("TREE --schedule step --model RESTORER --out OUT", 2, ["schedule", "step"]),
    ],
    "deblur": [
        ("PHOTO --std -1 --model ALONE --out OUT", 2, ["blur", "above 0"]),
    ],
    "dejpeg": [
        ("PHOTO --quality 0 --model ALONE --out OUT", 2, ["jpeg", "1 to 100"]),
    ],
    "inpaint": [
        ("SHIRT --model RUN --out OUT --mask middle", 2, ["middle", "center"]),
        ("SHIRT --model RUN --out OUT --sampler x", 2, ["no such sampler"]),
        ("SHIRT --model RUN --out OUT --candidates 0", 2, ["--candidates"]),
        ("NONE --model RUN --out OUT", 2, ["no such file"]),
        ("PHOTO --method dsp --model ALONE --out OUT", 2, ["no such method", "`dps`"]),
        ("BARE --model RESTORER --out OUT", 2, ["bare", "the folder is empty"]),
        ("TREE --mask BARE --model RESTORER --out OUT", 2, ["bare", "the folder is empty", "masks"]),
        ("TREE --mask nowhere.png --model RESTORER --out OUT", 2, ["nowhere.png", "no such mask"]),
        ("TREE --model COLORIZER --out OUT", 2, ["was not trained for inpaint", "colorize"]),
        ("PHOTO --model RUN --out OUT", 2, ["3 channels"]),
    ],
    "restore": [
        ("PHOTO --simulate --out OUT", 2, ["--degradation: is needed"]),
        ("PHOTO --degradation gery --model ALONE --out OUT", 2, ["no such degradation 'gery'", "`grey`"]),
        ("PHOTO --degradation jpeg:ten --model ALONE --out OUT", 2, ["jpeg:ten", "no whole number"]),
        (
            "PHOTO --degradation grey --model ALONE --out OUT",
            2,
            ["photo.png", "3 channels", "after the degradation it has 1"],
        ),
        ("PHOTO --degradation downscale:3 --simulate --model ALONE --out OUT", 2, ["16×16", "divide by 3"]),
        ("PHOTO --degradation crop:9 --simulate --model ALONE --out OUT", 2, ["crop:9", "nothing of an image"]),
        ("PHOTO --degradation blur:1 --noise -1 --model ALONE --out OUT", 2, ["--noise"]),
        ("PHOTO --degradation blur:1 --steps 0 --model ALONE --out OUT", 2, ["steps"]),
        (
            "TREE --degradation grey --degradation noise:5 --model RESTORER --out OUT",
            2,
            ["was not trained for denoise"],
        ),
    ],
    "uncrop": [
        ("PHOTO --sides up --model ALONE --out OUT", 2, ["no such side 'up'", "top"]),
        ("PHOTO --sides , --model ALONE --out OUT", 2, ["sides", "none is named"]),
        ("PHOTO --amount 0 --model ALONE --out OUT", 2, ["amount", "more than 0"]),
    ],
    "upscale": [
        ("PHOTO --factor 1 --model ALONE --out OUT", 2, ["--factor"]),
        ("TREE --factor 2 --model RESTORER --out OUT", 2, ["was not trained for upscale"]),
    ],
    "evaluate": [
        ("RUN --data DATA --out OUT.mp3", 2, ["OUT.mp3", "cannot write `.mp3`", ".png"]),
        ("RUN --data DATA -n 1", 2, ["-n"]),
        ("RUN --data NONE", 2, ["no such file or folder"]),
        ("RUN --data DATA --sampler huen", 2, ["Did you mean `heun`?"]),
        ("RUN --data DATA -n 4 --features NONE", 2, ["no such file"]),
        ("RUN --data DATA -n 0", 2, ["-n", "nothing to measure", "--likelihood"]),
        ("RUN --data DATA -n 1", 2, ["-n", "at least two"]),
        ("RUN --data DATA --likelihood 1", 2, ["--likelihood"]),
        ("RUN --data DATA -n 0 --likelihood 2 --out x.png", 2, ["--out"]),
        ("RESTORES --data PHOTOGRAPHS --task colorize", 2, ["restores: does not colorize. It knows: inpaint, dejpeg."]),
        ("RESTORES --data PHOTOGRAPHS --task dejpg", 2, ["Did you mean `dejpeg`?"]),
        ("RESTORES --data PHOTOGRAPHS --likelihood 4", 2, ["--likelihood: does not apply"]),
        ("RESTORES --data PHOTOGRAPHS --crop 8", 2, ["--crop: does not apply"]),
        ("RESTORES --data PHOTOGRAPHS --task inpaint --quality 10", 2, ["--quality: belongs to dejpeg."]),
        ("RESTORES --data PHOTOGRAPHS --zoom 3", 2, ["--zoom: cannot be '3'."]),
        (
            "RESTORES --data PHOTOGRAPHS --against COLORS",
            2,
            ["colors: does not dejpeg or inpaint. It knows: colorize."],
        ),
        ("RESTORES --data PHOTOGRAPHS --against ALONE", 2, ["alone: is an unconditional model"]),
        ("RESTORES --data PHOTOGRAPHS --against nothing", 2, ["nothing: no such model"]),
        ("RESTORES --data PHOTOGRAPHS --size 99", 2, ["none of its 2 images gives a window of 99"]),
        ("RESTORES --data PHOTOGRAPHS -n 1", 2, ["-n: an interval needs at least two images, got 1."]),
        ("RESTORES --data PHOTOGRAPHS --out table.png", 2, ["table.png: is no folder."]),
        ("RESTORES --data PHOTOGRAPHS --features mobilenet", 2, ["features: mobilenet has no weights."]),
        ("RESTORES --data PHOTOGRAPHS --features lpips:a.pth", 2, ["--features: LPIPS takes two files."]),
        ("ALONE --data PHOTOGRAPHS --task dejpeg", 2, ["--task: does not apply"]),
        ("ALONE --data PHOTOGRAPHS --candidates 2", 2, ["--candidates: does not apply"]),
        ("ALONE --data PHOTOGRAPHS --features random --features inception", 2, ["--features: random, inception"]),
        ("RUN --data SMALL -n 4", 2, ["6×6", "8×8"]),
    ],
    "compare": [
        ("", 2, ["Missing argument"]),
        ("RUN", 2, ["Missing option '--data'"]),
        ("NONE --data DATA", 2, ["no such model"]),
        ("RUN RUN --data DATA", 2, ["named twice"]),
        ("RUN --data NONE", 2, ["no such file or folder"]),
        ("RUN --data DATA --split val", 2, ["no split `val`"]),
        ("RUN --data DATA --schedule-of x", 2, ["'x' is not among the models", "Known: run"]),
        ("RUN --data DATA --schedule-of RUN", 2, ["this model has none"]),
        ("RUN --data DATA --levels 0", 2, ["--levels"]),
        ("RUN --data DATA -n 1", 2, ["-n"]),
        ("RUN --data DATA --samples 1", 2, ["--samples", "at least two"]),
        ("RUN --data DATA --sampler huen", 2, ["Did you mean `heun`?"]),
        ("RUN --data DATA --features NONE", 2, ["no such file"]),
        ("RUN --data DATA --features inception:nowhere.pth", 2, ["nowhere.pth: no such file"]),
        ("RUN WIDE --data DATA", 2, ["wide", "1×6×6", "1×8×8"]),
        ("RUN --data SMALL", 2, ["6×6", "8×8"]),
        ("RUN --data NAN", 2, ["NaN"]),
        ("RUN --data DATA --out FILE", 2, ["is a file"]),
        ("RUN --data DATA --json FILE", 2, ["already exists"]),
    ],
    "figures": [
        ("mixng", 2, ["mixng", "Did you mean 'mixing'?"]),
        ("mixing", 2, ["Missing option '--out'"]),
        ("manifold --out OUT --steps 0", 2, ["--steps"]),
        ("manifold --out OUT --data nowhere", 2, ["nowhere", "no bundled set, file or folder of this name"]),
        ("anneal --out OUT --model fashoin", 2, ["fashoin", "Did you mean `fashion`?"]),
        ("neighbours --out OUT --data DATA", 2, ["8×8, smaller than 28×28", "--model"]),
        ("completions --out OUT --model RUN --data emoji", 2, ["the model draws 1×8×8"]),
        ("completions --out OUT --model RUN --data DATA --mask lfet", 2, ["masks", "Did you mean `left`?"]),
        ("completions --out OUT --model RUN --data DATA -n 25", 2, ["25 of 24"]),
        ("neighbours --out OUT --model RUN --data DATA -k 49", 2, ["49 of 48"]),
        ("neighbours --out OUT --model RUN --data DATA --sampler huen", 2, ["Did you mean `heun`?"]),
    ],
    "models": [
        ("NONE", 2, ["no such model"]),
    ],
    "data": [
        ("inspct x", 2, ["Did you mean 'inspect'?"]),
        ("inspect NONE", 2, ["no such file or folder"]),
        ("inspect fashoin", 2, ["Did you mean `fashion`?"]),
        ("inspect DATA --split val", 2, ["no split `val`"]),
        ("inspect DATA --channels 2", 2, ["channels"]),
        ("inspect SHIRT", 2, ["one image"]),
        ("inspect BORDERED --crop 14", 2, ["too small for a crop of 14", "--crop"]),
        ("inspect BORDERED --crop 8 --size 12", 2, ["less than the size 12×12"]),
        ("inspect ONE --noise", 2, ["a distance needs two, got 1"]),
        ("inspect SAME --noise", 2, ["all the same"]),
        ("inspect NAN --noise", 2, ["NaN"]),
    ],
    "demo": [
        ("--out OUT --train-for soon", 2, ["--train-for"]),
        ("--out OUT --train-for 0", 2, ["--train-for"]),
    ],
    "doctor": [
        ("--recipe NONE", 2, ["no such recipe"]),
    ],
}


@pytest.fixture(scope="session")
def places(call, run, data, tiny, restorer, models, photographs, tmp_path_factory):
    """What the capitals stand for, but for OUT."""
    folder = tmp_path_factory.mktemp("places")
    files = {name: folder / f"{name.lower()}.npy" for name in ("NAN", "ONE", "SAME")}
    files |= {name: folder / f"{name.lower()}.png" for name in ("PHOTO", "COLOR", "GREY", "SHIRT")}
    files |= {name: folder / name.lower() for name in ("BARE", "TREE", "BORDERED")}
    np.save(files["NAN"], np.where(np.arange(4)[:, None, None] == 2, np.nan, np.zeros((4, 8, 8))))
    np.save(files["ONE"], ramps(1)[0])
    np.save(files["SAME"], np.repeat(ramps(1)[0], 5, 0))
    ramp(files["PHOTO"], 16, 16)
    ramp(files["COLOR"], 8, 8)
    for name in ("GREY", "SHIRT"):
        Image.new("L", (8, 8), 90).save(files[name])
    for name in ("a.png", "sea/b.png"):
        ramp(files["TREE"] / name, 16, 16)
    files["BARE"].mkdir()
    for k in range(6):
        files["BORDERED"].mkdir(exist_ok=True)
        Image.new("L", (12, 16), 200).save(files["BORDERED"] / f"{k}.png")
    files["FILE"] = folder / "file.json"
    files["FILE"].write_text("mine")
    files["PICKLED"] = folder / "cifar-10-batches-py"
    files["PICKLED"].mkdir()
    (files["PICKLED"] / "data_batch_1").write_bytes(b"pickled")
    model = checkpoint.load(run / "model.safetensors")
    model.spec = ModelSpec(shape=(1, 6, 6))
    labelled = folder / "labelled"
    trained = call("train", tiny, "--out", labelled, "--set", "data.labels=true", "--set", "training.steps=2")
    assert trained.code == 0, trained.err
    return files | {
        "RUN": run, "LABELLED": labelled, "DATA": data, "TINY": tiny, "NONE": "nowhere/none", "RESTORER": restorer,
        "PHOTOGRAPHS": photographs, "RESTORES": models / "restores", "ALONE": models / "alone",
        "COLORS": models / "colors", "COLORIZER": models / "colors",
        "SMALL": write_set(folder / "small.npz", side=6),
        "WIDE": checkpoint.save(model, folder / "wide.safetensors"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("verb", "arguments", "code", "words"),
    [pytest.param(verb, *row, id=f"{verb} {row[0]}".strip()) for verb, rows in MISTAKES.items() for row in rows],
)
def test_a_mistake_is_told_in_one_line_and_nothing_is_written(
    call, places, tmp_path, monkeypatch, verb, arguments, code, words
):
    if verb == "figures":
        pytest.importorskip("matplotlib")
    if "--likelihood" in arguments:
        pytest.importorskip("torchdiffeq")
    begun, real = [], sf.restore
    monkeypatch.setitem(vars(sf), "restore", lambda *given, **more: begun.append(given) or real(*given, **more))
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "written"
    given = [places.get(part, part.replace("OUT", f"{out}/OUT")) for part in shlex.split(arguments)]
    line = call(*[verb][: bool(verb)], *given).complaint(code)
    assert all(word in line for word in words), line
    assert not list(tmp_path.iterdir())
    assert places["FILE"].read_text() == "mine"
    assert "TREE" not in arguments or not begun
