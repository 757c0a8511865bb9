from __future__ import annotations

import contextlib
import json
import os
import re
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from relevo import closing, notify, signature, targets
from relevo.errors import UsageError
from relevo.notice import History, Notice, compose
from relevo.paths import Place
from relevo.record import Record, canonical
from tests.unit.runner.streams import build, failed, read, record_of, said, stats

SECRET = "s3cr3t-t0ken-of-the-chat"
NOTICE = Notice("title", "<p>page</p>", "text\n", "bad")
GATES = [
    {"id": "B01", "title": "Newest backup", "host": "a-db1", "observed": "31 h old", "expected": "at most 25 h", "verdict": "fail"},
    {"id": "B02", "title": "WAL", "host": "b-store1", "observed": None, "expected": "no hole", "verdict": "unknown"},
    {"id": "B03", "title": "Encryption", "host": "b-store1", "observed": "aes-256-cbc", "expected": "on", "verdict": "pass"},
]
GATES[0]["next_action"] = "relevo run backup -i INVENTORY"


def record(number: int = 1, gates: Any = (), **changes: Any) -> Record:
    opening, _ = read("failover_drill")
    opening = replace(opening, run_id=f"run-{number}", runbook="verify", opened_at=f"2026-11-24T0{number}:00:00.000000Z", **changes)
    return build(opening, [said(run={"cluster": "minimarket"}, gates=list(gates)), stats()])


BAD = [GATES[0]]


class Web:
    """A web service that takes what it is told, or answers 500."""

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []
        self.broken = False


@pytest.fixture
def web() -> Iterator[tuple[Web, str]]:
    service = Web()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            length = 0
            for line in iter(self.rfile.readline, b"\r\n"):
                if line.lower().startswith(b"content-length"):
                    length = int(line.split(b":")[1])
            body = self.rfile.read(length)
            if not service.broken:
                service.taken.append(json.loads(body))
            answer = b"HTTP/1.1 500 No" if service.broken else b"HTTP/1.1 200 OK"
            with contextlib.suppress(OSError):
                self.wfile.write(answer + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield service, f"json://ops:{SECRET}@127.0.0.1:{server.server_address[1]}/{SECRET}"
        server.shutdown()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "state", f"sqlite:///{tmp_path}/state/relevo.db")


def file_of(tmp_path: Path, *urls: str) -> Path:
    path = tmp_path / "urls"
    path.write_text("# who\n\n" + "\n".join(urls) + "\n")
    path.chmod(0o600)
    return path


def close(place: Place, run: Record, request: notify.Request | None = None) -> Path:
    """A closed run's directory, as `relevo run` leaves it."""
    directory = place.run_directory(run.run_id)
    directory.mkdir(parents=True)
    if request is not None:
        notify.ask(directory, request)
    document = canonical(run.document())
    (directory / closing.RECORD).write_bytes(document)
    key = signature.ready_key(place.keys)
    (directory / closing.SIGNATURE).write_text(signature.sign(key, document))
    assert closing.deliver(place, directory) is None
    return directory


def test_tells_what_failed_what_to_do_and_where_to_read_more() -> None:
    notice = compose(record(gates=GATES), History("2026-11-22T12:15:50Z", "run-0"))
    assert notice.title == "FAILED: verify of minimarket - Newest backup on a-db1 and 1 more: 31 h old"
    assert notice.mood == "bad"
    for form in (notice.text, notice.page):
        for words in ("31 h old", "at most 25 h", "relevo run backup -i INVENTORY", "relevo results show run-1", "B02", "b-store1"):
            assert words in form
        assert "It last passed 2 d 0 h before this run ended: 2026-11-22 12:15:50 UTC, run run-0." in form
        assert "1 of 3 gates hold" in form
        assert "Observed: not observed" in form
        assert "B03" not in form
        assert "None" not in form
    assert "Do: relevo run backup" in notice.text
    assert notice.text.index("B01") < notice.text.index("B02")


def test_says_why_a_run_without_gates_failed() -> None:
    opening, _ = read("failover_drill")
    run = build(opening, [said(run={}), failed("b-db1: no disk left; free some"), stats(failures=("b-db1",))])
    notice = compose(run, History())
    assert "no disk left; free some" in notice.title + notice.text
    assert "No failover has ever passed" in notice.text
    assert "When it last passed is not known" in compose(run, History(known=False)).text


def test_what_was_accepted_by_name_is_not_said_to_be_why_a_run_failed() -> None:
    opening, _ = read("failover_drill")
    gates = [{**GATES[0], "verdict": "accepted"}]
    run = build(opening, [said(run={}, gates=gates), failed("no disk left"), stats(failures=("b-db1",))])
    assert compose(run, History()).title == "FAILED: failover - b-db1: Do: no disk left"


