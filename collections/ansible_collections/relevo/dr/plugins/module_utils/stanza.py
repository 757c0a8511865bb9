# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a stanza's ``info`` says: whose it is, whether it must be made, how good its backups are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils.change import Change
from ansible_collections.relevo.dr.plugins.module_utils.pgbackrest import Pgbackrest, PgbackrestError, explained
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal
from ansible_collections.relevo.dr.plugins.module_utils.store_certificate import describe

# Codes of ``info``: the stanza is not there; above _LAST_STATE the repository could not be read at all.
_MISSING, _LAST_STATE = (1, 3), 5


def read(
    pgbackrest: Pgbackrest, host: str, repositories: Iterable[Mapping[str, Any]] = (), only: Optional[int] = None
) -> dict[str, Any]:
    """``info``, of all repositories or only of one, or a Refusal that names the repository which does not answer as it should."""
    repositories = [repository for repository in repositories if only is None or int(repository["id"]) == only]
    places = {int(repository["id"]): place(repository) for repository in repositories}
    try:
        info = pgbackrest.info(only)
    except PgbackrestError as error:
        raise _unusable(host, ", ".join(places.values()) or "the repository", error, repositories) from None
    for repo in info.get("repo", []):
        if repo["status"]["code"] > _LAST_STATE:
            named = [repository for repository in repositories if int(repository["id"]) == repo["key"]]
            raise _unusable(
                host, places.get(repo["key"], "repository %d" % repo["key"]), explained(repo["status"]["message"]), named
            )
    return info


def place(repository: Mapping[str, Any]) -> str:
    """Where a repository is, for a person."""
    if repository.get("bucket"):
        where = "bucket %s at %s:%s" % (repository["bucket"], repository.get("endpoint"), repository.get("port", 443))
    else:
        where = str(repository.get("path"))
    return "repository %s (%s)" % (repository["id"], where)


def shown_certificate(error: PgbackrestError, repositories: Iterable[Mapping[str, Any]]) -> str:
    """What the store shows, where its certificate is the matter; else an empty text."""
    if "certificate" not in error.observed:
        return ""
    shown = [
        describe(str(repository["endpoint"]), int(repository.get("port", 443)))
        for repository in repositories
        if repository.get("endpoint")
    ]
    return "; it shows %s" % " and ".join(text for text in shown if text) if any(shown) else ""


def _unusable(host: str, where: str, error: PgbackrestError, repositories: Iterable[Mapping[str, Any]]) -> Refusal:
    observed = "%s: %s%s" % (where, error.observed, shown_certificate(error, repositories))
    return Refusal("REPOSITORY", host, observed, "a repository that this host can read and write", error.next_action)


def missing_repositories(info: Mapping[str, Any]) -> list[int]:
    """The repositories in which the stanza does not exist."""
    return [repo["key"] for repo in info.get("repo", []) if repo["status"]["code"] in _MISSING]


def plan(info: Mapping[str, Any], stanza: str, system_identifier: str, version: str, host: str) -> list[Change]:
    """What has to be done so that the stanza is this cluster's. Raises Refusal when it is another's; a stanza is never deleted."""
    newest: dict[int, Mapping[str, Any]] = {}
    for database in info.get("db", []):
        newest[database.get("repo-key", 1)] = database
    for key, database in sorted(newest.items()):
        owner = str(database["system-id"])
        if owner != system_identifier:
            raise Refusal(
                "STANZA",
                host,
                "stanza %s in repository %d belongs to the cluster with system identifier %s" % (stanza, key, owner),
                "system identifier %s, which this cluster has" % system_identifier,
                "choose another dr_cluster or another path for the repository; nothing was changed and the stanza is never deleted",
            )
        if str(database["version"]) != version:
            raise Refusal(
                "STANZA",
                host,
                "stanza %s in repository %d is of PostgreSQL %s" % (stanza, key, database["version"]),
                "PostgreSQL %s" % version,
                "run pgbackrest stanza-upgrade after a finished pg_upgrade, then run again",
            )
    missing = missing_repositories(info) or ([] if newest else [1])
    return [
        Change("stanza %s in repository %d" % (stanza, key), "absent", "system identifier %s" % system_identifier)
        for key in missing
    ]


def backups(info: Mapping[str, Any], repository: Optional[int] = None) -> list[dict[str, Any]]:
    """The backups, oldest first."""
    return [backup for backup in info.get("backup", []) if repository is None or backup["database"].get("repo-key") == repository]


def current_backups(info: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Those of the cluster that uses the stanza now, oldest first: what was backed up before a major upgrade restores another cluster."""
    newest: dict[int, int] = {}
    for database in info.get("db", []):
        key = database.get("repo-key", 1)
        newest[key] = max(int(database["id"]), newest.get(key, 0))
    return [
        backup
        for backup in backups(info)
        if int(backup["database"]["id"]) == newest.get(backup["database"].get("repo-key", 1), int(backup["database"]["id"]))
    ]


def archive_id(info: Mapping[str, Any], database_id: Optional[int] = None) -> str:
    """Where the WAL of a database of one repository is, such as ``17-1``; of the newest database when none is named. Empty: there is none."""
    databases = [entry for entry in info.get("db", []) if database_id is None or int(entry["id"]) == database_id]
    newest = max(databases, key=lambda entry: int(entry["id"]), default=None)
    return "%s-%s" % (newest["version"], newest["id"]) if newest else ""


def backup_gate(info: Mapping[str, Any], host: str, now: float, max_age_seconds: float) -> dict[str, Any]:
    """G05: the newest backup is there, young enough, not empty and without page errors."""
    expected = "a backup without errors, not empty, at most %d s old" % max_age_seconds
    gate = {
        "id": "G05",
        "title": "Newest backup",
        "phase": "PREFLIGHT",
        "host": host,
        "expected": expected,
        "next_action": "run pgbackrest backup as postgres on the primary",
    }
    all_backups = current_backups(info)
    if not all_backups:
        return {**gate, "observed": "no backup", "verdict": "fail"}
    newest = max(all_backups, key=lambda backup: float(backup["timestamp"]["stop"]))
    age = max(0.0, now - newest["timestamp"]["stop"])
    size = newest["info"]["size"]
    observed = "%s (%s), %d s old, %d bytes" % (newest["label"], newest["type"], age, size)
    wrong = []
    if newest.get("error"):
        wrong.append("page checksum errors")
    if size <= 0:
        wrong.append("empty")
    if age > max_age_seconds:
        wrong.append("too old")
    if wrong:
        observed += ": " + ", ".join(wrong)
    return {
        **gate,
        "observed": observed,
        "verdict": "fail" if wrong else "pass",
        "next_action": gate["next_action"] if wrong else "",
    }
