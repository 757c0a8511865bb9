from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevo.errors import Exit
from relevo.evidence import collect
from relevo.feed import Event
from relevo.verdict import Decision, Ending, Verdict, decide
from tests.unit.runner.streams import failed, read, said, stats

RANK = [Verdict.PASSED, Verdict.PARTIAL, Verdict.FAILED]


def gate(verdict: str, **more: Any) -> dict[str, Any]:
    return {"id": "G01", "phase": "PREFLIGHT", "host": "h", "observed": "o", "expected": "e", "verdict": verdict, **more}


def phase(outcome: str, name: str = "FENCE", **more: Any) -> dict[str, Any]:
    return {"name": name, "host": "h", "outcome": outcome, **more}


OPEN = said(run={"cluster": "c"})


def judge(*events: Event, ending: Ending | None = None) -> Decision:
    return decide(collect(events), ending or Ending())


@pytest.mark.parametrize(
    ("events", "verdict"),
    [
        ([OPEN, stats()], "passed"),
        ([OPEN, said(gates=[gate("pass"), gate("not_applicable", id="G2")], phases=[phase("ok")]), stats()], "passed"),
        ([OPEN, said(gates=[gate("accepted")]), stats()], "partial"),
        ([OPEN, said(gates=[gate("unknown")]), stats()], "partial"),
        ([OPEN, said(gates=[gate("something new")]), stats()], "partial"),
        ([OPEN, said(gates=[gate("unknown", required=False)]), stats()], "passed"),
        ([OPEN, said(phases=[phase("skipped")]), stats()], "partial"),
        ([OPEN, said(phases=[phase("skipped", required=False)]), stats()], "passed"),
        ([OPEN, said(gates=[gate("fail")]), stats()], "failed"),
        ([OPEN, said(phases=[phase("failed")]), stats()], "failed"),
        ([OPEN, said(phases=[phase("half done")]), stats()], "failed"),
        ([OPEN, failed(), stats(failures=("b-db1",))], "failed"),
        ([OPEN, stats(dark=("a-db1",))], "failed"),
        ([OPEN, failed(), stats()], "passed"),
        ([OPEN, failed(said=({"refused": True},)), stats(failures=("b-db1",))], "refused"),
        ([failed(said=({"refused": True},)), stats(failures=("b-db1",))], "refused"),
        ([OPEN, said(phases=[phase("failed", "LOCK")]), failed(said=({"refused": True},)), stats(failures=("b-db1",))], "refused"),
        ([OPEN, said(phases=[phase("ok")]), failed(said=({"refused": True},)), stats(failures=("b-db1",))], "failed"),
        ([stats()], "refused"),
        ([], "interrupted"),
        ([OPEN, said(phases=[phase("ok")])], "interrupted"),
        ([OPEN, failed(said=({"refused": True},))], "interrupted"),
    ],
)
def test_verdict(events: list[Event], verdict: str) -> None:
    decision = judge(*events)
    assert decision.verdict == verdict
    assert bool(decision.reasons) == (verdict != "passed"), "every other verdict says why"


def test_a_phase_that_failed_is_a_reason_of_its_own_unless_its_host_has_said_so() -> None:
    broken = said(phases=[phase("failed", host="b-db1", detail="no proof")])
    assert judge(OPEN, broken, failed("FENCE on b-db1: no proof"), stats(failures=("b-db1",))).reasons == (
        "b-db1: Do: FENCE on b-db1: no proof",
    )
    # Another host's words, or words that the playbook went on after, are none of it.
    for more in ([failed("no proof", host="a-db1"), stats(failures=("a-db1",))], [failed("no proof"), stats()]):
        assert "Phase FENCE on b-db1 ended as failed: no proof." in judge(OPEN, broken, *more).reasons


def test_a_refusal_of_the_runner_itself_comes_first() -> None:
    assert judge(ending=Ending(refusal="-e dr_mode is missing")) == Decision(Verdict.REFUSED, ("-e dr_mode is missing",))


def test_a_playbook_that_never_started_was_refused() -> None:
    assert judge(ending=Ending(started=False, reason="no such module")).verdict is Verdict.REFUSED


def test_lost_events_leave_a_doubt() -> None:
    decision = judge(OPEN, stats(), ending=Ending(missed=2, missed_reason="the disk is full"))
    assert decision == Decision(Verdict.PARTIAL, ("2 events could not be written to the journal: the disk is full.",))


def test_an_interrupted_run_says_where() -> None:
    reason = judge(*read("failover_disaster")[1][:12]).reasons[0]
    assert "in 'Failover " in reason


def test_exit_codes_are_the_promised_ones() -> None:
    assert [verdict.exit for verdict in (Verdict.PASSED, Verdict.FAILED, Verdict.REFUSED, Verdict.INTERRUPTED)] == [0, 1, 2, 3]
    assert (Exit.USAGE, Verdict.PARTIAL.exit) == (4, 5)


gates = st.lists(st.sampled_from(["pass", "accepted", "unknown", "fail", "not_applicable"]).map(gate), max_size=4)
phases = st.lists(st.builds(phase, st.sampled_from(["ok", "failed", "skipped"]), st.sampled_from(["FENCE", "PROMOTE"])), max_size=4)


def numbered(items: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    return [{**item, key: f"{item[key]}{number}"} for number, item in enumerate(items)]


@given(gates, phases, st.sampled_from([gate("fail"), gate("unknown"), gate("accepted"), phase("failed"), phase("skipped")]))
def test_a_worse_observation_never_makes_a_better_verdict(
    some_gates: list[dict[str, Any]], some_phases: list[dict[str, Any]], worse: dict[str, Any]
) -> None:
    base = said(gates=numbered(some_gates, "id"), phases=numbered(some_phases, "host"))
    more = said(gates=[{**worse, "id": "worse"}]) if "verdict" in worse else said(phases=[{**worse, "host": "worse"}])
    before, after = judge(OPEN, base, stats()).verdict, judge(OPEN, base, more, stats()).verdict
    assert RANK.index(after) >= max(RANK.index(before), 1)


@given(gates, phases)
def test_a_cut_stream_is_never_a_pass(some_gates: list[dict[str, Any]], some_phases: list[dict[str, Any]]) -> None:
    assert judge(OPEN, said(gates=some_gates, phases=some_phases)).verdict is Verdict.INTERRUPTED


def play(title: str) -> Event:
    return Event("playbook_on_play_start", "2026-11-24T12:00:00.000000Z", play=title)


def test_a_runbook_that_ended_early_without_a_failure_on_record_has_failed() -> None:
    """Ansible does that when a host is lost that a task was told to bear."""
    decision = judge(play("Failover 1/7: Open"), OPEN, play("Failover 3/7: Lock"), stats())
    assert decision == Decision(Verdict.FAILED, ("The runbook ended after its part 3 of 7.",))
    assert judge(play("Failover 1/7: Open"), OPEN, play("Failover 7/7: Unlock and judge"), stats()).verdict is Verdict.PASSED
    refusal = failed(said=({"refused": True},))
    assert judge(play("Failover 1/7: Open"), OPEN, refusal, stats(failures=("b-db1",))).verdict is Verdict.REFUSED
