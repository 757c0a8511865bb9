# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The manifest of a generation: which items, from where, with which fingerprints; and whether another generation is due. Pure."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils import clock
from ansible_collections.relevo.dr.plugins.module_utils.escrow_fault import CORRUPT, DIFFERENT, EscrowFault
from ansible_collections.relevo.dr.plugins.module_utils.escrow_fingerprint import fingerprint, new_salt, require_equal
from ansible_collections.relevo.dr.plugins.module_utils.escrow_items import KEY, NO_KEYS, Item

SCHEMA = "relevo-escrow/1"
_GENERATION = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*){0,4}")
_OF_AN_ENTRY = ("id", "kind", "hosts", "source", "generation", "bytes", "salt", "fingerprint", "essence")


@dataclass(frozen=True)
class Read:
    """An item as it was read. essence: what makes it another one when it changes; the content where every byte does."""

    item: Item
    content: bytes
    essence: bytes

    def same_essence(self, entry: Mapping[str, Any]) -> bool:
        """Whether the manifest's entry speaks of this."""
        return bool(fingerprint(self.essence, str(entry["salt"]), self.item.id) == entry["essence"])


def gathered(items: Iterable[Item], handed: Mapping[str, Mapping[str, Any]]) -> tuple[list[Read], dict[str, str]]:
    """What the hosts read of each item, and why some could not be. handed: {read: {id: {content, essence}}, unread: {id: reason}} by host.

    Raises EscrowFault when two hosts have two values of what is meant to be one.
    """
    reads, unread = [], {}
    for item in items:
        answers = {host: handed[host]["read"][item.id] for host in item.hosts if item.id in handed.get(host, {}).get("read", {})}
        reasons = [handed[host]["unread"][item.id] for host in item.hosts if item.id in handed.get(host, {}).get("unread", {})]
        if not answers:
            unread[item.id] = "; ".join(reasons) or "no host of it was asked: %s" % ", ".join(item.hosts)
            continue
        if item.kind == KEY and len({answer["content"] for answer in answers.values()}) > 1:
            raise EscrowFault(
                DIFFERENT,
                item.id,
                "another value on each of %s" % ", ".join(sorted(answers)),
                "one key in one generation",
                "give each its own generation in dr_keys_items, or bring the file to all hosts",
            )
        first = next(iter(answers.values()))
        reads.append(Read(item, first["content"], first["essence"]))
    return reads, unread


def generation_name(at: str) -> str:
    """Sorted by name they are sorted by time. at: UTC, as the clock says it."""
    return "%sZ-%s" % (re.sub(r"[^0-9T]", "", at)[:15], secrets.token_hex(4))


def is_generation(name: str) -> bool:
    """Whether something that lies there is a generation, by its name."""
    return bool(_GENERATION.fullmatch(name))


def made(
    cluster: str,
    at: str,
    reads: Iterable[Read],
    before: Optional[Mapping[str, Any]],
    columns: Sequence[Mapping[str, Any]] = (),
    unread: Optional[Mapping[str, str]] = None,
) -> dict[str, Any]:
    """The manifest of a new generation. before: the newest one, whose salts go on. columns: digests of what production decrypts.

    unread: items that could not be read, and why: they are named as absent, with the last generation that has them.
    """
    known = entries(before)
    gone = {str(entry["id"]): entry for entry in before.get("absent", [])} if before else {}
    absent = []
    for name, reason in sorted((unread or {}).items()):
        entry = (
            {**known[name], "last_in": before["generation"]}
            if before and name in known
            else dict(gone.get(name, {"last_in": None}))
        )
        absent.append({**entry, "id": name, "reason": reason})
    known = {**gone, **known}
    known = {name: entry for name, entry in known.items() if entry.get("salt")}
    generation = generation_name(at)
    found = []
    for read in sorted(reads, key=lambda one: one.item.id):
        salt = str(known[read.item.id]["salt"]) if read.item.id in known else new_salt()
        if read.item.id in known and not read.same_essence(known[read.item.id]):
            salt = new_salt()
        essence = fingerprint(read.essence, salt, read.item.id)
        # Slow on purpose; once is enough where every byte counts.
        exact = essence if read.content == read.essence else fingerprint(read.content, salt, read.item.id)
        found.append({**read.item.told(), "bytes": len(read.content), "salt": salt, "fingerprint": exact, "essence": essence})
    return {
        "schema": SCHEMA,
        "cluster": cluster,
        "generation": generation,
        "made_at": at,
        "before": before["generation"] if before else None,
        "items": found,
        "absent": absent,
        "columns": list(columns),
    }


