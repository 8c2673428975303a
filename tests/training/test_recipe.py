"""Recipes: every mistake names its place; what is written reads back."""

import dataclasses
import tomllib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scorefield import networks, noise_distributions, schedules
from scorefield.errors import UserError
from scorefield.training import Recipe, build_model, parse_duration, read_recipe
from scorefield.training.reading import recipe_from


def complaint_of(tmp_path, text, overrides=()):
    """What reading a recipe of this text complains of, without the folder."""
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        read_recipe(path, overrides)
    return str(error.value).replace(f"{path}", "mine.toml")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("optimiser.lr = 3", "mine.toml:1: optimiser: no such setting. Did you mean `optimizer`?"),
        ("[optimiser]\nlr = 3", "mine.toml:1: optimiser: no such setting. Did you mean `optimizer`?"),
        ("#\n\n[optimizer]\nwarm_up = 3",
         "mine.toml:4: optimizer.warm_up: no such setting. Did you mean `warmup`?"),
        ("[noise]\ndistribution = { kind = 'log-normal', men = 1 }",
         "mine.toml:2: noise.distribution.men: no such setting. Did you mean `mean`?"),
        ("[noise.distribution]\nkind = 'log-normal'\nmen = 1",
         "mine.toml:3: noise.distribution.men: no such setting. Did you mean `mean`?"),
        ("[noise.distribution]\nkind = 'log-uniform'\nmean = 1",
         "mine.toml:3: noise.distribution.mean: no such setting. Known: kind, sigma_max, sigma_min."),
        ("[parameterization]\nkind = 'variance-preserving'\nsigma_dat = 1",
         "mine.toml:3: parameterization.sigma_dat: no such setting. Known: conditioning, kind, predicts."),
        ("[noise]\ndistribution.kind = 'log-norml'",
         "mine.toml:2: noise.distribution: no such kind 'log-norml'. Did you mean `log-normal`?"),
        ("[noise]\ndistribution = { mean = 1.0 }", "mine.toml:2: noise.distribution: lacks `kind`."),
        ("[noise]\ndistribution = 3", "mine.toml:2: noise.distribution: input should be a section, got 3."),
        ("optimizer = 3", "mine.toml:1: optimizer: input should be a section, got 3."),
        ("[network]\nkind = 'resnet'",
         "mine.toml:2: network: no such kind 'resnet'. Did you mean `resunet`?"),
        ("[network]\nkind = 'refinenet'\nwidths = [8]",
         "mine.toml:3: network.widths: no such setting. Did you mean `width`?"),
        ("[network]\nkind = 'refinenet'\nform = 'deep'",
         "mine.toml:3: network.form: input should be 'small', "),
        ("[network]\nwidth = 8", "mine.toml:2: network.width: no such setting. Did you mean `widths`?"),
        ("[objective]\nkind = 'slices'",
         "mine.toml:2: objective: no such kind 'slices'. Did you mean `sliced`?"),
        ("[objective]\nkind = 'sliced'\np = 1", "mine.toml:3: objective.p: no such setting."),
        ("[objective]\nprojections = 2", "mine.toml:2: objective.projections: no such setting."),
        ("[objective]\nkind = 'sliced'\ndistribution = 'uniform'",
         "mine.toml:3: objective.distribution: input should be 'radem"),
        ("noise = 'aut'", "mine.toml:1: noise: input should be 'auto', got 'aut'."),
        ("noise = 3", "mine.toml:1: noise: input should be a section, got 3."),
        ("[noise]\nsigma = 3", "mine.toml:2: noise.sigma: no such setting. Did you mean `sigma_m"),
    ],
)  # fmt: skip
def test_an_unknown_key_names_its_line_and_the_nearest_right_one(tmp_path, text, complaint):
    assert complaint_of(tmp_path, text).startswith(complaint)


