"""Test 4 on the laboratory: keys come back by each way with site a gone, and open real data; and what is wrong is refused by name."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.relevo.dr.plugins.module_utils import clock
from ansible_collections.relevo.dr.plugins.plugin_utils import escrow_pack, escrow_shares

from .conftest import Bench, Run

SITE_A = ("a-db1", "a-app1", "a-store1")


class Keys(Bench):
    """The laboratory with an escrow, and people who can open it."""

    @property
    def place(self) -> Path:
        return self.lab.state / "keys"

    def known(self) -> list[bytes]:
        """Every secret of the controller, and the application's key, as they must be nowhere else."""
        files = [path for path in (self.lab.state / "secrets").iterdir() if path.stat().st_size >= 16]
        return [path.read_bytes().strip() for path in files]

    def leaks(self, *runs: Run) -> list[str]:
        """Where a secret is that it does not belong: what was printed, records and journals, memory."""
        places = [path for top in (self.store, Path("/dev/shm"), self.place / "state") for path in top.rglob("*") if path.is_file()]
        held = {str(path): path.read_bytes() for path in places} | {
            f"output {number}": run.output.encode() for number, run in enumerate(runs)
        }
        return [place for place, content in held.items() if any(secret in content for secret in self.known())]


@pytest.fixture
def keys(bench: Bench) -> Iterator[Keys]:
    found = Keys(bench.store, bench.inventory)
    subprocess.run(["rm", "-rf", found.place, found.lab.state / "escrow"], check=True)
    found.place.mkdir(mode=0o700)
    (found.lab.state / "escrow").mkdir(mode=0o700)
    secret, recipient = escrow_pack.new_identity()
    (found.place / "operator.txt").write_text(secret + "\n")
    (found.place / "recipients").write_text(recipient + "\n")
    public, shares = escrow_shares.deal(5, 3)
    (found.place / "shares.json").write_text(json.dumps({**public, "dealt_at": clock.utc_now()}))
    for share in shares:
        (found.place / f"share-{share.number}").write_text(share.text() + "\n")
    yield found
    for host in SITE_A:
        found.verb("power-on", host)


def gates(run: Run, check: str) -> set[str]:
    return {gate["verdict"] for gate in run.record["gates"] if gate["id"] == check}


def shown(run: Run, what: str = "keys") -> str:
    return json.dumps(run.record["measures"].get(what)) + run.output[-3000:]


@pytest.mark.full
def test_keys_come_back_by_each_way_and_open_real_data_with_site_a_gone(keys: Keys) -> None:
    kept = keys.run("escrow_keys", "-vvv")
    assert kept.code == 0, kept.output[-3000:]
    assert keys.run("escrow_keys").record["measures"]["keys"]["escrow"] == kept.record["measures"]["keys"]["escrow"]
    for host in SITE_A:
        keys.verb("power-off", host)
    back = keys.run("recover_keys", "-vvv", dr_keys_lost_site="a")
    assert back.code == 0, shown(back)
    found = back.record["measures"]["keys"]
    assert (found["recovered"], found["intact"], found["decrypted"]) == ("pass", "pass", "pass"), shown(back)
    assert found["lost_site"] == "a"
    # A bucket and a directory, by the operator and by shares.
    assert len(found["paths"]) == 4
    assert found["seconds"] < 3600
    assert back.record["versions"]["keys"] == kept.record["versions"]["keys"]
    assert set(found["shares_proven"]) == {"1", "3", "5"}
    assert keys.leaks(kept, back) == []


@pytest.mark.full
def test_a_wrong_passphrase_and_a_false_share_are_refused_by_name_and_the_other_ways_are_tried(keys: Keys) -> None:
    assert keys.run("escrow_keys").code == 0
    text = (keys.place / "share-3").read_text()
    (keys.place / "share-3").write_text(text[:30] + ("0" if text[30] != "0" else "1") + text[31:])
    back = keys.run("recover_keys", dr_keys_path="safe")
    found = back.record["measures"]["keys"]
    assert {way["name"]: way.get("fault") for way in found["paths"]} == {"safe by operator": None, "safe by shares": "BAD_SHARE"}
    # By the other way columns were decrypted; by this one nobody saw it.
    assert (found["recovered"], found["decrypted"]) == ("fail", "unknown"), shown(back)
    assert [phase["detail"] for phase in back.record["phases"] if phase["name"] == "DECRYPT safe by operator"] == ["100 rows"]
    assert keys.leaks(back) == []


@pytest.mark.full
def test_a_rotated_key_is_another_version_and_a_host_that_is_off_is_named(keys: Keys) -> None:
    before = keys.run("escrow_keys").record["versions"]["keys"]
    keys.inside("a-app1", "sh", "-c", "cp /etc/minimarket/key /root/key; printf other > /etc/minimarket/key")
    differs = keys.run("escrow_keys")
    assert differs.code != 0
    assert "DIFFERENT on keys/minimarket/1" in differs.output
    keys.inside("a-app1", "mv", "/root/key", "/etc/minimarket/key")
    keys.verb("power-off", "b-app1")
    named = keys.run("escrow_keys", dr_keys_renew="true")
    keys.verb("power-on", "b-app1")
    assert gates(named, "KEYSREAD") == {"fail"}
    assert gates(named, "KEYSPATH") == {"pass"}
    assert named.record["versions"]["keys"] == before