def test_says_how_long_it_took_and_what_was_lost_where_there_was_a_recovery() -> None:
    notice = compose(record_of("failover_disaster"), History())
    for form in (notice.text, re.sub(r"<[^>]+>", "", notice.page)):
        assert "Recovery time (RTO): 53.3 s, target 4 h 00 min: met" in form
        assert "Data loss window (RPO): 0.41 s, target 1 h 00 min: met" in form
        assert "3 of 1 284 acknowledged transactions were lost" in form
    assert "RTO" not in compose(record_of("check_passed"), History()).text


@pytest.mark.parametrize(
    "reason", ["", "B01 on a-db1: observed 31 h old; expected less", "Observed: 31 h old; expected: at most 25 h. Next: x"]
)
def test_a_reason_that_is_a_gate_is_not_said_twice(reason: str) -> None:
    opening, _ = read("failover_drill")
    events = [said(run={}, gates=GATES), *([failed(reason)] if reason else []), stats(failures=("b-db1",) if reason else ())]
    assert compose(build(opening, events), History()).text.count("31 h old") == 1


def test_what_hosts_say_is_never_markup_and_never_endless() -> None:
    evil = {**GATES[0], "observed": "<script>x</script>" + "y" * 5000, "title": "a\r\nBcc: all"}
    notice = compose(record(gates=[evil]), History())
    assert "<script>" not in notice.page
    assert "\n" not in notice.title and "\r" not in notice.title
    assert len(notice.page) < 6000
    many = compose(record(gates=[{**GATES[0], "id": f"B{number:02}"} for number in range(40)]), History())
    assert "and 28 more." in many.text and "and 28 more." in many.page
    assert len(many.title) <= 150


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [
        ("", 0o600, "names nobody"),
        ("# only a word\n", 0o600, "names nobody"),
        (f"json://127.0.0.1/{SECRET}\n", 0o644, "chmod 600"),
        (f"json://127.0.0.1\nnonsense {SECRET}\n", 0o600, "line 2"),
        (f"nosuch://{SECRET}\n", 0o600, "line 1"),
    ],
)
def test_a_file_of_targets_is_judged_without_being_shown(tmp_path: Path, content: str, mode: int, words: str) -> None:
    path = tmp_path / "urls"
    path.write_text(content)
    path.chmod(mode)
    with pytest.raises(UsageError, match=words) as refused:
        targets.read(path)
    assert SECRET not in str(refused.value)


def test_a_missing_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        targets.read(tmp_path / "no")


def test_sends_and_says_why_not_without_the_secret(tmp_path: Path, web: tuple[Web, str]) -> None:
    service, url = web
    (target,) = targets.read(file_of(tmp_path, url))
    assert target.send(NOTICE) is None
    assert service.taken[0]["title"] == "title"
    assert service.taken[0]["type"] == "failure"
    service.broken = True
    reason = target.send(NOTICE)
    assert reason is not None and "500" in reason and "line 3 of urls (json)" in reason
    assert SECRET not in reason


def test_an_exception_that_names_the_address_is_told_without_its_secret(tmp_path: Path) -> None:
    (target,) = targets.read(file_of(tmp_path, f"json://ops:{SECRET}@127.0.0.1:9/{SECRET}?+X-Key={SECRET}"))
    reason = target.send(NOTICE)
    assert reason is not None and "Connection refused" in reason
    assert SECRET not in reason


@pytest.mark.parametrize("kept", ["", "[]", '{"file": "x"}', '{"file": "x", "when": "never", "told": []}'])
def test_a_request_that_cannot_be_read_is_a_sentence(tmp_path: Path, place: Place, kept: str) -> None:
    directory = close(place, record(gates=BAD), notify.Request(str(tmp_path / "urls")))
    (directory / notify.REQUEST).write_text(kept)
    assert len(notify.deliver(place).waiting) == 1


def test_a_target_that_never_answers_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "_LIMIT_SECONDS", 0.1)
    stop = threading.Event()
    monkeypatch.setattr(targets.Target, "_send", lambda *_: stop.wait(5))
    assert "no answer within" in str(targets.Target("line 1", "json://127.0.0.1").send(NOTICE))
    stop.set()


def test_a_service_that_raises_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: str) -> None:
        message = f"token={SECRET} is wrong"
        raise KeyError(message)

    monkeypatch.setattr(targets, "_service", broken)
    reason = targets.Target("line 1", f"json://127.0.0.1/{SECRET}").send(NOTICE)
    assert reason is not None and "KeyError" in reason and SECRET not in reason


def test_a_run_that_did_not_pass_is_told_of_once(tmp_path: Path, place: Place, web: tuple[Web, str]) -> None:
    service, url = web
    directory = close(place, record(gates=BAD), notify.Request(str(file_of(tmp_path, url))))
    assert notify.deliver(place) == notify.Delivery(("run-1",), ())
    assert notify.deliver(place) == notify.Delivery()
    assert len(service.taken) == 1
    assert not (directory / notify.REQUEST).exists()


