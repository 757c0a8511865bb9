from __future__ import annotations

from typing import Any

import icalendar
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevo import appointments, due, policy_file
from relevo.due import State
from relevo.record import Record
from tests.unit.runner.past import Past, at, run

POLICY = policy_file.parse("clusters: {minimarket: {tests: [full_site]}}", "policy.yml")


def entry(past: Past, today: str = "2026-03-01", observed: dict[str, Any] | None = None, *, same: bool | None = None) -> due.Entry:
    now = due.Now(at(today), {"minimarket": observed or {}}, lambda *_: same)
    (found,) = due.entries(POLICY, past.past, past.clusters(), now)
    return found


def test_a_cluster_that_never_ran_is_shown_and_overdue() -> None:
    found = entry(Past())
    assert (found.state, found.overdue, found.due_at, found.age_seconds) == (State.NEVER_PASSED, True, None, None)
    assert found.reasons == ("no run of this test yet",)


@pytest.mark.parametrize(
    ("today", "state", "overdue"),
    [
        ("2026-01-31", State.CURRENT, False),
        ("2026-07-16", State.CURRENT, False),
        ("2026-07-17", State.DUE, False),
        ("2026-07-31", State.DUE, False),
        ("2026-08-01", State.OVERDUE, True),
    ],
)
def test_half_a_year_by_the_calendar(today: str, state: State, *, overdue: bool) -> None:
    found = entry(Past(run("r1", "2026-01-31T12:00:00Z")), today)
    assert (found.state, found.overdue, found.due_at) == (state, overdue, "2026-07-31T12:00:00.000000Z")
    assert found.passed is not None
    assert found.passed.run_id == "r1"
    assert found.age_seconds == (at(today) - at("2026-01-31")).total_seconds()


def test_only_a_run_that_fulfilled_every_criterion_counts_as_passed() -> None:
    found = entry(Past(run("r1", "2026-01-31T12:00:00Z", measures={"application": {}})))
    assert found.state is State.NEVER_PASSED
    assert found.attempt is not None
    assert found.attempt.verdict == "unknown"
    assert "Users can login: unknown" in found.reasons[0]


def test_a_failed_run_after_a_passed_one_is_said_and_a_refused_one_disproves_nothing() -> None:
    passed = run("r1", "2026-01-31T12:00:00Z")
    refused = run("r2", "2026-02-02T12:00:00Z", verdict="refused")
    assert entry(Past(passed, refused)).state is State.CURRENT
    failed = entry(Past(passed, refused, run("r3", "2026-02-01T12:00:00Z", verdict="failed")))
    assert failed.state is State.FAILED
    assert failed.attempt is not None
    assert failed.attempt.run_id == "r2"
    assert entry(Past(passed, run("r3", "2026-01-01T12:00:00Z", verdict="failed"))).state is State.CURRENT


def test_a_run_from_the_future_or_in_check_mode_proves_nothing() -> None:
    assert entry(Past(run("r1", "2027-01-31T12:00:00Z"))).state is State.NEVER_PASSED
    assert entry(Past(run("r1", "2026-01-31T12:00:00Z", check_mode=True))).state is State.NEVER_PASSED


def test_a_run_that_had_nothing_to_do_is_no_attempt() -> None:
    passed, idle = run("r1", "2026-01-31T12:00:00Z"), run("r2", "2026-02-02T12:00:00Z", measures={}, run={"done": True})
    found = entry(Past(passed, idle))
    assert (found.state, found.reasons) == (State.CURRENT, ())
    assert found.attempt is not None
    assert found.attempt.run_id == "r1"


def test_what_another_cluster_proved_counts_for_that_one_alone() -> None:
    past = Past(run("r1", "2026-01-31T12:00:00Z", cluster="other"))
    found = due.entries(POLICY, past.past, past.clusters(), due.Now(at("2026-02-01"), {}, lambda *_: None))
    assert {(one.cluster, one.test, one.state) for one in found} >= {
        ("minimarket", "full_site", State.NEVER_PASSED),
        ("other", "full_site", State.CURRENT),
        ("other", "backup_restoration", State.NEVER_PASSED),
    }


def size(size_bytes: int | None, **others: int) -> dict[str, Any]:
    return {
        "hosts": {"a-db1": {"size_bytes": size_bytes}, **{name: {"size_bytes": one} for name, one in others.items()}, "wit1": {}}
    }


PASSED = {"versions": {"postgresql": "17.6"}, "digests": {"inventory": "a" * 64, "commit": "c1"}}


@pytest.mark.parametrize(
    ("later", "reason"),
    [
        ({"versions": {"postgresql": "17.7"}}, "PostgreSQL: proven with 17.6, now 17.7"),
        ({"digests": {"inventory": "b" * 64}}, "inventory: proven with aaaaaaaaaaaa…, now bbbbbbbbbbbb…"),
        ({"digests": {"commit": "c2"}}, "runbooks: proven with c1, now c2"),
        ({"versions": {"application": "1.4.2"}}, "application build: proven with 1.4.1, now 1.4.2"),
        ({"versions": {"keys": "k2"}}, "encryption keys: proven with k1, now k2"),
        ({"status": size(151)}, "database size: proven with 100, now 151"),
        ({"status": size(49)}, "database size: proven with 100, now 49"),
    ],
)
def test_whatever_changed_since_needs_to_be_verified(later: dict[str, Any], reason: str) -> None:
    known = {"versions": {"postgresql": "17.6", "application": "1.4.1", "keys": "k1"}, "status": size(100)}
    nightly = run("r2", "2026-02-01T12:00:00Z", "check_passed", **{**PASSED, **known})
    past = [run("r1", "2026-01-31T12:00:00Z", **{**PASSED, **known}), nightly]
    assert entry(Past(*past)).state is State.CURRENT
    merged = {
        name: {**PASSED.get(name, {}), **known.get(name, {}), **later.get(name, {})} for name in ("versions", "digests", "status")
    }
    found = entry(Past(*past, run("r3", "2026-02-02T12:00:00Z", "check_passed", **merged)))
    assert found.state is State.NEEDS_VERIFIED
    assert found.reasons == (reason,)


