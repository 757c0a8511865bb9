"""Armed runs as others see them: who waits, the word that is said once, and what a signal does."""

from __future__ import annotations

import json
import signal
import threading
import time
from dataclasses import replace

import pytest

from relevo import armed, clock, identity, journal, trigger
from relevo.errors import Exit, RelevoError, UsageError
from relevo.evidence import Evidence, Failure
from relevo.paths import Place
from relevo.verdict import Ending, Verdict, decide

RUN = "20261128T080000Z-failover-1f3a90c1"
STATE = {
    "run_id": RUN,
    "cluster": "shop",
    "ready": True,
    "armed_at": "2026-11-28T08:00:00.000000Z",
    "armed_boottime": 1.0,
    "limit_seconds": 14400.0,
    "looks": 3,
    "judged_at": None,
    "summary": "all 31 gates pass",
    "red": [],
    "confirm": "failover shop to b",
    "wish": {"dr_mode": "disaster", "dr_scope": "site", "dr_target_site": "b", "dr_accept_loss_seconds": "5"},
}


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path, f"sqlite:///{tmp_path / 'relevo.db'}")


@pytest.fixture
def run(place):
    """A run of this process that waits."""
    opening = journal.Opening(
        run_id=RUN,
        runbook="failover",
        feed="runner",
        operator="ana",
        controller=identity.controller(),
        cluster="shop",
        inputs={"mode": "disaster", "armed": "true"},
        **journal.now(),
    )
    directory = place.run_directory(RUN)
    place.runs.mkdir()
    journal.Journal.open(directory, opening).close()
    control = directory / "control" / "armed"
    control.mkdir()
    (control / "state.json").write_text(json.dumps(STATE))
    return directory


def answering(directory, name="word", after_seconds=0.0, **more):
    """As the gatekeeper does."""

    def later():
        word = directory / f"control/armed/{name}.json"
        while not word.exists():
            pass
        said = json.loads(word.read_text())
        told = {"number": said["number"], "granted": True, "sentences": ["it goes"], **more}
        word.unlink()
        time.sleep(after_seconds)
        (directory / "control/armed/answer.json").write_text(json.dumps(told))
        heard.append(said)

    heard: list = []
    thread = threading.Thread(target=later, daemon=True)
    thread.start()
    return thread, heard


def test_a_word_reaches_the_run_and_its_answer_comes_back(place, run):
    thread, heard = answering(run)
    answer = armed.say(armed.choose(place, RUN), armed.GO, "ana", confirm="failover shop to b")
    thread.join()
    assert answer == armed.Answer(granted=True, sentences=("it goes",))
    assert (heard[0]["word"], heard[0]["by"], heard[0]["confirm"]) == ("go", "ana", "failover shop to b")


def test_who_cancels_waits_for_no_other_word(place, run):
    """A go that waited for a red gate could not be cancelled for 15 s."""
    (run / "control/armed/word.json").write_text("{}")
    thread, heard = answering(run, name="cancel")
    assert armed.say(armed.choose(place, RUN), armed.CANCEL, "ana").granted
    thread.join()
    assert heard[0]["word"] == "cancel"
    assert (run / "control/armed/word.json").read_text() == "{}"


def end(run, how):
    (run / "control/armed/end.json").write_text(json.dumps({"how": how}))


@pytest.mark.parametrize(
    ("how", "said"), [("gone", "it was told to go"), ("cancelled", "it was cancelled"), ("expired", "it is armed no longer")]
)
def test_a_word_that_nobody_will_answer_is_waited_for_no_longer_and_taken_back(place, run, how, said):
    waiting = armed.choose(place, RUN)
    assert armed.ended(waiting) is None
    thread = threading.Timer(0.1, end, (run, how))
    thread.start()
    began = time.monotonic()
    with pytest.raises(RelevoError, match=said):
        armed.say(waiting, armed.GO, "ana")
    assert time.monotonic() - began < 10
    assert armed.ended(waiting) == how
    assert not (run / "control/armed/word.json").exists()


def test_an_answer_that_came_with_the_end_is_heard(place, run, monkeypatch):
    waiting = armed.choose(place, RUN)

    def over(_directory):
        # Between the two looks.
        said = json.loads((run / "control/armed/word.json").read_text())
        told = {"number": said["number"], "granted": True, "sentences": []}
        (run / "control/armed/answer.json").write_text(json.dumps(told))
        return False

    monkeypatch.setattr(armed, "waits", over)
    assert armed.say(waiting, armed.GO, "ana").granted


def test_a_word_to_a_run_that_nobody_leads_any_more_is_taken_back(place, run, monkeypatch):
    monkeypatch.setattr(armed, "_OWNER_SECONDS", 0.05)
    waiting, path = armed.choose(place, RUN), run / journal.JOURNAL
    opening = json.loads(path.read_text())
    path.write_text(json.dumps({**opening, "pid_started": 1}) + "\n")
    with pytest.raises(RelevoError, match="nobody leads it"):
        armed.say(waiting, armed.GO, "ana")
    assert not (run / "control/armed/word.json").exists()


