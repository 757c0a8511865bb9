"""A server that says exactly what it is told to, be it HTTP or not."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager

GARBAGE = b"220 mail.example.org ESMTP\r\n\r\n"
CUT_CHUNK = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{"a"'
SHORT_BODY = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}"
SHORT_REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 10\r\n\r\n{}"


def page(body: bytes, status: str = "200 OK") -> bytes:
    """A whole one."""
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


@contextmanager
def saying(answer: bytes) -> Iterator[str]:
    """Its URL."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline().strip():
                pass
            self.wfile.write(answer)

    class Server(socketserver.ThreadingTCPServer):
        request_queue_size = 64
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