def test_a_database_that_grew_less_than_the_share_is_still_proven() -> None:
    first = run("r1", "2026-01-31T12:00:00Z", status=size(100))
    assert (
        entry(Past(first, run("r2", "2026-02-01T12:00:00Z", "check_passed", status=size(150), digests=first.digests))).state
        is State.CURRENT
    )


def test_two_ways_to_measure_a_size_are_not_compared_with_each_other() -> None:
    def past(**later: Any) -> Past:
        first = run("r1", "2026-01-31T12:00:00Z", measures={"restore_tests": [{"live_bytes": 100}, {"live_bytes": 90}]})
        return Past(first, run("r2", "2026-02-01T12:00:00Z", "check_passed", digests=first.digests, **later))

    assert entry(past(status=size(900))).state is State.CURRENT
    assert entry(past(measures={"restore_tests": [{"live_bytes": 900}]})).state is State.NEEDS_VERIFIED


def test_what_the_test_did_not_say_is_taken_from_what_was_known_then_or_first_after_it() -> None:
    def past(*others: Record) -> Past:
        return Past(run("r5", "2026-01-31T12:00:00Z", digests={"commit": None, "commit_dirty": None}), *others)

    def check(number: int, day: str, version: str) -> Record:
        digests = {"commit": None, "commit_dirty": None}
        return run(f"r{number}", f"{day}T12:00:00Z", "check_passed", versions={"postgresql": version}, digests=digests)

    changed = "PostgreSQL: proven with 17.6, now 17.7"
    assert entry(past(check(1, "2026-01-30", "17.6"), check(6, "2026-02-01", "17.7"))).reasons == (changed,)
    assert entry(past(check(6, "2026-02-01", "17.6"), check(7, "2026-02-02", "17.7"))).reasons == (changed,)
    alone = entry(past(check(6, "2026-02-01", "17.6")))
    assert alone.state is State.CURRENT
    assert {"runbooks", "encryption keys"} <= set(alone.unobserved)
    assert "PostgreSQL" not in alone.unobserved


def test_what_is_seen_now_counts_before_any_run_says_it() -> None:
    past = Past(run("r1", "2026-01-31T12:00:00Z", **PASSED))
    found = entry(past, observed={"digests.inventory": "b" * 64})
    assert found.state is State.NEEDS_VERIFIED
    assert entry(past, observed={"digests.inventory": "a" * 64}).state is State.CURRENT


def test_two_commits_with_the_same_runbooks_are_no_change() -> None:
    other = run("r2", "2026-02-01T12:00:00Z", "check_passed", digests={**PASSED["digests"], "commit": "c2"})
    past = Past(run("r1", "2026-01-31T12:00:00Z", **PASSED), other)
    assert entry(past, same=True).state is State.CURRENT
    assert entry(past, same=False).state is State.NEEDS_VERIFIED
    assert entry(past, same=None).state is State.NEEDS_VERIFIED


def test_an_overdue_test_that_changed_says_both() -> None:
    past = Past(run("r1", "2026-01-31T12:00:00Z", **PASSED))
    found = entry(past, "2026-09-01", observed={"digests.inventory": "b" * 64})
    assert (found.state, found.overdue) == (State.NEEDS_VERIFIED, True)


def test_a_long_past_is_not_read_whole() -> None:
    years = [run(f"r{number}", f"{1900 + number}-01-31T12:00:00Z", verdict="refused") for number in range(1, 126)]
    past = Past(*years)
    assert entry(past).state is State.NEVER_PASSED
    assert len(past.asked) == due.ATTEMPTS


DAYS = st.dates(at("2024-01-01").date(), at("2028-01-01").date()).map(str)


@given(
    st.lists(
        st.tuples(DAYS, st.sampled_from(["passed", "failed", "refused", "partial"])), max_size=5, unique_by=lambda one: one[0]
    ),
    DAYS,
)
def test_laws(runs: list[tuple[str, str]], today: str) -> None:
    past = Past(*(run(f"r-{day}", f"{day}T12:00:00Z", verdict=verdict) for day, verdict in runs))
    found = entry(past, today)
    passed = max((day for day, verdict in runs if verdict == "passed" and day <= today), default=None)
    assert (found.passed.at[:10] if found.passed else None) == passed
    if found.state in {State.CURRENT, State.DUE}:
        assert passed is not None
        assert not found.overdue
        assert not any(day > passed and verdict == "failed" for day, verdict in runs if day <= today)
    assert found.overdue == (found.due_at is None or found.due_at < f"{today}T12:00:00.000000Z")
    assert found.document()["state"] == found.state.value


def test_dates_go_into_peoples_calendars() -> None:
    found = [entry(Past(run("r1", "2026-01-31T12:00:00Z"))), entry(Past(), "2026-03-01")]
    calendar = icalendar.Calendar.from_ical(appointments.write(found, at("2026-03-01")))
    events = calendar.walk("VEVENT")
    assert [str(event.decoded("dtstart")) for event in events] == ["2026-07-31", "2026-03-01"]
    assert [str(event["summary"]) for event in events] == [
        "Full site failover test: minimarket (CURRENT)",
        "Full site failover test: minimarket (NEVER PASSED)",
    ]
