"""Overlap of two writable nodes: seen when it is there, and never 0 by mere silence."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ansible_collections.relevo.dr.plugins.module_utils import observation
from ansible_collections.relevo.dr.plugins.module_utils.observation import Observation, Proof
from hypothesis import given
from hypothesis import strategies as st

EPOCH = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
OUTCOMES = ["accepted", "read_only", "refused", "unreachable", "error"]


def at(seconds: float) -> str:
    return (EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def seen(address: str, outcome: str, mono: float, lasts: float = 0.002) -> Observation:
    return Observation(address, outcome, at(mono), mono, mono + lasts, "one")


def overlap(
    observations: list[Observation], proven: list[Proof] | None = None, begin: float | None = None, end: float | None = None
) -> float | None:
    addresses = ["a-db1", "b-db1"]
    inside = observation.window(observations, addresses, begin or 0.0, end or max(one.end_mono for one in observations), 5.0)
    return observation.overlap_seconds(observations, addresses, proven or [], *inside)


@st.composite
def histories(draw: st.DrawFn) -> list[Observation]:
    found = []
    for address in ("a-db1", "b-db1"):
        now = draw(st.floats(0, 0.2))
        for outcome in draw(st.lists(st.sampled_from(OUTCOMES), min_size=1, max_size=25)):
            lasts = draw(st.floats(0.001, 1.0))
            found.append(seen(address, outcome, now, lasts))
            now += lasts + draw(st.floats(0.001, 0.5))
    return sorted(found, key=lambda one: one.mono)


@given(histories())
def test_overlap_is_the_same_from_both_sides(history: list[Observation]) -> None:
    end = max(one.end_mono for one in history)
    forth = observation.overlap_seconds(history, ["a-db1", "b-db1"], [], 0.0, end)
    back = observation.overlap_seconds(history, ["b-db1", "a-db1"], [], 0.0, end)
    assert forth == back


@given(histories())
def test_zero_means_that_no_two_accepted_writes_ever_lie_side_by_side(history: list[Observation]) -> None:
    """Between two accepted writes of one node the other one accepted nothing, if the overlap is said to be 0."""
    addresses = ["a-db1", "b-db1"]
    begin, end = observation.window(history, addresses, 0.0, max(one.end_mono for one in history), 5.0)
    if observation.overlap_seconds(history, addresses, [], begin, end) != 0:
        return
    for address in addresses:
        accepted = [
            one
            for one in history
            if one.address == address and one.outcome == "accepted" and begin < one.mono and one.end_mono < end
        ]
        others = [
            one
            for one in history
            if one.address != address and one.outcome == "accepted" and begin < one.mono and one.end_mono < end
        ]
        own = [one for one in history if one.address == address]
        for first, second in zip(own, own[1:], strict=False):
            if first in accepted and second in accepted:
                assert not [one for one in others if first.end_mono < one.mono and one.end_mono < second.mono]


@given(histories(), st.floats(0, 20), st.sampled_from(["a-db1", "b-db1"]))
def test_a_proof_never_makes_a_seen_overlap_smaller(history: list[Observation], moment: float, address: str) -> None:
    without = overlap(history)
    proven = overlap(history, [Proof(address, moment, float("inf"))])
    if without:
        assert proven == without
    if without == 0:
        assert proven == 0


def ticks(address: str, outcome: str, begin: float, end: float, step: float = 0.2) -> list[Observation]:
    found, now = [], begin
    while now < end:
        found.append(seen(address, outcome, now))
        now = round(now + step, 6)
    return found


def failover(old_end: str) -> list[Observation]:
    """a-db1 writes until 10 s, then answers `old_end`; b-db1 is promoted at about 13 s."""
    history = ticks("a-db1", "accepted", 0, 10) + ticks("a-db1", old_end, 10.1, 20)
    history += ticks("b-db1", "read_only", 0, 13) + ticks("b-db1", "accepted", 13.1, 20)
    return sorted(history, key=lambda one: one.mono)


def test_a_failover_whose_old_node_is_seen_refusing_has_no_overlap() -> None:
    assert overlap(failover("refused")) == 0


def test_a_silent_old_node_leaves_the_overlap_unknown() -> None:
    assert overlap(failover("unreachable")) is None


def test_a_fence_proof_before_the_promotion_makes_it_certain() -> None:
    assert overlap(failover("unreachable"), [Proof("a-db1", 12.0, float("inf"))]) == 0


def test_a_fence_proof_after_the_promotion_does_not() -> None:
    assert overlap(failover("unreachable"), [Proof("a-db1", 14.0, float("inf"))]) is None


def test_two_writable_nodes_are_seen() -> None:
    history = sorted(ticks("a-db1", "accepted", 0, 20) + ticks("b-db1", "accepted", 5, 15), key=lambda one: one.mono)
    found = overlap(history)
    assert found is not None
    assert 9.5 < found <= 10


def test_a_proof_that_is_refuted_by_an_accepted_write_proves_nothing() -> None:
    history = [*failover("unreachable"), seen("a-db1", "accepted", 15.05), seen("a-db1", "accepted", 15.07)]
    found = overlap(sorted(history, key=lambda one: one.mono), [Proof("a-db1", 12.0, float("inf"))])
    assert found is not None
    assert found > 0


def test_a_single_accepted_write_refutes_a_proof_too() -> None:
    """Between two silences it is no span of time, but the proof of that host is worth nothing any more."""
    history = sorted([*failover("unreachable"), seen("a-db1", "accepted", 15.05)], key=lambda one: one.mono)
    assert overlap(history, [Proof("a-db1", 12.0, float("inf"))]) is None


def test_an_observer_that_slept_knows_nothing_of_that_time() -> None:
    history = [one for one in failover("refused") if not 9 < one.mono < 18]
    assert overlap(history) is None


def test_an_address_that_was_never_watched_leaves_it_unknown() -> None:
    assert overlap(ticks("a-db1", "accepted", 0, 20)) is None


def test_a_planned_switchover_needs_the_proofs_of_both_sides() -> None:
    """At five observations a second both nodes are unobserved for a moment; the fence and the promotion lie inside it."""
    history = ticks("a-db1", "accepted", 0, 10) + ticks("a-db1", "refused", 10.1, 20)
    history = sorted(history + ticks("b-db1", "read_only", 0, 10) + ticks("b-db1", "accepted", 10.15, 20), key=lambda one: one.mono)
    assert overlap(history) is None
    assert overlap(history, [Proof("a-db1", 9.9, float("inf")), Proof("b-db1", float("-inf"), 10.12)]) == 0


def test_proofs_come_to_the_observers_clock_and_lose_the_clocks_difference() -> None:
    history = [seen("a-db1", "accepted", 100.0)]
    given_proofs = [
        {"address": "a-db1", "class": "stopped", "at": at(90)},
        {"address": "b-db1", "class": "in_recovery", "until": at(95)},
        {"address": "a-db1", "class": "attested", "at": at(1)},
    ]
    stopped, standby = observation.proofs(given_proofs, history, clock_error_seconds=0.5)
    assert abs(stopped.begin - 90.5) < 1e-6
    assert stopped.end == float("inf")
    assert abs(standby.end - 94.5) < 1e-6


def test_only_the_newest_boot_counts() -> None:
    lines = [
        {"address": "a-db1", "outcome": "accepted", "at": at(1), "mono": 900.0, "end_mono": 900.1, "boot_id": "one"},
        {"address": "a-db1", "outcome": "refused", "at": at(50), "mono": 3.0, "end_mono": 3.1, "boot_id": "two"},
    ]
    assert [one.outcome for one in observation.parse(lines)] == ["refused"]


def test_one_observer_that_saw_everything_is_enough_for_zero() -> None:
    assert observation.together([None, 0.0]) == 0
    assert observation.together([0.0, 0.4]) == 0.4
    assert observation.together([None, None]) is None
    assert observation.together([]) is None
