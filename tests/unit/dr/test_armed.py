"""An armed run: what it makes of time, what it does with a word, and what never acts without one."""

from __future__ import annotations

import os
import time
from types import SimpleNamespace

import pytest
from ansible_collections.relevo.dr.plugins.action import armed as armed_action
from ansible_collections.relevo.dr.plugins.action import handover, lock, preflight
from ansible_collections.relevo.dr.plugins.action import open as opening
from ansible_collections.relevo.dr.plugins.module_utils import armed, clock
from ansible_collections.relevo.dr.plugins.module_utils.gates import FAIL, PASS, UNKNOWN, Gate
from ansible_collections.relevo.dr.plugins.module_utils.plan import make_plan
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal
from ansible_collections.relevo.dr.plugins.plugin_utils import armed_files, gatekeeper
from ansible_collections.relevo.dr.plugins.plugin_utils.armed_files import Observed
from ansible_collections.relevo.dr.plugins.plugin_utils.control import Control, ControlError
from ansible_collections.relevo.dr.plugins.plugin_utils.gatekeeper import Gatekeeper, Judged
from hypothesis import given
from hypothesis import strategies as st

HOSTS = {"a-db1": "database", "b-db1": "database", "b-app1": "application", "wit1": "witness"}
GIVEN = {"dr_armed": "true", "dr_mode": "disaster", "dr_scope": "site", "dr_target_site": "b"}
WORDS = "failover shop to b"
LIMITS = armed.Limits(armed_seconds=3600.0, unheard_seconds=300.0, evidence_seconds=30.0)

ages = st.floats(0, 1e6)
facts = st.recursive(
    st.none() | st.booleans() | ages | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["age_seconds", "last_age_seconds", "lsn", "age"]), inner, max_size=3)
    ),
    max_leaves=12,
)


def numbers_of(tree, *, old=False):
    """Every number, and whether it is an age."""
    if isinstance(tree, dict):
        return [found for name, value in sorted(tree.items()) for found in numbers_of(value, old=str(name).endswith("age_seconds"))]
    if isinstance(tree, list):
        return [found for value in tree for found in numbers_of(value)]
    return [(tree, old)] if isinstance(tree, float) else []


@given(facts, ages)
def test_every_age_grows_by_the_time_since_it_was_seen_and_nothing_else_does(tree, seconds):
    after = [value for value, _ in numbers_of(armed.aged(tree, seconds))]
    # An age that is a tree is none, and its own ages are.
    expected = [value + seconds if old else value for value, old in numbers_of(tree)]
    if not any(isinstance(value, (dict, list)) for value in _under_ages(tree)):
        assert after == pytest.approx(expected)


def _under_ages(tree):
    if isinstance(tree, list):
        return [found for value in tree for found in _under_ages(value)]
    if not isinstance(tree, dict):
        return []
    here = [value for name, value in tree.items() if name.endswith("age_seconds")]
    return here + [found for value in tree.values() for found in _under_ages(value)]


@given(ages, ages)
def test_nothing_becomes_younger(age, seconds):
    assert armed.aged({"age_seconds": age}, -seconds) == {"age_seconds": age}
    assert armed.aged({"age_seconds": age}, seconds)["age_seconds"] >= age


@given(ages, ages, ages, ages)
def test_a_run_that_has_waited_too_long_is_never_armed_again(waited, unheard, more, longer):
    if armed.expired(waited, unheard, LIMITS):
        assert armed.expired(waited + more, unheard + longer, LIMITS)
    else:
        assert waited <= LIMITS.armed_seconds
        assert unheard <= LIMITS.unheard_seconds


names = st.lists(st.sampled_from("ABCDE"), unique=True)


@given(names, names)
def test_what_turned_leads_from_one_judgement_to_the_next(before, now):
    red, green = armed.turned(before, now)
    assert (set(before) - set(green)) | set(red) == set(now)
    assert not set(red) & set(green)


