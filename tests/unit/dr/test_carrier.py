"""Letters by a connection that stays open: each arrives once, and where none arrives nobody is told that one did."""

from __future__ import annotations

import json
import sys
import time

import pytest
from ansible_collections.relevo.dr.plugins.module_utils import letter
from ansible_collections.relevo.dr.plugins.plugin_utils import carrier


@pytest.fixture
def box(tmp_path, monkeypatch):
    monkeypatch.setattr(letter, "BOX", str(tmp_path))
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


@pytest.fixture
def post(box):
    assert box.is_dir()
    program = carrier._PROGRAM % {"ready": carrier._READY, "silence": 30}
    post = carrier.Carrier([sys.executable, "-c", f"print('a greeting')\n{program}"])
    limit = time.monotonic() + 10
    while not post.beat("run") and time.monotonic() < limit:
        time.sleep(0.01)
    yield post
    post.close()


def test_a_letter_arrives_where_somebody_waits_and_nowhere_else(box, post):
    place = letter.path("run", "promote")
    assert not post.put(place, {"token": "signed\n"})
    (box / "promote.json.ready").touch()
    assert post.put(place, {"token": "signed\n", "ledger_tail": ["x" * 200] * 1000})
    assert json.loads((box / "promote.json").read_text())["token"] == "signed\n"
    assert (box / "promote.json").stat().st_mode & 0o077 == 0
    assert (box / letter.BEAT).exists()


def test_words_for_whose_answer_nobody_waits_hold_nothing_up(box, post):
    for name in ("drain", "promote"):
        (box / f"{name}.json.ready").touch()
    assert all(post.beat("run") for _ in range(50))
    assert post.leave(str(box / "drain.json.ready"))
    assert post.put(letter.path("run", "promote"), {})
    assert not (box / "drain.json.ready").exists()
    assert post.clear("run")
    assert not box.exists()


def test_one_that_is_gone_carries_nothing_and_says_so(box, post):
    (box / "promote.json.ready").touch()
    post._process.kill()
    post._process.wait()
    assert not post.works()
    assert not post.put(letter.path("run", "promote"), {})
    assert not post.beat("run")
    assert not post.clear("run")


def test_one_that_answers_late_is_asked_no_more(monkeypatch):
    monkeypatch.setattr(carrier, "_WORD_SECONDS", 0.2)
    deaf = carrier.Carrier([sys.executable, "-c", f"import time\nprint({carrier._READY!r}, flush=True)\ntime.sleep(60)"])
    limit = time.monotonic() + 10
    while not deaf.beat("run") and time.monotonic() < limit:
        time.sleep(0.01)
    assert not deaf.put(letter.path("run", "promote"), {})
    assert not deaf.works()


@pytest.mark.parametrize("connection", [object(), None])
def test_where_ansible_has_no_such_way_there_is_no_carrier(connection):
    assert carrier.command_to(connection, "/usr/bin/python3") is None
    assert not carrier.Carrier(None).beat("run")
