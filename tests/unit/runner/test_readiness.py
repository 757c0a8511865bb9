"""The readiness report: what it says was measured, what was not says so, and the weightiest reason decides."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest

from relevo import assessment, briefing, chart, policy_file
from relevo.briefing import About, Form
from relevo.findings import Finding, Severity
from relevo.prediction import Estimate, Prediction, Way
from relevo.readiness import Coverage, Outcome, Readiness, Weight
from relevo.record import Record
from relevo.sign_offs import SignOff
from relevo.verified import Standing
from tests.unit.runner import year
from tests.unit.runner.looks import EXAMPLE, beside, look
from tests.unit.runner.sheets import BOTTOM, HEIGHT, SIDE, WIDTH, paper_text, sheets

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
YESTERDAY = "2026-11-27T12:00:00.000000Z"
SIGNED = SignOff("runbooks", "Mira Paz", "read, and they are right", "c" * 40, YESTERDAY, "mira")
FINDING = Finding(
    "F-1", "minimarket", "DNS is slow", Severity.HIGH, "mira", "2026-12-31", None, "2026-11-25T12:00:00.000000Z", "ana"
)
PROVABLE = policy_file.parse(
    "clusters: {minimarket: {tier: critical}}\n"
    "contacts: {ana: {name: Ana Sosa, role: SRE}}\n"
    "escalation: [{after: 0 min, contacts: [ana], then: decide}]\n",
    "policy.yml",
)
ABOUT = About("2026-11-28T12:00:00.000000Z", {"source": "policy.yml", "sha256": None}, "ctl1")


@cache
def records() -> tuple[Record, ...]:
    return year.records(NOW)


def report(runs: Any = None, weeks: int = 1, besides: Any = None, policy: Any = PROVABLE, **said: Any) -> Readiness:
    seen = look(NOW, records() if runs is None else runs, policy, **{"acknowledged_at": YESTERDAY, "signed": [SIGNED], **said})
    return assessment.report(seen, besides or beside(), "minimarket", NOW - timedelta(weeks=weeks))


def without_keys() -> list[Record]:
    """A year in which nobody recovered them."""
    return [record for record in records() if record.runbook != "recover_keys"]


def changed(runbook: str, **changes: Any) -> list[Record]:
    newest = max((record for record in records() if record.runbook == runbook), key=lambda record: record.opened_at)
    return [Record.model_validate({**one.model_dump(), **changes}) if one is newest else one for one in records()]


def test_a_year_of_tests_is_ready() -> None:
    found = report()
    assert (found.outcome, found.reasons) == (Outcome.READY, ())
    tree = found.document()
    assert tree["tests"] == {
        "backup_verification": "passed",
        "recovery_time": "met",
        "data_integrity": "passed",
        "documentation": "passed",
        "team_readiness": "ready",
    }
    assert tree["metrics"] == {
        "rpo_achieved_seconds": 0.0,
        "rto_achieved_seconds": 15.764,
        "backup_success_rate": 1.0,
        "failover_tests_completed": 0,
        "failover_tests_completed_in_all": 4,
    }
    assert (tree["week"], tree["verdict"]) == ("2026-W48", "ready")
    assert report(weeks=7).failovers.in_period == 1


@pytest.mark.parametrize(
    ("ages", "seconds"),
    [
        ({"a": {"1": 60.0, "2": 7200.0}, "b": {"1": 90000.0, "2": 100.0}}, 100.0),
        ({"a": {"1": 90000.0, "2": None}}, 90000.0),
        ({"a": {"1": 60.0}, "b": {"1": None, "2": None}}, None),
        ({}, None),
    ],
)
def test_files_may_be_as_old_as_where_they_are_worst_in_the_repository_where_they_are_best(
    ages: dict[str, dict[str, float | None]], seconds: float | None
) -> None:
    files = {
        host: {number: {"age_seconds": {"configuration": age, "application": 5.0}} for number, age in repositories.items()}
        for host, repositories in ages.items()
    }
    found = {loss["kind"]: loss for loss in report(changed("verify_backup", measures={"files": files})).document()["losses"]}
    assert found["configuration"]["measured_seconds"] == seconds
    assert found["configuration"]["verdict"] == ("unknown" if seconds is None else "met" if seconds <= 86400 else "missed")
    assert (found["configuration"]["run_id"] is None) is (seconds is None)
    assert (found["keys"]["measured_seconds"], found["keys"]["verdict"]) == (None, "unknown")


def test_a_loss_that_nobody_asks_is_no_line_and_no_doubt() -> None:
    policy = policy_file.parse("rpo: {configuration: null, application: null, keys: null}", "policy.yml")
    assert report(changed("verify_backup", measures={}), policy=policy).losses == ()


def test_what_nobody_measured_is_null_and_never_zero() -> None:
    found = report(runs=())
    assert found.outcome is Outcome.NOT_READY
    tree = found.document()
    assert (
        tree["metrics"]["rto_achieved_seconds"]
        is tree["metrics"]["rpo_achieved_seconds"]
        is tree["metrics"]["backup_success_rate"]
        is None
    )
    assert tree["tests"]["backup_verification"] is tree["tests"]["data_integrity"] is tree["tests"]["recovery_time"] is None
    words = [(card.value, card.mood) for card in briefing.cards(found)]
    assert words[:3] == [("not measured", "doubt"), ("not measured", "doubt"), ("not observed", "doubt")]
    assert report(besides=beside(library=None)).document()["tests"]["documentation"] is None


@pytest.mark.parametrize(
    ("made", "outcome", "word"),
    [
        (lambda: report(changed("failover", verdict="failed")), Outcome.NOT_READY, "FAILED: run"),
        (
            lambda: report(changed("failover", measures={"rto_seconds": 14401.0})),
            Outcome.NOT_READY,
            "Recovery time (RTO): missed, 4 h 00 min",
        ),
        (
            lambda: report(changed("verify_backup", verdict="failed")),
            Outcome.NOT_READY,
            "newest verification of the backups is failed",
        ),
        (lambda: report(changed("restore_test", verdict="failed")), Outcome.NOT_READY, "does not prove the data whole"),
        (lambda: report(without_keys(), policy=EXAMPLE), Outcome.NOT_READY, "Encryption key recovery: NEVER PASSED"),
        (lambda: report(findings=[replace(FINDING, due="2026-11-27")]), Outcome.NOT_READY, "was due 2026-11-27"),
        (
            lambda: report(
                changed(
                    "verify_backup",
                    measures={"files": {"a": {"1": {"age_seconds": {"configuration": 90000.0, "application": 1.0}}}}},
                )
            ),
            Outcome.DOUBTS,
            "Loss of configuration: missed, the newest copy was 1 d 1 h old when it was looked at, target 1 d 0 h.",
        ),
        (
            lambda: report(changed("verify_backup", measures={})),
            Outcome.DOUBTS,
            "Loss of configuration and application: not measured",
        ),
        (lambda: report(findings=[FINDING]), Outcome.DOUBTS, "due 2026-12-31"),
        (lambda: report(changed("check", versions={"postgresql": "18.0"})), Outcome.DOUBTS, "NEEDS VERIFIED: PostgreSQL"),
        (lambda: report(acknowledged_at=None), Outcome.DOUBTS, "Contact data not acknowledged: Ana Sosa"),
        (lambda: report(signed=[]), Outcome.DOUBTS, "1 of 19 lines not proven: Runbooks reviewed"),
        (lambda: report(besides=beside(library=None)), Outcome.DOUBTS, "were not looked at"),
        (lambda: report(besides=beside(verification=Standing())), Outcome.DOUBTS, "nobody has verified the records yet"),
        (lambda: report(weeks=52), Outcome.DOUBTS, "of 364 backup runs did not pass"),
    ],
)
def test_the_heaviest_reason_decides(made: Any, outcome: Outcome, word: str) -> None:
    found = made()
    assert found.outcome is outcome
    assert any(word in reason.sentence for reason in found.reasons), found.reasons
    weights = [reason.weight for reason in found.reasons]
    assert weights == sorted(weights, key=lambda one: one is Weight.DOUBT)


def test_the_success_rate_is_of_the_hours_that_verifications_looked_at() -> None:
    found = report(weeks=52).backups
    first, second = found.coverage
    nights = sum(record.runbook == "verify_backup" for record in records())
    assert (first.repository, first.periods, second.covered) == ("1", second.periods, second.periods)
    assert (
        first.periods - first.covered
        == len(first.missing)
        == sum(r.verdict == "failed" for r in records() if r.runbook == "verify_backup")
    )
    # The first nights may be older than the period.
    assert nights * 24 - first.periods in {0, 24, 48}
    assert found.success_rate == first.covered / first.periods < 1
    assert briefing.percent(found.success_rate) == "99.9 %"
    assert briefing.percent(0.99999) == "99.9 %"
    assert Coverage("1", 0, 0, ()).share is None


def test_a_verification_before_the_first_whole_period_is_not_called_none() -> None:
    def note(verifications: int) -> str:
        found = report(weeks=52)
        early = replace(found, backups=replace(found.backups, coverage=(), verifications=verifications))
        return next(card.note for card in briefing.cards(early) if card.title == "Backup success rate")

    assert (note(1), note(0)) == ("no whole period between backups yet", "no verification in this period")


def test_what_changed_is_said() -> None:
    found = report(findings=[FINDING])
    assert "Finding F-1 was opened: DNS is slow." in found.changes
    assert "Ana Sosa acknowledged their contact data." in found.changes
    assert "Mira Paz signed off runbooks: read, and they are right." in found.changes
    assert "Backup restoration test: DUE became CURRENT." in found.changes
    half = report(weeks=26)
    assert "Postgresql: 17.5 became 17.6." in half.changes
    assert dict(half.runs)["failover"] == {"passed": 2, "refused": 1, "interrupted": 1}


def test_findings_stand_with_the_overdue_first_and_all_dates_in_order() -> None:
    late, soon = replace(FINDING, id="F-2", due="2026-11-20", severity=Severity.LOW), replace(FINDING, id="F-3", due="2026-12-01")
    found = report(findings=[FINDING, soon, late])
    assert [one.id for one in found.findings] == ["F-2", "F-3", "F-1"]
    assert [one.at for one in found.dates] == sorted(one.at for one in found.dates)
    assert [one.what for one in found.dates if one.over] == ["Finding F-2 is due: DNS is slow (mira)"]
    assert "Partial failover test is due" in [one.what for one in found.dates]


def expecting(estimate: Estimate, limit_seconds: float) -> Readiness:
    way = Way("promote", estimate.runs, {}, Estimate(), estimate, Estimate())
    made = Prediction("failover", "minimarket", YESTERDAY, estimate.runs, {}, (way,), limit_seconds, ())
    seen = replace(look(NOW, records(), PROVABLE, acknowledged_at=YESTERDAY, signed=[SIGNED]), predictions={"minimarket": [made]})
    return assessment.report(seen, beside(), "minimarket", NOW - timedelta(weeks=1))


def test_what_nine_in_ten_take_is_said_with_the_number_of_runs() -> None:
    (expected,) = expecting(Estimate(20.0, 31.0, 35.0, 12), 60.0).expected
    assert expected.line.endswith("(median of 12 runs of this cluster); nine in ten within 31.0 s (P90 of 12 runs)")
    assert (expected.p50_seconds, expected.p90_seconds, expected.runs, expected.late) == (20.0, 31.0, 12, False)
    (few,) = expecting(Estimate(20.0, None, 35.0, 4), 60.0).expected
    assert few.line.endswith("; no P90 from 4 runs")
    (far,) = expecting(Estimate(80.0, None, 35.0, 12, 12, 2.3), 100.0).expected
    assert far.line.endswith("; no P90, since today's size is far beyond what was measured")
    (nothing,) = expecting(Estimate(), 60.0).expected
    assert (nothing.line, nothing.late) == ("no history", False)


def test_more_than_one_in_ten_over_the_limit_is_a_doubt() -> None:
    found = expecting(Estimate(20.0, 31.0, 35.0, 12), 30.0)
    (reason,) = found.reasons
    assert (found.outcome, reason.weight) == (Outcome.DOUBTS, Weight.DOUBT)
    assert reason.sentence.startswith("The next failover may take longer than 30.0 s: ")
    assert expecting(Estimate(20.0, 31.0, 35.0, 12), 31.0).reasons == ()


def test_rehearsals_do_not_make_a_failover_look_quicker() -> None:
    found = report()
    assert (found.rto.trend.count, found.rto.course.count) == (4, 10)
    assert {point.runbook for point in found.rto.trend.points} == {"failover"}
    assert found.rpo.tendency == "unchanged at 0 s, 4 measurements"
    (_, drawn), _ = chart.both(found.rto.course)
    assert len({spot.sign for spot in drawn.spots}) > 1


def test_one_measurement_is_no_course() -> None:
    found = report()
    once = replace(found.rto, course=replace(found.rto.course, points=found.rto.course.points[:1]))
    alone = replace(found, measured=(once, found.rpo))
    page = briefing.readiness([found], ABOUT, Form.HTML).decode()
    assert page.count("<figure>") - briefing.readiness([alone], ABOUT, Form.HTML).decode().count("<figure>") == 1


HOSTILE = "<script>alert(1)</script> | pipe\u202e " + "x" * 300


@pytest.mark.parametrize("form", [Form.HTML, Form.MARKDOWN])
def test_what_people_typed_is_no_markup(form: Form) -> None:
    found = report(findings=[replace(FINDING, deficiency=HOSTILE)])
    text = briefing.readiness([found], ABOUT, form).decode() + briefing.checklists([found.checklist], ABOUT, form).decode()
    assert "<script" not in text and "\u202e" not in text
    word = briefing.word_of_readiness(found, ABOUT)
    assert "<script" not in word.page and "\u202e" not in word.text + word.page + word.title


def test_the_page_holds_all_that_it_needs() -> None:
    page = briefing.readiness([report(), report(runs=())], ABOUT, Form.HTML).decode()
    assert "http" not in page.replace("http-equiv", "") and "<script" not in page and "url(" not in page
    assert page.count("<h1>") == 2
    for word in ("15.8 s", "168 of 168", "2026-11-27 05:14:08 UTC", "not measured", "READY FOR PRODUCTION", "None."):
        assert word in page, word


def test_the_sheets_hold_everything_within_their_margins() -> None:
    late = [replace(FINDING, id=f"F-{n}", due="2026-11-20", deficiency=HOSTILE) for n in range(30)]
    printed = briefing.readiness([report(findings=late), report(runs=())], ABOUT, Form.PDF)
    for sheet in sheets(printed):
        assert sheet.left >= SIDE - 1 and sheet.right <= WIDTH - SIDE + 1 and sheet.bottom >= BOTTOM - 1 and sheet.top <= HEIGHT
    text = paper_text(printed)
    assert "Readiness of minimarket" in text and "F-29" in text and "Page 1 of" in text
    listed = paper_text(briefing.checklists([report(findings=late).checklist], ABOUT, Form.PDF))
    assert "Status: NOT READY: 1 of 19 lines not proven: Issues tracked to resolution" in " ".join(listed.split())


def test_the_mail_says_the_verdict_first() -> None:
    word = briefing.word_of_readiness(report(without_keys(), policy=EXAMPLE, acknowledged_at=None), ABOUT)
    assert word.title == "NOT READY: minimarket - Encryption key recovery: NEVER PASSED: no run of this test yet"
    assert word.mood == "bad"
    for part in (word.text, word.page):
        assert "15.8 s" in part and "Contact data not acknowledged" in part and "2026-11-28 12:00:00 UTC" in part
    assert briefing.word_of_readiness(report(), ABOUT).title == "READY: minimarket"
    assert (
        briefing.word_of_a_checklist(report().checklist, ABOUT).title == "READY FOR PRODUCTION: minimarket - 19 of 19 lines proven."
    )
