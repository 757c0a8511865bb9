"""What the inventory allows a watcher of one cluster (dr_automatic), and how its hosts are reached: asked from Ansible, which renders it."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from relevo import request
from relevo.decision import LEAST_SITES, Automatic, Policy
from relevo.errors import InputRefusedError, UsageError
from relevo.estate import rendered

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# What nobody who is not there can say: that a host was seen dead, the words of a person, another way than the standby.
INPUTS = frozenset({"dr_accept_loss_seconds", "dr_accept_loss_transactions", "dr_accept_fence", "dr_accept_unknown"})
SHORTEST_WINDOW_SECONDS = 2.0
_LONGEST_SECONDS = 86400.0
_HOSTS = "dr_database:dr_witness:dr_observer"
# Rendered by Ansible for each host, so that whatever a runbook reaches a watcher reaches too.
_ASKED = {
    "cluster": "dr_cluster | default('')",
    "site": "dr_site | default('')",
    "address": "dr_address | default(inventory_hostname)",
    "groups": "group_names",
    "connection": "ansible_connection | default('ssh')",
    "host": "ansible_host | default(inventory_hostname)",
    "port": "ansible_port | default('') | string",
    "user": "ansible_user | default('')",
    "key": "ansible_ssh_private_key_file | default('')",
    "arguments": "(ansible_ssh_common_args | default('')) ~ ' ' ~ (ansible_ssh_extra_args | default(''))",
    "password": "ansible_become_password | default(ansible_become_pass | default(''))",
    "python": "ansible_python_interpreter | default('/usr/bin/python3')",
    "automatic": "dr_automatic | default('off')",
    "target_site": "dr_automatic_target_site | default('')",
    "scope": "dr_automatic_scope | default('')",
    "window_seconds": "dr_automatic_window_seconds | default(3)",
    "restart_seconds": "dr_automatic_restart_seconds | default(60)",
    "check_seconds": "dr_automatic_check_seconds | default(300)",
    "inputs": "dr_automatic_inputs | default({})",
    "approval": "dr_approval | default('single')",
    "contacts": "(dr_secrets_directory ~ '/' ~ (dr_run_contacts_secret | default('notify_urls'))) if dr_run_contacts_secret | default('notify_urls') else ''",
}


@dataclass(frozen=True)
class Host:
    """One host that is listened to, and the command that reaches it as root. password: for sudo, over its standard input."""

    name: str
    site: str
    address: str
    observes: bool
    database: bool
    reach: tuple[str, ...]
    python: str
    password: str = ""


@dataclass(frozen=True)
class Cluster:
    """All that a watcher needs to know. inputs: of a run that it starts; contacts: the file of those who hear, where there is one."""

    name: str
    policy: Policy
    inputs: Mapping[str, str]
    hosts: tuple[Host, ...]
    contacts: Path | None
    check_seconds: float

    def variables(self, reason: str, failed_at: str | None) -> dict[str, str]:
        """What a person would say with -e."""
        said = {**self.inputs, "dr_reason": reason, **({"dr_failed_at": failed_at} if failed_at else {})}
        return {**said, "dr_confirm": request.confirmation(request.judge(said), self.name)}

    def command(self, inventory: Sequence[str], variables: Mapping[str, str]) -> list[str]:
        """The run that a person would start, word for word."""
        sources = [word for source in inventory for word in ("-i", source)]
        return [
            "relevo",
            "run",
            "failover",
            *sources,
            *(word for name, value in variables.items() for word in ("-e", f"{name}={value}")),
        ]


def read(project: Path, sources: Sequence[str], cluster: str) -> Cluster:
    """The cluster as the inventory has it. UsageError when it says what no watcher can work with."""
    hosts = {name: said for name, said in rendered(project, sources, _ASKED, hosts=_HOSTS).items() if said["cluster"] == cluster}
    if not hosts:
        message = f"The inventory has no host of the cluster {cluster!r} in {_HOSTS.replace(':', ', ')}."
        raise UsageError(message)
    found = tuple(_host(name, said) for name, said in sorted(hosts.items()))
    first = next(iter(hosts.values()))
    policy = _policy(first, found)
    return Cluster(
        cluster,
        policy,
        _inputs(first, policy),
        found,
        Path(first["contacts"]) if first["contacts"] else None,
        _seconds(first, "check_seconds", 30),
    )


def _policy(said: Mapping[str, Any], hosts: Sequence[Host]) -> Policy:
    # YAML reads a bare off as false.
    word = {"False": "off"}.get(str(said["automatic"]), str(said["automatic"]))
    if word not in set(Automatic):
        _refuse("dr_automatic", word, "off, propose or act")
    automatic = Automatic(word)
    members = {host.address: host.site for host in hosts if host.database}
    if automatic is not Automatic.OFF and said["target_site"] not in set(members.values()):
        _refuse("dr_automatic_target_site", said["target_site"], f"one of {', '.join(sorted(set(members.values())))}")
    if automatic is Automatic.ACT and said["approval"] == "dual":
        _refuse("dr_automatic", "act", "off or propose, because dr_approval is dual and nobody would be there to agree")
    outside = {host.site for host in hosts if host.observes}
    if automatic is not Automatic.OFF and len(outside) < LEAST_SITES:
        _refuse("dr_observer", ", ".join(sorted(outside)) or "no host", "hosts at two sites and more, for one word is never enough")
    return Policy(
        automatic,
        str(said["target_site"]),
        members,
        _seconds(said, "window_seconds", SHORTEST_WINDOW_SECONDS),
        _seconds(said, "restart_seconds", SHORTEST_WINDOW_SECONDS),
    )


def _inputs(said: Mapping[str, Any], policy: Policy) -> dict[str, str]:
    if policy.automatic is Automatic.OFF:
        return {}
    given = {str(name): str(value) for name, value in dict(said["inputs"]).items()}
    if foreign := sorted(set(given) - INPUTS):
        _refuse("dr_automatic_inputs", ", ".join(foreign), f"nothing but {', '.join(sorted(INPUTS))}")
    whole = {"dr_mode": "disaster", "dr_scope": str(said["scope"]), "dr_target_site": policy.target_site, **given}
    try:
        request.require("failover", judged := request.judge(whole))
    except InputRefusedError as error:
        message = f"dr_automatic_scope or dr_automatic_inputs in the inventory would be refused: {error}"
        raise UsageError(message) from error
    return dict(judged.values)


def _seconds(said: Mapping[str, Any], name: str, least: float) -> float:
    try:
        value = float(said[name])
    except (TypeError, ValueError):
        value = 0.0
    if not least <= value <= _LONGEST_SECONDS:
        _refuse(f"dr_automatic_{name}", said[name], f"{least:g} to {_LONGEST_SECONDS:g} seconds")
    return value


def _refuse(name: str, observed: object, expected: str) -> NoReturn:
    message = f"{name} in the inventory is {observed!r}; expected {expected}. Nothing is watched."
    raise UsageError(message)


def _host(name: str, said: Mapping[str, Any]) -> Host:
    groups = set(said["groups"])
    root = said["connection"] == "local" and os.geteuid() == 0
    return Host(
        name,
        str(said["site"]),
        str(said["address"]),
        "dr_observer" in groups,
        "dr_database" in groups,
        () if root else _reach(said),
        str(said["python"]),
        "" if root else str(said["password"]),
    )


def _reach(said: Mapping[str, Any]) -> tuple[str, ...]:
    sudo = () if said["user"] == "root" else ("sudo", "-S", "-p", "", "--")
    if said["connection"] == "local":
        return sudo
    words = [*_SSH, *shlex.split(said["arguments"])]
    words += [
        word for flag, value in (("-p", said["port"]), ("-l", said["user"]), ("-i", said["key"])) if value for word in (flag, value)
    ]
    # ssh hands words to the login shell of the other side.
    return (*words, "--", str(said["host"]), *map(shlex.quote, sudo))


# A connection of its own, which no other one's end closes, and which knows within seconds that it is dead.
_SSH = (
    "ssh",
    *("-T", "-o", "BatchMode=yes", "-o", "ControlMaster=no", "-o", "ControlPath=none"),
    *("-o", "ConnectTimeout=5", "-o", "ServerAliveInterval=2", "-o", "ServerAliveCountMax=2"),
)
