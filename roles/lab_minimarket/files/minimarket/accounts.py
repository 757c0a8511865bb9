"""Passwords and session tokens."""

from __future__ import annotations

import hashlib
import hmac
import secrets

_COST = {"n": 4096, "r": 8, "p": 1}


def hash_password(password: str, salt: bytes | None = None) -> str:
    """What the database keeps of a password."""
    salt = salt or secrets.token_bytes(16)
    return f"scrypt${salt.hex()}${hashlib.scrypt(password.encode(), salt=salt, **_COST).hex()}"


def password_matches(password: str, stored: str) -> bool:
    """Compare in constant time."""
    scheme, _, rest = stored.partition("$")
    salt, _, _digest = rest.partition("$")
    return scheme == "scrypt" and hmac.compare_digest(hash_password(password, bytes.fromhex(salt)), stored)


def new_token() -> str:
    """A session's secret, known to the browser alone."""
    return secrets.token_urlsafe(32)


def token_digest(token: str) -> bytes:
    """What the database keeps of it."""
    return hashlib.sha256(token.encode()).digest()
