"""How gunicorn serves the shop: one process, few threads, a short good-bye."""

import os
import time
from typing import Any

DRAIN_SECONDS = 0.3

bind = "0.0.0.0:8080"  # a shop is open to all
wsgi_app = "minimarket.web:create_app()"
# Loaded before the unit counts as started: who waits for "systemctl restart" meets a shop that answers.
preload_app = True
worker_class = "gthread"
workers = 1
# A request that hangs on the database holds one thread; the others go on serving.
threads = 8
graceful_timeout = 1
timeout = 30
worker_tmp_dir = "/dev/shm"  # gunicorn's heartbeat, in memory


# The unit stops with SIGQUIT. gunicorn's own ways to stop take up to a second, and a restart is most of a failover's outage.
def worker_int(worker: Any) -> None:
    """Let requests that are going on end, for a moment."""
    deadline = time.monotonic() + DRAIN_SECONDS
    while not all(request.done() for request in list(worker.futures)) and time.monotonic() < deadline:
        time.sleep(0.005)
    os._exit(0)


def child_exit(server: Any, _worker: Any) -> None:
    """Leave at once when the worker of a stopping server has left."""
    if not server.LISTENERS:
        os._exit(0)
