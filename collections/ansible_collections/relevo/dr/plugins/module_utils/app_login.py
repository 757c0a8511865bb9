# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Log in to a database as the application would, and wait until the new primary lets it write."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils.app_provider import ApplicationError, Deadline, Target
from ansible_collections.relevo.dr.plugins.module_utils.database_url import DatabaseUrl

_IDENTITY = (
    "select json_build_object('in_recovery', pg_is_in_recovery(), 'system_identifier', (select system_identifier::text from pg_control_system()),"
    " 'tls', (select ssl from pg_stat_ssl where pid = pg_backend_pid()))"
)
# One login waits there for the promotion: to log in again and again would take the time of the very host that is being promoted.
_WAIT = (
    "do $$ declare until timestamptz := clock_timestamp() + interval '%g s'; begin"
    " while pg_is_in_recovery() and clock_timestamp() < until loop perform pg_sleep(0.005); end loop; end $$"
)
_WAIT_SECONDS = 0.5
_FILES_AND_MODES = ("sslmode", "sslrootcert", "sslcert", "sslkey")


def ask(url: DatabaseUrl, assigned: Mapping[str, str], connect_seconds: int = 2, wait_seconds: float = 0.0) -> dict[str, Any]:
    """Who answers there: {ok, error, in_recovery, system_identifier, tls}. assigned: the application's own variables; those of libpq count.

    wait_seconds: for how long a standby may keep the question until it is promoted.
    """
    # The URL may hold a password: it goes to psql by environment, never by argv.
    environment = {
        "PATH": "/usr/bin:/bin",
        "LC_ALL": "C.UTF-8",
        "PGCONNECT_TIMEOUT": str(connect_seconds),
        "HOME": "/nonexistent",
        **{name: value for name, value in assigned.items() if name.startswith("PG")},
        "PGHOST": url.host.strip("[]"),
        "PGPORT": str(url.port),
        "PGDATABASE": url.database,
        "PGUSER": url.user,
        "PGOPTIONS": "-c search_path=pg_catalog,pg_temp",
    }
    if url.password:
        environment["PGPASSWORD"] = url.password
    environment.update({"PG" + name.upper(): value for name, value in url.parameters.items() if name in _FILES_AND_MODES})
    try:
        done = subprocess.run(
            ["psql", "-XAtqw", *(["-c", _WAIT % wait_seconds] if wait_seconds else []), "-c", _IDENTITY],
            capture_output=True,
            text=True,
            check=False,
            timeout=connect_seconds + wait_seconds + 3,
            env=environment,
            cwd="/",
        )
    except OSError:
        return {"ok": False, "error": "psql is not installed on this host"}
    except subprocess.TimeoutExpired:
        return {"ok": False, "error": "no answer within %d s" % (connect_seconds + wait_seconds + 3)}
    if done.returncode != 0:
        return {"ok": False, "error": (done.stderr.strip().splitlines() or ["psql failed"])[-1]}
    return {"ok": True, "error": None, **json.loads(done.stdout)}


def ask_each(url: DatabaseUrl, assigned: Mapping[str, str], databases: list[dict[str, Any]]) -> dict[str, Any]:
    """The answer of each, by host, side by side: a dead one takes its time."""
    if not databases:
        return {}
    with ThreadPoolExecutor(max_workers=len(databases)) as pool:
        answers = pool.map(lambda database: ask(url.at(database["name"], int(database["port"])), assigned), databases)
        return dict(zip((database["host"] for database in databases), answers))


def wait_for_primary(url: DatabaseUrl, assigned: Mapping[str, str], target: Target, deadline: Deadline) -> None:
    """Until the database behind url is this cluster and writable, or the target gives a reason not to wait. Raises ApplicationError."""
    seen: dict[str, Any] = {}

    def writable() -> bool:
        seen.update(ask(url, assigned, wait_seconds=_WAIT_SECONDS))
        if seen["ok"] and seen["system_identifier"] != target.system_identifier:
            raise ApplicationError(
                "%s is system %s, expected %s" % (url.address, seen["system_identifier"], target.system_identifier)
            )
        if seen["ok"] and not seen["in_recovery"]:
            return True
        reason = target.stop()
        if reason:
            raise ApplicationError("it still points where it did: %s" % reason)
        return False

    deadline.wait(
        writable,
        lambda: "%s does not accept writes after %g s: %s" % (url.address, deadline.seconds, seen["error"] or "still a standby"),
    )
