"""A runbook as AWX runs it: in a checkout that nobody may write to, with another home and account, without a terminal; its record outlives all that."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
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
# What ends with a container ends here too: a connection of ssh that stayed would keep the mounts of the laboratory.
_APART = ("unshare", "--mount", "--pid", "--fork", "--mount-proc", "--", "sh", "-ec")
# The test's own Python lies where only root may look; ssh-agent has a group of its own, by which it would lose that right.
_AS_1000 = (
    "exec setpriv --reuid=1000 --regid=0 --clear-groups --no-new-privs "
    '--inh-caps=-all,+dac_read_search --ambient-caps=-all,+dac_read_search -- "$@"'
)
# Of the laboratory, what a job needs and nobody has to hide; AWX mounts such things into the image.
_PUBLIC = ("release", "tls/ca.pem")
# The shop's own; AWX's type has the names of the example inventory.
_SECRET_OF_THE_SHOP = "minimarket_user_password"


def run_in_image(job: Job, volumes: Mapping[Path, Path] | None = None, seconds: float = 120) -> Ended:
    """Run it as the account 1000 of the group 0, with a checkout that nobody can write to; whatever it has started ends with it. volumes: what lies where."""
    checkout = job.directory / "project"
    # AWX gives the account what is the job's own, and the checkout to read.
    for path in [job.directory, *job.directory.rglob("*")]:
        if not path.is_relative_to(checkout):
            os.chown(path, 1000, 0, follow_symlinks=False)
    # As an image does for whoever runs it: the kernel knows a number only, and ssh wants a name.
    others = [line for line in Path("/etc/passwd").read_text().splitlines() if line.split(":")[2] != "1000"]
    passwd = job.directory / "passwd"
    passwd.write_text("\n".join([*others, f"runner:x:1000:0:runner:{job.directory}:/bin/bash", ""]))
    mounts = {checkout: checkout, passwd: Path("/etc/passwd"), **(volumes or {})}
    steps = [shlex.join(["mount", "--bind", str(source), str(target)]) for source, target in mounts.items()]
    # A bind mount takes options of its own only when it is mounted again.
    steps += [shlex.join(["mount", "-o", "remount,bind,ro", str(checkout)]), _AS_1000]
    return job.run(*_APART, "\n".join(steps), "sh", seconds=seconds)


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
def key(tmp_path: Path) -> str:
    return signature.ready_key(tmp_path / "the controller's").path.read_text()


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
    tmp_path: Path, place: Path, server: Server, kinds: dict[str, dict[str, Any]], key: str
) -> None:
    """Refused for its confirmation: the survey's answers were read, and no host was asked."""
    store = server.database("refused")
    wrong = {**ANSWERS, "dr_confirm": "drill production minimarket to a"}
    ended = run_in_image(job(place, kinds, store, key, "playbooks/failover.yml", wrong))
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
    tmp_path: Path, place: Path, server: Server, kinds: dict[str, dict[str, Any]], key: str
) -> None:
    store = server.database("secrets")
    toy = tmp_path / "toy.yml"
    toy.write_text(TOY)
    handed_on = {"dr_reason": "x", "relevo": {"status": {"next": "{{ lookup('pipe', 'id') }}"}}}
    ended = run_in_image(job(place, kinds, store, key, "playbooks/toy.yml", handed_on, toy))
    assert ended.code == 0, ended.output
    assert ended.told["relevo"]["run"]["reason"] == f"it is {CANARY}", "the secret was found"
    record = relevo(store, tmp_path / "other", "results", "show", "latest", "--json", key=key).stdout
    assert json.loads(record)["verdict"] == "passed"
    assert CANARY not in record
    assert "[redacted]" in record


def test_a_record_that_the_database_does_not_take_is_in_the_output_of_the_job(
    tmp_path: Path, place: Path, kinds: dict[str, dict[str, Any]], key: str
) -> None:
    """The disk of the job goes with it; what it said stays in AWX."""
    store = f"postgresql://relevo@/nothing?host={tmp_path}"
    toy = tmp_path / "toy.yml"
    toy.write_text(TOY)
    ended: Ended = run_in_image(job(place, kinds, store, key, "playbooks/toy.yml", {}, toy))
    assert ended.code == 0, "no failover waits for the database of the results"
    assert "This is the record, and its signature; keep this output" in ended.kept
    assert '"runbook":"toy"' in ended.output.replace(" ", "")
    assert "BEGIN SSH SIGNATURE" in ended.output
    assert CANARY not in ended.output.partition("This is the record")[2]


TRIES = """---
- hosts: wit1
  connection: local
  gather_facts: false
  tasks:
    - ansible.builtin.shell: |
        id -u; id -G; echo "$HOME"; ssh-add -L
        if true </dev/tty; then echo "a terminal"; fi
        sleep 600 </dev/null >/dev/null 2>&1 &
      register: said
    - ansible.builtin.shell:
        cmd: "{{ item }}"
        chdir: "{{ playbook_dir }}"
      loop: [touch new.yml, chmod 777 toy.yml, rm -f toy.yml]
      ignore_errors: true
      register: tried
    - ansible.builtin.set_stats:
        data:
          said: "{{ said.stdout_lines }}"
          refused: "{{ tried.results | map(attribute='stderr') }}"
"""


