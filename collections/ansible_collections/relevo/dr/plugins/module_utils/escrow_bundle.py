# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The archive of a generation, in pieces where a path takes no more: made, taken apart, and never trusted. Pure."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils.escrow_fault import (
    CORRUPT,
    MISSING,
    TOO_LARGE,
    WRONG_GENERATION,
    EscrowFault,
)
from ansible_collections.relevo.dr.plugins.module_utils.escrow_manifest import SCHEMA, entries, parsed

# AWS takes 65536 bytes a secret.
PIECE_BYTES = 61440
MOST_PIECES = 64
_MANIFEST, _PAGE, _ITEMS = "manifest.json", "README.txt", "items/"


def built(manifest: Mapping[str, Any], contents: Mapping[str, bytes], page: str) -> bytes:
    """One archive that any tar opens. page: what to do with it, for a person."""
    files = {_PAGE: page.encode(), _MANIFEST: json.dumps(manifest, indent=1, sort_keys=True).encode() + b"\n"}
    files.update({_ITEMS + name: contents[name] for name in sorted(entries(manifest))})
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o600
            archive.addfile(member, io.BytesIO(content))
    return target.getvalue()


def opened(data: bytes, where: str, cluster: str, generation: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Manifest and items of an archive. Raises EscrowFault when it is damaged, incomplete, or another's."""
    try:
        files = _files(data)
    except (tarfile.TarError, EOFError, ValueError, OSError):
        raise _corrupt(where, "an archive that cannot be read") from None
    if _MANIFEST not in files:
        raise _corrupt(where, "an archive without a manifest")
    manifest = parsed(files[_MANIFEST], where)
    if manifest["cluster"] != cluster:
        raise EscrowFault(
            WRONG_GENERATION,
            where,
            "keys of the cluster %s" % manifest["cluster"],
            "those of %s" % cluster,
            "correct the path in dr_keys_paths",
        )
    if manifest["generation"] != generation:
        observed = "generation %s under the name %s" % (manifest["generation"], generation)
        raise EscrowFault(WRONG_GENERATION, where, observed, "what its name says", "somebody moved it; use another path")
    # What the manifest itself calls absent is no fault of this path.
    missing = [name for name in entries(manifest) if _ITEMS + name not in files]
    if missing:
        raise EscrowFault(
            MISSING, where, "no %s in the archive" % ", ".join(missing), "every item of its manifest", "use another path"
        )
    return manifest, {name: files[_ITEMS + name] for name in entries(manifest)}


def cut(data: bytes, sizes: Mapping[str, int], where: str) -> list[bytes]:
    """Pieces that Secrets Manager takes. sizes: of the items, to name the largest when there is too much."""
    pieces = [data[start : start + PIECE_BYTES] for start in range(0, len(data), PIECE_BYTES)]
    if len(pieces) > MOST_PIECES:
        largest = sorted(sizes, key=lambda name: sizes[name], reverse=True)[:3]
        raise EscrowFault(
            TOO_LARGE,
            where,
            "%d bytes, of which %s" % (len(data), ", ".join("%s has %d" % (name, sizes[name]) for name in largest)),
            "at most %d" % (PIECE_BYTES * MOST_PIECES),
            "keep what is large in a bucket or a directory, or out of dr_keys_items",
        )
    return pieces


def joined(pieces: Sequence[bytes], label: Mapping[str, Any], where: str) -> bytes:
    """The archive that was cut. Raises EscrowFault when it is not that one any more."""
    return whole(b"".join(pieces), label, where)


def label(manifest: Mapping[str, Any], payload: bytes, **more: Any) -> dict[str, Any]:
    """What lies beside the payload, in clear: nothing that says anything about a key."""
    return {
        "schema": SCHEMA,
        "cluster": manifest["cluster"],
        "generation": manifest["generation"],
        "bytes": len(payload),
        "sha256": hashlib.sha256(payload).hexdigest(),
        **more,
    }


def read_label(text: bytes, where: str) -> dict[str, Any]:
    """A label that came back. Raises EscrowFault."""
    try:
        found: dict[str, Any] = json.loads(text)
        if found["schema"] == SCHEMA and found["generation"] and found["sha256"] and int(found["bytes"]) >= 0:
            return found
    except (ValueError, KeyError, TypeError):
        pass
    raise _corrupt(where, "a label that cannot be read")


def whole(payload: bytes, described: Mapping[str, Any], where: str) -> bytes:
    """The payload, when it is what its label says."""
    if len(payload) != described["bytes"]:
        raise _corrupt(where, "%d bytes where %d were put" % (len(payload), described["bytes"]))
    if hashlib.sha256(payload).hexdigest() != described["sha256"]:
        raise _corrupt(where, "other bytes than were put")
    return payload


def _files(data: bytes) -> dict[str, bytes]:
    files = {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        for member in archive:
            source = archive.extractfile(member) if member.isfile() else None
            if source is None or member.name in files:
                raise ValueError(member.name)
            files[member.name] = source.read()
    return files


def _corrupt(where: str, observed: str) -> EscrowFault:
    return EscrowFault(CORRUPT, where, observed, "what was put there", "use another path, and find out what changed this one")
