from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from relevo import identity, journal
from relevo.errors import JournalError


def opening() -> journal.Opening:
    return journal.Opening(
        run_id="20261124T121530Z-toy-1f3a",
        runbook="toy",
        feed="runner",
        operator="ana",
        controller=identity.controller(),
        **journal.now(),
    )


def test_the_opening_is_on_disk_before_anything_else(tmp_path: Path) -> None:
    log = journal.Journal.open(tmp_path / "run", opening())
    found, lines = journal.read(tmp_path / "run")
    assert (found.run_id, lines) == ("20261124T121530Z-toy-1f3a", [])
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "run" / "journal.jsonl").stat().st_mode & 0o777 == 0o600
    log.close()
    assert not (tmp_path / "run" / journal.RESERVE).exists()


def test_a_run_has_one_journal(tmp_path: Path) -> None:
    journal.Journal.open(tmp_path / "run", opening())
    with pytest.raises(JournalError, match="File exists"):
        journal.Journal.open(tmp_path / "run", opening())


def test_without_room_there_is_no_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(JournalError, match="No space left on device"):
        journal.Journal.open(tmp_path / "run", opening())
    with pytest.raises(JournalError):
        journal.read(tmp_path / "run")


def test_a_failed_write_is_counted_and_never_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = journal.Journal.open(tmp_path / "run", opening())
    log.append({"event": "first"})
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[: len(data) // 2]))
    log.append({"event": "torn"})
    monkeypatch.setattr(os, "write", write)
    log.append({"event": "third"})
    log.close()
    _, lines = journal.read(tmp_path / "run")
    assert [line["event"] for line in lines] == ["first", "third"]
    assert (log.missed, log.reason) == (1, "the disk is full")


def test_a_torn_last_line_spoils_nothing(tmp_path: Path) -> None:
    journal.Journal.open(tmp_path / "run", opening())
    with (tmp_path / "run" / "journal.jsonl").open("a") as torn:
        torn.write('{"event": "whole"}\n{"event": "to')
    log = journal.reopen(tmp_path / "run")
    log.append({"event": "after"})
    log.close()
    assert [line["event"] for line in journal.read(tmp_path / "run")[1]] == ["whole", "after"]


def test_a_dead_owner_is_known_by_process_start_time_and_boot() -> None:
    alive = opening()
    assert alive.owner_is_alive()
    assert not replace(alive, pid_started=1).owner_is_alive(), "the pid was used again"
    assert not replace(alive, boot_id="another").owner_is_alive()
    assert not replace(alive, pid=2**22 + 1, pid_started=None).owner_is_alive()
    assert replace(alive, controller="elsewhere", boot_id="another").owner_is_alive(), "another machine's run is its own business"


def test_a_process_of_another_pid_namespace_is_dead_only_after_a_long_silence() -> None:
    """An execution environment may share the machine's name and boot; a number in it is another process here, or none."""
    for namespace in ("pid:[1]", None):
        elsewhere = replace(opening(), pid=2**22 + 1, pid_started=None, pid_namespace=namespace)
        assert elsewhere.owner_is_alive()
        assert elsewhere.owner_is_alive(silent_seconds=journal.SILENCE_SECONDS - 1)
        assert not elsewhere.owner_is_alive(silent_seconds=journal.SILENCE_SECONDS + 1)
        assert not replace(elsewhere, boot_id="another").owner_is_alive()
    assert opening().owner_is_alive(silent_seconds=journal.SILENCE_SECONDS + 1), "here the process itself is asked"


def test_text_that_is_no_journal_is_refused() -> None:
    for text in ("", "x", '{"event": "other"}', '{"event": "opened"}'):
        with pytest.raises(JournalError):
            journal.parse(text)
