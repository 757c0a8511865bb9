#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: restic_backup
short_description: Take snapshots of sets of this host's files now, by the service that takes them every night
options:
  sets: {description: "Names of sets; those that this host has nothing of are passed over. Empty: all.", type: list, elements: str, default: []}
  only_first: {description: Only where the record has no snapshot of the set in every repository yet., type: bool, default: false}
  host_name: {description: Name of this host in sentences., type: str, required: true}
  timeout: {description: Seconds for each set., type: float, default: 43200}
attributes:
  check_mode: {support: full, description: Stops after the plan.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Keep the configuration now
  relevo.dr.restic_backup:
    sets: [configuration]
    host_name: "{{ inventory_hostname }}"
"""

RETURN = r"""
changes: {description: "What was missing (item, current, wanted).", returned: always, type: list, elements: dict}
attempts: {description: "The lines of the record that this task caused, of each set and repository.", returned: always, type: list, elements: dict}
"""

import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils import clock, file_record, restic, systemd_units
from ansible_collections.relevo.dr.plugins.module_utils.change import Change, shown
from ansible_collections.relevo.dr.plugins.module_utils.milestone import told
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal

MEASURED = ("outcome", "snapshot", "files", "bytes", "added_bytes", "seconds")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "sets": {"type": "list", "elements": "str", "default": []},
            "only_first": {"type": "bool", "default": False},
            "host_name": {"type": "str", "required": True},
            "timeout": {"type": "float", "default": 43200},
        },
        supports_check_mode=True,
    )
    try:
        take(module)
    except Refusal as refusal:
        module.fail_json(msg=str(refusal), **told(gates=[refusal.gate], refused=True))


def take(module: AnsibleModule) -> None:
    p, host = module.params, module.params["host_name"]
    if module.check_mode and not os.path.exists(file_record.SETTINGS):
        # Setting up comes first, and in check mode it has not been done.
        changes = [Change("snapshot of set %s" % name, "none", "taken") for name in p["sets"]]
        module.exit_json(changed=bool(changes), changes=shown(changes), attempts=[])
    settings = file_record.read_settings(host)
    known = list(settings["sets"])
    names = [name for name in p["sets"] or known if name in known]
    if p["only_first"]:
        names = [name for name in names if missing(settings, name)]
    changes = [Change("snapshot of set %s" % name, "none" if p["only_first"] else "older", "taken") for name in names]
    if module.check_mode or not names:
        module.exit_json(changed=bool(names), changes=shown(changes), attempts=[])
    attempts: list[Mapping[str, Any]] = []
    for name in names:
        attempts += run(settings, host, name, p["timeout"])
    gates = [gate(host, settings, line) for line in attempts]
    measures = {"files": {host: by_set(attempts)}}
    failed = [found for found in gates if found["verdict"] == "fail"]
    if failed:
        said = "; ".join("%s: %s" % (found["host"], found["observed"]) for found in failed)
        module.fail_json(
            msg="%s. Next: %s" % (said, failed[0]["next_action"]), attempts=attempts, **told(gates=gates, measures=measures)
        )
    module.exit_json(changed=True, changes=shown(changes), attempts=attempts, **told(gates=gates, measures=measures))


def missing(settings: Mapping[str, Any], name: str) -> bool:
    """Whether a repository has no whole snapshot of the set yet, by the record of this host."""
    taken = {line.get("repository") for line in file_record.attempts(settings) if line.get("set") == name and line.get("snapshot")}
    return any(repository["id"] not in taken for repository in settings["repositories"])


def run(settings: Mapping[str, Any], host: str, name: str, limit: float) -> list[Mapping[str, Any]]:
    """The service's attempts; one that left no line did not get as far."""
    since = clock.utc_now()
    unit = "relevo-files@%s.service" % name
    try:
        # Waits for its end; one that is at work already is waited for.
        done = systemd_units.run("systemctl", "start", "--", unit, timeout=limit)
        said = "" if done.returncode == 0 else systemd_units.run("journalctl", "-qb", "-n3", "-ocat", "-u", unit).stdout
    except subprocess.TimeoutExpired:
        said = "no end within %g s; it goes on by itself" % limit
    found = file_record.of_run(file_record.attempts(settings), name, since)
    whole = [line for line in found if line.get("repository") is not None]
    seen = {line["repository"] for line in whole}
    reason = next((str(line.get("reason")) for line in found if line.get("repository") is None), said.strip() or "not attempted")
    unseen = [repository["id"] for repository in settings["repositories"] if repository["id"] not in seen]
    return [*whole, *({"set": name, "repository": key, "outcome": "failed", "reason": reason[-300:]} for key in unseen)]


def gate(host: str, settings: Mapping[str, Any], line: Mapping[str, Any]) -> dict[str, Any]:
    """FILES: one attempt. A store that does not answer is unknown: the other one may have its snapshot."""
    place = next(repository["place"] for repository in settings["repositories"] if repository["id"] == line["repository"])
    outcome = str(line["outcome"])
    reason = str(line.get("reason") or "")
    meaning = restic.explained(reason) if reason else None
    observed = outcome + (": %s" % (meaning.observed if meaning else "") if reason else "")
    if line.get("snapshot"):
        observed += ", %s, %s files, %s bytes" % (str(line["snapshot"])[:8], line.get("files"), line.get("bytes"))
    if line.get("forget_reason"):
        observed += "; older ones stay: %s" % line["forget_reason"]
    verdicts = {"taken": "pass", "unreachable": "unknown"}
    return {
        "id": "FILES",
        "title": "Snapshot of set %s" % line["set"],
        "phase": "BACKUP",
        "host": "%s, %s, set %s" % (host, place, line["set"]),
        "observed": observed,
        "expected": "a whole snapshot",
        "verdict": verdicts.get(outcome, "fail"),
        "next_action": meaning.next_action if meaning else "",
    }


def by_set(attempts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for line in attempts:
        found.setdefault(str(line["set"]), {})[str(line["repository"])] = {name: line.get(name) for name in MEASURED}
    return found


if __name__ == "__main__":
    main()
