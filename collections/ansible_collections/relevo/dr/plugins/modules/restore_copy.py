#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: restore_copy
short_description: Restore one backup into the sandbox
description:
  - >-
    The first rungs of the proof: the backup exists with its WAL, its files have their checksums, it restores. What it finds is a gate each; a rung that does
    not hold fails no task, so that the next backup is tried all the same.
  - >-
    A copy of ours is stopped and replaced, or, with I(delta), brought to this backup by the files that differ. What a killed restore left is recognised by
    its mark.
  - Nothing that is restored here ever archives.
options:
  test: {description: One element of what M(relevo.dr.restore_plan) returned., type: dict, required: true}
  config: {description: pgBackRest's configuration file on the sandbox., type: path, required: true}
  stanza: {description: The stanza., type: str, required: true}
  directory: {description: Where copies go., type: path, required: true}
  owner: {description: Operating system user of the copies., type: str, default: postgres}
  run_id: {description: The run; kept in the mark., type: str, required: true}
  delta: {description: Use what is there of an earlier restore., type: bool, default: true}
  host_name: {description: Name of this host in sentences., type: str, required: true}
  wait_timeout: {description: Seconds to wait for a task that a killed run left., type: float, default: 60}
  restore_timeout: {description: Seconds that checksums and restore may take each., type: float, default: 86400}
attributes:
  check_mode: {support: full, description: Does nothing.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Restore it
  relevo.dr.restore_copy:
    test: "{{ __dr_backup_plan['tests'][0] }}"
    config: /etc/pgbackrest/relevo-sandbox.conf
    stanza: minimarket
    directory: /var/lib/postgresql/relevo-restore
    run_id: 20261124T121530Z-restore_test-1f3a
    host_name: b-scratch
"""

RETURN = r"""
copy: {description: "Rungs, bytes and seconds; an input of M(relevo.dr.restore_prove).", returned: success, type: dict}
"""

import os
import re
import shlex
import shutil
import time
from collections.abc import Mapping
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils import pgbackrest, sandbox
from ansible_collections.relevo.dr.plugins.module_utils.milestone import Milestone, told
from ansible_collections.relevo.dr.plugins.module_utils.pgbackrest import Pgbackrest, PgbackrestError
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal
from ansible_collections.relevo.dr.plugins.module_utils.restore_ladder import RESTORE, Ladder, RungFailed, RungSkipped
from ansible_collections.relevo.dr.plugins.module_utils.restore_target import END, LSN, TIME

# From this release on ``verify`` checks one backup.
VERIFIES_A_SET = (2, 55)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "test": {"type": "dict", "required": True},
            "config": {"type": "path", "required": True},
            "stanza": {"type": "str", "required": True},
            "directory": {"type": "path", "required": True},
            "owner": {"type": "str", "default": "postgres"},
            "run_id": {"type": "str", "required": True},
            "delta": {"type": "bool", "default": True},
            "host_name": {"type": "str", "required": True},
            "wait_timeout": {"type": "float", "default": 60},
            "restore_timeout": {"type": "float", "default": 86400},
        },
        supports_check_mode=True,
    )
    p = module.params
    test = p["test"]
    number = int(test["number"])
    suffix = "" if number == 1 else " %d" % number
    milestone = Milestone(RESTORE + suffix, p["host_name"])
    if module.check_mode:
        module.exit_json(changed=False, copy={}, **told(phases=[milestone.ended("skipped", "check mode restores nothing")]))
    copy = Copy(p)
    try:
        with sandbox.held(copy.place, p["run_id"], p["wait_timeout"]):
            copy.climb()
    except Refusal as refusal:
        module.fail_json(msg=str(refusal), **told(gates=[refusal.gate], refused=True))
    except (OSError, PgbackrestError) as error:
        module.fail_json(
            msg="%s: restoring %s failed: %s. Next: mend that, then run the test again: it goes on with what is there"
            % (p["host_name"], test["label"], error)
        )
    what = "%s in repository %s" % (test["label"], test["repository"])
    outcome, detail = copy.ladder.outcome(RESTORE)
    module.exit_json(
        changed=True,
        copy=copy.told(),
        **told(
            gates=copy.ladder.gates(p["host_name"], what, suffix, RESTORE),
            phases=[milestone.ended(outcome, "%s: %s" % (what, detail))],
            versions={"pgbackrest": ".".join(str(part) for part in copy.version)},
        ),
    )


class Copy:
    """One restore."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._p, self._test = parameters, parameters["test"]
        self.place = sandbox.Place(parameters["directory"], parameters["owner"])
        self.ladder = Ladder()
        self.version = pgbackrest.version()
        self._command = Pgbackrest(
            parameters["config"], parameters["stanza"], parameters["owner"], io_timeout=60, timeout=parameters["restore_timeout"]
        )
        self._repository = "--repo=%d" % int(self._test["repository"])
        self._failure: Optional[RungFailed] = None
        self._done = False
        self.delta = False
        self.seconds: Optional[float] = None
        self.bytes: Optional[int] = None

    def climb(self) -> None:
        """The rungs R1 to R3."""
        self._check_place()
        sandbox.stop_servers(self.place)
        sandbox.write_mark(self.place, self._p["run_id"], "restoring", label=self._test["label"])
        self.ladder.climb("R1", self._exists)
        self.ladder.climb("R2", self._checksums if self.version >= VERIFIES_A_SET else self._checksums_by_restoring)
        self.ladder.climb("R3", self._restores)
        sandbox.write_mark(self.place, self._p["run_id"], "failed" if self.ladder.broken else "restored", label=self._test["label"])

    def told(self) -> dict[str, Any]:
        """For the next step."""
        return {
            "rungs": self.ladder.told(),
            "restored_bytes": self.bytes,
            "restore_seconds": self.seconds,
            "delta": self.delta,
        }

    def _check_place(self) -> None:
        """Once more, just before anything is written there."""
        if sandbox.kind(self.place) == "foreign":
            raise Refusal(
                "SANDBOX",
                self._p["host_name"],
                "%s is not empty and not ours" % self.place.base,
                "an empty directory",
                "choose another dr_backup_sandbox_directory",
            )

    def _exists(self) -> str:
        test = self._test
        try:
            files = self._command.run("repo-ls", self._repository, "backup/%s/%s" % (self._p["stanza"], test["label"])).split()
        except PgbackrestError as error:
            raise RungFailed(error.observed, error.next_action) from None
        if "backup.manifest" not in files:
            raise RungFailed("backup %s has no manifest" % test["label"], "take a new full backup; look who deleted it")
        if test["missing"] and test["kind"] != TIME:
            raise RungFailed(
                "WAL is missing: %s" % ", ".join(test["missing"]),
                "take a new backup: the window begins anew there; look who deleted it",
            )
        after = ", missing perhaps after the target: %s" % ", ".join(test["missing"]) if test["missing"] else ""
        return "its manifest, and WAL of up to %d segments from its beginning on%s" % (test["segments"], after)

    def _checksums(self) -> str:
        """By pgBackRest's verify, which ends well whatever it finds: its words count."""
        label = self._test["label"]
        try:
            said = self._command.run("verify", self._repository, "--set=%s" % label, "--output=text", "--verbose")
        except PgbackrestError as error:
            raise RungFailed(error.observed, error.next_action) from None
        valid = re.search(
            r"backup: %s, status: valid, total files checked: (\d+), total valid files: \1\b" % re.escape(label), said
        )
        damaged = [line.strip() for line in said.splitlines() if re.search(r"(?:missing|invalid|other): [1-9]", line)]
        if not valid or damaged or "status: ok" not in said:
            found = "; ".join(damaged) or " ".join(said.split())[:300] or "verify said nothing"
            raise RungFailed(
                "verify of %s: %s" % (label, found), "restore from another backup or repository; take a new full backup"
            )
        self._no_page_errors()
        return "%s files and their WAL have the checksums of the manifest" % valid.group(1)

    def _no_page_errors(self) -> None:
        if self._test["damaged"]:
            raise RungFailed(
                "the backup is flagged: page checksums did not match when it was taken",
                "run pg_amcheck on the primary and restore the damaged relations from an older backup",
            )

    def _checksums_by_restoring(self) -> str:
        """An older pgBackRest compares each file while it restores all of them."""
        try:
            self._restore(delta=False)
        except RungFailed as failed:
            self._failure = failed
            if re.search("checksum|corrupt", failed.observed, re.IGNORECASE):
                raise
            raise RungSkipped("not all files were read: %s" % failed.observed, failed.next_action) from None
        self._no_page_errors()
        return "every file had the manifest's checksum while it was restored"

    def _restores(self) -> str:
        if self._failure:
            raise self._failure
        if not self._done:
            self._restore(delta=bool(self._p["delta"]))
        for name in ("PG_VERSION", "global/pg_control", "recovery.signal"):
            if not os.path.exists(os.path.join(self.place.data, name)):
                raise RungFailed("%s is missing in the copy" % name)
        rate = "" if self.delta else ", %.1f MB/s" % ((self.bytes or 0) / max(self.seconds or 0.0, 0.001) / 1e6)
        return "%d bytes in %.1f s%s%s" % (
            self.bytes or 0,
            self.seconds or 0.0,
            rate,
            " (what differed from the copy before)" if self.delta else "",
        )

    def _restore(self, *, delta: bool) -> None:
        test, place = self._test, self.place
        known = [name for name in ("PG_VERSION", "backup.manifest") if os.path.exists(os.path.join(place.data, name))]
        # pgBackRest goes on only with a directory in which it finds one of these; anything less is quicker to do again.
        self.delta = delta and bool(known)
        if not self.delta:
            _empty(place)
        sandbox.prepare(place)
        get = "/usr/bin/pgbackrest --config=%s --stanza=%s --pg1-path=%s %s --no-archive-async --log-level-file=off archive-get" % (
            shlex.quote(self._p["config"]),
            shlex.quote(self._p["stanza"]),
            shlex.quote(place.data),
            self._repository,
        )
        options = [
            "--pg1-path=%s" % place.data,
            self._repository,
            "--set=%s" % test["label"],
            "--tablespace-map-all=%s" % place.tablespaces,
            "--archive-mode=off",
            "--target-timeline=%s" % test["target_timeline"],
            '--recovery-option=restore_command=%s %%f "%%p"' % get.replace("%", "%%"),
        ]
        if test["kind"] == END:
            options.append("--type=default")
        else:
            options += ["--type=%s" % test["kind"], "--target=%s" % test["value"], "--target-action=pause"]
        if test["kind"] == LSN:
            # What begins at the LSN is not wanted any more: a position is read as "all that was written by then".
            options.append("--target-exclusive")
        began = time.monotonic()
        try:
            self._command.run("restore", *options, *(["--delta"] if self.delta else []))
        except PgbackrestError as error:
            raise RungFailed(error.observed, error.next_action) from None
        self.seconds = round(time.monotonic() - began, 3)
        self.bytes = sandbox.size(place.data) + sandbox.size(place.tablespaces)
        self._done = True


def _empty(place: sandbox.Place) -> None:
    """Only below our own mark."""
    if sandbox.read_mark(place) and os.path.isdir(place.copy):
        shutil.rmtree(place.copy)


if __name__ == "__main__":
    main()
