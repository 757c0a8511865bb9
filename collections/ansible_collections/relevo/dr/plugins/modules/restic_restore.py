#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: restic_restore
short_description: Restore a set of a host's files into an empty directory, and prove it
description:
  - Takes the newest snapshot of the set, or the newest that was begun at or before I(until), from the first repository that has it and answers.
  - Refuses a directory that holds anything, one without the space, and the root directory. What a failed attempt wrote is removed before the next
    repository is tried.
  - Restic compares every restored file with the repository; after that this module counts entries and bytes, and compares the canaries with the
    digests that the host noted inside the snapshot.
  - The repository is only read. It may be another host's, when that host is gone.
options:
  repositories: {description: The repositories of the host whose files they are., type: list, elements: dict, required: true}
  source: {description: The host whose files they are., type: str, required: true}
  set: {description: Name of the set., type: str, required: true}
  tag: {description: The set's tag in the repository., type: str, required: true}
  target: {description: "The directory, empty or not there yet.", type: str, required: true}
  until: {description: "A time with an offset, ISO 8601; empty: the newest.", type: str, default: ""}
  state_directory: {description: Where relevo-files of that host noted the canaries., type: path, default: /var/lib/relevo}
  host_name: {description: Name of this host in sentences., type: str, required: true}
  answer_seconds: {description: Seconds for one answer of a store., type: float, default: 5}
  timeout: {description: Seconds for one command that lists., type: float, default: 120}
  restore_timeout: {description: Seconds for the restore., type: float, default: 21600}
  secrets: {description: Filled by the action plugin., type: dict, default: {}}
  secrets_directory: {description: Where they are on the controller., type: str}
attributes:
  check_mode: {support: full, description: Chooses the snapshot and judges the directory; restores nothing.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Restore the configuration of a host
  relevo.dr.restic_restore:
    repositories: "{{ dr_files_repositories | relevo.dr.file_repositories('a-app1') }}"
    source: a-app1
    set: configuration
    tag: relevo-configuration
    target: /var/restored
    host_name: "{{ inventory_hostname }}"
    secrets_directory: "{{ dr_secrets_directory }}"
"""

RETURN = r"""
snapshot: {description: "The snapshot: id, at (UTC), repository (id).", returned: always, type: dict}
restored: {description: "Entries, bytes, seconds, bytes_per_second, canaries.", returned: when it was restored, type: dict}
"""

import datetime
import json
import os
import stat
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils import clock, file_snapshots, restic, restored_tree, store_answer
from ansible_collections.relevo.dr.plugins.module_utils.file_snapshots import FAIL, PASS, UNKNOWN, Snapshot
from ansible_collections.relevo.dr.plugins.module_utils.milestone import told
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal, sentence
from ansible_collections.relevo.dr.plugins.module_utils.secret_password import opened

# Repositories are filled one after the other: within this time they have the same snapshot, and the first one serves.
SAME_SECONDS = 3600
PHASE = "RESTORE"


@dataclass(frozen=True)
class Candidate:
    """A snapshot that could be restored. stored: entries and bytes that restic says it holds."""

    repository: Mapping[str, Any]
    command: restic.Restic
    snapshot: Snapshot


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "repositories": {"type": "list", "elements": "dict", "required": True},
            "source": {"type": "str", "required": True},
            "set": {"type": "str", "required": True},
            "tag": {"type": "str", "required": True},
            "target": {"type": "str", "required": True},
            "until": {"type": "str", "default": ""},
            "state_directory": {"type": "path", "default": "/var/lib/relevo"},
            "host_name": {"type": "str", "required": True},
            "answer_seconds": {"type": "float", "default": 5},
            "timeout": {"type": "float", "default": 120},
            "restore_timeout": {"type": "float", "default": 21600},
            "secrets": {"type": "dict", "default": {}, "no_log": True},
            "secrets_directory": {"type": "str"},
        },
        supports_check_mode=True,
    )
    gates: list[dict[str, Any]] = []
    try:
        restored_tree.judge(module.params["target"], module.params["host_name"])
        with ExitStack() as stack:
            restore(module, candidates(module, stack, gates), gates)
    except Refusal as refusal:
        module.fail_json(msg=str(refusal), **told(gates=[*gates, refusal.gate], refused=True))


def candidates(module: AnsibleModule, stack: ExitStack, gates: list[dict[str, Any]]) -> list[Candidate]:
    """What every repository that answers would give, the one to take first. Raises Refusal when none has it."""
    p = module.params
    until = moment(p["until"], p["host_name"])
    found = []
    for repository in p["repositories"]:
        try:
            store_answer.ask(repository["endpoint"], repository["port"], repository.get("ca_file"), p["answer_seconds"])
            command = stack.enter_context(opened(repository, p["secrets"], None, p["timeout"]))
            listed = file_snapshots.read(json.loads(command.run("snapshots", "--json", "--no-lock")) or [])
        except (store_answer.StoreSilentError, store_answer.StoreUntrustedError) as error:
            gates.append(file_snapshots.unreadable(p["host_name"], repository["place"], str(error), "bring the store back"))
            continue
        except restic.ResticError as error:
            gates.append(file_snapshots.unreadable(p["host_name"], repository["place"], error.observed, error.next_action))
            continue
        chosen = file_snapshots.chosen(file_snapshots.of_set(listed, p["source"], p["tag"]), until)
        found += [Candidate(repository, command, chosen)] if chosen else []
    if not found:
        silent = "; ".join("%s: %s" % (gate["host"], gate["observed"]) for gate in gates)
        raise Refusal(
            "FILESSNAPSHOT",
            p["host_name"],
            "no snapshot of set %s of %s%s%s"
            % (p["set"], p["source"], " at or before %s" % p["until"] if p["until"] else "", "; %s" % silent if silent else ""),
            "one in a repository that answers",
            "choose another set, host or time; relevo run verify_backup shows what there is",
        )
    newest = max(candidate.snapshot.at for candidate in found)
    return [one for one in found if newest - one.snapshot.at <= SAME_SECONDS] + [
        one for one in found if newest - one.snapshot.at > SAME_SECONDS
    ]


def moment(text: str, host: str) -> Optional[float]:
    """Epoch seconds. Raises Refusal for a time without an offset."""
    if not text:
        return None
    try:
        return clock.parse_utc(text).timestamp()
    except ValueError:
        raise Refusal(
            "INPUT", host, "dr_files_time is %r" % text, "ISO 8601 with an offset, such as 2026-11-24T03:12:00Z", "correct it"
        ) from None


def restore(module: AnsibleModule, found: list[Candidate], gates: list[dict[str, Any]]) -> None:
    """The first candidate that can be restored whole."""
    p = module.params
    for candidate in found:
        about = {
            "id": candidate.snapshot.id,
            "at": clock.utc(datetime.datetime.fromtimestamp(candidate.snapshot.at, datetime.timezone.utc)),
            "repository": candidate.repository["id"],
        }
        try:
            stored = size(candidate)
            need_space(p, stored)
            if module.check_mode:
                module.exit_json(changed=True, snapshot=about, **told(gates=gates))
            began = time.monotonic()
            write(p, candidate)
        except restic.ResticError as error:
            if os.path.isdir(p["target"]):
                restored_tree.empty(p["target"])
            gates.append(
                file_snapshots.unreadable(p["host_name"], candidate.repository["place"], error.observed, error.next_action, FAIL)
            )
            continue
        took = time.monotonic() - began
        proofs, restored = prove(p, candidate, stored, took)
        age = time.time() - candidate.snapshot.at
        measures = {"files": {p["source"]: {"restored": {p["set"]: {**about, **restored, "age_seconds": round(age, 3)}}}}}
        said = [*gates, *proofs]
        wrong = [gate for gate in proofs if gate["verdict"] == FAIL]
        if wrong:
            module.fail_json(
                msg="\n".join(
                    sentence(one["id"], one["host"], one["observed"], one["expected"], one["next_action"]) for one in wrong
                ),
                **told(gates=said, measures=measures),
            )
        module.exit_json(changed=True, snapshot=about, restored=restored, **told(gates=said, measures=measures))
    module.fail_json(
        msg="\n".join(sentence(one["id"], one["host"], one["observed"], one["expected"], one["next_action"]) for one in gates),
        **told(gates=gates),
    )


def size(candidate: Candidate) -> restored_tree.Counted:
    """What the snapshot holds, by walking its trees in the repository."""
    text = candidate.command.run("stats", "--json", "--no-lock", "--mode=restore-size", candidate.snapshot.id, timeout=1800)
    about = json.loads(text)
    return restored_tree.Counted(int(about["total_file_count"]), int(about["total_size"]))


def need_space(p: Mapping[str, Any], stored: restored_tree.Counted) -> None:
    # Small files take whole blocks.
    needed = stored.size + 4096 * stored.entries
    free = restored_tree.free_bytes(p["target"])
    if free < needed:
        raise Refusal(
            restored_tree.CHECK,
            p["host_name"],
            "%d bytes are free where %s is" % (free, p["target"]),
            "%d bytes" % needed,
            "free space, or choose a target on another disk",
        )


def write(p: Mapping[str, Any], candidate: Candidate) -> None:
    """Raises ResticError; restic reads every file again and compares it."""
    os.makedirs(p["target"], mode=0o700, exist_ok=True)
    candidate.command.run(
        "restore", "--no-lock", "--verify", "--target=%s" % p["target"], candidate.snapshot.id, timeout=p["restore_timeout"]
    )
    # The snapshot of a whole system has no entry for the root itself, and a root that only root may enter boots nothing: as /usr is.
    if all(os.path.isdir(os.path.join(p["target"], name)) for name in ("usr", "proc")):
        os.chmod(p["target"], stat.S_IMODE(os.stat(os.path.join(p["target"], "usr")).st_mode))


def prove(
    p: Mapping[str, Any], candidate: Candidate, stored: restored_tree.Counted, took: float
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """FILESRESTORED and FILESCANARY, and the measures."""
    host, target, place = p["host_name"], p["target"], candidate.repository["place"]
    counted = restored_tree.count(target)
    same = counted == stored
    gates = [
        file_snapshots.gate(
            "FILESRESTORED",
            "Everything of the snapshot is there",
            host,
            place,
            p["set"],
            PASS if same else FAIL,
            "%s: %d entries, %d bytes" % (candidate.snapshot.short, counted.entries, counted.size),
            "%d entries, %d bytes" % (stored.entries, stored.size),
            "restore again into another directory, and verify the repository",
        )
    ]
    noted = restored_tree.manifest(target, p["state_directory"], p["set"])
    digests = (noted or {}).get("files") or {}
    compared = sorted(path for path, digest in digests.items() if digest is not None)
    wrong = restored_tree.differing(target, digests)
    foreign = noted is not None and (noted.get("host"), noted.get("set")) != (p["source"], p["set"])
    observed = (
        "no digests in the snapshot"
        if noted is None
        else "digests of %s" % noted.get("host")
        if foreign
        else "%s differ" % ", ".join(wrong)
        if wrong
        else "%d equal: %s" % (len(compared), ", ".join(compared))
    )
    gates.append(
        file_snapshots.gate(
            "FILESCANARY",
            "The declared files are what the host saw",
            host,
            place,
            p["set"],
            UNKNOWN if noted is None or not compared else FAIL if foreign or wrong else PASS,
            observed,
            "the digests that %s noted before the snapshot" % p["source"],
            "declare canaries of the set that do not change by themselves; take a new snapshot",
        )
    )
    gates = [{**gate, "phase": PHASE} for gate in gates]
    restored = {
        "entries": counted.entries,
        "bytes": counted.size,
        "seconds": round(took, 3),
        "bytes_per_second": round(counted.size / took) if took > 0 else None,
        "canaries": compared,
    }
    return gates, restored


if __name__ == "__main__":
    main()
