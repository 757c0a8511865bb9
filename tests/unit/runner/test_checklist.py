"""The checklist: proven, unproven or failed, each line by what it really rests on."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest

from relevo import checklist, policy_file
from relevo.checklist import READY, Checklist, Line, State
from relevo.findings import Finding, Severity
from relevo.findings import State as FindingState
from relevo.pages import Library, Page, Problem
from relevo.policy import Policy
from relevo.record import Record
from relevo.sign_offs import SignOff
from relevo.verified import Standing, Verification
from tests.unit.runner import year
from tests.unit.runner.looks import ALL_PAGES, EXAMPLE, beside, look

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
YESTERDAY = "2026-11-27T12:00:00.000000Z"
SIGNED = SignOff("runbooks", "Mira Paz", "read, and they are right", "c" * 40, "2026-10-01T09:00:00.000000Z", "mira")
FINDING = Finding("F-1", "minimarket", "DNS is slow", Severity.HIGH, "mira", "2026-12-31", None, YESTERDAY, "ana")


@cache
def records() -> tuple[Record, ...]:
    return year.records(NOW)


def judge(
    runs: Any = None, at: datetime = NOW, policy: Policy = EXAMPLE, cluster: str = "minimarket", besides: Any = None, **said: Any
) -> Checklist:
    seen = look(at, records() if runs is None else runs, policy, **{"acknowledged_at": YESTERDAY, "signed": [SIGNED], **said})
    return checklist.judge(seen, besides or beside(), cluster)


def line(found: Checklist, name: str) -> Line:
    return next(one for one in found.lines if one.line == name)


def without(*runbooks: str, since: datetime = NOW - timedelta(days=400)) -> list[Record]:
    """The year without runs of these from a time on."""
    return [record for record in records() if record.runbook not in runbooks or record.opened_at < since.isoformat()]


def changed(runbook: str, **changes: Any) -> list[Record]:
    """The year with its newest run of a runbook changed."""
    newest = max((record for record in records() if record.runbook == runbook), key=lambda record: record.opened_at)
    other = Record.model_validate({**newest.model_dump(), **changes})
    return [other if record is newest else record for record in records()]


def test_a_year_of_tests_with_people_and_pages_is_ready() -> None:
    found = judge()
    assert [one.line for one in found.open] == []
    assert found.status == READY == "READY FOR PRODUCTION"
    assert found.counts == {State.PROVEN: 19, State.UNPROVEN: 0, State.FAILED: 0}
    assert all(proof.sentence and (proof.at or proof.kind == "escalation") for one in found.lines for proof in one.proofs)
    restored = line(found, "Monthly backup restoration tests").proofs[0]
    assert (restored.rests_on, restored.at, restored.until) == (
        "20261127T051226Z-restore_test-f53e",
        "2026-11-27T05:14:08.245000Z",
        "2026-12-27T05:14:08.245000Z",
    )


def test_a_cluster_that_never_ran_has_nothing_proven_by_a_run_and_is_not_ready() -> None:
    found = judge(runs=())
    for one in found.lines:
        by_runs = {"test", "run", "objective"} & {proof.kind for proof in one.proofs}
        assert one.state is (State.UNPROVEN if by_runs else State.PROVEN), one.line
    assert found.status.startswith("NOT READY: 11 of 19 lines not proven: Hourly backups configured; ")


def test_a_policy_without_a_checklist_is_never_ready() -> None:
    found = judge(policy=policy_file.parse("checklist: []", "p.yml"))
    assert (found.ready, found.status) == (False, "NOT READY: the policy has no checklist")


GATES = [{"id": "COVERAGE", "phase": "VERIFY", "host": "repository 1", "verdict": "fail", "observed": "23/24"}]


@pytest.mark.parametrize(
    ("runs", "name", "state", "word"),
    [
        (
            lambda: changed("verify_backup", gates=GATES, verdict="failed"),
            "Hourly backups configured",
            State.FAILED,
            "is fail, expected pass",
        ),
        # Last night's run was cut off: the night before still holds.
        (
            lambda: changed("verify_backup", gates=[], verdict="interrupted"),
            "Hourly backups configured",
            State.PROVEN,
            "2026-11-27",
        ),
        (
            lambda: without("verify_backup", since=NOW - timedelta(days=3)),
            "Hourly backups configured",
            State.UNPROVEN,
            "no run of verify_backup",
        ),
        (lambda: changed("failover", measures={"rto_seconds": 14401.0}), "RTO target achievable", State.FAILED, "4 h 00 min"),
        (
            lambda: changed("failover", measures={"rto_seconds": 14400.0}),
            "RTO target achievable",
            State.PROVEN,
            "target 4 h 00 min",
        ),
        (lambda: without("failover"), "RTO target achievable", State.UNPROVEN, "no failover or switchover measured it"),
        (lambda: changed("failover", verdict="failed"), "Failover procedures automated", State.FAILED, "the run ended as failed"),
        (lambda: changed("failover", verdict="failed"), "Quarterly failover tests", State.FAILED, "failed since"),
        (lambda: changed("failover", verdict="partial"), "Failover procedures automated", State.PROVEN, "2026-07-18"),
        (lambda: changed("check", gates=[]), "DR site provisioned", State.UNPROVEN, "not observed"),
        (lambda: changed("restore_test", check_mode=True), "PITR (Point-In-Time Recovery) tested", State.PROVEN, "2026-10-28"),
        (
            lambda: changed("check", versions={"postgresql": "18.0"}),
            "Annual full site DR test",
            State.UNPROVEN,
            "to be verified again: PostgreSQL",
        ),
    ],
)
def test_what_runs_say(runs: Any, name: str, state: State, word: str) -> None:
    found = line(judge(runs()), name)
    assert (found.state, [word in proof.sentence for proof in found.proofs]) == (state, [True])


@pytest.mark.parametrize(
    ("name", "until"),
    [
        ("Hourly backups configured", timedelta(days=2)),
        ("Monthly backup restoration tests", timedelta(days=30)),
        ("RPO target achievable", timedelta(days=182)),
    ],
)
def test_a_proof_holds_until_the_date_that_it_names(name: str, until: timedelta) -> None:
    proven = line(judge(), name)
    end = datetime.fromisoformat(str(proven.until))
    assert abs(end - datetime.fromisoformat(str(proven.at)) - until) < timedelta(days=1)
    assert line(judge(at=end - timedelta(seconds=1)), name).state is State.PROVEN
    assert line(judge(at=end + timedelta(seconds=1)), name).state is State.UNPROVEN


def test_pages_that_do_not_match_disprove_and_no_checkout_proves_nothing() -> None:
    wrong = Page("failback", (Problem("docs/runbooks/failback.md", 7, "it names dr_x, which no playbook and no role knows"),))
    library = Library({**ALL_PAGES.pages, "failback": wrong}, None, None)
    found = line(judge(besides=beside(library=library)), "Recovery procedures documented")
    assert (found.state, found.proofs[0].sentence) == (State.FAILED, wrong.problems[0].sentence)
    assert line(judge(besides=beside(library=None)), "DR procedures documented").state is State.UNPROVEN
    gone = Library({name: page for name, page in ALL_PAGES.pages.items() if name != "failover"}, None, None)
    assert "there is no such playbook" in line(judge(besides=beside(library=gone)), "DR procedures documented").proofs[0].sentence


def test_a_sign_off_is_of_the_pages_as_they_were() -> None:
    name = "Runbooks reviewed"
    assert line(judge(), name).proofs[0].rests_on == "Mira Paz"
    assert line(judge(signed=[]), name).state is State.UNPROVEN
    assert line(judge(signed=[replace(SIGNED, subject="20261017T101218Z-failover-35ee")]), name).state is State.UNPROVEN
    assert line(judge(signed=[replace(SIGNED, at="2025-11-01T00:00:00.000000Z")]), name).state is State.UNPROVEN
    assert line(judge(signed=[replace(SIGNED, at="2027-01-01T00:00:00.000000Z")]), name).state is State.UNPROVEN
    rewritten = line(judge(besides=beside(rewritten={"c" * 40: ["docs/runbooks/failover.md"]})), name)
    assert rewritten.state is State.UNPROVEN
    assert "1 page changed since: failover.md" in rewritten.proofs[0].sentence
    assert line(judge(besides=beside(rewritten={"c" * 40: None})), name).state is State.PROVEN


def test_contacts_and_escalation() -> None:
    assert line(judge(acknowledged_at=None), "Contact list up to date").state is State.UNPROVEN
    old = line(judge(acknowledged_at="2026-08-01T00:00:00.000000Z"), "Contact information current")
    assert "Ana Sosa: overdue" in old.proofs[0].sentence
    nobody = judge(policy=policy_file.parse(None, "the built-in policy"))
    assert line(nobody, "Contact list up to date").proofs[0].sentence == "the policy names no contact"
    assert line(nobody, "Escalation procedures defined").state is State.UNPROVEN


VERIFIED = Verification("2026-11-27T12:00:00.000000Z", "ana", 815, 816, "0" * 64, 0, ())


@pytest.mark.parametrize(
    ("standing", "state", "word"),
    [
        (Standing(), State.UNPROVEN, "nobody has verified"),
        (Standing(VERIFIED, 3), State.PROVEN, "815 records verified 1 d 0 h ago, 3 came since"),
        (Standing(replace(VERIFIED, at="2026-11-20T12:00:00.000000Z")), State.UNPROVEN, "too long ago"),
        (Standing(replace(VERIFIED, problems=1, sentences=("run1: edited",))), State.FAILED, "1 problem: run1: edited"),
        (Standing(VERIFIED, 0, holds=False), State.FAILED, "no longer has its entry 816"),
    ],
)
def test_records_are_proven_by_a_verification_of_this_week(standing: Standing, state: State, word: str) -> None:
    found = line(judge(besides=beside(verification=standing)), "Test results documented")
    assert (found.state, word in found.proofs[0].sentence) == (state, True)


def test_findings_that_are_overdue_disprove_and_a_failed_test_without_one_is_not_tracked() -> None:
    name = "Issues tracked to resolution"
    assert line(judge(findings=[FINDING]), name).until == "2026-12-31T23:59:59.999999Z"
    late = replace(FINDING, due="2026-11-27")
    assert "overdue: F-1 DNS is slow (mira, due 2026-11-27)" in line(judge(findings=[late]), name).proofs[0].sentence
    assert line(judge(findings=[replace(late, cluster="other")]), name).state is State.PROVEN
    assert line(judge(findings=[replace(late, state=FindingState.CLOSED)]), name).state is State.PROVEN
    failed = changed("failover", verdict="failed")
    (run_id,) = [
        record.run_id
        for record in failed
        if record.verdict == "failed" and record.opened_at > "2026-10-01" and record.runbook == "failover"
    ]
    assert run_id in line(judge(failed), name).proofs[0].sentence
    assert line(judge(failed, findings=[replace(FINDING, run_id=run_id)]), name).state is State.PROVEN


def test_each_clause_shows_the_lines_that_answer_it() -> None:
    clauses = judge().clauses
    assert set(clauses) == {
        "DORA Article 25",
        "ISO 22301 8.5",
        "ISO/IEC 27001 A.8.13",
        "NIST SP 800-53 CP-10",
        "NIST SP 800-53 CP-4",
        "NIST SP 800-53 CP-9",
        "SOC 2 A1.2",
        "SOC 2 A1.3",
    }
    assert [one.line for one in clauses["ISO/IEC 27001 A.8.13"]] == [
        "Hourly backups configured",
        "Backups stored in multiple regions",
        "Backup integrity verified weekly",
        "Monthly backup restoration tests",
    ]


def test_a_test_that_the_cluster_does_not_owe_is_not_proven_by_that() -> None:
    policy = policy_file.parse("clusters: {minimarket: {tests: [backup_restoration]}}", "p.yml")
    found = line(judge(policy=policy), "Quarterly failover tests")
    assert (found.state, found.proofs[0].sentence) == (State.UNPROVEN, "the policy asks no partial failover test of this cluster")
