from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevo import measures, timeline
from relevo.clock import utc
from tests.unit.runner.streams import record_of

T0 = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def at(seconds: float) -> str:
    return utc(T0 + timedelta(seconds=seconds))


def phase(name: str, began: float, ended: float, host: str = "h", offset: float = 0.0) -> dict[str, object]:
    return {"name": name, "host": host, "started_at": at(began), "ended_at": at(ended), "clock_offset_seconds": offset}


def test_phases_keep_one_order_however_their_hosts_raced() -> None:
    phases = [
        phase("QUIESCE", 2, 3, "b"),
        phase("FENCE", 1.9, 5, "x"),
        phase("QUIESCE", 1, 3, "a"),
        {"name": "PROTECT", "host": "z"},
    ]
    assert [(item["name"], item["host"]) for item in timeline.sort_phases(phases)] == [
        ("QUIESCE", "a"),
        ("QUIESCE", "b"),
        ("FENCE", "x"),
        ("PROTECT", "z"),
    ]


def test_people_machine_and_gaps_are_told_apart() -> None:
    parts = timeline.break_down([phase("FENCE", 11, 14), phase("PROMOTE", 15, 20)], at(0), at(18), at(10))
    assert {part.name: part.seconds for part in parts} == {
        "DETECT AND DECIDE": 10,
        "FENCE": 3,
        "PROMOTE": 3,
        "BETWEEN PHASES": 2,
    }


def test_a_drill_whose_outage_begins_within_the_run_has_no_decision() -> None:
    parts = timeline.break_down([phase("QUIESCE", 3, 5)], at(4), at(6), at(0))
    assert [(part.name, part.seconds) for part in parts] == [("QUIESCE", 1), ("BETWEEN PHASES", 1)]


def test_asking_the_hosts_is_preflight_from_the_command_on() -> None:
    parts = timeline.break_down([phase("PREFLIGHT", 19, 20), phase("FENCE", 21, 23)], at(0), at(23), at(10))
    assert {part.name: part.seconds for part in parts} == {
        "DETECT AND DECIDE": 10,
        "PREFLIGHT": 10,
        "FENCE": 2,
        "BETWEEN PHASES": 1,
    }


def test_the_drill_on_the_laboratory_is_told_by_phase() -> None:
    record = record_of("failover_drill")
    parts = {part["name"]: part["seconds"] for part in record.measures["rto_breakdown"]}
    assert sum(parts.values()) == pytest.approx(record.measures["rto_seconds"], abs=1e-3)
    assert parts["PREFLIGHT"] > parts["BETWEEN PHASES"]


def test_a_hosts_clock_is_corrected() -> None:
    parts = timeline.break_down([phase("FENCE", 102, 103, offset=100)], at(0), at(4), at(0))
    assert {part.name: part.seconds for part in parts}["FENCE"] == 1


@pytest.mark.parametrize("missing", [(None, at(1)), (at(0), None)])
def test_nothing_is_shared_out_that_was_not_observed(missing: tuple[str | None, str | None]) -> None:
    assert timeline.break_down([], *missing, at(0)) == []


seconds = st.floats(-50, 200, allow_nan=False).map(lambda value: round(value, 3))


@given(st.lists(st.tuples(st.sampled_from("ABC"), seconds, seconds), max_size=6), st.floats(0, 100), seconds)
def test_the_parts_add_up_to_the_whole(spans: list[tuple[str, float, float]], first_write: float, command: float) -> None:
    phases = [phase(name, *sorted((began, ended))) for name, began, ended in spans]
    parts = timeline.break_down(phases, at(0), at(first_write), at(command))
    assert sum(part.seconds for part in parts) == pytest.approx(first_write, abs=1e-4)
    assert len({part.name for part in parts}) == len(parts)
    assert all(part.seconds >= 0 for part in parts)


def test_every_promised_measure_is_there_and_null_when_nobody_observed_it() -> None:
    complete = measures.complete({}, [], at(0))
    assert {name for name in measures.PROMISED if complete[name] is None} == set(measures.PROMISED)
    assert complete["ledger"] == dict.fromkeys(measures.LEDGER)
    assert complete["rto_breakdown"] is None


def test_a_time_that_nobody_can_read_does_not_lose_the_record() -> None:
    complete = measures.complete({"t0_at": "yesterday", "first_write_at": 5}, [], at(0))
    assert complete["rto_breakdown"] is None
    assert complete["t0_at"] == "yesterday"
