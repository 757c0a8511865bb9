from __future__ import annotations

import datetime

from ansible_collections.relevo.dr.plugins.module_utils import clock
from ansible_collections.relevo.dr.plugins.module_utils.ledger import ACKNOWLEDGED, FAILED, Entry
from ansible_collections.relevo.dr.plugins.module_utils.ledger_restored import compare
from hypothesis import given
from hypothesis import strategies as st

NOON = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.timezone.utc)


def at(second: float) -> str:
    return clock.utc(NOON + datetime.timedelta(seconds=second))


def entry(number: int, outcome: str = ACKNOWLEDGED) -> Entry:
    """Number n is sent at second n and ends half a second later."""
    return Entry(number, f"relevo-1-{number}", outcome, at(number + 0.5), float(number))


def compared(numbers, present, point, outcomes=None):
    entries = [entry(number, (outcomes or {}).get(number, ACKNOWLEDGED)) for number in numbers]
    spans = [("relevo-1", first, last) for first, last in present]
    return compare(entries, {number: at(number) for number in numbers}, spans, NOON + datetime.timedelta(seconds=point), 2)


def test_all_that_was_acknowledged_before_the_point_must_be_there():
    assert compared(range(20), [(0, 10)], 10).missing == ()
    assert compared(range(20), [(0, 4), (6, 10)], 10).missing == (5,)
    assert compared(range(20), [(0, 10)], 10).compared == 8


def test_what_failed_may_be_missing_and_what_is_near_the_point_counts_for_nobody():
    assert compared(range(20), [(0, 4), (6, 10)], 10, {5: FAILED}).missing == ()
    assert compared(range(20), [(0, 7)], 10).missing == ()
    assert compared(range(20), [(0, 11)], 10).unexpected == ()


def test_what_began_after_the_point_must_not_be_there():
    assert compared(range(20), [(0, 15)], 10).unexpected == (12, 13, 14, 15)


def test_numbers_of_another_witness_are_not_these():
    other = compare([entry(1)], {1: at(1)}, [("relevo-2", 0, 9)], NOON + datetime.timedelta(seconds=10), 2)
    assert other.missing == (1,)


@given(st.integers(0, 60), st.integers(0, 60))
def test_a_copy_that_was_cut_at_the_point_is_always_right(point, count):
    result = compared(range(count), [(0, point)], point)
    assert (result.missing, result.unexpected) == ((), ())


@given(st.integers(5, 60), st.data())
def test_one_hole_before_the_point_is_always_seen(point, data):
    hole = data.draw(st.integers(0, point - 3))
    result = compared(range(point), [(0, hole - 1), (hole + 1, point)], point)
    assert result.missing == (hole,)
