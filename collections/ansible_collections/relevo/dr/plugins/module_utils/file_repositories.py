# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The repositories of a host's files: every host has its own place and its own password, so that no host reads another's secrets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

DIRECTORY = "/etc/relevo/files"
DEFAULTS = {
    "port": 443,
    "region": "us-east-1",
    "path": "/files/{host}",
    "ca_file": None,
    "password_secret": "files_{host}_password",
    "forget": True,
    "prune": False,
}


def of_host(repositories: Iterable[Mapping[str, Any]], host: str) -> list[dict[str, Any]]:
    """dr_files_repositories as one host has them: {host} replaced, defaults filled in, url and place (for a person) added."""
    found = []
    for given in repositories:
        repository: dict[str, Any] = {**DEFAULTS, **{name: value for name, value in given.items() if value is not None}}
        for name in ("path", "password_secret"):
            repository[name] = str(repository[name]).replace("{host}", host)
        repository["id"], repository["port"] = int(repository["id"]), int(repository["port"])
        where = "%(endpoint)s:%(port)d/%(bucket)s" % repository
        repository["url"] = "s3:https://%s/%s" % (where, repository["path"].strip("/"))
        repository["place"] = "repository %(id)d (bucket %(bucket)s at %(endpoint)s:%(port)d)" % repository
        found.append(repository)
    return found


def password_names(repositories: Iterable[Mapping[str, Any]], hosts: Iterable[str]) -> list[str]:
    """The secrets that Relevo may generate: the repositories' own passwords, never a store's keys."""
    return sorted({repository["password_secret"] for host in hosts for repository in of_host(repositories, host)})


def secret_names(repositories: Iterable[Mapping[str, Any]]) -> list[str]:
    """Every secret that a host's repositories need. repositories: of :func:`of_host`."""
    return sorted({repository[key] for repository in repositories for key in ("key_id_secret", "key_secret", "password_secret")})


def environment(repository: Mapping[str, Any], key_id: str, key: str) -> dict[str, str]:
    """What restic reads from its environment."""
    return {"AWS_ACCESS_KEY_ID": key_id, "AWS_SECRET_ACCESS_KEY": key, "AWS_DEFAULT_REGION": str(repository["region"])}


def secret_files(repositories: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Entries for relevo.dr.managed_files; @name@ stands for a secret. repositories: of :func:`of_host`."""
    entries: list[dict[str, Any]] = [{"path": DIRECTORY, "directory": True, "mode": "0700"}]
    for repository in repositories:
        marks = environment(repository, "@%(key_id_secret)s@" % repository, "@%(key_secret)s@" % repository)
        lines = "".join("%s=%s\n" % pair for pair in marks.items())
        base = "%s/%d" % (DIRECTORY, repository["id"])
        entries.append({"path": base + ".password", "content": "@%(password_secret)s@\n" % repository, "mode": "0600"})
        entries.append({"path": base + ".env", "content": lines, "mode": "0600"})
    return entries


def settings(
    host: str, repositories: Sequence[Mapping[str, Any]], sets: Iterable[Mapping[str, Any]], options: Mapping[str, Any]
) -> dict[str, Any]:
    """The settings file of relevo-files on a host. A set without a path is not this host's. repositories: of :func:`of_host`."""
    return {
        "host": host,
        **options,
        "repositories": [
            {
                **{key: repository[key] for key in ("id", "place", "url", "endpoint", "port", "ca_file", "forget", "prune")},
                "password_file": "%s/%d.password" % (DIRECTORY, repository["id"]),
                "environment_file": "%s/%d.env" % (DIRECTORY, repository["id"]),
            }
            for repository in repositories
        ],
        "sets": {str(entry["name"]): _set(entry) for entry in sets if entry.get("paths")},
    }


def _set(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "tag": str(entry.get("tag") or "relevo-%s" % entry["name"]),
        "paths": [str(path) for path in entry["paths"]],
        "excludes": [str(path) for path in entry.get("excludes") or []],
        "canaries": [str(path) for path in entry.get("canaries") or []],
        "keep": {str(name): int(number) for name, number in (entry.get("keep") or {}).items()},
        "max_age_seconds": int(entry["max_age_seconds"]),
        "timeout_seconds": int(entry.get("timeout_seconds") or 21600),
    }