@given(st.dictionaries(st.sampled_from(list(HOSTS)), ages))
def test_evidence_passes_only_when_all_of_it_is_young(seen):
    passes = armed.evidence_gate(seen, LIMITS).verdict == PASS
    assert passes == (bool(seen) and max(seen.values()) <= LIMITS.evidence_seconds)


def test_what_is_neither_go_nor_cancel_is_no_word():
    with pytest.raises(ValueError, match="neither"):
        armed.read_word({"word": "maybe"})


@pytest.fixture
def control(tmp_path):
    control = Control("run", str(tmp_path))
    groups = {"dr_database": ["a-db1", "b-db1"], "dr_application": ["b-app1"], "dr_witness": ["wit1"], "dr_observer": ["wit1"]}
    began = {"at": "2026-11-28T08:00:00.000000Z", "boottime": 1.0}
    control.write("landscape", {"runbook": "failover", "cluster": "shop", "groups": groups, "given": GIVEN, "began": began})
    control.write("plan", {"fence": ["a-db1"], "primary": "a-db1"})
    for host, kind in HOSTS.items():
        control.write(f"{kind}/{host}", seen())
    control.write("fence/a-db1", {"settings": {"providers": ["command"], "command_status": ["echo", "on"]}, "power": "on"})
    return control


def seen(ago=0.0, **more):
    observed = {"at": clock.utc_now(), "boottime": clock.boottime_seconds() - ago}
    return {"reachable": True, "settings": {}, "observed": observed, "facts": {"host": {"wall_age_seconds": 1.0}}, **more}


class Guarded:
    """A gatekeeper whose judgement is the test's, and whose hosts look at once."""

    def __init__(self, control, verdicts, addresses=None, limits=LIMITS):
        self.control, self.verdicts, self.said, self.judged = control, verdicts, [], []
        self.keeper = Gatekeeper(control, limits, 0.05, self.judge, self.said.append, addresses or dict.fromkeys(HOSTS))

    def judge(self, observed):
        self.judged.append(observed)
        red = self.verdicts(observed)
        return Judged(
            {"fence": ["a-db1"], "primary": "a-db1"}, {name: f"{name}: red" for name in red}, [], "fence a-db1, promote b-db1"
        )

    def steps(self, until, seconds=60.0):
        limit = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < limit, self.said
            number = armed_files.newest_round(self.control)
            if number:
                for host, kind in HOSTS.items():
                    Observed(self.control, number).write(f"{kind}/{host}", seen())
                    armed_files.looked(self.control, number, host)
            self.keeper.step()

    def say(self, word=armed.GO, confirm=WORDS, number="1", ago=0.0):
        moment = {"at": clock.utc_now(), "boottime": clock.boottime_seconds() - ago}
        self.control.write(
            armed_files.WORDS[word], {"word": word, "by": "ana", **moment, "number": number, "confirm": confirm, "reason": ""}
        )

    def take_back(self):
        os.unlink(os.path.join(self.control.directory, "armed/word.json"))

    def answer(self):
        return self.control.read(armed_files.ANSWER) if self.control.exists(armed_files.ANSWER) else None

    def end(self):
        return self.control.read(armed_files.END) if self.control.exists(armed_files.END) else None


def test_with_every_gate_green_the_word_is_taken_and_the_run_begins_now(control):
    gate = Guarded(control, lambda _: [])
    gate.steps(lambda: gate.keeper.looks >= 2)
    gate.say()
    gate.steps(gate.end)
    assert gate.answer()["granted"]
    end = gate.end()
    assert (end["how"], end["armed"]["by"]) == (armed.GONE, "ana")
    assert end["armed"]["looks"] >= 2
    assert set(end["armed"]["evidence_age_seconds"]) == set(HOSTS)
    assert clock.boottime_seconds() - control.read("landscape")["began"]["boottime"] < 5
    assert not control.exists(armed_files.WORDS[armed.GO])


