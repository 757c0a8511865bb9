"""The loss before promotion is never told smaller than it is."""

from __future__ import annotations

import datetime

from ansible_collections.relevo.dr.plugins.module_utils.clock import utc
from ansible_collections.relevo.dr.plugins.module_utils.loss import Loss, measure, within
from hypothesis import given
from hypothesis import strategies as st

START = datetime.datetime(2026, 11, 24, 3, 0, tzinfo=datetime.timezone.utc)


def tail(count):
    return [{"n": n, "reference": f"relevo-{n}", "at": utc(START + datetime.timedelta(seconds=n))} for n in range(count)]


def test_nothing_missing_is_no_loss():
    entries = tail(5)
    assert measure(entries, {entry["reference"] for entry in entries}) == Loss(0, 0.0, ())


def test_seconds_run_from_the_last_good_acknowledgement():
    assert measure(tail(10), {f"relevo-{n}" for n in range(7)}) == Loss(3, 3.0, (7, 8, 9))


def test_a_later_entry_that_is_present_makes_a_hole_no_smaller():
    present = {f"relevo-{n}" for n in range(10) if n != 4}
    assert measure(tail(10), present) == Loss(1, 6.0, (4,))


@given(st.sets(st.integers(0, 29)), st.integers(1, 30))
def test_every_missing_number_is_named(missing, count):
    entries = tail(count)
    found = measure(entries, {entry["reference"] for entry in entries if entry["n"] not in missing})
    assert set(found.numbers) == {n for n in missing if n < count}
    assert found.transactions == len(found.numbers)


def test_without_a_bound_no_loss_is_accepted():
    assert not within(Loss(1, 0.1, (1,)), None, None)
    assert within(Loss(0, 0.0, ()), None, None)


def test_every_bound_that_was_given_must_hold():
    assert within(Loss(3, 2.0, (1, 2, 3)), 5.0, None)
    assert not within(Loss(3, 2.0, (1, 2, 3)), 1.0, None)
    assert not within(Loss(3, 2.0, (1, 2, 3)), 5.0, 2)
