"""Systems side by side: perfect and poor ones, whose numbers are known."""

import pytest
import torch
from PIL import Image

from oracles import lively, seeded
from scorefield.data.image_set import ImageSet
from scorefield.errors import UserError
from scorefield.evaluation.cases import parse_case
from scorefield.evaluation.degraded import CropSet, degrade
from scorefield.evaluation.restoration import (
    MAX_PSNR,
    FeatureSet,
    compare_restorations,
    measure_restorations,
)
from scorefield.evaluation.restoration_methods import Unrestored, model_method, parse_method
from scorefield.evaluation.tables import RestorationReport, image_sheet, is_lower_better, markdown
from scorefield.metrics.confidence import ConfidenceInterval
from scorefield.metrics.distances import kernel_distance
from scorefield.metrics.features import random_features
from scorefield.metrics.fidelity import psnr
from scorefield.metrics.perceptual import accuracy, agreement, consecutive, feature_distance, first_with_rest
from scorefield.model import ModelSpec, RestorationSpec, ScoreModel
from scorefield.networks import UNet
from scorefield.parameterization import EDM, Regression
from scorefield.restoration import restore


def some_windows(n=12, side=16):
    noise = torch.rand(n, 3, side // 4, side // 4, generator=seeded(0))
    values = torch.nn.functional.interpolate(noise, (side, side), mode="bilinear").mul(255).to(torch.uint8)
    images = ImageSet(images=values, labels=None, name="blobs", source="made here")
    return CropSet(set=images, groups=torch.arange(n) // 2, words=f"{n} blobs")


class OriginalWithError:
    """A method that returns the original plus an error, of another size for each seed if it is random."""

    def __init__(self, name, error=0, *, random=False):
        self.name, self.error, self.random = name, error, random

    def is_random(self, task):
        return self.random

    def serves(self, task):
        return True

    def describe(self, task):
        return "made up"

    def evaluations(self, task):
        return 1

    def cost(self, task):
        return 1.0

    def candidates(self, images, rows, *, count, seed):
        originals = images.originals[rows.start : rows.stop].int()
        errors = [self.error + (seed + 7 * k) % 20 * self.random for k in range(count)]
        return [(originals + error).clamp(0, 255).to(torch.uint8) for error in errors]


@pytest.fixture(scope="module")
def trial():
    return degrade(some_windows(), parse_case("dejpeg:10"))


@pytest.fixture(scope="module")
def judges(trial):
    return FeatureSet.of([random_features(3)], [], trial.originals)


@pytest.fixture(scope="module")
def table(trial, judges):
    systems = [OriginalWithError("off", 4), OriginalWithError("perfect"), Unrestored()]
    made, samples = measure_restorations(trial, systems, judges)
    assert torch.equal(samples[1], trial.originals)
    return {row.name: row for row in made.rows}


def test_a_perfect_restoration_has_perfect_numbers(table):
    numbers = {name: number.value for name, number in table["perfect"].numbers.items()}
    assert numbers["PSNR"] == pytest.approx(MAX_PSNR)
    assert numbers["SSIM"] == pytest.approx(1, abs=1e-5)
    assert numbers["MS-SSIM[1]"] == pytest.approx(1, abs=1e-5)
    assert numbers["PD[random-conv]"] == 0
    assert numbers["FD[random-conv]"] == pytest.approx(0, abs=1e-9)
    assert numbers["KD[random-conv]"] == pytest.approx(0, abs=1e-9)


def test_numbers_are_means_and_differences_those_of_the_first_less_the_others(table, trial):
    expected = float(psnr((trial.originals.int() + 4).clamp(0, 255).to(torch.uint8), trial.originals).mean())
    assert table["off"].numbers["PSNR"].value == pytest.approx(expected, abs=1e-4)
    assert table["off"].above == {}
    for name in ("perfect", "input"):
        for number, above in table[name].above.items():
            difference = table["off"].numbers[number].value - table[name].numbers[number].value
            assert above.value == pytest.approx(difference, abs=1e-4), number
    assert table["perfect"].above["PSNR"].high < 0
    assert table["perfect"].above["PD[random-conv]"].low > 0


def test_every_interval_holds_its_number(table):
    for row in table.values():
        for number in (*row.numbers.values(), *row.above.values()):
            assert number.low <= number.value + 1e-9
            assert number.value <= number.high + 1e-9


def test_diversity_is_measured_over_candidates_of_what_draws(trial, judges):
    systems = [OriginalWithError("drawn", random=True), OriginalWithError("fixed", 3)]
    drawn, fixed, _ = measure_restorations(trial, systems, judges, candidates=3)[0].rows
    assert (
        measure_restorations(trial, systems, judges)[0].rows[0].numbers["PSNR"] == drawn.numbers["PSNR"]
    )  # of the first
    assert 0.8 < drawn.numbers["diversity MS-SSIM[1]"].value < 1
    assert drawn.numbers["diversity PD[random-conv]"].value > 0
    assert not any(name.startswith("diversity") for name in fixed.numbers)
    with pytest.raises(UserError, match="candidates"):
        measure_restorations(trial, systems, judges, candidates=0)


def test_diversity_takes_the_pairs_of_the_paper():
    samples = [torch.tensor([[0.0]]), torch.tensor([[3.0]]), torch.tensor([[4.0]])]
    assert float(consecutive(samples, feature_distance)) == (3 + 1) / 2
    assert float(first_with_rest(samples, feature_distance)) == (3 + 4) / 2
    with pytest.raises(ValueError, match="two candidates"):
        consecutive(samples[:1], feature_distance)


def test_agreement_asks_for_the_originals_class_and_accuracy_for_the_label():
    p = torch.tensor([[0.6, 0.4], [0.2, 0.8], [0.9, 0.1]])
    q = torch.tensor([[0.7, 0.3], [0.9, 0.1], [0.6, 0.4]])
    assert agreement(p, q).tolist() == [1, 0, 1]
    assert accuracy(p, torch.tensor([0, 1, 1])).tolist() == [1, 1, 0]
    assert feature_distance(torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 4.0]])).tolist() == [5.0]


