"""Schedules truncated, subsampled, and RePaint's, against the paper's algorithm step by step."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scorefield.errors import UserError
from scorefield.schedules import check_schedule, geometric, karras, repaint, subsample, truncate


def walked(levels, jump, times):
    """RePaint's walk over levels, counted from the least noise, with a counter at each place to turn."""
    left = dict.fromkeys(range(0, levels - jump, jump), times - 1)
    place, seen = levels, []
    while place > 0:
        place -= 1
        seen.append(place)
        if left.get(place, 0):
            left[place] -= 1
            place += jump
            seen.append(place)
    return seen


@given(st.integers(2, 60), st.integers(1, 12), st.integers(1, 6), st.booleans())
def test_repaint_visits_the_levels_of_the_paper(levels, jump, times, to_zero):
    schedule = torch.arange(levels, 0, -1).float()
    schedule = torch.cat([schedule, torch.zeros(1)]) if to_zero else schedule
    if levels <= jump:
        with pytest.raises(UserError, match="needs more noise levels"):
            repaint(schedule, jump=jump, times=times)
        return
    expected = [float(place + 1) for place in walked(levels, jump, times)]
    got = repaint(schedule, jump=jump, times=times)
    assert got.tolist() == expected + [0.0] * to_zero
    assert check_schedule(got, rises=True)


def test_the_papers_schedule_takes_as_many_steps_as_published():
    schedule = repaint(karras(80, 0.002, 250))  # 250 noise levels, jumps of 10, 10 times (Lugmayr et al. 2022, §5)
    falls = sum(t < s for s, t in pairwise(schedule.tolist()))
    climbs = sum(t > s for s, t in pairwise(schedule.tolist()))
    assert (falls, climbs) == (2410, 24 * 9)
    assert falls + 10 * climbs == 4570  # theirs climb noise level by noise level
    assert schedule[-1] == 0 and schedule[0] == 80


def test_once_through_each_stretch_is_the_schedule_itself():
    schedule = karras(80, 0.002, 25)
    assert torch.equal(repaint(schedule, jump=10, times=1), schedule)


@pytest.mark.parametrize("settings", [{"jump": 0}, {"times": 0}, {"jump": 25}])
def test_a_jump_that_cannot_be_is_refused(settings):
    with pytest.raises(UserError, match="jump"):
        repaint(karras(80, 0.002, 25), **settings)


def test_a_schedule_that_rises_is_refused():
    with pytest.raises(UserError, match="must decrease"):
        repaint(repaint(karras(80, 0.002, 25)))


def test_a_truncated_schedule_keeps_what_lies_below():
    schedule = torch.tensor([8.0, 4.0, 2.0, 0.0])
    assert truncate(schedule, 4.0).tolist() == [4, 2, 0]
    assert truncate(schedule, 3.9).tolist() == [2, 0]
    assert truncate(schedule, 100).tolist() == schedule.tolist()
    with pytest.raises(UserError, match="sigma_max: 1 lies below all noise levels; the last is 2"):
        truncate(schedule, 1.0)


@given(st.integers(2, 400), st.integers(1, 500))
def test_a_subsampled_schedule_keeps_its_ends_and_its_evenness(levels, count):
    schedule = geometric(100, 0.01, levels)
    thin = subsample(schedule, count)
    assert len(thin) == max(2, min(count, levels))
    assert (thin[0], thin[-1]) == (schedule[0], schedule[-1])
    assert check_schedule(thin)
    assert bool(torch.isin(thin, schedule).all())
    gaps = thin.log().diff()
    if len(thin) > 2:
        assert float(gaps.max() - gaps.min()) < 1.01 * float((schedule[0] / schedule[1]).log()) + 1e-3
