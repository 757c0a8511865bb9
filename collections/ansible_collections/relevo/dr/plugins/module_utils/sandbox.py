# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The place where backups are tried: it is not production, cannot reach it, and holds nothing but copies of ours."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils import clock, host_files
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal

MARK = "relevo-restore.json"
# DSCP CS1, "less important than anything": a packet filter that counts what leaves the sandbox can tell our own question from a leak.
PROBE_TOS = 0x20
# Between two tasks of one run.
LEASE_SECONDS = 20.0


@dataclass(frozen=True)
class Place:
    """Where everything is, below one directory that is ours alone."""

    base: str
    owner: str = "postgres"

    @property
    def mark(self) -> str:
        return os.path.join(self.base, MARK)

    @property
    def copy(self) -> str:
        return os.path.join(self.base, "1")

    @property
    def data(self) -> str:
        return os.path.join(self.copy, "data")

    @property
    def tablespaces(self) -> str:
        return os.path.join(self.copy, "tablespaces")

    @property
    def sockets(self) -> str:
        return os.path.join(self.copy, "run")

    @property
    def log(self) -> str:
        return os.path.join(self.copy, "server.log")

    def path(self, name: str) -> str:
        return os.path.join(self.copy, name)


@dataclass(frozen=True)
class Seen:
    """What was found.

    local: production addresses that are this host's own; answers: production addresses that answered;
    servers: data directories of servers that run here; base: absent | empty | ours | foreign.
    """

    name: str
    local: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    production_data: str = ""
    servers: tuple[str, ...] = ()
    base: str = "absent"
    probes: int = 0


def check(seen: Seen, place: Place, production: Sequence[Mapping[str, str]]) -> None:
    """Raises Refusal for everything that could be production, or could reach it."""
    names = {str(entry["name"]) for entry in production} | {str(entry["address"]) for entry in production}
    if seen.name in names:
        raise _refusal(
            seen.name,
            "this host is named %s" % seen.name,
            "a host that is no host of production",
            "name another host in dr_sandbox",
        )
    if seen.local:
        raise _refusal(
            seen.name,
            "the address %s of production is this host's own" % ", ".join(seen.local),
            "a host that is no host of production",
            "correct ansible_host of the host in dr_sandbox",
        )
    if seen.production_data:
        raise _refusal(
            seen.name,
            "a cluster in %s, where production keeps its data" % seen.production_data,
            "a host without a database of its own",
            "name another host in dr_sandbox; nothing was touched",
        )
    others = [directory for directory in seen.servers if not _below(directory, place.base)]
    if others:
        raise _refusal(
            seen.name,
            "a PostgreSQL server runs on %s" % ", ".join(others),
            "no server but the copies below %s" % place.base,
            "stop it if nobody needs it, or name another host in dr_sandbox",
        )
    if seen.base == "foreign":
        raise _refusal(
            seen.name,
            "%s is not empty and not ours: %s is missing or of something else" % (place.base, MARK),
            "an empty directory, or one that a restore test left",
            "look at what is there; choose another dr_backup_sandbox_directory, or move it away if nobody needs it",
        )
    if seen.answers:
        raise _refusal(
            seen.name,
            "production answers from here: %s" % ", ".join(seen.answers),
            "no route from the sandbox to any database or application host",
            "close the way in the network; a restored copy must not be able to reach production",
        )


def _refusal(host: str, observed: str, expected: str, next_action: str) -> Refusal:
    return Refusal("SANDBOX", host, observed, expected, next_action)


def look(
    place: Place, name: str, production: Sequence[Mapping[str, str]], ports: Sequence[int], data_directory: str, seconds: float
) -> Seen:
    """Look at this host, and knock at every door of production."""
    addresses = sorted({str(entry["address"]) for entry in production})
    doors = [(address, port) for address in addresses for port in ports]
    own = tuple(address for address in addresses if _is_local(address))
    with concurrent.futures.ThreadPoolExecutor(max_workers=max(1, len(doors))) as pool:
        answers = [] if own else list(pool.map(lambda door: knock(door[0], door[1], seconds), doors))
    return Seen(
        name=name,
        local=own,
        answers=tuple("%s:%d (%s)" % (*door, answer) for door, answer in zip(doors, answers) if answer),
        production_data=data_directory if os.path.exists(os.path.join(data_directory, "PG_VERSION")) else "",
        servers=tuple(directory for _, directory in servers()),
        base=kind(place),
        probes=len(answers),
    )


def knock(address: str, port: int, seconds: float) -> str:
    """Accepted or refused when packets pass both ways, else an empty text."""
    try:
        family, kind_, protocol, _, target = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind_, protocol) as door:
            if family == socket.AF_INET6:
                door.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, PROBE_TOS)
            else:
                door.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, PROBE_TOS)
            door.settimeout(seconds)
            door.connect(target)
    except ConnectionRefusedError:
        return "refused"
    except OSError:
        return ""
    return "accepted"


