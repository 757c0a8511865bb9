"""Detached signatures as `ssh-keygen -Y sign` writes them, byte for byte, without a process for each: a chain is written by one writer at a time."""

from __future__ import annotations

import base64
import hashlib
import textwrap
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key

from relevo.errors import SignatureError

if TYPE_CHECKING:
    from pathlib import Path

_MAGIC: Final = b"SSHSIG"
_VERSION: Final = (1).to_bytes(4)
_HASH: Final = b"sha512"
_KIND: Final = b"ssh-ed25519"
_COLUMNS = 70


def sign(path: Path, namespace: str, data: bytes) -> str:
    """The armored signature of some bytes by an Ed25519 key of OpenSSH without a passphrase. SignatureError when it is none."""
    try:
        key = load_ssh_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        message = f"The signing key {path} cannot be read: {getattr(error, 'strerror', None) or error}."
        raise SignatureError(message) from error
    if not isinstance(key, Ed25519PrivateKey):
        message = f"The signing key {path} is of another kind, expected {_KIND.decode()}."
        raise SignatureError(message)
    about = _string(namespace.encode()) + _string(b"") + _string(_HASH)
    signed = key.sign(_MAGIC + about + _string(hashlib.sha512(data).digest()))
    public = _string(_KIND) + _string(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
    blob = _MAGIC + _VERSION + _string(public) + about + _string(_string(_KIND) + _string(signed))
    lines = textwrap.wrap(base64.b64encode(blob).decode(), _COLUMNS)
    return "\n".join(["-----BEGIN SSH SIGNATURE-----", *lines, "-----END SSH SIGNATURE-----", ""])


def _string(value: bytes) -> bytes:
    """As RFC 4251 writes one: its length, then its bytes."""
    return len(value).to_bytes(4) + value
