"""The log of a run."""

import csv
import sys

import pytest

from scorefield.training.log import COLUMNS, RunLog
from scorefield.training.state import trim_log


def values(step):
    return dict.fromkeys(COLUMNS, 0.5) | {"step": step, "images": step * 8}


@pytest.fixture
def run(tmp_path):
    with RunLog(tmp_path, step=0) as log:
        for step in (5, 10, 15):
            log.row(values(step))
    return tmp_path


def steps(run):
    with (run / "log.csv").open() as file:
        return [int(row["step"]) for row in csv.DictReader(file)]


def test_a_run_that_goes_on_drops_the_rows_that_come_again(run):
    with RunLog(run, step=10) as log:
        assert steps(run) == [5, 10]
        log.row(values(12))
    assert steps(run) == [5, 10, 12]


def test_a_row_cut_by_a_kill_is_dropped(run):
    path = run / "log.csv"
    path.write_text(path.read_text() + "nonsense\n1")
    trim_log(run, 15)
    assert steps(run) == [5, 10, 15]


@pytest.mark.parametrize("content", ["", None])
def test_a_log_without_a_header_begins_with_one(tmp_path, content):
    if content is not None:
        (tmp_path / "log.csv").write_text(content)
    with RunLog(tmp_path, step=3) as log:
        log.row(values(5))
    assert steps(tmp_path) == [5]
    assert (tmp_path / "log.csv").read_text().startswith("step,images,")


def test_every_row_reaches_the_disk_at_once(tmp_path):
    with RunLog(tmp_path, step=0) as log:
        log.row(values(5))
        assert steps(tmp_path) == [5]


@pytest.fixture
def _tensorboard():
    absent = sys.modules.pop("tensorboard")
    pytest.importorskip("tensorboard")
    yield
    sys.modules["tensorboard"] = absent


def test_tensorboard_gets_the_rows_and_the_images(_tensorboard, run):
    events = list((run / "tensorboard").iterdir())
    assert len(events) == 1
    assert b"train/loss" in events[0].read_bytes()
