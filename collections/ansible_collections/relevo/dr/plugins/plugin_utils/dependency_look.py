# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A look at each dependency from the controller, all side by side and none for longer than its limit: dead sites are silent."""

from __future__ import annotations

import os
import queue
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from typing import Optional

from ansible_collections.relevo.dr.plugins.module_utils.dependencies import FILE, NAME, POSTGRESQL, TCP, Need, Seen

# Of PostgreSQL's protocol: length 8, "may we speak TLS?".
_SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
_DAY_SECONDS = 86400
# For what is answered at its very end.
_GRACE_SECONDS = 0.5


def look(needs: Sequence[Need], seconds: float) -> dict[Need, Seen]:
    """What each says within these seconds."""
    answers: queue.Queue[tuple[Need, Seen]] = queue.Queue()
    for need in needs:
        # A name server that is silent cannot be given a limit: nobody waits for that thread.
        threading.Thread(target=lambda need=need: answers.put((need, _look(need, seconds))), daemon=True).start()
    found: dict[Need, Seen] = {}
    deadline = time.monotonic() + seconds + _GRACE_SECONDS
    while len(found) < len(needs):
        try:
            need, seen = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        found[need] = seen
    late = Seen(False, "no answer within %g s" % seconds)
    return {need: found.get(need, late) for need in needs}


def _look(need: Need, seconds: float) -> Seen:
    began = time.monotonic()
    try:
        return _answer(need, seconds, began)
    except ssl.SSLCertVerificationError as error:
        return Seen(False, "certificate is not good: %s" % error.verify_message)
    except TimeoutError:
        return Seen(False, "no answer within %g s" % seconds)
    except OSError as error:
        return Seen(False, str(error.strerror or error), refused=isinstance(error, ConnectionRefusedError))


def _answer(need: Need, seconds: float, began: float) -> Seen:
    if need.protocol == FILE:
        return _file(need.host)
    if need.protocol == NAME:
        addresses = sorted({str(entry[4][0]) for entry in socket.getaddrinfo(need.host, None)})
        return Seen(True, "is %s" % ", ".join(addresses))
    if need.protocol != TCP and need.ca_file and not os.path.exists(need.ca_file):
        return Seen(None, "the authority %s is not on this controller, so no certificate can be judged" % need.ca_file)
    with socket.create_connection((need.address, need.port), timeout=seconds) as connection:
        if need.protocol == TCP:
            return Seen(True, _in_time(began))
        if need.protocol == POSTGRESQL:
            connection.sendall(_SSL_REQUEST)
            if connection.recv(1) != b"S":
                return Seen(False, "speaks no TLS")
        context = ssl.create_default_context(cafile=need.ca_file)
        with context.wrap_socket(connection, server_hostname=need.host) as spoken:
            return Seen(True, _in_time(began), _days_left(spoken))


def _in_time(began: float) -> str:
    return "answers in %.2f s" % (time.monotonic() - began)


def _days_left(spoken: ssl.SSLSocket) -> Optional[float]:
    certificate = spoken.getpeercert() or {}
    until = certificate.get("notAfter")
    return None if not isinstance(until, str) else (ssl.cert_time_to_seconds(until) - time.time()) / _DAY_SECONDS


def _file(path: str) -> Seen:
    try:
        if os.path.isdir(path):
            return Seen(True, "is there")
        size = os.stat(path).st_size
    except OSError as error:
        return Seen(False, str(error.strerror))
    return Seen(size > 0, "is there" if size else "is empty")