def test_what_is_not_taken_waits_and_goes_only_to_those_who_have_not_heard(
    tmp_path: Path, place: Place, web: tuple[Web, str]
) -> None:
    service, url = web
    dead = "json://127.0.0.1:9/"
    directory = close(place, record(gates=BAD), notify.Request(str(file_of(tmp_path, url, dead))))
    first = notify.deliver(place)
    assert first.told == () and "line 4 of urls (json)" in first.waiting[0] and "refused" in first.waiting[0].lower()
    assert len(service.taken) == 1
    kept = (directory / notify.REQUEST).read_text()
    assert SECRET not in kept
    assert os.stat(directory / notify.REQUEST).st_mode & 0o077 == 0
    assert len(notify.deliver(place).waiting) == 1
    assert len(service.taken) == 1, "who has heard hears nothing twice"
    file_of(tmp_path, url)
    assert notify.deliver(place).told == ("run-1",)
    assert len(service.taken) == 1


def test_a_mail_server_that_is_down_loses_nothing(tmp_path: Path, place: Place, web: tuple[Web, str]) -> None:
    service, url = web
    service.broken = True
    close(place, record(gates=BAD), notify.Request(str(file_of(tmp_path, url))))
    assert len(notify.deliver(place).waiting) == 1
    service.broken = False
    assert notify.deliver(place).told == ("run-1",)
    assert notify.deliver(place) == notify.Delivery()
    assert len(service.taken) == 1


def test_a_lost_file_of_targets_keeps_the_word(tmp_path: Path, place: Place, web: tuple[Web, str]) -> None:
    path = file_of(tmp_path, web[1])
    close(place, record(gates=BAD), notify.Request(str(path)))
    path.rename(tmp_path / "away")
    assert "cannot be read" in notify.deliver(place).waiting[0]
    (tmp_path / "away").rename(path)
    assert notify.deliver(place).told == ("run-1",)


def test_a_passed_run_is_told_of_only_when_it_is_news(tmp_path: Path, place: Place, web: tuple[Web, str]) -> None:
    service, url = web
    file = str(file_of(tmp_path, url))
    close(place, record(1), notify.Request(file))
    assert notify.deliver(place) == notify.Delivery()
    close(place, record(2, gates=BAD), notify.Request(file))
    close(place, record(3), notify.Request(file))
    assert notify.deliver(place).told == ("run-2", "run-3")
    close(place, record(4), notify.Request(file))
    assert notify.deliver(place) == notify.Delivery()
    close(place, record(5), notify.Request(file, notify.When.ALWAYS))
    assert notify.deliver(place).told == ("run-5",)
    assert [word["title"].partition(":")[0] for word in service.taken] == ["FAILED", "PASSED again", "PASSED"]
    assert "last passed" in service.taken[0]["message"] and "run run-1" in service.taken[0]["message"]
    assert not list(place.runs.glob(f"*/{notify.REQUEST}"))


def test_a_run_that_is_not_closed_is_told_of_at_its_end(tmp_path: Path, place: Place, web: tuple[Web, str]) -> None:
    directory = place.run_directory("run-1")
    directory.mkdir(parents=True)
    notify.ask(directory, notify.Request(str(file_of(tmp_path, web[1]))))
    assert notify.deliver(place) == notify.Delivery()
    assert (directory / notify.REQUEST).exists()


def test_two_who_deliver_at_once_tell_once(tmp_path: Path, place: Place, web: tuple[Web, str]) -> None:
    directory = close(place, record(gates=BAD), notify.Request(str(file_of(tmp_path, web[1]))))
    with notify._alone(directory) as mine:
        assert mine
        assert notify.deliver(place) == notify.Delivery()
    assert notify.deliver(place).told == ("run-1",)


def test_a_store_that_is_away_keeps_nobody_from_hearing(tmp_path: Path, place: Place, web: tuple[Web, str]) -> None:
    close(place, record(gates=BAD), notify.Request(str(file_of(tmp_path, web[1]))))
    gone = replace(place, store_url="postgresql://nobody@127.0.0.1:9/none")
    assert notify.deliver(gone).told == ("run-1",)
    assert "the store of results did not answer" in web[0].taken[0]["message"]


def test_old_word_is_given_up_aloud(tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = close(place, record(gates=BAD), notify.Request(str(file_of(tmp_path, "json://127.0.0.1:9/"))))
    monkeypatch.setattr(notify, "KEPT_FOR", notify.KEPT_FOR * -1000)
    assert "given up" in notify.deliver(place).waiting[0]
    assert not (directory / notify.REQUEST).exists()
