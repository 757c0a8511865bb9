"""The runbook of the escrow on hosts that are this machine: what is read, kept, recovered and judged; and no byte of a key anywhere else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.relevo.dr.plugins.plugin_utils import escrow_pack

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
CANARY = "canary8Kd3wZ1rQ6"


@dataclass(frozen=True)
class Controller:
    """A controller, its hosts' files and its escrow, all below one directory."""

    place: Path

    def variables(self, **more: Any) -> dict[str, Any]:
        given = {
            "dr_cluster": "minimarket",
            "dr_cluster_version": "17",
            "dr_secrets_directory": str(self.place / "secrets"),
            "dr_run_contacts_secret": "",
            "dr_keys_state_directory": str(self.place / "state/keys"),
            "dr_keys_paths": [
                {"name": name, "kind": "directory", "path": str(self.place / name), "site": name} for name in ("disk-a", "disk-b")
            ],
            "dr_keys_items": [
                {"name": "repo1_passphrase", "kind": "secret"},
                {
                    "name": "shop",
                    "kind": "key",
                    "generation": "1",
                    "hosts": ["a-app1", "b-app1"],
                    "path": str(self.place / "hosts/shop.key.1"),
                },
                {
                    "name": "shop",
                    "kind": "key",
                    "generation": "2",
                    "hosts": ["a-app1"],
                    "path": str(self.place / "hosts/shop.key.2"),
                },
                {"name": "authority", "kind": "file", "hosts": ["a-app1"], "path": str(self.place / "hosts/ca.pem")},
                {"name": "inventory", "kind": "tree", "path": str(self.place / "inventory")},
                {"name": "versions", "kind": "versions"},
            ],
            "dr_keys_shares_file": str(self.place / "shares.json"),
            "dr_keys_recipients": (self.place / "recipients").read_text().split(),
            "dr_keys_openers": [{"name": name, "identity_files": [str(self.place / name)]} for name in ("ana", "mira")],
            **more,
        }
        hosts = {name: {"ansible_connection": "local", "ansible_become": False} for name in ("a-app1", "b-app1")}
        children = {"dr_database": {"hosts": {}}, "dr_application": {"hosts": hosts}}
        return {"all": {"vars": {**given, "ansible_python_interpreter": sys.executable}, "children": children}}

    def play(self, playbook: Path, *words: str, **more: Any) -> subprocess.CompletedProcess[str]:
        (self.place / "hosts.yml").write_text(yaml.safe_dump(self.variables(**more)))
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RELEVO_", "ANSIBLE_"))}
        environment = {
            **kept,
            "PATH": f"{BIN}:{kept['PATH']}",
            "RELEVO_STORE": str(self.place / "state"),
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        }
        command = [BIN / "ansible-playbook", "-vvv", "-i", self.place / "hosts.yml", playbook, *words]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900, check=False)
        (self.place / "state").mkdir(exist_ok=True)
        with (self.place / "state/output").open("a") as log:
            log.write(done.stdout + done.stderr)
        return done

    def escrow(self, *words: str, **more: Any) -> subprocess.CompletedProcess[str]:
        return self.play(ROOT / "playbooks/escrow_keys.yml", *words, **more)

    def recover(self, **more: Any) -> subprocess.CompletedProcess[str]:
        return self.play(ROOT / "tests/fixtures/keys/recover.yml", **more)

    def record(self) -> dict[str, Any]:
        environment = {**os.environ, "RELEVO_STORE": str(self.place / "state")}
        words = [BIN / "relevo", "results", "show", "latest", "--json"]
        return json.loads(subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout)

    def generations(self, disk: str = "disk-a") -> list[str]:
        return sorted(path.name for path in (self.place / disk / "minimarket").glob("2*"))

    def leaks(self) -> list[Path]:
        """Files with a byte of a key, but for where it belongs."""
        allowed = (self.place / "hosts", self.place / "secrets")
        places = [*self.place.rglob("*"), *Path("/dev/shm").rglob("*"), *Path("/tmp").glob("ansible*/**/*")]
        found = [path for path in places if path.is_file() and not any(path.is_relative_to(one) for one in allowed)]
        return [path for path in found if CANARY.encode() in path.read_bytes()]


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Controller:
    place = tmp_path_factory.mktemp("keys")
    for name in ("secrets", "hosts", "inventory", "disk-a", "disk-b"):
        (place / name).mkdir(mode=0o700)
    (place / "secrets/repo1_passphrase").write_text(f"{CANARY}-passphrase\n")
    (place / "hosts/shop.key.1").write_text(f"{CANARY}-first")
    (place / "hosts/shop.key.2").write_text(f"{CANARY}-second\n")
    (place / "hosts/ca.pem").write_text("a certificate\n")
    (place / "inventory/hosts.yml").write_text("all: {}\n")
    recipients = []
    for name in ("ana", "mira"):
        secret, recipient = escrow_pack.new_identity()
        (place / name).write_text(f"# public key: {recipient}\n{secret}\n")
        recipients.append(recipient)
    (place / "recipients").write_text("\n".join(recipients))
    return Controller(place)


