# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether a store answers over verified TLS, in bounded time: asked before a client that would try again for minutes."""

from __future__ import annotations

import socket
import ssl
from typing import Optional

from ansible_collections.relevo.dr.plugins.module_utils import store_certificate


class StoreSilentError(Exception):
    """Nobody answers; the message is for a person."""


class StoreUntrustedError(Exception):
    """Somebody answers whom this host was not told to trust; the message is for a person."""


def ask(endpoint: str, port: int, ca_file: Optional[str], seconds: float) -> None:
    """Raises StoreSilentError or StoreUntrustedError."""
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise StoreUntrustedError("the CA file %s cannot be read: %s" % (ca_file, error)) from None
    try:
        with (
            socket.create_connection((endpoint, port), timeout=seconds) as plain,
            context.wrap_socket(plain, server_hostname=endpoint),
        ):
            return
    except ssl.SSLCertVerificationError as error:
        shown = store_certificate.describe(endpoint, port, seconds)
        raise StoreUntrustedError(
            "the certificate of the store is not trusted: %s%s" % (error.verify_message, "; it shows %s" % shown if shown else "")
        ) from None
    except OSError as error:
        reason = "no answer within %g s" % seconds if isinstance(error, TimeoutError) else error.strerror or str(error)
        raise StoreSilentError("the store does not answer (%s)" % reason) from None
