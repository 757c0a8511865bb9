"""What past runs let expect: only what they can bear, told again at today's size, and held against what came."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from relevo import cli_predict, expectation, record, took
from relevo.prediction import Past, Prediction, bound, estimate, predict, told_again
from relevo.sizes import DATABASE, LAG, WAL, Size, known
from relevo.took import Share, Took
from tests.unit.runner.streams import record_of

NOW = "2026-11-28T12:00:00.000000Z"
GIB = 1 << 30
SECONDS = st.floats(0.01, 1e5)


def a_record(name: str = "failover_drill", /, number: int = 0, **changes: Any) -> record.Record:
    """A recorded run with other measures, phases or fields; the higher its number the older it is."""
    tree = copy.deepcopy(record_of(name).document())
    tree["measures"] |= changes.pop("measures", {})
    tree |= {"run_id": f"run-{number}", "opened_at": f"2026-11-{24 - number % 20:02d}T12:00:00.000000Z", **changes}
    tree["phases"] = changes.get("phases", tree["phases"])
    return record.parse(record.canonical(tree))


def phase(name: str, seconds: float, host: str = "b-db1", outcome: str = "ok") -> dict[str, Any]:
    at = "2026-11-24T13:21:00.000000Z"
    return {"name": name, "host": host, "started_at": at, "ended_at": at, "duration_seconds": seconds, "outcome": outcome}


def of(runs: list[record.Record], runbook: str = "failover", **more: Any) -> Prediction:
    return predict(Past("minimarket", runbook, runs, more.get("restores", []), more.get("recent", runs)), NOW)


def size(count: float) -> Size:
    return Size(count, "r", NOW)


@given(st.lists(SECONDS, min_size=2, max_size=40, unique=True), st.sampled_from([0.5, 0.9]))
def test_a_bound_holds_for_the_run_that_is_left_out_as_often_as_it_says(values: list[float], share: float) -> None:
    bounds = [bound(values[:place] + values[place + 1 :], share) for place in range(len(values))]
    held = sum(limit is None or value <= limit for value, limit in zip(values, bounds, strict=True))
    assert held >= share * len(values)


@pytest.mark.parametrize(("runs", "known_p90"), [(0, False), (1, False), (8, False), (9, True), (50, True)])
def test_fewer_than_nine_runs_give_no_p90(runs: int, *, known_p90: bool) -> None:
    told = estimate([Took("r", float(number)) for number in range(runs)], {})
    assert (told.p90_seconds is not None, told.p50_seconds is not None, told.runs) == (known_p90, runs > 0, runs)


@given(SECONDS, st.floats(1, 1e13), st.floats(1, 1e13), st.floats(1, 1e13))
def test_more_bytes_never_take_less_time(seconds: float, then: float, now: float, later: float) -> None:
    sample = Took("r", seconds, (Share(seconds, DATABASE, then),))
    fewer, more = sorted([now, later])
    assert told_again(sample, {DATABASE: size(fewer)}) <= told_again(sample, {DATABASE: size(more)}) * (1 + 1e-9)
    assert told_again(sample, {DATABASE: size(then)}) == pytest.approx(seconds)


@given(SECONDS, st.floats(1, 1e13), st.floats(1, 1e13))
def test_what_does_not_grow_with_bytes_stays_as_it_was(seconds: float, then: float, now: float) -> None:
    assert told_again(Took("r", seconds, (Share(0.0, DATABASE, then),)), {DATABASE: size(now)}) == pytest.approx(seconds)
    assert told_again(Took("r", seconds, (Share(seconds, WAL, then),)), {DATABASE: size(now)}) == pytest.approx(seconds)


def test_a_few_kilobytes_are_no_measure_of_a_pace() -> None:
    drained = Took("r", 0.1, (Share(0.1, LAG, 20_000.0),))
    assert told_again(drained, {LAG: size(1_000_000)}) == 0.1
    assert told_again(drained, {LAG: size(32 << 20)}) == pytest.approx(0.2)


def test_twice_the_database_takes_twice_the_restore_and_not_twice_the_run() -> None:
    runs = [
        a_record(
            number=number,
            duration_seconds=130.0,
            phases=[phase("RESTORE", 110.0), phase("PROMOTE", 1.0)],
            measures={
                "path": "restore",
                "restore": {"seconds": 100.0, "bytes": GIB, "replay_seconds": 10.0, "replay_bytes": GIB, "delta": False},
                "outage_seconds": 120.0,
            },
            status={"hosts": {"a-db1": {"role": "primary", "size_bytes": 2 * GIB}}},
        )
        for number in range(3)
    ]
    way = next(way for way in of(runs).ways if way.way == "restore")
    assert way.phases["RESTORE"].p50_seconds == 210.0
    assert way.phases["PROMOTE"].p50_seconds == 1.0
    assert (way.outage.p50_seconds, way.total.p50_seconds) == (220.0, 230.0)
    assert (way.total.scaled_runs, way.total.stretch) == (3, 1.769)


def test_far_beyond_what_was_measured_there_is_no_p90() -> None:
    samples = [Took("r", 100.0, (Share(100.0, DATABASE, float(GIB)),)) for _ in range(20)]
    assert estimate(samples, {DATABASE: size(2 * GIB)}).p90_seconds == 200.0
    far = estimate(samples, {DATABASE: size(3 * GIB)})
    assert (far.p50_seconds, far.p90_seconds, far.stretch) == (300.0, None, 3.0)
    assert "too far from them for a P90" in expectation.rests_on(far)


@pytest.mark.parametrize(
    "changes",
    [
        {"verdict": "failed"},
        {"verdict": "refused"},
        {"verdict": "interrupted"},
        {"check_mode": True},
        {"parent_run_id": "an earlier one"},
        {"run": {"done": True}},
        {"run": {"resume": True}},
    ],
    ids=str,
)
def test_a_run_that_did_not_do_all_of_it_says_nothing_of_its_time(changes: dict[str, Any]) -> None:
    prediction = of([a_record(**changes)])
    assert (prediction.runs, prediction.ways[0].phases, prediction.ways[0].total.p50_seconds) == (0, {}, None)
    assert expectation.line(prediction) is None


def test_hosts_that_work_side_by_side_take_as_long_as_the_slowest() -> None:
    one = a_record(phases=[phase("LOCK", 1.0, "a"), phase("LOCK", 3.0, "b"), phase("FENCE", 9.0, outcome="failed")])
    assert {name: sample.seconds for name, sample in took.phases(one).items()} == {"LOCK": 3.0}


def test_the_first_phase_begins_with_the_command() -> None:
    assert took.phases(record_of("failover_drill"))["PREFLIGHT"].seconds == pytest.approx(10.39, abs=0.01)


def restore_test(number: int = 0, **changes: Any) -> record.Record:
    test = {
        "number": 1,
        "delta": False,
        "restored_bytes": GIB,
        "restore_seconds": 60.0,
        "replay_seconds": 6.0,
        "replay_bytes": GIB,
        "live_bytes": GIB,
        "rungs": [{"id": "R6", "seconds": 30.0}],
        **changes,
    }
    nothing_else = {"outage_seconds": None, "machine_seconds": None, "rto_seconds": None}
    return a_record(
        number=number,
        runbook="restore_test",
        phases=[phase("RESTORE", 61.0), phase("PROVE", 40.0)],
        measures={"restore_tests": [test], **nothing_else},
        objectives=[],
    )


def test_a_failover_by_restore_that_never_was_borrows_the_restores_of_tests() -> None:
    prediction = of([a_record()], restores=[restore_test(number) for number in range(3)], recent=[])
    promote, restore = prediction.ways
    assert (restore.way, restore.runs, restore.borrowed_from) == ("restore", 0, "restore_test")
    assert restore.phases["RESTORE"].p50_seconds == 66.0
    assert promote.recovery.p50_seconds is not None
    assert restore.recovery.p50_seconds == round(66.0 + promote.recovery.p50_seconds, 3)
    assert restore.recovery.p90_seconds is None
    line = expectation.line(prediction)
    assert line == "expected: promote 21.0 s, restore 1 min 27 s, limit 4 h 00 min (median of 1 and 3 runs of this cluster)"


def test_a_copy_that_was_only_brought_up_to_date_is_no_restore() -> None:
    assert len(of([a_record()], restores=[restore_test(delta=True)]).ways) == 1


def test_the_rungs_of_a_proof_grow_with_what_they_read() -> None:
    sizes = {DATABASE: size(2 * GIB), WAL: size(4 * GIB)}
    told = {name: told_again(sample, sizes) for name, sample in took.phases(restore_test()).items()}
    assert told == {"RESTORE": 121.0, "PROVE": 40.0 + 30.0 + 3 * 6.0}


def test_a_failback_is_predicted_by_method() -> None:
    def failback(method: str, seconds: float) -> record.Record:
        rebuild = {"a-db1": {"method": method, "seconds": seconds, "primary_bytes": GIB}}
        return a_record(
            runbook="failback", phases=[phase("REBUILD", seconds)], measures={"rebuild": rebuild}, duration_seconds=seconds + 5
        )

    prediction = of([failback("rewind", 10.0), failback("full", 100.0)], "failback", recent=[restore_test(live_bytes=2 * GIB)])
    assert {way.way: way.phases["REBUILD"].p50_seconds for way in prediction.ways} == {"rewind": 10.0, "full": 200.0}


HOSTS = {
    "a-db1": {"role": "primary", "lsn": "1/10000000", "system_identifier": "7", "size_bytes": 5},
    "b-db1": {"role": "standby", "lsn": "1/F000000", "system_identifier": "7", "size_bytes": 4},
}


def test_sizes_are_those_of_the_newest_record_that_says_them() -> None:
    silent, says = a_record(number=1, status={}), a_record(number=2, status={"hosts": HOSTS})
    found = known([silent, says], NOW)
    assert (found[DATABASE].bytes, found[DATABASE].run_id) == (5, "run-2")
    assert found[LAG].bytes == 0x1000000
    assert WAL not in found


def test_wal_behind_the_newest_backup_is_a_pace_times_an_age() -> None:
    earlier = copy.deepcopy(HOSTS)
    earlier["a-db1"]["lsn"] = "1/0"
    day = {"opened_at": "2026-11-26T12:00:00.000000Z", "closed_at": "2026-11-27T12:00:00.000000Z"}
    backup = a_record(number=3, **day, measures={"backups": {"repository_1": {"size_bytes": 9}}}, status={"hosts": HOSTS})
    first = a_record(number=4, opened_at="2026-11-25T12:00:00.000000Z", status={"hosts": earlier})
    assert known([backup, first], NOW)[WAL].bytes == pytest.approx(0x10000000)


def test_a_cluster_that_was_built_anew_has_no_pace_from_before() -> None:
    other = {"a-db1": {**HOSTS["a-db1"], "system_identifier": "8", "lsn": "0/1"}}
    backup = a_record(measures={"backups": {"repository_1": {}}}, status={"hosts": HOSTS})
    assert WAL not in known([backup, a_record(number=5, status={"hosts": other})], NOW)


def predicted(p50: float, p90: float | None) -> dict[str, Any]:
    return {
        "ways": [{"way": "promote", "total": {"p50_seconds": p50, "p90_seconds": p90}, "phases": {"PROMOTE": {"p50_seconds": 1.0}}}]
    }


def test_predictions_are_held_against_what_came() -> None:
    kept = [predicted(20.0, 22.0), predicted(25.0, 28.0), predicted(20.0, None)]
    runs = [
        a_record(number=number, duration_seconds=seconds, measures={"predicted": one})
        for number, (seconds, one) in enumerate(zip([21.0, 35.0, 22.0], kept, strict=True))
    ]
    misses = {miss.part: miss for miss in of(runs).past}
    total = misses["total"]
    assert (total.runs, total.median_seconds, total.worst_seconds) == (3, 2.0, 10.0)
    assert (total.p90_runs, total.within_p90_runs) == (2, 1)
    assert misses["PROMOTE"].median_seconds == pytest.approx(0.063)
    assert expectation.off(total) == "total by promote, 3 runs: typically 2.0 s longer than the P50, 1 of 2 within their P90"


def test_what_is_kept_is_what_a_later_prediction_reads() -> None:
    kept = of([a_record(number=number) for number in range(3)]).kept()
    assert "past" not in kept
    (total,) = [miss for miss in of([a_record(measures={"predicted": kept})]).past if miss.part == "total"]
    assert (total.runs, total.median_seconds) == (1, 0.0)


def test_no_history_is_said_in_words() -> None:
    target = io.StringIO()
    cli_predict.show(Console(file=target, width=160), of([], "switchover"))
    assert "No history" in target.getvalue()
    assert of([], "switchover").ways[0].total.p50_seconds is None


def test_a_page_says_on_what_each_number_rests() -> None:
    target = io.StringIO()
    runs = [a_record(number=number, status={"hosts": HOSTS}, measures={"drain": {"replayed_bytes": 0}}) for number in range(3)]
    cli_predict.show(Console(file=target, width=160), of(runs, restores=[restore_test()]))
    for words in (
        "by promote",
        "3 runs, too few for a P90",
        "3 runs, 3 scaled by size, too few for a P90",
        "restores of restore_test",
        "WAL not replayed: 16.0 MiB",
        "limit (RTO): 4 h 00 min",
    ):
        assert words in target.getvalue(), words


def test_other_runbooks_name_what_takes_longest() -> None:
    prediction = of([restore_test()], "restore_test", recent=[])
    assert (
        expectation.line(prediction)
        == "expected: restore 1 min 01 s, prove 40.0 s, in all 20.7 s (as in the only run of this cluster)"
    )