def gates(record: dict[str, Any]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for gate in record["gates"]:
        found.setdefault(gate["id"], set()).add(gate["verdict"])
    return found


def test_keys_go_into_escrow_once_and_come_back_by_every_way(controller: Controller) -> None:
    done = controller.escrow()
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    first = controller.record()
    assert gates(first) == {"KEYSPATH": {"pass"}, "KEYSSITES": {"pass"}}
    assert controller.generations() == controller.generations("disk-b") == [first["measures"]["keys"]["escrow"]["generation"]]
    assert first["measures"]["keys"]["escrow"]["items"] == 6

    again = controller.escrow()
    assert "localhost                  : ok=" in again.stdout
    assert len(controller.generations()) == 1
    assert controller.record()["versions"]["keys"] == first["versions"]["keys"]

    back = controller.recover()
    record = controller.record()
    # No copy was restored here, so the test as a whole cannot have passed; the keys themselves are back, by each of the four ways.
    assert back.returncode != 0
    assert (record["measures"]["keys"]["recovered"], record["measures"]["keys"]["intact"]) == ("pass", "pass"), back.stdout[-3000:]
    assert record["measures"]["keys"]["decrypted"] == "fail"
    assert len(record["measures"]["keys"]["paths"]) == 4
    assert (gates(record)["KEYSPATH"], gates(record)["KEYSEQUAL"]) == ({"pass"}, {"pass"})
    assert record["versions"]["keys"] == first["versions"]["keys"]
    assert record["measures"]["keys"]["seconds"] < 3600
    assert controller.leaks() == []


def test_a_rotated_key_makes_another_generation_and_another_version(controller: Controller) -> None:
    controller.escrow()
    before = controller.record()["versions"]["keys"]
    (controller.place / "hosts/shop.key.2").write_text(f"{CANARY}-third\n")
    assert controller.escrow().returncode == 0
    after = controller.record()
    assert after["versions"]["keys"] != before
    assert len(controller.generations()) == 2
    assert controller.leaks() == []


def test_a_key_that_is_gone_and_one_that_differs_between_hosts_are_named_and_the_rest_is_kept(controller: Controller) -> None:
    controller.escrow()
    kept = controller.generations()
    gone = controller.place / "hosts/ca.pem"
    gone.rename(gone.with_suffix(".away"))
    done = controller.escrow("-e", "dr_keys_renew=true")
    gone.with_suffix(".away").rename(gone)
    assert done.returncode == 2
    record = controller.record()
    assert gates(record)["KEYSREAD"] == {"fail"}
    assert "files/a-app1/authority" in str([gate for gate in record["gates"] if gate["id"] == "KEYSREAD"])
    assert len(controller.generations()) == len(kept) + 1
    assert controller.leaks() == []


def test_one_recipient_and_a_way_out_of_date_are_refused_by_name(controller: Controller) -> None:
    controller.escrow()
    controller.escrow("-e", "dr_keys_renew=true")
    kept = controller.generations()
    one = controller.escrow(
        "-e", "dr_keys_renew=true", dr_keys_recipients=(controller.place / "recipients").read_text().split()[:1]
    )
    assert one.returncode == 2
    assert "observed 1 recipients; expected at least 2" in one.stdout
    assert controller.generations() == kept
    newest = controller.place / "disk-b/minimarket" / controller.generations("disk-b")[-1]
    newest.rename(controller.place / "away")
    controller.recover()
    (controller.place / "away").rename(newest)
    record = controller.record()
    assert record["measures"]["keys"]["recovered"] == "fail"
    faults = {way["name"]: way.get("fault") for way in record["measures"]["keys"]["paths"]}
    assert faults == {
        "disk-a by ana": None,
        "disk-a by mira": None,
        "disk-b by ana": "WRONG_GENERATION",
        "disk-b by mira": "WRONG_GENERATION",
    }
    assert controller.leaks() == []
