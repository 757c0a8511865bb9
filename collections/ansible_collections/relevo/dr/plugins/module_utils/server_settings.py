# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A running server's view of its parameters and of the files they come from."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils.postgresql import PostgresqlError, Psql
from ansible_collections.relevo.dr.plugins.module_utils.settings_file import Configured, Running, canonical


class RunningServer:
    """Questions about parameters over one session; the session comes back after a restart."""

    def __init__(self, session: Psql) -> None:
        self._session = session

    def in_recovery(self) -> bool:
        """Whether it is a standby."""
        return bool(self._session.row("select pg_is_in_recovery() as answer")["answer"])

    def running(self) -> dict[str, Running]:
        """pg_settings by name."""
        rows = self._session.query("select name, setting, vartype, unit, context, source, boot_val from pg_settings")
        return {row.pop("name"): Running(**row) for row in rows}

    def configured(self) -> dict[str, Configured]:
        """The entry of each parameter that wins over all files."""
        rows = self._session.query("select name, setting, sourcefile from pg_file_settings where name is not null order by seqno")
        return {row["name"]: Configured(row["setting"] or "", row["sourcefile"]) for row in rows}

    def stale(self, paths: Iterable[str]) -> list[str]:
        """The files that changed after the server last read its configuration."""
        loaded = self._session.row("select extract(epoch from pg_conf_load_time())::float as at")["at"]
        return [path for path in paths if os.path.exists(path) and os.stat(path).st_mtime > loaded]

    def check_parameters(self) -> None:
        """Raises PostgresqlError for parameter files that would stop the next start. What only waits for a restart is no error."""
        rows = self._session.query(
            "select sourcefile as path, sourceline as line, error from pg_file_settings"
            " where error is not null and error !~ 'without restarting'"
        )
        _raise_for(rows)

    def check_access_rules(self) -> None:
        """Raises PostgresqlError for access rules that the server did not load and that would stop its next start."""
        rows = self._session.query(
            "select current_setting('hba_file') as path, line_number as line, error from pg_hba_file_rules where error is not null"
        )
        _raise_for(rows)

    def reset(self, names: Iterable[str]) -> None:
        """Take entries of ALTER SYSTEM away."""
        for name in names:
            self._session.execute('alter system reset "%s"' % name)

    def reload(self) -> None:
        """Read the files again."""
        self._session.execute("select pg_reload_conf()")

    def restart(self, unit: str) -> None:
        """Restart the unit. systemd_service cannot be told that only a plan knows whether it is needed."""
        self._session.close()
        done = subprocess.run(["systemctl", "restart", "--", unit], capture_output=True, text=True, check=False, timeout=3600)
        if done.returncode != 0:
            raise PostgresqlError("%s did not restart: %s" % (unit, done.stderr.strip()))

    def wait_for(self, lines: Mapping[str, str], paths: Iterable[str], seconds: float) -> None:
        """Until the files are read and every parameter has its value. Raises PostgresqlError."""
        files = list(paths)
        deadline = time.monotonic() + seconds
        while True:
            pending = self._pending(lines, files)
            if not pending:
                return
            if time.monotonic() > deadline:
                raise PostgresqlError("not in use after %g s: %s" % (seconds, pending))
            time.sleep(0.2)

    def _pending(self, lines: Mapping[str, str], paths: list[str]) -> str:
        try:
            running, unread = self.running(), self.stale(paths)
        except PostgresqlError as error:
            return str(error)
        unused = [
            name for name, value in lines.items() if name in running and canonical(value, running[name]) != running[name].setting
        ]
        return ", ".join(unused + unread)


def _raise_for(rows: list[dict[str, Any]]) -> None:
    if rows:
        raise PostgresqlError("; ".join("%(path)s line %(line)s: %(error)s" % row for row in rows))
