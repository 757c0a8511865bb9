# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What relevo-files wrote down on a host: its settings, and one line for each attempt."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal
from ansible_collections.relevo.dr.plugins.module_utils.restic import Restic, parse_environment

SETTINGS = "/etc/relevo/files.json"
# Attempts of older times are of no use to a run.
_TAIL_BYTES = 1 << 18


def read_settings(host: str, path: str = SETTINGS) -> dict[str, Any]:
    """Raises Refusal where this host was not set up."""
    try:
        with open(path, encoding="utf-8") as source:
            settings: dict[str, Any] = json.load(source)
    except (OSError, ValueError) as error:
        raise Refusal(
            "FILESSETUP",
            host,
            "%s cannot be read: %s" % (path, getattr(error, "strerror", None) or error),
            "a host that was set up to keep its files",
            "run playbooks/protect.yml",
        ) from None
    return settings


def client(settings: Mapping[str, Any], repository: Mapping[str, Any], timeout: float, *, cached: bool = True) -> Restic:
    """Restic with the secrets that are on this host."""
    with open(repository["environment_file"], encoding="utf-8") as source:
        keys = parse_environment(source.read())
    cache = settings["cache_directory"] if cached else None
    return Restic(
        repository["url"], repository["password_file"], keys, repository.get("ca_file"), cache_directory=cache, timeout=timeout
    )


def attempts(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The newest lines of the record, oldest first; an unfinished one is passed over."""
    path = os.path.join(settings["state_directory"], "files.jsonl")
    try:
        with open(path, "rb") as source:
            source.seek(max(0, os.path.getsize(path) - _TAIL_BYTES))
            lines = source.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


def of_run(lines: Sequence[Mapping[str, Any]], name: str, since: str) -> list[Mapping[str, Any]]:
    """The attempts at one set since a moment (UTC, ISO 8601), the newest of each repository."""
    newest: dict[Any, Mapping[str, Any]] = {}
    for line in lines:
        if line.get("set") == name and str(line.get("at")) >= since:
            newest[line.get("repository")] = line
    return list(newest.values())