@pytest.mark.parametrize("typed", ["", "drill production shop to b", "failover shop to a"])
def test_without_the_words_of_confirmation_it_stays_armed(control, typed):
    gate = Guarded(control, lambda _: [])
    gate.say(confirm=typed)
    gate.steps(gate.answer)
    assert not gate.answer()["granted"]
    assert "CONFIRM on controller" in gate.answer()["sentences"][0]
    assert gate.end() is None


def test_a_red_gate_stands_in_the_way_of_go_as_long_as_it_is_red(control, monkeypatch):
    monkeypatch.setattr(gatekeeper, "_WORD_SECONDS", 0.3)
    red = ["REACH on b-app1: reachable"]
    gate = Guarded(control, lambda _: red)
    gate.steps(lambda: gate.keeper.looks)
    assert "In the way of go: REACH on b-app1: reachable: red" in gate.said
    gate.say()
    gate.steps(gate.answer)
    assert gate.answer()["granted"] is False
    assert gate.answer()["sentences"] == ["REACH on b-app1: reachable: red"]
    assert gate.end() is None
    red.clear()
    gate.steps(lambda: any("No longer in the way" in said for said in gate.said))
    gate.say(number="2")
    gate.steps(gate.end)
    assert gate.end()["how"] == armed.GONE


def test_a_word_waits_for_a_look_that_is_newer_than_what_happened(control):
    """Right after the loss the newest look is of before it: the hosts look at once, and nobody has to say it twice."""
    since = []
    gate = Guarded(control, lambda observed: [] if observed.number or since else (since.append(1), ["G07 on a-db1: seen alike"])[1])
    gate.steps(lambda: gate.keeper.looks)
    gate.say()
    gate.steps(gate.end)
    assert gate.answer()["granted"]
    assert len(since) == 1


def test_it_is_cancelled_by_a_word_whatever_is_red(control):
    gate = Guarded(control, lambda _: ["G08 on b-db1: lag"])
    gate.say(armed.CANCEL, confirm="")
    gate.steps(gate.end)
    assert (gate.end()["how"], gate.end()["armed"]["go_at"]) == (armed.CANCELLED, None)
    assert "cancelled by ana" in gate.end()["said"]


def test_a_run_that_goes_is_not_answered_no_and_its_end_stands(control, monkeypatch):
    """It was granted in a round, and refused in the same step, 15 s after it was said: a watcher started a second run beside the one that went."""
    red = ["G07 on a-db1: seen alike"]
    gate = Guarded(control, lambda _: red)
    gate.steps(lambda: gate.keeper.looks)
    gate.say()
    gate.steps(lambda: gate.keeper._word)
    red.clear()
    gate.steps(gate.end)
    ended = gate.end()
    monkeypatch.setattr(gatekeeper, "_WORD_SECONDS", -1.0)
    gate.say(armed.CANCEL, number="2")
    for _ in range(3):
        gate.keeper.step()
    assert (gate.answer()["number"], gate.answer()["granted"]) == ("1", True)
    assert gate.end() == ended
    assert ended["how"] == armed.GONE


def test_a_judgement_that_a_word_overtakes_writes_nothing_any_more(control):
    """It wrote its plan, of before the crash, over the one of the word, while the hosts began to read it."""

    def judging(observed):
        if observed.number:
            time.sleep(0.5)
        control.write("plan", {"fence": ["a-db1"], "primary": "a-db1", "of": observed.number})
        return []

    control.write("database/b-db1", seen(ago=100.0))
    gate = Guarded(control, judging)
    gate.steps(lambda: gate.keeper._judging)
    gate.say()
    gate.steps(gate.end)
    time.sleep(0.8)
    assert control.read("plan")["of"] == 0
    # What that round saw is the newest all the same.
    assert gate.end()["armed"]["evidence_age_seconds"]["b-db1"] < 50


