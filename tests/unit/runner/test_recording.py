from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from relevo import audit, closing, identity, journal, recording, settlement, signature
from relevo.errors import StoreError
from relevo.paths import Place
from relevo.record import parse
from relevo.store import Store
from relevo.verdict import Ending

CANARY = "canary7Xq9vT2mZ4"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "state", f"sqlite:///{tmp_path}/state/relevo.db")


def start(place: Place, tmp_path: Path, runbook: str = "toy", **more: Any) -> recording.Recorder:
    playbook = tmp_path / "playbooks" / f"{runbook}.yml"
    request = recording.Request(playbook, tmp_path, (), "runner", {}, **more)
    return recording.start(place, request, {"SUDO_USER": "ana", "APP_PASSWORD": CANARY})


def result(**res: Any) -> dict[str, Any]:
    return {"event": "runner_on_ok", "created": "2026-11-24T12:00:00+00:00", "event_data": {"host": "h", "task": "t", "res": res}}


STATS = {"event": "playbook_on_stats", "created": "2026-11-24T12:00:09+00:00", "event_data": {"ok": {"h": 1}}}
OPENED = result(relevo={"run": {"cluster": "c"}})


def run(recorder: recording.Recorder, *events: dict[str, Any]) -> closing.Finished | None:
    for event in events:
        recorder.take(event)
    return recorder.close(Ending())


def test_a_run_is_recorded_signed_and_stored(place: Place, tmp_path: Path) -> None:
    finished = run(start(place, tmp_path), OPENED, STATS)
    assert finished is not None
    stored = Store(place).get("latest")
    assert json.loads(stored.document)["verdict"] == "passed"
    assert json.loads(stored.document)["operator"] == "ana"
    directory = place.run_directory(finished.record.run_id)
    assert (directory / closing.RECORD).read_bytes() == stored.document
    assert judged(place) == ()


def judged(place: Place) -> tuple[audit.Finding, ...]:
    return audit.judge(audit.material(Store(place), []), signature.believed(place.keys)).findings


def test_the_output_without_secrets_is_in_the_record_by_its_digest(place: Place, tmp_path: Path) -> None:
    recorder = start(place, tmp_path)
    recorder.take(OPENED)
    (recorder.directory / closing.OUTPUT).write_text("PLAY RECAP\n")
    finished = run(recorder, STATS)
    assert finished is not None
    assert finished.record.digests["log"] == hashlib.sha256(b"PLAY RECAP\n").hexdigest()
    without = run(start(place, tmp_path), OPENED, STATS)
    assert without is not None
    assert without.record.digests["log"] is None


def test_an_edited_record_is_found(place: Place, tmp_path: Path) -> None:
    run(start(place, tmp_path), OPENED, STATS)
    stored = Store(place).get("latest")
    with sqlite3.connect(place.state / "relevo.db") as database:
        database.execute("UPDATE record SET document = ?", (stored.document.replace(b'"ana"', b'"bob"'),))
    assert {finding.about for finding in judged(place)} == {stored.run_id}
    assert "its signature does not hold" in str(judged(place))


def test_a_runbook_that_was_never_opened_is_refused_and_another_playbook_is_forgotten(place: Place, tmp_path: Path) -> None:
    finished = run(start(place, tmp_path), STATS)
    assert finished is not None
    assert finished.record.verdict == "refused"
    assert run(start(place, tmp_path, "lab"), STATS) is None
    assert len(list(place.runs.glob("*-*"))) == 1


def test_a_playbook_that_only_imports_the_runbook_is_recorded_once_it_is_open(place: Place, tmp_path: Path) -> None:
    recorder = start(place, tmp_path, "lab")
    finished = run(recorder, result(relevo={"run": {"runbook": "failover", "cluster": "c"}}), STATS)
    assert finished is not None
    assert finished.record.runbook == "failover"


def test_a_mere_look_leaves_nothing(place: Place, tmp_path: Path) -> None:
    finished = run(start(place, tmp_path, kept=False), OPENED, STATS)
    assert finished is not None
    assert finished.record.verdict == "passed"
    assert Store(place).newest() == []
    assert list(place.runs.glob("*-*")) == []


