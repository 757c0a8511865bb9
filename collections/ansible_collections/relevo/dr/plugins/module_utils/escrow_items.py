# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is declared to be in escrow, and how each host's part of it is read. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils.escrow_fault import DECLARATION, EscrowFault
from ansible_collections.relevo.dr.plugins.module_utils.file_repositories import of_host, secret_names
from ansible_collections.relevo.dr.plugins.module_utils.pgbackrest_file import passphrase_name

SECRET, FILE, KEY, SSH_HOST_KEYS, PGBACKREST_INFO, TREE, VERSIONS = (
    "secret",
    "file",
    "key",
    "ssh_host_keys",
    "pgbackrest_info",
    "tree",
    "versions",
)
CONTROLLER = "localhost"
# A copy of these is taken, but their change is no rotation of a key.
NO_KEYS = (TREE, VERSIONS)
FAILED = b"relevo-escrow: it could not be read\n"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_INFO = ("archive", "backup")


@dataclass(frozen=True)
class Item:
    """One thing in escrow. source: a path, a name in dr_secrets_directory, or repository and file; hosts: where it is, any of them.

    generation: of a key that the application used, such as 2; data of older ones is still there.
    """

    id: str
    kind: str
    hosts: tuple[str, ...]
    source: str
    generation: str = ""

    def told(self) -> dict[str, Any]:
        """As a manifest has it."""
        return {**asdict(self), "hosts": list(self.hosts)}


def items(declared: Iterable[Mapping[str, Any]]) -> list[Item]:
    """Every item of a declaration. Raises EscrowFault when it cannot be meant."""
    found: dict[str, Item] = {}
    for entry in declared:
        for item in _of(entry):
            if found.get(item.id, item) != item:
                raise _undeclared(
                    item.id, "declared twice, from %s and %s" % (found[item.id].source, item.source), "one declaration of each"
                )
            found[item.id] = item
    if not found:
        raise _undeclared("dr_keys_items", "nothing", "at least one item")
    return [found[name] for name in sorted(found)]


def of_this_host(everything: Iterable[Item], host: str) -> list[Item]:
    """What is read on one host."""
    return [item for item in everything if host in item.hosts]


def defaults(
    repositories: Sequence[Mapping[str, Any]], files: Sequence[Mapping[str, Any]], hosts: Mapping[str, Sequence[str]]
) -> list[dict[str, Any]]:
    """What every cluster has. hosts: names in the groups ``database`` and ``all`` (those whose files are kept)."""
    names = {
        str(repository[key])
        for repository in [*repositories, *files]
        for key in ("key_id_secret", "key_secret", "read_key_id_secret", "read_key_secret")
        if repository.get(key)
    }
    encrypted = [repository for repository in repositories if repository.get("cipher", "aes-256-cbc") != "none"]
    names |= {passphrase_name(repository) for repository in encrypted}
    names |= {name for host in hosts["all"] for name in secret_names(of_host(files, host))}
    found: list[dict[str, Any]] = [{"name": name, "kind": SECRET, "secret": name} for name in sorted(names)]
    if encrypted:
        numbers = [int(repository["id"]) for repository in encrypted]
        found.append({"name": "repositories", "kind": PGBACKREST_INFO, "hosts": list(hosts["database"]), "repositories": numbers})
    found.append({"name": "ssh", "kind": SSH_HOST_KEYS, "hosts": list(hosts["all"])})
    return found


def command(item: Item, stanza: str, config: str) -> str:
    """What prints the item on its host, in base64. It ends with the mark FAILED where it could not be read, since a pipe hides that."""
    if item.kind == SSH_HOST_KEYS:
        # The same bytes for the same keys, whenever they are read.
        options = "--format=ustar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner"
        inner = "cd /etc/ssh && tar %s -cf - ssh_host_*_key ssh_host_*_key.pub" % options
    elif item.kind == PGBACKREST_INFO:
        inner = _repo_get(item, stanza, config, "--raw ")
    else:
        inner = "cat -- %s" % shlex.quote(item.source)
    return _encoded(inner)


def essence_command(item: Item, stanza: str, config: str) -> Optional[str]:
    """What prints the part that makes the item another one when it changes; None where every byte does."""
    if item.kind != PGBACKREST_INFO:
        return None
    return _encoded(_repo_get(item, stanza, config, ""))


def essence(item: Item, text: bytes) -> bytes:
    """Of an info file: the passphrase that its files are encrypted with, and whose they are; not which backups there are."""
    if item.kind != PGBACKREST_INFO:
        return text
    kept, section = [], b""
    for line in text.splitlines():
        if line.startswith(b"["):
            section = line.strip()
        elif line.strip() and section in (b"[cipher]", b"[db:history]"):
            kept.append(section + line.strip())
    return b"\n".join(kept)


