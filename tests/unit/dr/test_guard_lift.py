"""When a fence may be lifted: never into a second primary, and never without knowing."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .test_guard import AWAY, EVIDENCE, FENCE, SILENT, STANDBY_PEER, Peer, guard, host, seen  # noqa: F401 - the fixture host

PRIMARY = Peer("b-db1", "primary", 4)
FORKS = {1: 100, 2: 200, 3: 300}
OWN = {1: 100, 2: 200}
BEHIND = guard.Lineage("shut down", 299, OWN, FORKS)
DIVERGED = guard.Lineage("shut down", 300, OWN, FORKS)


def standby(location, own=OWN, forks=FORKS, state="shut down in recovery"):
    return guard.Lineage(state, location, own, forks)


def fenced(**changes):
    return seen(**{"fence": FENCE, "signal": True, **changes})


TABLE = [
    ("its data were moved away", fenced(cluster=False, peers=(PRIMARY,)), {}, guard.WRITABLE),
    ("the others are standbys", fenced(peers=(STANDBY_PEER,), archive_timeline=3), {}, guard.WRITABLE),
    ("the others are standbys, the archive is silent", fenced(peers=(STANDBY_PEER,)), {}, guard.WRITABLE),
    ("nobody answers", fenced(peers=(SILENT,), archive_timeline=3), {}, guard.REFUSE),
    ("one of two answers, and nobody else", fenced(peers=(STANDBY_PEER, AWAY)), {}, guard.REFUSE),
    ("the archive is ahead", fenced(peers=(STANDBY_PEER,), archive_timeline=4), {}, guard.REFUSE),
    ("a standby of a newer timeline", fenced(peers=(Peer("b-db1", "standby", 4),)), {}, guard.REFUSE),
    ("a primary of an older timeline", fenced(peers=(Peer("b-db1", "primary", 2),)), {}, guard.REFUSE),
    ("a primary that has all of it", fenced(peers=(PRIMARY,)), {"lineage": BEHIND}, guard.STANDBY),
    ("a primary that took another way", fenced(peers=(PRIMARY,)), {"lineage": DIVERGED}, guard.REFUSE),
    (
        "a crash before the other was promoted",
        fenced(peers=(PRIMARY,)),
        {"lineage": guard.Lineage("in production", 1, OWN, FORKS)},
        guard.REFUSE,
    ),
    ("a primary whose history nobody tells", fenced(peers=(PRIMARY,)), {"lineage": standby(1, forks=None)}, guard.REFUSE),
    ("a standby that replayed up to the fork", fenced(peers=(PRIMARY,)), {"lineage": standby(300)}, guard.STANDBY),
    ("a standby that replayed beyond the fork", fenced(peers=(PRIMARY,)), {"lineage": standby(301)}, guard.REFUSE),
    ("a standby whose end is unknown", fenced(peers=(PRIMARY,)), {"lineage": standby(0)}, guard.REFUSE),
    ("a timeline that the primary's is not of", fenced(peers=(PRIMARY,)), {"lineage": standby(1, forks=OWN)}, guard.REFUSE),
    (
        "both left the same timeline, at different places",
        fenced(peers=(PRIMARY,)),
        {"lineage": guard.Lineage("shut down", 250, {1: 100, 2: 150}, FORKS)},
        guard.REFUSE,
    ),
    (
        "rewound onto the primary's timeline",
        fenced(timeline=4, peers=(PRIMARY,)),
        {"lineage": standby(400, FORKS, FORKS, "in archive recovery")},
        guard.STANDBY,
    ),
    (
        "a timeline of its own with the same number",
        fenced(timeline=4, peers=(PRIMARY,)),
        {"lineage": standby(400, {**FORKS, 3: 299})},
        guard.REFUSE,
    ),
    (
        "the same, from the same place",
        fenced(timeline=4, peers=(PRIMARY,)),
        {"lineage": guard.Lineage("shut down", 400, FORKS, FORKS)},
        guard.REFUSE,
    ),
    ("the same, without a history", fenced(timeline=4, peers=(PRIMARY,)), {"lineage": standby(400, None)}, guard.REFUSE),
    (
        "rewound, without its signal",
        fenced(timeline=4, signal=False, peers=(PRIMARY,)),
        {"lineage": standby(400, FORKS)},
        guard.REFUSE,
    ),
    (
        "it runs as a standby",
        fenced(timeline=4, peers=(PRIMARY,)),
        {"running": "standby", "lineage": standby(400, FORKS, FORKS, "in archive recovery")},
        guard.STANDBY,
    ),
    ("it runs writable", fenced(peers=(STANDBY_PEER,)), {"running": "ready"}, guard.REFUSE),
]


@pytest.mark.parametrize(("evidence", "more", "action"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_the_table(evidence, more, action):
    decision = guard.decide_lift(evidence, **{"lineage": guard.Lineage(), **more})
    assert decision.action == action, decision
    assert decision.reason
    assert bool(decision.next_action) == (action == guard.REFUSE)


STATES = st.sampled_from(["shut down", "shut down in recovery", "in archive recovery", "in production"])
LINEAGE = st.builds(guard.Lineage, STATES, st.integers(0, 400), st.sampled_from([None, {}, OWN, FORKS]), st.none() | st.just(FORKS))


@given(EVIDENCE, LINEAGE)
def test_a_host_beside_a_primary_or_behind_a_served_timeline_comes_back_read_only_or_not_at_all(evidence, lineage):
    action = guard.decide_lift(evidence, lineage).action
    if any(peer.role == "primary" for peer in evidence.peers):
        assert action != guard.WRITABLE
    if action == guard.STANDBY:
        assert evidence.signal
        assert lineage.own == {timeline: fork for timeline, fork in FORKS.items() if timeline < evidence.timeline}
    if any(peer.role == "standby" and peer.timeline > evidence.timeline for peer in evidence.peers):
        assert action != guard.WRITABLE


def test_a_refusal_names_who_is_silent_and_how_to_name_what_is_lost():
    decision = guard.decide_lift(fenced(peers=(SILENT,)), guard.Lineage())
    assert "--gone b-db1" in decision.next_action


def test_where_a_timeline_is_left_is_read_from_the_history_file():
    text = "1\t0/5000148\tno recovery target specified\n\n2\t1/A0\tno recovery target specified\n"
    assert guard.history_forks(text) == {1: 0x5000148, 2: (1 << 32) + 0xA0}


ARCHIVED = "1\t0/64\tno recovery target specified\n\n2\t0/C8\tno recovery target specified\n"


@pytest.mark.parametrize(
    ("answers", "forks"),
    [
        ({1: ARCHIVED, 2: ARCHIVED}, {1: 100, 2: 200}),
        ({1: None, 2: ARCHIVED}, {1: 100, 2: 200}),
        ({1: ARCHIVED, 2: ARCHIVED.replace("C8", "C9")}, None),
        ({1: None, 2: None}, None),
    ],
    ids=["both", "one is silent", "they differ", "nobody"],
)
def test_the_primarys_history_is_what_the_repositories_tell_with_one_voice(host, monkeypatch, answers, forks):  # noqa: F811
    settings = guard.Settings(**{**vars(host), "stanza": "minimarket", "repositories": list(answers)})

    def ask(_settings, repository, words, _deadline):
        return "17-1\n" if words[0] == "repo-ls" else answers[repository] if words[1].endswith("00000003.history") else None

    monkeypatch.setattr(guard, "ask_archive", ask)
    assert guard.archived_forks(settings, 3) == forks
    assert guard.archived_forks(settings, 1) == {}


@pytest.mark.parametrize(("state", "location"), [("shut down", 0x30), ("shut down in recovery", 0x40)])
def test_where_the_data_of_a_standby_end_is_where_it_has_replayed_to(host, monkeypatch, state, location):  # noqa: F811
    control = {"Latest checkpoint location": "0/30", "Minimum recovery ending location": "0/40", "Database cluster state": state}
    monkeypatch.setattr(guard, "controldata", lambda _: control)
    host.file("pg_wal").mkdir()
    host.file("pg_wal/00000003.history").write_text(ARCHIVED)
    found = guard.lineage(host, fenced())
    assert (found.state, found.location, found.own) == (state, location, {1: 100, 2: 200})
    assert guard.own_forks(host, 4) is None
    assert guard.own_forks(host, 1) == {}


@pytest.fixture
def fenced_host(host, monkeypatch):  # noqa: F811 - the fixture
    """A fenced host; what its peers say is given, systemd is told nothing."""
    told = []
    monkeypatch.setattr(guard, "controldata", lambda _: {"Latest checkpoint's TimeLineID": "3"})

    def run(words, **_):
        told.append(words)
        return guard.subprocess.CompletedProcess(words, 0)

    monkeypatch.setattr(guard.subprocess, "run", run)
    monkeypatch.setattr(guard, "masked", lambda _: True)
    guard.write_mark(guard.FENCE, FENCE)
    guard.put_signal(host)

    def peers(*found):
        monkeypatch.setattr(guard, "ask_around", lambda _settings, evidence, *_: guard.replace(evidence, peers=found))

    peers(STANDBY_PEER)
    return host, peers, told


def marks():
    return {path.name for path in guard.STATE.glob("*.json")}


def test_a_lifted_host_is_held_until_the_boot_guard_has_looked_again(fenced_host):
    settings, _, told = fenced_host
    assert guard.lift(settings, "a false alarm", run_id="run-1")[0] is True
    assert marks() == {guard.HOLD}
    assert settings.file("standby.signal").exists()
    assert ["systemctl", "unmask", "--", settings.unit] in told
    last = json.loads((guard.STATE / guard.JOURNAL).read_text().splitlines()[-1])
    assert (last["decision"], last["by"], last["said"]) == ("fence-lifted", "run-1", "a false alarm")
    # A second time there is nothing to do.
    assert guard.lift(settings, "again")[0] is False


def test_a_lift_that_is_refused_or_only_tried_changes_nothing(fenced_host):
    settings, peers, told = fenced_host
    assert guard.lift(settings, "tried", dry=True)[0] is True
    peers(SILENT)
    lifted, decision = guard.lift(settings, "hope")
    assert (lifted, decision.action) == (False, guard.REFUSE)
    assert marks() == {guard.FENCE}
    assert told == []


def test_only_a_silent_host_can_be_named_as_lost(fenced_host):
    settings, peers, _ = fenced_host
    assert guard.lift(settings, "x", gone=["b-db1"])[1].action == guard.REFUSE
    assert marks() == {guard.FENCE}
    peers(SILENT)
    assert guard.lift(settings, "site b burned down", gone=["b-db1"])[0] is True
    assert marks() == {guard.HOLD}


# -- while a run is at work --

RUN = "20261124T121530Z-failover-1f3a"


def lock(seconds=86400.0, **changes):
    words = {"run_id": RUN, "owner": "ana", "controller": "ops1", "since": "2026-11-24T12:15:30Z", "boot_id": guard.boot_id()}
    return {**words, "lease_until_boottime": guard.boottime() + seconds, **changes}


@pytest.mark.parametrize(
    ("found", "run_id", "goes_on"),
    [
        (None, "", True),
        (lock(), "", False),
        (lock(), "another", False),
        (lock(), RUN, True),
        (lock(-1.0), "", True),
        (lock(boot_id="another"), "", True),
        ({"reason": "the mark cannot be read"}, "", False),
    ],
    ids=["no lock", "by hand", "another run", "the run itself", "its lease is over", "of an earlier boot", "cannot be read"],
)
def test_nothing_is_lifted_or_started_by_hand_while_a_run_may_be_at_work(fenced_host, capsys, found, run_id, goes_on):
    settings, _, told = fenced_host
    if found is not None:
        guard.write_mark(guard.LOCK, found)
    lifted, decision = guard.lift(settings, "a false alarm", run_id=run_id)
    assert lifted == goes_on
    assert (guard.FENCE in marks()) != goes_on
    if not goes_on:
        assert ("ana on ops1" in decision.reason and RUN in decision.reason) or "cannot be read" in decision.reason
        assert decision.next_action

    guard.remove_mark(guard.FENCE)
    guard.write_mark(guard.HOLD, {"by": "relevo-guard", "timeline": 3})
    told.clear()
    guard.start(settings, "I know it", run_id)
    assert (["systemctl", "restart", settings.unit] in told) == goes_on
    assert (guard.PERMIT in marks()) == goes_on
    if not goes_on:
        assert "Next:" in capsys.readouterr().out
