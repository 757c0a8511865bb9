# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""PgBouncer: its databases are re-pointed, and every connection of before is ended, of servers and of clients.

Not only reloaded: a client that keeps its session keeps its old server, for as long as it likes.
"""

from __future__ import annotations

import subprocess
from typing import Any, ClassVar

from ansible_collections.relevo.dr.plugins.module_utils import app_units as units
from ansible_collections.relevo.dr.plugins.module_utils import pgbouncer_file, sessions
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
from ansible_collections.relevo.dr.plugins.module_utils.pgbouncer_file import PgbouncerFileError
from ansible_collections.relevo.dr.plugins.module_utils.postgresql import owner_switch

_ANSWER_SECONDS = 10.0
_CONSOLE = "pgbouncer"


class Pgbouncer(Provider):
    """databases: their names in its configuration. user: as whom it runs; this user may give commands over its socket without a password."""

    OPTIONS: ClassVar[dict[str, Option]] = {
        "unit": Option(str, default="pgbouncer.service"),
        "config": Option(str, default="/etc/pgbouncer/pgbouncer.ini"),
        "databases": Option(list, required=True),
        "socket_directory": Option(str, default="/var/run/postgresql"),
        "port": Option(int, default=6432),
        "user": Option(str, default="postgres"),
    }

    @property
    def _databases(self) -> list[str]:
        return [str(name) for name in self.settings["databases"]]

    def check(self, databases: list[dict[str, Any]]) -> dict[str, Any]:
        unit = self.settings["unit"]
        found: dict[str, Any] = {"active": units.is_active(unit), "enabled": units.is_enabled(unit), "address": None, "wrong": []}
        try:
            places = self._written()
            found["address"] = places[self._databases[0]]
            if found["active"]:
                running = self._running()
                for name, place in places.items():
                    if running[name]["address"] != place:
                        found["wrong"].append("%s is at %s now and at %s after a restart" % (name, running[name]["address"], place))
        except ApplicationError as error:
            found["wrong"].append(str(error))
        return found

    def prepare(self, target: Target) -> None:
        self._next(target)

    def quiesce(self, deadline: Deadline, *, leaves: bool) -> Done:
        if not units.is_active(self.settings["unit"]):
            return Done(False, "%s was not running" % self.settings["unit"])
        changed = not all(one["paused"] for one in self._running().values())
        # Clients that come now wait, and meet the new primary, or the old one when it is opened again.
        self._tell(*("KILL %s" % _quoted(name) for name in self._databases))
        return Done(changed, "%s: every connection ended, new ones wait" % ", ".join(self._databases))

    def cutover(self, target: Target, deadline: Deadline) -> Done:
        changed = self._write(target)
        unit = self.settings["unit"]
        if not units.is_active(unit):
            units.start(unit, deadline)
            return Done(True, "%s runs and leads to %s" % (unit, target.address))
        before = self._running()
        stale = [name for name, one in before.items() if one["address"] != target.address or one["paused"]]
        held = sessions.held(units.processes(unit), list(target.old))
        if changed or stale or held:
            # Who came while it was quiet has no server yet: they wait, and need not be ended.
            ended = [name for name, one in before.items() if held or not one["paused"]]
            self._tell(
                "RELOAD", *("KILL %s" % _quoted(name) for name in ended), *("RESUME %s" % _quoted(name) for name in self._databases)
            )
        after = self._running()
        wrong = [name for name, one in after.items() if one["address"] != target.address or one["paused"]]
        if wrong:
            raise ApplicationError(
                "%s do not lead to %s though PgBouncer read its configuration again" % (", ".join(wrong), target.address)
            )
        return Done(changed or bool(stale or held), "%s now lead to %s" % (", ".join(self._databases), target.address))

    def verify(self, old: list[Place]) -> dict[str, Any]:
        addresses = sorted({one["address"] for one in self._running().values()})
        return {"address": ", ".join(addresses), "sessions_on_old": sessions.held(units.processes(self.settings["unit"]), old)}

    def revert(self, deadline: Deadline) -> Done:
        changed = units.start(self.settings["unit"], deadline)
        paused = [name for name, one in self._running().items() if one["paused"]]
        self._tell(*("RESUME %s" % _quoted(name) for name in paused))
        return Done(changed or bool(paused), "%s lead to where they led" % ", ".join(self._databases))

    def _text(self) -> str:
        try:
            with open(self.settings["config"], encoding="utf-8") as source:
                return source.read()
        except OSError as error:
            raise ApplicationError("%s cannot be read: %s" % (self.settings["config"], error.strerror)) from None

    def _written(self) -> dict[str, str]:
        text = self._text()
        try:
            return {name: "%s:%d" % pgbouncer_file.address(text, name) for name in self._databases}
        except PgbouncerFileError as error:
            raise ApplicationError("%s: %s" % (self.settings["config"], error)) from None

    def _next(self, target: Target) -> str:
        try:
            return pgbouncer_file.readdressed(self._text(), self._databases, target.name, target.port)
        except PgbouncerFileError as error:
            raise ApplicationError("%s: %s" % (self.settings["config"], error)) from None

    def _write(self, target: Target) -> bool:
        after = self._next(target)
        if after == self._text():
            return False
        replace_file(self.settings["config"], after)
        return True

    def _tell(self, *commands: str) -> str:
        """Commands on the console, one by one; the header and rows of the last. It listens to its own user without a password."""
        if not commands:
            return ""
        words = [word for command in commands for word in ("-c", command)]
        place = ["-h", self.settings["socket_directory"], "-p", str(self.settings["port"]), "-U", _CONSOLE, "-d", _CONSOLE]
        environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "PGCONNECT_TIMEOUT": "3", "HOME": "/nonexistent"}
        try:
            done = subprocess.run(
                ["psql", "-XAqw", "-F", "\t", "-P", "footer=off", "-v", "ON_ERROR_STOP=1", *place, *words],
                capture_output=True,
                text=True,
                check=False,
                timeout=_ANSWER_SECONDS,
                env=environment,
                cwd="/",
                **owner_switch(self.settings["user"]),
            )
        except (OSError, KeyError, subprocess.TimeoutExpired) as error:
            raise ApplicationError("PgBouncer's console cannot be asked: %s" % type(error).__name__) from None
        if done.returncode != 0:
            raise ApplicationError("PgBouncer's console: %s" % (done.stderr.strip().splitlines() or ["no reason given"])[-1])
        return str(done.stdout)

    def _running(self) -> dict[str, dict[str, Any]]:
        """Of each database, in the running process: address, paused."""
        lines = self._tell("SHOW DATABASES").splitlines()
        rows = {row["name"]: row for row in (dict(zip(lines[0].split("\t"), line.split("\t"))) for line in lines[1:])}
        missing = [name for name in self._databases if name not in rows]
        if missing:
            raise ApplicationError("the running PgBouncer has no database %s" % ", ".join(missing))
        return {
            name: {"address": "%s:%s" % (rows[name]["host"], rows[name]["port"]), "paused": rows[name]["paused"] != "0"}
            for name in self._databases
        }


def _quoted(name: str) -> str:
    return '"%s"' % name.replace('"', '""')
