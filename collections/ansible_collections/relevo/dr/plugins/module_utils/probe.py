# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether something answers at an address, as seen from the host that asks."""

from __future__ import annotations

import socket
from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils import clock

# How long a host may take to answer a connect before it counts as silent.
PATIENCE_SECONDS = 0.3


def probe(vantage: str, host: str, address: str, port: int, timeout_seconds: float = PATIENCE_SECONDS) -> dict[str, Any]:
    """One TCP connect: result is ``answers``, ``refused`` or ``silent``; only the first speaks against a fence."""
    try:
        with socket.create_connection((address, port), timeout=timeout_seconds):
            result = "answers"
    except ConnectionRefusedError:
        result = "refused"
    except OSError:
        result = "silent"
    return {
        "vantage": vantage,
        "host": host,
        "address": "%s:%d" % (address, port),
        "method": "tcp",
        "at": clock.utc_now(),
        "result": result,
    }
