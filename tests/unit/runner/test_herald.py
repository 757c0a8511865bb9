"""Who is told while a run goes on: once that it begins, once that there is no way back; and nobody can hold it up."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from relevo import herald
from relevo.feed import Event
from relevo.notice import Notice

ABOUT = herald.About(
    run_id="20261127T030000Z-failover-1f3a",
    runbook="failover",
    cluster="minimarket",
    operator="ops",
    inputs={"mode": "disaster", "scope": "site", "target_site": "b"},
)


class Listener:
    def __init__(self, answer: str | None = None, hold: threading.Event | None = None) -> None:
        self.heard: list[Notice] = []
        self._answer, self._hold = answer, hold

    def send(self, notice: Notice) -> str | None:
        if self._hold:
            self._hold.wait(30)
        self.heard.append(notice)
        return self._answer


def told(*listeners: Any) -> herald.Herald:
    return herald.Herald(ABOUT, listeners)


def phase(name: str, host: str, outcome: str = "ok") -> Event:
    said = {"phases": [{"name": name, "host": host, "outcome": outcome}]}
    return Event("runner_on_ok", "2026-11-27T03:00:05.000000Z", said=(said,))


def test_each_word_is_said_once_and_names_what_a_person_needs() -> None:
    listener = Listener()
    run = told(listener)
    for event in (phase("PREFLIGHT", "controller"), phase("LOCK", "b-db1"), phase("LOCK", "b-app1"), phase("PROMOTE", "b-db1")):
        run.take(event)
    assert run.close() == []
    assert [notice.title for notice in listener.heard] == [
        "BEGUN: failover of minimarket to site b (disaster)",
        "NO WAY BACK: failover of minimarket to site b (disaster)",
    ]
    assert "b-db1 is the primary now" in listener.heard[1].text
    for notice in listener.heard:
        for words in ("20261127T030000Z-failover-1f3a", "ops", "minimarket", "2026-11-27 03:00:05 UTC"):
            assert words in notice.text
            assert words in notice.page


@pytest.mark.parametrize("event", [phase("LOCK", "b-db1", "failed"), phase("PROMOTE", "b-db1", "skipped"), phase("DRAIN", "b-db1")])
def test_what_did_not_happen_is_not_told(event: Event) -> None:
    listener = Listener()
    run = told(listener)
    run.take(event)
    assert run.close() == []
    assert listener.heard == []


def test_who_did_not_hear_is_named_and_the_others_hear() -> None:
    deaf, listener = Listener("line 1 (mailtos): no connection"), Listener()
    run = told(deaf, listener)
    run.take(phase("LOCK", "b-db1"))
    assert run.close() == ["Not everybody heard of this run while it went on: line 1 (mailtos): no connection."]
    assert len(listener.heard) == 1


def test_a_mail_server_that_hangs_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(herald, "_LAST_WORDS_SECONDS", 0.2)
    hold = threading.Event()
    run = told(Listener(hold=hold))
    began = time.monotonic()
    run.take(phase("LOCK", "b-db1"))
    assert time.monotonic() - began < 0.2
    [problem] = run.close()
    assert "still on its way" in problem
    hold.set()
