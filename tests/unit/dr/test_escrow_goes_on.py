"""An escrow and a recovery go on past what is missing: keys of a path, the primary, a step that failed. Real directories, and real runs of ansible-playbook."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible_collections.relevo.dr.plugins.action import column_digests, escrow_check, escrow_judge, escrow_recover, escrow_store
from ansible_collections.relevo.dr.plugins.module_utils import clock, escrow_choice, escrow_items, escrow_manifest, keys_proof
from ansible_collections.relevo.dr.plugins.module_utils.escrow_fault import DECLARATION, DENIED, EscrowFault
from ansible_collections.relevo.dr.plugins.module_utils.escrow_manifest import Read
from ansible_collections.relevo.dr.plugins.plugin_utils import escrow_pack, escrow_places, escrow_vault, history
from ansible_collections.relevo.dr.plugins.plugin_utils.control import Control
from ansible_collections.relevo.dr.plugins.plugin_utils.escrow_action import RECOVERED, EscrowAction
from ansible_collections.relevo.dr.plugins.plugin_utils.escrow_memory import Memory
from ansible_collections.relevo.dr.plugins.plugin_utils.escrow_vault import Seals

from relevo.errors import StoreError
from tests.house.tree import ROOT
from tests.unit.dr.test_past_proofs import NOW, record

AT, LATER = "2026-06-01T00:00:00.000000Z", "2026-06-01T01:00:00.000000Z"
ITEM = {"name": "passphrase", "kind": "secret"}
SECRET = b"canary-71c0ab3e-of-a-passphrase"
PAIR = {"key_id_secret": "store_id", "key_secret": "store_key"}
BUCKET = {"name": "store-a", "kind": "bucket", "site": "a", "endpoint": "localhost", "bucket": "escrow", **PAIR}
VAULT = {"name": "vault", "kind": "secrets_manager", "region": "eu-west-1", "key_id_secret": "aws_id", "key_secret": "aws_key"}


@functools.cache
def generation() -> tuple[dict[str, Any], dict[str, bytes]]:
    (item,) = escrow_items.items([ITEM])
    return escrow_manifest.made("minimarket", AT, [Read(item, SECRET, SECRET)], None), {item.id: SECRET}


class Stage:
    """One controller of one run: its directories, and the steps of the role as its playbook starts them."""

    def __init__(self, tmp_path: Path, memory: Path) -> None:
        self.root, self.memory = tmp_path, memory
        self.control = Control("r1", str(tmp_path / "run"))
        (tmp_path / "safe").mkdir()
        (tmp_path / "brought").mkdir()
        self.safe = {"name": "safe", "kind": "directory", "path": str(tmp_path / "safe")}
        self.secret, first = escrow_pack.new_identity()
        self.recipients = [first, escrow_pack.new_identity()[1]]

    def step(self, action: type[EscrowAction], **arguments: Any) -> dict[str, Any]:
        step = action.__new__(action)
        common = {"cluster": "minimarket", "state_directory": str(self.root / "state"), "memory_directory": str(self.memory)}
        step._task = SimpleNamespace(args={**common, **arguments}, check_mode=False)
        step.host, step.control = "localhost", self.control
        return step.act()

    def stored(self, **path: Any) -> None:
        place = escrow_places.place({**self.safe, **path}, "minimarket", {})
        escrow_vault.store(place, *generation(), "page", Seals(tuple(self.recipients)))

    def recover(self, path: Mapping[str, Any], *paths: Mapping[str, Any], lost_site: str = "") -> dict[str, Any]:
        (self.root / "ana.txt").write_text(self.secret)
        opener = {"name": "ana", "identity_files": [str(self.root / "ana.txt")]}
        brought = {"access_directory": str(self.root / "brought"), "lost_site": lost_site}
        return self.step(escrow_recover.ActionModule, path=path, paths=[path, *paths], opener=opener, **brought)

    def escrow(self, *paths: Mapping[str, Any]) -> dict[str, Any]:
        memory = Memory(str(self.memory), "r1")
        memory.open()
        memory.write("read/localhost", {"read": {"secrets/passphrase": {"content": SECRET, "essence": SECRET}}, "unread": {}})
        where = {"secrets_directory": str(self.root / "brought"), "page": "page", "refresh_seconds": 86400}
        return self.step(escrow_store.ActionModule, items=[ITEM], paths=paths, recipients=self.recipients, **where)


@pytest.fixture
def memory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="test-escrow-") as directory:
        yield Path(directory)


@pytest.fixture
def stage(tmp_path: Path, memory: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setattr(history, "settled", lambda _cluster, _runbook: [])
    return Stage(tmp_path, memory)


def gates(result: Mapping[str, Any], check: str = "KEYSPATH") -> dict[str, tuple[str, str]]:
    """Verdict and what was observed, by host."""
    found = result["ansible_stats"]["data"]["relevo"]["gates"]
    return {gate["host"]: (gate["verdict"], gate["observed"]) for gate in found if gate["id"] == check}


# -- keys of a path --


def test_with_one_paths_keys_alone_that_path_leads_back_and_the_others_are_refused_by_name(stage: Stage) -> None:
    stage.stored()
    back = stage.recover(stage.safe, BUCKET, VAULT)
    assert (back["recovered"], back["name"]) == (True, "safe by ana")
    for path, name in ((BUCKET, "store_id"), (VAULT, "aws_id")):
        refused = stage.recover(path, stage.safe)
        assert (refused["recovered"], refused["failed"]) == (False, False)
        verdict, observed = gates(refused)[path["name"]]
        assert (verdict, observed.split(":")[0]) == ("fail", DENIED)
        assert f"the secret {stage.root}/brought/{name} does not exist" in observed
    # What the judgement reads: each way was tried.
    faults = {way["name"]: way.get("fault") for way in stage.control.read_all(RECOVERED).values()}
    assert faults == {"safe by ana": None, "store-a by ana": DENIED, "vault by ana": DENIED}


def test_a_path_of_the_lost_site_is_not_asked_for_the_newest_generation(stage: Stage) -> None:
    stage.stored()
    (stage.root / "there/minimarket/20991128T040336Z-00000000").mkdir(parents=True)
    (stage.root / "there/minimarket/20991128T040336Z-00000000/label.json").write_text("{}")
    there = {"name": "there", "kind": "directory", "site": "a", "path": str(stage.root / "there")}
    assert not stage.recover(stage.safe, there)["recovered"]
    assert stage.recover(stage.safe, there, lost_site="a")["recovered"]


@pytest.mark.parametrize("content", [None, "", b"\xff\xfe"], ids=["missing", "empty", "no text"])
def test_an_hourly_escrow_goes_on_past_a_path_whose_key_is_no_key(stage: Stage, content: Any) -> None:
    if content is not None:
        (stage.root / "brought/store_id").write_bytes(content or b"")
    done = stage.escrow(BUCKET, stage.safe)
    assert done["changed"]
    found = gates(done)
    assert (found["safe"][0], found["store-a"][0], found["store-a"][1].split(":")[0]) == ("pass", "fail", DENIED)
    assert "store_id" in done["msg"]
    assert len(list(stage.root.glob("safe/minimarket/*/bundle.tar.age"))) == 1
    asked = stage.step(
        escrow_check.ActionModule, paths=[BUCKET, stage.safe], recipients=stage.recipients, secrets_directory=str(stage.root / "no")
    )
    assert {path: verdict for path, (verdict, _) in gates(asked).items()} == {"safe": "pass", "store-a": "fail"}


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ({**BUCKET, "key_id_secret": ""}, "no key_id_secret"),
        ({"name": "b", "kind": "bucket", "endpoint": "e"}, "no bucket, key_id_secret, key_secret"),
        ({**VAULT, "key_secret": None}, "no key_secret"),
        ({**VAULT, "region": ""}, "no region"),
        ({**VAULT, "endpoint_url": "localhost:4566"}, "localhost:4566"),
        ({**BUCKET, "port": "https"}, "https"),
        ({"name": "d", "kind": "directory"}, "no path"),
        ({"name": "d", "kind": "tape"}, "kind tape"),
        ({"kind": "directory", "path": "/x"}, "dr_keys_paths"),
    ],
)
def test_a_path_that_cannot_be_meant_is_named(path: dict[str, Any], words: str) -> None:
    secrets = dict.fromkeys(("store_id", "store_key", "aws_id", "aws_key"), "s3cr3t")
    with pytest.raises(EscrowFault) as caught:
        escrow_places.place(path, "minimarket", secrets)
    assert caught.value.kind == DECLARATION
    assert words in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


# -- the primary --

PRIMARY = {"cluster": {"role": "primary", "state": "running"}}
LOCK = {"run_id": "r9", "owner": "ana", "since": "12:15"}


def digests(stage: Stage, monkeypatch: pytest.MonkeyPatch, **seen: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """On the host ``here``; with the modules that were asked."""
    asked: list[str] = []

    def ask(_step: Any, module: str, arguments: dict[str, Any]) -> dict[str, Any]:
        assert not {"seen", "memory_directory"} & set(arguments)
        asked.append(module)
        return {"columns": {"mail": {"name": "mail", "rows": [["1", "d"]]}}}

    monkeypatch.setattr(column_digests.ActionModule, "ask", ask)
    monkeypatch.setattr(column_digests.ActionModule, "host", "here", raising=False)
    step = column_digests.ActionModule.__new__(column_digests.ActionModule)
    columns = [{"name": "mail", "key": "shop", "generation": "1"}]
    step._task = SimpleNamespace(args={"seen": seen, "columns": columns, "memory_directory": str(stage.memory)}, check_mode=False)
    step.control = stage.control
    return step.act(), asked


def test_columns_are_read_on_the_primary_alone(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    Memory(str(stage.memory), "r1").open()
    done, asked = digests(stage, monkeypatch, here=PRIMARY, there={"unreachable": True, "msg": "no route"})
    assert (done["rows"], asked) == ({"mail": 1}, ["relevo.dr.column_digests"])
    done, asked = digests(stage, monkeypatch, here={}, there=PRIMARY)
    assert (done["msg"], asked) == ("columns are read on there, the primary", [])


@pytest.mark.parametrize(
    ("seen", "host", "words"),
    [
        ({"here": {}, "there": {}}, "dr_database", "here is silent, there is silent"),
        ({"here": PRIMARY, "there": PRIMARY}, "dr_database", "here is primary (running), there is primary (running)"),
        ({"here": {**PRIMARY, "host": {"lock": LOCK}}}, "here", "run r9 of ana holds the lock"),
    ],
)
def test_where_no_one_primary_is_free_the_record_says_why_no_column_was_read_and_nothing_fails(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, seen: dict[str, Any], host: str, words: str
) -> None:
    done, asked = digests(stage, monkeypatch, **seen)
    assert (done.get("failed"), asked) == (None, [])
    verdict, observed = gates(done, "KEYSREAD")[host]
    assert verdict == "unknown"
    assert observed == f"{observed.split(';')[0]}; what they decrypted to before is kept"
    assert words in observed


# -- the runbook --


@pytest.fixture
def run(stage: Stage):
    """Runs what follows the opening of playbooks/escrow_keys.yml within an opened run; its one database host is silent."""
    directory = stage.root / "run"
    directory.mkdir(exist_ok=True)
    (directory / "journal.jsonl").write_text(json.dumps({"event": "opened", "run_id": "r1"}) + "\n")
    opening, *plays = yaml.safe_load((ROOT / "playbooks/escrow_keys.yml").read_text())
    assert opening["name"].endswith(": Open")
    (stage.root / "play.yml").write_text(yaml.safe_dump(plays, sort_keys=False))
    (stage.root / "hosts").write_text(
        "[dr_database]\na-db1 ansible_connection=ssh ansible_host=127.0.0.1 ansible_port=1 dr_site=a\n"
    )
    (stage.root / "brought/passphrase").write_bytes(SECRET)
    given = {
        "dr_cluster": "minimarket",
        "dr_cluster_unit": "postgresql@17-main",
        "dr_cluster_version": "17",
        "dr_cluster_data_directory": "/nowhere/main",
        "dr_cluster_bin_directory": "/nowhere/bin",
        "dr_cluster_port": 5432,
        "dr_cluster_database": "minimarket",
        "dr_secrets_directory": str(stage.root / "brought"),
        "dr_keys_items": [ITEM],
        "dr_keys_paths": [stage.safe],
        "dr_keys_recipients": stage.recipients,
        "dr_keys_shares_file": "",
        "dr_keys_columns": [{"name": "mail", "key": "shop", "generation": "1", "sql": "select 1, @key@"}],
        "dr_keys_state_directory": str(stage.root / "state"),
        "dr_keys_memory_directory": str(stage.memory),
    }

    def playbook(*words: str, **changed: Any) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "RELEVO_FEED": "runner",
            "RELEVO_RUN_ID": "r1",
            "RELEVO_RUN_DIR": str(directory),
            "RELEVO_STORE": str(stage.root / "store"),
        }
        program = Path(sys.executable).with_name("ansible-playbook")
        line = [program, "-v", "-i", stage.root / "hosts", stage.root / "play.yml", "-e", json.dumps({**given, **changed}), *words]
        return subprocess.run(line, capture_output=True, text=True, check=False, timeout=300, env=environment, cwd=ROOT)

    return playbook


def test_keys_are_put_on_every_path_while_no_primary_is_seen_and_the_record_says_so(run, stage: Stage) -> None:
    checked = run("--check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "changed=1" in checked.stdout
    assert list(stage.root.glob("safe/minimarket/*")) == list(stage.memory.iterdir()) == []
    done = run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(stage.root.glob("safe/minimarket/*/bundle.tar.age"))) == 1
    for result in (checked, done):
        assert "no column is read: PRIMARY on dr_database: observed a-db1 is silent" in " ".join(result.stdout.split())
        assert "id: KEYSREAD" in result.stdout
        assert SECRET.decode() not in result.stdout + result.stderr
    assert list(stage.memory.iterdir()) == []


def test_what_was_read_is_forgotten_when_a_step_after_it_fails(run, stage: Stage) -> None:
    done = run(dr_keys_refresh_seconds="soon")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "dr_keys_refresh_seconds" in done.stdout + done.stderr
    assert "read 1 of 1 items" in done.stdout
    assert list(stage.memory.iterdir()) == []


# -- shares --

EARLY, DEALT = "2025-02-01T00:00:00Z", "2025-01-01T00:00:00Z"


def shares_gate(stage: Stage) -> tuple[str, str]:
    """Of a controller that saw one of three shares proven long ago, and the others now."""
    manifest, _ = generation()
    known = stage.root / "state/minimarket"
    known.mkdir(parents=True)
    (known / f"{manifest['generation']}.json").write_text(json.dumps(manifest))
    (known / "shares_proven.json").write_text(json.dumps({"1": EARLY, "2": clock.utc_now(), "3": clock.utc_now()}))
    public = {"dealt_at": DEALT, "recipient": stage.recipients[0], "threshold": 2, "shares": [{"number": n} for n in (1, 2, 3)]}
    found = stage.step(
        escrow_check.ActionModule, paths=[], recipients=[], shares=public, shares_days=365, secrets_directory=str(stage.root)
    )
    return gates(found, "KEYSSHARES")["controller"]


def test_a_share_that_an_empty_controller_proved_counts_at_home(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {**record("k1", 0, "partial", keys={"shares_proven": {"1": clock.utc_now()}}), "closed_at": clock.utc_now()}
    monkeypatch.setattr(history, "settled", lambda cluster, runbook: {("minimarket", "recover_keys"): [told]}[cluster, runbook])
    assert shares_gate(stage) == ("pass", "all 3")


def test_a_share_that_nobody_proved_in_time_is_late(stage: Stage) -> None:
    assert shares_gate(stage) == ("fail", "shares 1 were not")


def test_where_no_store_tells_a_late_share_is_unknown(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = StoreError("The store x cannot be used: refused.")

    def unreadable(_cluster: str, _runbook: str) -> list[dict[str, Any]]:
        raise refused

    monkeypatch.setattr(history, "settled", unreadable)
    verdict, observed = shares_gate(stage)
    assert (verdict, observed.split(";")[0]) == ("unknown", "shares 1 were not, as far as this controller knows")
    assert observed.endswith("The store x cannot be used: refused")


def test_shares_that_were_dealt_a_day_ago_are_not_late_for_what_others_of_their_numbers_proved() -> None:
    old, dealt, now = {1: "2025-01-01T00:00:00Z"}, "2026-06-01T00:00:00Z", "2026-06-02T00:00:00Z"
    assert escrow_choice.unproven([1, 2], old, dealt, now, 365) == []
    assert escrow_choice.unproven([1, 2], {1: "2026-09-01T00:00:00Z"}, dealt, "2027-07-01T00:00:00Z", 365) == [2]


def test_of_several_records_the_newest_proof_of_each_share_counts_and_none_from_the_future() -> None:
    first = record("k1", 9, keys={"shares_proven": {"1": "2026-11-15T00:00:00Z", "3": "2026-11-15T00:00:00Z"}})
    second = record("k2", 2, "failed", keys={"shares_proven": {"1": "2026-11-22T00:00:00Z", "3": "2026-01-01T00:00:00Z"}})
    ahead = record("k3", -365, keys={"shares_proven": {"2": "2027-11-24T00:00:00Z"}})
    nothing = [record("k4", 1), record("k5", 1, keys={"shares_proven": None})]
    found = keys_proof.shares_proven([ahead, *nothing, second, first], NOW)
    assert found == {1: "2026-11-22T00:00:00Z", 3: "2026-11-15T00:00:00Z"}


def test_of_two_ways_the_later_proof_of_a_share_is_on_record(stage: Stage) -> None:
    early, late = {"1": AT, "2": AT}, {"1": AT, "2": LATER}
    for name, proven in (("a", late), ("b", early)):
        way = {"name": name, "recovered": True, "intact": True, "shares_proven": proven}
        stage.control.write(f"{RECOVERED}/{name}", way)
    stage.control.write("landscape", {"began": {"boottime": clock.boottime_seconds()}})
    judged = stage.step(escrow_judge.ActionModule, expected=2, lost_site="", limit_seconds=3600)
    assert judged["ansible_stats"]["data"]["relevo"]["measures"]["keys"]["shares_proven"] == late
