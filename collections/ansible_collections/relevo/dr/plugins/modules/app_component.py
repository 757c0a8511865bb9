#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: app_component
short_description: Read, stop, cut over or start again the components of an application on this host
description:
  - Plays one verb of the providers of all O(components), which stand side by side; their order among each other is what groups are for.
  - O(step=check) looks; it logs in to O(databases) as the application would, and says what would make a cutover fail.
  - O(step=quiesce) lets no write of them reach a database any more; with O(leaves=true) nor after a reboot.
  - O(step=cutover) lets them use O(address), and ends when each was seen to work, without a connection to O(old).
  - O(step=revert) lets them be as before O(step=quiesce), after a planned change of site that came to nothing.
  - The changing steps act only while this host's lock is held by the run.
options:
  step: {description: What to do., type: str, required: true, choices: [check, quiesce, cutover, revert]}
  run_id: {description: The run., type: str, default: ''}
  host: {description: Inventory name of this host., type: str, required: true}
  components: {description: "name, provider and the provider's settings of each; see docs/applications.md.", type: list, elements: dict, required: true}
  databases: {description: "The database hosts to log in to: host, name, port.", type: list, elements: dict, default: []}
  address: {description: The database host to point at., type: str, default: ''}
  port: {description: Its port., type: int, default: 5432}
  system_identifier: {description: The cluster that must answer there., type: str, default: ''}
  old: {description: "Database hosts that must not be used any more: host, name, address, port.", type: list, elements: dict, default: []}
  leaves: {description: Keep what is stopped from starting at boot., type: bool, default: false}
  timeout_seconds: {description: Limit of this step., type: float, default: 60}
  letter: {description: "Wait for a letter of this name before anything is done; see C(module_utils/letter.py).", type: str, default: ''}
  letter_seconds: {description: How long to wait for it., type: float, default: 300}
  letter_silence_seconds: {description: How long the beat of the run may be missing meanwhile; 0 when there is none., type: float, default: 0}
