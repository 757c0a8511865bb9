# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The database URL of an application in its file of assignments: read it, and point it somewhere else, whole or not at all."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ansible_collections.relevo.dr.plugins.module_utils import environment_file, host_files
from ansible_collections.relevo.dr.plugins.module_utils.app_provider import ApplicationError
from ansible_collections.relevo.dr.plugins.module_utils.database_url import DatabaseUrl, UrlError, parse, readdressed


@dataclass(frozen=True)
class UrlFile:
    """path: of the file. variable: the one that holds a postgresql:// URL."""

    path: str
    variable: str

    def text(self) -> str:
        """Raises ApplicationError."""
        try:
            with open(self.path, encoding="utf-8") as source:
                return source.read()
        except (OSError, ValueError) as error:
            raise ApplicationError(
                "the environment file %s cannot be read: %s" % (self.path, getattr(error, "strerror", "no UTF-8"))
            ) from None

    def assigned(self) -> dict[str, str]:
        """Every variable of it."""
        return environment_file.assigned(self.text())

    def url(self) -> DatabaseUrl:
        """What the application will use at its next start. Raises ApplicationError."""
        try:
            return parse(environment_file.value_of(self.text(), self.variable) or "")
        except UrlError as error:
            raise ApplicationError("%s in %s is %s" % (self.variable, self.path, error)) from None

    def pointed_at(self, host: str, port: int) -> str:
        """The text of the file with another address. Raises ApplicationError where it cannot be changed with certainty."""
        try:
            return environment_file.changed(self.text(), self.variable, lambda value: readdressed(value, host, port))
        except (environment_file.AssignmentError, UrlError) as error:
            raise ApplicationError("%s in %s: %s" % (self.variable, self.path, error)) from None

    def point_at(self, host: str, port: int) -> bool:
        """Write it, on disk before anybody sees it; True when it was another one. Raises ApplicationError."""
        after = self.pointed_at(host, port)
        if after == self.text():
            return False
        replace_file(self.path, after)
        return True


def replace_file(path: str, text: str, beside: str = "") -> None:
    """The whole file in one rename, with the mode and owner that it had; a link stays a link. Raises ApplicationError.

    beside: written there instead, and the file stays as it is.
    """
    place = os.path.realpath(path)
    try:
        status = os.stat(place)
        host_files.write_atomically(beside or place, text, status.st_mode & 0o7777, (status.st_uid, status.st_gid))
    except OSError as error:
        raise ApplicationError("%s cannot be written (%s); it is as it was" % (beside or path, error.strerror)) from None
