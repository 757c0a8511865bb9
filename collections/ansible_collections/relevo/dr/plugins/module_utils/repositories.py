# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The repositories of a host one by one: which are configured, which answer, and how a lost one is left out until it is back.

pgBackRest counts a segment as archived only once every repository has it. A repository that is gone with its site would hold up archiving for
ever, so it is taken out of the configuration on the host that goes on alone: its options become comments, and a mark says since when and why.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Optional, TypeVar

from ansible_collections.relevo.dr.plugins.module_utils import clock, host_files, pgbackrest_file
from ansible_collections.relevo.dr.plugins.module_utils import stanza as stanza_info
from ansible_collections.relevo.dr.plugins.module_utils.managed_file import WantedFile, apply, observe
from ansible_collections.relevo.dr.plugins.module_utils.pgbackrest import Pgbackrest, PgbackrestError

MARK = "/etc/relevo/repositories-left-out.json"
COMMENT = "# left out: "
CONNECT_SECONDS = 0.7

_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class Place:
    """A configured repository. host: None for a directory."""

    id: int
    host: Optional[str] = None
    port: int = 443


def places(text: str) -> list[Place]:
    """The repositories that a configuration file has, by number."""
    options = pgbackrest_file.parse(text)[0].get("global", {})
    numbers = sorted({int(found.group(1)) for found in (re.match(r"repo(\d+)-", name) for name in options) if found})
    return [
        Place(
            number,
            next(iter(options.get("repo%d-s3-endpoint" % number) or options.get("repo%d-host" % number) or []), None),
            int((options.get("repo%d-storage-port" % number) or ["443"])[0]),
        )
        for number in numbers
    ]


def configured(config: str) -> list[Place]:
    """Those of the file on this host; none when there is no file."""
    return places(observe(config).content or "")


def takes_connections(place: Place) -> bool:
    """A quick look before pgBackRest, whose own waits are long. True for a directory."""
    if not place.host:
        return True
    try:
        with socket.create_connection((place.host, place.port), CONNECT_SECONDS):
            return True
    except OSError:
        return False


def ask_each(asked: Sequence[Place], question: Callable[[Place], _Answer]) -> dict[int, _Answer]:
    """The same question to every repository, side by side: the silent one must not cost the time of the others."""
    if not asked:
        return {}
    with ThreadPoolExecutor(max_workers=len(asked)) as pool:
        return dict(zip((place.id for place in asked), pool.map(question, asked)))


def facts(config: str, stanza: str, now: float) -> dict[str, dict[str, Any]]:
    """By number what each repository says of its newest backup, or why it does not."""

    def ask(place: Place) -> dict[str, Any]:
        if not takes_connections(place):
            return {"error": "%s:%d takes no connection" % (place.host, place.port)}
        try:
            info = Pgbackrest(config, stanza, io_timeout=2, timeout=6).info(place.id)
        except PgbackrestError as error:
            return {"error": error.observed}
        states = [repo["status"] for repo in info.get("repo", []) if repo["key"] == place.id]
        if states and states[0]["code"] > 5:
            return {"error": str(states[0]["message"])[:200]}
        backups = stanza_info.current_backups(info)
        if not backups:
            return {"newest_backup": None}
        newest = backups[-1]
        return {
            "newest_backup": newest["label"],
            "newest_backup_age_seconds": now - newest["timestamp"]["stop"],
            "newest_backup_error": bool(newest.get("error")),
            "newest_backup_bytes": newest["info"]["size"],
        }

    return {str(key): {"host": place.host, **answer} for key, place, answer in _with_places(configured(config), ask)}


def _with_places(asked: Sequence[Place], ask: Callable[[Place], dict[str, Any]]) -> list[tuple[int, Place, dict[str, Any]]]:
    answers = ask_each(asked, ask)
    return [(place.id, place, answers[place.id]) for place in asked]


def without(text: str, numbers: Sequence[int]) -> str:
    """A configuration in which these repositories are comments."""
    prefixes = tuple("repo%d-" % number for number in numbers)
    return "".join(COMMENT + line if line.startswith(prefixes) else line for line in text.splitlines(keepends=True))


def leave_out(config: str, numbers: Sequence[int], run_id: str, reason: str) -> list[int]:
    """Take repositories out of this host's configuration, and mark it. Never the last one. Returns those that were taken out now."""
    observed = observe(config)
    text = observed.content or ""
    there = [place.id for place in places(text)]
    gone = [number for number in there if number in numbers]
    if not gone or len(gone) == len(there):
        return []
    mark = read_mark()
    mark.update({str(number): {"run_id": run_id, "at": clock.utc_now(), "reason": reason} for number in gone})
    # The mark first: a repository that is missing without a word is worse than a word too much.
    host_files.write_atomically(MARK, json.dumps(mark, indent=2, sort_keys=True) + "\n", 0o644)
    apply(WantedFile(config, content=without(text, gone), owner=observed.owner, group=observed.group, mode=observed.mode), observed)
    return gone


def read_mark() -> dict[str, Any]:
    """By number since when, by which run and why a repository is left out."""
    try:
        with open(MARK, encoding="utf-8") as source:
            value = json.load(source)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def left_out(config: str) -> dict[str, Any]:
    """By number the repositories that were left out and are not back."""
    there = {str(place.id) for place in configured(config)}
    return {number: why for number, why in read_mark().items() if number not in there}


def release_archiver(stanza: str) -> int:
    """End the pushes that still wait for a repository which is left out; PostgreSQL begins them anew. Returns how many."""
    ended = 0
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open("/proc/%s/cmdline" % name, "rb") as source:
                words = source.read().decode(errors="replace").strip("\0").split("\0")
            if os.path.basename(words[0]) != "pgbackrest" or "--stanza=%s" % stanza not in words:
                continue
            if any(word.startswith("archive-push") for word in words):
                os.kill(int(name), signal.SIGTERM)
                ended += 1
        except OSError:
            continue
    return ended


def in_use(repositories: Sequence[Mapping[str, Any]], config: str) -> list[dict[str, Any]]:
    """Of the repositories of the inventory those that are configured here."""
    there = {place.id for place in configured(config)}
    return [dict(repository) for repository in repositories if int(repository["id"]) in there]
