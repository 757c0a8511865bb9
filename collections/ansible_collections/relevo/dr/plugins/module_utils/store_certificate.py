# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The certificate that a store shows, described for a person whose connection was refused because of it."""

from __future__ import annotations

import socket
import ssl
import subprocess


def describe(host: str, port: int, timeout_seconds: float = 3.0) -> str:
    """Subject, issuer and last day of the certificate, or an empty text when none could be had. Nothing is trusted here."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((host, port), timeout=timeout_seconds) as plain,
            context.wrap_socket(plain, server_hostname=host) as secured,
        ):
            der = secured.getpeercert(binary_form=True)
        done = subprocess.run(
            ["openssl", "x509", "-inform", "DER", "-noout", "-subject", "-issuer", "-enddate"],
            input=der or b"",
            capture_output=True,
            check=False,
            timeout=timeout_seconds,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ", ".join(done.stdout.decode(errors="replace").split("\n")).strip(", ")
