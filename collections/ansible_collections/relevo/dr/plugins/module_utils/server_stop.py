# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Stop a database server so that it stays stopped: mark, read-only signal, signal the postmaster, mask, end what outlives it, prove."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils import clock, host_files
from ansible_collections.relevo.dr.plugins.module_utils.handover_message import chain
from ansible_collections.relevo.dr.plugins.module_utils.postgresql import (
    PostgresqlError,
    cluster_processes,
    controldata,
    lsn_bytes,
    postmaster_pid,
    stopped,
)
from ansible_collections.relevo.dr.plugins.module_utils.probe import probe

STOPPED_STATES = ("shut down", "shut down in recovery")
_KILL_SECONDS = 5


class FenceError(Exception):
    """The server could not be proven stopped; the message is a sentence."""


@dataclass(frozen=True)
class Server:
    """The server to stop, on its own host."""

    unit: str
    data_directory: str
    bin_directory: str
    port: int
    owner: str = "postgres"


def mask_path(unit: str) -> str:
    """Where systemd looks for the mask of a unit."""
    return os.path.join("/etc/systemd/system", unit)


def masked(unit: str) -> bool:
    """Whether the unit is masked on disk, so that a reboot does not start it."""
    path = mask_path(unit)
    return os.path.islink(path) and os.readlink(path) == "/dev/null"


def fenced(server: Server) -> bool:
    """Whether nothing is left to do: mark, mask, read-only signal, no process. What cannot be seen is left to do."""
    return (
        host_files.read_fence() is not None
        and masked(server.unit)
        and os.path.exists(_signal_path(server))
        and postmaster_pid(server.data_directory) is None
        and _nothing_left(server)
    )


def stop_for_good(server: Server, run_id: str, fast_seconds: float, immediate_seconds: float) -> None:
    """Mark first, so that a crash at any point leaves a host that does not start writable. Raises FenceError."""
    host_files.write_fence({"run_id": run_id, "at": clock.utc_now(), "class": "stopped", "reason": "fenced by run %s" % run_id})
    _write_standby_signal(server)
    _forget_rebuild(run_id)
    pid = postmaster_pid(server.data_directory)
    if pid is not None:
        # SIGINT to the postmaster is pg_ctl's fast stop; a masked unit would get SIGTERM (smart) from systemctl.
        _send(pid, signal.SIGINT)
    _mask(server.unit)
    late = postmaster_pid(server.data_directory)
    if late is not None and late != pid:
        # It was being started when the unit was masked.
        pid = late
        _send(pid, signal.SIGINT)
    # A stopped one takes neither signal, and the outage clock runs.
    if pid is not None and (stopped(pid) or not _gone(server, fast_seconds)):
        _send(pid, signal.SIGQUIT)
        if stopped(pid) or not _gone(server, immediate_seconds):
            # It shall start no new backends while the others are ended.
            _send(pid, signal.SIGSTOP)
    _end_what_is_left(server)


def _forget_rebuild(run_id: str) -> None:
    """What another run once made of these data says nothing of what they are now; what it left half way, it still does."""
    mark = host_files.read_build()
    if mark and mark.get("restored") and mark.get("run_id") not in chain(host_files.read_journal(1 << 20), run_id):
        host_files.drop_build()


def _end_what_is_left(server: Server) -> None:
    """Kill every process of the cluster, the postmaster last.

    Backends outlive a killed postmaster; one that was inside its commit would still acknowledge it, and systemd continues stopped ones as soon as the
    postmaster is gone.
    """
    deadline = time.monotonic() + _KILL_SECONDS
    while left := _processes(server):
        if time.monotonic() > deadline:
            raise FenceError("processes %s of %s do not end, even by SIGKILL" % (left, server.data_directory))
        postmaster = postmaster_pid(server.data_directory)
        for pid in [pid for pid in left if pid != postmaster] or left:
            _send(pid, signal.SIGKILL)
        time.sleep(0.01)


def _nothing_left(server: Server) -> bool:
    try:
        return not _processes(server)
    except FenceError:
        return False


def _processes(server: Server) -> list[int]:
    try:
        return cluster_processes(server.data_directory)
    except PostgresqlError as error:
        raise FenceError(str(error)) from None


def proof(server: Server, host: str) -> dict[str, Any]:
    """What is seen of the stopped server, with the class that it proves. Raises FenceError when it proves none."""
    running = postmaster_pid(server.data_directory)
    if running is not None:
        raise FenceError("process %d still runs %s" % (running, server.data_directory))
    left = _processes(server)
    if left:
        raise FenceError("processes %s of %s outlive their postmaster" % (left, server.data_directory))
    if not masked(server.unit):
        raise FenceError("%s is not masked" % server.unit)
    local = probe(host, host, "127.0.0.1", server.port)
    if local["result"] == "answers":
        raise FenceError("something still answers on port %d" % server.port)
    try:
        control = controldata(server.bin_directory, server.data_directory, server.owner)
    except PostgresqlError as error:
        raise FenceError("the state of the data directory cannot be read: %s" % error) from None
    clean = control.get("Database cluster state") in STOPPED_STATES
    return {
        "host": host,
        "class": "stopped",
        "at": clock.utc_now(),
        "cluster_state": control.get("Database cluster state"),
        "system_identifier": control.get("Database system identifier"),
        "shutdown_lsn": control.get("Latest checkpoint location") if clean else None,
        "timeline": int(control.get("Latest checkpoint's TimeLineID", "0")),
        "probes": [local],
    }


def unarchived(server: Server) -> list[str]:
    """WAL segments that a stopped server had not archived yet; as a standby it would never archive them."""
    names = os.listdir(os.path.join(server.data_directory, "pg_wal", "archive_status"))
    return sorted(name[: -len(".ready")] for name in names if name.endswith(".ready"))


def replay_target(proofs: list[dict[str, Any]]) -> Optional[str]:
    """The newest shutdown checkpoint of the stopped hosts: what the standby must have replayed to have lost nothing."""
    locations = [str(proof["shutdown_lsn"]) for proof in proofs if proof.get("shutdown_lsn")]
    return max(locations, key=lsn_bytes) if locations else None


def _signal_path(server: Server) -> str:
    return os.path.join(server.data_directory, "standby.signal")


def _write_standby_signal(server: Server) -> None:
    account = pwd.getpwnam(server.owner)
    path = _signal_path(server)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    os.fchown(descriptor, account.pw_uid, account.pw_gid)
    os.fsync(descriptor)
    os.close(descriptor)
    host_files.sync_directory(server.data_directory)


def _mask(unit: str) -> None:
    if not masked(unit):
        done = subprocess.run(["systemctl", "mask", "--", unit], capture_output=True, text=True, check=False, timeout=30)
        if done.returncode != 0 or not masked(unit):
            raise FenceError("%s cannot be masked: %s" % (unit, done.stderr.strip()))


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _gone(server: Server, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while postmaster_pid(server.data_directory) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True
