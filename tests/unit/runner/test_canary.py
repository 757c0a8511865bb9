"""Secrets that a careless playbook shows in every way it can are found nowhere: no file, report, mail, argument list or screen has them."""

from __future__ import annotations

import email
import email.policy
import os
import shutil
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from tests.unit.runner.sheets import paper_text

PROJECT = Path(__file__).parents[2] / "fixtures" / "project"
BIN = Path(sys.executable).parent
MEMORY = Path("/dev/shm")
# By file below the inventory's secrets: what it holds, and what of it nobody may ever see.
MAIL_PASSWORD = "canaryMail8Tq2Lw6"
SECRETS = {
    "app_password": ("canaryApp7Xq9vT2mZ4\n", ("canaryApp7Xq9vT2mZ4",)),
    "restic_passphrase": ("canaryRestic-5kB_91+aZ==\n", ("canaryRestic-5kB_91+aZ==",)),
    "api_token": ("canaryToken.e30.Jx93mfP1\n", ("canaryToken.e30.Jx93mfP1",)),
    "pgpass": ("db:5432:app:app:canaryPgpass3Rt7\n", ("canaryPgpass3Rt7",)),
    "s3_secret": ("AWS_SECRET_ACCESS_KEY=canaryS3aws9Qd/4+x\n", ("canaryS3aws9Qd/4+x",)),
}
TASKS = """
    - name: "Careless | Show {{ item.key }} {{ item.value }} in a loop"
      ansible.builtin.debug:
        msg: "{{ item.value }}"
      loop: "{{ canaries | dict2items }}"
    - name: "Careless | A title with {{ canaries.app_password }}"
      ansible.builtin.set_fact:
        shown: "{{ canaries }}"
    - name: Careless | Say them all, as a module would
      say:
        relevo:
          run: {reason: "tried {{ canaries.api_token }}"}
          measures: {note: "{{ canaries.values() | list }}", "{{ canaries.app_password }}": 1}
          versions: {postgresql: "{{ canaries.s3_secret }}"}
          gates:
            - {id: G01, title: "{{ canaries.pgpass }}", phase: PREFLIGHT, host: "{{ canaries.app_password }}", observed: "{{ canaries.restic_passphrase }}",
               expected: x, verdict: fail, next_action: "{{ canaries.key }}"}
          phases: [{name: FENCE, host: toy-a, outcome: failed, detail: "{{ canaries.key }}"}]
          status: {hosts: {"{{ canaries.app_password }}": {state: "{{ canaries.api_token }}"}}}
    - name: Careless | Fail with them in a loop
      say:
        fail: "postgresql://app:{{ item.value }}@db/app was refused: {{ item.value }}"
      loop: "{{ canaries | dict2items }}"
      ignore_errors: true
    - name: "Careless | Fail for good: {{ canaries.restic_passphrase }}"
      say:
        fail: "password={{ canaries.app_password }} {{ canaries.values() | join(' ') }}"
"""
PLAYBOOK = """---
- name: "Careless 1/2: Open"
  hosts: toy-a
  gather_facts: false
  tasks:
    - name: Open | Open the run
      relevo.dr.open:
        runbook: careless
        cluster: "{{ dr_cluster }}"
      run_once: true
- name: "Careless 2/2: Show"
  hosts: toy-a
  gather_facts: false
  vars:
    canaries:
      app_password: "{{ lookup('file', inventory_dir ~ '/secrets/app_password') }}"
      restic_passphrase: "{{ lookup('file', inventory_dir ~ '/secrets/restic_passphrase') }}"
      api_token: "{{ lookup('file', inventory_dir ~ '/secrets/api_token') }}"
      pgpass: "{{ lookup('file', inventory_dir ~ '/secrets/pgpass') }}"
      s3_secret: "{{ lookup('file', inventory_dir ~ '/secrets/s3_secret') }}"
      key: "{{ lookup('file', inventory_dir ~ '/secrets/ssh_key') }}"
  tasks:
"""


@dataclass
class Post:
    """What a mail server was handed."""

    taken: list[bytes] = field(default_factory=list)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: ARG002, N802 - the server's own names
        self.taken.append(envelope.original_content or b"")
        return "250 taken"


@pytest.fixture
def post() -> Iterator[tuple[Post, int]]:
    office = Post()
    with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as free:
        port = free.server_address[1]

    def anybody(*_: Any) -> AuthResult:
        return AuthResult(success=True)

    server = Controller(office, hostname="127.0.0.1", port=port, authenticator=anybody, auth_require_tls=False)
    server.start()
    yield office, port
    server.stop()


@dataclass(frozen=True)
class Scene:
    """A project whose inventory has secrets, the environment of its commands, and what nobody may see."""

    root: Path
    canaries: tuple[str, ...]
    environment: dict[str, str]

    @property
    def inventory(self) -> Path:
        return self.root / "project" / "inventory"

    def run(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words, cwd=self.root / "project", env=self.environment, capture_output=True, text=True, timeout=300, check=False
        )


