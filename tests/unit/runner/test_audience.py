"""Who hears of a run that changes production: the operator's file or the inventory's contacts, each word once, and nobody can end the run."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from relevo import asked, courier, messenger
from relevo.audience import Audience
from relevo.errors import UsageError
from relevo.feed import Event
from relevo.notice import Notice


class Listener:
    def __init__(self, heard: list[str]) -> None:
        self._heard = heard

    def send(self, notice: Notice) -> str | None:
        self._heard.append(notice.title)
        return None


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """A run whose opening task has named a file of contacts, which is there."""
    (tmp_path / "control").mkdir()
    (tmp_path / "urls").write_text("syslog://\n")
    (tmp_path / "control/contacts.json").write_text(json.dumps({"file": str(tmp_path / "urls")}))
    opening = SimpleNamespace(
        run_id="run-1",
        runbook="failover",
        cluster=None,
        operator="ops",
        inputs={"mode": "disaster", "target_site": "b"},
        check_mode=False,
    )
    return SimpleNamespace(directory=tmp_path, opening=opening)


OPENED = Event("runner_on_ok", "2026-11-27T03:00:01.000000Z", said=({"run": {"cluster": "minimarket"}},))


def ended(phase: str, host: str = "b-db1") -> Event:
    said = {"phases": [{"name": phase, "host": host, "outcome": "ok"}]}
    return Event("runner_on_ok", "2026-11-27T03:00:05.000000Z", said=(said,))


def tell(run: Any, *events: Event, named: Path | None = None, reader: Any = None) -> tuple[list[str], list[Path], list[str]]:
    """What was heard, which files were read, and the problems."""
    heard: list[str] = []
    read: list[Path] = []

    def listeners(file: Path) -> list[Listener]:
        read.append(file)
        return [Listener(heard)]

    audience = Audience(run, reader or listeners, named)
    for event in events:
        audience.take(event)
    problems = audience.close()
    return heard, read, problems


def test_the_contacts_of_the_inventory_hear_the_beginning_and_the_point_of_no_return_and_are_kept_for_the_end(run: Any) -> None:
    heard, _, problems = tell(run, OPENED, ended("LOCK"), ended("LOCK", "a-db1"), ended("PROMOTE"))
    assert heard == [
        "BEGUN: failover of minimarket to site b (disaster)",
        "NO WAY BACK: failover of minimarket to site b (disaster)",
    ]
    assert problems == []
    assert json.loads((run.directory / asked.REQUEST).read_text())["file"] == str(run.directory / "urls")


def test_whom_the_operator_names_hears_and_the_contacts_do_not_hear_it_twice(run: Any, tmp_path: Path) -> None:
    _, read, _ = tell(run, OPENED, ended("LOCK"), named=tmp_path / "mine")
    assert read == [tmp_path / "mine"]
    assert not (run.directory / asked.REQUEST).exists()


def test_the_end_of_a_failbacks_old_data_is_its_point_of_no_return(run: Any) -> None:
    run.opening.runbook = "failback"
    heard, _, _ = tell(run, OPENED, ended("LOCK"), ended("SALVAGE", "a-db1"), ended("REBUILD", "a-db1"))
    assert [word.partition(":")[0] for word in heard] == ["BEGUN", "NO WAY BACK"]


@pytest.mark.parametrize(
    "changes",
    [{"runbook": "check"}, {"check_mode": True}, {"contacts": {"file": ""}}, {"contacts": {"file": "/nowhere"}}, {"contacts": []}],
)
def test_nobody_hears_of_what_changes_nothing_or_where_there_are_no_contacts(run: Any, changes: dict[str, Any]) -> None:
    if "contacts" in changes:
        (run.directory / "control/contacts.json").write_text(json.dumps(changes.pop("contacts")))
    vars(run.opening).update(changes)
    assert tell(run, OPENED, ended("LOCK"), ended("PROMOTE")) == ([], [], [])
    assert not (run.directory / asked.REQUEST).exists()


def test_a_file_that_nobody_understands_ends_no_run_and_is_said(run: Any) -> None:
    def broken(_: Path) -> Any:
        message = "urls, line 1: apprise does not understand it"
        raise UsageError(message)

    heard, _, problems = tell(run, OPENED, ended("LOCK"), reader=broken)
    assert heard == []
    assert problems == [
        "The contacts did not hear of this run while it went on: UsageError: urls, line 1: apprise does not understand it."
    ]


NOTICE = Notice("BEGUN: failover", "<p>x</p>", "x\n", "doubt")


def test_the_courier_names_who_did_not_take_it(tmp_path: Path) -> None:
    urls = tmp_path / "urls"
    urls.write_text("json://127.0.0.1:1/\n")
    urls.chmod(0o600)
    said = courier.Courier(urls, tmp_path).send(NOTICE)
    assert said is not None
    assert "line 1 of urls (json)" in said


def test_the_courier_waits_no_longer_than_it_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier, "_LIMIT_SECONDS", 0.01)
    assert courier.Courier(tmp_path / "urls", tmp_path).send(NOTICE) == "it is still on its way"


def test_the_messenger_says_what_is_wrong_with_its_file(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messenger.os, "nice", lambda _: 0)
    (tmp_path / "notice").write_text(json.dumps({"title": "t", "page": "p", "text": "x", "mood": "doubt"}))
    assert messenger.main([str(tmp_path / "urls"), str(tmp_path / "notice")]) == 1
    assert "cannot be read" in capsys.readouterr().out