@pytest.mark.parametrize("sentences", [["G08 on b-db1: replay runs. Observed: no"], []], ids=["red", "green"])
def test_what_is_red_is_what_the_judgement_itself_says(control, sentences):
    """A green one that ended in between left no sentences in the file, and the word was taken with a red gate."""
    verdict = FAIL if sentences else PASS
    found = Gate("G08", "replay runs", "b-db1", "no", "yes", verdict).as_dict()

    class Judging(armed_action.Again):
        def act(self):
            answer = self._judged(sentences, {"detail": "its own"}, gates=[found], plan={"fence": []})
            control.write("judgement", {"sentences": [] if sentences else ["of another"], "summary": "of another", "enforce": True})
            return answer

    control.write("asked/judge", {"args": {}})
    action = armed_action.ActionModule.__new__(armed_action.ActionModule)
    action.control, action._limits = control, LIMITS
    action._task = SimpleNamespace(args={"enforce": True})

    def played(_action, _arguments, seen):
        step = Judging.__new__(Judging)
        step.control, step._task = seen, action._task
        return step

    action.played = played
    judged = action._judge(Observed(control))
    assert list(judged.red.values()) == sentences
    assert bool(judged.red) == bool(sentences)
    assert judged.summary == "its own"


def test_a_go_that_waits_for_a_gate_is_cancelled_by_another_word(control):
    gate = Guarded(control, lambda _: ["G08 on b-db1: lag"])
    gate.say()
    gate.steps(lambda: gate.keeper._word)
    gate.say(armed.CANCEL, confirm="", number="2")
    gate.steps(gate.end)
    assert gate.end()["how"] == armed.CANCELLED
    assert (gate.answer()["number"], gate.answer()["granted"]) == ("2", True)


def test_who_cancels_while_a_go_is_judged_is_heard_before_it_goes(control):
    gate = Guarded(control, lambda observed: [] if observed.number else gate.say(armed.CANCEL, number="2") or [])
    gate.say()
    gate.steps(gate.end)
    assert gate.end()["how"] == armed.CANCELLED


def test_a_go_that_was_taken_back_is_not_obeyed(control):
    red = ["G08 on b-db1: lag"]
    gate = Guarded(control, lambda _: red)
    gate.say()
    gate.steps(lambda: gate.keeper._word)
    gate.take_back()
    red.clear()
    looks = gate.keeper.looks
    gate.steps(lambda: gate.keeper.looks > looks + 1)
    assert (gate.answer(), gate.end()) == (None, None)
    assert "ana said go, and has taken it back" in gate.said
    # The next one is.
    gate.say(number="2")
    gate.steps(gate.end)
    assert gate.answer()["number"] == "2"


def test_a_go_that_is_taken_back_while_it_is_judged_is_not_obeyed(control):
    gate = Guarded(control, lambda observed: [] if observed.number else gate.take_back() or [])
    gate.say()
    gate.steps(lambda: any("taken it back" in said for said in gate.said))
    assert (gate.answer(), gate.end()) == (None, None)


def test_a_go_of_long_ago_is_refused_and_a_cancel_is_not(control):
    """A run that hung, or whose controller slept, finds a word for which nobody waits any more."""
    gate = Guarded(control, lambda _: [])
    gate.say(ago=21.0)
    gate.steps(gate.answer)
    assert not gate.answer()["granted"]
    assert "said 21 s ago" in gate.answer()["sentences"][0]
    assert gate.end() is None
    gate.say(armed.CANCEL, ago=3600.0, number="2")
    gate.steps(gate.end)
    assert gate.end()["how"] == armed.CANCELLED


@pytest.mark.parametrize(
    ("limits", "red", "said"),
    [
        (armed.Limits(0.3, 300, 30), [], "armed for"),
        (armed.Limits(3600, 0.3, 30), ["REACH on b-db1: reachable"], "evidence is too old"),
    ],
    ids=["armed for too long", "hosts that cannot be asked"],
)
def test_it_ends_by_itself(control, limits, red, said):
    gate = Guarded(control, lambda _: red, limits=limits)
    gate.steps(gate.end)
    assert gate.end()["how"] == armed.EXPIRED
    assert said in gate.end()["said"]


