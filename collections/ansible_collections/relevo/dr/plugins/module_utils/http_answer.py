# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""An answer over HTTP: its body, whole or not at all, what a JSON object in it says, and in words why there is none."""

from __future__ import annotations

import http.client
import json
from typing import Any

# Whatever may come of asking somebody who speaks HTTP, or something like it.
FAULTS = (OSError, ValueError, http.client.HTTPException)
# Longer ones are cut here: nobody reads them.
_LIMIT_BYTES = 1 << 20


def body(answer: Any) -> bytes:
    """Of an answer of urllib, also of one that is an HTTPError. Raises one of FAULTS; also for a body that ends before it should."""
    text: bytes = answer.read(_LIMIT_BYTES)
    # Python says nothing when a body ends before its Content-Length and was read with a limit.
    if len(text) < _LIMIT_BYTES and answer.length:
        raise http.client.IncompleteRead(text, answer.length)
    return text


def said(text: bytes) -> dict[str, Any]:
    """What a JSON object says; nothing where the body is something else."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def why(fault: Exception) -> str:
    """In words, for an operator."""
    if isinstance(fault, http.client.IncompleteRead):
        return "the answer ended before its end, after %d bytes" % len(fault.partial)
    if isinstance(fault, http.client.HTTPException) and not isinstance(fault, OSError):
        return "no answer in HTTP (%s)" % type(fault).__name__
    return str(fault)[:200]
