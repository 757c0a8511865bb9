from __future__ import annotations

import datetime

import pytest
from ansible_collections.relevo.dr.plugins.module_utils import restore_ladder as ladder
from ansible_collections.relevo.dr.plugins.module_utils.restore_ladder import Arrival, Ladder, RungFailed, RungSkipped
from hypothesis import given
from hypothesis import strategies as st

NOON = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.timezone.utc)
SECOND = datetime.timedelta(seconds=1)


BROKE = RungFailed("it broke", "mend it")
UNSAID = RungSkipped("nobody said how", "say how")


def fails():
    raise BROKE


def skips():
    raise UNSAID


def climbed(*acts):
    found = Ladder()
    for rung, act in zip(ladder.RUNGS, acts, strict=False):
        found.climb(rung, act)
    return found


def holds():
    return "seen"


def test_a_ladder_that_holds_is_proven_to_its_top():
    found = climbed(*[holds] * 9)
    assert found.reached == "every acknowledged transaction"
    assert found.outcome(ladder.RESTORE) == ("ok", "every acknowledged transaction")
    assert ladder.verdict(found.rungs) == "passed"
    assert {gate["verdict"] for gate in found.gates("s", "x", "", ladder.PROVE)} == {"pass"}


def test_after_a_rung_that_broke_nothing_higher_is_tried_and_nothing_of_it_passes():
    tried = []
    found = climbed(holds, holds, fails, lambda: tried.append(1) or "seen")
    assert tried == []
    assert [rung.verdict for rung in found.rungs] == ["pass", "pass", "fail", "unknown"]
    assert found.reached == "checksums"
    assert found.outcome(ladder.RESTORE)[0] == "failed"
    assert found.outcome(ladder.PROVE) == ("skipped", "R3 failed before")


def test_a_rung_that_was_skipped_is_unknown_and_the_next_is_tried():
    found = climbed(holds, holds, holds, holds, holds, skips, holds)
    assert [rung.verdict for rung in found.rungs][-2:] == ["unknown", "pass"]
    assert found.reached == "target reached"
    assert found.gates("s", "x", " 2", ladder.PROVE)[-2]["phase"] == "PROVE 2"


def test_a_rung_that_is_left_out_is_not_tried():
    found = Ladder(skip=["R1"])
    assert not found.climb("R1", fails)
    assert found.rungs[0].verdict == "unknown"


def test_what_was_climbed_on_one_task_is_known_to_the_next():
    again = Ladder(climbed(holds, fails).told())
    assert again.broken == "R2"


@given(st.lists(st.sampled_from([holds, fails, skips]), min_size=1, max_size=8))
def test_a_failure_or_a_doubt_never_ends_as_a_pass(acts):
    found = climbed(*acts)
    verdicts = [rung.verdict for rung in found.rungs]
    assert (ladder.verdict(found.rungs) == "passed") == (set(acts) == {holds})
    if fails in acts:
        assert verdicts[acts.index(fails)] == "fail"
        assert "pass" not in verdicts[acts.index(fails) :]
    assert verdicts.count("pass") <= acts.count(holds)


BEFORE = (
    "2026-11-24 12:00:05 UTC [7] LOG:  recovery stopping before commit of transaction 740, time {}\n"
    "2026-11-24 12:00:05 UTC [7] LOG:  pausing at the end of recovery\n"
)


def arrived_at_noon(stopped="2026-11-24 12:00:00.3+00", last=NOON - SECOND, marker=NOON - SECOND):
    return ladder.arrived(
        "time", "2026-11-24 12:00:00.000000+00", Arrival(BEFORE.format(stopped), "0/3000", last, marker), "0/0", None
    )


def test_a_time_is_reached_when_the_first_one_left_out_is_later_and_the_last_one_in_is_not():
    assert "first one left out of 2026-11-24T12:00:00.300000Z" in arrived_at_noon()
    assert "no observers' row" in arrived_at_noon(marker=None)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"stopped": "2026-11-24 12:00:00+00"}, "which is not after the target"),
        ({"stopped": "2026-11-24 11:59:00-01"}, None),
        ({"last": NOON + SECOND}, "after the target"),
        ({"marker": NOON + SECOND}, "observers' newest row"),
    ],
)
def test_anything_after_a_time_fails(wrong, says):
    if says is None:
        assert arrived_at_noon(**wrong)
        return
    with pytest.raises(RungFailed, match=says):
        arrived_at_noon(**wrong)


def test_an_lsn_is_reached_when_the_next_record_begins_there_or_later():
    def at(stopped, replayed):
        log = f'LOG:  recovery stopping before WAL location (LSN) "{stopped}"\n'
        return ladder.arrived("lsn", "0/3000", Arrival(log, replayed), "0/0", None)

    assert "begins at 0/3000" in at("0/3000", "0/3000")
    assert at("0/3010", "0/3010")
    with pytest.raises(RungFailed, match="recovery stopped before"):
        at("0/2FF0", "0/2FF0")
    with pytest.raises(RungFailed, match="past the record"):
        at("0/3000", "0/3020")


def test_a_named_point_is_reached_when_the_log_says_its_name():
    log = 'LOG:  recovery stopping at restore point "before it", time 2026-11-24 12:00:00+00\n'
    assert "before it" in ladder.arrived("name", "before it", Arrival(log, "0/3000"), "0/0", None)
    with pytest.raises(RungFailed, match="does not say"):
        ladder.arrived("name", "after it", Arrival(log, "0/3000"), "0/0", None)


@pytest.mark.parametrize("kind", ["time", "lsn", "name"])
def test_a_log_that_says_nothing_proves_nothing(kind):
    with pytest.raises(RungFailed, match="the log does not say"):
        ladder.arrived(kind, "2026-11-24 12:00:00+00", Arrival("LOG:  redo done", "0/3000", NOON, NOON), "0/0", None)


def test_the_end_is_reached_when_all_that_was_archived_is_there():
    end = "2026-11-24T12:00:00.000000Z"
    assert ladder.arrived("end", "", Arrival("", "0/4000", NOON), "0/3FF0", end)
    assert ladder.arrived("end", "", Arrival("", "0/4000"), "0/3FF0", None)
    with pytest.raises(RungFailed, match="before the archive's end"):
        ladder.arrived("end", "", Arrival("", "0/3000", NOON), "0/3FF0", end)
    with pytest.raises(RungFailed, match="the last commit is of not seen"):
        ladder.arrived("end", "", Arrival("", "0/4000"), "0/3FF0", end)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("FATAL:  recovery ended before configured recovery target was reached", "ended before the target was reached"),
        ("FATAL:  requested recovery stop point is before consistent recovery point", "before the end of this backup"),
        ("PANIC:  could not locate a valid checkpoint record", "missing or damaged"),
        ("FATAL:  could not write to file: No space left on device", "disk is full"),
        ("FATAL:  something new", "something new"),
        ("", "without a word"),
    ],
)
def test_why_a_server_ended_is_a_sentence(line, says):
    assert says in ladder.explained(line).observed


def test_the_rto_follows_from_the_rate_and_is_unknown_without_one():
    assert ladder.predicted_rto(1000, 100, 2.0, 5.0) == 25.0
    assert ladder.predicted_rto(1000, None, 2.0, 5.0) is None
    assert ladder.predicted_rto(None, 100, 2.0, 5.0) is None
