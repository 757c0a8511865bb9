# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""An empty cluster that answers to another's name: pgBackRest hands out WAL only to a data directory with the stanza's system identifier.

Before the first restore the sandbox has none. The directory that is made here is never started.
"""

from __future__ import annotations

import os
import struct
import subprocess

from ansible_collections.relevo.dr.plugins.module_utils.postgresql import PostgresqlError, owner_switch

_POLYNOMIAL = 0x82F63B78


def _table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return table


def with_identity(control: bytes, system_identifier: int) -> bytes:
    """pg_control of another system. Raises ValueError when it is no pg_control."""
    place = _checksum_place(control)
    body = struct.pack("<Q", system_identifier) + control[8:place]
    return body + struct.pack("<I", crc32c(body)) + control[place + 4 :]


def crc32c(data: bytes) -> int:
    """The checksum that PostgreSQL keeps in pg_control."""
    value, table = 0xFFFFFFFF, _table()
    for byte in data:
        value = (value >> 8) ^ table[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF


def _checksum_place(control: bytes) -> int:
    """Where the checksum is depends on the release; it is the place whose four bytes are the checksum of all before."""
    value, table = 0xFFFFFFFF, _table()
    for place in range(min(len(control) - 4, 4096)):
        if place >= 64 and place % 4 == 0 and struct.unpack_from("<I", control, place)[0] == value ^ 0xFFFFFFFF:
            return place
        value = (value >> 8) ^ table[(value ^ control[place]) & 0xFF]
    raise ValueError("no checksum was found in pg_control")


def make(bin_directory: str, directory: str, system_identifier: str, owner: str = "postgres") -> None:
    """Make such a directory. Raises PostgresqlError."""
    done = subprocess.run(
        [os.path.join(bin_directory, "initdb"), "--no-sync", "--no-instructions", "--auth=reject", "--pgdata=%s" % directory],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd="/",
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        **owner_switch(owner),
    )
    if done.returncode != 0:
        raise PostgresqlError("initdb failed: %s" % (done.stderr or done.stdout).strip()[-300:])
    path = os.path.join(directory, "global", "pg_control")
    with open(path, "r+b") as file:
        control = with_identity(file.read(), int(system_identifier))
        file.seek(0)
        file.write(control)