def test_a_word_to_a_run_that_hangs_is_taken_back(place, run, monkeypatch):
    """The run obeyed it when it went on, long after the watcher had started another one."""
    monkeypatch.setattr(armed, "_ANSWER_SECONDS", 0.05)
    with pytest.raises(RelevoError, match="gave no answer"):
        armed.say(armed.choose(place, RUN), armed.GO, "ana")
    assert not (run / "control/armed/word.json").exists()


def test_a_word_that_was_taken_to_be_obeyed_is_answered_late(place, run, monkeypatch):
    monkeypatch.setattr(armed, "_ANSWER_SECONDS", 1.0)
    thread, _ = answering(run, after_seconds=1.5)
    assert armed.say(armed.choose(place, RUN), armed.GO, "ana").granted
    thread.join()


def test_a_second_word_waits_for_the_answer_to_the_first(place, run):
    (run / "control/armed/word.json").write_text("{}")
    with pytest.raises(UsageError, match="has not been answered"):
        armed.say(armed.choose(place, RUN), armed.GO, "ana")
    assert (run / "control/armed/word.json").read_text() == "{}"


@pytest.mark.parametrize("over", ["control/armed/end.json", "record.json"])
def test_a_run_that_has_its_word_waits_no_more(place, run, over):
    assert [one.run_id for one in armed.waiting(place)] == [RUN]
    (run / over).write_text("{}")
    with pytest.raises(UsageError, match="waits for no word"):
        armed.choose(place, RUN)


def test_a_run_that_nobody_leads_any_more_does_not_wait(place, run):
    path = run / journal.JOURNAL
    opening = json.loads(path.read_text())
    path.write_text(json.dumps({**opening, "pid_started": 1}) + "\n")
    assert armed.waiting(place) == []


def test_a_run_that_waits_is_no_run_at_work_for_a_watcher_and_one_that_goes_is(place, run):
    assert trigger.at_work(place, "shop", set()) is None
    (run / "control/armed/end.json").write_text("{}")
    assert trigger.at_work(place, "shop", set()) == RUN


def test_a_run_that_is_still_arming_holds_nothing_and_no_watcher_off(place, run):
    (run / "control/armed/state.json").unlink()
    (run / "control/armed").rmdir()
    assert trigger.at_work(place, "shop", set()) is None
    # The same without dr_armed among its inputs is a run at its gates, and will act by itself.
    path = run / journal.JOURNAL
    path.write_text(json.dumps({**json.loads(path.read_text()), "inputs": {"mode": "disaster"}}) + "\n")
    assert trigger.at_work(place, "shop", set()) == RUN


@pytest.fixture
def interrupts(run):
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield armed.Interrupts(run)
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_cancels_a_run_that_waits_and_a_second_one_stops_it(run, interrupts, number):
    assert not interrupts()
    signal.raise_signal(number)
    assert not interrupts()
    assert json.loads((run / "control/armed/cancel.json").read_text())["word"] == "cancel"
    assert not interrupts()
    signal.raise_signal(number)
    assert interrupts()


def test_a_signal_stops_a_run_that_was_told_to_go(run, interrupts):
    (run / "control/armed/end.json").write_text("{}")
    signal.raise_signal(signal.SIGINT)
    assert interrupts()
    assert not (run / "control/armed/cancel.json").exists()


def test_a_signal_cancels_while_a_go_waits_for_a_gate(run, interrupts):
    """That another word lay there was taken for a cancel that had been said; the first Ctrl-C was swallowed, and the failover ran."""
    (run / "control/armed/word.json").write_text("{}")
    signal.raise_signal(signal.SIGINT)
    assert not interrupts()
    assert json.loads((run / "control/armed/cancel.json").read_text())["word"] == "cancel"


def test_a_signal_is_said_again_until_it_lies_there(run, interrupts):
    other = run / "control/armed/cancel.json"
    other.write_text("{}")
    signal.raise_signal(signal.SIGINT)
    assert not interrupts()
    other.unlink()
    assert not interrupts()
    assert json.loads(other.read_text())["reason"] == "interrupted where it was started"


@pytest.mark.parametrize(("how", "stops"), [("gone", True), ("cancelled", False), ("expired", False)])
def test_a_run_that_goes_although_it_was_interrupted_is_stopped_and_one_that_ended_is_not(run, interrupts, how, stops):
    signal.raise_signal(signal.SIGINT)
    assert not interrupts()
    end(run, how)
    assert interrupts() == stops


CANCELLED = Failure("a-db1", "p", "t", "cancelled by ana", clock.utc_now(), cancelled=True)


def test_a_run_that_was_never_told_to_go_has_neither_failed_nor_been_refused():
    evidence = Evidence(opened=True, finished=True, failures=[CANCELLED], failed_hosts=("a-db1",))
    decision = decide(evidence, Ending())
    assert (decision.verdict, decision.reasons) == (Verdict.CANCELLED, ("cancelled by ana",))
    assert decision.verdict.exit is Exit.CANCELLED