attributes:
  check_mode: {support: full, description: Says whether something would change.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Read the application
  relevo.dr.app_component:
    step: check
    host: b-app1
    components:
      - name: shop
        provider: systemd
        unit: minimarket.service
        environment_file: /etc/minimarket/app.env
        health_url: http://127.0.0.1:8080/health
    databases: [{host: b-db1, name: b-db1.example.org, port: 5432}]
"""

RETURN = r"""
application:
  description: >-
    components: what was seen of each, by name. Of all together active, enabled; of the first that says one address, health, and databases: the answer of each
    database host that was asked. After a changing step only components.
  returned: success
  type: dict
phase: {description: The phase on this host., returned: not with O(step=check), type: dict}
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils import app_providers, host_files, letter
from ansible_collections.relevo.dr.plugins.module_utils.app_component import Part
from ansible_collections.relevo.dr.plugins.module_utils.app_provider import ApplicationError, Deadline, Done, Place, Target
from ansible_collections.relevo.dr.plugins.module_utils.cluster_facts import host_facts
from ansible_collections.relevo.dr.plugins.module_utils.milestone import Milestone

PHASES = {"quiesce": "QUIESCE", "cutover": "CUTOVER", "revert": "REOPEN"}


def parts(p: dict[str, Any]) -> list[Part]:
    """One for each component. Raises ApplicationError where an older host is told of a newer kind."""
    found = []
    for component in p["components"]:
        kind = app_providers.ON_HOSTS.get(component["provider"])
        if kind is None:
            raise ApplicationError("%s has the unknown provider %s" % (component["name"], component["provider"]))
        found.append(Part(kind(component["name"], component), component, p["run_id"]))
    return found


def target(p: dict[str, Any]) -> Target:
    """Where a cutover leads."""
    old = tuple(Place(one["host"], one["name"], one["address"], int(one["port"])) for one in p["old"])
    return Target(p["address"], int(p["port"]), p["system_identifier"], old, lambda: letter.withdrawn(p, p["run_id"]))


def check(components: list[Part], databases: list[dict[str, Any]]) -> dict[str, Any]:
    """What each sees, and what plan and gates read of all together."""

    def look(part: Part) -> dict[str, Any]:
        try:
            return part.check(databases)
        except ApplicationError as error:
            return {"active": False, "enabled": False, "address": None, "wrong": [str(error)]}

    with ThreadPoolExecutor(max_workers=max(1, len(components))) as pool:
        seen = dict(zip((part.provider.name for part in components), pool.map(look, components)))
    first = {name: next((one[name] for one in seen.values() if one.get(name)), None) for name in ("address", "health", "databases")}
    return {
        **first,
        "databases": first["databases"] or {},
        "active": all(one["active"] for one in seen.values()),
        "enabled": all(one["enabled"] for one in seen.values()),
        "components": seen,
    }


def act(components: list[Part], p: dict[str, Any]) -> dict[str, Done]:
    """Side by side: what depends on something stands in another group. Raises ApplicationError when all have ended, with what went wrong first."""
    deadline = Deadline(p["timeout_seconds"])

    def play(part: Part) -> Done:
        if p["step"] == "quiesce":
            return part.quiesce(deadline, leaves=p["leaves"])
        return part.cutover(target(p), deadline) if p["step"] == "cutover" else part.revert(deadline)

    with ThreadPoolExecutor(max_workers=max(1, len(components))) as pool:
        running = {part.provider.name: pool.submit(play, part) for part in components}
    return {name: one.result() for name, one in running.items()}


def would_change(components: list[Part], p: dict[str, Any]) -> bool:
    """For check mode, from what can be seen."""
    seen = check(components, [])["components"].values()
    if p["step"] == "quiesce":
        return any(one["active"] or (p["leaves"] and one["enabled"]) for one in seen)
    wanted = target(p).address
    elsewhere = p["step"] == "cutover" and any(one["address"] not in (None, wanted) for one in seen)
    return elsewhere or not all(one["active"] and one["enabled"] for one in seen)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "step": {"type": "str", "required": True, "choices": ["check", "quiesce", "cutover", "revert"]},
            "run_id": {"type": "str", "default": ""},
            "host": {"type": "str", "required": True},
            "components": {"type": "list", "elements": "dict", "required": True},
            "databases": {"type": "list", "elements": "dict", "default": []},
            "address": {"type": "str", "default": ""},
            "port": {"type": "int", "default": 5432},
            "system_identifier": {"type": "str", "default": ""},
            "old": {"type": "list", "elements": "dict", "default": []},
            "leaves": {"type": "bool", "default": False},
            "timeout_seconds": {"type": "float", "default": 60},
            **letter.OPTIONS,
        },
        supports_check_mode=True,
    )
    p = module.params
    try:
        components = parts(p)
        if p["step"] == "check":
            module.exit_json(changed=False, application=check(components, p["databases"]), host=host_facts())
        if module.check_mode:
            module.exit_json(changed=would_change(components, p), application={"components": {}})
        if p["step"] == "cutover":
            for part in components:
                part.provider.prepare(target(p))
        p = letter.complete(p, p["run_id"])
    except (ApplicationError, letter.NoLetter) as error:
        module.fail_json(msg="%s on %s: %s" % (PHASES.get(p["step"], "PREFLIGHT"), p["host"], error))
    name = PHASES[p["step"]]
    phase = Milestone(name, p["host"])
    try:
        with host_files.acting(p["run_id"]):
            host_files.extend_lock(p["run_id"], p["timeout_seconds"] + 60)
            host_files.write_journal(p["run_id"], name, "intent")
            done = act(components, p)
            host_files.write_journal(p["run_id"], name, "result", outcome="ok")
    except (ApplicationError, host_files.LockError) as error:
        module.fail_json(msg="%s on %s: %s" % (name, p["host"], error), phase=phase.ended("failed", str(error)))
    module.exit_json(
        changed=any(one.changed for one in done.values()),
        application={"components": {key: {"detail": one.detail, **one.more} for key, one in done.items()}},
        phase=phase.ended(detail="; ".join(one.detail for one in done.values())),
    )


if __name__ == "__main__":
    main()
