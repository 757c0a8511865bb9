from __future__ import annotations

from datetime import datetime

import pytest

from relevo import contacts, policy_file
from relevo.contacts import State
from relevo.entries import Entry, Speaker, make
from relevo.errors import UsageError
from tests.unit.runner.past import Past, at, run

TEXT = """
contacts:
  ana: {name: Ana Sosa, role: on-call SRE, phone: "1"}
  mira: {name: Mira Paz, role: owner, mail: mira@example.org}
team: {operators_min: 2}
"""
POLICY = policy_file.parse(TEXT, "policy.yml")


def ack(when: datetime, name: str = "ana", text: str = TEXT) -> Entry:
    said = contacts.acknowledgement(policy_file.parse(text, "policy.yml"), name, None)
    return make(Speaker("ana", "ctl1", when), contacts.KIND, name, contacts.ACKNOWLEDGED, said)


def states(*entries: Entry, today: str = "2026-03-01") -> list[State]:
    return [standing.state for standing in contacts.standings(POLICY, entries, at(today))]


def test_nobody_has_acknowledged_until_they_did() -> None:
    assert states() == [State.NEVER, State.NEVER]
    assert states(ack(at("2026-01-31"))) == [State.CURRENT, State.NEVER]


def test_a_quarter_later_it_is_overdue() -> None:
    assert states(ack(at("2026-01-31")), today="2026-04-30")[0] is State.CURRENT
    assert states(ack(at("2026-01-31")), today="2026-05-01")[0] is State.OVERDUE
    assert states(ack(at("2026-01-31")), ack(at("2026-04-01")), today="2026-05-01")[0] is State.CURRENT


def test_a_number_that_changed_since_was_never_acknowledged() -> None:
    assert states(ack(at("2026-01-31"), text=TEXT.replace('"1"', '"2"')))[0] is State.CHANGED


def test_a_word_from_the_future_counts_for_nothing() -> None:
    assert states(ack(at("2027-01-31")))[0] is State.NEVER


def test_only_a_contact_of_the_policy_acknowledges() -> None:
    with pytest.raises(UsageError, match=r"no contact 'bob'. Contacts: ana, mira"):
        contacts.acknowledgement(POLICY, "bob", None)


def test_the_team_is_who_led_a_passed_test() -> None:
    past = Past(
        run("r1", "2026-01-31T12:00:00Z", operator="ana"),
        run("r2", "2026-02-01T12:00:00Z", operator="ana"),
        run("r3", "2026-02-01T12:00:00Z", operator="mira", verdict="failed"),
        run("r4", "2026-02-01T12:00:00Z", operator="root"),
        run("r5", "2025-02-28T12:00:00Z", operator="old"),
        run("r6", "2026-02-01T12:00:00Z", operator="dry", check_mode=True),
        run("r7", "2026-02-01T12:00:00Z", "check_passed", operator="looks"),
        run("r8", "2026-09-01T12:00:00Z", operator="future"),
    )
    team = contacts.team(POLICY, past, past.clusters(), at("2026-03-01"))
    assert [(one.name, one.runs, one.last_run_id) for one in team.operators] == [("ana", 2, "r2")]
    assert not team.ready
    more = Past(*(run(f"r{name}", "2026-02-01T12:00:00Z", operator=name) for name in ("ana", "mira")))
    assert contacts.team(POLICY, more, more.clusters(), at("2026-03-01")).ready
