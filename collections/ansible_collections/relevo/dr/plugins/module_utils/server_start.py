# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Let a stopped and fenced server run again: as it was, by its unit; or aside from its unit, as a standby on probation."""

from __future__ import annotations

import os
import subprocess
import time

from ansible_collections.relevo.dr.plugins.module_utils import host_files
from ansible_collections.relevo.dr.plugins.module_utils.postgresql import (
    PostgresqlError,
    Psql,
    cluster_processes,
    controldata,
    owner_switch,
    postmaster_pid,
)
from ansible_collections.relevo.dr.plugins.module_utils.server_stop import Server, masked

GUARD = "/usr/local/lib/relevo/relevo-guard"
HOLD = "guard-held.json"
APPEAR_SECONDS = 15


class StartError(Exception):
    """The server does not run as it should; the message is a sentence."""


def signal_path(server: Server) -> str:
    """What makes every start a read-only one."""
    return os.path.join(server.data_directory, "standby.signal")


def was_standby(server: Server) -> bool:
    """Whether the stopped server was in recovery when it stopped. Raises PostgresqlError."""
    state = controldata(server.bin_directory, server.data_directory, server.owner).get("Database cluster state", "")
    return "recovery" in state and state != "in crash recovery"


def reopen(server: Server, run_id: str, seconds: float) -> None:
    """Take the fence away and start the unit, as what the server was. Raises StartError.

    The mark goes last before the start: whatever ends this half way leaves a host that does not start.
    """
    deadline = time.monotonic() + seconds
    while postmaster_pid(server.data_directory) is not None or cluster_processes(server.data_directory):
        if time.monotonic() > deadline:
            raise StartError("the server is still stopping after %g s" % seconds)
        time.sleep(0.05)
    standby = was_standby(server)
    if not standby and os.path.exists(signal_path(server)):
        os.unlink(signal_path(server))
        host_files.sync_directory(server.data_directory)
    unmask(server.unit)
    host_files.lift_fence()
    start_unit(server.unit)
    if not standby:
        if os.path.exists(os.path.join(host_files.STATE_DIRECTORY, HOLD)):
            # The guard saw nobody who could tell; this run knows, and the guard keeps its own rules about others that it does see.
            reason = "run %s ended before anything was promoted" % run_id
            _run([GUARD, "start", "--run-id", run_id, "--reason", reason], seconds)
        _wait_until_writable(server, deadline)


def unmask(unit: str) -> None:
    """The unit may be started again. Raises StartError."""
    if masked(unit):
        _run(["systemctl", "unmask", "--", unit], 30)


def start_unit(unit: str) -> None:
    """Raises StartError; a recovery may take its time."""
    _run(["systemctl", "start", "--", unit], 3600)


def start_aside(server: Server, config_directory: str, options: tuple[str, ...] = ()) -> None:
    """Start the server read-only and not by its unit, which is masked, and whose guard refuses a fenced host. Raises StartError."""
    if not os.path.exists(signal_path(server)):
        raise StartError("standby.signal is not in %s: it would start writable" % server.data_directory)
    words = ["-c config_file=%s" % os.path.join(config_directory, "postgresql.conf"), *("-c %s" % option for option in options)]
    command = [os.path.join(server.bin_directory, "pg_ctl"), "--pgdata=%s" % server.data_directory, "--no-wait"]
    command += ["--log=%s" % log_file(config_directory), "--options=%s" % " ".join(words), "start"]
    _run(command, 60, owner=server.owner)
    deadline = time.monotonic() + APPEAR_SECONDS
    while postmaster_pid(server.data_directory) is None:
        if time.monotonic() > deadline:
            raise StartError("the server did not come up within %g s: see %s" % (APPEAR_SECONDS, log_file(config_directory)))
        time.sleep(0.05)


def stop_aside(server: Server, seconds: float) -> None:
    """Stop it again, cleanly. Raises StartError."""
    command = [os.path.join(server.bin_directory, "pg_ctl"), "--pgdata=%s" % server.data_directory, "--mode=fast"]
    _run([*command, "--timeout=%d" % seconds, "stop"], seconds + 10, owner=server.owner)


def unit_leads(unit: str) -> bool:
    """Whether systemd has the server as this unit."""
    done = subprocess.run(["systemctl", "--quiet", "is-active", "--", unit], check=False, timeout=10)
    return done.returncode == 0


def log_file(config_directory: str) -> str:
    """Where Debian's own start of this cluster writes."""
    version, name = config_directory.rstrip("/").split("/")[-2:]
    return "/var/log/postgresql/postgresql-%s-%s.log" % (version, name)


def _wait_until_writable(server: Server, deadline: float) -> None:
    said = "it does not answer"
    while time.monotonic() < deadline:
        try:
            with Psql(server.bin_directory, server.port, owner=server.owner) as session:
                if session.execute("select pg_is_in_recovery()") == "f":
                    return
                said = "it is read-only"
        except PostgresqlError as error:
            said = str(error)
        time.sleep(0.1)
    raise StartError("the server was started and is not writable: %s" % said)


def _run(command: list[str], seconds: float, owner: str = "") -> None:
    switch = owner_switch(owner) if owner else {}
    # Not by pipes: a server that is started here would keep them open.
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
        timeout=seconds,
        cwd="/",
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
        start_new_session=bool(owner),
        **switch,
    )
    if done.returncode != 0:
        raise StartError("%s ended with %d" % (" ".join(command[:3]), done.returncode))