def due(
    before: Optional[Mapping[str, Any]], reads: Sequence[Read], now: str, refresh_seconds: float, unread: Iterable[str] = ()
) -> list[str]:
    """Why another generation is due, for a person; nothing when it is not. An item that cannot be read now is no reason: the newest has it."""
    if before is None:
        return ["there is no generation yet"]
    known, read = entries(before), {one.item.id: one for one in reads}
    reasons = ["%s is declared no more" % name for name in sorted(set(known) - set(read) - set(unread))]
    other_bytes = False
    for name, one in sorted(read.items()):
        if name not in known:
            reasons.append("%s is new" % name)
        elif {**one.item.told()} != {key: known[name][key] for key in one.item.told()}:
            reasons.append("%s is declared otherwise" % name)
        elif not one.same_essence(known[name]):
            reasons.append("%s changed" % name)
        elif one.content != one.essence:
            same = fingerprint(one.content, str(known[name]["salt"]), name) == known[name]["fingerprint"]
            other_bytes = other_bytes or not same
    age = clock.parse_utc(now).timestamp() - clock.parse_utc(str(before["made_at"])).timestamp()
    if not reasons and other_bytes and age >= refresh_seconds:
        reasons.append("copies of what changes by itself are %d h old" % (age // 3600))
    return reasons


def entries(manifest: Optional[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The items of a manifest by name."""
    return {str(entry["id"]): entry for entry in manifest["items"]} if manifest else {}


def keys_version(manifest: Mapping[str, Any]) -> str:
    """One word that is another one as soon as a key is; made of slow fingerprints, so it may be in records."""
    known = [*manifest["items"], *(entry for entry in manifest.get("absent", []) if entry.get("essence"))]
    lines = ["%s %s" % (entry["id"], entry["essence"]) for entry in known if entry["kind"] not in NO_KEYS]
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:16]


def parsed(text: bytes, where: str) -> dict[str, Any]:
    """A manifest that came back. Raises EscrowFault when it is none."""
    try:
        manifest: dict[str, Any] = json.loads(text)
        whole = manifest["schema"] == SCHEMA and is_generation(manifest["generation"]) and bool(manifest["cluster"])
        whole = whole and all(key in entry for entry in manifest["items"] for key in _OF_AN_ENTRY)
        # They become names of files.
        whole = whole and all(_ID.fullmatch(str(entry["id"])) for entry in manifest["items"])
        clock.parse_utc(manifest["made_at"])
    except (ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise EscrowFault(CORRUPT, where, "no manifest that can be read", "a manifest of %s" % SCHEMA, "use another path")
    return manifest


def require_items(
    manifest: Mapping[str, Any], contents: Mapping[str, bytes], where: str, older: Sequence[Mapping[str, Any]] = ()
) -> list[EscrowFault]:
    """Compare every item with its fingerprint; each that differs, by name. older: manifests of generations before."""
    faults = []
    for name, entry in entries(manifest).items():
        stamped = {**entry, "made_in": manifest["generation"]}
        past = [{**entries(other)[name], "made_in": other["generation"]} for other in older if name in entries(other)]
        try:
            require_equal(contents[name], stamped, where, past)
        except EscrowFault as fault:
            faults.append(fault)
    return faults
