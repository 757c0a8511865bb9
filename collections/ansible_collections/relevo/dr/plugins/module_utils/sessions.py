# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Connections that processes of this host hold to other hosts, as the kernel lists them. What it says beats what a program says of itself."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import socket
import struct
from collections.abc import Iterable

from ansible_collections.relevo.dr.plugins.module_utils.app_provider import Place

_ESTABLISHED = "01"
_SOCKET = re.compile(r"socket:\[(\d+)\]")


def held(processes: Iterable[int], places: Iterable[Place]) -> int:
    """How many established connections these processes hold to these places. A process that ended meanwhile holds none."""
    wanted = set().union(*(_addresses(place) for place in places)) if places else set()
    found: set[tuple[int, str]] = set()
    for process in processes:
        inodes = _sockets(process)
        if inodes:
            # Of the process's own network namespace: a container has one.
            space = os.stat("/proc/%d/ns/net" % process).st_ino if os.path.exists("/proc/%d/ns/net" % process) else 0
            found |= {(space, inode) for inode, peer in _connections(process) if inode in inodes and peer in wanted}
    return len(found)


def _addresses(place: Place) -> set[tuple[str, int]]:
    """What its names stand for by now, and what they stood for: a name that is gone still has an address in the inventory."""
    found = set()
    for name in {place.name, place.address}:
        with contextlib.suppress(OSError):
            found |= {
                (_plain(str(entry[4][0])), place.port) for entry in socket.getaddrinfo(name, place.port, type=socket.SOCK_STREAM)
            }
    return found


def _plain(address: str) -> str:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed)


def _sockets(process: int) -> set[str]:
    inodes = set()
    with contextlib.suppress(OSError):
        for descriptor in os.listdir("/proc/%d/fd" % process):
            with contextlib.suppress(OSError):
                match = _SOCKET.fullmatch(os.readlink("/proc/%d/fd/%s" % (process, descriptor)))
                if match:
                    inodes.add(match[1])
    return inodes


def _connections(process: int) -> Iterable[tuple[str, tuple[str, int]]]:
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError), open("/proc/%d/net/%s" % (process, table), encoding="ascii") as source:
            for line in list(source)[1:]:
                fields = line.split()
                if fields[3] == _ESTABLISHED:
                    yield fields[9], _peer(fields[2])


def _peer(text: str) -> tuple[str, int]:
    """Address and port as the kernel prints them: words of four bytes in the order of this machine."""
    address, _, port = text.partition(":")
    words = [int(address[begin : begin + 8], 16) for begin in range(0, len(address), 8)]
    return _plain(str(ipaddress.ip_address(struct.pack("=%dI" % len(words), *words)))), int(port, 16)
