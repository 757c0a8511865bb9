"""The laws of an automatic failover: what a watcher must never do, whatever it sees."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relevo.decision import MOST_FLAPS, Action, Automatic, Event, Past, decide, find_primary
from relevo.sight import Feed
from tests.unit.runner.vantage import POLICY, WELL, A, B, Says, cut_off_from, database, dead_from, moments, seen, sight, well

KILLED = 6.0
BOTH_SEE_IT = [Says("wit1", "w", dead_from(KILLED)), Says("b-app1", "b", dead_from(KILLED), boot=77.0)]
OUTCOMES = st.sampled_from(["accepted", "read_only", "refused", "unreachable", "error"])


def test_an_outage_that_all_see_for_the_whole_window_is_acted_upon_within_the_window_and_two_tries() -> None:
    for tenth in range(0, 10, 3):
        killed = KILLED + tenth / 10
        seen = [Says("wit1", "w", dead_from(killed)), Says("b-app1", "b", dead_from(killed))]
        acted = [
            now.now
            for now in moments(seen, killed, killed + POLICY.window_seconds + 2.5, 0.25)
            if decide(now, POLICY, Past()).action is Action.ACT
        ]
        assert acted
        assert acted[0] >= killed + POLICY.window_seconds - 1.0


def test_a_decision_carries_its_evidence() -> None:
    decision = decide(sight(BOTH_SEE_IT, KILLED + 6), POLICY, Past())
    assert (decision.event, decision.action) == (Event.OUTAGE, Action.ACT)
    assert decision.evidence["primary"] == A
    words = {word["vantage_point"]: word for word in decision.evidence["vantage_points"]}
    assert set(words) == {"wit1", "b-app1"}
    for word in words.values():
        assert word["counts"]
        assert word["failing_seconds"] >= POLICY.window_seconds
        assert word["first_failed_at"].startswith("2026-11-28T03:")


@pytest.mark.parametrize(
    ("event", "seen"),
    [
        (Event.PARTITION, [Says("wit1", "w", dead_from(KILLED)), Says("b-app1", "b", well)]),
        (Event.PARTITION, [Says("wit1", "w", well), Says("b-app1", "b", dead_from(KILLED))]),
        # An observer in the primary's own site sees it alive.
        (Event.PARTITION, [*BOTH_SEE_IT, Says("a-app1", "a", well)]),
        (Event.SUSPECTED, [Says("wit1", "w", dead_from(KILLED)), Says("b-app1", "b", dead_from(KILLED), silent_from=KILLED)]),
        (Event.SUSPECTED, [Says("wit1", "w", dead_from(KILLED)), Says("b-app1", "b", cut_off_from(KILLED))]),
        # Two places in one site are one word.
        (Event.SUSPECTED, [Says("b-app1", "b", dead_from(KILLED)), Says("b-app2", "b", dead_from(KILLED))]),
        (Event.SUSPECTED, [Says("wit1", "w", dead_from(KILLED)), Says("a-app1", "a", dead_from(KILLED))]),
        (Event.WATCHING, [Says("wit1", "w", cut_off_from(KILLED)), Says("b-app1", "b", cut_off_from(KILLED))]),
        # It refuses: it is there, and may be starting.
        (Event.WATCHING, [Says("wit1", "w", dead_from(KILLED, "refused")), Says("b-app1", "b", dead_from(KILLED, "refused"))]),
        # A boot clock that leaps makes a window of nothing; one that stands still keeps its word from being of now.
        (
            Event.SUSPECTED,
            [
                Says("wit1", "w", dead_from(KILLED)),
                Says("b-app1", "b", dead_from(KILLED), clock=lambda at: 9.0 if at > KILLED + 1 else 0.0),
            ],
        ),
        (
            Event.SUSPECTED,
            [
                Says("wit1", "w", dead_from(KILLED)),
                Says("b-app1", "b", dead_from(KILLED), clock=lambda at: -9.0 if at > KILLED + 1 else 0.0),
            ],
        ),
        # A slow network to one vantage point: its word is of a time that is past.
        (
            Event.SUSPECTED,
            [
                Says("wit1", "w", dead_from(KILLED)),
                Says("b-app1", "b", dead_from(KILLED), late=lambda at: 3.0 if at > KILLED - 2 else 0.0),
            ],
        ),
    ],
)
def test_nothing_is_done_where_the_word_of_one_is_all_there_is(event: Event, seen: list[Says]) -> None:
    decision = decide(sight(seen, KILLED + 8), POLICY, Past())
    assert (decision.event, decision.action) == (event, Action.NONE)


@settings(max_examples=15)
@given(frozen=st.floats(0.0, 2.4), phase=st.floats(0.0, 1.0))
def test_a_primary_that_is_frozen_for_less_than_the_window_is_left_alone(frozen: float, phase: float) -> None:
    begin = KILLED + phase

    def world(moment: float) -> dict[str, str]:
        return {**WELL, A: "unreachable"} if begin <= moment < begin + frozen else WELL

    seen = [Says("wit1", "w", world), Says("b-app1", "b", world)]
    patient = replace(POLICY, window_seconds=3.5)
    assert {decide(now, patient, Past()).action for now in moments(seen, begin, begin + 5, 0.2)} == {Action.NONE}


@settings(max_examples=20)
@given(st.lists(st.tuples(OUTCOMES, OUTCOMES), min_size=6, max_size=12), st.integers(0, 3))
def test_flapping_never_adds_up_to_a_window(outcomes: list[tuple[str, str]], last_failures: int) -> None:
    """Whatever came before: since the last write that was accepted not enough time has passed."""
    script = [*outcomes, ("accepted", "accepted"), *[("error", "error")] * last_failures]

    def world(which: int):
        return lambda moment: {A: script[min(int(moment), len(script) - 1)][which], B: "read_only"}

    seen = [Says("wit1", "w", world(0)), Says("b-app1", "b", world(1))]
    assert decide(sight(seen, len(script) - 0.5), POLICY, Past()).action is Action.NONE


@settings(max_examples=20)
@given(
    st.lists(st.tuples(st.sampled_from(["wit1", "b-app1", "b-app2"]), st.sampled_from(["w", "b", "a"])), max_size=3),
    st.floats(0.0, 12.0),
    st.lists(OUTCOMES, min_size=3, max_size=3),
)
def test_one_site_never_decides(places: list[tuple[str, str]], passed: float, outcomes: list[str]) -> None:
    seen = [Says(f"{name}-{number}", site, dead_from(KILLED, outcomes[number])) for number, (name, site) in enumerate(places)]
    decision = decide(sight(seen, KILLED + passed), POLICY, Past())
    sites = {word["site"] for word in decision.evidence["vantage_points"] if word["counts"] and word["failing_seconds"] >= 3}
    if decision.action is not Action.NONE:
        assert len(sites - {"a"}) >= 2


HINDERED = [
    ("maintenance", Past(maintenance="planned maintenance until 04:00")),
    ("acted", Past(acted="a run was started already")),
    ("run", Past(run="20261128T030000Z-failover-1f3a")),
    ("blind", Past(blind="the store has not said yet")),
]


@pytest.mark.parametrize(("name", "past"), HINDERED, ids=[name for name, _ in HINDERED])
@pytest.mark.parametrize("automatic", [Automatic.ACT, Automatic.PROPOSE])
def test_it_is_silent_and_says_why(name: str, past: Past, automatic: Automatic) -> None:
    decision = decide(sight(BOTH_SEE_IT, KILLED + 6), replace(POLICY, automatic=automatic), past)
    assert (decision.event, decision.action) == (Event.OUTAGE, Action.NONE)
    assert str(getattr(past, name)) in decision.because


@pytest.mark.parametrize("automatic", list(Automatic))
def test_the_policy_is_never_exceeded(automatic: Automatic) -> None:
    decision = decide(sight(BOTH_SEE_IT, KILLED + 6), replace(POLICY, automatic=automatic), Past())
    assert decision.action.value == {"off": "none"}.get(automatic, automatic)


def test_never_back() -> None:
    """The primary is at the target already: whatever becomes of it, no run is started that would move it."""
    policy = replace(POLICY, target_site="a")
    databases = [database(A, "a", KILLED + 6)]
    decision = decide(sight(BOTH_SEE_IT, KILLED + 6, databases), policy, Past())
    assert (decision.event, decision.action) == (Event.OUTAGE, Action.NONE)
    assert "the way back is a person's" in decision.because


def test_a_lock_on_any_database_host_is_somebodys_run() -> None:
    for databases in (
        [database(B, "b", KILLED + 6, "the run 20261128T030000Z-switchover-1f3a")],
        # The primary's host told of it before it fell silent.
        [database(B, "b", KILLED + 6), database(A, "a", KILLED, "the run 20261128T030000Z-switchover-1f3a")],
    ):
        decision = decide(sight(BOTH_SEE_IT, KILLED + 6, databases), POLICY, Past())
        assert decision.action is Action.NONE
        assert "is locked by the run 20261128T030000Z-switchover-1f3a" in decision.because


@pytest.mark.parametrize("databases", [[], [Feed(B, "b")], [database(B, "b", KILLED)]], ids=["none", "never heard", "silent"])
def test_a_lock_that_nobody_can_tell_of_may_be_held(databases: list[Feed]) -> None:
    decision = decide(sight(BOTH_SEE_IT, KILLED + 6, databases), POLICY, Past())
    assert decision.action is Action.NONE
    assert "whether a run is at work is not known" in decision.because


def test_without_a_standby_there_is_nothing_to_promote() -> None:
    def world(moment: float) -> dict[str, str]:
        return WELL if moment < KILLED else {A: "unreachable", B: "refused"}

    decision = decide(sight([Says("wit1", "w", world), Says("b-app1", "b", world)], KILLED + 6), POLICY, Past())
    assert decision.action is Action.NONE
    assert "no vantage point sees a standby" in decision.because


def test_a_primary_that_nobody_ever_saw_is_not_lost() -> None:
    never = [Says("wit1", "w", dead_from(-1.0)), Says("b-app1", "b", dead_from(-1.0))]
    assert decide(sight(never, 8.0), POLICY, Past()).event is Event.WATCHING


def test_a_primary_that_comes_and_goes_is_a_matter_for_a_person() -> None:
    now = KILLED + 6
    often = Past(returns=tuple(now - 60.0 * number for number in range(MOST_FLAPS + 1)))
    assert decide(sight(BOTH_SEE_IT, now), POLICY, often).action is Action.PROPOSE
    long_ago = Past(returns=tuple(now - 6000.0 - number for number in range(MOST_FLAPS + 1)))
    assert decide(sight(BOTH_SEE_IT, now), POLICY, long_ago).action is Action.ACT


def test_a_stopped_server_that_stays_stopped_is_lost_after_the_longer_window() -> None:
    seen = [Says("wit1", "w", dead_from(KILLED, "refused")), Says("b-app1", "b", dead_from(KILLED, "refused"))]
    assert decide(sight(seen, KILLED + POLICY.restart_seconds - 2), POLICY, Past()).action is Action.NONE
    assert decide(sight(seen, KILLED + POLICY.restart_seconds + 2.5), POLICY, Past()).action is Action.ACT


def test_two_primaries_are_named_and_nothing_is_started() -> None:
    seen = [Says("wit1", "w", lambda _: {A: "accepted", B: "accepted"}), Says("b-app1", "b", well)]
    decision = decide(sight(seen, KILLED), POLICY, Past())
    assert (decision.event, decision.action) == (Event.TWO_PRIMARIES, Action.NONE)


def test_a_watcher_that_slept_takes_nothing_old_for_new() -> None:
    """It reads at once what was sent while it slept, and has not come to the newest yet: when it was sent shows how old it is."""
    asleep = 60.0
    slow = [
        replace(says, late=lambda at: KILLED + asleep - at if at > KILLED else 0.0, silent_from=KILLED + 8) for says in BOTH_SEE_IT
    ]
    decision = decide(sight(slow, KILLED + asleep), POLICY, Past())
    assert decision.action is Action.NONE


def test_another_primary_is_no_return() -> None:
    seen = [
        Says("wit1", "w", lambda _: {A: "unreachable", B: "accepted"}),
        Says("b-app1", "b", lambda _: {A: "refused", B: "accepted"}),
    ]
    decision = decide(sight(seen, KILLED), POLICY, Past(event=Event.OUTAGE, primary=A))
    assert decision.event is Event.MOVED
    back = decide(sight([Says("wit1", "w", well), Says("b-app1", "b", well)], KILLED), POLICY, Past(event=Event.OUTAGE, primary=A))
    assert back.event is Event.RETURNED


def test_a_last_write_that_could_not_say_its_timeline_is_still_the_primarys() -> None:
    """The other host was the primary once, on an older timeline that is known."""
    told = Feed("wit1", "w")
    for number, (address, timeline) in enumerate([(B, 2), (A, 3), (A, None)]):
        line = {**seen(address, "accepted", 1000.0 + number, 1000.1 + number), "timeline": timeline}
        told = told.take({"kind": "seen", "now": 1000.2 + number, "boot_id": "boot", "seen": line}, float(number))
    assert find_primary([told], POLICY) == A
