"""Whole periods and their backups: the customer's 24/24, at any length of a period."""

from __future__ import annotations

import datetime
from itertools import pairwise

from ansible_collections.relevo.dr.plugins.module_utils.backup_coverage import coverage
from hypothesis import given
from hypothesis import strategies as st

HOUR = 3600
NOON = datetime.datetime(2026, 11, 25, 12, 20, tzinfo=datetime.timezone.utc).timestamp()


def hourly(*left_out: int) -> list[float]:
    """A backup at a quarter past each of the last 30 hours."""
    return [NOON - 300 - hour * HOUR for hour in range(30) if hour not in left_out]


def test_a_backup_in_every_hour_is_24_of_24():
    assert coverage(hourly(), NOON, HOUR, 24).text == "24/24"


def test_the_missing_hour_is_named():
    found = coverage(hourly(3), NOON, HOUR, 24)
    assert found.text == "23/24"
    assert found.missing_text == "2026-11-25T09:00:00Z to 2026-11-25T10:00:00Z"


def test_the_hour_that_has_not_ended_is_not_judged():
    assert coverage(hourly(0), NOON, HOUR, 24).text == "24/24"


def test_jitter_over_the_end_of_an_hour_costs_no_hour():
    """Begun at 10:59 and at 12:01: eleven o'clock has no backup of its own, although they are an hour and two minutes apart."""
    begun = [NOON - 20 * 60 + 60, NOON - 20 * 60 - 61 * 60]
    assert [str(period) for period in coverage(begun, NOON + HOUR, HOUR, 3).missing] == [
        "2026-11-25T11:00:00Z to 2026-11-25T12:00:00Z"
    ]


def test_hours_before_the_protection_do_not_count_and_a_lost_backup_is_no_younger_cluster():
    since = NOON - 5 * HOUR
    assert coverage(hourly(), NOON, HOUR, 24, since).text == "4/4"
    assert coverage([], NOON, HOUR, 24, since).text == "0/4"


LENGTHS = st.integers(1, 7 * 24 * HOUR)


@given(st.floats(0, 4e9), LENGTHS, st.integers(0, 60), st.lists(st.floats(0, 4e9), max_size=20))
def test_judged_periods_are_whole_adjacent_and_before_now(now, length, count, begun):
    found = coverage(begun, now, length, count)
    assert len(found.judged) == count
    assert all(one.end == other.begin for one, other in pairwise(found.judged))
    assert all(period.end - period.begin == length and period.end <= now for period in found.judged)
    assert set(found.missing) <= set(found.judged)


@given(st.floats(1e9, 4e9), LENGTHS, st.integers(1, 60), st.data())
def test_one_backup_covers_one_period_and_its_loss_uncovers_that_one(now, length, count, data):
    periods = coverage([], now, length, count).judged
    begun = [data.draw(st.floats(period.begin, period.end, exclude_max=True)) for period in periods]
    assert coverage(begun, now, length, count).missing == ()
    lost = data.draw(st.integers(0, count - 1))
    assert coverage(begun[:lost] + begun[lost + 1 :], now, length, count).missing == (periods[lost],)
