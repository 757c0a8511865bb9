# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The clock of an object store, as the answer to any request tells it."""

from __future__ import annotations

import email.utils
import http.client
import ssl
import time
from collections.abc import Mapping
from typing import Any, Optional


def offset_seconds(repository: Mapping[str, Any], timeout_seconds: float = 3.0) -> Optional[float]:
    """The store's clock minus this host's; None for a repository without one, or when it does not answer over verified TLS.

    The header ``Date`` has whole seconds, so the middle of that second is taken, and half a second is the error.
    """
    if not repository.get("endpoint"):
        return None
    context = ssl.create_default_context(cafile=repository.get("ca_file") or None)
    connection = http.client.HTTPSConnection(
        str(repository["endpoint"]), int(repository.get("port") or 443), timeout=timeout_seconds, context=context
    )
    try:
        connection.request("HEAD", "/")
        said = connection.getresponse().getheader("Date")
        now = time.time()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return email.utils.parsedate_to_datetime(said).timestamp() + 0.5 - now if said else None