@pytest.mark.parametrize(
    ("plan", "red", "heard"),
    [
        ({}, [], True),
        ({}, ["G08 on b-db1: lag"], True),
        ({}, ["REACH on b-db1: reachable"], False),
        (None, ["G07 on a-db1, b-db1: two primaries"], False),
    ],
)
def test_only_a_host_that_cannot_be_asked_makes_the_evidence_old(plan, red, heard):
    assert Judged(plan, dict.fromkeys(red, ""), [], "").heard == heard


def test_whose_power_is_off_does_not_answer_now(control):
    gate = Guarded(control, lambda _: [])
    gate.steps(lambda: gate.keeper.looks)
    settings = {"providers": ["command"], "command_status": ["echo", "off"]}
    control.write("fence/a-db1", {"settings": settings, "power": "on", "error": None})
    gate.say()
    gate.steps(gate.end)
    present = gate.judged[-1]
    assert present.read("database/a-db1")["reachable"] is False
    assert "facts" not in present.read("database/a-db1")
    assert present.read("fence/a-db1")["power"] == "off"
    # What the hand-over reads afterwards is what was judged.
    assert control.read("database/a-db1")["reachable"] is False
    assert control.read("database/b-db1")["reachable"] is True


def test_who_answers_no_connection_does_not_answer_now(control):
    places = {**dict.fromkeys(HOSTS), "b-app1": ("127.0.0.1", 1)}
    gate = Guarded(
        control, lambda observed: [] if observed.read("application/b-app1")["reachable"] else ["REACH on b-app1: gone"], places
    )
    gate.steps(lambda: gate.keeper.looks)
    gate.say()
    gate.steps(lambda: any("In the way of go: REACH on b-app1" in said for said in gate.said))
    assert gate.end() is None


def test_a_judgement_that_goes_wrong_is_red(control):
    def broken(observed):
        if observed.number:
            os._exit(1)
        return []

    gate = Guarded(control, broken)
    gate.steps(lambda: any("the judgement went wrong" in said for said in gate.said))


def test_what_one_round_saw_is_as_old_as_it_is_and_stands_apart_until_it_is_judged(control):
    armed_files.begin_round(control, 1)
    Observed(control, 1).write("database/b-db1", seen(ago=10.0, error="of the round"))
    assert control.read("database/b-db1").get("error") is None
    inside = Observed(control, 1).read("database/b-db1")
    assert inside["facts"]["host"]["wall_age_seconds"] == pytest.approx(11.0, abs=1.0)
    assert Observed(control, 1).read("plan") == control.read("plan")
    assert set(Observed(control, 1).read_all("database")) == {"b-db1"}
    armed_files.adopt(control, 1)
    assert control.read("database/b-db1")["error"] == "of the round"
    assert armed_files.ages(control)["b-db1"] == pytest.approx(10.0, abs=1.0)


@pytest.mark.parametrize("how", [None, armed.CANCELLED, armed.EXPIRED])
@pytest.mark.parametrize("step", [lock, handover], ids=["lock", "hand-over"])
def test_nothing_of_an_armed_run_acts_without_the_word(control, landscape, step, how):
    control.write("plan", make_plan(landscape, "b", "site").as_dict())
    if how:
        control.write(armed_files.END, {"how": how})
    action = step.ActionModule.__new__(step.ActionModule)
    action.host, action.control = "b-db1", control
    action._task = SimpleNamespace(args={"state": "held", "lease_seconds": 60, "orphan_wait_seconds": 0}, check_mode=False)
    with pytest.raises(ControlError, match="nobody has said go"):
        action.act()


def test_the_second_person_may_be_missing_when_a_run_is_armed_and_in_no_other_run(control):
    action = preflight.ActionModule.__new__(preflight.ActionModule)
    action.control = control
    missing, red = (Gate(name, "", "controller", "", "", verdict) for name, verdict in (("APPROVAL", FAIL), ("G08", UNKNOWN)))
    assert action.blocking([missing, red]) == [red]
    control.write("landscape", {"given": {}})
    assert action.blocking([missing, red]) == [missing, red]


