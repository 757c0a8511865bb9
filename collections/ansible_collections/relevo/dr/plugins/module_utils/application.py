# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""An application that is one systemd unit and an environment file: read it, stop it, point it at another database."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils import host_files

_IDENTITY = (
    "select json_build_object('in_recovery', pg_is_in_recovery(), 'system_identifier', (select system_identifier::text from pg_control_system()),"
    " 'tls', (select ssl from pg_stat_ssl where pid = pg_backend_pid()))"
)


class ApplicationError(Exception):
    """The application is not as it must be; the message is a sentence."""


@dataclass(frozen=True)
class Application:
    """unit: systemd. environment_file: holds url_variable, a postgresql:// URL. health_url: answers 200 only when the database does."""

    unit: str
    environment_file: str
    url_variable: str
    health_url: str


def read_environment(path: str) -> dict[str, str]:
    """The assignments of a systemd environment file. Raises ApplicationError."""
    try:
        with open(path, encoding="utf-8") as source:
            lines = [line.strip() for line in source]
    except OSError as error:
        raise ApplicationError("the environment file %s cannot be read: %s" % (path, error.strerror)) from None
    pairs = (line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    return {name.strip(): " ".join(shlex.split(value)) for name, value in pairs}


def unit_environment(unit: str) -> dict[str, str]:
    """The assignments in the unit itself, such as where the password file is."""
    done = subprocess.run(
        ["systemctl", "show", "--property=Environment", "--", unit], capture_output=True, text=True, check=False, timeout=10
    )
    words = shlex.split(done.stdout.strip().partition("=")[2])
    return dict(word.split("=", 1) for word in words if "=" in word)


def database_url(application: Application) -> str:
    """The URL that the application will use at its next start. Raises ApplicationError."""
    url = read_environment(application.environment_file).get(application.url_variable, "")
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("postgresql", "postgres") or not parts.hostname or len(parts.path) < 2:
        raise ApplicationError(
            "%s in %s is not a postgresql:// URL with host and database" % (application.url_variable, application.environment_file)
        )
    return url


def with_address(url: str, address: str, port: int) -> str:
    """The same URL with another host and port; user, database and parameters stay."""
    parts = urllib.parse.urlsplit(url)
    credentials = parts.netloc.rpartition("@")[0]
    netloc = "%s%s:%d" % (credentials + "@" if credentials else "", address, port)
    return urllib.parse.urlunsplit(parts._replace(netloc=netloc))


def url_address(url: str) -> str:
    """host:port of a URL; never its credentials."""
    parts = urllib.parse.urlsplit(url)
    return "%s:%d" % (parts.hostname, parts.port or 5432)


def ask_database(application: Application, url: str, connect_seconds: int = 2) -> dict[str, Any]:
    """Log in as the application would and ask who answers: {ok, error, in_recovery, system_identifier, tls}."""
    assigned = {**unit_environment(application.unit), **read_environment(application.environment_file)}
    settings = {name: value for name, value in assigned.items() if name.startswith("PG")}
    # The URL may hold a password: it goes to psql by environment, never by argv.
    environment = {
        "PATH": "/usr/bin:/bin",
        "LC_ALL": "C.UTF-8",
        "PGCONNECT_TIMEOUT": str(connect_seconds),
        "HOME": "/nonexistent",
        **settings,
    }
    parts = urllib.parse.urlsplit(url)
    environment.update(
        PGHOST=parts.hostname or "",
        PGPORT=str(parts.port or 5432),
        PGDATABASE=parts.path.lstrip("/"),
        PGUSER=urllib.parse.unquote(parts.username or ""),
        PGOPTIONS="-c search_path=pg_catalog,pg_temp",
    )
    if parts.password:
        environment["PGPASSWORD"] = urllib.parse.unquote(parts.password)
    for name, value in urllib.parse.parse_qsl(parts.query):
        if name in ("sslmode", "sslrootcert", "sslcert", "sslkey"):
            environment["PG" + name.upper()] = value
    try:
        done = subprocess.run(
            ["psql", "-XAtqw", "-c", _IDENTITY],
            capture_output=True,
            text=True,
            check=False,
            timeout=connect_seconds + 3,
            env=environment,
            cwd="/",
        )
    except OSError:
        return {"ok": False, "error": "psql is not installed on this host"}
    except subprocess.TimeoutExpired:
        return {"ok": False, "error": "no answer within %d s" % (connect_seconds + 3)}
    if done.returncode != 0:
        return {"ok": False, "error": (done.stderr.strip().splitlines() or ["psql failed"])[-1]}
    return {"ok": True, "error": None, **json.loads(done.stdout)}


def health(application: Application, timeout_seconds: float = 2.0) -> dict[str, Any]:
    """What the application says of itself: {ok, status, body, error}."""
    try:
        with urllib.request.urlopen(application.health_url, timeout=timeout_seconds) as answer:
            return {"ok": answer.status == 200, "status": answer.status, "body": json.loads(answer.read() or b"{}"), "error": None}
    except urllib.error.HTTPError as error:
        return {"ok": False, "status": error.code, "body": {}, "error": "HTTP %d" % error.code}
    except (OSError, ValueError) as error:
        return {"ok": False, "status": None, "body": {}, "error": str(error)}


def systemctl(verb: str, unit: str, timeout_seconds: float = 60.0) -> None:
    """Run one systemctl verb. Raises ApplicationError."""
    done = subprocess.run(["systemctl", verb, "--", unit], capture_output=True, text=True, check=False, timeout=timeout_seconds)
    if done.returncode != 0:
        raise ApplicationError("systemctl %s %s failed: %s" % (verb, unit, done.stderr.strip()))


def wait_for_primary(
    application: Application, url: str, system_identifier: str, timeout_seconds: float, stop: Callable[[], Optional[str]]
) -> None:
    """Wait until the database behind url is this cluster and writable, or stop gives a reason not to. Raises ApplicationError."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        answer = ask_database(application, url)
        if answer["ok"] and answer["system_identifier"] != system_identifier:
            raise ApplicationError(
                "%s is system %s, expected %s" % (url_address(url), answer["system_identifier"], system_identifier)
            )
        if answer["ok"] and not answer["in_recovery"]:
            return
        reason = stop()
        if reason:
            raise ApplicationError("it still points where it did: %s" % reason)
        if time.monotonic() > deadline:
            raise ApplicationError(
                "%s does not accept writes after %g s: %s"
                % (url_address(url), timeout_seconds, answer["error"] or "still a standby")
            )
        time.sleep(0.01)


def point_at(application: Application, url: str) -> bool:
    """Write the URL into the environment file, whole or not at all; True when it was another one."""
    with open(application.environment_file, encoding="utf-8") as source:
        before = source.read()
    line = re.compile(r"^(\s*%s\s*=).*$" % re.escape(application.url_variable), re.MULTILINE)
    after = line.sub(lambda match: match.group(1) + url, before)
    if after == before:
        return False
    status = os.stat(application.environment_file)
    host_files.write_atomically(application.environment_file, after, status.st_mode & 0o7777)
    os.chown(application.environment_file, status.st_uid, status.st_gid)
    return True


def wait_until_healthy(application: Application, address: str, timeout_seconds: float) -> dict[str, Any]:
    """Wait until the application answers through a writable database. Raises ApplicationError."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        answer = health(application)
        if answer["ok"] and not answer["body"].get("in_recovery"):
            return answer
        if time.monotonic() > deadline:
            raise ApplicationError(
                "%s points at %s and is not healthy after %g s: %s" % (application.unit, address, timeout_seconds, answer["error"])
            )
        time.sleep(0.01)


def unit_is(unit: str, verb: str) -> Optional[bool]:
    """``is-active`` or ``is-enabled`` of a unit."""
    done = subprocess.run(["systemctl", "--quiet", verb, "--", unit], capture_output=True, check=False, timeout=10)
    return done.returncode == 0