def test_one_that_changed_something_is_not_called_cancelled():
    phases = {("PROMOTE", "b-db1"): {"name": "PROMOTE", "host": "b-db1", "outcome": "failed"}}
    evidence = Evidence(opened=True, finished=True, failures=[replace(CANCELLED)], failed_hosts=("a-db1",), phases=phases)
    assert decide(evidence, Ending()).verdict is Verdict.FAILED


ASKED = {
    **STATE["wish"],
    "dr_reason": "automatic: a-db1 is lost",
    "dr_confirm": "failover shop to b",
    "dr_failed_at": "2026-11-28T08:00:00Z",
}


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize(
    ("changed", "fits"),
    [
        ({}, True),
        ({"dr_accept_loss_seconds": "60"}, False),
        ({"dr_scope": "database"}, False),
        ({"dr_accept_unknown": "LOSS"}, False),
        ({"dr_accept_loss_seconds": None}, False),
    ],
)
def test_a_watcher_tells_only_a_run_that_would_do_the_very_same(place, changed, fits):
    asked = {name: value for name, value in {**ASKED, **changed}.items() if value is not None}
    assert bool(armed.fitting(place, "shop", asked)) == fits
    assert armed.fitting(place, "another", asked) is None


class Pulled:
    """A trigger whose armed run has heard its word. ended: how that run's waiting ended, by then; busy: another run at work."""

    COMMAND = ("relevo", "run")

    def __init__(self, place, directory, monkeypatch, ended=None, busy=None):
        self.started, self.over = [], []
        monkeypatch.setattr(trigger.Trigger, "_launch", lambda _self, command: self.started.append(command))
        monkeypatch.setattr(armed, "ended", lambda _waiting: ended, raising=False)
        self.trigger = trigger.Trigger(directory, directory)
        self.trigger.fire(self.COMMAND, armed.fitting(place, "shop", ASKED), lambda over: self.over.append(over) or busy)
        self.trigger.finish()

    def told(self):
        return list(iter(self.trigger.told, None))


def unheard(*_, **__):
    message = "nobody hears it"
    raise RelevoError(message)


@pytest.mark.parametrize("granted", [True, False])
def test_the_one_automatic_run_is_the_armed_one_where_that_goes_and_another_where_it_does_not(
    place, run, tmp_path, monkeypatch, granted
):
    thread, heard = answering(run, granted=granted, sentences=["G07 is red.", "G08 is red."])
    one = Pulled(place, tmp_path, monkeypatch)
    thread.join()
    assert heard[0]["by"].startswith("relevo watch")
    assert one.started == ([] if granted else [Pulled.COMMAND])
    assert one.trigger.running == granted
    refused = f"The armed run {RUN} was told to go, and does not: G07 is red. G08 is red."
    assert one.told() == ([] if granted else [trigger.Told(RUN, refused)])


@pytest.mark.usefixtures("run")
def test_an_armed_run_that_somebody_told_to_go_meanwhile_is_the_one_and_nothing_is_started_beside_it(place, tmp_path, monkeypatch):
    monkeypatch.setattr(armed, "say", unheard)
    one = Pulled(place, tmp_path, monkeypatch, ended="gone")
    assert one.started == []
    assert one.trigger.running
    assert one.told() == [trigger.Told(RUN, f"The armed run {RUN} goes already, by the word of somebody else.")]


def test_while_somebody_elses_word_lies_there_the_run_may_go_by_that(place, run, tmp_path, monkeypatch):
    monkeypatch.setattr(trigger, "_TRY_SECONDS", 0.01)
    word, tries = run / "control/armed/word.json", []
    word.write_text("{}")
    lay = armed._lay

    def counted(*given):
        tries.append(given)
        if len(tries) == 3:
            word.unlink()
            answering(run)
        return lay(*given)

    monkeypatch.setattr(armed, "_lay", counted)
    one = Pulled(place, tmp_path, monkeypatch)
    assert (len(tries), one.started, one.trigger.running) == (3, [], True)


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize("ended", [None, "cancelled", "expired"])
def test_beside_a_run_that_is_at_work_by_then_none_is_started_instead_of_the_armed_one(place, tmp_path, monkeypatch, ended):
    monkeypatch.setattr(armed, "say", unheard)
    one = Pulled(place, tmp_path, monkeypatch, ended=ended, busy="R2")
    assert one.started == []
    assert one.told()[-1] == trigger.Told(RUN, "The run R2 is at work, so none was started beside it.", failed=True)
    # An armed run that leaves is no run at work.
    assert one.over == [{RUN} if ended else set()]


@pytest.mark.usefixtures("run")
def test_a_run_that_cannot_be_started_instead_of_the_armed_one_is_told_of(place, tmp_path, monkeypatch):
    monkeypatch.setattr(armed, "say", unheard)
    monkeypatch.setattr(armed, "ended", lambda _waiting: None, raising=False)
    one = trigger.Trigger(tmp_path / "away", tmp_path)
    one.fire(Pulled.COMMAND, armed.fitting(place, "shop", ASKED), lambda _: None)
    one.finish()
    told = list(iter(one.told, None))
    assert [each.failed for each in told] == [False, True]
    assert told[1].because == "The run could not be started: No such file or directory."
