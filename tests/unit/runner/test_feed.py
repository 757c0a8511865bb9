from __future__ import annotations

import json
from typing import Any

from relevo.feed import Event, from_line, from_runner
from relevo.redact import REDACTED, Redactor
from tests.unit.runner.streams import read


def event(kind: str, res: Any = None, **data: Any) -> Event | None:
    raw = {"event": kind, "created": "2026-11-24T12:00:00.5+00:00", "event_data": {"res": res, "host": "h", "task": "t", **data}}
    return from_runner(raw, Redactor())


def test_what_no_record_needs_is_left_out() -> None:
    assert event("runner_item_on_ok", {"relevo": {}}) is None
    assert event("verbose") is None


def test_data_comes_from_the_result_its_items_and_set_stats() -> None:
    loop = event("runner_on_ok", {"results": [{"relevo": {"measures": {"a": 1}}}, {"relevo": {"measures": {"b": 2}}}, "x"]})
    assert loop is not None
    assert loop.said == ({"measures": {"a": 1}}, {"measures": {"b": 2}})
    stats = event("runner_on_ok", {"ansible_stats": {"data": {"relevo": {"measures": {"c": 3}}}}})
    assert stats is not None
    assert stats.said == ({"measures": {"c": 3}},)
    both = event("runner_on_ok", {"relevo": {"run": {}}, "ansible_stats": {"data": {"relevo": {"run": {}}}}})
    assert both is not None
    assert both.said == ({"run": {}},), "the same data twice counts once"


def test_the_message_of_a_failed_loop_names_its_failed_items() -> None:
    failed = event(
        "runner_on_failed", {"msg": "One or more items failed", "results": [{"failed": True, "msg": "no"}, {"msg": "fine"}]}
    )
    assert failed is not None
    assert failed.message == "no"


def test_a_hidden_result_says_that_it_is_hidden() -> None:
    hidden = event("runner_on_failed", {"censored": "the output has been hidden"})
    assert hidden is not None
    assert hidden.message == "the output has been hidden"


def test_titles_and_names_hold_no_secret_either() -> None:
    canary = "canary7Xq9vT2mZ4"
    redactor = Redactor(frozenset({canary}))
    names = {"task": f"Try {canary}", "play": f"Play {canary}", "role": f"role_{canary}", "host": f"host-{canary}"}
    started = {"name": f"Play 1/1: {canary}"}
    counts = {"ok": {f"host-{canary}": 1}, "dark": {}}
    for kind, data in (("runner_on_ok", names), ("playbook_on_play_start", started), ("playbook_on_stats", counts)):
        kept = from_runner({"event": kind, "event_data": data}, redactor)
        assert kept is not None
        assert canary not in json.dumps(kept.line())
        assert REDACTED in json.dumps(kept.line())


def test_nothing_else_of_a_result_is_kept() -> None:
    kept = event("runner_on_ok", {"stdout": "row of a customer", "invocation": {"module_args": {"x": "y"}}, "changed": True})
    assert kept is not None
    assert kept.changed
    assert "customer" not in json.dumps(kept.line())


def test_the_runners_times_without_a_zone_are_utc() -> None:
    zoned = event("runner_on_ok", {}, start="2026-11-24T12:00:00.123456", end="2026-11-24T12:00:01+00:00")
    assert zoned is not None
    assert (zoned.start, zoned.end) == ("2026-11-24T12:00:00.123456Z", "2026-11-24T12:00:01.000000Z")


def test_a_journal_line_is_the_event() -> None:
    for known in read("failover_disaster")[1]:
        assert from_line(json.loads(json.dumps(known.line()))) == known
    assert from_line({"event": "runner_on_ok", "at": "x", "of_a_newer_version": 1}).event == "runner_on_ok"
