"""An object store that knows versions, object locks and policies, as a process of this machine; whoever has no policy may nothing, but for its root."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# Its own environment: it pins another botocore than ours.
SERVER = "ministack==1.5.*"
# The key that it gives its root.
ROOT_KEY = ("test", "test")


@contextmanager
def serving(place: Path, port: int, certificate: Path, key: Path, inside: Sequence[str] = ()) -> Iterator[None]:
    """Installed and started below a directory; what it holds ends with it. inside: words that lead into another network.

    It also listens at port 443 where that is free.
    """
    subprocess.run([sys.executable, "-m", "venv", place / "venv"], check=True, timeout=120)
    subprocess.run([place / "venv/bin/pip", "install", "--quiet", "--disable-pip-version-check", SERVER], check=True, timeout=600)
    environment = {"PATH": os.environ["PATH"], "HOME": str(place), "TMPDIR": str(place), "USE_SSL": "1", "GATEWAY_PORT": str(port)}
    environment |= {"MINISTACK_SSL_CERT": str(certificate), "MINISTACK_SSL_KEY": str(key), "AUTH": "true"}
    with Path(place / "log").open("w") as log:
        server = subprocess.Popen([*inside, place / "venv/bin/ministack"], env=environment, stdout=log, stderr=log)
        try:
            yield
        finally:
            server.terminate()
            server.wait(timeout=30)


@dataclass(frozen=True)
class Here:
    """A store at localhost, and the certificate that it shows."""

    port: int
    certificate: Path


@contextmanager
def serving_here(place: Path) -> Iterator[Here]:
    """Serve at a free port of localhost, with a certificate made for it."""
    certificate, key = place / "host.pem", place / "host.key"
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    request += ["-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate]
    subprocess.run(request, check=True, capture_output=True, timeout=60)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with serving(place, port, certificate, key):
        yield Here(port, certificate)
