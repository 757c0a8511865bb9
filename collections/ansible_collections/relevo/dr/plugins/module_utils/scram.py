# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""SCRAM verifiers: the server is given these, never a password (a password in SQL ends up in logs and statistics)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from typing import Optional

ITERATIONS = 4096
_VERIFIER = re.compile(r"SCRAM-SHA-256\$(\d+):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)")


def verifier(password: str, salt: Optional[bytes] = None, iterations: int = ITERATIONS) -> str:
    """What pg_authid keeps for this password. Passwords are ASCII here, so SASLprep changes nothing."""
    if not password or not password.isascii():
        raise ValueError("a role's password must be plain ASCII")
    salt = secrets.token_bytes(16) if salt is None else salt
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    stored_key = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    return "SCRAM-SHA-256$%d:%s$%s:%s" % (iterations, _base64(salt), _base64(stored_key), _base64(server_key))


def matches(password: str, stored: Optional[str]) -> bool:
    """Whether the verifier that a server keeps belongs to this password."""
    found = _VERIFIER.fullmatch(stored or "")
    if found is None:
        return False
    expected = verifier(password, base64.b64decode(found.group(2)), int(found.group(1)))
    return hmac.compare_digest(expected, found.group(0))


def salt_of(role: str, password: str) -> bytes:
    """A salt that is the same on every run, so that an unchanged password gives an unchanged verifier.

    The passwords are random: what a salt protects against (one table for many guesses) does not exist here.
    """
    return hmac.digest(password.encode(), b"relevo scram salt " + role.encode(), "sha256")[:16]


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()
