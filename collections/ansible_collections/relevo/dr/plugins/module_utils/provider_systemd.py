# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A systemd unit, with the database's URL in an environment file; without one it is only stopped and started in its turn."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, Optional

from ansible_collections.relevo.dr.plugins.module_utils import app_health, app_login, sessions
from ansible_collections.relevo.dr.plugins.module_utils import app_units as units
from ansible_collections.relevo.dr.plugins.module_utils.app_provider import (
    ApplicationError,
    Deadline,
    Done,
    Option,
    Place,
    Provider,
    Target,
)
from ansible_collections.relevo.dr.plugins.module_utils.app_url import UrlFile
from ansible_collections.relevo.dr.plugins.module_utils.database_url import DatabaseUrl


class Systemd(Provider):
    """unit: what is stopped and started. environment_file, url_variable: where the URL is. repoint: false behind a pooler or a proxy, whose address stays."""

    OPTIONS: ClassVar[dict[str, Option]] = {
        "unit": Option(str, required=True),
        "environment_file": Option(str, default=""),
        "url_variable": Option(str, default="DATABASE_URL"),
        "repoint": Option(bool, default=True),
        "health_url": Option(str, default=""),
    }

    URL_IN = "environment_file"

    @property
    def _unit(self) -> str:
        return str(self.settings["unit"])

    @property
    def _file(self) -> Optional[UrlFile]:
        path = self.settings["environment_file"]
        return UrlFile(path, self.settings["url_variable"]) if path else None

    def _assigned(self, file: UrlFile) -> dict[str, str]:
        return {**units.environment(self._unit), **file.assigned()}

    def _goal(self, url: DatabaseUrl, target: Target) -> DatabaseUrl:
        return url.at(target.name, target.port) if self.settings["repoint"] else url

    def check(self, databases: list[dict[str, Any]]) -> dict[str, Any]:
        wrong = [] if units.exists(self._unit) else ["unit %s is not there" % self._unit]
        with ThreadPoolExecutor(max_workers=1) as pool:
            # Side by side with the logins: an application whose database is dead takes its time to say so.
            health = pool.submit(app_health.health, self.settings["health_url"], 1.0)
            found: dict[str, Any] = {
                "active": units.is_active(self._unit),
                "enabled": units.is_enabled(self._unit),
                "address": None,
            }
            file = self._file
            if file is not None:
                url = file.url()
                file.pointed_at(url.host, url.port)
                found.update(address=url.address, databases=app_login.ask_each(url, self._assigned(file), databases))
            return {**found, "health": health.result(), "wrong": wrong}

    def prepare(self, target: Target) -> None:
        if self._file is not None:
            self._file.pointed_at(target.name, target.port)

    def quiesce(self, deadline: Deadline, *, leaves: bool) -> Done:
        active = units.is_active(self._unit)
        changed = units.stop(self._unit, deadline, leaves=leaves)
        return Done(changed, "%s %s" % (self._unit, "stopped" if active else "was not running"))

    def cutover(self, target: Target, deadline: Deadline) -> Done:
        file = self._file
        if file is None:
            changed = units.start(self._unit, deadline)
            health = app_health.wait_until_healthy(self.settings["health_url"], self._unit, target.system_identifier, deadline)
            return Done(changed, "%s runs%s" % (self._unit, health["note"]))
        before = file.url()
        after = self._goal(before, target)
        active, enabled = units.is_active(self._unit), units.is_enabled(self._unit)
        # Behind a pooler the same address is another server now: its old connections are worth nothing.
        stays = before.address == after.address and self.settings["repoint"]
        if stays and active and enabled and app_health.health(self.settings["health_url"])["ok"]:
            return Done(False, "%s used %s already" % (self._unit, after.address))
        app_login.wait_for_primary(after, self._assigned(file), target, deadline)
        if self.settings["repoint"]:
            file.point_at(target.name, target.port)
        units.must("restart", self._unit, deadline)
        who = "%s points at %s and" % (self._unit, after.address)
        health = app_health.wait_until_healthy(self.settings["health_url"], who, target.system_identifier, deadline)
        if not units.is_active(self._unit):
            raise ApplicationError("%s ended again after its start" % self._unit)
        if not enabled:
            units.must("enable", self._unit, deadline)
        return Done(True, "%s now uses %s%s" % (self._unit, after.address, health["note"]), {"health": health})

    def verify(self, old: list[Place]) -> dict[str, Any]:
        file = self._file
        address = file.url().address if file is not None else None
        return {"address": address, "sessions_on_old": sessions.held(units.processes(self._unit), old)}

    def revert(self, deadline: Deadline) -> Done:
        changed = units.start(self._unit, deadline)
        file = self._file
        address = file.url().address if file is not None else ""
        app_health.wait_until_healthy(self.settings["health_url"], self._unit, "", deadline)
        return Done(changed, "%s serves%s again" % (self._unit, " from %s" % address if address else ""))
