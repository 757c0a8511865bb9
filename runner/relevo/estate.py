"""What an inventory says of each host once its templates are filled in, asked from Ansible itself. No host is asked."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from relevo import inventory
from relevo.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_SAID = re.compile(r"^(\S+) \| SUCCESS => ", re.MULTILINE)
# As text that can be read back, and kept nowhere.
_PLAIN = {
    "ANSIBLE_NOCOLOR": "1",
    "ANSIBLE_LOAD_CALLBACK_PLUGINS": "0",
    "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
    "ANSIBLE_LOG_PATH": os.devnull,
}
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
    none = [word for name in _NO_SECRETS for word in ("-e", f"{name}=")]
    found = [_host(name, said) for name, said in rendered(project, sources, asked, words=none).items()]
    if not found:
        message = "The inventory holds no host."
        raise UsageError(message)
    return sorted(found, key=lambda host: host.name)


def rendered(
    project: Path, sources: Sequence[str], asked: Mapping[str, str], *, hosts: str = "all", words: Sequence[str] = ()
) -> dict[str, dict[str, Any]]:
    """By host what these expressions mean there, by their names. UsageError when the inventory cannot be read, or one of them cannot be rendered."""
    template = {name: f"{{{{ {expression} }}}}" for name, expression in asked.items()}
    debug = [hosts, *words, "--module-name", "ansible.builtin.debug", "--args", json.dumps({"msg": template})]
    text = inventory.ask(project, "ansible", debug, sources, _PLAIN)
    decoder = json.JSONDecoder()
    return {said[1]: dict(decoder.raw_decode(text, said.end())[0]["msg"]) for said in _SAID.finditer(text)}


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
