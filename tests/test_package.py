"""The package as a whole: light to import, and everything it names is there."""

import ast
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest

import scorefield as sf

HEAVY = ("torch", "numpy", "PIL", "safetensors", "matplotlib")


def script(code):
    """Run a program, and its standard output."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["train", "--help"], ["sample", "--help"], ["smaple"]]
)
def test_neither_help_nor_a_wrong_verb_loads_torch(arguments):
    loaded = script(
        f"import sys; sys.argv = ['scorefield', *{arguments}]\n"
        "from scorefield.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        f"print(); print(*(name for name in {HEAVY} if name in sys.modules))"
    )
    assert loaded.splitlines()[-1] == ""


def test_the_import_alone_loads_nothing_heavy():
    assert script(f"import sys, scorefield; print([n for n in {HEAVY} if n in sys.modules])").strip() == "[]"


def test_every_public_name_is_there():
    for name in dir(sf):
        assert getattr(sf, name) is not None
    assert {"load", "sample", "restore", "score", "Trainer", "Recipe", "ScoreModel", "UserError"} <= {*dir(sf)}
    assert sf.samplers.Heun.__module__ == "scorefield.samplers.ode"
    with pytest.raises(AttributeError, match="no attribute 'smaple'"):
        _ = sf.smaple


def test_type_checkers_see_the_names_that_load_lazily():
    tree = ast.parse(Path(sf.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    stated = {alias.name for node in block.body for alias in node.names}
    assert stated == {*dir(sf)} - {"__version__"}


def test_the_version_is_the_packages_own():
    assert sf.__version__ == version("scorefield")


def test_the_program_is_installed_under_its_name():
    (program,) = entry_points(group="console_scripts", name="scorefield")
    assert program.value == "scorefield.__main__:main"


def test_a_reader_that_goes_away_ends_the_program_without_a_traceback():
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "scorefield", "models"]
    result = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize(("target", "least"), [("quick", 15), ("test-reduced", 10)])
def test_every_test_that_a_target_of_make_names_is_there(target, least):
    root = Path(__file__).parents[1]
    shown = subprocess.run(["make", "-n", target], cwd=root, check=True, capture_output=True, text=True).stdout
    named = re.findall(r"(?<=\s)tests/\S+", shown)
    assert len(named) >= least
    assert [name for name in named if not (root / name).exists()] == []
