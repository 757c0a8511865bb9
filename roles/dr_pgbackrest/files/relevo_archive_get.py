#!/usr/bin/python3
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""relevo-archive-get: PostgreSQL's restore_command over several repositories, the one of this host's own site first.

  relevo-archive-get FILE TARGET       exit 0: restored; 1: no repository that answers has it

pgBackRest by itself asks every repository, and waits minutes for one that is gone with its site: a standby would sit in that wait when it
is told to promote. Here a store that takes no connection costs less than a second, and one that takes it and is silent a few.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

SETTINGS = "/etc/relevo/archive.json"
CONNECT_SECONDS = 0.7
# The first repository is this site's own: what it has to give may be worth a wait. It is the last one that may hold up a promotion.
FIRST_SECONDS, OTHER_SECONDS = 60.0, 8.0
# Prefetching by several processes pays while segment follows segment; for a single question it takes six times as long.
RESTORED, CATCHING_UP_SECONDS = "/var/lib/relevo-backup/restored", 10.0


def answers(place: Mapping[str, Any]) -> bool:
    """Whether something takes connections there; a repository without an address is a directory."""
    if not place.get("host"):
        return True
    with contextlib.suppress(OSError), socket.create_connection((str(place["host"]), int(place["port"])), CONNECT_SECONDS):
        return True
    return False


def catching_up(file: str) -> bool:
    """Whether the segment before this one was restored just now."""
    with contextlib.suppress(OSError):
        return re.fullmatch("[0-9A-F]{24}", file) is not None and time.time() - os.stat(RESTORED).st_mtime < CATCHING_UP_SECONDS
    return False


def remember() -> None:
    """That a file was restored just now."""
    with contextlib.suppress(OSError), open(RESTORED, "w", encoding="utf-8"):
        pass


def fetch(settings: Mapping[str, Any], place: Mapping[str, Any], file: str, target: str, *, first: bool) -> int:
    """Ask one repository. Returns the exit code of pgBackRest: 0 restored, 1 not there, anything else no answer."""
    options = ["--config=%s" % settings["config"], "--stanza=%s" % settings["stanza"], "--repo=%d" % int(place["id"])]
    options += [] if first and catching_up(file) else ["--no-archive-async"]
    options += [] if first else ["--io-timeout=3"]
    command = ["/usr/bin/pgbackrest", *options, "archive-get", file, target]
    try:
        return subprocess.run(command, check=False, timeout=FIRST_SECONDS if first else OTHER_SECONDS).returncode
    except (OSError, subprocess.TimeoutExpired):
        return -1


def configured(config: str, places: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The repositories that pgBackRest's file has: one that was left out is not there."""
    with open(config, encoding="utf-8") as source:
        names = {line.split("-", 1)[0].strip() for line in source if line.startswith("repo")}
    return [place for place in places if "repo%d" % int(place["id"]) in names]


def main() -> int:
    """The command."""
    file, target = sys.argv[1:3]
    with open(SETTINGS, encoding="utf-8") as source:
        settings = json.load(source)
    for number, place in enumerate(configured(settings["config"], settings["repositories"])):
        if answers(place) and fetch(settings, place, file, target, first=number == 0) == 0:
            remember()
            return 0
    return 1


if __name__ == "__main__":
    # Above 125 PostgreSQL would take the code for a reason to stop recovery; of what nobody foresaw Python makes a 1, and recovery asks again.
    try:
        sys.exit(main())
    except (OSError, ValueError, KeyError) as error:
        sys.exit("relevo-archive-get: %s" % error)