def _repo_get(item: Item, stanza: str, config: str, options: str) -> str:
    repository, _, name = item.source.partition("/")
    words = "pgbackrest --config=%s --stanza=%s --repo=%d --log-level-console=error repo-get %s%s"
    place = "%s/%s/%s" % (name.partition(".")[0], stanza, name)
    asked = words % (shlex.quote(config), shlex.quote(stanza), int(repository), options, shlex.quote(place))
    return "cd / && runuser -u postgres -- %s" % asked


def _encoded(inner: str) -> str:
    return "{ { %s; } 2>/dev/null || printf '%%s\\n' %s; } | base64 -w0" % (inner, shlex.quote(FAILED.decode().strip()))


def _of(entry: Mapping[str, Any]) -> list[Item]:
    name, kind = str(entry.get("name") or ""), str(entry.get("kind") or "")
    if not _NAME.fullmatch(name):
        raise _undeclared(name or "an item", "no name of letters, digits, dots, hyphens and underscores", "such a name")
    if kind not in _MAKERS:
        raise _undeclared(name, "kind %s" % (kind or "missing"), "one of %s" % ", ".join(_MAKERS))
    generation = str(entry.get("generation") or "")
    if generation and not _NAME.fullmatch(generation):
        raise _undeclared(name, "a generation that is no word", "a number or a word")
    return _MAKERS[kind](name, entry, generation)


def _secret_item(name: str, entry: Mapping[str, Any], _generation: str) -> list[Item]:
    return [Item("secrets/%s" % _secret(entry, name), SECRET, (CONTROLLER,), _secret(entry, name))]


def _key_item(name: str, entry: Mapping[str, Any], generation: str) -> list[Item]:
    if not generation:
        raise _undeclared(name, "a key without a generation", "generation: 1, and the older ones beside it")
    place = "keys/%s/%s" % (name, generation)
    if entry.get("secret"):
        return [Item(place, KEY, (CONTROLLER,), _secret(entry, name), generation)]
    return [Item(place, KEY, _hosts(name, entry), _path(entry, name), generation)]


def _file_items(name: str, entry: Mapping[str, Any], generation: str) -> list[Item]:
    path, end = _path(entry, name), "/%s" % generation if generation else ""
    return [Item("files/%s/%s%s" % (host, name, end), FILE, (host,), path, generation) for host in _hosts(name, entry)]


def _host_key_items(name: str, entry: Mapping[str, Any], _generation: str) -> list[Item]:
    return [Item("ssh_host_keys/%s.tar" % host, SSH_HOST_KEYS, (host,), "/etc/ssh") for host in _hosts(name, entry)]


def _info_items(name: str, entry: Mapping[str, Any], _generation: str) -> list[Item]:
    numbers = sorted(int(number) for number in entry.get("repositories") or [])
    return [
        Item("pgbackrest/%d/%s.info" % (number, part), PGBACKREST_INFO, _hosts(name, entry), "%d/%s.info" % (number, part))
        for number in numbers
        for part in _INFO
    ]


def _tree_item(name: str, entry: Mapping[str, Any], _generation: str) -> list[Item]:
    return [Item("trees/%s.tar" % name, TREE, (CONTROLLER,), _path(entry, name))]


def _versions_item(name: str, _entry: Mapping[str, Any], _generation: str) -> list[Item]:
    return [Item("%s.json" % name, VERSIONS, (CONTROLLER,), name)]


_MAKERS = {
    SECRET: _secret_item,
    FILE: _file_items,
    KEY: _key_item,
    SSH_HOST_KEYS: _host_key_items,
    PGBACKREST_INFO: _info_items,
    TREE: _tree_item,
    VERSIONS: _versions_item,
}


def _hosts(name: str, entry: Mapping[str, Any]) -> tuple[str, ...]:
    hosts = tuple(str(host) for host in entry.get("hosts") or ([entry["host"]] if entry.get("host") else []))
    if not hosts:
        raise _undeclared(name, "no host", "hosts: the hosts that it is on")
    return hosts


def _path(entry: Mapping[str, Any], name: str) -> str:
    path = str(entry.get("path") or "")
    if not path.startswith("/") or "\0" in path or "\n" in path:
        raise _undeclared(name, "no absolute path", "path: where the file is")
    return path


def _secret(entry: Mapping[str, Any], name: str) -> str:
    secret = str(entry.get("secret") or name)
    if not _NAME.fullmatch(secret):
        raise _undeclared(name, "a secret that is no file name", "the name of a file in dr_secrets_directory")
    return secret


def _undeclared(where: str, observed: str, expected: str) -> EscrowFault:
    return EscrowFault(DECLARATION, where, observed, expected, "correct dr_keys_items in the inventory; nothing was changed")
