"""The boot guard's decision, as a table: one row for each thing that can be seen before PostgreSQL starts."""

from __future__ import annotations

import importlib.util
import itertools
import json
import sys
from pathlib import Path

import pytest
from ansible_collections.relevo.dr.plugins.module_utils import guard_state
from hypothesis import given
from hypothesis import strategies as st

SOURCE = Path(__file__).parents[3] / "roles/dr_guard/files/relevo_guard.py"


def load():
    spec = importlib.util.spec_from_file_location("relevo_guard", SOURCE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["relevo_guard"] = module
    spec.loader.exec_module(module)
    return module


guard = load()
Evidence, Peer = guard.Evidence, guard.Peer

STANDBY_PEER = Peer("b-db1", "standby", 3)
SILENT = Peer("b-db1", "silent", detail="no answer within 5 s")
AWAY = Peer("c-db1", "silent", detail="no route to host")
FENCE = {"run_id": "20261124T121530Z-failover-1f3a", "at": "2026-11-24T12:15:31.000000Z", "reason": "fenced by a run"}
HOLD = {"by": "relevo-guard", "timeline": 3}
PERMIT = {"by": "ana", "reason": "b-db1 is in repair"}


def seen(**changes):
    return Evidence(**{"cluster": True, "timeline": 3, **changes})


TABLE = [
    ("no cluster here", seen(cluster=False), guard.WRITABLE),
    ("a single host", seen(), guard.WRITABLE),
    ("a standby", seen(signal=True), guard.STANDBY),
    ("a standby whose peers are gone", seen(signal=True, peers=(SILENT,)), guard.STANDBY),
    ("a restart of the healthy primary", seen(peers=(STANDBY_PEER,), archive_timeline=3), guard.WRITABLE),
    ("the same, with a dead repository", seen(peers=(STANDBY_PEER,)), guard.WRITABLE),
    ("the same, one of two standbys away", seen(peers=(STANDBY_PEER, AWAY), archive_timeline=3), guard.WRITABLE),
    ("a neighbour answers, the other site and the archive do not", seen(peers=(STANDBY_PEER, AWAY)), guard.HOLD_READ_ONLY),
    (
        "a neighbour answers, somebody else's cluster at the other address",
        seen(peers=(STANDBY_PEER, Peer("c-db1", "other-system"))),
        guard.HOLD_READ_ONLY,
    ),
    ("two standbys answer, the archive does not", seen(peers=(STANDBY_PEER, Peer("c-db1", "standby", 3))), guard.WRITABLE),
    ("nobody of two answers, the archive does", seen(peers=(SILENT, AWAY), archive_timeline=3), guard.HOLD_READ_ONLY),
    (
        "a neighbour and this site's own store answer, the other site does not",
        seen(peers=(STANDBY_PEER, AWAY), archive_timeline=3, archive_silent=(2,)),
        guard.HOLD_READ_ONLY,
    ),
    (
        "the same, and this site's own store is ahead",
        seen(peers=(STANDBY_PEER, AWAY), archive_timeline=4, archive_silent=(2,)),
        guard.FENCE_AND_REFUSE,
    ),
    (
        "the same, and an operator knows",
        seen(peers=(STANDBY_PEER, AWAY), archive_timeline=3, archive_silent=(2,), permit=PERMIT),
        guard.WRITABLE,
    ),
    (
        "every host answers, one repository is dead",
        seen(peers=(STANDBY_PEER,), archive_timeline=3, archive_silent=(2,)),
        guard.WRITABLE,
    ),
    ("one of two answers, the archive is behind us", seen(peers=(STANDBY_PEER, AWAY), archive_timeline=2), guard.WRITABLE),
    ("one of two answers, the archive is ahead", seen(peers=(STANDBY_PEER, AWAY), archive_timeline=4), guard.FENCE_AND_REFUSE),
    ("one of two answers, and an operator knows", seen(peers=(STANDBY_PEER, AWAY), permit=PERMIT), guard.WRITABLE),
    ("held, one of two is back", seen(signal=True, hold=HOLD, peers=(STANDBY_PEER, AWAY)), guard.HOLD_READ_ONLY),
    (
        "a standby that lags behind a promotion of ours",
        seen(peers=(Peer("b-db1", "standby", 2),), archive_timeline=3),
        guard.WRITABLE,
    ),
    ("fenced", seen(fence=FENCE), guard.REFUSE),
    ("fenced, and a standby", seen(fence=FENCE, signal=True), guard.REFUSE),
    ("fenced, and the peer is a standby", seen(fence=FENCE, peers=(STANDBY_PEER,)), guard.REFUSE),
    ("fenced, and an operator insists", seen(fence=FENCE, permit=PERMIT), guard.REFUSE),
    ("fenced by a mark that cannot be read", seen(fence={"reason": "the mark cannot be read"}), guard.REFUSE),
    ("a newer primary", seen(peers=(Peer("b-db1", "primary", 4),)), guard.FENCE_AND_REFUSE),
    ("another primary on our own timeline", seen(peers=(Peer("b-db1", "primary", 3),)), guard.FENCE_AND_REFUSE),
    ("a newer primary beside a standby", seen(peers=(STANDBY_PEER, Peer("c-db1", "primary", 4))), guard.FENCE_AND_REFUSE),
    ("a newer primary, and an operator insists", seen(peers=(Peer("b-db1", "primary", 4),), permit=PERMIT), guard.FENCE_AND_REFUSE),
    ("an older primary", seen(peers=(Peer("b-db1", "primary", 2),)), guard.HOLD_READ_ONLY),
    ("an older primary, and an operator insists", seen(peers=(Peer("b-db1", "primary", 2),), permit=PERMIT), guard.HOLD_READ_ONLY),
    ("a standby of a newer timeline", seen(peers=(Peer("b-db1", "standby", 4),)), guard.FENCE_AND_REFUSE),
    ("nobody answers, the archive is ahead", seen(peers=(SILENT,), archive_timeline=4), guard.FENCE_AND_REFUSE),
    ("the same, and an operator insists", seen(peers=(SILENT,), archive_timeline=4, permit=PERMIT), guard.FENCE_AND_REFUSE),
    ("a single host, the archive is ahead", seen(archive_timeline=4), guard.FENCE_AND_REFUSE),
    ("an abandoned promotion", seen(peers=(STANDBY_PEER,), archive_timeline=4), guard.HOLD_READ_ONLY),
    ("the same, and an operator knows", seen(peers=(STANDBY_PEER,), archive_timeline=4, permit=PERMIT), guard.WRITABLE),
    ("nobody answers", seen(peers=(SILENT,), archive_timeline=3), guard.HOLD_READ_ONLY),
    ("nobody answers, nor the archive", seen(peers=(SILENT,)), guard.HOLD_READ_ONLY),
    ("nobody answers, and an operator knows", seen(peers=(SILENT,), archive_timeline=3, permit=PERMIT), guard.WRITABLE),
    ("somebody else's cluster at the peer's address", seen(peers=(Peer("b-db1", "other-system"),)), guard.HOLD_READ_ONLY),
    ("held, still nobody", seen(signal=True, hold=HOLD, peers=(SILENT,)), guard.HOLD_READ_ONLY),
    ("held, the standby is back", seen(signal=True, hold=HOLD, peers=(STANDBY_PEER,)), guard.WRITABLE),
    ("held, the peer was promoted", seen(signal=True, hold=HOLD, peers=(Peer("b-db1", "primary", 4),)), guard.FENCE_AND_REFUSE),
    ("held, and an operator knows", seen(signal=True, hold=HOLD, peers=(SILENT,), permit=PERMIT), guard.WRITABLE),
    ("held, and followed the new primary since", seen(signal=True, hold=HOLD, timeline=4, peers=(SILENT,)), guard.STANDBY),
    ("held, somebody removed the signal", seen(hold=HOLD, peers=(SILENT,)), guard.HOLD_READ_ONLY),
]


@pytest.mark.parametrize(("evidence", "action"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_the_table(evidence, action):
    decision = guard.decide(evidence)
    assert decision.action == action, decision
    assert decision.reason
    if action in {guard.HOLD_READ_ONLY, guard.REFUSE, guard.FENCE_AND_REFUSE}:
        assert decision.next_action


def test_a_refusal_names_the_run_that_fenced_and_when():
    said = guard.sentence(guard.decide(seen(fence=FENCE)))
    assert FENCE["run_id"] in said
    assert FENCE["at"] in said
    assert "Next:" in said


ROLES = st.sampled_from(["primary", "standby", "silent", "other-system"])
PEERS = st.lists(st.builds(Peer, st.sampled_from(["b-db1", "c-db1"]), ROLES, st.integers(1, 5)), max_size=3).map(tuple)
EVIDENCE = st.builds(
    Evidence,
    cluster=st.just(value=True),
    signal=st.booleans(),
    hold=st.sampled_from([None, HOLD]),
    fence=st.sampled_from([None, FENCE]),
    permit=st.sampled_from([None, PERMIT]),
    timeline=st.integers(1, 5),
    peers=PEERS,
    archive_timeline=st.none() | st.integers(1, 5),
    archive_silent=st.sampled_from([(), (2,), (1, 2)]),
)


@given(EVIDENCE)
def test_never_writable_beside_another_primary_or_behind_a_timeline_that_is_served(evidence):
    if guard.decide(evidence).action == guard.WRITABLE:
        assert evidence.fence is None
        assert not any(peer.role == "primary" for peer in evidence.peers)
        assert not any(peer.role == "standby" and peer.timeline > evidence.timeline for peer in evidence.peers)


@given(EVIDENCE, st.data())
def test_less_evidence_never_makes_it_writable(evidence, data):
    """A cut takes any of the peers away, one or all of them, and the archive with them, or the part of it beyond the cut."""
    quiet = guard.Evidence(**{**vars(evidence), "permit": None})
    if quiet.peers and guard.decide(quiet).action != guard.WRITABLE:
        cut = data.draw(st.sets(st.integers(0, len(quiet.peers) - 1), min_size=1))
        peers = tuple(Peer(peer.name, "silent") if n in cut else peer for n, peer in enumerate(quiet.peers))
        left = data.draw(st.none() | st.integers(1, quiet.archive_timeline or 1))
        blind = guard.Evidence(**{**vars(quiet), "peers": peers, "archive_timeline": left, "archive_silent": (2,)})
        assert guard.decide(blind).action != guard.WRITABLE


@given(EVIDENCE)
def test_beside_an_unknown_peer_only_a_standby_and_an_archive_without_a_newer_timeline_will_do(evidence):
    quiet = guard.Evidence(**{**vars(evidence), "permit": None})
    if guard.decide(quiet).action == guard.WRITABLE and any(peer.role != "standby" for peer in quiet.peers):
        assert any(peer.role == "standby" for peer in quiet.peers)
        assert quiet.archive_timeline is not None
        assert quiet.archive_silent == ()
        assert quiet.archive_timeline <= quiet.timeline


def test_a_hold_beside_a_neighbour_names_who_is_silent():
    decision = guard.decide(seen(peers=(STANDBY_PEER, AWAY)))
    assert "c-db1: no route to host" in decision.reason
    assert "b-db1 answers" in decision.reason
    assert "relevo-guard start" in decision.next_action
    part = guard.decide(seen(peers=(STANDBY_PEER, AWAY), archive_timeline=3, archive_silent=(2,)))
    assert "nor repository 2 of the archive" in part.reason


def test_the_timeline_of_a_server_that_died_right_after_its_promotion(tmp_path):
    control = {"Latest checkpoint's TimeLineID": "1", "Min recovery ending loc's timeline": "0"}
    for name in ("000000010000000000000009", "00000002.history", "archive_status"):
        (tmp_path / name).touch()
    assert guard.newest_timeline(control, tmp_path) == 1
    (tmp_path / "00000002000000000000000A").touch()
    assert guard.newest_timeline(control, tmp_path) == 2


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A host whose files are here."""
    monkeypatch.setattr(guard, "STATE", tmp_path / "state")
    (tmp_path / "data/global").mkdir(parents=True)
    (tmp_path / "data/global/pg_control").touch()
    owner = guard.pwd.getpwuid(guard.os.getuid()).pw_name
    return guard.Settings("minimarket", "postgresql@17-main.service", str(tmp_path / "data"), "/nowhere", owner=owner)


def signal(host):
    return host.file("standby.signal").exists()


def marks():
    return {path.name for path in guard.STATE.glob("*.json")}


def carried_out(host, evidence):
    return guard.carry_out(host, evidence, guard.decide(evidence))


def test_a_hold_starts_read_only_and_is_known_as_ours(host):
    assert carried_out(host, seen(peers=(SILENT,))) == 0
    assert signal(host)
    assert marks() == {guard.HOLD}


def test_a_hold_that_is_over_leaves_nothing_behind(host):
    carried_out(host, seen(peers=(SILENT,)))
    assert carried_out(host, seen(signal=True, hold=guard.read_mark(guard.HOLD), peers=(STANDBY_PEER,))) == 0
    assert not signal(host)
    assert marks() == set()


def test_a_stale_host_is_fenced_for_every_later_start(host):
    assert carried_out(host, seen(peers=(Peer("b-db1", "primary", 4),))) == 1
    assert signal(host)
    assert marks() == {guard.FENCE}
    mark = guard.read_mark(guard.FENCE)
    assert mark["kind"] == "guard"
    assert carried_out(host, seen(fence=mark, peers=(STANDBY_PEER,))) == 1


def test_a_fence_puts_the_signal_back(host):
    assert carried_out(host, seen(fence=FENCE)) == 1
    assert signal(host)


def test_a_standby_keeps_its_signal(host):
    host.file("standby.signal").touch()
    assert carried_out(host, seen(signal=True)) == 0
    assert signal(host)


def test_a_permit_counts_once(host):
    guard.write_mark(guard.PERMIT, PERMIT)
    carried_out(host, seen(peers=(SILENT,), permit=PERMIT))
    assert marks() == set()


@pytest.mark.parametrize(
    ("change", "fresh"),
    [({}, True), ({"boot_id": "another"}, False), ({"boottime": 0.0}, False), ({"boottime": 1e12}, False)],
    ids=["fresh", "of another boot", "old", "of the future"],
)
def test_a_permit_is_of_this_boot_and_young(change, fresh):
    permit = {"boot_id": guard.boot_id(), "boottime": guard.time.clock_gettime(guard.time.CLOCK_BOOTTIME), **change}
    old_enough = guard.time.clock_gettime(guard.time.CLOCK_BOOTTIME) > guard.PERMIT_SECONDS
    if change.get("boottime") == 0.0 and not old_enough:
        pytest.skip("this machine has only just been started")
    assert (guard.fresh_permit(permit) is not None) == fresh


def test_every_decision_but_a_standbys_is_in_the_journal(host):
    carried_out(host, seen(peers=(SILENT,)))
    carried_out(host, seen(signal=True))
    lines = [json.loads(line) for line in (guard.STATE / guard.JOURNAL).read_text().splitlines()]
    assert [line["decision"] for line in lines] == [guard.HOLD_READ_ONLY]
    assert lines[0]["kind"] == "result", "an intent would look like an unfinished phase"


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"cluster": "x", "unknown": 1}'])
def test_a_guard_without_settings_waves_nothing_through(tmp_path, content):
    path = tmp_path / "guard.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(guard.GuardError, match=r"guard\.json.*Next:"):
        guard.read_settings(path)


@pytest.mark.usefixtures("host")
def test_an_unreadable_mark_is_a_mark():
    assert guard.read_mark(guard.FENCE) is None
    guard.STATE.mkdir()
    for content in ("", "{", "[]"):
        (guard.STATE / guard.FENCE).write_text(content)
        assert guard.read_mark(guard.FENCE) is not None


class Answers:
    """Stands for psql and pgbackrest: what they print, by the words of the command."""

    def __init__(self, **printed):
        self.printed = printed

    def __call__(self, _settings, command, _timeout):
        for word, text in self.printed.items():
            if any(word in part for part in command):
                return (
                    None
                    if text is None
                    else guard.subprocess.CompletedProcess(command, 0 if text else 2, text, "" if text else "FATAL: nobody")
                )
        return None


@pytest.mark.parametrize(
    ("printed", "role", "timeline"),
    [
        ("primary|77|4\n", "primary", 4),
        ("standby|77|3\n", "standby", 3),
        ("standby|78|3\n", "other-system", 0),
        ("nonsense\n", "silent", 0),
        ("", "silent", 0),
        (None, "silent", 0),
    ],
)
def test_what_a_peer_says(host, monkeypatch, printed, role, timeline):
    monkeypatch.setattr(guard, "run_as_owner", Answers(psql=printed))
    peer = guard.ask_peer(host, {"name": "b-db1", "host": "b-db1", "port": 5432}, "77")
    assert (peer.role, peer.timeline) == (role, timeline)


@pytest.mark.parametrize(
    ("clusters", "names", "newest"),
    [
        ("17-1\narchive.info\n", "00000002.history\n0000000200000000\n", 2),
        ("17-1\n", "0000000100000000\n", 1),
        ("17-1\n", "0000000A.history\n00000002.history\n", 10),
        ("17-1\n", None, None),
        (None, None, None),
    ],
)
def test_the_newest_timeline_of_the_archive(monkeypatch, clusters, names, newest):
    settings = guard.Settings("minimarket", "u", "/d", "/b", stanza="minimarket")
    monkeypatch.setattr(guard, "run_as_owner", Answers(**{"archive/minimarket/": names, "archive/minimarket": clusters}))
    assert guard.archive_timelines(settings) == {1: newest}


@pytest.mark.parametrize(
    ("answers", "newest", "silent"),
    [
        ({1: 2, 2: 3}, 3, ()),
        ({1: None, 2: 3}, 3, (1,)),
        ({1: 3, 2: None}, 3, (2,)),
        ({1: None, 2: None}, None, (1, 2)),
        ({}, None, ()),
    ],
)
def test_the_newest_timeline_that_any_repository_knows_counts_and_who_was_silent_is_kept(
    host, monkeypatch, answers, newest, silent
):
    settings = guard.Settings(**{**vars(host), "stanza": "minimarket", "repositories": list(answers)})
    monkeypatch.setattr(guard, "repository_timeline", lambda _settings, repository, _deadline: answers[repository])
    found = guard.ask_around(settings, seen(), "77", 0.0)
    assert (found.archive_timeline, found.archive_silent) == (newest, silent)


@pytest.mark.parametrize("patient", [True, False])
def test_it_waits_for_a_peer_that_is_still_booting(host, monkeypatch, patient):
    answers = itertools.chain([SILENT, SILENT], itertools.repeat(STANDBY_PEER))
    monkeypatch.setattr(guard, "ask_peer", lambda *_: next(answers))
    monkeypatch.setattr(guard.time, "sleep", lambda _: None)
    settings = guard.Settings(**{**vars(host), "peers": [{"name": "b-db1", "host": "b-db1"}]})
    with guard.concurrent.futures.ThreadPoolExecutor() as pool:
        peers = guard.ask_peers(settings, "77", pool, 5.0 if patient else 0.0, lambda found: guard.settled(seen(peers=found)))
    assert peers == ((STANDBY_PEER,) if patient else (SILENT,))


@pytest.mark.parametrize(
    ("evidence", "settled"),
    [
        (seen(peers=(STANDBY_PEER, AWAY)), False),
        (seen(peers=(STANDBY_PEER, AWAY), archive_timeline=3), True),
        (seen(peers=(SILENT, AWAY), archive_timeline=3), False),
        (seen(peers=(SILENT, AWAY), archive_timeline=4), False),
        (seen(peers=(SILENT, Peer("c-db1", "primary", 4))), True),
        (seen(peers=(SILENT, Peer("c-db1", "standby", 4))), True),
        (seen(peers=(STANDBY_PEER, Peer("c-db1", "standby", 3))), True),
        (seen(), True),
    ],
)
def test_it_waits_only_for_peers_whose_word_could_help(evidence, settled):
    assert guard.settled(evidence) == settled


DECIDED = {"decision": {"action": "start", "reason": "b-db1 answers and is a standby"}}


@pytest.mark.parametrize(
    ("armed", "answer", "fence", "verdict"),
    [
        (True, DECIDED, None, "pass"),
        (False, DECIDED, None, "fail"),
        (True, {}, None, "fail"),
        (False, {}, FENCE, "not_applicable"),
    ],
)
def test_the_gate(armed, answer, fence, verdict):
    gate = guard_state.gate("a-db1", armed, answer, fence)
    assert gate["verdict"] == verdict
    assert bool(gate["next_action"]) == (verdict == "fail")


@pytest.mark.parametrize(
    ("watch", "verdict", "says"),
    [
        ({"self_fence_seconds": 0, "alive": False}, "pass", "no self-fence"),
        ({"self_fence_seconds": 20, "alive": True}, "pass", "self-fence after 20 s, alive"),
        ({"self_fence_seconds": 20, "alive": False}, "fail", "its watch is dead"),
    ],
)
def test_a_self_fence_whose_watch_is_dead_is_not_silent(watch, verdict, says):
    gate = guard_state.gate("a-db1", armed=True, guard={**DECIDED, "watch": watch}, fence=None)
    assert gate["verdict"] == verdict
    assert says in gate["observed"]
