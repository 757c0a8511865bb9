"""What the steps of a restore are told of it."""

from __future__ import annotations

from collections import defaultdict

from ansible_collections.relevo.dr.plugins.module_utils import wal_archive
from ansible_collections.relevo.dr.plugins.module_utils.archive_reader import Content
from ansible_collections.relevo.dr.plugins.module_utils.restore_choice import described
from ansible_collections.relevo.dr.plugins.module_utils.restore_target import END, Target, choose
from ansible_collections.relevo.dr.plugins.modules import restore_prove

from tests.unit.dr.test_restore_target import PLAIN, lsn


def told(target: Target) -> dict:
    content = Content(PLAIN, wal_archive.read_archive([], 1000), 1000, "7", "17")
    return described(content, choose(PLAIN, target)[0])


def test_how_much_wal_will_be_replayed_is_counted_from_the_begin_of_the_backup_to_the_goal():
    # Backup 2 begins at 1900; the archive ends at 3000.
    assert told(Target(END, "", None))["replay_bytes"] == 1100
    assert told(lsn(2500))["replay_bytes"] == 600


def test_a_restore_test_hands_it_on_to_the_record(tmp_path):
    needed = {"directory": str(tmp_path), "owner": "postgres", "bin_directory": "/b", "port": 5433, "skip": [], "parameters": {}}
    copy = {"rungs": [], "delta": False, "restored_bytes": 100, "restore_seconds": 4.0}
    test = {**told(Target(END, "", None)), "number": 1, "verdict": None}
    proven = restore_prove.Proof(defaultdict(str, {**needed, "test": test, "copy": copy})).told()
    assert (proven["replay_bytes"], proven["restore_bytes_per_second"], proven["replay_seconds"]) == (1100, 25, None)