@pytest.mark.parametrize(
    ("section", "line", "key", "complaint"),
    [
        ("optimizer", "lr = 'fast'", "lr", "valid number, got 'fast'"),
        ("optimizer", "lr = inf", "lr", "finite"),
        ("optimizer", "lr = 0.0", "lr", "greater than 0"),
        ("optimizer", "betas = [0.9, 1.0]", "betas.1", "less than 1"),
        ("training", "steps = '100'", "steps", "valid integer, got '100'"),
        ("training", "steps = true", "steps", "valid integer, got True"),
        ("training", "steps = 0", "steps", "greater than or equal to 1"),
        ("training", "seed = -1", "seed", "greater than or equal to 0"),
        ("training", "save_every = 'soon'", "save_every", "'soon' is no duration"),
        ("training", "save_every = true", "save_every", "no duration"),
        ("training", "save_every = '0s'", "save_every", "greater than 0"),
        ("training", "precision = 'float8'", "precision", "'float32'"),
        ("data", "flip = 1", "flip", "valid boolean, got 1"),
        ("data", "size = 'large'", "size", "valid integer, got 'large'"),
        ("data", "size = -1", "size", "greater than or equal to 1"),
        ("data", "channels = 5", "channels", "less than or equal to 4"),
        ("network", "widths = [8, 'a']", "widths.1", "valid integer, got 'a'"),
        ("network", "widths = 8", "widths", "list"),
        ("optimizer", "clip = -1", "clip", "greater than or equal to 0"),
        ("optimizer", "eps = 0.0", "eps", "greater than 0"),
        ("average", "decay = 1.0", "decay", "less than 1"),
        ("data", "crop = 0", "crop", "greater than or equal to 1"),
        ("objective", "p = 0.5", "p", "greater than or equal to 1"),
    ],
)
def test_an_ill_typed_value_names_its_line_and_itself(tmp_path, section, line, key, complaint):
    text = complaint_of(tmp_path, f"# a comment\n[{section}]\n{line}\n")
    assert text.startswith(f"mine.toml:3: {section}.{key}: ")
    assert complaint in text


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[noise]\nsigma_min = 100.0", "sigma_min = 100 must lie below sigma_max = 80"),
        (
            "[noise]\ndistribution = { kind = 'linear-beta', first = 0.3 }",
            "first = 0.3 must not lie above last = 0.02",
        ),
        (
            "[noise]\nsigma_max = 80.0\ndistribution = { kind = 'linear-beta' }",
            "sigma_max = 80 is not the distribution's own 157.4",
        ),
        (
            "[noise]\nsigma_min = 0.1\ndistribution = { kind = 'palette' }",
            "sigma_min = 0.1 is not the distribution's own 0.001",
        ),
        ("[data]\nvalue_range = [1, -1]", "must rise"),
        ("[data]\ncrop = 20\nsize = 28", "size = 28 is larger than crop = 20"),
        ("[data]\ncrop = 20\nsize = [16, 28]", "size = 28 is larger than crop = 20"),
    ],
)
def test_values_that_contradict_each_other_are_reported(tmp_path, text, complaint):
    assert complaint in complaint_of(tmp_path, text)


def test_bad_toml_and_bytes_that_are_no_text_are_reported(tmp_path):
    assert "not valid TOML" in complaint_of(tmp_path, "[optimizer\nlr = 3")
    assert "line 2" in complaint_of(tmp_path, "[optimizer]\nlr = = 3")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not valid TOML"):
        read_recipe(tmp_path / "bytes.toml")


def test_an_unknown_recipe_offers_the_nearest():
    with pytest.raises(UserError, match=r"defualt: no such recipe. Did you mean `default`\?"):
        read_recipe("defualt")