def test_a_kernel_distance_of_pairs_is_zero_in_the_mean_for_a_copy_of_equal_distribution():
    # a and b of one distribution, correlated pair by pair: pairs left in make it negative, left out it is unbiased.
    def distance(seed, *, paired):
        shared = torch.randn(40, 3, generator=seeded(seed))
        a, b = (shared + 0.3 * torch.randn(40, 3, generator=seeded(1000 * k + seed)) for k in (1, 2))
        return kernel_distance(a, b, paired=paired)[0]

    for paired in (True, False):
        found = torch.tensor([distance(seed, paired=paired) for seed in range(200)])
        standard_error = float(found.std()) / 200**0.5
        if paired:
            assert abs(float(found.mean())) < 3 * standard_error
        else:
            assert float(found.mean()) < -10 * standard_error
    with pytest.raises(ValueError, match="do not pair"):
        kernel_distance(torch.rand(4, 2), torch.rand(5, 2), paired=True)


def conditional(tasks=("dejpeg", "inpaint"), side=16, parameterization=None, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = UNet(channels=3, widths=(8, 8), source_channels=3)
    spec = ModelSpec(shape=(3, side, side), restoration=RestorationSpec(tasks=tasks))
    return ScoreModel(network, parameterization or EDM(), spec).eval()


CASES = ["inpaint:center", "dejpeg:10", "colorize", "uncrop:left", "deblur:1", "upscale:2", "denoise:20", "descratch"]


@pytest.mark.parametrize("side", [16, pytest.param(32, marks=pytest.mark.slow)])  # in one tile, in four
@pytest.mark.parametrize("text", CASES)
def test_candidates_hang_on_the_seed_and_keep_what_is_known(text, side):
    images = degrade(some_windows(6, side=side), parse_case(text))
    method = model_method("tiny", conditional((images.case.task,)), steps=2)
    one, again, other = (method.candidates(images, range(2, 4), count=1, seed=seed)[0] for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    known = ~images.unknown[2:4].expand_as(one)
    assert torch.equal(one[known], images.originals[2:4][known])


def test_evaluate_and_dejpeg_give_the_same_bytes(tmp_path):
    """The image that `dejpeg` restores from its file is the one that is measured, with the same steps."""
    crops, model = some_windows(2, side=64), conditional(("dejpeg",), side=64)
    for row, pixels in enumerate(crops.set.images):
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(tmp_path / f"{row}.jpg", quality=10)
    images = degrade(crops, parse_case("dejpeg:10"))
    method = model_method("tiny", model)
    measured = method.candidates(images, range(2), count=2, seed=5)
    assert method.evaluations("dejpeg") == 3
    for row in range(2):
        made = restore(model, tmp_path / f"{row}.jpg", "dejpeg", candidates=2, seed=5 + row)
        for k in range(2):
            assert torch.equal(torch.from_numpy(made.levels[k]).permute(2, 0, 1), measured[k][row])


def test_several_cases_in_one_call():
    reports = []
    report, sheets = compare_restorations(
        [model_method("tiny", conditional(), steps=2), model_method("other", conditional(("inpaint",)), steps=3)],
        [parse_case("inpaint:center"), parse_case("dejpeg:10")],
        some_windows(8),
        features=[random_features(3)],
        candidates=2,
        progress=lambda share, words: reports.append(share),
    )
    inpaint, dejpeg = report.tables
    assert [row.name for row in inpaint.rows] == ["tiny", "other", "input", "original"]
    assert [row.name for row in dejpeg.rows] == ["tiny", "input", "original"]
    assert [row.evaluations for row in inpaint.rows] == [2, 3, 0, 0]
    assert set(sheets) == {"inpaint-center", "dejpeg-10"}
    assert reports == sorted(reports)
    assert reports[-1] == pytest.approx(1)
    text = markdown(report)
    assert "## inpaint:center" in text
    assert "Paired differences: tiny minus the others" in text


def test_a_method_that_serves_nothing_is_refused():
    def compared(*methods):
        compare_restorations(methods, [parse_case("dejpeg:10")], some_windows(4))

    able, unable = model_method("able", conditional()), model_method("unable", conditional(("colorize",)))
    for methods in ([unable], [able, unable]):
        with pytest.raises(UserError, match=r"unable: does not dejpeg\. It knows: colorize"):
            compared(*methods)
    with pytest.raises(UserError, match="named twice"):
        compared(able, able)


@pytest.mark.parametrize("settings", [{}, {"steps": 2}, {"sampler": "heun"}])
def test_a_method_restores_by_the_models_specialist_whatever_its_settings(settings):
    alone = conditional(parameterization=EDM() if settings else Regression(), seed=1)  # a regression takes one step
    lively(alone)
    general = conditional(("dejpeg", "colorize"))
    general.specialists = {"dejpeg": lambda _: alone}
    method, same = (model_method("tiny", model, **settings) for model in (general, alone))
    trial = degrade(some_windows(), parse_case("dejpeg:10"))
    (one,), (other,) = (each.candidates(trial, range(2), count=1, seed=0) for each in (method, same))
    assert torch.equal(one, other)
    assert method.describe("dejpeg") == same.describe("dejpeg")
    assert method.is_random("dejpeg") == same.is_random("dejpeg") == bool(settings)
    assert method.is_random("colorize")


def test_names_of_methods_are_read():
    named = [parse_method(text) for text in ("runs/a", "pigdm:runs/b", "dps@50:c", "@3:d", "@3:")]
    assert [(n.method, n.steps, n.model) for n in named] == [
        ("palette", None, "runs/a"), ("pigdm", None, "runs/b"), ("dps", 50, "c"), ("palette", 3, "d"),
        ("palette", 3, ""),
    ]  # fmt: skip
    with pytest.raises(UserError, match="pigd"):
        parse_method("pigd@5:x")
    with pytest.raises(UserError, match="no number of steps"):
        parse_method("pigdm@few:x")
    with pytest.raises(UserError, match=r"Write e\.g\. pigdm:alone"):
        model_method("alone", conditional(()))
    with pytest.raises(UserError, match="pigdm takes an unconditional one"):
        model_method("tiny", conditional(), method="pigdm")


def test_arrows_point_to_the_good():
    down = ["PD[x]", "LPIPS[x]", "FD[x]", "FID[x]", "KD[x]", "KID[x]"]
    assert all(is_lower_better(name) for name in down)
    assert not any(is_lower_better(n) for n in ("PSNR", "SSIM", "MS-SSIM[3]", "agreement[x]", "IS[x]"))


def test_a_report_is_plain_data(table):
    report = RestorationReport(images="p", candidates=1, seed=0, tables=())
    assert report.to_dict()["tables"] == ()
    assert ConfidenceInterval(value=1.0, low=-1.0, high=2.0).excludes_zero is False


def test_the_sheet_has_a_column_for_each_system_under_its_name(trial):
    names = ["a", "a very long name that is broken into lines"]
    sheet = image_sheet(trial.shown, [trial.shown, trial.originals], trial.originals, names, rows=[0, 3])
    assert sheet.width == 4 * (8 * 16 + 4) + 4
    assert sheet.height > 2 * (8 * 16 + 4) + 4 + 18
