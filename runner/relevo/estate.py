"""What an inventory says of each host once its templates are filled in, asked from Ansible itself. No host is asked."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relevo.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_TIMEOUT_SECONDS = 120
_SAID = re.compile(r"^(\S+) \| SUCCESS => ", re.MULTILINE)
# Nobody is reached, so no secret is read: this page may be printed by whoever holds none.
_NO_SECRETS = ("ansible_become_password", "ansible_become_pass", "ansible_password", "ansible_ssh_pass")
# What is asked of every host: the name here, and the expression. What a host does not have is null.
_ASKED = {
    "address": "ansible_host | default(inventory_hostname)",
    "user": "ansible_user | default(ansible_ssh_user | default(none))",
    "port": "ansible_port | default(none)",
    "key_file": "ansible_ssh_private_key_file | default(none)",
    "local": "(ansible_connection | default('ssh')) == 'local'",
    "site": "dr_site | default('')",
    "groups": "group_names",
    "cluster": "dr_cluster | default('')",
}


@dataclass(frozen=True)
class Host:
    """One host. variables: those that were asked for by name; null where it has none."""

    name: str
    address: str
    user: str | None
    port: int | None
    key_file: str | None
    local: bool
    site: str
    groups: tuple[str, ...]
    cluster: str
    variables: Mapping[str, Any]


def look(project: Path, sources: Sequence[str], variables: Sequence[str] = ()) -> list[Host]:
    """Every host of an inventory, by name. UsageError when it cannot be read."""
    asked = _ASKED | {f"variable_{name}": f"{name} | default(none)" for name in variables}
    template = {name: f"{{{{ {expression} }}}}" for name, expression in asked.items()}
    command = [str(Path(sys.executable).with_name("ansible")), "all", "--module-name", "ansible.builtin.debug"]
    command += [word for name in _NO_SECRETS for word in ("-e", f"{name}=")]
    command += ["--args", json.dumps({"msg": template}), *(word for source in sources for word in ("-i", source))]
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(project / "ansible.cfg"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_LOAD_CALLBACK_PLUGINS": "0",
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
    }
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
            cwd=project,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        message = f"The inventory cannot be read: {error}."
        raise UsageError(message) from error
    if done.returncode != 0:
        said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        message = f"The inventory cannot be read: {said[-1] if said else 'no reason given'}."
        raise UsageError(message)
    decoder = json.JSONDecoder()
    found = [_host(said[1], decoder.raw_decode(done.stdout, said.end())[0]["msg"]) for said in _SAID.finditer(done.stdout)]
    if not found:
        message = "The inventory holds no host."
        raise UsageError(message)
    return sorted(found, key=lambda host: host.name)


def clusters(hosts: Sequence[Host]) -> tuple[str, ...]:
    """The clusters that they are of."""
    return tuple(sorted({host.cluster for host in hosts if host.cluster}))


def only_cluster(hosts: Sequence[Host]) -> str:
    """The one cluster that they are of. UsageError when there are several, or none."""
    found = clusters(hosts)
    if len(found) != 1:
        message = f"The inventory names {', '.join(found) or 'no cluster'}; expected one dr_cluster."
        raise UsageError(message)
    return found[0]


def common(hosts: Sequence[Host], variable: str) -> Any:
    """What all hosts that have it say of a variable; null where none does. UsageError when they do not agree."""
    values = [host.variables[variable] for host in hosts if host.variables.get(variable) is not None]
    if any(value != values[0] for value in values):
        message = f"The inventory says different things of {variable} for different hosts: say it once, in group_vars/all."
        raise UsageError(message)
    return values[0] if values else None


def _host(name: str, tree: Mapping[str, Any]) -> Host:
    return Host(
        name=name,
        address=str(tree["address"]),
        user=tree["user"],
        port=None if tree["port"] is None else int(tree["port"]),
        key_file=tree["key_file"],
        local=bool(tree["local"]),
        site=str(tree["site"]),
        groups=tuple(tree["groups"]),
        cluster=str(tree["cluster"]),
        variables={key.removeprefix("variable_"): value for key, value in tree.items() if key.startswith("variable_")},
    )
