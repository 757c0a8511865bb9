"""The ledger's arithmetic: never optimistic, whatever was acknowledged and whatever is present."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils import ledger
from ansible_collections.relevo.dr.plugins.module_utils.ledger import Entry
from ansible_collections.relevo.dr.plugins.modules import ledger_info
from hypothesis import given
from hypothesis import strategies as st

EPOCH = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)


def at(seconds: float) -> str:
    return (EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def entry(number: int, seconds: float, outcome: str = "acknowledged", boot: str = "one") -> Entry:
    return Entry(number, f"relevo-x-{number}", outcome, at(seconds), seconds, boot)


outcomes = st.lists(st.sampled_from(["acknowledged", "acknowledged", "failed", "indeterminate"]), max_size=40)


@st.composite
def books(draw: st.DrawFn) -> tuple[list[Entry], set[int]]:
    """A ledger and the numbers that a database holds: any subset of what was sent, failed ones never."""
    kinds = draw(outcomes)
    steps = draw(st.lists(st.floats(0.01, 5), min_size=len(kinds), max_size=len(kinds)))
    entries, now = [], 0.0
    for number, (kind, step) in enumerate(zip(kinds, steps, strict=True), 1):
        now += step
        entries.append(entry(number, now, kind))
    possible = [one.number for one in entries if one.outcome != "failed"]
    present = draw(st.sets(st.sampled_from(possible))) if possible else set()
    return entries, present


@given(books())
def test_every_acknowledged_entry_is_present_or_listed_as_lost(book: tuple[list[Entry], set[int]]) -> None:
    entries, present = book
    result = ledger.account(entries, present)
    acknowledged = {one.number for one in entries if one.outcome == "acknowledged"}
    assert set(result.lost) == acknowledged - present
    assert result.present + len(result.lost) == result.acknowledged == len(acknowledged)
    assert result.acknowledged + result.failed + len(result.indeterminate) == len(entries)


@given(books())
def test_reported_loss_is_never_smaller_than_the_real_one(book: tuple[list[Entry], set[int]]) -> None:
    entries, present = book
    result = ledger.account(entries, present)
    chain = [one for one in entries if one.outcome == "acknowledged"]
    lost = [one for one in chain if one.number not in present]
    if not lost:
        assert result.rpo_seconds == 0
    elif lost[0] is chain[0]:
        assert result.rpo_seconds is None
    else:
        assert result.rpo_seconds is not None
        assert result.rpo_seconds >= lost[-1].mono - lost[0].mono
        assert result.rpo_seconds > 0


@given(books(), st.integers(1, 40))
def test_losing_more_never_reports_less(book: tuple[list[Entry], set[int]], number: int) -> None:
    entries, present = book
    before = ledger.account(entries, present)
    after = ledger.account(entries, present - {number})
    assert set(before.lost) <= set(after.lost)
    assert after.rpo_seconds is None or (before.rpo_seconds is not None and after.rpo_seconds >= before.rpo_seconds)


@given(books())
def test_outage_is_the_longest_hole_or_still_open(book: tuple[list[Entry], set[int]]) -> None:
    entries, _ = book
    hole = ledger.outage(entries)
    chain = [one for one in entries if one.outcome == "acknowledged"]
    if hole is None:
        assert len(chain) < 2
        return
    gaps = [later.mono - earlier.mono for earlier, later in zip(chain, chain[1:], strict=False)]
    if hole.after is None:
        assert hole.before is chain[-1]
        assert entries[-1].outcome != "acknowledged"
    else:
        assert hole.seconds == max(gaps)


@given(st.sets(st.integers(1, 300)))
def test_ranges_lose_no_number(numbers: set[int]) -> None:
    pairs = ledger.ranges(numbers)
    assert ledger.expand(pairs) == sorted(numbers)
    assert all(left[1] + 1 < right[0] for left, right in zip(pairs, pairs[1:], strict=False))


def lines(*events: dict[str, Any]) -> list[Entry]:
    return ledger.parse(events)


INTENT: dict[str, Any] = {"kind": "intent", "n": 1, "reference": "relevo-x-1", "at": at(1), "mono": 1.0}


def test_an_intent_without_an_outcome_is_indeterminate() -> None:
    (only,) = lines(INTENT)
    assert only.outcome == "indeterminate"


def test_an_outcome_that_nobody_knows_is_indeterminate() -> None:
    (only,) = lines(INTENT, {"kind": "outcome", "n": 1, "outcome": "perhaps", "at": at(2), "mono": 2.0})
    assert only.outcome == "indeterminate"


def test_an_outcome_whose_intent_lies_before_the_part_that_was_read_is_left_out() -> None:
    assert lines({"kind": "outcome", "n": 7, "outcome": "acknowledged", "at": at(2), "mono": 2.0}) == []


def test_a_reboot_of_the_witness_is_measured_on_the_wall_clock() -> None:
    entries = [entry(1, 1000.0), Entry(2, "relevo-x-2", "acknowledged", at(1042), 3.0, "two")]
    hole = ledger.outage(entries)
    assert hole is not None
    assert hole.seconds == 42


def test_a_hole_of_an_earlier_run_is_not_this_outage() -> None:
    entries = [entry(1, 0), entry(2, 100), entry(3, 101), entry(4, 103)]
    hole = ledger.outage(entries, not_before=at(102))
    assert hole is not None
    assert (hole.before.number, hole.after and hole.after.number) == (3, 4)


def test_a_failed_write_that_is_present_is_told() -> None:
    result = ledger.account([entry(1, 1), entry(2, 2, "failed")], {1, 2})
    assert result.unexpected == (2,)


def test_the_loss_runs_to_the_last_acknowledgement_before_the_outage() -> None:
    entries = [entry(1, 1), entry(2, 2), entry(3, 2.5), entry(4, 30)]
    measures = ledger.measures(entries, {1, 2, 3, 4}, {1, 4})
    assert measures["outage_seconds"] == 27.5
    assert measures["rpo_seconds"] == 1.5
    assert measures["ledger"]["lost_numbers"] == [2, 3]
    assert measures["t0_at"] == at(2.5)
    assert measures["first_write_at"] == at(30)


def test_without_a_look_into_the_database_the_loss_is_unknown() -> None:
    measures = ledger.measures([entry(1, 1), entry(2, 2)], {1, 2}, None)
    assert measures["rpo_seconds"] is None
    assert measures["ledger"] is None


def test_an_entry_that_nobody_looked_for_is_not_lost() -> None:
    measures = ledger.measures([entry(1, 1), entry(2, 2), entry(3, 3)], {1, 2}, {1, 2})
    assert measures["ledger"]["lost"] == 0
    assert measures["ledger"]["last_number"] == 2


def test_a_loss_may_begin_before_what_was_compared_when_the_oldest_is_missing_too() -> None:
    assert ledger.more_may_be_lost(7, {8, 9}) is True
    assert ledger.more_may_be_lost(7, {7, 9}) is False
    assert ledger.more_may_be_lost(None, set()) is False


def test_the_oldest_is_the_one_that_was_acknowledged_first(tmp_path) -> None:
    log = tmp_path / "ledger.jsonl"
    begun = {"kind": "intent", "mono": 1.0}
    lines: list[dict[str, Any]] = [{"kind": "start", "boot_id": "b"}]
    for number, outcome in ((1, "failed"), (2, "acknowledged"), (3, "acknowledged")):
        at = f"2026-11-24T03:00:0{number}.000000Z"
        lines.append({**begun, "n": number, "reference": f"relevo-{number}", "at": at})
        lines.append({"kind": "outcome", "n": number, "outcome": outcome, "at": at, "mono": 2.0})
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    about = {"path": str(log), "observer_path": str(tmp_path / "none"), "tail": 1, "count": True, "not_before": ""}
    found = ledger_info.read(
        {**about, "since_at": "2026-11-24T03:10:00.000000Z", "window_seconds": 900.0, "lookback_seconds": 900.0}
    )
    assert found["oldest"] == 2


def test_an_attempt_that_is_still_going_on_is_not_settled() -> None:
    going_on = ledger.parse([{**INTENT, "mono": 100.0}])
    assert ledger.settled(going_on, 101.0) == []
    assert ledger.settled(going_on, 200.0) == going_on


def test_without_a_ledger_only_the_operators_word_is_left() -> None:
    measures = ledger.measures([], [], None, failed_at=at(5))
    assert (measures["t0_at"], measures["t0_source"], measures["outage_seconds"]) == (at(5), "attested", None)


def test_bytes_are_unknown_when_a_position_was_not_seen() -> None:
    assert ledger.lsn_loss_bytes("0/3000148", "0/3000100") == 0x48
    assert ledger.lsn_loss_bytes("1/0", "0/FFFFFFFF") == 1
    assert ledger.lsn_loss_bytes("0/3000000", "0/3000100") == 0
    assert ledger.lsn_loss_bytes(None, "0/1") is None


def test_a_writer_that_stopped_is_not_at_work():
    entries = [Entry(1, "r-1", ledger.INDETERMINATE, "2026-11-24T03:00:00.000000Z", 1.0, "boot")]
    assert ledger.tried_within(entries, "2026-11-24T03:00:59.000000Z", 60)
    assert not ledger.tried_within(entries, "2026-11-24T03:01:01.000000Z", 60)
    assert not ledger.tried_within([], "2026-11-24T03:01:01.000000Z", 60)


def writes(*sides: tuple[int, float]) -> list[dict[str, Any]]:
    """The witness's log: for each side that many writes, one a second, that took so long; between the sides a minute."""
    lines: list[dict[str, Any]] = [{"kind": "start", "boot_id": "one"}]
    now, number = 0.0, 0
    for count, took in sides:
        now += 60
        for _ in range(count):
            now, number = now + 1, number + 1
            lines.append({"kind": "intent", "n": number, "reference": f"x-{number}", "at": at(now), "mono": now})
            lines.append({"kind": "outcome", "n": number, "outcome": "acknowledged", "at": at(now + took), "mono": now + took})
    return lines


def test_what_a_write_took_is_told_on_both_sides_of_the_outage() -> None:
    entries = ledger.parse(writes((150, 0.25), (31, 0.125)))
    said = ledger.measures(entries, [], None)["writes"]
    assert said == {"p95_before_seconds": 0.25, "p95_after_seconds": 0.125, "before": 100, "after": 30}


def test_of_a_handful_of_writes_nothing_is_said() -> None:
    said = ledger.measures(ledger.parse(writes((19, 0.25), (20, 0.125))), [], None)["writes"]
    assert (said["p95_before_seconds"], said["p95_after_seconds"]) == (None, None)
    assert ledger.measures([], [], None)["writes"] is None


def test_what_began_before_a_reboot_of_the_witness_took_nobody_knows_how_long() -> None:
    lines = writes((1, 0.25))
    lines.insert(2, {"kind": "start", "boot_id": "two"})
    assert ledger.parse(lines)[0].seconds is None
