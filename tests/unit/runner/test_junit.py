"""JUnit XML: valid for the strictest reader, with each check as a case of its own, whatever hosts have said."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
import xmlschema
from hypothesis import given
from hypothesis import strategies as st

from relevo import junit
from relevo.junit import Criterion
from relevo.record import Record
from tests.unit.runner import examples

SCHEMA = xmlschema.XMLSchema(str(Path(__file__).parents[2] / "fixtures" / "junit" / "suite.xsd"))
RECORDS = examples.every()
CRITERIA = (
    Criterion("Outage", "57.1 s", "at most 60 s", "pass"),
    Criterion("Loss", "3 transactions", "none", "fail"),
    Criterion("Users log in", "not observed", "all", "unknown"),
)


def suite(record: Record, *criteria: Criterion) -> ElementTree.Element:
    text = junit.render(record, criteria)
    SCHEMA.validate(text)
    return ElementTree.fromstring(text)  # noqa: S314 - our own


def cases(root: ElementTree.Element, group: str) -> dict[str, str]:
    """Of one group: name and what became of it."""
    return {
        case.get("name", ""): case[0].tag if len(case) else "passed"
        for case in root.iter("testcase")
        if f".{group}" in case.get("classname", "")
    }


def test_the_schema_refuses_what_readers_refuse() -> None:
    whole = junit.render(RECORDS["check_fails"])
    for old, new in (
        (' time="20.700"', ' time="-1"'),
        ('timestamp="2026-11-24T12:15:30"', 'timestamp="2026-11-24T12:15:30Z"'),
        (' type="fail"', ""),
        ("<system-err />", ""),
        ('classname="relevo.minimarket.check.run" ', ""),
    ):
        assert old in whole
        assert not SCHEMA.is_valid(whole.replace(old, new))


@pytest.mark.parametrize("name", list(RECORDS))
def test_every_record_is_a_valid_suite_whose_counts_are_right(name: str) -> None:
    root = suite(RECORDS[name], *CRITERIA)
    found = list(root.iter("testcase"))
    assert root.get("tests") == str(len(found))
    for tag, count in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        assert root.get(count) == str(len(list(root.iter(tag))))
    record = RECORDS[name]
    assert len(found) == 1 + len(CRITERIA) + len(record.objectives) + len(record.gates) + len(record.phases)


@pytest.mark.parametrize(("name", "fate"), [("disaster", "passed"), ("partial", "failure"), ("failed", "failure")])
def test_the_run_itself_is_a_case(name: str, fate: str) -> None:
    assert list(cases(suite(RECORDS[name]), "run").values()) == [fate]


def test_a_refusal_is_a_failure_and_a_run_that_was_cut_off_an_error() -> None:
    assert list(cases(suite(RECORDS["refused_inputs"]), "run").values()) == ["failure"]
    assert list(cases(suite(RECORDS["interrupted"]), "run").values()) == ["error"]


def test_what_is_unknown_never_passes_and_what_does_not_apply_is_skipped() -> None:
    root = suite(RECORDS["check_fails"], *CRITERIA)
    assert list(cases(root, "gates").values()) == ["failure", "failure", "skipped", "passed", "skipped"]
    assert list(cases(root, "criteria").values()) == ["passed", "failure", "failure"]
    unmeasured = cases(suite(RECORDS["interrupted"]), "objectives")
    assert set(unmeasured.values()) == {"failure"}
    nothing_moved = cases(suite(RECORDS["failback"]), "objectives")
    assert set(nothing_moved.values()) == {"skipped"}


def test_a_failure_says_observed_expected_and_what_to_do() -> None:
    root = suite(RECORDS["check_fails"])
    failure = next(root.iter("failure"))
    gate = next(entry for entry in root.iter("testcase") if "G00" in entry.get("name", ""))[0]
    assert failure.get("type") == "failed"
    assert gate.text == (
        "Observed: 284680 bytes behind a-db1, 20.0 s of commits\nExpected: at most 67108864 bytes behind\n"
        "Next: wait, or leave what it lacks with -e dr_accept_loss_seconds=80"
    )


def test_recovery_is_among_the_properties_with_its_targets() -> None:
    known = {entry.get("name"): entry.get("value") for entry in suite(RECORDS["disaster"]).iter("property")}
    assert known["rto_seconds"] == "53.3"
    assert known["rto_target_seconds"] == "14400"
    assert known["ledger_lost"] == "3"
    assert known["opened_at"] == "2026-11-24T12:15:30.000000Z"
    empty = {entry.get("name"): entry.get("value") for entry in suite(RECORDS["interrupted"]).iter("property")}
    assert empty["rto_seconds"] == "not observed"


def test_phases_have_their_durations() -> None:
    timed = {case.get("name"): case.get("time") for case in suite(RECORDS["disaster"]).iter("testcase")}
    assert timed["PROMOTE on b-db1"] == "1.400"


@given(st.text(), st.text())
def test_whatever_a_host_says_is_a_valid_suite(said: str, title: str) -> None:
    gate = {
        **examples.GATE,
        "id": said,
        "title": title,
        "host": said,
        "phase": said,
        "observed": said,
        "verdict": said,
        "next_action": title,
    }
    root = suite(examples.of("check", [gate]), Criterion(said, title, said, said))
    assert len(list(root.iter("testcase"))) == 5, "the run, a criterion, a gate, two phases"
