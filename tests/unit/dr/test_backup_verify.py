"""The step that verifies: what is proven for a repository is what came back from it, and nothing else."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible_collections.relevo.dr.plugins.action import backup_verify
from ansible_collections.relevo.dr.plugins.module_utils import archive_proof, past_proofs
from ansible_collections.relevo.dr.plugins.module_utils.milestone import told
from ansible_collections.relevo.dr.plugins.plugin_utils.control import Control

SETTINGS = {"stanza": "shop", "data_directory": "/d", "bin_directory": "/b", "port": 5432}
AT, SEGMENT = "2026-11-25T03:00:00.000000Z", "000000020000000000000007"


@pytest.fixture
def control(tmp_path, monkeypatch) -> Control:
    monkeypatch.setattr(backup_verify, "protected_since", lambda _cluster: None)
    monkeypatch.setattr(backup_verify, "past", lambda _cluster: past_proofs.Past(0.0, unreadable="no result can be read"))
    control = Control("run", str(tmp_path))
    control.write("landscape", {"given": {}, "cluster": "shop"})
    for host, role in (("a-db1", "standby"), ("b-db1", "primary")):
        cluster = {"system_identifier": "7", "state": "running", "role": role, "settings": {"archive_timeout": "900"}}
        control.write(f"database/{host}", {"reachable": True, "settings": SETTINGS, "facts": {"cluster": cluster}})
    return control


def act(control: Control, host: str, asked: list, **answers: dict) -> dict:
    action = backup_verify.ActionModule.__new__(backup_verify.ActionModule)
    action.host, action.control = host, control
    arguments = {"config": "/c", "repositories": [{"id": 1}, {"id": 2}], "probe_seconds": 5, "limits": {}}
    action._task = SimpleNamespace(args={**arguments, "archive_timeout_seconds": 900.0, "proof_age_seconds": 3e6})

    def ask(module: str, given: dict) -> dict:
        asked.append(given)
        return answers[module.rsplit(".", 1)[1]]

    action.ask = ask
    return action.act()


def proof(missing: dict | None = None, read_back: tuple = (1, 2), tried: tuple = (1, 2)) -> dict:
    found = archive_proof.Proof(SEGMENT, 1.0, 60.0, AT, AT, missing or {}, "", read_back)
    judged = archive_proof.gate(found, "b-db1")
    return {"switched_at": AT, "segment": SEGMENT, "tried": list(tried), "read_back": list(read_back), **told(gates=[judged])}


def verified(control: Control, probe: dict) -> tuple[dict, dict]:
    """What the reader is asked, and the gates by name that the step ends with."""
    asked: list[dict] = []
    act(control, "b-db1", [], archive_probe=probe)
    end = act(control, "a-db1", asked, repository_verify={"gates": [], "repositories": {}})
    return asked[0], {gate["id"]: gate for gate in end["ansible_stats"]["data"]["relevo"]["gates"]}


def test_the_end_of_the_archive_is_proven_for_each_repository_that_gave_the_segment_back(control):
    asked, gates = verified(control, proof())
    assert (asked["archived_until"], asked["archived_segment"]) == ({"1": AT, "2": AT}, SEGMENT)
    assert {name: gate["verdict"] for name, gate in gates.items()} == {"G03": "pass", "WALAGE": "pass", "G02": "unknown"}


def test_a_repository_that_is_left_out_on_the_primary_has_no_proven_end(control):
    asked, gates = verified(control, proof(read_back=(1,), tried=(1,)))
    assert asked["archived_until"] == {"1": AT}
    assert gates["G03"]["verdict"] == "fail"
    assert "repository 2 is not in use on the primary" in gates["G03"]["observed"]
    assert "protect" in gates["G03"]["next_action"]


def test_nothing_is_proven_when_the_switch_itself_failed(control):
    asked, gates = verified(control, proof(missing={"PostgreSQL": "no connection"}, read_back=()))
    assert (asked["archived_until"], gates["G03"]["verdict"]) == ({}, "fail")


@pytest.mark.parametrize(("seconds", "verdict"), [("0", "fail"), ("900", "pass"), ("901", "fail"), ("60", "pass")])
def test_a_quiet_primary_archives_in_time(control, seconds, verdict):
    entry = control.read("database/b-db1")
    entry["facts"]["cluster"]["settings"]["archive_timeout"] = seconds
    control.write("database/b-db1", entry)
    gate = verified(control, proof())[1]["WALAGE"]
    assert (gate["verdict"], gate["host"], gate["phase"]) == (verdict, "b-db1", "VERIFY")
    assert "protect" in gate["next_action"]
    assert ("never archived" in gate["observed"]) == (seconds == "0")


class Server:
    """A primary on which a statement may fail."""

    failing = ""

    def __init__(self, *_arguments, **_options):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def execute(self, sql):
        if self.failing and self.failing in sql:
            raise archive_proof.PostgresqlError(self.failing)
        return "0/7000028"

    def row(self, sql):
        return {"name": SEGMENT} if "walfile" in sql else {"failing": False, "command": "true"}


@pytest.mark.parametrize(("failing", "read_back"), [("", (2,)), ("pg_switch_wal", ())])
def test_the_probe_says_which_repositories_gave_the_segment_back(monkeypatch, failing, read_back):
    monkeypatch.setattr(archive_proof, "Psql", Server)
    monkeypatch.setattr(Server, "failing", failing)
    monkeypatch.setattr(archive_proof, "_read_back", lambda *_: {1: "not in the archive"})
    found = archive_proof.prove(archive_proof.Archive("/c", "shop", (1, 2), "/b"), 0.0)
    assert (found.read_back, found.proven) == (read_back, False)
