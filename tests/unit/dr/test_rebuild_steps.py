"""How data come back: what is possible on this host, and the restore that leads to the primary's timeline."""

from __future__ import annotations

import getpass

import pytest
from ansible_collections.relevo.dr.plugins.module_utils import host_files, rebuild_steps, repositories
from ansible_collections.relevo.dr.plugins.module_utils.pgbackrest import Pgbackrest
from ansible_collections.relevo.dr.plugins.module_utils.rebuild_steps import Rebuild, RebuildError

OLD = {
    "label": "20261120-000000F",
    "archive": {"start": "000000010000000000000003"},
    "lsn": {"stop": "0/4000000"},
    "timestamp": {"stop": 1},
    "database": {"id": 1, "repo-key": 2},
}
OURS = {**OLD, "label": "20261124-000000F", "lsn": {"stop": "0/6000000"}, "timestamp": {"stop": 2}}


@pytest.fixture
def rebuild(tmp_path, monkeypatch):
    data = tmp_path / "data"
    (data / "pg_wal").mkdir(parents=True)
    monkeypatch.setattr(host_files, "STATE_DIRECTORY", str(tmp_path / "relevo"))
    host_files.write_fence({"run_id": "F1"})
    monkeypatch.setattr(rebuild_steps, "postmaster_pid", lambda _: None)
    monkeypatch.setattr(Pgbackrest, "info", lambda *_: {"backup": [OLD, OURS]})
    monkeypatch.setattr(repositories, "configured", lambda _: [repositories.Place(1)])
    monkeypatch.setattr(Rebuild, "_end_cleanly", lambda _: None)
    control = {
        "Latest checkpoint's TimeLineID": "1",
        "Latest checkpoint location": "0/6000028",
        "Database cluster state": "shut down",
        "Data page checksum version": "1",
    }
    monkeypatch.setattr(rebuild_steps, "controldata", lambda *_: control)

    def make(ran=None, **changed):
        words = {
            "data_directory": str(data),
            "config_directory": str(tmp_path),
            "bin_directory": "/b",
            "unit": "u.service",
            "port": 5432,
            "owner": getpass.getuser(),
            "run_id": "F1",
            "host_name": "a-db1",
            "timeline": 2,
            "history": [{"timeline": 1, "lsn": "0/5000140"}],
            "births": {},
            "method": "",
            "methods": [],
            "divergent_bytes": 1,
            "primary_bytes": 1,
            "config": "/c",
            "stanza": "shop",
            "source": "host=b-db1",
            "replication": "host=b-db1",
            "restore_timeout": 9,
        }
        one = Rebuild({**words, **changed})
        one._run = lambda program, *options: (ran if ran is not None else []).append((program, *options))
        return one, control, data

    return make


def test_the_choice_touches_nothing_but_the_dry_run(rebuild):
    ran = []
    choice = rebuild(ran)[0].choose()
    assert choice["methods"][0] == "rewind"
    assert [words[0] for words in ran] == ["pg_rewind"]
    assert "--dry-run" in ran[0]
    assert host_files.read_build() is None


def test_pg_rewind_is_not_asked_about_two_timelines_of_one_number(rebuild):
    """It finds nothing to do there, and says that it went well."""
    ran: list[tuple[str, ...]] = []
    one, control, data = rebuild(ran)
    control["Latest checkpoint's TimeLineID"] = "2"
    (data / "pg_wal/00000002.history").write_text("1\t0/7000000\tx\n")
    choice = one.choose()
    assert "takes both servers' timeline 2 for the same one" in choice["ways"]["rewind"]["obstacle"]
    assert "rewind" not in choice["methods"]
    assert ran == []


def test_data_that_may_follow_are_left_alone_unless_somebody_asks_for_a_method(rebuild):
    one, control, _ = rebuild()
    control["Latest checkpoint location"] = "0/5000028"
    assert one.choose() == {"methods": [], "ways": {}}
    asked, _, _ = rebuild(method="full")
    assert asked.choose()["methods"] == ["full"]


def test_a_mark_of_another_run_does_not_make_diverged_data_good(rebuild):
    one, control, data = rebuild()
    control["Database cluster state"] = "shut down in recovery"
    control["Minimum recovery ending location"] = "0/6000028"
    host_files.write_build({"run_id": "F0", "data_directory": str(data), "restored": True, "method": "delta"})
    assert one.choose()["methods"]
    host_files.write_build({"run_id": "F1", "data_directory": str(data), "restored": True, "method": "delta"})
    assert one.choose() == {"methods": [], "ways": {}}


def test_the_restore_names_the_backup_that_leads_to_the_primary(rebuild, monkeypatch):
    commands = []
    monkeypatch.setattr(Rebuild, "_end_what_runs", lambda _: None)
    monkeypatch.setattr(Rebuild, "_make_standby", lambda _: None)
    monkeypatch.setattr(Pgbackrest, "run", lambda _, *words, **_more: commands.append(words))
    assert rebuild(methods=["delta"])[0].carry_out()["method"] == "delta"
    assert commands == [("restore", "--repo=2", "--set=20261120-000000F", "--type=standby", "--delta")]
    assert host_files.read_build()["restored"] is True


def test_the_next_way_is_taken_when_one_fails(rebuild, monkeypatch):
    def fails(*_, **_more):
        message = "no room"
        raise RebuildError(message)

    monkeypatch.setattr(Rebuild, "_make_standby", lambda _: None)
    monkeypatch.setattr(Rebuild, "_delta", fails)
    monkeypatch.setattr(Rebuild, "_full", lambda _: None)
    done = rebuild(methods=["delta", "full"])[0].carry_out()
    assert (done["method"], done["failed"]) == ("full", {"delta": "no room"})
    with pytest.raises(RebuildError, match="no method came to its end"):
        rebuild(methods=["delta"])[0].carry_out()
    assert host_files.read_build()["restored"] is False
