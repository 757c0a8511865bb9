"""A first backup counts only as long as WAL leads from it to the present: what an archive_command that pretended has lost comes back by no repair."""

from __future__ import annotations

import json
from collections import defaultdict

import pytest
from ansible_collections.relevo.dr.plugins.module_utils import standby_steps
from ansible_collections.relevo.dr.plugins.module_utils.standby_steps import BuildError, Steps
from ansible_collections.relevo.dr.plugins.modules import pgbackrest_backup, standby_build

BACKUP = {"label": "20261127-101343F", "database": {"id": 1, "repo-key": 1}, "archive": {"start": "000000010000000000000004"}}
INFO = {"archive": [{"id": "17-1", "database": {"id": 1, "repo-key": 1}}], "backup": [BACKUP]}
PARAMETERS = defaultdict(str, bin_directory="/bin", port=5432, owner="postgres", config="/c", stanza="shop")


def archived(*numbers):
    return {f"0000000100000000/0000000100000000000000{number:02X}-{'a' * 40}.zst": {} for number in numbers}


class Server:
    def __init__(self, *_arguments, **_options):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def execute(self, _sql):
        return str(16 << 20)


@pytest.fixture
def reaches(monkeypatch):
    """Whether WAL leads from the backup to the present; each look finds the next of these lists."""
    monkeypatch.setattr(pgbackrest_backup, "Psql", Server)
    monkeypatch.setattr(pgbackrest_backup, "_LOOK_SECONDS", 0.0)

    def judge(*looks):
        left = list(looks)

        class Command:
            def __init__(self, *_):
                pass

            def run(self, *_words):
                return json.dumps(left.pop(0) if len(left) > 1 else left[0])

        monkeypatch.setattr(pgbackrest_backup, "Pgbackrest", Command)
        return pgbackrest_backup._reaches_the_present(PARAMETERS, 1, INFO, BACKUP)

    return judge


def test_wal_without_a_hole_leads_to_the_present(reaches):
    assert reaches(archived(1, 2, 4, 5, 6))


def test_a_hole_behind_the_backup_makes_it_no_backup_that_counts(reaches):
    assert not reaches(archived(4, 7, 8))


def test_segments_that_arrive_out_of_order_are_no_hole(reaches):
    assert reaches(archived(4, 6), archived(4, 5, 6))


def test_a_standby_whose_wal_is_nowhere_any_more_is_given_up_and_restored_anew(monkeypatch):
    steps = Steps({"data_directory": "/d", "owner": "postgres", "catchup_timeout": 60, "run_id": "r", "unit": "u.service"})
    done = []
    monkeypatch.setattr(standby_steps, "_STANDS_SECONDS", 0.0)
    monkeypatch.setattr(standby_steps, "_run", lambda command, _seconds: done.append(command[:2]))
    monkeypatch.setattr(steps, "_ask_primary", lambda _sql: "0/9000000")
    monkeypatch.setattr(steps, "_session", Position)
    monkeypatch.setattr(steps, "mark", lambda **mark: done.append(mark))
    monkeypatch.setattr(steps, "_log", lambda: "FATAL: requested WAL segment 000000010000000000000005 has already been removed")
    with pytest.raises(BuildError, match=r"replayed up to 0/5000000.*does not lead to the present"):
        standby_build.take(steps, ("wait",), prepare_only=False)
    assert done == [{"restored": False}, ["systemctl", "stop"]]


class Position(Server):
    def row(self, _sql):
        return {"in_recovery": True, "replay_lsn": "0/5000000", "streaming": False}
