#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: restore_clean
short_description: Stop and remove the copies of a restore test, and say how it went
description:
  - Removes what restore tests left below I(directory), or, with I(keep), leaves it stopped and labelled; the next test removes it.
  - >-
    Then fails when a rung of I(tests) did not hold, or when repositories that were restored to the same target came to different points (the gate C(ALIKE)),
    with a sentence for each.
options:
  directory: {description: Where copies go., type: path, required: true}
  owner: {description: Operating system user of the copies., type: str, default: postgres}
  keep: {description: Leave the last copy for people to look at., type: bool, default: false}
  tests: {description: What M(relevo.dr.restore_prove) returned., type: list, elements: dict, default: []}
  run_id: {description: The run; kept in the mark., type: str, required: true}
  host_name: {description: Name of this host in sentences., type: str, required: true}
  wait_timeout: {description: Seconds to wait for a task that a killed run left., type: float, default: 60}
attributes:
  check_mode: {support: full, description: Removes nothing.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Clean up
  relevo.dr.restore_clean:
    directory: /var/lib/postgresql/relevo-restore
    run_id: 20261124T121530Z-restore_test-1f3a
    host_name: b-scratch
"""

RETURN = r"""
removed: {description: Whether the directory is gone., returned: always, type: bool}
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils import restore_alike, sandbox
from ansible_collections.relevo.dr.plugins.module_utils.milestone import told
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "owner": {"type": "str", "default": "postgres"},
            "keep": {"type": "bool", "default": False},
            "tests": {"type": "list", "elements": "dict", "default": []},
            "run_id": {"type": "str", "required": True},
            "host_name": {"type": "str", "required": True},
            "wait_timeout": {"type": "float", "default": 60},
        },
        supports_check_mode=True,
    )
    p = module.params
    place = sandbox.Place(p["directory"], p["owner"])
    there = os.path.isdir(place.base)
    if module.check_mode or not there:
        module.exit_json(changed=False, removed=not there)
    observed, verdict = "removed", "pass"
    try:
        with sandbox.held(place, p["run_id"], p["wait_timeout"]):
            sandbox.stop_servers(place)
            if p["keep"]:
                sandbox.write_mark(place, p["run_id"], "left")
                observed = "left in %s, stopped and labelled" % place.base
            else:
                sandbox.clean(place)
    except Refusal as refusal:
        observed, verdict = str(refusal), "unknown"
    except OSError as error:
        observed, verdict = "a part is left in %s: %s" % (place.base, error), "unknown"
    gate = {
        "id": "CLEAN",
        "title": "nothing of production is left on the sandbox",
        "phase": "CLEAN",
        "host": p["host_name"],
        "observed": observed,
        "expected": "removed, or left on purpose and labelled",
        "verdict": verdict,
        "next_action": "" if verdict == "pass" else "the next restore test removes it; or remove %s by hand" % place.base,
    }
    alike = restore_alike.gates(p["tests"], p["host_name"])
    result = {"changed": True, "removed": not os.path.isdir(place.base), **told(gates=[*alike, gate])}
    broken = [
        "%s in repository %s to %s: %s (%s): %s. Next: %s"
        % (test["label"], test["repository"], test["target"], rung["id"], rung["name"], rung["evidence"], rung["next_action"])
        for test in p["tests"]
        for rung in test["rungs"]
        if rung["verdict"] == "fail"
    ]
    broken += [
        "%(id)s (%(title)s): %(observed)s. Next: %(next_action)s" % compared for compared in alike if compared["verdict"] == "fail"
    ]
    if broken:
        module.fail_json(msg="Not proven.\n%s" % "\n".join(broken), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
