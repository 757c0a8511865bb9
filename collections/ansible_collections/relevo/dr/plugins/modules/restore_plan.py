#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: restore_plan
short_description: Which backups to restore, from which repository, along which timeline, to which point
description:
  - >-
    Reads the repositories, the histories of the timelines and the last WAL of each, and chooses the newest backup that ended before the target on the way to
    it; pgBackRest's own choice, which falls back silently, is not used.
  - >-
    A target that cannot be reached, or is not told clearly (two at once, no offset, malformed, in the future, after the end of the archive, before the oldest
    backup, on a timeline that was left), an unknown label and a disk that is too small are refused, with the restorable window. Changes nothing.
options:
  config: {description: pgBackRest's configuration file on the sandbox., type: path, required: true}
  stanza: {description: The stanza., type: str, required: true}
  repositories: {description: See the role dr_pgbackrest; ids and sentences., type: list, elements: dict, required: true}
  directory: {description: Where copies go., type: path, required: true}
  owner: {description: Operating system user of the copies., type: str, default: postgres}
  bin_directory: {description: Directory of PostgreSQL's programs., type: path, required: true}
  cluster_version: {description: Major release of the sandbox's programs., type: str, required: true}
  restore_set: {description: "V(latest), V(all) or a label.", type: str, default: latest}
  target_time: {description: ISO 8601 with an offset., type: str, default: ""}
  target_lsn: {description: X/X., type: str, default: ""}
  target_name: {description: Name of a restore point., type: str, default: ""}
  timeline: {description: "V(latest), V(current) or a number; empty is the latest, unless another could be meant.", type: str, default: ""}
  repository: {description: "A number, V(each), or empty for the first that answers.", type: str, default: ""}
  scan_segments: {description: How many segments are searched for a restore point at most., type: int, default: 4096}
  host_name: {description: Name of this host in sentences., type: str, required: true}
  io_timeout: {description: Seconds for one answer of a store., type: float, default: 5}
  timeout: {description: Seconds for one command of pgBackRest., type: float, default: 60}
attributes:
  check_mode: {support: full, description: Only reads.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Choose what to restore
  relevo.dr.restore_plan:
    config: /etc/pgbackrest/relevo-sandbox.conf
    stanza: minimarket
    repositories: "{{ dr_pgbackrest_repositories }}"
    directory: /var/lib/postgresql/relevo-restore
    bin_directory: /usr/lib/postgresql/17/bin
    cluster_version: "17"
    target_time: 2026-11-24T03:12:00Z
    host_name: b-scratch
"""

RETURN = r"""
tests: {description: "What to restore, in order; each is an input of M(relevo.dr.restore_copy).", returned: success, type: list, elements: dict}
window: {description: From when to when each repository restores., returned: success, type: list, elements: str}
"""

import datetime
import os
import pwd
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils import clock, restore_choice, restore_target, sandbox
from ansible_collections.relevo.dr.plugins.module_utils.archive_reader import Content
from ansible_collections.relevo.dr.plugins.module_utils.milestone import told
from ansible_collections.relevo.dr.plugins.module_utils.pgbackrest import PgbackrestError
from ansible_collections.relevo.dr.plugins.module_utils.postgresql import PostgresqlError
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal
from ansible_collections.relevo.dr.plugins.module_utils.restore_target import NotRestorable, Target
from ansible_collections.relevo.dr.plugins.module_utils.stanza import place as where

# Beside the data: WAL that is replayed, a checkpoint's work.
MARGIN_BYTES = 256 << 20


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "config": {"type": "path", "required": True},
            "stanza": {"type": "str", "required": True},
            "repositories": {"type": "list", "elements": "dict", "required": True},
            "directory": {"type": "path", "required": True},
            "owner": {"type": "str", "default": "postgres"},
            "bin_directory": {"type": "path", "required": True},
            "cluster_version": {"type": "str", "required": True},
            "restore_set": {"type": "str", "default": "latest"},
            "target_time": {"type": "str", "default": ""},
            "target_lsn": {"type": "str", "default": ""},
            "target_name": {"type": "str", "default": ""},
            "timeline": {"type": "str", "default": ""},
            "repository": {"type": "str", "default": ""},
            "scan_segments": {"type": "int", "default": 4096},
            "host_name": {"type": "str", "required": True},
            "io_timeout": {"type": "float", "default": 5},
            "timeout": {"type": "float", "default": 60},
        },
        supports_check_mode=True,
    )
    plan = Plan(module.params)
    try:
        tests = plan.make()
    except NotRestorable as reason:
        refusal = Refusal("TARGET", module.params["host_name"], reason.observed, reason.expected, reason.next_action)
        shown = " Restorable: %s." % ". ".join(plan.window) if plan.window else ""
        module.fail_json(
            msg=str(refusal) + "." + shown, **told(gates=[*plan.gates, refusal.gate], refused=True, measures=plan.measures())
        )
    except (PgbackrestError, PostgresqlError) as error:
        next_action = getattr(error, "next_action", "see why this host cannot read the repository")
        refusal = Refusal("REPOSITORY", module.params["host_name"], str(error), "a repository that can be read", next_action)
        module.fail_json(msg=str(refusal), **told(gates=[*plan.gates, refusal.gate], refused=True))
    module.exit_json(changed=False, tests=tests, window=plan.window, **told(gates=plan.gates, measures=plan.measures()))


class Plan:
    """What is chosen, and what was seen on the way, also when nothing can be."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._p = parameters
        self.window: list[str] = []
        self.gates: list[dict[str, Any]] = []
        self._contents: list[Content] = []

    def measures(self) -> dict[str, Any]:
        """For the record."""
        return {"restore_window": self.window or None}

    def make(self) -> list[dict[str, Any]]:
        """The tests, or NotRestorable."""
        p = self._p
        # Words that nobody could mean are refused too, but with the window beside them.
        mistake, target = None, Target()
        try:
            restore_target.check_words(p["restore_set"], p["timeline"], p["repository"])
            target = restore_target.parse_target(p["target_time"], p["target_lsn"], p["target_name"])
        except NotRestorable as reason:
            mistake = reason
        scratch = tempfile.mkdtemp(prefix="relevo-restore-plan-", dir="/var/tmp")
        try:
            account = pwd.getpwnam(p["owner"])
            os.chown(scratch, account.pw_uid, account.pw_gid)
            self._read(scratch, target, "" if mistake else p["repository"])
        finally:
            shutil.rmtree(scratch)
        self.window = [restore_target.window(content.archive) for content in self._contents]
        if mistake:
            raise mistake
        tests: list[dict[str, Any]] = []
        now = datetime.datetime.now(datetime.timezone.utc)
        for content in self._contents:
            choices = restore_target.choose(content.archive, target, p["restore_set"], p["timeline"], now)
            tests += [
                {"number": len(tests) + number, "read_at": clock.utc(now), **restore_choice.described(content, choice)}
                for number, choice in enumerate(choices, 1)
            ]
        self._check_room(tests)
        return tests

    def _read(self, scratch: str, target: Target, wanted: str) -> None:
        """The repositories that were asked for; of several that could serve, the first that answers."""
        p = self._p
        known = {int(repository["id"]): repository for repository in p["repositories"]}
        if wanted not in ("", "each") and int(wanted) not in known:
            raise NotRestorable(
                "there is no repository %s" % wanted,
                "one of %s" % ", ".join(map(str, sorted(known))),
                "correct dr_restore_repository",
            )
        failures: list[PgbackrestError] = []
        for key in sorted(known) if wanted in ("", "each") else [int(wanted)]:
            try:
                content = restore_choice.read(p, key, scratch, target, p["restore_set"])
            except PgbackrestError as error:
                failures.append(error)
                self.gates.append(self._repository_gate(known[key], error.observed, error.next_action, required=wanted == "each"))
                continue
            restore_choice.check_release(content, p["cluster_version"], "the sandbox")
            self.gates.append(self._repository_gate(known[key], "", "", required=True))
            self._contents.append(content)
            if wanted == "":
                break
        if not self._contents:
            raise failures[0]

    def _repository_gate(self, repository: Mapping[str, Any], error: str, next_action: str, *, required: bool) -> dict[str, Any]:
        return {
            "id": "REPO%d" % int(repository["id"]),
            "title": "repository %s answers" % repository["id"],
            "phase": "PREFLIGHT",
            "host": self._p["host_name"],
            "observed": error or where(repository),
            "expected": "backups and an archive that can be read",
            "verdict": "fail" if error else "pass",
            "required": required,
            "next_action": next_action,
        }

    def _check_room(self, tests: Sequence[Mapping[str, Any]]) -> None:
        place = sandbox.Place(self._p["directory"], self._p["owner"])
        free = sandbox.free_bytes(place) + (sandbox.size(place.copy) if sandbox.read_mark(place) else 0)
        needed = max(int(test["size"]) for test in tests) + MARGIN_BYTES
        if free < needed:
            raise NotRestorable(
                "%d MiB are free for %s" % (free >> 20, place.base),
                "%d MiB for the copy and its WAL" % (needed >> 20),
                "make room on the sandbox, or choose another dr_backup_sandbox_directory",
            )


if __name__ == "__main__":
    main()
