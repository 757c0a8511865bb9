# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A pack: an archive that age sealed for several people, so that any of them opens it with ``age --decrypt`` alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Optional, Union

import pyrage
from ansible_collections.relevo.dr.plugins.module_utils.escrow_fault import CORRUPT, DECLARATION, NO_IDENTITY, EscrowFault

Identity = Union["pyrage.x25519.Identity", "pyrage.ssh.Identity"]
_X25519 = "AGE-SECRET-KEY-"
_OPENSSH = "-----BEGIN OPENSSH PRIVATE KEY-----"


def seal(data: bytes, recipients: Iterable[str]) -> bytes:
    """For each of the recipients: age1... or the public key of OpenSSH. Raises EscrowFault for one that is none."""
    return bytes(pyrage.encrypt(data, [_recipient(text) for text in sorted(set(recipients))]))


def open_sealed(data: bytes, identities: Sequence[Identity], where: str, recipients: Sequence[str]) -> bytes:
    """What was sealed. recipients: for whom, to be said when none of the identities is one of them. Raises EscrowFault."""
    try:
        return bytes(pyrage.decrypt(data, list(identities)))
    except pyrage.DecryptError as error:
        if "No matching keys" in str(error):
            raise EscrowFault(
                NO_IDENTITY,
                where,
                "an identity that is none of its %d recipients" % len(recipients),
                "the identity of one of %s" % ", ".join(shortened(recipient) for recipient in recipients),
                "give the identity file of one of them, or enough shares",
            ) from None
        raise EscrowFault(
            CORRUPT, where, "a pack that age does not open: it was cut or changed", "the bytes that were sealed", "use another path"
        ) from None


def identities(text: str, where: str) -> list[Identity]:
    """Those of an identity file, as age-keygen writes it, or of a private key of OpenSSH without a passphrase. Raises EscrowFault."""
    try:
        if _OPENSSH in text:
            return [pyrage.ssh.Identity.from_buffer(text.encode())]
        found = [pyrage.x25519.Identity.from_str(line.strip()) for line in text.splitlines() if line.strip().startswith(_X25519)]
    except pyrage.IdentityError:
        found = []
    if not found:
        raise EscrowFault(
            NO_IDENTITY,
            where,
            "no identity that can be read",
            "a line that begins with %s1" % _X25519,
            "give the file that age-keygen wrote",
        )
    return found


def public(identity: Any) -> Optional[str]:
    """The recipient of an identity; None where it cannot be told, as of an OpenSSH key."""
    return str(identity.to_public()) if hasattr(identity, "to_public") else None


def new_identity() -> tuple[str, str]:
    """An identity as a text, and its recipient."""
    identity = pyrage.x25519.Identity.generate()
    return str(identity), str(identity.to_public())


def shortened(recipient: str) -> str:
    """For a person to recognize."""
    return recipient if len(recipient) <= 24 else "%s...%s" % (recipient[:14], recipient[-6:])


def _recipient(text: str) -> Any:
    try:
        if text.startswith("age1"):
            return pyrage.x25519.Recipient.from_str(text.strip())
        return pyrage.ssh.Recipient.from_str(text.strip())
    except pyrage.RecipientError:
        raise EscrowFault(
            DECLARATION,
            "dr_keys_recipients",
            "%s, which is no recipient" % shortened(text),
            "age1... or a line such as ssh-ed25519 AAAA...",
            "correct dr_keys_recipients in the inventory; nothing was changed",
        ) from None
