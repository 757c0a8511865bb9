"""What may not stand anywhere: this machine, other people's networks, imports that cross a seam."""

from __future__ import annotations

import ast
import ipaddress
import re

from tests.house.tree import ROOT, files, load, name, text

# RFC 5737 and RFC 3849 belong to nobody; the rest means "here", "everywhere" or "all of them".
NOBODYS = [
    ipaddress.ip_network(network)
    for network in (
        "192.0.2.0/24",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "2001:db8::/32",
        "127.0.0.0/8",
        "::1/128",
        "0.0.0.0/32",
        "::/128",
    )
]
NETMASK = ipaddress.ip_network("255.0.0.0/8")
PUBLISHED = ("LICENSE", "requirements.lock", "requirements.txt")
IPV4 = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.])")
IPV6 = re.compile(r"(?<![\w:.])[0-9a-fA-F]*:[0-9a-fA-F:]*:[0-9a-fA-F]*(?![\w:])")
# An address has a group of two digits somewhere.
LONG = re.compile(r"[0-9a-fA-F]{2}|\.")
# Homes and work directories: what no other machine has.
ELSEWHERE = re.compile(r"(?<![\w.~}$])/(?:root|home|work|Users)/\w")


def sources():
    return [path for path in files() if path.name not in PUBLISHED]


def addresses(content):
    for pattern in (IPV4, IPV6):
        for word in pattern.findall(content):
            if not LONG.search(word):
                continue  # Python's [1::2]
            try:
                yield ipaddress.ip_address(word)
            except ValueError:
                continue  # a time, a version, a part of a longer number


def test_every_address_belongs_to_nobody():
    foreign = {
        f"{name(path)}: {address}"
        for path in sources()
        for address in addresses(text(path))
        if address not in NETMASK and not any(address in network for network in NOBODYS)
    }
    assert foreign == set()


def test_the_rule_about_addresses_sees_them():
    foreign = [".".join("8888"), "fe80:" + ":1"]
    assert list(map(str, addresses("at {}, version 1.2.3, from 12:15:30 to {}".format(*foreign)))) == foreign


def test_no_path_of_one_machine():
    found = {
        f"{name(path)}:{number}"
        for path in sources()
        for number, line in enumerate(text(path).splitlines(), 1)
        # A test may speak of anybody's home, only not of this checkout.
        if f"{ROOT}/" in line or (ELSEWHERE.search(line) and not path.is_relative_to(ROOT / "tests"))
    }
    assert found == set()


def test_the_example_inventory_names_only_hosts_that_do_not_exist():
    for path in (ROOT / "inventories/example").rglob("*.yml"):
        hosts = re.findall(r"(?<![\w./-])(?:[\w-]+\.)+(?:com|org|net|io|local|internal|lan)\b", text(path))
        assert {host for host in hosts if not host.endswith("example.org")} == set(), name(path)


def imports(path):
    for node in ast.walk(ast.parse(text(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_only_execute_knows_ansible_runner_and_nothing_imports_the_command_line():
    runner = [path for path in files(".py") if path.is_relative_to(ROOT / "runner")]
    knows = {path.name for path in runner for module in imports(path) if module.split(".")[0] == "ansible_runner"}
    assert knows == {"execute.py"}
    assert {path.name for path in runner for module in imports(path) if module.startswith("relevo.cli")} == set()


def test_every_collection_that_is_used_is_required():
    required = {entry["name"] for entry in load(ROOT / "collections/requirements.yml")["collections"]} | {
        "ansible.builtin",
        "relevo.dr",
        "relevo.lab",
    }
    used = {
        found
        for path in files(".yml")
        if path.relative_to(ROOT).parts[0] in {"playbooks", "roles"}
        for found in re.findall(r"^\s*-?\s*([a-z_]+\.[a-z_]+)\.[a-z_]+:", text(path), re.MULTILINE)
    }
    assert used <= required


def test_no_scenario_is_skipped_because_its_machine_lacks_something():
    words = re.compile(r"mark\.(?:skip|xfail)|pytest\.(?:skip|xfail|importorskip)\b")
    skipping = {name(path) for path in files(".py") if path.is_relative_to(ROOT / "tests/integration") and words.search(text(path))}
    assert skipping == set()
