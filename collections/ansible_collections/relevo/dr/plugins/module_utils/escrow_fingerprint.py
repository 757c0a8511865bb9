# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Fingerprints of what is in escrow: salted and slow, so that who reads one cannot try passwords against it."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils.escrow_fault import (
    DIFFERENT,
    LINE_END,
    WRONG_GENERATION,
    EscrowFault,
)

# 16 MiB and some 50 ms for each guess.
_COST, _BLOCK, _LANES = 1 << 14, 8, 1
_MEMORY_BYTES = 1 << 26


def new_salt() -> str:
    """Of one item, for as long as the item stays the same."""
    return secrets.token_hex(16)


def fingerprint(content: bytes, salt: str, item: str) -> str:
    """Of the exact bytes; two items of one content have two fingerprints."""
    seasoned = bytes.fromhex(salt) + item.encode()
    return hashlib.scrypt(content, salt=seasoned, n=_COST, r=_BLOCK, p=_LANES, maxmem=_MEMORY_BYTES, dklen=32).hex()


def fits(content: bytes, entry: Mapping[str, Any]) -> bool:
    """Whether that is the item of a manifest's entry, byte for byte."""
    return hmac.compare_digest(fingerprint(content, str(entry["salt"]), str(entry["id"])), str(entry["fingerprint"]))


def require_equal(content: bytes, entry: Mapping[str, Any], where: str, older: Iterable[Mapping[str, Any]] = ()) -> None:
    """Raises EscrowFault unless the content is the entry's. older: entries of the same item in generations before, each with ``made_in``."""
    if fits(content, entry):
        return
    what = "%s of %s" % (entry["id"], where)
    for other in older:
        if fits(content, other):
            raise EscrowFault(
                WRONG_GENERATION,
                what,
                "the value of generation %s" % other["made_in"],
                "the value of generation %s" % entry["made_in"],
                "take it from the newest generation; the older value opens only what is older",
            )
    for other in [entry, *older]:
        if any(fits(variant, other) for variant in _other_line_ends(content)):
            raise EscrowFault(
                LINE_END,
                what,
                "the recorded value, but for the line end after it (%d bytes)" % len(content),
                "exactly the recorded bytes (%d)" % int(entry["bytes"]),
                "write it again without an editor, which adds or removes a line end; a passphrase with one more byte opens nothing",
            )
    raise EscrowFault(
        DIFFERENT,
        what,
        "%d bytes with another fingerprint" % len(content),
        "the recorded fingerprint, of %d bytes" % int(entry["bytes"]),
        "do not use it; take this item from another path",
    )


def _other_line_ends(content: bytes) -> set[bytes]:
    bare = content.rstrip(b"\r\n")
    return {bare, bare + b"\n", bare + b"\r\n", bare + b"\n\n"} - {content}
