"""A job as AWX runs it: a throw-away directory with a checkout that nobody may write to, another home, no terminal, and ansible-runner.

What AWX puts where is read from its source: the inventory as a program, answers of the survey as unsafe text in a file, credentials as files of any name
and paths in the environment, settings that begin with ANSIBLE_, and the paths of roles and collections in front of those of the project.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tests.house.tree import ROOT, files

_PARTS = ("ansible.cfg", "awx", "collections", "playbooks", "roles")


class _Unsafe(yaml.SafeDumper):
    """As AWX writes what it does not trust."""

    def represent_data(self, data: Any) -> yaml.Node:
        if isinstance(data, str):
            return self.represent_scalar("!unsafe", data)
        return super().represent_data(data)


@dataclass(frozen=True)
class Ended:
    """What is left of a job when its directory is gone.

    told: its artifacts, by set_stats; kept: the files of ansible-runner, as text; wrote: what is new, gone or other than before in its checkout.
    """

    code: int
    output: str
    told: dict[str, Any]
    wrote: set[str]
    kept: str


def checkout(place: Path, *more: Path) -> Path:
    """A copy of what git knows of this project, with files of a test's own among its playbooks, which only its owner could change."""
    for path in files():
        inside = path.relative_to(ROOT)
        if inside.parts[0] in _PARTS:
            (place / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place / inside)
    for path in more:
        shutil.copytree(path, place, dirs_exist_ok=True) if path.is_dir() else shutil.copy(path, place / "playbooks")
    for path in [place, *place.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    return place


def checked_out(place: Path) -> dict[str, str]:
    """Mode and digest of everything below, by path."""
    found = {}
    for path in place.rglob("*"):
        status = path.lstat()
        content = os.readlink(path).encode() if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(place))] = f"{status.st_mode:o} {hashlib.sha256(content).hexdigest()}"
    return found


def inject(kind: dict[str, Any], answers: dict[str, str], directory: Path) -> dict[str, str]:
    """The environment that a credential of that type gives, with its files below the job's directory."""
    environment = ImmutableSandboxedEnvironment()
    named: dict[str, str] = {}
    for label, template in kind["injectors"]["file"].items():
        handle, path = tempfile.mkstemp(dir=directory)
        with os.fdopen(handle, "w") as target:
            target.write(environment.from_string(template).render(**answers))
        named[label.partition(".")[2]] = path
    known = {**answers, "tower": {"filename": named}}
    return {name: environment.from_string(template).render(**known) for name, template in kind["injectors"]["env"].items()}


class Job:
    """One job. inventory: as `ansible-inventory --list` prints it; credentials: of each type its fields; answers: of the survey."""

    def __init__(self, place: Path, playbook: str, inventory: dict[str, Any], answers: dict[str, Any], *more: Path) -> None:
        self.directory, self.playbook = place / "awx_42_x", playbook
        for name in ("inventory", "env", "cp"):
            (self.directory / name).mkdir(parents=True)
        checkout(self.directory / "project", *more)
        program = f"#!{sys.executable}\nprint({json.dumps(inventory)!r})\n"
        (self.directory / "inventory/hosts").write_text(program)
        (self.directory / "inventory/hosts").chmod(0o700)
        of_awx = {f"{prefix}_{name}": value for prefix in ("awx", "tower") for name, value in _META.items()}
        (self.directory / "env/extravars").write_text(yaml.dump({**answers, **of_awx}, Dumper=_Unsafe))
        (self.directory / "env/cmdline").write_text("-u sre --forks=20")
        # AWX answers what Ansible and ssh may ask, with nothing where it has no password; without a terminal nobody else gives any.
        (self.directory / "env/passwords").write_text(json.dumps(dict.fromkeys(_QUESTIONS, "")))
        self.environment = {
            "ANSIBLE_COLLECTIONS_PATH": f"{self.directory}/requirements_collections:collections:~/.ansible/collections:/usr/share/ansible/collections",
            "ANSIBLE_ROLES_PATH": f"{self.directory}/requirements_roles:roles:~/.ansible/roles:/usr/share/ansible/roles:/etc/ansible/roles",
            "ANSIBLE_FORCE_COLOR": "True",
            "ANSIBLE_HOST_KEY_CHECKING": "False",
            "ANSIBLE_INVENTORY_UNPARSED_FAILED": "True",
            "ANSIBLE_PARAMIKO_RECORD_HOST_KEYS": "False",
            "ANSIBLE_RETRY_FILES_ENABLED": "False",
            "ANSIBLE_SSH_CONTROL_PATH_DIR": f"{self.directory}/cp",
            "AWX_HOST": "https://awx.example.org",
            "AWX_PRIVATE_DATA_DIR": str(self.directory),
            "INVENTORY_ID": "3",
            "JOB_ID": "42",
            "MAX_EVENT_RES": "700000",
            "PROJECT_REVISION": "1f3a",
        }

    def credential(self, kind: dict[str, Any], **answers: str) -> None:
        """Give the job a credential. Its type must have these fields, and those that it wants must be among them."""
        fields, required = {field["id"] for field in kind["inputs"]["fields"]}, set(kind["inputs"]["required"])
        assert required <= set(answers) <= fields, (kind["name"], required - set(answers), set(answers) - fields)
        self.environment |= inject(kind, answers, self.directory / "env")

    def machine_credential(self, key: str) -> None:
        """Give the job a private key for ssh: ansible-runner hands it to an agent through a pipe."""
        path = self.directory / "env/ssh_key"
        path.touch(0o600)
        path.write_text(key)

    def run(self, *within: str, seconds: float = 120) -> Ended:
        """Run it, and throw its directory away. within: a command that runs it, as somebody else."""
        (self.directory / "env/envvars").write_text(json.dumps(self.environment))
        home = {
            "HOME": str(self.directory),
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin:/usr/sbin:/sbin",
            "LANG": "C.UTF-8",
        }
        before = checked_out(self.directory / "project")
        command = ["ansible-runner", "run", str(self.directory), "-p", self.playbook, "--ident", "42"]
        done = subprocess.run(
            [*within, *command],
            cwd="/",
            env=home,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        artifacts = self.directory / "artifacts/42"
        told: dict[str, Any] = {}
        for path in artifacts.glob("job_events/*.json"):
            event = json.loads(path.read_text())
            told.update(event.get("event_data", {}).get("artifact_data") or {})
        kept = "\n".join(
            path.read_text(errors="replace") for path in artifacts.rglob("*") if path.is_file() and path.name != "command"
        )
        after = checked_out(self.directory / "project")
        wrote = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
        for path in [self.directory, *self.directory.rglob("*")]:
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o700)
        shutil.rmtree(self.directory)
        return Ended(done.returncode, done.stdout + done.stderr, told, wrote, kept)


_QUESTIONS = (
    r"Enter passphrase for .*:\s*?$",
    r"BECOME password.*:\s*?$",
    r"SSH password:\s*?$",
    r"Password:\s*?$",
    r"Vault password:\s*?$",
)
_META = {
    "job_id": 42,
    "job_launch_type": "workflow",
    "workflow_job_id": 41,
    "workflow_job_name": "Relevo: fail over, with approval",
    "user_id": 7,
    "user_name": "ana",
    "user_email": "ana@example.org",
    "user_first_name": "Ana",
    "user_last_name": "Ruiz {{ lookup('pipe', 'id') }}",
    "inventory_id": 3,
    "inventory_name": "Relevo",
    "project_revision": "1f3a",
    "project_scm_branch": "main",
    "job_template_id": 9,
    "job_template_name": "Relevo: fail over",
    "execution_node": "awx-ee",
}
