"""A run seen as a test: over recorded streams and over what the modules' own code says."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from ansible_collections.relevo.dr.plugins.module_utils import restore_ladder
from hypothesis import given
from hypothesis import strategies as st

from relevo import criteria, policy_file
from relevo.criteria import FAIL, FAILED, PASS, PASSED, UNKNOWN
from relevo.history import summarize
from relevo.policy import Comparison, Criterion, RunEvidence
from tests.house.tree import COLLECTION, PLAYBOOKS, text
from tests.unit.runner.streams import record_of

POLICY = policy_file.parse(None, "defaults")
# What no runbook measures yet; whoever makes one of these takes it out of here.
NOT_MEASURED_YET = {"measures.application.p95_seconds", "measures.application.login"}
NO_RUNBOOK_YET: set[str] = set()


def criterion(comparison: str, threshold: Any, path: str = "measures.x") -> Criterion:
    return Criterion.model_validate({"name": "c", "measurement": path, "is": comparison, "threshold": threshold})


def restore_test(**changes: Any) -> dict[str, Any]:
    """A passed restore test of two backups, with rungs as the ladder itself says them."""

    def one() -> dict[str, Any]:
        ladder = restore_ladder.Ladder()
        for rung in restore_ladder.RUNGS:
            ladder.climb(rung, lambda: "seen")
        return {"rungs": ladder.told(), "verdict": restore_ladder.verdict(ladder.rungs), "target_kind": "time"}

    document = record_of("check_passed").document()
    return {**document, "runbook": "restore_test", "measures": {"restore_tests": [one(), one()]}, **changes}


@pytest.mark.parametrize(
    ("comparison", "threshold", "value", "verdict"),
    [
        ("equals", "pass", "pass", PASS),
        ("equals", "pass", "fail", FAIL),
        ("equals", "pass", "unknown", UNKNOWN),
        ("equals", "pass", "accepted", UNKNOWN),
        ("equals", "pass", "not_applicable", UNKNOWN),
        ("equals", "pass", None, UNKNOWN),
        ("equals", 0, 0.0, PASS),
        ("equals", 0, False, FAIL),
        ("equals", True, 1, FAIL),
        ("equals", [], [], PASS),
        ("equals", [], [7], FAIL),
        ("one_of", ["ok", "skipped"], "skipped", PASS),
        ("one_of", ["stopped", "isolated"], "attested", FAIL),
        ("below", 0.5, 0.499, PASS),
        ("below", 0.5, 0.5, FAIL),
        ("at_most", 3, 3, PASS),
        ("above", 3, 3, FAIL),
        ("at_least", 3, 3, PASS),
        ("at_least", "1 h", 3600, PASS),
        ("at_most", 3, "2", UNKNOWN),
        ("at_most", 3, True, UNKNOWN),
        ("at_most", 3, math.nan, UNKNOWN),
        ("at_most", 3, None, UNKNOWN),
    ],
)
def test_a_comparison(comparison: str, threshold: Any, value: Any, verdict: str) -> None:
    assert criteria.judge(criterion(comparison, threshold), {"measures": {"x": value}}).verdict == verdict


VALUES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.integers()))


@given(st.sampled_from(list(Comparison)), st.lists(st.one_of(st.none(), st.integers(0, 9))))
def test_one_value_that_nobody_observed_is_never_passed(comparison: Comparison, values: list[Any]) -> None:
    threshold = [1, 2] if comparison is Comparison.ONE_OF else 5
    judged = criteria.judge(criterion(comparison.value, threshold, "measures.x[*]"), {"measures": {"x": values}})
    if None in values or not values:
        assert judged.verdict != PASS


@given(st.sampled_from(list(Comparison)), VALUES)
def test_every_value_has_one_of_three_verdicts(comparison: Comparison, value: Any) -> None:
    threshold = ["a"] if comparison is Comparison.ONE_OF else 5
    assert criteria.judge(criterion(comparison.value, threshold), {"measures": {"x": value}}).verdict in {PASS, FAIL, UNKNOWN}


def test_a_recorded_site_drill_fulfils_all_but_what_nobody_measures_yet() -> None:
    outcome = criteria.judge_run(POLICY.tests["full_site"], record_of("failover_drill").document())
    assert {one.measurement for one in outcome.judgements if one.verdict != PASS} == {"measures.application.login"}
    assert outcome.verdict == UNKNOWN
    assert outcome.reasons == ("Users can login: unknown; measures.application.login is not observed, expected pass",)


def test_with_that_measured_it_is_passed() -> None:
    document = record_of("failover_drill").document()
    document["measures"]["application"] = {"login": "pass", "p95_seconds": 0.21}
    assert criteria.judge_run(POLICY.tests["full_site"], document).verdict == PASSED
    assert criteria.judge_run(POLICY.tests["partial_failover"], document).verdict == PASSED
    document["measures"]["application"]["p95_seconds"] = 0.5
    assert criteria.judge_run(POLICY.tests["partial_failover"], document).verdict == FAILED


def test_a_disaster_that_lost_three_transactions_is_no_passed_site_test() -> None:
    outcome = criteria.judge_run(POLICY.tests["full_site"], record_of("failover_disaster").document())
    assert outcome.verdict == FAILED
    assert "No data loss detected: fail; measures.ledger.lost is 3 transactions, expected 0 transactions" in outcome.reasons


def test_a_restore_test_is_passed_when_each_copy_holds() -> None:
    assert criteria.judge_run(POLICY.tests["backup_restoration"], restore_test()).verdict == PASSED
    broken = restore_test()
    broken["measures"]["restore_tests"][1]["rungs"][5]["verdict"] = "unknown"
    outcome = criteria.judge_run(POLICY.tests["backup_restoration"], broken)
    assert outcome.verdict == UNKNOWN
    assert "pages and indexes" in outcome.reasons[0]
    assert criteria.judge_run(POLICY.tests["backup_restoration"], restore_test(measures={})).verdict == UNKNOWN


@pytest.mark.parametrize(
    ("verdict", "as_test"),
    [("passed", PASSED), ("partial", UNKNOWN), ("refused", UNKNOWN), ("interrupted", UNKNOWN), ("failed", FAILED)],
)
def test_the_verdict_of_the_run_is_a_part_of_it(verdict: str, as_test: str) -> None:
    assert criteria.judge_run(POLICY.tests["backup_restoration"], restore_test(verdict=verdict)).verdict == as_test


def test_a_run_that_took_longer_than_its_limit_failed() -> None:
    outcome = criteria.judge_run(POLICY.tests["backup_restoration"], restore_test(duration_seconds=7200.5))
    assert outcome.verdict == FAILED
    assert outcome.reasons == ("Within its time: fail; duration_seconds is 7200.5 s, expected at most 2 h 00 min",)


@pytest.mark.parametrize(
    ("measurement", "observed", "threshold", "seen", "wanted"),
    [
        ("measures.rto_seconds", 15000.0, 14400, "4 h 10 min", "at most 4 h 00 min"),
        ("measures.rto_seconds", 14400.4, 14400, "14400.4 s", "at most 4 h 00 min"),
        ("measures.application.p95_seconds", 0.21, 0.5, "0.21 s", "at most 0.50 s"),
        ("measures.writable_overlap_seconds", None, 0, "not observed", "at most 0 s"),
        ("measures.loss_bytes", 1 << 24, 0, "16.0 MiB", "at most 0 B"),
        ("measures.ledger.lost", 1, 2.5, "1 transaction", "at most 2.5 transactions"),
        ("measures.count", 3, 4, "3", "at most 4"),
    ],
)
def test_what_was_seen_and_wanted_is_said_with_its_unit(
    measurement: str, observed: Any, threshold: float, seen: str, wanted: str
) -> None:
    document: Any = observed
    for step in reversed(measurement.split(".")):
        document = {step: document}
    tree = {"name": "x", "measurement": measurement, "is": "at_most", "threshold": threshold}
    judged = criteria.judge(Criterion.model_validate(tree), document)
    assert (judged.seen, judged.wanted) == (seen, wanted)


def test_runs_count_by_runbook_mode_and_scope_and_never_in_check_mode() -> None:
    run = summarize(record_of("failover_drill"))
    assert criteria.counts(POLICY.tests["full_site"], run)
    assert not criteria.counts(POLICY.tests["partial_failover"], run)
    assert not criteria.counts(POLICY.tests["backup_restoration"], run)
    assert not criteria.counts(POLICY.tests["full_site"], summarize(record_of("failover_drill", check_mode=True)))


def test_the_customers_criteria_name_what_the_modules_say() -> None:
    said = {text(path) for path in COLLECTION.rglob("*.py")} | {text(path) for path in PLAYBOOKS}
    words = set(re.findall(r"[\"'](\w+)[\"']", "\n".join(said))) | {"phases", "gates", "measures"}
    for name, test in POLICY.tests.items():
        for one in test.criteria:
            if str(one.measurement) in NOT_MEASURED_YET or {run.runbook for run in test.counts} <= NO_RUNBOOK_YET:
                continue
            unknown = set(re.findall(r"[A-Za-z_]\w+", str(one.measurement))) - words - {"id", "name", "verdict", "outcome"}
            assert unknown == set(), f"{name}: {one.measurement}"


def test_runbooks_of_the_policy_are_there_or_named_as_missing() -> None:
    named = {run.runbook for test in POLICY.tests.values() for run in test.counts}
    for line in POLICY.checklist:
        for evidence in line.rests_on:
            named |= {run.runbook for run in getattr(evidence, "counts", [])} | set(getattr(evidence, "runbooks", []))
    assert named - {path.stem for path in PLAYBOOKS} == NO_RUNBOOK_YET


def test_gates_of_the_checklist_exist() -> None:
    sources = "\n".join(text(path) for path in COLLECTION.rglob("*.py"))
    for line in POLICY.checklist:
        for evidence in line.rests_on:
            if isinstance(evidence, RunEvidence):
                for gate in re.findall(r"gates\[id=(\w+)\]", " ".join(str(one.measurement) for one in evidence.criteria)):
                    assert f'"{gate}"' in sources, gate


def test_the_checklist_can_rest_on_a_restore_to_a_time() -> None:
    line = next(line for line in POLICY.checklist if "PITR" in line.line)
    evidence = line.rests_on[0]
    assert isinstance(evidence, RunEvidence)
    assert criteria.all_pass(evidence.criteria, restore_test())
    to_the_end = restore_test()
    to_the_end["measures"]["restore_tests"][0]["target_kind"] = "end"
    assert not criteria.all_pass(evidence.criteria, to_the_end)
