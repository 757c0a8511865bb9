"""What a watcher says aloud: each thing once, and the small ones only when they last."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relevo.attention import Attention
from relevo.decision import Action, Decision, Event


def decision(event: Event, action: Action = Action.NONE, because: str = "so", primary: str = "a-db1") -> Decision:
    return Decision(event, action, because, {"primary": primary})


def said(*heard: tuple[float, Decision]) -> list[Decision]:
    attention, found = Attention(), []
    for now, one in heard:
        attention, loud = attention.hear(one, now)
        found += [loud] if loud else []
    return found


def test_an_outage_is_said_at_once_and_once() -> None:
    lost = [(now / 10, decision(Event.OUTAGE, Action.PROPOSE, f"in vain for {now / 10} s")) for now in range(100)]
    assert [one.action for one in said(*lost)] == [Action.PROPOSE]


def test_why_nothing_is_done_is_said_again_when_it_is_another_reason() -> None:
    heard = said(
        (0.0, decision(Event.OUTAGE, because="for 3.1 s: maintenance")),
        (0.1, decision(Event.OUTAGE, because="for 3.2 s: maintenance")),
        (9.0, decision(Event.OUTAGE, Action.ACT, "for 12.1 s")),
        (9.1, decision(Event.OUTAGE, because="for 12.2 s: a run was started")),
    )
    assert [one.action for one in heard] == [Action.NONE, Action.ACT, Action.NONE]


def test_what_passes_at_once_is_not_said() -> None:
    well, cut = decision(Event.HEALTHY), decision(Event.PARTITION)
    assert said((0.0, well), (3.0, well), (4.0, cut), (5.0, cut), (5.5, well), (7.0, cut), (8.0, cut)) == [well]
    assert said((0.0, well), (3.0, well), (4.0, cut), (6.5, cut), (7.0, well), (9.5, well)) == [well, cut, well]


def test_a_watcher_that_sees_nothing_says_so_after_a_minute() -> None:
    well, blind = decision(Event.HEALTHY), decision(Event.WATCHING)
    assert said((0.0, well), (3.0, well), (4.0, blind), (63.0, blind)) == [well]
    assert said((0.0, well), (3.0, well), (4.0, blind), (65.0, blind), (200.0, blind)) == [well, blind]


def test_a_return_is_counted_when_it_lasted() -> None:
    attention = Attention()
    for now, one in ((0.0, decision(Event.OUTAGE)), (1.0, decision(Event.RETURNED)), (4.0, decision(Event.RETURNED))):
        attention, _ = attention.hear(one, now)
    assert attention.returns == (4.0,)
    for now, one in ((5.0, decision(Event.OUTAGE)), (6.0, decision(Event.RETURNED)), (7.0, decision(Event.OUTAGE))):
        attention, _ = attention.hear(one, now)
    assert attention.returns == (4.0,)


@given(st.lists(st.tuples(st.sampled_from(list(Event)), st.sampled_from(list(Action)), st.floats(0.0, 3.0)), max_size=30))
def test_nothing_is_said_twice_in_a_row(heard: list[tuple[Event, Action, float]]) -> None:
    now, attention, before = 0.0, Attention(), None
    for event, action, passed in heard:
        now += passed
        attention, loud = attention.hear(decision(event, action), now)
        if loud is not None:
            assert before is None or (loud.event, loud.action) != (before.event, before.action)
            before = loud
