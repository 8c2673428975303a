"""Pipelines of diffusers become our models and our models become theirs, or one clear line says why not."""

import json
import shutil
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

import scorefield as sf
from hub.pipelines import PLAIN, SKIPPING, exported, images, ours, save_ddpm, unet
from oracles import seeded, tiny_model
from scorefield import checkpoint
from scorefield.errors import UserError
from scorefield.hub import export_diffusers, find, import_diffusers
from scorefield.hub.schedules import read_schedule, write_schedule
from scorefield.model import Condition
from scorefield.networks import from_card, to_card
from scorefield.parameterization import Score, VariancePreserving
from scorefield.schedules import cosine, linear_beta

diffusers = pytest.importorskip("diffusers")
EPS = torch.finfo(torch.float32).eps
WEIGHTS = "diffusion_pytorch_model.safetensors"


def change(path, **values):
    """Lay values over a JSON file; None takes one away."""
    content = json.loads(path.read_text()) | values
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A DDPM pipeline, its network and its scheduler."""
    folder = tmp_path_factory.mktemp("saved") / "ddpm"
    return folder, *save_ddpm(folder)


@pytest.fixture
def folder(saved, tmp_path):
    """A copy of it, to be spoilt."""
    return shutil.copytree(saved[0], tmp_path / "ddpm")


# --- read ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
@torch.no_grad()
def test_a_ddpm_pipeline_denoises_by_its_network_and_its_schedule(tmp_path, prediction):
    network, distribution = save_ddpm(tmp_path, prediction_type=prediction)
    model = import_diffusers(tmp_path)
    assert (model.shape, model.value_range) == ((1, 8, 8), (-1.0, 1.0))
    for step in (0, 7, 49):
        signal = distribution.alphas_cumprod[step].double()  # ᾱ
        x_vp = images()
        given = network(x_vp, step).sample
        x0 = {
            "epsilon": (x_vp - (1 - signal).sqrt() * given) / signal.sqrt(),
            "sample": given,
            "v_prediction": signal.sqrt() * x_vp - (1 - signal).sqrt() * given,
        }[prediction]
        sigma = ((1 - signal) / signal).sqrt().float()
        denoised = model(x_vp / signal.sqrt().float(), sigma.expand(2))
        # √(16 layers) eps of the network, which σ ≤ 40 multiplies
        torch.testing.assert_close(denoised, x0.float(), rtol=1e-5, atol=2e-5)


@torch.no_grad()
def test_a_ve_pipeline_gives_the_score_of_pixels_from_0_to_1(tmp_path):
    network = unet(SKIPPING)
    distribution = diffusers.ScoreSdeVeScheduler(sigma_min=0.02, sigma_max=50.0)
    diffusers.DDPMPipeline(network, distribution).save_pretrained(tmp_path)
    model = import_diffusers(tmp_path)
    assert (model.shape, model.value_range, model.sigma_range) == ((3, 8, 8), (0.0, 1.0), (0.02, 50.0))
    assert model.parameterization == Score()
    network, model = network.double(), model.double()  # so that no processor's kernels show
    for sigma in (0.02, 1.3, 50.0):
        x, levels = 3 * images(channels=3).double(), torch.tensor([sigma, sigma])
        score = network(x, levels).sample
        torch.testing.assert_close(sf.score(model, x, levels), score, rtol=1e-5, atol=1e-6 / sigma)
        torch.testing.assert_close(model(x, levels), x + sigma**2 * score, rtol=1e-5, atol=1e-5)


def test_a_karras_ve_pipeline_asks_about_half_the_noise():
    schedule = read_schedule({"_class_name": "KarrasVeScheduler", "sigma_min": 0.02, "sigma_max": 100}, "x")
    assert schedule.sigma_range == (0.01, 50.0)
    assert schedule.value_range == (0.0, 1.0)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"beta_schedule": "linear", "beta_start": 1e-3, "beta_end": 0.05, "num_train_timesteps": 30},
        {"beta_schedule": "scaled_linear", "beta_start": 8.5e-4, "beta_end": 0.012},
        {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 100},
        {"beta_schedule": "sigmoid"},
        {"trained_betas": [0.1, 0.2, 0.3, 0.05]},
    ],
)
def test_the_schedule_is_their_schedule_to_the_last_bit(settings):
    distribution = diffusers.DDPMScheduler(**settings)
    schedule = read_schedule({"_class_name": "DDPMScheduler", **settings}, "x")
    signal = distribution.alphas_cumprod
    sigmas = ((1 - signal) / signal).sqrt().flip(0)
    assert schedule.parameterization.sigmas == tuple(sigmas.tolist())
    assert schedule.sigma_range == (float(sigmas[-1]), float(sigmas[0]))
    labels = schedule.parameterization(sigmas).label
    assert labels.tolist() == list(range(len(sigmas)))[::-1]  # t = 0 is the least noise


def test_a_schedule_without_signal_at_its_end_has_a_finite_schedule():
    settings = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}
    distribution = diffusers.DDIMScheduler(**settings)
    assert float(distribution.alphas_cumprod[-1]) == 0
    found = read_schedule({"_class_name": "DDIMScheduler", **settings}, "x").parameterization.sigmas
    theirs = ((1 - distribution.alphas_cumprod) / distribution.alphas_cumprod).sqrt().flip(0)
    torch.testing.assert_close(torch.tensor(found[1:]), theirs[1:], rtol=1e-3, atol=0)  # by β in float32
    assert found[0] == pytest.approx(2 * found[1], rel=1e-3)


@pytest.mark.parametrize("name", ["HeunDiscreteScheduler", "DDIMScheduler", "PNDMScheduler", "UniPCMultistepScheduler"])
def test_each_schedulers_own_defaults_are_known(name):
    distribution = getattr(diffusers, name)()
    found = read_schedule({"_class_name": name}, "x").parameterization.sigmas
    torch.testing.assert_close(
        torch.tensor(found),
        ((1 - distribution.alphas_cumprod) / distribution.alphas_cumprod).sqrt().flip(0),
        rtol=1e-6,
        atol=0,
    )


@torch.no_grad()
def test_a_folder_of_2022_with_all_in_one_place_and_old_names_is_read(saved, tmp_path):
    whole, _, _ = saved
    for path in (
        whole / "unet" / "config.json",
        whole / "scheduler" / "scheduler_config.json",
        whole / "model_index.json",
    ):
        shutil.copy(path, tmp_path)
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = load_file(whole / "unet" / WEIGHTS)
    for new, before in old.items():
        weights = {name.replace(f".{new}.", f".{before}."): value for name, value in weights.items()}
    assert any(".proj_attn." in name for name in weights)
    save_file(weights, tmp_path / WEIGHTS)
    change(tmp_path / "scheduler_config.json", prediction_type=None)  # there was but one
    x, sigma = images(), torch.tensor([0.5, 2.0])
    assert torch.equal(import_diffusers(tmp_path)(x, sigma), import_diffusers(whole)(x, sigma))


@torch.no_grad()
def test_the_networks_folder_alone_finds_the_scheduler_beside_it(saved):
    x, sigma = images(), torch.tensor([0.5, 2.0])
    assert torch.equal(import_diffusers(saved[0] / "unet")(x, sigma), import_diffusers(saved[0])(x, sigma))


@torch.no_grad()
def test_a_pipeline_loads_by_name_and_a_name_on_the_hub_is_fetched(saved, monkeypatch):
    asked = []

    def fetched(repo, *, revision, allow_patterns):
        asked.append((repo, revision, allow_patterns))
        return str(saved[0])

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetched)
    x, sigma = images(), torch.tensor([0.5, 2.0])
    here = sf.load(saved[0], device="cpu", precision=torch.float32)
    there = sf.load("hf:some-one/tiny.ddpm@v1", device="cpu", precision=torch.float32)
    assert torch.equal(here(x, sigma), there(x, sigma))
    assert asked[0][:2] == ("some-one/tiny.ddpm", "v1")
    assert all(name.endswith((".json", ".safetensors")) for name in asked[0][2])


@torch.no_grad()
def test_the_second_half_of_a_network_with_a_variance_is_left_out(tmp_path):
    network, _ = save_ddpm(tmp_path, settings=PLAIN | {"out_channels": 2}, variance_type="learned_range")
    model = import_diffusers(tmp_path)
    x, sigma = images(), torch.full((2,), model.sigma_range[1])
    given = network(x / (1 + sigma[0] ** 2).sqrt(), 49).sample[:, :1]
    error = model(x, sigma) - (x - sigma[0] * given)
    # √(16 layers) eps of two networks, of values to 4; σ multiplies it
    assert float(error.abs().max()) < 32 * EPS * float(sigma[0])


@torch.no_grad()
def test_any_size_goes_in_and_further_channels_are_concatenated_to_x():
    network = from_card({"kind": "diffusers", "config": PLAIN | {"in_channels": 3}}).eval()
    x, source = images(size=7)[..., :5], images(channels=2, size=7)[..., :5]
    output = network(x, torch.tensor([3.0, 4.0]), source)
    assert output.shape == x.shape
    even = torch.cat([x, source], 1)[..., [0, 1, 2, 3, 4, 5, 6, 6], :][..., [0, 1, 2, 3, 4, 4]]
    whole = network.unet(even, torch.tensor([3.0, 4.0])).sample
    torch.testing.assert_close(output, whole[..., :7, :5])


@torch.no_grad()
def test_an_imported_model_goes_through_our_checkpoint(saved, tmp_path):
    model = import_diffusers(saved[0])
    again = checkpoint.load(checkpoint.save(model, tmp_path / "model.safetensors"))
    assert again.parameterization == model.parameterization
    x, sigma = images(), torch.tensor([0.5, 2.0])
    assert torch.equal(again(x, sigma), model(x, sigma))
    assert json.dumps(to_card(model.network))  # plain data


@torch.no_grad()
def test_an_imported_model_is_written_back_as_it_was(saved, tmp_path):
    written = export_diffusers(import_diffusers(saved[0]), tmp_path / "again")
    pipeline = diffusers.DDPMPipeline.from_pretrained(written)
    for name, value in saved[1].state_dict().items():
        assert torch.equal(pipeline.unet.state_dict()[name], value), name
    torch.testing.assert_close(pipeline.scheduler.alphas_cumprod, saved[2].alphas_cumprod, rtol=1e-5, atol=0)


# --- written -------------------------------------------------------------------------------------

FORMS = [
    {},
    {"widths": (8,), "blocks": 2},
    {"widths": (8, 16, 16), "attention": (1,), "head_width": 16},
    {"widths": (8, 16), "attention": (0, 1), "head_width": 4, "blocks": 2},
    {"widths": (8, 16), "attention": (0, 1), "head_width": 32},  # one head each
    {"widths": (16, 8), "attention": (1,), "head_width": 3, "channels": 3, "groups": 8},
    {"predicts": "x0"},
    {"predicts": "velocity", "sigmas": cosine(40)},
]


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_diffusers_loads_what_we_write_and_computes_the_same(tmp_path, form):
    model, written = exported(tmp_path / "pipeline", **form)
    pipeline = diffusers.DDPMPipeline.from_pretrained(written)
    channels = model.shape[0]
    x, steps = images(channels=channels), torch.tensor([3, 31])
    own, theirs = model.network(x, steps.float()), pipeline.unet(x, steps).sample
    assert float(own.std()) > 0.01
    torch.testing.assert_close(theirs, own, rtol=1e-5, atol=1e-5 * float(own.abs().max()))
    sigmas = torch.tensor(model.parameterization.sigmas).flip(0)
    signal = pipeline.scheduler.alphas_cumprod
    torch.testing.assert_close(signal, 1 / (1 + sigmas**2), rtol=1e-4, atol=0)  # theirs multiplied in float32
    back = import_diffusers(written)
    sigma = sigmas[steps]
    torch.testing.assert_close(back(x, sigma), model(x, sigma), rtol=1e-4, atol=1e-4)


def test_a_linear_schedule_is_written_by_its_ends_and_another_one_by_one():
    linear = tuple(linear_beta().tolist())
    settings = write_schedule(VariancePreserving(conditioning="index", sigmas=linear), "x")
    assert (settings["beta_start"], settings["beta_end"], settings["num_train_timesteps"]) == (
        1e-4,
        0.02,
        1000,
    )
    assert settings["beta_schedule"] == "linear"
    other = write_schedule(VariancePreserving(predicts="velocity", conditioning="index", sigmas=(3.0, 1.0, 0.1)), "x")
    signals = [1 / 1.01, 1 / 2, 1 / 10]
    expected = [1 - signals[0], 1 - signals[1] / signals[0], 1 - signals[2] / signals[1]]
    assert other["trained_betas"] == pytest.approx(expected, rel=1e-6)
    assert other["prediction_type"] == "v_prediction"


@torch.no_grad()
def test_the_second_block_in_the_middle_adds_nothing_but_can_be_trained(tmp_path):
    _, written = exported(tmp_path / "pipeline")
    middle = diffusers.UNet2DModel.from_pretrained(written / "unet").mid_block.resnets[1]
    x, embedding = torch.randn(2, 16, 4, 4, generator=seeded()), torch.randn(2, 32, generator=seeded())
    assert torch.equal(middle(x, embedding), x)
    with torch.enable_grad():
        middle(x, embedding).square().sum().backward()
    assert float(middle.conv2.weight.grad.abs().max()) > 0


def test_nothing_is_written_over_and_nothing_is_left_half(tmp_path, monkeypatch):
    model, written = exported(tmp_path / "pipeline")
    with pytest.raises(UserError, match="already exists"):
        export_diffusers(model, written)

    def full(*_args, **_kwargs):
        raise OSError("no space left")

    monkeypatch.setattr("scorefield.hub.export.save_file", full)
    with pytest.raises(OSError, match="no space"):
        export_diffusers(model, tmp_path / "second")
    assert [path.name for path in tmp_path.iterdir()] == ["pipeline"]
    (tmp_path / "empty").mkdir()
    monkeypatch.undo()
    assert (export_diffusers(model, tmp_path / "empty") / "unet" / WEIGHTS).is_file()


def spoilt(**settings):
    model = ours(**{key: value for key, value in settings.items() if key not in {"value_range", "conditioning"}})
    if "value_range" in settings:
        model.spec = replace(model.spec, value_range=settings["value_range"])
    if "conditioning" in settings:
        model.parameterization = VariancePreserving(conditioning=settings["conditioning"])
    return model


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"patch": 2}, r"network\.patch.*Train one with network\.patch = 1"),
        ({"source_channels": 1}, r"network\.source_channels"),
        ({"classes": 3}, r"network\.classes.*data\.labels = false"),
        ({"groups": None, "widths": (8, 32)}, r"network\.groups.*\[1, 2, 4.*network\.groups = 8"),
        (
            {"widths": (8, 16), "attention": (0, 1), "head_width": 8, "groups": 4, "size": 9},
            "9×9 must divide by 2",
        ),
        ({"widths": (12, 16), "attention": (0, 1), "head_width": 5}, r"network\.head_width.*\[6, 8\]"),
        ({"value_range": (0.0, 1.0)}, r"value_range.*data\.value_range = \[-1, 1\]"),
        ({"conditioning": "gamma"}, r"parameterization: .*receives gamma.*conditioning = \"index\""),
    ],
)
def test_what_their_network_cannot_be_is_reported_with_the_setting_that_can(tmp_path, settings, words):
    with pytest.raises(UserError, match=words) as raised:
        export_diffusers(spoilt(**settings), tmp_path / "pipeline")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "pipeline").exists()


def test_other_families_are_not_written(tmp_path):
    with pytest.raises(UserError, match=r"no edm parameterization.*conditioning = \"index\""):
        export_diffusers(tiny_model(), tmp_path / "pipeline")
    model = ours()
    model.network = sf.networks.Energy(model.network)
    with pytest.raises(UserError, match="Energy is no UNet2DModel"):
        export_diffusers(model, tmp_path / "pipeline")


def test_a_fixed_number_of_groups_must_divide_the_widths_and_is_kept_in_the_card():
    with pytest.raises(UserError, match=r"network\.groups.*divide.*got 5"):
        ours(groups=5)
    assert to_card(ours(groups=4).network)["groups"] == 4
    assert "groups" not in to_card(ours(groups=None).network)


# --- spoilt input --------------------------------------------------------------------------------


def unet_of(index):
    return {"unet": ["diffusers", index]}


@pytest.mark.parametrize(
    ("file", "values", "words"),
    [
        ("model_index.json", unet_of("UNet2DConditionModel"), "its network is UNet2DConditionModel"),
        ("model_index.json", {"vqvae": ["diffusers", "VQModel"]}, "a pipeline on latents .*vqvae"),
        ("unet/config.json", {"_class_name": "Transformer2DModel"}, "its network is Transformer2DModel"),
        ("unet/config.json", {"num_class_embeds": 10}, "needs a class"),
        ("unet/config.json", {"in_channels": 6}, "takes 6 channels and returns 1"),
        ("unet/config.json", {"sample_size": None}, "sample_size None is no size"),
        (
            "unet/config.json",
            {"down_block_types": ["DownBlock2D", "NoSuchBlock"]},
            "build no UNet2DModel.*NoSuchBlock",
        ),
        ("unet/config.json", {"layers_per_block": 2}, "made for another network"),
        ("scheduler/scheduler_config.json", {"_class_name": "DDPMSchedule"}, "DDPMSchedule.*`DDPMScheduler`"),
        (
            "scheduler/scheduler_config.json",
            {"_class_name": "FlowMatchHeunScheduler"},
            "FlowMatchHeunScheduler",
        ),
        ("scheduler/scheduler_config.json", {"beta_schedule": "lineal"}, "beta_schedule 'lineal'.*`linear`"),
        (
            "scheduler/scheduler_config.json",
            {"prediction_type": "flow"},
            "prediction_type 'flow'.*Known: epsilon",
        ),
        ("scheduler/scheduler_config.json", {"beta_start": "a"}, "make no schedule"),
        ("scheduler/scheduler_config.json", {"beta_end": 1.5}, "β must be"),
        ("scheduler/scheduler_config.json", {"trained_betas": [0.1]}, "two numbers or more"),
        ("scheduler/scheduler_config.json", {"rescale_betas_zero_snr": True}, "without signal at the end"),
        ("scheduler/scheduler_config.json", {"timestep_type": "continuous"}, "timestep_type continuous"),
    ],
)
def test_settings_that_cannot_be_read_are_named(folder, file, values, words):
    change(folder / file, **values)
    with pytest.raises(UserError, match=words) as raised:
        import_diffusers(folder)
    assert "\n" not in str(raised.value)


def test_a_schedule_of_the_ve_equation_must_rise():
    with pytest.raises(UserError, match="0 < sigma_min < sigma_max"):
        read_schedule({"_class_name": "ScoreSdeVeScheduler", "sigma_min": 2, "sigma_max": 1}, "x")


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        ("unet/config.json", r"unet.config\.json: no such file"),
        (f"unet/{WEIGHTS}", r"safetensors: no such file.*no \.bin"),
        ("scheduler/scheduler_config.json", "noise levels are unknown"),
        ("model_index.json", None),  # not needed
    ],
)
def test_a_missing_file_is_named(folder, gone, words):
    (folder / gone).unlink()
    if words is None:
        import_diffusers(folder)
        return
    with pytest.raises(UserError, match=words):
        import_diffusers(folder)


def test_a_pickle_is_not_opened(folder):
    (folder / "unet" / WEIGHTS).rename(folder / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(UserError, match=r"pickle \(\.bin\), which could run code"):
        import_diffusers(folder)


@pytest.mark.parametrize("file", [f"unet/{WEIGHTS}", "unet/config.json", "model_index.json"])
def test_a_file_cut_short_is_reported(folder, file):
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="damaged|cut short"):
        import_diffusers(folder)


def test_json_that_is_no_settings_is_reported(folder):
    (folder / "unet" / "config.json").write_text("[1]")
    with pytest.raises(UserError, match="not settings of diffusers"):
        import_diffusers(folder)


def test_no_folder_no_name_and_no_network_are_reported(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="no such folder"):
        import_diffusers(tmp_path / "none")
    with pytest.raises(UserError, match="Write hf:owner/name"):
        import_diffusers("hf:alone")

    def offline(*_args, **_kwargs):
        raise ConnectionError("cannot reach the Hub\nand more")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(UserError, match="could not be fetched: cannot reach the Hub") as raised:
        import_diffusers("hf:some/one")
    assert "\n" not in str(raised.value)


def test_without_the_package_its_extra_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(UserError, match=r"pip install 'scorefield\[diffusers\]'"):
        import_diffusers(folder)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"pip install 'scorefield\[diffusers\]'"):
        import_diffusers("hf:some/one")


def test_a_pipeline_where_a_checkpoint_is_requested_says_how_to_take_it_over(saved):
    with pytest.raises(UserError, match="scorefield models import"):
        find(saved[0])


def test_a_condition_that_it_does_not_take_is_refused(saved):
    model = import_diffusers(saved[0])
    with pytest.raises(UserError, match="without class labels"):
        model.given(Condition(classes=1))
