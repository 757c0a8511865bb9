from __future__ import annotations

from relevo.objectives import all_met, evaluate


def test_the_customers_defaults() -> None:
    found = evaluate("failover", {"rto_seconds": 14400, "rpo_seconds": 3600.1}, {})
    assert [(item.name, item.target, item.verdict) for item in found] == [
        ("rto_seconds", 14400.0, "met"),
        ("rpo_seconds", 3600.0, "missed"),
    ]
    assert all_met(found) is False


def test_what_nobody_measured_is_unknown_and_never_met() -> None:
    found = evaluate("failover", {"rto_seconds": 1, "rpo_seconds": None}, {})
    assert [item.verdict for item in found] == ["met", "unknown"]
    assert all_met(found) is None


def test_a_runbook_that_moves_nothing_owes_no_answer() -> None:
    assert evaluate("check", {}, {}) == []
    assert all_met([]) is None


def test_targets_of_the_inventory_hold() -> None:
    found = evaluate("failover", {"rto_seconds": 50, "rpo_seconds": 0}, {"rto_seconds": "30"})
    assert [(item.target, item.verdict) for item in found] == [(30.0, "missed"), (3600.0, "met")]