def test_the_checkout_of_a_job_is_read_only_and_its_key_is_with_an_agent(
    tmp_path: Path, place: Path, kinds: dict[str, dict[str, Any]], key: str
) -> None:
    """What the other tests stand on: of the account, of the place, and that nothing of it is left."""
    toy = tmp_path / "toy.yml"
    toy.write_text(TRIES)
    made = job(place, kinds, f"postgresql://relevo@/nothing?host={tmp_path}", key, "playbooks/toy.yml", {}, toy)
    made.machine_credential(key)
    ended = run_in_image(made)
    assert ended.code == 0, ended.output
    public = " ".join(signature.public(tmp_path / "the controller's" / signature.CONTROLLER).split()[:2])
    assert ended.told["said"][:3] == ["1000", "0", str(made.directory)]
    assert [line for line in ended.told["said"][3:] if line.startswith(public)] == ended.told["said"][3:] != []
    assert len(ended.told["refused"]) == 3
    assert all("Read-only file system" in said for said in ended.told["refused"]), ended.told
    assert ended.wrote == set()
    assert not list(place.iterdir())
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            assert str(made.directory).encode() not in path.read_bytes(), "what the job started has ended with it"


def of_the_laboratory(
    place: Path, kinds: dict[str, dict[str, Any]], state: Path, key: str, template: str, variables: dict[str, Any]
) -> Job:
    """A job of that template on the laboratory of that state, whose inventory is as docs/awx.md wants it: what opens anything comes by credentials alone."""
    listed = subprocess.run(
        [BIN / "ansible-inventory", "-i", INVENTORY, "--list", "--export"], capture_output=True, text=True, check=True
    )
    inventory = json.loads(listed.stdout)
    for name in ("ansible_ssh_private_key_file", "ansible_control_path_dir", "ansible_ssh_common_args"):
        del inventory["lab"]["vars"][name]
    inventory["all"]["vars"] |= awx_configuration.variables_of_the_inventory()
    made = Job(place, awx_configuration.template(template)["playbook"], inventory, variables)
    made.machine_credential((state / "ssh/operator").read_text())
    made.credential(kinds["Relevo signing key"], key=key, known_hosts=(state / "ssh/known_hosts").read_text())
    for kind in (
        kinds["Relevo object stores"],
        awx_configuration.with_secrets(kinds["Relevo database and hosts"], _SECRET_OF_THE_SHOP),
    ):
        paths = {field: state / "secrets" / name for name, field in awx_configuration.secrets_of(kind).items()}
        made.credential(kind, **{field: path.read_text() for field, path in paths.items() if path.exists()})
    return made


def public_part(state: Path, place: Path) -> dict[Path, Path]:
    """A volume that lies over the laboratory's state, so that a job finds no key and no secret there."""
    for name in _PUBLIC:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(state / name, place / name)
    return {place: state}


def test_a_failover_is_a_job(bench: Bench, tmp_path: Path, place: Path, server: Server, kinds: dict[str, dict[str, Any]]) -> None:
    """On the laboratory: look, agree to the plan, move, as the workflow does it, each a job of its own; the artifacts go from one to the next."""
    store, key = server.database("failover"), (bench.store / "keys/controller").read_text()
    state = bench.lab.state
    volumes = public_part(state, place / "public")
    answers = {**DRILL, "dr_accept_loss_seconds": "5"}
    told: dict[str, Any] = {}

    def started(number: int, template: str, answers: dict[str, str]) -> Ended:
        variables = {**told, **awx_configuration.answered("Relevo: fail over, with approval", answers)}
        made = of_the_laboratory(place / str(number), kinds, state, key, template, variables)
        made.environment |= {"RELEVO_STORE": store, "RELEVO_LAB_STATE": str(state)}
        ended = run_in_image(made, volumes, seconds=300)
        assert ended.wrote == set(), template
        assert not list((place / str(number)).iterdir())
        return ended

    looked = started(1, "Relevo: check", answers)
    assert looked.code == 0, looked.output
    told.update(looked.told)
    assert told["dr_approved_failover"] == told["relevo"]["approval"]["digest"]

    refused = started(2, "Relevo: fail over", {**answers, "dr_accept_loss_seconds": "60"})
    assert refused.code != 0
    assert "PLAN on controller" in refused.kept
    assert not bench.writable("b-db1")

    moved = started(3, "Relevo: fail over", answers)
    assert moved.code == 0, moved.output
    assert bench.writable("b-db1")
    assert not bench.writable("a-db1")
    shown = relevo(store, tmp_path / "other", "results", "show", "latest", "--json", key=key).stdout
    record = json.loads(shown)
    assert (record["runbook"], record["verdict"]) == ("failover", "passed")
    assert next(gate for gate in record["gates"] if gate["id"] == "PLAN")["verdict"] == "pass"
    secrets = {path.name: path.read_text().strip() for path in (state / "secrets").iterdir() if path.is_file()}
    assert [name for name, secret in secrets.items() if secret and secret in shown] == []
