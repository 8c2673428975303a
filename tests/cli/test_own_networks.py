"""A network of one's own is trained, saved, loaded, sampled and measured; only `--import` brings its code in."""

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from oracles import seeded
from scorefield import checkpoint, networks
from scorefield.errors import UserError
from scorefield.model import ModelSpec, ScoreModel
from scorefield.parameterization import EDM
from training.toys import SETTINGS, write_set

from .conftest import sets

MODULE = """
import torch
from torch import nn
from scorefield import networks

@networks.register("my-network")
class Mine(nn.Module):
    def __init__(self, *, channels: int, width: int = 8) -> None:
        super().__init__()
        self.settings = {"channels": channels, "width": width}
        self.body = nn.Sequential(
            nn.Conv2d(channels + 1, width, 3, padding=1), nn.SiLU(), nn.Conv2d(width, channels, 3, padding=1)
        )

    def forward(self, x, label, source=None):
        level = label.float()[:, None, None, None].expand(-1, 1, *x.shape[2:])
        return self.body(torch.cat([x, level], 1))
"""

RECIPE = [setting for setting in SETTINGS if not setting.startswith("network.")]


@contextmanager
def elsewhere(folder):
    """The program as it starts in a folder: only the networks that come along, the module not imported."""
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        patched.setattr(sys, "path", [*sys.path])
        patched.setattr(networks, "_KINDS", built_in())
        try:
            yield
        finally:
            sys.modules.pop("my_module", None)


def built_in():
    return {kind: networks._KINDS[kind] for kind in networks._BUILT_IN}


@pytest.fixture(scope="module")
def folder(call, tmp_path_factory):
    """A folder with the module, a set of images, and a model that the program trained there."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "my_module.py").write_text(MODULE)
    (folder / "broken.py").write_text("import nowhere_at_all")
    data = write_set(folder / "data.npz")
    (folder / "mine.toml").write_text('[network]\nkind = "my-network"\nwidth = 12\n')
    train = ["train", "mine.toml", "--data", data, "--out", "run", "--device", "cpu"]
    with elsewhere(folder):
        done = call("--import", "my_module", *train, *sets(*RECIPE))
    assert done.code == 0, done.err
    return folder


@pytest.fixture
def there(folder):
    """The working directory, and a program that knows nothing of the module."""
    with elsewhere(folder):
        yield folder


@pytest.mark.parametrize(
    "verb",
    [
        ["sample", "./run", "-n", "2", "--steps", "2", "--out", "samples.png"],
        ["evaluate", "./run", "--data", "data.npz", "-n", "4", "--steps", "2"],
        ["models", "./run"],
    ],
    ids=lambda verb: verb[0],
)
def test_verbs_take_the_model_with_import(call, there, verb):
    done = call("--import", "my_module", *verb)
    assert done.code == 0, done.err
    assert "samples.png" not in verb or (there / "samples.png").stat().st_size > 0


@pytest.mark.slow
def test_a_process_of_its_own_takes_the_model_with_import(folder, environment):
    source = str(Path(networks.__file__).parents[2])
    command = [sys.executable, "-m", "scorefield", "--import", "my_module", "models", "./run"]
    done = subprocess.run(
        command, cwd=folder, env=environment | {"PYTHONPATH": source}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "my-network" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [["sample", "./run", "--out", "none.png"], ["train", "mine.toml", "--data", "data.npz", "--out", "again"]],
    ids=lambda arguments: arguments[0],
)
def test_without_import_one_line_says_how(call, there, arguments):
    """The module lies in the working directory; a card never imports it."""
    line = call(*arguments).complaint()
    assert "no such kind 'my-network'" in line and "scorefield --import MODULE" in line
    assert "my_module" not in sys.modules


@pytest.mark.usefixtures("there")
@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("my_modul", "scorefield: --import my_modul: no such module."),
        ("broken", "scorefield: --import broken: ModuleNotFoundError: No module named 'nowhere_at_all'"),
    ],
)
def test_a_module_that_cannot_be_imported_is_named(call, name, line):
    done = call("--import", name, "models")
    assert done.complaint().startswith(line) and len(done.err.splitlines()) == 1


# --- in Python ------------------------------------------------------------------------------------


@pytest.fixture
def mine(monkeypatch):
    """The class of the module, registered for one test."""
    monkeypatch.setattr(networks, "_KINDS", built_in())
    names = {"__name__": "my_module"}
    exec(MODULE, names)
    return names["Mine"]


def test_a_registered_network_is_saved_and_loaded(mine, tmp_path):
    model = ScoreModel(mine(channels=1, width=4), EDM(), ModelSpec(shape=(1, 8, 8))).eval()
    loaded = checkpoint.load(checkpoint.save(model, tmp_path / "model.safetensors"))
    assert type(loaded.network) is mine and networks.registered() == {"my-network": mine}
    x, sigma = torch.randn(2, 1, 8, 8, generator=seeded()), torch.tensor([0.1, 2.0])
    with torch.no_grad():
        assert torch.equal(loaded(x, sigma), model(x, sigma))


def test_an_energy_of_a_registered_network_has_a_card(mine):
    card = networks.to_card(networks.Energy(mine(channels=1)))
    assert networks.to_card(networks.from_card(card)) == card


def test_a_name_belongs_to_one_class(mine):
    networks.register("my-network")(mine)
    exec(MODULE, {"__name__": "my_module"})  # a module may be imported again
    with pytest.raises(ValueError, match=r"'unet' is taken by scorefield\.networks\.unet\.UNet"):
        networks.register("unet")(mine)


def test_a_network_without_settings_is_named(mine):
    network = mine(channels=1)
    del network.settings
    with pytest.raises(UserError, match="network my-network: a Mine has no `settings`"):
        networks.to_card(network)
