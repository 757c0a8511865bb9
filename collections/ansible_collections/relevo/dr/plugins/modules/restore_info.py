#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: restore_info
short_description: What a database host could restore from the repositories that answer it
description:
  - >-
    Asks the repositories of this host's own pgBackRest configuration which backup leads to the target, as M(relevo.dr.restore_plan) does for a sandbox.
    One that takes no connection is passed over; of several the one whose archive reaches furthest is taken.
  - Says as well what is in the place of the data, and whether there is a configuration. Changes nothing; what cannot be restored is an answer, not a failure.
options:
  config: {description: pgBackRest's configuration file., type: path, default: /etc/pgbackrest/pgbackrest.conf}
  stanza: {description: The stanza., type: str, required: true}
  cluster_version: {description: Major release of this host's programs., type: str, required: true}
  data_directory: {description: PGDATA., type: path, required: true}
  config_directory: {description: Directory of postgresql.conf., type: path, required: true}
  bin_directory: {description: Directory of pg_waldump and initdb., type: path, required: true}
  owner: {description: Operating system user of the cluster., type: str, default: postgres}
  words: {description: "What is asked for, of time, lsn, name, set, timeline, repository.", type: dict, default: {}}
  scan_segments: {description: How many segments are searched for a restore point at most., type: int, default: 4096}
  io_timeout: {description: Seconds for one answer of a store., type: float, default: 5}
  timeout: {description: Seconds for one command of pgBackRest., type: float, default: 60}
attributes:
  check_mode: {support: full, description: Only reads.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: See what could be restored here
  relevo.dr.restore_info:
    stanza: minimarket
    cluster_version: "17"
    data_directory: /var/lib/postgresql/17/main
    config_directory: /etc/postgresql/17/main
    bin_directory: /usr/lib/postgresql/17/bin
    words: {time: 2026-11-24T03:12:00Z}
"""

RETURN = r"""
restore:
  description: >-
    choice (what M(relevo.dr.standby_restore) restores, null when nothing can be), refusal (observed, expected, next_action), window, data (absent, empty,
    cluster, partial), configuration.
  returned: always
  type: dict
"""

import datetime
import os
import pwd
import shutil
import tempfile
from collections.abc import Mapping
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils import clock, repositories, restore_choice, restore_target
from ansible_collections.relevo.dr.plugins.module_utils.archive_reader import Content
from ansible_collections.relevo.dr.plugins.module_utils.cluster_facts import free_bytes
from ansible_collections.relevo.dr.plugins.module_utils.pgbackrest import PgbackrestError
from ansible_collections.relevo.dr.plugins.module_utils.postgresql import PostgresqlError, lsn_bytes
from ansible_collections.relevo.dr.plugins.module_utils.restore_target import END, LATEST, TIME, NotRestorable, Target
from ansible_collections.relevo.dr.plugins.module_utils.standby_steps import directory_bytes, kind


class Look:
    """What the repositories say, also where nothing can be chosen from them."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._p, self._words = parameters, parameters["words"]
        self.window: list[str] = []
        self._refused: Optional[NotRestorable] = None
        self._failed: Optional[PgbackrestError] = None

    def choice(self) -> dict[str, Any]:
        """What is restored. Raises NotRestorable, PgbackrestError or PostgresqlError."""
        words, target = self._words, Target()
        # Words that nobody could mean are refused too, but with the window beside them.
        mistake: Optional[NotRestorable] = None
        try:
            restore_target.check_words(words.get("set", LATEST), words.get("timeline", ""), words.get("repository", ""))
            target = restore_target.parse_target(words.get("time", ""), words.get("lsn", ""), words.get("name", ""))
        except NotRestorable as reason:
            mistake, self._words = reason, {}
        scratch = tempfile.mkdtemp(prefix="relevo-restore-info-", dir="/var/tmp")
        try:
            account = pwd.getpwnam(self._p["owner"])
            os.chown(scratch, account.pw_uid, account.pw_gid)
            found = [one for place in self._places() for one in self._from(place, scratch, target)]
        finally:
            shutil.rmtree(scratch)
        if mistake:
            raise mistake
        if not found:
            raise (
                self._refused
                or self._failed
                or PgbackrestError("no repository of this host takes a connection", "bring a store back")
            )
        return max(found, key=lambda one: lsn_bytes(one["end_lsn"]))

    def _places(self) -> list[repositories.Place]:
        configured, wanted = repositories.configured(self._p["config"]), self._words.get("repository", "")
        named = [place for place in configured if wanted in ("", str(place.id))]
        if not named:
            known = ", ".join(str(place.id) for place in configured)
            raise NotRestorable(
                "there is no repository %s on this host" % wanted, "one of %s" % known, "correct dr_restore_repository"
            )
        answers = repositories.ask_each(named, repositories.takes_connections)
        return [place for place in named if answers[place.id]]

    def _from(self, place: repositories.Place, scratch: str, target: Target) -> list[dict[str, Any]]:
        """One choice or none; why there is none is kept."""
        try:
            content = restore_choice.read(self._p, place.id, scratch, target, str(self._words.get("set", LATEST)))
            self.window.append(restore_target.window(content.archive))
            return [self._described(content, target)]
        except NotRestorable as reason:
            self._refused = self._refused or reason
        except PgbackrestError as error:
            self._failed = self._failed or error
        return []

    def _described(self, content: Content, target: Target) -> dict[str, Any]:
        now = datetime.datetime.now(datetime.timezone.utc)
        restore_choice.check_release(content, self._p["cluster_version"], "this host")
        words = self._words
        [chosen] = restore_target.choose(content.archive, target, words.get("set", LATEST), words.get("timeline", ""), now)
        found = restore_choice.described(content, chosen)
        # How far a time is on the way is not known before it is replayed.
        if found["missing"] and target.kind != TIME:
            raise NotRestorable(
                "WAL is missing on the way from backup %s: %s" % (found["label"], ", ".join(found["missing"])),
                "every segment of it",
                "restore to a point before the hole (dr_restore_target_time), or from another repository",
            )
        if found["damaged"]:
            raise NotRestorable(
                "backup %s is flagged: page checksums did not match when it was taken" % found["label"],
                "a backup without errors",
                "name an older one with dr_restore_set",
            )
        moment = found["end_commit_at"] or found["backup_stopped_at"]
        at = {END: clock.parse_utc(moment), TIME: target.moment}.get(target.kind)
        return {
            **found,
            "segment_bytes": content.segment_bytes,
            "tails": {str(timeline): restore_target.lsn_text(tail.position) for timeline, tail in content.archive.tails.items()},
            # How old the newest commit is that will be there; None where only the restore itself can tell.
            "committed_age_seconds": round((now - at).total_seconds(), 3) if at else None,
        }


def looked(p: Mapping[str, Any]) -> dict[str, Any]:
    """See RETURN."""
    look, data = Look(p), str(p["data_directory"])
    said: dict[str, Any] = {
        "choice": None,
        "refusal": None,
        "data": kind(data),
        "configuration": os.path.exists(os.path.join(p["config_directory"], "postgresql.conf"))
        and os.path.isdir(os.path.join(p["config_directory"], "conf.d")),
        "room_bytes": _room(data),
    }
    try:
        said["choice"] = look.choice()
    except NotRestorable as reason:
        said["refusal"] = {"observed": reason.observed, "expected": reason.expected, "next_action": reason.next_action}
    except (PgbackrestError, PostgresqlError) as error:
        next_action = getattr(error, "next_action", "see why this host cannot read its repositories")
        said["refusal"] = {"observed": str(error), "expected": "a repository that can be read", "next_action": next_action}
    return {**said, "window": look.window}


def _room(data_directory: str) -> int:
    """What is free on the volume, with what is there now and would be replaced."""
    place = data_directory
    while not os.path.isdir(place):
        place = os.path.dirname(place)
    return (free_bytes(place) or 0) + (directory_bytes(data_directory) if os.path.isdir(data_directory) else 0)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "config": {"type": "path", "default": "/etc/pgbackrest/pgbackrest.conf"},
            "stanza": {"type": "str", "required": True},
            "cluster_version": {"type": "str", "required": True},
            "data_directory": {"type": "path", "required": True},
            "config_directory": {"type": "path", "required": True},
            "bin_directory": {"type": "path", "required": True},
            "owner": {"type": "str", "default": "postgres"},
            "words": {"type": "dict", "default": {}},
            "scan_segments": {"type": "int", "default": 4096},
            "io_timeout": {"type": "float", "default": 5},
            "timeout": {"type": "float", "default": 60},
        },
        supports_check_mode=True,
    )
    module.exit_json(changed=False, restore=looked(module.params))


if __name__ == "__main__":
    main()
