"""What is sealed of an old primary, and when a seal of before still counts."""

from __future__ import annotations

import contextlib
import getpass
import gzip
import json
from types import SimpleNamespace

import pytest
from ansible_collections.relevo.dr.plugins.module_utils import host_files, salvage_keep, server_stop
from ansible_collections.relevo.dr.plugins.module_utils.pgbackrest import Pgbackrest
from ansible_collections.relevo.dr.plugins.module_utils.repositories import Place

MIB = 1 << 20
FIRST, OWN, NEXT = "000000010000000000000050", "000000020000000000000051", "000000020000000000000052"
RECORD = "rmgr: Heap len (rec/tot): 57/ 57, tx: 700, lsn: %s, prev 0/0, desc: INSERT off 1, blkref #0: rel 1663/5/16384 blk 0"
COMMIT = "rmgr: Transaction len (rec/tot): 34/ 34, tx: 700, lsn: %s, prev 0/0, desc: COMMIT 2026-11-24 03:12:00.0 UTC"


class Host:
    """An old primary of timeline 1 that the primary left at 0/5000100, and that began its own timeline 2 at 0/5100100."""

    def __init__(self, tmp_path, monkeypatch):
        self.data, self.salvage, self.views = tmp_path / "data", tmp_path / "salvage", []
        self.wal = self.data / "pg_wal"
        self.wal.mkdir(parents=True)
        (self.data / "global").mkdir()
        (self.data / "global/pg_control").write_bytes(b"control")
        (self.wal / "00000002.history").write_text("1\t0/5100100\tno recovery target specified\n")
        for name in (FIRST, OWN):
            (self.wal / name).write_bytes(name.encode() * 100)
        self.control = {
            "Bytes per WAL segment": str(MIB),
            "Latest checkpoint's TimeLineID": "2",
            "Latest checkpoint location": "0/5100200",
            "Database cluster state": "shut down",
        }
        self.end = "0/5100300"
        self.p = {
            "run_id": "F1",
            "host": "a-db1",
            "data_directory": str(self.data),
            "bin_directory": "/b",
            "timeline": 2,
            "history": [{"timeline": 1, "lsn": "0/5000100"}],
            "births": {},
            "prefix": "",
            "names": {},
            "owner": getpass.getuser(),
            "timeout_seconds": 9.0,
            "config": "",
            "stanza": "shop",
            "directory": str(self.salvage),
        }
        monkeypatch.setattr(host_files, "STATE_DIRECTORY", str(tmp_path / "relevo"))
        monkeypatch.setattr(salvage_keep, "postmaster_pid", lambda _: None)
        monkeypatch.setattr(salvage_keep, "controldata", lambda *_: self.control)
        monkeypatch.setattr(salvage_keep.waldump, "behind", self._dump)

    def _dump(self, _server, timeline, start, _limit, place):
        root = salvage_keep.os
        self.views.append((timeline, start, {name: root.readlink(f"{place}/{name}") for name in sorted(root.listdir(place))}))
        return SimpleNamespace(stdout=f"{RECORD % start}\n{COMMIT % self.end}\n")

    def look(self):
        return salvage_keep.look(self.p)

    def keep(self, run_id="F1"):
        return salvage_keep.keep({**self.p, "run_id": run_id}, self.look())

    def earlier(self, run_id):
        return salvage_keep.earlier({**self.p, "run_id": run_id}, self.look())

    def take_over(self, dead, run_id):
        host_files.write_journal(run_id, "LOCK", "result", taken_over=dead)

    def mark(self, run_id, *, restored):
        host_files.write_build({"run_id": run_id, "data_directory": str(self.data), "restored": restored, "method": "rewind"})


@pytest.fixture
def host(tmp_path, monkeypatch):
    return Host(tmp_path, monkeypatch)


def test_its_own_timeline_of_the_primarys_number_is_kept_from_where_the_primary_left(host):
    kept = host.keep()
    assert (kept["timeline"], kept["common_timeline"], kept["fork_lsn"], kept["committed"]) == (2, 1, "0/5000100", 1)
    assert [entry["name"] for entry in kept["files"]][:3] == [FIRST, OWN, "00000002.history"]
    assert kept["complete"]
    # Under one timeline's name, for pg_waldump reads no further than its own.
    links = {"000000020000000000000050": str(host.wal / FIRST), OWN: str(host.wal / OWN)}
    assert host.views == [(2, "0/5000100", links)]
    assert list(host.salvage.parent.glob(".relevo-salvage-*")) == []


def test_one_that_follows_the_primary_has_nothing_of_its_own(host):
    host.p["history"] = [{"timeline": 1, "lsn": "0/5100100"}]
    host.control["Database cluster state"] = "shut down in recovery"
    kept = host.keep()
    assert (kept["fork_lsn"], kept["committed"], kept["complete"]) == (None, 0, True)
    assert not host.views


def test_one_that_wrote_on_the_primarys_timeline_is_no_follower(host):
    host.p["history"] = [{"timeline": 1, "lsn": "0/5100100"}]
    assert host.look().fork_lsn == "0/5100100"
    # And where nothing tells where they part, that is said, and fails.
    host.control["Latest checkpoint's TimeLineID"] = "1"
    (host.wal / OWN).unlink()
    host.p.update(timeline=1, history=[])
    kept = host.keep()
    assert not kept["complete"]
    assert "nothing tells where they part" in kept["unknown"]