def test_an_override_wins_over_the_file_and_the_file_over_the_default(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("[optimizer]\nbatch = 3\nwarmup = 5\n[noise]\ndistribution = { kind = 'log-normal', mean = 1.0 }")
    made = read_recipe(path, ["optimizer.batch=4", "optimizer.batch = 7", "noise.distribution.std = 2.5"])
    assert made.optimizer.batch == 7
    assert made.optimizer.warmup == 5
    assert made.optimizer.clip == Recipe().optimizer.clip
    assert made.noise_levels.distribution == noise_distributions.LogNormal(mean=1.0, std=2.5)


def test_a_bare_word_is_a_string_and_anything_else_is_toml():
    made = read_recipe("default", ["data.source=a b/c", 'training.save_every="3m"', "data.size=[8, 12]"])
    assert made.data.source == "a b/c"
    assert made.data.size == (8, 12)
    assert made.training.save_every == 180


@pytest.mark.parametrize("override", ["lr", "=3", ".lr=3", "optimizer.=3", ""])
def test_a_malformed_override_is_reported(override):
    with pytest.raises(UserError, match="not of the form section.key=value"):
        read_recipe("default", [override])


def test_an_override_through_a_value_is_reported():
    with pytest.raises(UserError, match=r"--set optimizer.lr.x=3: `lr` is a value, not a section"):
        read_recipe("default", ["optimizer.lr=1", "optimizer.lr.x=3"])


def test_a_mistake_of_an_override_names_the_override_not_the_file():
    with pytest.raises(UserError, match=r"^--set optimizer.warm_up=3: no such setting. .*`warmup`"):
        read_recipe("default", ["optimizer.warm_up=3"])
    with pytest.raises(UserError, match=r"^--set optimizer.lr=fast: "):
        read_recipe("default", ["optimizer.lr=1", "optimizer.lr=fast"])
    with pytest.raises(UserError, match=r"^--set noise.distribution=.*no such setting"):
        read_recipe("default", ["noise.distribution={kind='log-normal', men=1}"])


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("3m", 180), ("1.5h", 5400), ("1h30m", 5400), ("2d", 172_800), ("0.5s", 0.5),
     (" 3m ", 180), (7, 7), (0.25, 0.25)],
)  # fmt: skip
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-3m", "3 m", "m", "3mm", "1e3s", "3w", "h1", "1..5s", True])
def test_what_is_no_duration_is_reported(text):
    with pytest.raises(ValueError, match="no duration"):
        parse_duration(text)


@given(st.integers(0, 9), st.integers(0, 99), st.integers(0, 99), st.integers(1, 999))
def test_the_parts_of_a_duration_add_up(d, h, m, s):
    assert parse_duration(f"{d}d{h}h{m}m{s}s") == ((d * 24 + h) * 60 + m) * 60 + s


@given(st.floats(1e-6, 1e9), st.floats(1e-8, 10), st.integers(0, 2**63 - 1))
def test_a_recipe_reads_back_as_it_was_written(tmp_path_factory, seconds, lr, seed):
    made = recipe_from({
        "training": {"save_every": seconds, "seed": seed},
        "optimizer": {"lr": lr, "betas": (0.5, lr / 11)},
        "data": {"size": (8, 12), "source": 'a "quoted" \\ näme'},
        "noise": {"distribution": {"kind": "levels", "levels": 7}},
    })  # fmt: skip
    path = tmp_path_factory.mktemp("recipes") / "resolved.toml"
    path.write_text(made.to_toml(), encoding="utf-8")
    assert read_recipe(path) == made


def test_the_written_recipe_holds_every_setting():
    written = tomllib.loads(Recipe().to_toml())
    assert written["optimizer"].keys() == {f.name for f in dataclasses.fields(Recipe().optimizer)}
    assert written.keys() == {f.name for f in dataclasses.fields(Recipe)}


def test_the_distributions_of_noise_are_those_named():
    ends = {"sigma_min": 0.1, "sigma_max": 10.0}
    uniform = recipe_from({"noise": {**ends, "distribution": {"kind": "log-uniform"}}})
    assert uniform.noise_levels.distribution == noise_distributions.LogUniform(**ends)
    levels = recipe_from({"noise": {**ends, "distribution": {"kind": "levels", "levels": 3}}})
    assert levels.noise_levels.distribution.sigmas == pytest.approx((10, 1, 0.1))


def test_ncsn_without_a_schedule_is_reported():
    with pytest.raises(UserError, match='counts the levels of a schedule. Set kind = "levels"'):
        build_model(read_recipe("default", ["parameterization={kind='ncsn'}"]), (1, 8, 8))


