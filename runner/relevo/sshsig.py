"""Detached signatures as `ssh-keygen -Y` writes and checks them, byte for byte, without a process for each: a history has many."""

from __future__ import annotations

import base64
import binascii
import hashlib
import textwrap
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key

from relevo.errors import SignatureError

if TYPE_CHECKING:
    from pathlib import Path

_MAGIC: Final = b"SSHSIG"
_VERSION: Final = (1).to_bytes(4)
_HASH: Final = b"sha512"
_KIND: Final = b"ssh-ed25519"
_COLUMNS = 70
_KEY_BYTES = 32
# The magic, the version, and the lengths and the kind before the key itself.
_BEFORE_KEY = len(_MAGIC) + 4 + 4 + 4 + len(_KIND) + 4


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
    return _armored(key.public_key(), namespace, key.sign(_signed(namespace, data)))


def signer(armored: str, namespace: str, data: bytes) -> str:
    """The key that signed these bytes so, as `ssh-ed25519 AAAA...`. SignatureError when none did.

    Only a text that :func:`sign` would have written is a signature: of the parts of another one nothing is believed.
    """
    try:
        blob = base64.b64decode("".join(armored.split("\n")[1:-2]), validate=True)
        key = Ed25519PublicKey.from_public_bytes(blob[_BEFORE_KEY : _BEFORE_KEY + _KEY_BYTES])
        signature = blob[-2 * _KEY_BYTES :]
        if _armored(key, namespace, signature) != armored:
            message = "It is no signature of this form and purpose."
            raise SignatureError(message)
        key.verify(signature, _signed(namespace, data))
    except (ValueError, binascii.Error) as error:
        message = "It is no signature of OpenSSH."
        raise SignatureError(message) from error
    except InvalidSignature as error:
        message = "It is the signature of something else."
        raise SignatureError(message) from error
    return f"{_KIND.decode()} {base64.b64encode(_public(_raw(key))).decode()}"


def _armored(key: Ed25519PublicKey, namespace: str, signature: bytes) -> str:
    blob = _MAGIC + _VERSION + _string(_public(_raw(key))) + _about(namespace) + _string(_string(_KIND) + _string(signature))
    lines = textwrap.wrap(base64.b64encode(blob).decode(), _COLUMNS)
    return "\n".join(["-----BEGIN SSH SIGNATURE-----", *lines, "-----END SSH SIGNATURE-----", ""])


def _signed(namespace: str, data: bytes) -> bytes:
    return _MAGIC + _about(namespace) + _string(hashlib.sha512(data).digest())


def _about(namespace: str) -> bytes:
    return _string(namespace.encode()) + _string(b"") + _string(_HASH)


def _raw(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def _public(raw: bytes) -> bytes:
    return _string(_KIND) + _string(raw)


def _string(value: bytes) -> bytes:
    """As RFC 4251 writes one: its length, then its bytes."""
    return len(value).to_bytes(4) + value
