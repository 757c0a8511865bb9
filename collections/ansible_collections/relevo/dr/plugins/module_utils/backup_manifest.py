# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""pgBackRest's manifest of one backup: the objects in the repository that the backup consists of, and the checksums of their bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_EXTENSIONS = {"none": "", "gz": ".gz", "lz4": ".lz4", "zst": ".zst", "bz2": ".bz2"}


@dataclass(frozen=True)
class Part:
    """The bytes of one database file within an object. checksum: SHA-1 of these bytes as they are stored; empty when the manifest has none."""

    file: str
    offset: int
    size: int
    checksum: str


@dataclass(frozen=True)
class Manifest:
    """One backup. objects: the parts of every object of its own, by its path below ``backup/STANZA``.

    references: objects of earlier backups that it needs.
    damaged: files whose pages had wrong checksums when the backup was taken, with the numbers of the pages.
    """

    label: str
    objects: Mapping[str, tuple[Part, ...]] = field(default_factory=dict)
    references: frozenset[str] = frozenset()
    damaged: Mapping[str, str] = field(default_factory=dict)


def read_manifest(text: str) -> Manifest:
    """From the decrypted file. ValueError when it is no manifest."""
    sections = _sections(text)
    backup, options = sections.get("backup", {}), sections.get("backup:option", {})
    if "backup-label" not in backup or "target:file" not in sections:
        raise ValueError("it names no backup and no files")
    label = str(backup["backup-label"])
    extension = _EXTENSIONS.get(str(options.get("option-compress-type", "gz" if options.get("option-compress") else "none")), "")
    objects: dict[str, list[Part]] = {}
    references = set()
    damaged = {}
    for name, about in sections["target:file"].items():
        if about.get("checksum-page-error"):
            damaged[name] = ", ".join(str(page) for page in about["checksum-page-error"])
        size = int(about.get("repo-size", about.get("size", 0)))
        if not size and "bni" in about:
            continue  # an empty file of a bundle is stored in the manifest alone
        if not about.get("size", 0) and backup.get("backup-bundle"):
            continue
        owner = str(about.get("reference") or label)
        path = "%s/bundle/%d" % (owner, about["bni"]) if "bni" in about else "%s/%s%s" % (owner, name, _suffix(about, extension))
        if owner != label:
            references.add(path)
            continue
        objects.setdefault(path, []).append(Part(name, int(about.get("bno", 0)), size, str(about.get("rck", ""))))
    return Manifest(
        label, {path: tuple(sorted(parts, key=_offset)) for path, parts in objects.items()}, frozenset(references), damaged
    )


def _offset(part: Part) -> int:
    return part.offset


def _suffix(about: Mapping[str, Any], extension: str) -> str:
    return ".pgbi" if "bi" in about else extension


def _sections(text: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    section: dict[str, Any] = {}
    for line in text.splitlines():
        if line.startswith("[") and line.endswith("]"):
            section = found.setdefault(line[1:-1], {})
        elif "=" in line:
            # A file's name may hold the sign too, its value begins with a brace.
            name, sign, value = line.partition("={")
            if not sign:
                name, _, value = line.partition("=")
            section[name] = json.loads(("{" if sign else "") + value)
    return found
