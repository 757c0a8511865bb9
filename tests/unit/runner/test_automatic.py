"""What the inventory allows a watcher, as Ansible renders it; and what no watcher can work with is refused before anything is watched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from relevo import automatic
from relevo.decision import Automatic
from relevo.errors import UsageError

ROOT = Path(__file__).resolve().parents[3]
FITTING = {"dr_automatic": "act", "dr_automatic_target_site": "b", "dr_automatic_scope": "site"}


def inventory(directory: Path) -> str:
    (directory / "become").write_text("hunter2\n")
    hosts = {
        "a-db1": {"dr_site": "a", "ansible_host": "192.0.2.1", "dr_address": "a-db1.example.org"},
        "b-db1": {"dr_site": "b", "ansible_host": "198.51.100.1"},
        "b-app1": {"dr_site": "b", "ansible_connection": "local"},
        "wit1": {"dr_site": "w", "ansible_port": 2222},
    }
    groups = {"dr_database": ["a-db1", "b-db1"], "dr_observer": ["wit1", "b-app1"], "dr_witness": ["wit1"]}
    everywhere = {
        "dr_cluster": "minimarket",
        "ansible_user": "sre",
        "dr_secrets_directory": str(directory),
        "ansible_become_password": "{{ lookup('ansible.builtin.file', dr_secrets_directory + '/become') }}",
        "ansible_ssh_common_args": "-o UserKnownHostsFile={{ dr_secrets_directory }}/known -o StrictHostKeyChecking=yes",
        **FITTING,
        "dr_automatic_inputs": {"dr_accept_loss_seconds": 5},
    }
    children = {name: {"hosts": {member: {} for member in members}} for name, members in groups.items()}
    path = directory / "hosts.json"
    path.write_text(json.dumps({"all": {"hosts": hosts, "children": children, "vars": everywhere}}))
    return str(path)


def test_hosts_are_reached_as_the_runbooks_reach_them(tmp_path: Path) -> None:
    found = automatic.read(ROOT, [inventory(tmp_path)], "minimarket")
    assert found.policy.automatic is Automatic.ACT
    assert found.policy.members == {"a-db1.example.org": "a", "b-db1": "b"}
    assert found.contacts == tmp_path / "notify_urls"
    hosts = {host.name: host for host in found.hosts}
    assert {name for name, host in hosts.items() if host.observes} == {"wit1", "b-app1"}
    reach = hosts["wit1"].reach
    assert reach[:2] == ("ssh", "-T")
    assert f"UserKnownHostsFile={tmp_path}/known" in reach
    assert reach[-11:] == ("-p", "2222", "-l", "sre", "--", "wit1", "sudo", "-S", "-p", "''", "--")
    assert hosts["a-db1"].reach[-6] == "192.0.2.1"
    assert hosts["a-db1"].password == "hunter2"
    assert "hunter2" not in str(reach)
    command = found.command(["hosts.json"], found.variables("automatic: lost", "2026-11-28T03:00:00.000000Z"))
    assert command[:4] == ["relevo", "run", "failover", "-i"]
    assert "dr_confirm=failover minimarket to b" in command


def said(**changed: Any) -> dict[str, Any]:
    one = {
        "automatic": "act",
        "target_site": "b",
        "scope": "site",
        "window_seconds": 3,
        "restart_seconds": 60,
        "approval": "single",
    }
    return {**one, "inputs": {}, **changed}


HOSTS = [
    automatic.Host("a-db1", "a", "a-db1", False, True, (), "python"),
    automatic.Host("b-db1", "b", "b-db1", False, True, (), "python"),
    automatic.Host("wit1", "w", "wit1", True, False, (), "python"),
    automatic.Host("b-app1", "b", "b-app1", True, False, (), "python"),
]


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"automatic": "always"}, "dr_automatic in the inventory is 'always'; expected off, propose or act"),
        ({"target_site": "c"}, "dr_automatic_target_site in the inventory is 'c'; expected one of a, b"),
        ({"approval": "dual"}, "nobody would be there to agree"),
        ({"window_seconds": 0.5}, "dr_automatic_window_seconds in the inventory is 0.5; expected 2 to 86400 seconds"),
        ({"window_seconds": "soon"}, "expected 2 to 86400 seconds"),
        ({"scope": "everything"}, "would be refused: -e dr_scope is 'everything'"),
        ({"scope": ""}, "would be refused: -e dr_scope"),
        # Nobody is there who has seen it dead.
        ({"inputs": {"dr_attest_dead": "a-db1"}}, "dr_automatic_inputs in the inventory is 'dr_attest_dead'"),
        ({"inputs": {"dr_target_site": "a"}}, "dr_automatic_inputs in the inventory is 'dr_target_site'"),
        ({"inputs": {"dr_accept_loss_seconds": "much"}}, "would be refused: -e dr_accept_loss_seconds is 'much'"),
    ],
)
def test_what_nobody_should_rely_on_is_refused_with_a_sentence(changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError) as refused:
        automatic._inputs(said(**changed), automatic._policy(said(**changed), HOSTS))
    assert sentence in str(refused.value)


def test_observers_of_one_site_are_one_word() -> None:
    with pytest.raises(UsageError, match="one word is never enough"):
        automatic._policy(said(), HOSTS[:3])
    assert automatic._policy(said(automatic=False), HOSTS[:3]).automatic is Automatic.OFF