def test_segments_that_are_gone_are_fetched_from_the_archive(host, monkeypatch):
    asked = []

    def succeeds(_command, *words):
        asked.append(words)
        if "--repo=2" in words:
            with open(words[-1], "wb") as target:
                target.write(b"fetched")
        return "--repo=2" in words, ""

    monkeypatch.setattr(salvage_keep.repositories, "configured", lambda _: [Place(1, "b-store1"), Place(2, "a-store1"), Place(3)])
    monkeypatch.setattr(salvage_keep.repositories, "takes_connections", lambda place: place.id != 3)
    monkeypatch.setattr(Pgbackrest, "succeeds", succeeds)
    (host.wal / FIRST).unlink()
    host.p["config"] = "/etc/pgbackrest/pgbackrest.conf"
    kept = host.keep()
    assert (kept["missing"], kept["fetched"], kept["complete"]) == ([], [FIRST], True)
    assert [words[2] for words in asked] == ["--repo=1", "--repo=2"]
    assert gzip.decompress((host.salvage / "F1" / f"{FIRST}.gz").read_bytes()) == b"fetched"
    # Whose the timeline 2 of the archive is, its number does not tell.
    (host.wal / FIRST).write_bytes(b"x")
    (host.wal / OWN).rename(host.wal / NEXT)
    assert host.keep()["missing"] == [OWN]


def test_a_segment_that_is_nowhere_is_missing(host, monkeypatch):
    monkeypatch.setattr(salvage_keep.repositories, "configured", lambda _: [])
    (host.wal / FIRST).unlink()
    host.p["config"] = "/etc/pgbackrest/pgbackrest.conf"
    kept = host.keep()
    assert (kept["missing"], kept["complete"]) == ([FIRST], False)


def test_what_a_dead_run_sealed_counts_for_the_next(host):
    digest = host.keep("F1")["digest"]
    host.take_over("F1", "F2")
    assert host.earlier("F2")["digest"] == digest
    assert host.earlier("another run") is None


@pytest.mark.parametrize("wrote", ["checkpoint", "segment", "timeline", "fork"])
def test_a_host_that_wrote_since_is_sealed_anew(host, wrote):
    """A dead run's lock stayed; meanwhile the host was opened by hand and served."""
    host.keep("F1")
    host.take_over("F1", "F2")
    if wrote == "checkpoint":
        host.control["Latest checkpoint location"] = "0/5200000"
    elif wrote == "segment":
        (host.wal / OWN).write_bytes(b"more")
    elif wrote == "timeline":
        (host.wal / "000000030000000000000052").write_bytes(b"more")
        (host.wal / "00000003.history").write_text("1\t0/5100100\tx\n2\t0/5200000\tx\n")
    else:
        host.p["history"] = [{"timeline": 1, "lsn": "0/5000080"}]
    assert host.earlier("F2") is None


def test_once_a_rewind_was_begun_the_seal_counts(host):
    digest = host.keep("F1")["digest"]
    host.take_over("F1", "F2")
    (host.wal / OWN).write_bytes(b"rewound")
    host.mark("F1", restored=False)
    assert host.earlier("F2")["digest"] == digest
    # Also for a run that did not take over its lock: these data are nobody's to seal.
    assert host.earlier("by itself")["digest"] == digest


def test_a_rewind_that_came_to_its_end_speaks_for_its_own_runs_alone(host):
    host.keep("F1")
    (host.wal / OWN).write_bytes(b"rewound, and served since")
    host.mark("F1", restored=True)
    assert host.earlier("F9") is None
    host.take_over("F1", "F2")
    # It was a primary since.
    assert host.earlier("F2") is None
    host.control["Database cluster state"] = "in archive recovery"
    assert host.earlier("F2") is not None


def test_a_seal_that_was_touched_does_not_count(host):
    host.keep("F1")
    (host.salvage / "F1" / f"{OWN}.gz").chmod(0o600)
    (host.salvage / "F1" / f"{OWN}.gz").write_bytes(b"")
    with pytest.raises(salvage_keep.SalvageError, match="not as it was sealed"):
        host.earlier("F1")
    assert json.loads((host.salvage / "F1/manifest.json").read_text())["run_id"] == "F1"


# -- what ends a mark --


def fence(tmp_path, monkeypatch, run_id):
    for name in ("_write_standby_signal", "_mask", "_end_what_is_left"):
        monkeypatch.setattr(server_stop, name, lambda _: None)
    server = server_stop.Server("u.service", str(tmp_path), "/b", 5432)
    with contextlib.suppress(server_stop.FenceError):
        server_stop.stop_for_good(server, run_id, 1, 1)


def test_a_fence_ends_what_an_older_run_made_of_the_data(host, tmp_path, monkeypatch):
    host.mark("F1", restored=True)
    host.take_over("F1", "F2")
    fence(tmp_path, monkeypatch, "F2")
    assert host_files.read_build()
    fence(tmp_path, monkeypatch, "a failover")
    assert host_files.read_build() is None
    host.mark("F1", restored=False)
    fence(tmp_path, monkeypatch, "a failover")
    assert host_files.read_build()["restored"] is False