@pytest.mark.parametrize(
    ("runbook", "more", "says"),
    [
        ("switchover", {}, "dr_armed for switchover"),
        ("backup", {}, "dr_armed for backup"),
        ("failover", {"dr_path": "restore"}, "with a restore"),
        ("failover", {"dr_restore_set": "latest"}, "with a restore"),
    ],
)
def test_only_a_promotion_waits_for_a_word(runbook, more, says):
    with pytest.raises(Refusal, match=says):
        opening._check_armed(runbook, {**GIVEN, **more})


def test_a_word_is_read_as_it_was_written(control):
    moment = {"at": "2026-11-28T08:00:00.000000Z", "boottime": clock.boottime_seconds()}
    word = {"word": "go", "by": "ana", **moment, "number": "7", "confirm": WORDS, "more": 1}
    control.write("armed/word", word)
    assert armed_files.take_word(control, armed.GO) == armed.Word("go", "ana", word["at"], "7", WORDS, boottime=word["boottime"])


@pytest.mark.parametrize(
    "lies",
    [{"word": "maybe"}, {"word": "cancel"}, {"word": "go", "boottime": "now"}, {"word": "go", "boottime": [1]}, {"word": "go"}],
)
def test_what_is_no_word_is_removed(control, lies):
    control.write("armed/word", lies)
    assert armed_files.take_word(control, armed.GO) is None
    assert not control.exists("armed/word")


def test_who_is_refused_the_lock_leaves_nothing_that_waits(control, landscape):
    """What was started before the word waited there for half a minute more."""
    cleared = []
    action = armed_action.ActionModule.__new__(armed_action.ActionModule)
    action.host, action.control = "b-db1", control
    action._asides, action._looking, action._staged = [], None, {}
    action._task = SimpleNamespace(args={"lock": {}})
    action._clear = lambda: cleared.append(True)
    action.played = lambda *_: SimpleNamespace(act=lambda: {"failed": True, "msg": "G10 on b-db1: held"})
    assert action._act(make_plan(landscape, "b", "site"))["failed"]
    assert cleared


def test_who_is_cancelled_lets_a_look_end_before_it_clears():
    """Killed in the middle of a look, ssh leaves sudo waiting on the host for a password that nobody sends."""
    done = []
    action = armed_action.ActionModule.__new__(armed_action.ActionModule)
    action._looking = SimpleNamespace(came=lambda seconds: done.append(("look", seconds)))
    action._clear = lambda: done.append("cleared")
    ended = {"how": armed.CANCELLED, "said": "cancelled by ana", "gates": [], "armed": {}}
    assert action._ended(ended, keeps=True)["failed"]
    assert done == [("look", 5.0), "cleared"]


@pytest.mark.parametrize(
    ("parts", "whole"),
    [
        ({}, None),
        ({"b-db1": True}, None),
        ({"b-db1": True, "b-app1": True}, True),
        # The promoting host decides: the others do not try then, and nobody waits for them.
        ({"b-db1": False}, False),
        ({"b-db1": True, "b-app1": False}, False),
    ],
)
def test_one_host_that_does_not_give_the_lock_decides_it_for_all(control, parts, whole):
    for host, held in parts.items():
        control.write(f"lock/{host}", {"held": held})
    assert armed_files.all_hold(control, ["b-db1", "b-app1"]) is whole


@pytest.mark.parametrize("part", ["_stop_server", "_lease_left_seconds"])
def test_nothing_is_stopped_or_switched_off_before_every_host_has_given_the_lock(control, part):
    control.write("lock/b-db1", {"held": True, "lease_seconds": 60, "began": {"at": clock.utc_now(), "boottime": 1.0}})
    control.write("lock/b-app1", {"held": False})
    action = handover.ActionModule.__new__(handover.ActionModule)
    action.host, action.control, action.holders = "a-db1", control, ["b-db1", "b-app1"]
    action._task = SimpleNamespace(args={"fence_seconds": 1.0})
    action._plan = SimpleNamespace(restore=None, promote="b-db1")
    with pytest.raises(handover.PartFailed, match="not every host gave its part of the lock"):
        getattr(action, part)()
