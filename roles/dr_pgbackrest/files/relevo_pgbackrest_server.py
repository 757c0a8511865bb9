#!/usr/bin/python3
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""relevo-pgbackrest-server: let the primary copy this host's files by pgBackRest's own server, as long as PostgreSQL here is a standby.

  relevo-pgbackrest-server --data-directory PGDATA --stanza NAME --certificate C --key K --authority A --client CN [--client CN ...]

Whom pgBackRest's server lets in, it lets speak SQL as the cluster's owner: a primary is never offered. A host that is promoted ends this program;
systemd then kills every session of the server, the lock of a backup whose primary died with it, and starts it again to wait. So does a renewed certificate.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

PGBACKREST = "/usr/bin/pgbackrest"
LOOK_SECONDS, END_SECONDS = 1.0, 10.0


def arguments(words: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="relevo-pgbackrest-server", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-directory", required=True, help="PGDATA")
    parser.add_argument("--stanza", required=True, help="the only one that may be asked for")
    parser.add_argument("--certificate", required=True, help="certificate of this host")
    parser.add_argument("--key", required=True, help="its key")
    parser.add_argument("--authority", required=True, help="who signs the certificates of the others")
    parser.add_argument("--client", required=True, action="append", help="common name of a certificate that may ask")
    parser.add_argument("--address", default="*", help="where to listen")
    parser.add_argument("--port", type=int, default=8432)
    return parser.parse_args(words)


def command(given: argparse.Namespace) -> list[str]:
    """What is run. Without pgBackRest's own file: the keys of the repositories are in there, and nobody who asks needs them."""
    return [
        PGBACKREST,
        "--no-config",
        "--log-level-console=warn",
        "--log-level-stderr=off",
        "--log-level-file=off",
        "--tls-server-address=%s" % given.address,
        "--tls-server-port=%d" % given.port,
        "--tls-server-cert-file=%s" % given.certificate,
        "--tls-server-key-file=%s" % given.key,
        "--tls-server-ca-file=%s" % given.authority,
        *("--tls-server-auth=%s=%s" % (client, given.stanza) for client in given.client),
        # A primary that vanishes must not keep its session, and with it the lock, for half an hour.
        "--tcp-keep-alive-idle=10",
        "--tcp-keep-alive-interval=5",
        "--tcp-keep-alive-count=3",
        "server",
    ]


def is_standby(data_directory: str) -> bool:
    """Whether PostgreSQL here follows another; the file goes away before a promoted server takes its first write."""
    return Path(data_directory, "standby.signal").exists()


def stamps(given: argparse.Namespace) -> list[Optional[int]]:
    """When each file was written that pgBackRest reads at its start only."""
    return [os.stat(path).st_mtime_ns if os.path.exists(path) else None for path in (given.certificate, given.key, given.authority)]


def say(text: str) -> None:
    """To the journal, by systemd."""
    sys.stdout.write("relevo-pgbackrest-server: %s\n" % text)
    sys.stdout.flush()


def serve(given: argparse.Namespace) -> int:
    """Until this host is no standby, a certificate is new, or the server ends by itself."""
    before = stamps(given)
    with subprocess.Popen(command(given), stdin=subprocess.DEVNULL, cwd="/", env={"PATH": "/usr/bin:/bin"}) as server:
        say("standby: %s may copy the files of %s at port %d" % (", ".join(given.client), given.stanza, given.port))
        while server.poll() is None:
            reasons = [] if is_standby(given.data_directory) else ["PostgreSQL here is no standby any more"]
            reasons += [] if stamps(given) == before else ["a certificate, key or authority is new"]
            if reasons:
                say("ends: %s" % "; ".join(reasons))
                server.terminate()
                try:
                    server.wait(END_SECONDS)
                except subprocess.TimeoutExpired:
                    server.kill()
                return 0
            time.sleep(LOOK_SECONDS)
    say("pgbackrest server ended with %d" % server.returncode)
    return 1


def main() -> int:
    """The command."""
    given = arguments()
    while not is_standby(given.data_directory):
        time.sleep(LOOK_SECONDS)
    return serve(given)


if __name__ == "__main__":
    sys.exit(main())