def _is_local(address: str) -> bool:
    try:
        family, _, _, _, target = socket.getaddrinfo(address, 0, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as trial:
            trial.bind(target)
    except OSError:
        return False
    return True


def servers() -> list[tuple[int, str]]:
    """Process id and data directory of every postmaster on this host."""
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError):
            with open("/proc/%s/comm" % entry, encoding="utf-8") as source:
                if source.read().strip() not in ("postgres", "postmaster"):
                    continue
            found[int(entry)] = os.readlink("/proc/%s/cwd" % entry)
    # Its children have the same directory.
    return [(pid, directory) for pid, directory in found.items() if _parent(pid) not in found]


def _parent(pid: int) -> int:
    try:
        with open("/proc/%d/stat" % pid, encoding="utf-8") as source:
            return int(source.read().rsplit(")", 1)[1].split()[1])
    except (OSError, IndexError, ValueError):
        return 0


def _below(path: str, base: str) -> bool:
    return os.path.realpath(path).startswith(os.path.realpath(base) + os.sep)


def kind(place: Place) -> str:
    """What the directory is."""
    if os.path.islink(place.base) or (os.path.exists(place.base) and not os.path.isdir(place.base)):
        return "foreign"
    if not os.path.isdir(place.base):
        return "absent"
    if not os.listdir(place.base):
        return "empty"
    return "ours" if read_mark(place) else "foreign"


def read_mark(place: Place) -> Optional[dict[str, Any]]:
    """What was said about the directory by the run that made it."""
    try:
        with open(place.mark, encoding="utf-8") as source:
            mark = json.load(source)
    except (OSError, ValueError):
        return None
    return mark if isinstance(mark, dict) and mark.get("made_by") == "relevo" else None


def write_mark(place: Place, run_id: str, state: str, **detail: Any) -> None:
    """Say whose this is and how far it came; the directory is made where it is missing."""
    if not os.path.isdir(place.base):
        os.makedirs(place.base, mode=0o701)
        # Neither makedirs nor a later umask decides who may pass.
        os.chmod(place.base, 0o701)
    known = read_mark(place) or {}
    mark = {
        **(known if known.get("run_id") == run_id else {}),
        "made_by": "relevo",
        "what": "a copy of a database, restored from a backup for a test; the next restore test removes it",
        "run_id": run_id,
        "state": state,
        "at": clock.utc_now(),
        "boot_id": clock.boot_id(),
        "lease_until_boottime": clock.boottime_seconds() + LEASE_SECONDS,
        **detail,
    }
    host_files.write_atomically(place.mark, json.dumps(mark, indent=1) + "\n", mode=0o644)


@contextlib.contextmanager
def held(place: Place, run_id: str, wait_seconds: float) -> Iterator[None]:
    """This host's sandbox for one task of one run; waits for a task that a killed run left. Raises Refusal while another run is at work."""
    try:
        with host_files.acting(run_id, wait_seconds):
            deadline = clock.boottime_seconds() + wait_seconds
            while True:
                mark = read_mark(place) or {}
                left = float(mark.get("lease_until_boottime") or 0.0) - clock.boottime_seconds()
                if (
                    mark.get("run_id") in (None, run_id)
                    or mark.get("boot_id") != clock.boot_id()
                    or left <= 0
                    or mark.get("state") == "left"
                ):
                    break
                if clock.boottime_seconds() > deadline:
                    raise _busy("run %s is at work in %s" % (mark.get("run_id"), place.base))
                time.sleep(0.2)
            yield
    except host_files.LockError as error:
        raise _busy(str(error)) from None


def _busy(observed: str) -> Refusal:
    return _refusal(socket.gethostname(), observed, "one restore test at a time", "wait for it, then start again")


def stop_servers(place: Place, seconds: float = 60.0) -> list[int]:
    """Stop every server that runs on a copy of ours, at once if it does not want to. Returns those that did."""
    ours = [pid for pid, directory in servers() if _below(directory, place.base)]
    for pid in ours:
        for number, patience in ((signal.SIGINT, seconds), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 10.0)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            if _gone(pid, patience):
                break
    return ours


def _gone(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        if not os.path.exists("/proc/%d" % pid):
            return True
        time.sleep(0.05)
    return False


def prepare(place: Place) -> None:
    """The directories of a copy. Others may pass through them to the socket, and see nothing else."""
    account = pwd.getpwnam(place.owner)
    for path, mode in ((place.copy, 0o701), (place.data, 0o700), (place.tablespaces, 0o700), (place.sockets, 0o701)):
        os.makedirs(path, exist_ok=True)
        os.chown(path, account.pw_uid, account.pw_gid)
        os.chmod(path, mode)


def clean(place: Place) -> None:
    """Remove all of it; what is not marked as ours is left alone."""
    if read_mark(place) is None:
        return
    for name in os.listdir(place.base):
        path = os.path.join(place.base, name)
        if name == MARK:
            continue
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
    # The mark goes last: whoever is killed before leaves something that is known as ours.
    os.unlink(place.mark)
    os.rmdir(place.base)


def size(directory: str) -> int:
    """Bytes of all files below a directory."""
    return sum(os.lstat(os.path.join(place, name)).st_size for place, _, names in os.walk(directory) for name in names)


def free_bytes(place: Place) -> int:
    """What is free where copies go."""
    directory = place.base
    while not os.path.isdir(directory):
        directory = os.path.dirname(directory)
    state = os.statvfs(directory)
    return state.f_bavail * state.f_frsize
