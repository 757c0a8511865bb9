# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""HAProxy in front of the database: one server of one backend is re-pointed while it runs, and its configuration for the next start.

No reload: it would leave the old connections to an old worker, which keeps them for as long as its clients like.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import signal
import socket
import subprocess
from typing import Any, ClassVar

from ansible_collections.relevo.dr.plugins.module_utils import app_units as units
from ansible_collections.relevo.dr.plugins.module_utils import haproxy_file, sessions
from ansible_collections.relevo.dr.plugins.module_utils.app_provider import (
    ApplicationError,
    Deadline,
    Done,
    Option,
    Place,
    Provider,
    Target,
)
from ansible_collections.relevo.dr.plugins.module_utils.app_url import replace_file
from ansible_collections.relevo.dr.plugins.module_utils.haproxy_file import HaproxyFileError, ServerLine

_ANSWER_SECONDS = 5.0
_MAINTENANCE = 0x01


class Haproxy(Provider):
    """backend, server: whose address is the database's. socket: where the running process takes commands of the level admin."""

    OPTIONS: ClassVar[dict[str, Option]] = {
        "unit": Option(str, default="haproxy.service"),
        "config": Option(str, default="/etc/haproxy/haproxy.cfg"),
        "socket": Option(str, default="/run/haproxy/admin.sock"),
        "backend": Option(str, required=True),
        "server": Option(str, required=True),
    }

    @property
    def _server(self) -> str:
        return "%s/%s" % (self.settings["backend"], self.settings["server"])

    def check(self, databases: list[dict[str, Any]]) -> dict[str, Any]:
        unit = self.settings["unit"]
        found: dict[str, Any] = {"active": units.is_active(unit), "enabled": units.is_enabled(unit), "address": None, "wrong": []}
        try:
            line = self._line()
            found["address"] = "%s:%d" % (line.host, line.port)
            self._valid(self.settings["config"])
            for database in databases:
                _resolved(database["name"], int(database["port"]))
            if found["active"]:
                running = self._running()
                if (running["ip"], running["port"]) not in _addresses(line.host, line.port):
                    found["wrong"].append("%s is at %s now and at %s after a restart" % (self._server, running["ip"], line.host))
        except ApplicationError as error:
            found["wrong"].append(str(error))
        return found

    def prepare(self, target: Target) -> None:
        """The next configuration is tried out under another name; the new primary's address is known."""
        beside = self.settings["config"] + ".relevo-next"
        try:
            replace_file(self.settings["config"], self._next(target), beside)
            self._valid(beside)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(beside)
        self._ip = _resolved(target.name, target.port)

    def quiesce(self, deadline: Deadline, *, leaves: bool) -> Done:
        if not units.is_active(self.settings["unit"]):
            return Done(False, "%s was not running" % self.settings["unit"])
        changed = not self._running()["maintenance"]
        self._tell("set server %s state maint" % self._server)
        self._tell("shutdown sessions server %s" % self._server)
        return Done(changed, "%s takes no connection" % self._server)

    def cutover(self, target: Target, deadline: Deadline) -> Done:
        # On disk first: whoever restarts it from now on gets the new primary too.
        changed = self._write(target)
        unit = self.settings["unit"]
        if not units.is_active(unit):
            units.start(unit, deadline)
            # The file of a socket outlives its process.
            deadline.wait(self._answers, lambda: "%s does not answer at %s" % (unit, self.settings["socket"]))
            changed = True
        ip = getattr(self, "_ip", None) or _resolved(target.name, target.port)
        before = self._running()
        if (before["ip"], before["port"]) != (ip, target.port):
            self._tell("set server %s addr %s port %d" % (self._server, ip, target.port))
            changed = True
        if changed or sessions.held(units.processes(unit), target.old):
            # Also where a run died between the two.
            self._tell("shutdown sessions server %s" % self._server)
            changed = True
        if before["maintenance"] or not before["up"]:
            changed = True
            self._tell("set server %s state ready" % self._server)
            if self._line().checked:
                # It was down because the old primary was; its own checks go on and may say so again.
                self._tell("set server %s health up" % self._server)
        self._end_old_workers(target.old)
        after = self._running()
        if (after["ip"], after["port"]) != (ip, target.port):
            raise ApplicationError(
                "%s is at %s:%d after it was told %s:%d" % (self._server, after["ip"], after["port"], ip, target.port)
            )
        deadline.wait(lambda: self._running()["up"], lambda: "%s is down at %s" % (self._server, target.address))
        return Done(changed, "%s now leads to %s" % (self._server, target.address))

    def verify(self, old: list[Place]) -> dict[str, Any]:
        running = self._running()
        held = sessions.held(units.processes(self.settings["unit"]), old)
        return {"address": "%s:%d" % (running["ip"], running["port"]), "sessions_on_old": held}

    def revert(self, deadline: Deadline) -> Done:
        changed = units.start(self.settings["unit"], deadline)
        if self._running()["maintenance"]:
            self._tell("set server %s state ready" % self._server)
            changed = True
        line = self._line()
        return Done(changed, "%s leads to %s:%d again" % (self._server, line.host, line.port))

    def _text(self) -> str:
        try:
            with open(self.settings["config"], encoding="utf-8") as source:
                return source.read()
        except OSError as error:
            raise ApplicationError("%s cannot be read: %s" % (self.settings["config"], error.strerror)) from None

    def _line(self) -> ServerLine:
        try:
            return haproxy_file.server_line(self._text(), self.settings["backend"], self.settings["server"])
        except HaproxyFileError as error:
            raise ApplicationError("%s: %s" % (self.settings["config"], error)) from None

    def _next(self, target: Target) -> str:
        """A name stays a name, and an address an address."""
        line = self._line()
        host = _resolved(target.name, target.port) if _is_address(line.host) else target.name
        return haproxy_file.readdressed(self._text(), self.settings["backend"], self.settings["server"], host, target.port)

    def _write(self, target: Target) -> bool:
        after = self._next(target)
        if after == self._text():
            return False
        replace_file(self.settings["config"], after)
        return True

    def _valid(self, path: str) -> None:
        try:
            done = subprocess.run(
                ["haproxy", "-c", "-q", "-f", path], capture_output=True, text=True, check=False, timeout=20, cwd="/"
            )
        except (OSError, subprocess.TimeoutExpired):
            raise ApplicationError("haproxy cannot be asked about %s" % path) from None
        if done.returncode != 0:
            raise ApplicationError("haproxy does not take %s: see haproxy -c -f %s" % (path, self.settings["config"]))

    def _tell(self, command: str) -> str:
        """One command to the running process. What it answers to a change is nothing, or an error."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(_ANSWER_SECONDS)
                connection.connect(self.settings["socket"])
                connection.sendall(command.encode() + b"\n")
                answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode(errors="replace").strip()
        except OSError as error:
            raise ApplicationError("no answer at %s: %s" % (self.settings["socket"], error)) from None
        # It says what an address was and is; everything else is a complaint.
        if not command.startswith("show ") and answer and "changed from" not in answer and "no need to change" not in answer:
            raise ApplicationError("%s: %s" % (command.rpartition(" server ")[0] or command, answer.splitlines()[0]))
        return answer

    def _answers(self) -> bool:
        with contextlib.suppress(ApplicationError):
            return bool(self._tell("show info"))
        return False

    def _running(self) -> dict[str, Any]:
        """Of the server, in the running process: ip, port, up, maintenance."""
        lines = self._tell("show servers state %s" % self.settings["backend"]).splitlines()
        names = next((line[1:].split() for line in lines if line.startswith("#")), [])
        rows = [dict(zip(names, line.split())) for line in lines if line and not line.startswith("#")]
        for row in rows:
            if row.get("srv_name") == self.settings["server"]:
                state, admin = int(row["srv_op_state"]), int(row["srv_admin_state"])
                maintenance = bool(admin & _MAINTENANCE)
                return {
                    "ip": row["srv_addr"],
                    "port": int(row["srv_port"]),
                    "up": state != 0 and not maintenance,
                    "maintenance": maintenance,
                }
        raise ApplicationError("the running haproxy has no server %s" % self._server)

    def _end_old_workers(self, old: tuple[Place, ...]) -> None:
        """A worker of before a reload has no socket that we reach, and its clients may stay for days."""
        info = dict(line.partition(": ")[::2] for line in self._tell("show info").splitlines())
        for process in units.processes(self.settings["unit"]):
            if process != int(info["Pid"]) and sessions.held([process], old):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGTERM)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _addresses(host: str, port: int) -> set[tuple[str, int]]:
    with contextlib.suppress(OSError):
        return {(str(entry[4][0]), port) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    return set()


def _resolved(name: str, port: int) -> str:
    """The address, for the running process takes no names. Raises ApplicationError."""
    found = sorted(_addresses(name, port))
    if not found:
        raise ApplicationError("the name %s has no address on this host" % name)
    return found[0][0]
