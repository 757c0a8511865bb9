# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The verbs that break the laboratory and mend it. Each looks whether it bit, says what it saw, and fails when it did not."""

from __future__ import annotations

import argparse
import concurrent.futures
import ctypes
import errno
import os
import signal
import socket
import sys
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ansible_collections.relevo.lab.plugins.module_utils import container, network, snapshots
from ansible_collections.relevo.lab.plugins.module_utils.laboratory import (
    CONTROLLER,
    Host,
    Laboratory,
    LaboratoryError,
    gateway_of,
    require_root,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FILL_NAME = ".relevo-lab-fill"
CLONE_NEWNET = 0x40000000
PROBE_SECONDS = 1.0
CLOSED_PORT = 9  # nobody listens: the kernel itself answers, so an answer means that packets pass both ways


# -- what passes between two hosts --


@contextmanager
def network_of(lab: Laboratory, host: Host | None) -> Iterator[None]:
    """Sockets that this thread makes meanwhile belong to the host's network; None is this machine."""
    if host is None:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    other = os.open(f"/proc/{container.leader(lab, host)}/ns/net", os.O_RDONLY)
    try:
        if libc.setns(other, CLONE_NEWNET) != 0:
            raise LaboratoryError(
                f"Entering the network of {host.name} failed: {os.strerror(ctypes.get_errno())}. Nothing was observed."
            )
        yield
    finally:
        libc.setns(own, CLONE_NEWNET)
        os.close(own)
        os.close(other)


def passes(lab: Laboratory, sender: Host | None, address: str) -> bool:
    """Whether a packet reaches the address and its answer comes back."""
    with network_of(lab, sender):
        try:
            socket.create_connection((address, CLOSED_PORT), timeout=PROBE_SECONDS).close()
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return True


def endpoints(lab: Laboratory, one: str, other: str) -> tuple[Host | None, Host | None, str, str]:
    """Both hosts (None: the controller) and the address under which each is known to the other."""
    if one == other:
        raise LaboratoryError(f"Two different hosts are needed, but {one} was named twice.")
    first = None if one == CONTROLLER else lab.host(one)
    second = None if other == CONTROLLER else lab.host(other)
    first_address = first.address if first else gateway_of(second.network if second else "")
    second_address = second.address if second else gateway_of(first.network if first else "")
    return first, second, first_address, second_address


def open_line(lab: Laboratory, sender: Host | None, receiver: Host) -> socket.socket | None:
    """A connection that is open before the cut; None when the receiver's sshd does not answer."""
    with network_of(lab, sender):
        try:
            line = socket.create_connection((receiver.address, 22), timeout=PROBE_SECONDS)
            line.recv(64)
        except OSError:
            return None
    return line


def line_is_dead(line: socket.socket | None) -> bool:
    if line is None:
        return True
    with line:
        try:
            line.sendall(b"are you there?\r\n")
            return not line.recv(64)
        except OSError:
            return True


def cut(lab: Laboratory, one: str, other: str) -> str:
    first, second, first_address, second_address = endpoints(lab, one, other)
    receiver = second or first
    if receiver is None:
        raise LaboratoryError("The controller cannot be cut off from itself: name at least one host.")
    for host in (first, second):
        if host:
            container.leader(lab, host)
    line = open_line(lab, first if receiver is second else second, receiver)
    network.change_cut(lab, one, other, "add")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        there = pool.submit(passes, lab, first, second_address)
        back = pool.submit(passes, lab, second, first_address)
        dead = pool.submit(line_is_dead, line)
        results = {
            f"{one} to {other}": there.result(),
            f"{other} to {one}": back.result(),
            "a connection opened before": not dead.result(),
        }
    alive = [what for what, passed in results.items() if passed]
    if alive:
        raise LaboratoryError(
            f"The cut of {one} and {other} is loaded, but {', '.join(alive)} still passes. Look at 'nft list ruleset'."
        )
    seen = "and one that was open before" if line else "(none was open before: no sshd answered)"
    return f"{one} and {other} are cut: new connections in both directions {seen} get nothing through"


def cut_site(lab: Laboratory, site: str) -> str:
    """At one moment nothing passes between a site and everybody else; inside it all goes on."""
    inside = [host for host in lab.hosts() if host.site == site]
    outside: list[Host | None] = [*(host for host in lab.hosts() if host.site != site), None]
    if not inside:
        raise LaboratoryError(f"There is no host in site {site}. 'bin/lab show' names them.")
    pairs = [(one, other) for one in inside for other in outside]
    network.change_cuts(lab, [(one.name, other.name if other else CONTROLLER) for one, other in pairs], "add")
    awake = [(one, other) for one, other in pairs if all(container.is_on(lab, host) for host in (one, other) if host)]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        ways = {(other, one.address): pool.submit(passes, lab, other, one.address) for one, other in awake}
        alive = [f"{other.name if other else CONTROLLER} to {address}" for (other, address), way in ways.items() if way.result()]
    if alive:
        raise LaboratoryError(f"The cut of site {site} is loaded, but {', '.join(alive)} still passes. Look at 'nft list ruleset'.")
    return f"site {site} is cut off: {len(inside)} hosts, from {len(outside)} others; heal-all ends it"


def heal(lab: Laboratory, one: str, other: str) -> str:
    first, second, first_address, second_address = endpoints(lab, one, other)
    network.change_cut(lab, one, other, "delete")
    off = [host.name for host in (first, second) if host and not container.is_on(lab, host)]
    if off:
        return f"{one} and {other} are no longer cut (not observed: {off[0]} is off)"
    for sender, address, words in ((first, second_address, f"{one} to {other}"), (second, first_address, f"{other} to {one}")):
        if sender and not container.wait_for(partial(passes, lab, sender, address), 5):
            raise LaboratoryError(
                f"{one} and {other} are no longer cut by the laboratory, but nothing passes from {words}. Look at their own packet filters."
            )
    return f"{one} and {other} are healed: packets pass in both directions"


def heal_all(lab: Laboratory) -> str:
    network.heal_all(lab)
    left = network.cuts(lab)
    if left:
        raise LaboratoryError(f"{left} cuts are still in force after healing all. Look at 'nft list ruleset'.")
    return "no cut is in force"


# -- PostgreSQL that hangs --


def postgresql_processes(lab: Laboratory, host: Host) -> dict[int, str]:
    """Process state (R, S, T, ...) of every PostgreSQL process in the host."""
    found = {}
    for pid in container.processes_in(container.group(lab, host)):
        try:
            name, _, rest = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
        except OSError:
            continue
        if name == "postgres":
            found[pid] = rest.split()[0]
    return found


def signal_postgresql(lab: Laboratory, host: Host, number: signal.Signals) -> int:
    """Signal until every process is as wanted: one may be forked while we go through the list."""
    limit = time.monotonic() + 10
    stopped = number == signal.SIGSTOP
    while waiting := [pid for pid, state in postgresql_processes(lab, host).items() if (state == "T") != stopped and state != "Z"]:
        for pid in waiting:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
        if time.monotonic() > limit:
            raise LaboratoryError(
                f"PostgreSQL processes {waiting} of {host.name} did not take {number.name} within 10 s. Look at them with 'ps'."
            )
        time.sleep(0.01)
    return len(postgresql_processes(lab, host))


def freeze(lab: Laboratory, name: str) -> str:
    host = lab.host(name)
    if not postgresql_processes(lab, host):
        raise LaboratoryError(f"No PostgreSQL process runs in {name}, so there is nothing to freeze. Start it there first.")
    return f"{name}: {signal_postgresql(lab, host, signal.SIGSTOP)} PostgreSQL processes are stopped, none runs"


def thaw(lab: Laboratory, name: str) -> str:
    return f"{name}: {signal_postgresql(lab, lab.host(name), signal.SIGCONT)} PostgreSQL processes run, none is stopped"


def frozen(lab: Laboratory, host: Host) -> bool:
    return "T" in postgresql_processes(lab, host).values()


# -- a volume that is full --


def volume_of(lab: Laboratory, host: Host) -> Path:
    if not host.volume:
        volumes = ", ".join(f"{each.name} ({each.volume})" for each in lab.hosts() if each.volume)
        raise LaboratoryError(
            f"{host.name} has no volume of limited size; filling its disk would fill this machine's. Hosts with one: {volumes}."
        )
    return lab.directory(host) / "volume"


def fill(lab: Laboratory, name: str, path: str) -> str:
    host = lab.host(name)
    volume = volume_of(lab, host)
    if not f"{path}/".startswith(f"{host.volume}/"):
        raise LaboratoryError(f"{path} is not on the volume of {name}, which is {host.volume}. Name that path or one below it.")
    directory = (volume / path.removeprefix(host.volume).lstrip("/")).resolve()
    if not directory.is_dir() or not directory.is_relative_to(volume):
        raise LaboratoryError(f"There is no directory {path} on {name}. Name one that exists.")
    with (directory / FILL_NAME).open("ab") as stream:
        for step in (1 << 30, 1 << 20, 4096):
            while allocate(stream.fileno(), step):
                pass
    free = os.statvfs(volume)
    if can_write(directory):
        raise LaboratoryError(
            f"{path} on {name} still takes a write after it was filled ({free.f_bavail} blocks free). Run it again."
        )
    return f"{name}: {host.volume} is full, a write of one block fails with ENOSPC"


def allocate(descriptor: int, size: int) -> bool:
    try:
        os.posix_fallocate(descriptor, os.fstat(descriptor).st_size, size)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            return False
        raise
    return True


def can_write(directory: Path) -> bool:
    trial = directory / f"{FILL_NAME}-trial"
    try:
        with trial.open("wb") as stream:
            os.posix_fallocate(stream.fileno(), 0, 4096)
    except OSError as error:
        return error.errno != errno.ENOSPC
    finally:
        trial.unlink(missing_ok=True)
    return True


def fill_files(lab: Laboratory, host: Host) -> list[Path]:
    return sorted((lab.directory(host) / "volume").rglob(FILL_NAME)) if host.volume else []


def unfill(lab: Laboratory, name: str) -> str:
    host = lab.host(name)
    volume = volume_of(lab, host)
    for path in fill_files(lab, host):
        path.unlink()
    if not can_write(volume):
        raise LaboratoryError(f"{host.volume} on {name} is still full without our fill file. Look there with 'du'.")
    return f"{name}: {host.volume} takes writes, {os.statvfs(volume).f_bavail * os.statvfs(volume).f_bsize // 1024**2} MiB are free"


# -- power: `off` and `status` are in bin/lab itself, since a power switch must answer at once --


def power_on(lab: Laboratory, name: str) -> str:
    host = lab.host(name)
    if container.is_on(lab, host):
        return f"{name} is on already"
    began = time.monotonic()
    container.mount_disks(lab, host, Path(lab.read()["tree"]))
    container.power_on(lab, host)
    container.wait_until_reachable(lab, host)
    return f"{name} is on: its sshd answered after {time.monotonic() - began:.1f} s"


def leaked(lab: Laboratory, name: str) -> str:
    host = lab.host(name)
    if not host.confined:
        confined = ", ".join(each.name for each in lab.hosts() if each.confined) or "none"
        raise LaboratoryError(f"{name} may talk to every host, so nothing of it is counted. Confined hosts: {confined}.")
    packets, probes = network.leaked(lab, host)
    return (
        f"{packets} packets leaked, {probes} packets of a probe: {name} may talk to {host.reaches or 'nobody'} and the controller"
    )


def describe(lab: Laboratory) -> str:
    lines = [
        f"{host.name:10} {'on' if container.is_on(lab, host) else 'off':4} {host.address:16} {host.volume}" for host in lab.hosts()
    ]
    return (
        "\n".join([*lines, f"one-way cuts in force: {network.cuts(lab)}"]) if lines else f"There is no laboratory at {lab.state}."
    )


VERBS: dict[str, tuple[Callable[..., str], tuple[str, ...]]] = {
    "power-on": (power_on, ("HOST",)),
    "cut": (cut, ("HOST", "HOST")),
    "cut-site": (cut_site, ("SITE",)),
    "heal": (heal, ("HOST", "HOST")),
    "heal-all": (heal_all, ()),
    "freeze-postgresql": (freeze, ("HOST",)),
    "thaw-postgresql": (thaw, ("HOST",)),
    "fill": (fill, ("HOST", "PATH")),
    "unfill": (unfill, ("HOST",)),
    "leaked": (leaked, ("HOST",)),
    "snapshot": (snapshots.save, ("NAME",)),
    "reset": (snapshots.restore, ("NAME",)),
    "show": (describe, ()),
}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="bin/lab", description="Break the laboratory and mend it. Any HOST of cut and heal may be 'controller'."
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    verbs.add_parser("power-off", help="HOST")
    verbs.add_parser("power-status", help="HOST")
    for verb, (_function, words) in VERBS.items():
        verb_parser = verbs.add_parser(verb, help=" ".join(words))
        for position, word in enumerate(words):
            verb_parser.add_argument(f"word{position}", metavar=word)
    arguments = parser.parse_args()
    try:
        require_root()
        lab = Laboratory.at()
        with lab.locked():
            function, words = VERBS[arguments.verb]
            answer = function(lab, *(getattr(arguments, f"word{position}") for position in range(len(words))))
    except LaboratoryError as error:
        sys.stderr.write(f"bin/lab {arguments.verb}: {error}\n")
        return 1
    sys.stdout.write(f"{answer}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