def test_a_record_waits_while_the_store_is_away_and_is_delivered_once(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        message = "The store cannot be used: it is away."
        raise StoreError(message)

    recorder = start(place, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(Store, "add", away)
        finished = run(recorder, OPENED, STATS)
        assert finished is not None
        assert finished.undelivered == "The store cannot be used: it is away."
        second = run(start(place, tmp_path), OPENED, STATS)
        assert second is not None
        (sentence,) = settlement.settle(place)
        assert "it is away" in sentence, "and it was tried once for both"
    assert Store(place).newest() == []
    assert settlement.settle(place) == []
    settlement.settle(place)
    assert {stored.run_id for stored in Store(place).newest()} == {finished.record.run_id, second.record.run_id}


def test_a_record_whose_run_id_another_controller_has_used_says_so_and_keeps_no_other_back(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Place(tmp_path / "other", place.store_url)
    with monkeypatch.context() as patched:
        patched.setattr(identity, "new_run_id", lambda *_: "20260101T000000Z-toy-1f3a")
        first, second = run(start(place, tmp_path), OPENED, STATS), run(start(other, tmp_path), OPENED, STATS)
    assert first is not None
    assert second is not None
    assert first.undelivered is None
    third = start(other, tmp_path)
    run(third, OPENED, STATS)
    (third.directory / closing.PENDING).touch()
    (sentence,) = settlement.settle(other)
    assert "20260101T000000Z-toy-1f3a" in sentence
    assert "another record" in sentence
    assert not (third.directory / closing.PENDING).exists()


def test_a_run_id_is_of_its_own_among_many_controllers() -> None:
    """Of 200 that start at once, two with 16 random bits would share one in every fourth such second."""
    made = identity.new_run_id("toy", datetime(2026, 11, 24, tzinfo=UTC))
    assert re.fullmatch(r"20261124T000000Z-toy-[0-9a-f]{8}", made)
    assert identity.RUN_ID.fullmatch(made)
    assert identity.RUN_ID.fullmatch("20261124T121530Z-toy-1f3a"), "as they were"


def kill(recorder: recording.Recorder) -> None:
    """As if the process had died: nothing was closed, and its start time is of nobody alive."""
    path = recorder.directory / journal.JOURNAL
    path.write_text(path.read_text().replace(f'"pid_started":{identity.process_started(os.getpid())}', '"pid_started":1'))


def test_a_dead_run_is_finished_as_interrupted_and_only_once(place: Place, tmp_path: Path) -> None:
    recorder = start(place, tmp_path)
    recorder.take(OPENED)
    settlement.settle(place)
    assert Store(place).newest() == [], "its process is alive"
    kill(recorder)
    settlement.settle(place)
    settlement.settle(place)
    (stored,) = Store(place).newest()
    record = parse(stored.document)
    assert (record.verdict, record.cluster) == ("interrupted", "c")
    assert journal.read(recorder.directory)[1][-1]["event"] == "abandoned"


def test_a_run_of_another_container_is_finished_once_it_was_silent_for_long(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = start(place, tmp_path)
    recorder.take(OPENED)
    kill(recorder)
    monkeypatch.setattr(identity, "pid_namespace", lambda: "pid:[1]")
    settlement.settle(place)
    path = recorder.directory / journal.JOURNAL
    long_ago = time.time() - 2 * journal.SILENCE_SECONDS
    os.utime(path, (long_ago, long_ago))
    settlement.settle(place)
    assert Store(place).newest() == [], "a clock that was set makes no run old"
    opened = f'"boottime":{recorder.opening.boottime}'
    assert opened in path.read_text()
    path.write_text(path.read_text().replace(opened, '"boottime":-1e9'))
    settlement.settle(place)
    assert Store(place).newest() == [], "it wrote just now"
    os.utime(path, (long_ago, long_ago))
    settlement.settle(place)
    (stored,) = Store(place).newest()
    record = parse(stored.document)
    assert record.verdict == "interrupted"
    assert "48 hours" in stored.document.decode()


def test_a_dead_look_is_forgotten(place: Place, tmp_path: Path) -> None:
    recorder = start(place, tmp_path, kept=False)
    kill(recorder)
    settlement.settle(place)
    assert Store(place).newest() == []
    assert not recorder.directory.exists()


def test_a_directory_without_a_journal_is_left_alone(place: Place) -> None:
    (place.runs / "x").mkdir(parents=True)
    assert settlement.settle(place) == []


def test_no_secret_of_the_environment_reaches_journal_or_record(place: Place, tmp_path: Path) -> None:
    recorder = start(place, tmp_path)
    failed = {"msg": f"tried {CANARY}", "relevo": {"measures": {"x": CANARY}, "run": {}}}
    recorder.take({**result(**failed), "event": "runner_on_failed"})
    recorder.take(STATS)
    finished = recorder.close(Ending(refusal=f"no {CANARY}"))
    assert finished is not None
    for path in place.state.rglob("*"):
        assert not path.is_file() or CANARY.encode() not in path.read_bytes(), path


def test_the_environment_of_tasks_names_run_directory_and_key(place: Place, tmp_path: Path) -> None:
    recorder = start(place, tmp_path)
    opening, _ = journal.read(Path(recorder.environment["RELEVO_RUN_DIR"]))
    assert opening.run_id == recorder.environment["RELEVO_RUN_ID"]
    assert identity.RUN_ID.fullmatch(opening.run_id)
    assert Path(recorder.environment["RELEVO_SIGNING_KEY"]).is_file()
    assert (recorder.directory / "control").is_dir()


def test_one_odd_directory_stops_nobody(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = start(place, tmp_path), start(place, tmp_path)
    kill(first)
    kill(second)
    finish = closing.finish

    def odd(place: Place, closed: closing.Unclosed, *more: Any) -> Any:
        if closed.directory == first.directory:
            raise ZeroDivisionError
        return finish(place, closed, *more)

    monkeypatch.setattr(closing, "finish", odd)
    (sentence,) = settlement.settle(place)
    assert first.opening.run_id in sentence
    assert [stored.run_id for stored in Store(place).newest()] == [second.opening.run_id]


def test_an_event_that_nobody_understands_is_counted_as_missed(place: Place, tmp_path: Path) -> None:
    finished = run(start(place, tmp_path), OPENED, {"event": "runner_on_ok", "event_data": "odd"}, STATS)
    assert finished is not None
    assert finished.record.verdict == "partial"
    assert finished.record.journal["missed_events"] == 1
