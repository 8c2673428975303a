"""Recipes that others wrote: judged whole before anything is built, told in one line."""

import copy
import random
import tomllib

import pytest
import tomli_w

from mutations import WILD, counted_weights, mutated
from scorefield.errors import UserError
from scorefield.training.reading import read_recipe, recipe_from
from scorefield.training.recipe import build_model, bundled_recipes

SMALL = {"kind": "unet", "widths": [8], "blocks": 1, "attention": [], "head_width": 8}
RECIPES = {
    "wild": (*WILD, 2**63, [{}], "1h", {"kind": "levels", "sigma_max": 1.0, "sigma_min": 0.1, "levels": 10**9},
             {"kind": "cosine", "steps": 10**9}),
    "keys": ("wild", "kind", "blocks", "levels"),
}  # fmt: skip


def bases() -> list[dict]:
    """Every bundled recipe in full, on a network of a few weights."""
    made = []
    for path in bundled_recipes().values():
        plain = read_recipe(path).to_dict()
        if plain["network"]["kind"] != "refinenet":
            plain["network"] = copy.deepcopy(SMALL)
        else:
            plain["network"]["width"] = 4
        made.append(plain)
    return made


def mutated_recipes_give_a_model_or_one_line(path, monkeypatch, count):
    """How many are refused and how many built, read from a file. No other exception, and nothing huge."""
    monkeypatch.setattr("os.sysconf", lambda name: 10_000)  # a machine of 0.1 GB
    rng, plain, refused, models = random.Random(0), bases(), 0, 0
    with counted_weights() as built:
        for number in range(count):
            built.clear()
            made = mutated(rng.choice(plain), rng, **RECIPES)
            path.write_text(tomli_w.dumps(made), encoding="utf-8")
            try:
                recipe = read_recipe(path)
                if recipe.noise != "auto" and number % 2 == 0:
                    build_model(recipe, (1, 8, 8), classes=2)
                    models += 1
            except UserError as error:
                refused += 1
                assert len(str(error).splitlines()) == 1 and len(str(error)) < 1500, (number, made)
            assert sum(built) < 50_000_000, (number, made)
    return refused, models


def test_mutated_recipes_give_a_model_or_one_line(tmp_path, monkeypatch):
    refused, models = mutated_recipes_give_a_model_or_one_line(tmp_path / "recipe.toml", monkeypatch, 50)
    assert 20 < refused < 50 and models > 0


@pytest.mark.slow
def test_1000_mutated_recipes_give_a_model_or_one_line(tmp_path, monkeypatch):
    refused, models = mutated_recipes_give_a_model_or_one_line(tmp_path / "recipe.toml", monkeypatch, 1000)
    assert 500 < refused < 1000 and models > 20


@pytest.mark.parametrize("text", [
    "x = " + "[" * 10_000,
    "x = " + "[" * 10_000 + "]" * 10_000,
    "x = " + "{a=" * 10_000 + "1" + "}" * 10_000,
    "data" + ".a" * 100_000 + " = 1",
    "[data" + ".a" * 10_000 + "]",
    "training.steps = " + "9" * 5000,
    "training.steps = 0x" + "f" * 5000,
    "training.seed = -" + "9" * 400,
    "#" * (2**20 + 1),
    "\0", "\x1b[2J", "[[data]]\n" * 5, "data = 1", "noise = 3", "network = []", "degradation = [3]", "degradation = 1",
])  # fmt: skip
def test_recipes_that_are_nested_or_no_tables_are_told_in_one_line(tmp_path, text):
    (tmp_path / "recipe.toml").write_text(text)
    with pytest.raises(UserError) as caught:
        read_recipe(tmp_path / "recipe.toml")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("override", [
    "data.x=" + "[" * 10_000, "data" + ".a" * 10_000 + "=1", "training.steps=0x" + "f" * 5000, "network.blocks=1000000",
    "network.widths=[1000000]", "data.size=1000000000", "optimizer.batch=1000000000", "optimizer.lr=nan",
    "noise.distribution={kind='cosine',steps=1000000000}", "training.sample_count=1000000000",
    "degradation=[{kind='scratches',count=1000000000}]", "degradation=[{kind='masks',value_range=[0,1e300]}]",
    "parameterization={kind='edm',sigma_data=0.0}", "parameterization.sigma_data=-1.0",
])  # fmt: skip
def test_absurd_overrides_are_refused_before_anything_is_built(override):
    with counted_weights() as built, pytest.raises(UserError):
        build_model(read_recipe("default", [override]), (1, 8, 8))
    assert not built


def test_every_bundled_recipe_lies_within_the_bounds():
    for path in bundled_recipes().values():
        plain = tomllib.loads(path.read_text(encoding="utf-8"))
        assert recipe_from(plain).to_dict() == read_recipe(path).to_dict()
