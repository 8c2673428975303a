"""Systems side by side: perfect and poor ones, whose numbers are known."""

import pytest
import torch

from oracles import seeded
from scorefield.data.image_set import ImageSet
from scorefield.errors import UserError
from scorefield.evaluation.cases import parse_case
from scorefield.evaluation.restored import MOST_PSNR, Judges, measure
from scorefield.evaluation.side_by_side import compare_restoring
from scorefield.evaluation.systems import Input, read_name, restoring
from scorefield.evaluation.tables import Restored, image_sheet, is_lower_better, markdown
from scorefield.evaluation.trial import Windows, make_trial
from scorefield.metrics.confidence import ConfidenceInterval
from scorefield.metrics.distances import kernel_distance
from scorefield.metrics.features import random_features
from scorefield.metrics.fidelity import psnr
from scorefield.metrics.perceptual import accuracy, agreement, consecutive, feature_distance, first_with_rest
from scorefield.model import ModelSpec, RestorationSpec, ScoreModel
from scorefield.networks import UNet
from scorefield.parameterization import EDM


def some_windows(n=12, side=16):
    noise = torch.rand(n, 3, side // 4, side // 4, generator=seeded(0))
    values = torch.nn.functional.interpolate(noise, (side, side), mode="bilinear").mul(255).to(torch.uint8)
    images = ImageSet(images=values, labels=None, name="blobs", source="made here")
    return Windows(set=images, groups=torch.arange(n) // 2, words=f"{n} blobs")


class Fixed:
    """A system that answers with the original and an error, of another size for each seed if asked to."""

    words, evaluations, cost = "made up", 1, 1.0

    def __init__(self, name, error=0, *, random=False):
        self.name, self.error, self.random = name, error, random

    def at_once(self, trial):
        return 5

    def mend(self, trial, rows, *, seed):
        error = self.error + seed % 20 * self.random
        return (trial.originals[rows].int() + error).clamp(0, 255).to(torch.uint8)


@pytest.fixture(scope="module")
def trial():
    return make_trial(parse_case("dejpeg:10"), some_windows())


@pytest.fixture(scope="module")
def judges(trial):
    return Judges.of([random_features(3)], [], trial.originals)


@pytest.fixture(scope="module")
def table(trial, judges):
    systems = [Fixed("off", 4), Fixed("perfect"), Input()]
    made, answers = measure(trial, systems, judges)
    assert torch.equal(answers[1], trial.originals)
    return {row.name: row for row in made.rows}


def test_a_perfect_answer_has_perfect_numbers(table):
    numbers = {name: number.value for name, number in table["perfect"].numbers.items()}
    assert numbers["PSNR"] == pytest.approx(MOST_PSNR)
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
    systems = [Fixed("drawn", random=True), Fixed("fixed", 3)]
    drawn, fixed, _ = measure(trial, systems, judges, candidates=3)[0].rows
    assert measure(trial, systems, judges)[0].rows[0].numbers["PSNR"] == drawn.numbers["PSNR"]  # of the first
    assert 0.8 < drawn.numbers["diversity MS-SSIM[1]"].value < 1
    assert drawn.numbers["diversity PD[random-conv]"].value > 0
    assert not any(name.startswith("diversity") for name in fixed.numbers)
    with pytest.raises(UserError, match="candidates"):
        measure(trial, systems, judges, candidates=0)


def test_diversity_takes_the_pairs_of_the_paper():
    answers = [torch.tensor([[0.0]]), torch.tensor([[3.0]]), torch.tensor([[4.0]])]
    assert float(consecutive(answers, feature_distance)) == (3 + 1) / 2
    assert float(first_with_rest(answers, feature_distance)) == (3 + 4) / 2
    with pytest.raises(ValueError, match="two candidates"):
        consecutive(answers[:1], feature_distance)


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


def conditional(tasks=("dejpeg", "inpaint"), side=16):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = UNet(channels=3, widths=(8, 8), source_channels=3)
    return ScoreModel(network, EDM(), ModelSpec(shape=(3, side, side), restoration=RestorationSpec(tasks=tasks))).eval()


def test_a_network_answers_alike_for_one_seed_and_keeps_what_is_known():
    trial = make_trial(parse_case("inpaint:center"), some_windows())
    system = restoring("tiny", conditional(), steps=2)
    one, again, other = (system.mend(trial, slice(2, 5), seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    known = ~trial.fill[2:5].expand_as(one)
    assert torch.equal(one[known], trial.originals[2:5][known])
    assert system.words.startswith("dpm++-2m, 2 evaluations, 0.0")


@pytest.mark.parametrize("text", ["inpaint:center", "dejpeg:10", "colorize"])
def test_images_larger_than_the_model_are_restored_as_a_users_are(text):
    trial = make_trial(parse_case(text), some_windows(2, side=32))
    system = restoring("tiny", conditional(("dejpeg", "inpaint", "colorize")), steps=1)
    one, again, other = (system.mend(trial, slice(0, 2), seed=seed) for seed in (1, 1, 2))
    assert one.shape == trial.originals.shape
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    known = ~trial.fill.expand_as(one)
    assert torch.equal(one[known], trial.originals[known])


def test_several_cases_in_one_call_with_the_tools_of_each(tmp_path):
    windows = some_windows(8)
    told = []
    report, sheets = compare_restoring(
        [restoring("tiny", conditional(), steps=2), restoring("other", conditional(("inpaint",)), steps=3)],
        [parse_case("inpaint:center"), parse_case("dejpeg:10")],
        windows,
        training=lambda: some_windows(4),
        tools=["tv"],
        features=[random_features(3)],
        candidates=2,
        track=lambda words, share: told.append(share),
    )
    inpaint, dejpeg = report.tables
    assert [row.name for row in inpaint.rows] == ["tiny", "other", "input", "original"]
    assert [row.name for row in dejpeg.rows] == ["tiny", "tv", "input", "original"]
    assert set(sheets) == {"inpaint-center", "dejpeg-10"}
    assert told == sorted(told)
    assert told[-1] == pytest.approx(1)
    text = markdown(report)
    assert "## inpaint:center" in text
    assert "What tiny has above the others" in text
    assert "- tv: strength" in text


def test_a_system_that_serves_nothing_is_told():
    def compared(*systems, tools=None):
        compare_restoring(
            systems, [parse_case("dejpeg:10")], some_windows(4), training=lambda: some_windows(4), tools=tools
        )

    able, unable = restoring("able", conditional()), restoring("unable", conditional(("colorize",)))
    with pytest.raises(UserError, match=r"unable: was not trained to dejpeg\. It knows: colorize"):
        compared(unable)
    with pytest.raises(UserError, match="unable: was trained for none of dejpeg"):
        compared(able, unable)
    with pytest.raises(UserError, match="opencv-ns: serves inpaint, uncrop"):
        compared(able, tools=["opencv-ns"])
    with pytest.raises(UserError, match="named twice"):
        compared(able, able)


def test_names_of_systems_are_read():
    named = [read_name(text) for text in ("runs/a", "pigdm:runs/b", "dps@50:c", "@3:d", "@3:")]
    assert [(n.method, n.steps, n.model) for n in named] == [
        ("palette", None, "runs/a"), ("pigdm", None, "runs/b"), ("dps", 50, "c"), ("palette", 3, "d"),
        ("palette", 3, ""),
    ]  # fmt: skip
    with pytest.raises(UserError, match="pigd"):
        read_name("pigd@5:x")
    with pytest.raises(UserError, match="no number of steps"):
        read_name("pigdm@few:x")
    with pytest.raises(UserError, match=r"Write e\.g\. pigdm:alone"):
        restoring("alone", conditional(()))
    with pytest.raises(UserError, match="pigdm takes a model of images alone"):
        restoring("tiny", conditional(), method="pigdm")


def test_arrows_point_to_the_good():
    down = ["PD[x]", "LPIPS[x]", "FD[x]", "FID[x]", "KD[x]", "KID[x]"]
    assert all(is_lower_better(name) for name in down)
    assert not any(is_lower_better(n) for n in ("PSNR", "SSIM", "MS-SSIM[3]", "agreement[x]", "IS[x]"))


def test_a_report_is_plain_data(table):
    report = Restored(images="p", training="", candidates=1, seed=0, tables=())
    assert report.to_dict()["tables"] == ()
    assert ConfidenceInterval(value=1.0, low=-1.0, high=2.0).excludes_zero is False


def test_the_sheet_has_a_column_for_each_system_under_its_name(trial):
    names = ["a", "a very long name that is broken into lines"]
    sheet = image_sheet(trial.seen, [trial.seen, trial.originals], trial.originals, names, rows=[0, 3])
    assert sheet.width == 4 * (8 * 16 + 4) + 4
    assert sheet.height > 2 * (8 * 16 + 4) + 4 + 18
