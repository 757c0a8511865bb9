# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""pgBackRest's server on a standby: who may ask it, where it is asked, and the unit it runs in. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils.backup_schedule import HARDENED, MARK
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal

UNIT = "relevo-pgbackrest-server.service"
PROGRAM = "/usr/local/lib/relevo/relevo-pgbackrest-server"
PORT = 8432
# What dr_pgbackrest_tls must name, each a file of the host.
FILES = ("certificate", "key", "authority")


def standby_options(host: str, port: int, tls: Mapping[str, Any], cluster: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """Options of pgBackRest without their prefix pgN-. tls: the asking host's own; cluster: data_directory and port of PostgreSQL over there."""
    return {
        "host": host,
        "host-type": "tls",
        "host-port": port,
        "host-cert-file": str(tls.get("certificate", "")),
        "host-key-file": str(tls.get("key", "")),
        "host-ca-file": str(tls.get("authority", "")),
        # Over there everything is said by these options; the file there has the keys of the repositories, and the server may not read it.
        "host-config": "/dev/null",
        "path": str(cluster["data_directory"]),
        "port": int(cluster["port"]),
        "socket-path": "/var/run/postgresql",
        "user": owner,
    }


def judge(host: str, server: Mapping[str, Any], unreadable: Sequence[str], owner: str) -> None:
    """Raises Refusal for a certificate that is not described, or that the cluster's owner cannot read. unreadable: of the paths that are named."""
    unnamed = [name for name in FILES if not server.get(name)]
    if unnamed:
        raise _refusal(
            host,
            "dr_pgbackrest_tls has no %s" % ", ".join(unnamed),
            "a path for each of %s" % ", ".join(FILES),
            "give it, or none of them",
        )
    if unreadable:
        raise _refusal(
            host,
            "%s of dr_pgbackrest_tls cannot be read by %s" % (", ".join(unreadable), owner),
            "files that are there, a key of %s with mode 0600 or of root with 0640 and a group of %s" % (owner, owner),
            "correct the files or dr_pgbackrest_tls; pgBackRest takes no other key",
        )


def _refusal(host: str, observed: str, expected: str, next_action: str) -> Refusal:
    return Refusal("SCHEDULE", host, observed, expected, next_action)


def unit(server: Mapping[str, Any], stanza: str, config: str, owner: str) -> str:
    """server: certificate, key, authority, address, port, clients (common names), data_directory; config: pgBackRest's file, which it may not read."""
    words = [
        "--data-directory=%s" % server["data_directory"],
        "--stanza=%s" % stanza,
        *("--%s=%s" % (name, server[name]) for name in FILES),
        *("--client=%s" % name for name in server["clients"]),
        "--address=%s" % (server.get("address") or "*"),
        "--port=%d" % int(server.get("port") or PORT),
    ]
    return f"""{MARK}
[Unit]
Description=Relevo: pgBackRest's server, as long as PostgreSQL on this host is a standby
Documentation=man:pgbackrest(1)
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
ExecStart=/usr/bin/python3 -I {PROGRAM} {" ".join(map(_quoted, words))}
Restart=always
RestartSec=5
TimeoutStopSec=10
User={owner}
Group={owner}
UMask=0077
InaccessiblePaths=-{config}
{HARDENED}
# Nothing of the cluster can be written by who asks; pgBackRest's own lock is in /tmp.
ProtectSystem=strict
ReadWritePaths=/tmp

[Install]
WantedBy=multi-user.target
"""


def _quoted(word: str) -> str:
    """As systemd reads it back."""
    return '"%s"' % word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
