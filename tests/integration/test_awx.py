"""A runbook as AWX runs it: in a checkout that nobody may write to, with another home and account, without a terminal; its record outlives all that."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relevo import signature
from tests import awx_configuration
from tests.awx_job import Ended, Job
from tests.integration.conftest import BIN, DRILL, INVENTORY, Bench
from tests.integration.database_server import Server, serving
from tests.unit.awx.test_job import ANSWERS
from tests.unit.awx.test_job import INVENTORY as HOSTS_THAT_ARE_NOWHERE

pytestmark = pytest.mark.full
CANARY = "canary-4711-of-the-hosts"
# As the image does for whoever runs it: the kernel knows a number only, and ssh wants a name.
_AS_1000 = (
    "mount --bind {passwd} /etc/passwd && exec setpriv --reuid=1000 --regid=0 --clear-groups "
    '--inh-caps=-all,+dac_read_search --ambient-caps=-all,+dac_read_search -- "$@"'
)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as found:
        found.directory.chmod(0o755)
        yield found


@pytest.fixture(scope="module")
def kinds() -> dict[str, dict[str, Any]]:
    """The types of credentials by name, as awx/ describes them."""
    return {one["name"]: one for one in awx_configuration.variables()["controller_credential_types"]}


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that others than root can reach: pytest's own is closed to them, and a question for rights knows no capabilities."""
    made = Path(tempfile.mkdtemp(prefix="relevo-awx-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def as_1000(tmp_path: Path) -> tuple[str, ...]:
    """A command that runs another one as the account of an image: 1000, in the group 0. The test's own Python lies where only root may look."""
    lines = [line for line in Path("/etc/passwd").read_text().splitlines() if line.split(":")[2] != "1000"]
    passwd = tmp_path / "passwd"
    passwd.write_text("\n".join([*lines, "runner:x:1000:0:runner:/runner:/bin/bash", ""]))
    return ("unshare", "--mount", "--", "sh", "-c", _AS_1000.format(passwd=passwd), "sh")


@pytest.fixture
def key(tmp_path: Path) -> str:
    return signature.ready_key(tmp_path / "the controller's").path.read_text()


def given_to_1000(job: Job) -> Job:
    """AWX gives the account of the image what is the job's own, and the checkout to read."""
    for path in [job.directory, *job.directory.rglob("*")]:
        if not path.is_relative_to(job.directory / "project"):
            os.chown(path, 1000, 0, follow_symlinks=False)
    return job


def relevo(store: str, state: Path, *words: str, key: str = "") -> subprocess.CompletedProcess[str]:
    """The command of another controller, whose state is new."""
    about = {"PATH": os.environ["PATH"], "RELEVO_STORE": store, "XDG_STATE_HOME": str(state), "HOME": str(state)}
    if key:
        path = state.with_suffix(".key")
        path.write_text(key)
        about[signature.GIVEN_KEY] = str(path)
    return subprocess.run([BIN / "relevo", *words], env=about, capture_output=True, text=True, check=False, timeout=300)


def job(
    place: Path, kinds: dict[str, dict[str, Any]], store: str, key: str, playbook: str, answers: dict[str, Any], *more: Path
) -> Job:
    made = Job(place, playbook, HOSTS_THAT_ARE_NOWHERE, answers, *more)
    made.environment["RELEVO_STORE"] = store
    made.credential(kinds["Relevo signing key"], key=key, known_hosts="")
    secrets = kinds["Relevo database and hosts"]
    made.credential(secrets, **dict.fromkeys(secrets["inputs"]["required"], CANARY))
    return made


def test_the_record_of_a_job_is_in_the_store_when_its_checkout_is_gone(
    tmp_path: Path, place: Path, server: Server, kinds: dict[str, dict[str, Any]], as_1000: tuple[str, ...], key: str
) -> None:
    """Refused for its confirmation: the survey's answers were read, and no host was asked."""
    store = server.database("refused")
    wrong = {**ANSWERS, "dr_confirm": "drill production minimarket to a"}
    ended = given_to_1000(job(place, kinds, store, key, "playbooks/failover.yml", wrong)).run(*as_1000)
    assert ended.code != 0
    assert "CONFIRM on controller" in ended.kept, ended.output
    assert ended.wrote == set()
    assert not list(place.iterdir())
    shown = relevo(store, tmp_path / "other", "results", "show", "latest", "--json", key=key)
    record = json.loads(shown.stdout)
    assert (record["runbook"], record["verdict"], record["mode"], record["run"]["target_site"]) == (
        "failover",
        "refused",
        "drill",
        "b",
    )
    assert "lookup(" not in json.dumps(record), "what AWX says of its user is in no record"
    verified = relevo(store, tmp_path / "other", "results", "verify", key=key)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    stranger = relevo(store, tmp_path / "stranger", "results", "verify")
    assert stranger.returncode != 0, "a controller with another key believes nothing of it"


TOY = """---
- name: "Toy 1/1: Say"
  hosts: wit1
  connection: local
  gather_facts: false
  vars:
    dr_secrets_directory: "{{ lookup('relevo.dr.secrets', '/etc/relevo-controller/secrets') }}"
  tasks:
    - name: Open | Open the run
      relevo.dr.open:
        runbook: toy
        cluster: minimarket
    - name: Say | Say a secret, as a careless module would
      ansible.builtin.set_stats:
        data:
          relevo:
            run: {reason: "it is {{ lookup('ansible.builtin.file', dr_secrets_directory + '/become_password') }}"}
"""


def test_secrets_of_a_credential_are_found_by_name_and_stay_out_of_the_record(
    tmp_path: Path, place: Path, server: Server, kinds: dict[str, dict[str, Any]], as_1000: tuple[str, ...], key: str
) -> None:
    store = server.database("secrets")
    toy = tmp_path / "toy.yml"
    toy.write_text(TOY)
    handed_on = {"dr_reason": "x", "relevo": {"status": {"next": "{{ lookup('pipe', 'id') }}"}}}
    ended = given_to_1000(job(place, kinds, store, key, "playbooks/toy.yml", handed_on, toy)).run(*as_1000)
    assert ended.code == 0, ended.output
    assert ended.told["relevo"]["run"]["reason"] == f"it is {CANARY}", "the secret was found"
    record = relevo(store, tmp_path / "other", "results", "show", "latest", "--json", key=key).stdout
    assert json.loads(record)["verdict"] == "passed"
    assert CANARY not in record
    assert "[redacted]" in record


def test_a_record_that_the_database_does_not_take_is_in_the_output_of_the_job(
    tmp_path: Path, place: Path, kinds: dict[str, dict[str, Any]], as_1000: tuple[str, ...], key: str
) -> None:
    """The disk of the job goes with it; what it said stays in AWX."""
    store = f"postgresql://relevo@/nothing?host={tmp_path}"
    toy = tmp_path / "toy.yml"
    toy.write_text(TOY)
    ended: Ended = given_to_1000(job(place, kinds, store, key, "playbooks/toy.yml", {}, toy)).run(*as_1000)
    assert ended.code == 0, "no failover waits for the database of the results"
    assert "This is the record, and its signature; keep this output" in ended.kept
    assert '"runbook":"toy"' in ended.output.replace(" ", "")
    assert "BEGIN SSH SIGNATURE" in ended.output
    assert CANARY not in ended.output.partition("This is the record")[2]


def test_a_failover_is_a_job(bench: Bench, tmp_path: Path, server: Server, kinds: dict[str, dict[str, Any]]) -> None:
    """On the laboratory: look, agree to the plan, move, as the workflow does it, each a job of its own; the artifacts go from one to the next."""
    listed = subprocess.run(
        [BIN / "ansible-inventory", "-i", INVENTORY, "--list", "--export"], capture_output=True, text=True, check=True
    )
    store, key = server.database("failover"), (bench.store / "keys/controller").read_text()
    secrets = {path.name: path.read_text() for path in (bench.lab.state / "secrets").iterdir() if path.is_file()}
    known: dict[str, Any] = {**DRILL, "dr_accept_loss_seconds": "5", "dr_check_for": "failover"}

    def started(number: int, playbook: str) -> Ended:
        made = Job(tmp_path / str(number), playbook, json.loads(listed.stdout), known)
        made.environment |= {"RELEVO_STORE": store, "RELEVO_LAB_STATE": str(bench.lab.state)}
        made.credential(kinds["Relevo signing key"], key=key, known_hosts="")
        made.environment |= {
            f"RELEVO_SECRET_{place}": f"{name}={bench.lab.state}/secrets/{name}" for place, name in enumerate(secrets)
        }
        return made.run(seconds=300)

    looked = started(1, "playbooks/check.yml")
    assert looked.code == 0, looked.output
    known.update(looked.told)
    assert known["dr_approved_failover"] == known["relevo"]["approval"]["digest"]

    known["dr_accept_loss_seconds"] = "60"
    refused = started(2, "playbooks/failover.yml")
    assert refused.code != 0
    assert "PLAN on controller" in refused.kept
    assert not bench.writable("b-db1")

    known["dr_accept_loss_seconds"] = "5"
    moved = started(3, "playbooks/failover.yml")
    assert moved.code == 0, moved.output
    assert bench.writable("b-db1")
    assert not bench.writable("a-db1")
    record = json.loads(relevo(store, tmp_path / "other", "results", "show", "latest", "--json", key=key).stdout)
    assert (record["runbook"], record["verdict"]) == ("failover", "passed")
    assert next(gate for gate in record["gates"] if gate["id"] == "PLAN")["verdict"] == "pass"