@pytest.fixture
def scene(tmp_path: Path, post: tuple[Post, int]) -> Scene:
    project = tmp_path / "project"
    shutil.copytree(PROJECT, project)
    settings = project / "ansible.cfg"
    settings.write_text(settings.read_text().replace("../../..", str(PROJECT.parents[2])))
    (project / "playbooks" / "careless.yml").write_text(PLAYBOOK + TASKS)
    secrets = project / "inventory" / "secrets"
    secrets.mkdir(mode=0o700)
    for name, (content, _) in SECRETS.items():
        (secrets / name).write_text(content)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", secrets / "ssh_key"], check=True)
    # Not the first line, which every key of this kind has.
    key = (secrets / "ssh_key").read_text().splitlines()[2:-1]
    (secrets / "ssh_key.pub").unlink()
    (secrets / "notify_urls").write_text(
        f"mailto://ops:{MAIL_PASSWORD}@127.0.0.1:{post[1]}?mode=insecure&from=relevo@example.org&to=ops@example.org\n"
    )
    (secrets / "notify_urls").chmod(0o600)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RELEVO_", "ANSIBLE_"))}
    for name in ("home", "tmp"):
        (tmp_path / name).mkdir()
    return Scene(
        tmp_path,
        (*(value for _, values in SECRETS.values() for value in values), *key, MAIL_PASSWORD),
        kept
        | {
            "PATH": f"{BIN}:{kept['PATH']}",
            "HOME": str(tmp_path / "home"),
            "TMPDIR": str(tmp_path / "tmp"),
            "RELEVO_STORE": str(tmp_path / "state"),
            "RELEVO_PROJECT": str(project),
            "ANSIBLE_VERBOSITY": "3",
        },
    )


@contextmanager
def watched_arguments() -> Iterator[set[bytes]]:
    """The argument list of every process that lives meanwhile, as often as this machine lets us look."""
    seen: set[bytes] = set()
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.1):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    seen.add(path.read_bytes())
                except OSError:
                    continue

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()


def of_ours(seen: set[bytes], scene: Scene) -> set[bytes]:
    return {line for line in seen if str(scene.root).encode() in line}


def shown(scene: Scene, content: bytes) -> list[str]:
    return [canary for canary in scene.canaries if canary.encode() in content]


def found_in_files(scene: Scene) -> dict[str, list[str]]:
    """Everything below the scene but the secrets themselves."""
    found = {}
    for path in scene.root.rglob("*"):
        if path.is_file() and not path.is_symlink() and (scene.inventory / "secrets") not in path.parents:
            content = path.read_bytes()
            text = paper_text(content).encode() if content.startswith(b"%PDF") else b""
            if canaries := shown(scene, content + text):
                found[str(path.relative_to(scene.root))] = canaries
    return found


def reports(scene: Scene) -> None:
    for form in ("html", "pdf", "junit", "markdown", "json"):
        done = scene.run(BIN / "relevo", "report", "latest", "--format", form, "-o", scene.root / "reports" / f"report.{form}")
        assert done.returncode == 0, done.stdout + done.stderr
    done = scene.run(BIN / "relevo", "results", "export", "-o", scene.root / "bundle")
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_canary_is_found_after_a_run_by_relevo(scene: Scene, post: tuple[Post, int]) -> None:
    urls = scene.inventory / "secrets" / "notify_urls"
    with watched_arguments() as seen:
        done = scene.run(BIN / "relevo", "run", "careless", "-i", scene.inventory, "--notify", urls, "--notify-report")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "[redacted]" in done.stdout + done.stderr
    assert shown(scene, (done.stdout + done.stderr).encode()) == []
    assert any(b"ansible-playbook" in line for line in of_ours(seen, scene)), "nobody looked while it ran"
    assert [line for line in seen if shown(scene, line)] == []
    reports(scene)
    journal = next((scene.root / "state" / "runs").glob("*/journal.jsonl")).read_text()
    assert "Fail for good: [redacted]" in journal, "the careless tasks did not run"
    assert found_in_files(scene) == {}
    (run,) = (scene.root / "state" / "runs").glob("*-careless-*")
    assert not list(MEMORY.glob(f"relevo-{run.name}-*"))
    (mail,) = post[0].taken
    message = email.message_from_bytes(mail, _class=EmailMessage, policy=email.policy.default)
    for part in message.walk():
        if not part.is_multipart():
            content = bytes(part.get_payload(decode=True) or b"")
            pages = paper_text(content).encode() if content.startswith(b"%PDF") else b""
            assert shown(scene, content + pages) == []
    assert shown(scene, mail) == []
    assert len([part for part in message.walk() if not part.is_multipart()]) == 3


def test_no_canary_is_kept_by_the_callback_either(scene: Scene) -> None:
    """What ansible-playbook prints with -vvv is its own; what is recorded of it is ours."""
    with watched_arguments() as seen:
        done = scene.run(BIN / "ansible-playbook", "-i", scene.inventory, "playbooks/careless.yml")
    assert done.returncode == 2, done.stdout + done.stderr
    assert shown(scene, done.stdout.encode()), "the playbook showed nothing, so this test would prove nothing"
    assert [line for line in seen if shown(scene, line)] == []
    assert found_in_files(scene) == {}
