from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevo import measures
from relevo.errors import StoreError
from relevo.record import canonical, parse
from relevo.redact import Redactor
from relevo.report import Form, render
from relevo.verdict import Ending
from tests.unit.runner.streams import build, read, record_of, said, stats

PROMISED = (
    *("schema", "run_id", "parent_run_id", "runbook", "cluster", "mode", "scope", "verdict", "objectives_met", "opened_at"),
    *("closed_at", "operator", "approver", "phases", "gates", "measures", "objectives", "fence", "digests", "versions"),
    "signature",
)

trees = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=12,
)


@given(trees)
def test_canonical_json_comes_back_and_is_written_in_one_way(tree: Any) -> None:
    document = canonical(tree)
    assert json.loads(document) == tree
    assert canonical(json.loads(document)) == document


@given(st.dictionaries(st.text(), trees, max_size=5))
def test_canonical_json_does_not_depend_on_the_order_of_keys(tree: dict[str, Any]) -> None:
    assert canonical(dict(reversed(tree.items()))) == canonical(tree)


def test_not_a_number_is_no_json() -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical({"x": float("nan")})


def test_a_record_has_every_promised_key() -> None:
    document = record_of("failover_disaster").document()
    assert [name for name in PROMISED if name not in document] == []
    assert document["schema"] == "dr-test/1"
    assert document["fence"]["class"] == "isolated"
    assert {probe["vantage"] for probe in document["fence"]["probes"]} == {"wit1", "b-db1", "router"}
    assert [item["name"] for item in document["objectives"]] == ["rto_seconds", "rpo_seconds"]
    assert document["objectives_met"] is True


def test_a_stored_record_comes_back_byte_for_byte() -> None:
    document = canonical(record_of("failover_disaster").document())
    assert canonical(parse(document).document()) == document


def test_a_record_of_a_newer_version_is_read_too() -> None:
    tree = record_of("failover_disaster").document() | {"of_a_newer_version": 1}
    assert parse(canonical(tree)).document()["of_a_newer_version"] == 1


@pytest.mark.parametrize("document", [b"", b"[]", b'{"schema":"dr-test/1"}', b'{"schema":"other/1"}'])
def test_what_is_no_record_is_refused_with_a_sentence(document: bytes) -> None:
    with pytest.raises(StoreError, match=r"no dr-test/1 record"):
        parse(document)


def test_every_prefix_of_a_run_makes_a_record() -> None:
    opening, events = read("failover_disaster")
    for length in range(len(events)):
        record = build(opening, events[:length])
        assert record.verdict == "interrupted"
        assert parse(canonical(record.document())).run_id == opening.run_id


KEYS = [
    "run",
    "phases",
    "gates",
    "measures",
    "fence",
    "versions",
    "status",
    "refused",
    "hosts",
    "probes",
    "ledger",
    "name",
    "objectives",
]
odd = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | st.text(max_size=3) | st.just("2026-11-24T12:00:00.000000Z"),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.sampled_from([*KEYS, *measures.PROMISED]), children, max_size=4)
    ),
    max_leaves=25,
)


@given(st.dictionaries(st.sampled_from(KEYS), odd, max_size=8))
def test_whatever_a_module_says_there_is_a_record_and_a_report(relevo: dict[str, Any]) -> None:
    opening, _ = read("failover_disaster")
    record = build(opening, [said(**Redactor().tree(relevo)), stats()])
    assert parse(canonical(record.document())).run_id == opening.run_id
    for form in Form:
        assert render(record, form)


def test_a_refused_run_is_known_by_its_inputs() -> None:
    opening, _ = read("failover_disaster")
    record = build(opening, [], Ending(refusal="no"))
    assert (record.mode, record.scope, record.cluster, record.run["target_site"]) == ("disaster", "site", "minimarket", "b")


OCCASION = {
    "ticket": "CHG-4711",
    "scenario": "site-loss",
    "bia": "BIA-7",
    "requester": "Mira Paz",
    "participants": "Ana, Bo",
    "observers": "Eva",
    "third_parties": "Colo Ltd",
    "exercise": "E-1f3a9c",
}


def test_the_occasion_is_in_the_record_of_a_refused_run_too_and_in_every_report() -> None:
    opening, _ = read("failover_disaster")
    refused = build(replace(opening, inputs={**opening.inputs, **OCCASION}), [], Ending(refusal="no"))
    kept = {**OCCASION, "participants": ["Ana", "Bo"], "observers": ["Eva"], "third_parties": ["Colo Ltd"]}
    ran = build(opening, [said(run=kept), stats()])
    for record in (refused, ran):
        assert {name: record.run[name] for name in kept} == kept
        for form in (Form.HTML, Form.MARKDOWN):
            assert [
                word
                for word in ("CHG-4711", "site-loss", "BIA-7", "Mira Paz", "Ana, Bo", "Colo Ltd")
                if word not in render(record, form)
            ] == []


def test_what_nobody_said_of_the_occasion_is_null() -> None:
    opening, _ = read("failover_disaster")
    record = build(opening, [said(run=dict.fromkeys(OCCASION)), stats()])
    assert {record.run[name] for name in OCCASION} == {None}
    assert "Change ticket" not in render(record, Form.MARKDOWN)


def test_the_measured_clocks_and_the_cluster_are_shown() -> None:
    opening, _ = read("failover_disaster")
    run = {"system_identifier": "7400000000000000001", "stanza": "main"}
    record = build(opening, [said(run=run, measures={"clock_offset_seconds": {"b-db1": -0.25, "a-db1": 0}}), stats()])
    page = render(record, Form.HTML)
    assert "a-db1 +0.000 s, b-db1 -0.250 s" in page
    assert "7400000000000000001" in page


def test_the_opening_task_names_runbook_approver_and_parent() -> None:
    opening, _ = read("failover_disaster")
    record = build(opening, [said(run={"runbook": "switchover", "approver": "bo", "parent_run_id": "p"}), stats()])
    assert (record.runbook, record.approver, record.parent_run_id) == ("switchover", "bo", "p")


def test_a_run_across_a_reboot_is_measured_by_the_wall_clock() -> None:
    assert record_of("failover_disaster").duration_seconds == pytest.approx(20.7)
    assert record_of("failover_disaster", boottime=1e9).duration_seconds == pytest.approx(20.7)


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("failover_disaster", "passed"),
        ("failover_drill", "passed"),
        ("failover_failed", "failed"),
        ("failover_refused", "refused"),
        ("check_passed", "passed"),
    ],
)
def test_what_the_laboratory_said_is_judged_as_it_was_then(name: str, verdict: str) -> None:
    record = record_of(name)
    assert record.verdict == verdict
    assert record.cluster == "minimarket"
    assert all(render(record, form) for form in Form)
