from __future__ import annotations

import itertools
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevo import findings
from relevo.entries import Entry, Speaker, make
from relevo.errors import StoreError, UsageError
from relevo.findings import Finding, Severity, State
from tests.unit.runner.past import run

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
_minutes = itertools.count()


def said(event: str, subject: str = "F-1", **words: Any) -> Entry:
    return make(Speaker("ana", "ctl1", NOON + timedelta(minutes=next(_minutes) % 600)), findings.KIND, subject, event, words)


def opened(subject: str = "F-1", due: str = "2026-12-31", run_id: str | None = "r1") -> Entry:
    return said(findings.OPENED, subject, **findings.opened("DNS is slow", Severity.HIGH, "mira", due, ("minimarket", run_id)))


def finding(*later: Entry) -> Finding:
    (found,) = findings.fold([opened(), *later])
    return found


def retest(verdict: str) -> Entry:
    return said(findings.RETESTED, run_id="r2", verdict=verdict)


def closing(**words: Any) -> Entry:
    return said(findings.CLOSED, resolution="mended", accepted_without_retest=None, **words)


def test_a_finding_goes_from_open_over_a_passed_retest_to_closed() -> None:
    assert finding().state is State.OPEN
    assert finding(retest("failed")).state is State.OPEN
    assert finding(retest("failed"), retest("passed")).state is State.RETESTED
    assert finding(retest("passed"), retest("failed")).state is State.OPEN
    closed = finding(retest("passed"), closing())
    assert (closed.state, closed.closed_by, closed.resolution) == (State.CLOSED, "ana", "mended")
    assert [one.run_id for one in closed.retests] == ["r2"]


@given(st.lists(st.sampled_from(["passed", "failed", "close"]), max_size=8))
def test_the_first_closing_word_holds(words: list[str]) -> None:
    entries = [closing() if word == "close" else retest(word) for word in words]
    first = opened()
    (found,) = findings.fold([first, *entries])
    if "close" in words:
        position = words.index("close")
        assert [found] == findings.fold([first, *entries[: position + 1]])
        assert found.closed_at == entries[position].at
    else:
        assert found.state is (State.RETESTED if words[-1:] == ["passed"] else State.OPEN)


def test_what_is_said_of_another_finding_or_of_none_changes_nothing() -> None:
    one, two = findings.fold(
        [opened(), opened("F-2"), said(findings.CLOSED, "F-2", resolution="x"), said(findings.CLOSED, "F-3"), said("odd")]
    )
    assert (one.state, two.state) == (State.OPEN, State.CLOSED)


def test_it_is_overdue_on_the_day_after_its_date_until_it_is_closed() -> None:
    assert not finding().is_overdue(date(2026, 12, 31))
    assert finding().is_overdue(date(2027, 1, 1))
    assert finding(retest("passed")).is_overdue(date(2027, 1, 1))
    assert not finding(retest("passed"), closing()).is_overdue(date(2027, 1, 1))


@pytest.mark.parametrize(
    ("deficiency", "owner", "due", "sentence"),
    [
        ("x", "y", "soon", "2026-12-31"),
        ("x", "y", "2026-02-30", "2026-12-31"),
        (" ", "y", "2026-12-31", "in words"),
        ("x", "", "2026-12-31", "owner"),
    ],
)
def test_an_incomplete_finding_is_refused(deficiency: str, owner: str, due: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        findings.opened(deficiency, Severity.LOW, owner, due, ("minimarket", None))


def test_only_a_later_run_of_the_same_cluster_that_did_something_is_a_retest() -> None:
    later = "2026-12-01T12:00:00Z"
    assert findings.retested(finding(), run("r9", later)) == {"run_id": "r9", "verdict": "passed"}
    for wrong, sentence in (
        (run("r9", later, cluster="other"), "is of the cluster other"),
        (run("r9", later, check_mode=True), "check mode"),
        (run("r9", "2026-11-01T12:00:00Z"), "expected a later one"),
        (run("r1", later), "expected a later one"),
    ):
        with pytest.raises(UsageError, match=sentence):
            findings.retested(finding(), wrong)


def test_nothing_is_closed_without_a_retest_or_a_reason() -> None:
    with pytest.raises(UsageError, match="has no passed re-test"):
        findings.closed(finding(retest("failed")), "mended", None)
    with pytest.raises(UsageError, match="has no passed re-test"):
        findings.closed(finding(), "mended", "  ")
    with pytest.raises(UsageError, match="what was done"):
        findings.closed(finding(retest("passed")), " ", None)
    assert findings.closed(finding(), "page corrected", "a word on a page")["accepted_without_retest"] == "a word on a page"
    assert findings.closed(finding(retest("passed")), "mended", "why")["accepted_without_retest"] is None
    for act in (lambda one: findings.closed(one, "x", "y"), lambda one: findings.retested(one, run("r9", "2026-12-01T12:00:00Z"))):
        with pytest.raises(UsageError, match="was closed at"):
            act(finding(retest("passed"), closing()))


def test_an_unknown_one_is_answered_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="Findings: F-1"):
        findings.choose([finding()], "F-2")
    assert findings.choose([finding()], "F-1").deficiency == "DNS is slow"


def test_an_entry_that_opens_nothing_is_no_shorter_list() -> None:
    with pytest.raises(StoreError, match="opens no finding"):
        findings.fold([said(findings.OPENED, severity="odd")])
