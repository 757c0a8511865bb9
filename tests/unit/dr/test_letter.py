"""A module that waits for its last parameters: what a letter may bring, and everything that ends the wait."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pytest
from ansible_collections.relevo.dr.plugins.module_utils import letter


@pytest.fixture(autouse=True)
def box(tmp_path, monkeypatch):
    monkeypatch.setattr(letter, "BOX", str(tmp_path / "letters"))
    return tmp_path / "letters"


def waiting(seconds: float = 5.0, **more):
    return {"letter": "promote", "letter_seconds": seconds, "token": "", **more}


def soon(act):
    """When the module waits."""

    def later():
        ready = Path(letter.path("run", "promote") + ".ready")
        while not ready.exists():
            time.sleep(0.001)
        act()

    thread = threading.Thread(target=later)
    thread.start()
    return thread


def put(content):
    def write():
        aside = Path(letter.path("run", "promote") + ".new")
        aside.write_text(json.dumps(content))
        aside.rename(letter.path("run", "promote"))

    return write


def test_without_a_letter_nothing_is_waited_for():
    assert letter.complete({"letter": "", "letter_seconds": 5.0, "token": "x"}, "run")["token"] == "x"


def test_a_letter_brings_the_last_parameters_once():
    thread = soon(put({"token": "signed"}))
    assert letter.complete(waiting(host="b-db1"), "run", ["token"]) == waiting(host="b-db1", token="signed")
    thread.join()
    assert [path.name for path in Path(letter.box("run")).iterdir()] == ["promote.json.taken"]


def test_a_letter_brings_nothing_but_what_it_may():
    thread = soon(put({"accept_loss_seconds": 1e6}))
    with pytest.raises(letter.NoLetter, match="accept_loss_seconds"):
        letter.complete(waiting(), "run", ["token"])
    thread.join()


def test_a_letter_can_say_that_nothing_is_to_be_done():
    thread = soon(put({letter.WITHDRAWN: "the fence has no proof"}))
    with pytest.raises(letter.NoLetter, match="the fence has no proof"):
        letter.complete(waiting(), "run", ["token"])
    thread.join()


def test_a_run_that_takes_over_sends_those_away_that_wait_for_a_dead_one():
    thread = soon(letter.remove_boxes)
    with pytest.raises(letter.NoLetter, match="taken over"):
        letter.complete(waiting(), "run")
    thread.join()


def test_nobody_waits_for_ever():
    with pytest.raises(letter.NoLetter, match=r"within 0\.01 s"):
        letter.complete(waiting(0.01), "run")


def test_the_box_is_the_owners_alone():
    with pytest.raises(letter.NoLetter):
        letter.complete(waiting(0.01), "run")
    assert Path(letter.box("run")).stat().st_mode & 0o077 == 0


def test_a_module_that_went_on_can_be_told_to_stop():
    Path(letter.box("run")).mkdir(parents=True)
    assert letter.withdrawn(waiting(), "run") is None
    put({letter.WITHDRAWN: "b-db1 failed"})()
    assert letter.withdrawn(waiting(), "run") == "b-db1 failed"
    assert letter.withdrawn({"letter": ""}, "run") is None


def test_who_waits_for_long_leaves_with_everything_when_nobody_leads_the_run(box):
    with pytest.raises(letter.NoLetter, match=r"nobody has led the run for 0\.1 s"):
        letter.complete(waiting(letter_silence_seconds=0.1), "run")
    assert not (box / "run").exists()


def test_who_leaves_takes_nothing_from_another_who_waits(box):
    (box / "run").mkdir(parents=True)
    (box / "run" / "drain.json.ready").touch()
    with pytest.raises(letter.NoLetter):
        letter.complete(waiting(letter_silence_seconds=0.1), "run")
    assert [path.name for path in (box / "run").iterdir()] == ["drain.json.ready"]


def test_who_leaves_takes_nothing_from_another_who_is_at_work():
    """Nobody beats once a run acts: after half a minute one that waited told a cutover at work that another run had taken over."""
    thread = soon(put({}))
    at_work = waiting()
    letter.complete(at_work, "run")
    thread.join()
    with pytest.raises(letter.NoLetter, match="nobody has led the run"):
        letter.complete(waiting(letter="cutover-2", letter_silence_seconds=0.1), "run")
    assert letter.withdrawn(at_work, "run") is None
    # The box of a dead run is removed by who takes its lock.
    letter.remove_boxes("run")
    assert letter.withdrawn(at_work, "run") == letter.TAKEN_OVER


def test_as_long_as_somebody_leads_the_run_its_modules_wait(box, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(letter.time, "monotonic", lambda: now[0])
    box.mkdir()
    leader = letter._Leader(str(box), 30.0)
    for beat in range(1, 6):
        now[0] += 29.0
        (box / letter.BEAT).touch()
        os.utime(box / letter.BEAT, (beat, beat))
        assert not leader.silent()
    now[0] += 31.0
    assert leader.silent()


def test_a_run_that_takes_the_lock_leaves_its_own_modules_waiting(box):
    for name in ("run", "armed"):
        (box / name).mkdir(parents=True)
    letter.remove_boxes(but="run")
    assert [path.name for path in box.iterdir()] == ["run"]
