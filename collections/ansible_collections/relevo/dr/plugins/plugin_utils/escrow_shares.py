# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""An identity that nobody has: cut into shares by pyshamir (HashiCorp's scheme), of which enough make it again."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyshamir
from ansible_collections.relevo.dr.plugins.module_utils.escrow_choice import check_seals
from ansible_collections.relevo.dr.plugins.module_utils.escrow_fault import BAD_SHARE, TOO_FEW_SHARES, EscrowFault
from ansible_collections.relevo.dr.plugins.plugin_utils import escrow_pack

_SHARE = re.compile(r"RELEVO-SHARE-1\.(\d{1,3})\.([0-9a-f]+)\.([0-9a-f]{8})\b")
_LOOKS_LIKE = re.compile(r"RELEVO-SHARE-1\.(\d{1,3})\.")


@dataclass(frozen=True)
class Share:
    """number: the holder's, from 1."""

    number: int
    value: bytes

    def text(self) -> str:
        """One line that can be written down; its end tells a slip."""
        return "RELEVO-SHARE-1.%d.%s.%s" % (self.number, self.value.hex(), _check(self.number, self.value))


@dataclass(frozen=True)
class Made:
    """identity: what the shares make. used: whose, bad: whose are not what was dealt."""

    identity: escrow_pack.Identity
    used: tuple[int, ...]
    bad: tuple[int, ...]


def deal(holders: int, threshold: int) -> tuple[dict[str, Any], list[Share]]:
    """What is public of a new identity (recipient, threshold, digests of the shares), and the shares. The identity itself is forgotten."""
    check_seals([], {"threshold": threshold, "shares": [None] * holders})
    identity, recipient = escrow_pack.new_identity()
    parts = pyshamir.split(identity.encode(), holders, threshold)
    shares = [Share(number, bytes(part)) for number, part in enumerate(parts, 1)]
    digests = [{"number": share.number, "digest": digest(share.value)} for share in shares]
    return {"recipient": recipient, "threshold": threshold, "shares": digests}, shares


def read(text: str, where: str) -> Share:
    """A share from a file or a slip of paper. Raises EscrowFault, with its number, when a letter of it is wrong."""
    found = _SHARE.search(text)
    if found is None:
        looks = _LOOKS_LIKE.search(text)
        raise bad("%s in %s" % ("share %s" % looks.group(1) if looks else "the share", where), "a line that is cut or mistyped")
    number, digits = int(found.group(1)), found.group(2)
    value = bytes.fromhex(digits) if len(digits) % 2 == 0 else b""
    if len(value) < 2 or _check(number, value) != found.group(3):
        raise bad("share %d in %s" % (number, where), "its last eight letters do not fit the rest")
    return Share(number, value)


def combine(shares: Iterable[Share], public: Mapping[str, Any], where: str, faults: Iterable[EscrowFault] = ()) -> Made:
    """The identity that enough good shares make. faults: of shares that could not be read. Raises EscrowFault."""
    threshold, recipient = int(public["threshold"]), str(public["recipient"])
    dealt = {int(entry["number"]): str(entry["digest"]) for entry in public["shares"]}
    given = {share.number: share for share in shares}
    # In the order in which they were given: who was not proven for long comes first.
    good = [share for number, share in given.items() if dealt.get(number) == digest(share.value)]
    wrong = tuple(sorted(set(given) - {share.number for share in good}))
    if len(good) < threshold:
        for fault in faults:
            raise fault
        if wrong:
            raise bad("share %s of %s" % (", ".join(map(str, wrong)), where), "not what was dealt to its holder")
        raise EscrowFault(
            TOO_FEW_SHARES,
            where,
            "%d shares (%s)" % (len(good), ", ".join(str(share.number) for share in good) or "none"),
            "%d of %d" % (threshold, len(dealt)),
            "ask another holder, or use the identity of a recipient",
        )
    chosen = good[:threshold]
    numbers = "shares %s of %s" % (", ".join(str(share.number) for share in chosen), where)
    try:
        text = bytes(pyshamir.combine([bytearray(share.value) for share in chosen]))
        made = escrow_pack.identities(text.decode(errors="replace"), where)
    except (ValueError, EscrowFault):
        raise bad(numbers, "together they make no identity") from None
    if escrow_pack.public(made[0]) != recipient:
        raise bad(numbers, "together they make another identity than %s" % escrow_pack.shortened(recipient))
    return Made(made[0], tuple(sorted(share.number for share in chosen)), wrong)


def bad(where: str, observed: str) -> EscrowFault:
    """A share that is not right, by its number and never by its content."""
    return EscrowFault(
        BAD_SHARE, where, observed, "the share as it was dealt", "read it again from its holder's original, or ask another holder"
    )


def digest(value: bytes) -> str:
    """Of a share, which is random: nobody finds it by trying."""
    return hashlib.sha256(b"relevo-share\0" + value).hexdigest()


def _check(number: int, value: bytes) -> str:
    return hashlib.sha256(b"%d." % number + value).hexdigest()[:8]
