"""What a host could restore: the repository that reaches furthest, or why there is nothing, with the window beside it."""

from __future__ import annotations

import os
import pwd
from dataclasses import replace

import pytest
from ansible_collections.relevo.dr.plugins.module_utils import wal_archive
from ansible_collections.relevo.dr.plugins.module_utils.archive_reader import Content
from ansible_collections.relevo.dr.plugins.module_utils.pgbackrest import PgbackrestError
from ansible_collections.relevo.dr.plugins.module_utils.repositories import Place
from ansible_collections.relevo.dr.plugins.module_utils.restore_target import Tail
from ansible_collections.relevo.dr.plugins.modules import restore_info

from .test_restore_target import LEFT, PLAIN, at

SEGMENT = 1000
EVERY = {wal_archive.Segment(timeline, number): ("sha1",) for timeline in (1, 2) for number in range(9)}


def content(archive, version="17", segments=EVERY):
    return Content(archive, wal_archive.Archive(segments), SEGMENT, "77", version)


@pytest.fixture
def look(tmp_path, monkeypatch):
    """What these repositories lead to. said: by number what each holds, or the error that it gives."""

    def looked(said, silent=(), **words):
        places = [Place(number, "store", 443) for number in said]
        monkeypatch.setattr(restore_info.repositories, "configured", lambda _: places)
        monkeypatch.setattr(restore_info.repositories, "takes_connections", lambda place: place.id not in silent)
        monkeypatch.setattr(restore_info.restore_choice, "info", lambda _command, number: number)

        def read(_self, number, *_):
            if isinstance(said[number], Exception):
                raise said[number]
            return said[number]

        monkeypatch.setattr(restore_info.restore_choice.ArchiveReader, "read", read)
        parameters = {
            "config": "/c",
            "stanza": "shop",
            "cluster_version": "17",
            "data_directory": str(tmp_path / "data"),
            "config_directory": str(tmp_path),
            "bin_directory": "/b",
            "owner": pwd.getpwuid(os.getuid()).pw_name,
            "words": words,
            "scan_segments": 9,
            "io_timeout": 1.0,
            "timeout": 1.0,
        }
        return restore_info.looked(parameters)

    return looked


FURTHER = replace(PLAIN, repository=2, tails={1: Tail(4000, at(400))})


def test_the_repository_that_reaches_furthest_is_taken(look):
    found = look({1: content(PLAIN), 2: content(FURTHER)})
    choice = found["choice"]
    assert (choice["repository"], choice["label"], choice["end_lsn"], choice["system_identifier"]) == (
        2,
        "20261124-000002F",
        "0/FA0",
        "77",
    )
    assert (choice["tails"], choice["segment_bytes"]) == ({"1": "0/FA0"}, SEGMENT)
    assert choice["committed_age_seconds"] > 0
    assert (found["data"], found["configuration"], found["refusal"]) == ("absent", False, None)
    assert found["room_bytes"] > 0


def test_one_that_is_silent_or_broken_is_passed_over(look):
    assert look({1: content(PLAIN), 2: content(FURTHER)}, silent=(2,))["choice"]["repository"] == 1
    assert look({1: PgbackrestError("403", "check the key"), 2: content(FURTHER)})["choice"]["repository"] == 2
    assert look({1: content(PLAIN), 2: content(FURTHER)}, repository="1")["choice"]["repository"] == 1


@pytest.mark.parametrize(
    ("said", "words", "observed"),
    [
        ({1: content(PLAIN)}, {"time": "2999-01-01T00:00:00Z"}, "is in the future"),
        ({1: content(LEFT)}, {"lsn": "0/BB8"}, "is also on timeline 1, which was left at"),
        ({1: content(PLAIN)}, {"time": "2026-11-24T00:00:00"}, "has no offset"),
        ({1: content(PLAIN, "16")}, {}, "are of PostgreSQL 16"),
        ({1: content(PLAIN, segments={})}, {}, "WAL is missing"),
        ({1: content(replace(PLAIN, points=[(1, 2500)]), segments={})}, {"name": "before"}, "WAL is missing"),
        ({1: content(replace(PLAIN, backups=[replace(one, damaged=True) for one in PLAIN.backups]))}, {}, "is flagged"),
    ],
)
def test_what_leads_nowhere_is_said_with_the_window(look, said, words, observed):
    found = look(said, **words)
    assert found["choice"] is None
    assert observed in found["refusal"]["observed"]
    assert found["refusal"]["next_action"]
    assert found["window"][0].startswith("repository 1: timeline")


def test_no_repository_that_answers_is_said_too(look):
    assert "no repository" in look({1: content(PLAIN)}, silent=(1,))["refusal"]["observed"]
    assert "no repository 9" in look({1: content(PLAIN)}, repository="9")["refusal"]["observed"]
    assert look({1: PgbackrestError("403", "check the key")})["refusal"]["next_action"] == "check the key"