def test_tables_for_each_level_need_the_levels_number():
    network = "network={kind='refinenet', width=4}"
    with pytest.raises(
        UserError, match=r"network.conditional: its tables need the index of a noise level.*conditional = f"
    ):
        build_model(read_recipe("default", [network, "parameterization={kind='ncsnv2'}"]), (1, 8, 8))


@pytest.mark.parametrize(("value_range", "centre"), [((0.0, 1.0), True), ((-1.0, 1.0), False)])
@pytest.mark.parametrize(("conditional", "levels"), [(True, 7), (False, None)])
def test_a_refinenets_levels_follow_the_schedule_and_its_centring_the_values(value_range, centre, conditional, levels):
    made = recipe_from({
        "data": {"value_range": value_range},
        "network": {"kind": "refinenet", "width": 4, "conditional": conditional},
        "parameterization": {"kind": "ncsn" if conditional else "ncsnv2"},
        "noise": {"distribution": {"kind": "levels", "levels": 7}},
    })  # fmt: skip
    model = build_model(made, (1, 8, 8))
    card = networks.to_card(model.network)
    assert (card["kind"], card["levels"], card["centre"], card["width"]) == ("refinenet", levels, centre, 4)
    assert tuple(model.parameterization.sigmas) == made.noise_levels.distribution.sigmas


@pytest.mark.parametrize("network", ["{kind='refinenet', width=4, energy=true}", "{widths=[8], energy=true}"])
def test_an_energys_score_is_the_gradient_of_a_scalar(network):
    made = read_recipe("default", [
        f"network={network}",
        "parameterization={kind='ncsn'}",
        "noise={sigma_max=1.0, sigma_min=0.1, distribution={kind='levels', levels=3}}",
    ])  # fmt: skip
    assert networks.to_card(build_model(made, (1, 8, 8)).network)["kind"] == "energy"


@pytest.mark.parametrize(
    ("distribution", "schedule"),
    [
        ("{kind='linear-beta'}", schedules.linear_beta()),
        ("{kind='linear-beta', first=0.001, last=0.2, steps=100}", schedules.linear_beta(0.001, 0.2, 100)),
        ("{kind='cosine', steps=50}", schedules.cosine(50)),
        ("{kind='palette'}", schedules.palette_training()),
    ],
)
def test_a_distribution_with_levels_of_its_own_brings_its_ends(tmp_path, distribution, schedule):
    made = read_recipe("default", ["noise={}", f"noise.distribution={distribution}"])
    assert made.noise_levels.distribution.sigmas == tuple(schedule.tolist())
    ends = (made.noise_levels.sigma_max, made.noise_levels.sigma_min)
    assert ends == (float(schedule[0]), float(schedule[-1]))
    model = build_model(made, (1, 8, 8))
    assert model.sigma_range == ends[::-1]
    path = tmp_path / "resolved.toml"
    path.write_text(made.to_toml(), encoding="utf-8")
    assert read_recipe(path) == made


@pytest.mark.parametrize("predicts", ["noise", "x0", "velocity"])
def test_a_network_conditioned_on_the_index_counts_the_levels_of_its_recipe(predicts):
    family = f"kind='variance-preserving', predicts='{predicts}'"
    settings = [
        "noise={distribution={kind='cosine', steps=40}}",
        f"parameterization={{{family}, conditioning='index'}}",
    ]
    model = build_model(read_recipe("default", settings), (1, 8, 8))
    assert torch.equal(model.schedule, schedules.cosine(40))
    assert model.parameterization(schedules.cosine(40)).label.tolist() == list(range(39, -1, -1))
    settings[1] = f"parameterization={{{family}, conditioning='time'}}"
    assert build_model(read_recipe("default", settings), (1, 8, 8)).schedule is None


def test_an_index_without_a_schedule_is_refused():
    settings = ["parameterization={kind='variance-preserving', conditioning='index'}"]
    with pytest.raises(
        UserError, match="noise.distribution: the variance-preserving parameterization counts the levels of a"
    ):
        build_model(read_recipe("default", settings), (1, 8, 8))
