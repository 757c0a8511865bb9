#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: application_unit
short_description: Read, stop or cut over an application that is a systemd unit with an environment file
description:
  - O(step=info) reads the unit, the address in the environment file, the application's health, and logs in to O(databases) as the application would.
  - O(step=stop) stops the unit; with O(disable=true) it stays stopped after a reboot.
  - O(step=cutover) waits until O(address) accepts writes, replaces the address in the environment file as a whole, restarts the unit,
    and waits until it is healthy.
  - The changing steps act only while this host's lock is held by the run.
options:
  step: {description: What to do., type: str, required: true, choices: [info, stop, cutover]}
  run_id: {description: The run., type: str, default: ''}
  host: {description: Inventory name of this host., type: str, required: true}
  unit: {description: The systemd unit., type: str, required: true}
  environment_file: {description: File with the database URL., type: path, required: true}
  url_variable: {description: Name of the variable in it., type: str, default: DATABASE_URL}
  health_url: {description: URL that answers 200 only when the database does., type: str, required: true}
  databases: {description: "The database hosts to log in to: host, name, port.", type: list, elements: dict, default: []}
  address: {description: The database host to point at., type: str, default: ''}
  port: {description: Its port., type: int, default: 5432}
  system_identifier: {description: The cluster that must answer there., type: str, default: ''}
  disable: {description: Keep the unit from starting at boot., type: bool, default: false}
  timeout_seconds: {description: Limit of this step., type: float, default: 60}
  letter: {description: "Wait for a letter of this name before anything is done; see C(module_utils/letter.py).", type: str, default: ''}
  letter_seconds: {description: How long to wait for it., type: float, default: 300}
attributes:
  check_mode: {support: full, description: Says what would change.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Read the application
  relevo.dr.application_unit:
    step: info
    host: b-app1
    unit: minimarket.service
    environment_file: /etc/minimarket/app.env
    health_url: http://127.0.0.1:8080/health
    databases: [{host: b-db1, name: b-db1.example.org, port: 5432}]
"""

RETURN = r"""
application: {description: "active, enabled, address, health; and databases, the answer of each database host that was asked.", returned: success, type: dict}
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils import application as app
from ansible_collections.relevo.dr.plugins.module_utils import host_files, letter
from ansible_collections.relevo.dr.plugins.module_utils.cluster_facts import host_facts
from ansible_collections.relevo.dr.plugins.module_utils.milestone import Milestone

PHASES = {"stop": "QUIESCE", "cutover": "CUTOVER"}


def info(application: app.Application, p: dict[str, Any]) -> dict[str, Any]:
    url = app.database_url(application)

    def ask(database: dict[str, Any]) -> dict[str, Any]:
        return app.ask_database(application, app.with_address(url, database["name"], int(database["port"])))

    # Side by side: an application whose database is dead takes its time to say so.
    with ThreadPoolExecutor(max_workers=1 + len(p["databases"])) as pool:
        health = pool.submit(app.health, application, 1.0)
        answers = dict(zip((database["host"] for database in p["databases"]), pool.map(ask, p["databases"])))
    return {
        "active": app.unit_is(application.unit, "is-active"),
        "enabled": app.unit_is(application.unit, "is-enabled"),
        "address": app.url_address(url),
        "health": health.result(),
        "databases": answers,
    }


def stop(application: app.Application, p: dict[str, Any], check_mode: bool) -> tuple[bool, dict[str, Any]]:
    active = app.unit_is(application.unit, "is-active")
    enabled = p["disable"] and app.unit_is(application.unit, "is-enabled")
    if not check_mode:
        if active:
            app.systemctl("stop", application.unit, p["timeout_seconds"])
        if enabled:
            app.systemctl("disable", application.unit)
    return bool(active or enabled), {"active": False, "detail": "stopped" if active else "was not running"}


def cutover(application: app.Application, p: dict[str, Any], check_mode: bool) -> tuple[bool, dict[str, Any]]:
    before = app.database_url(application)
    after = app.with_address(before, p["address"], p["port"])
    active, enabled = app.unit_is(application.unit, "is-active"), app.unit_is(application.unit, "is-enabled")
    if app.url_address(before) == app.url_address(after) and active and enabled and app.health(application)["ok"]:
        return False, {
            "active": True,
            "address": app.url_address(after),
            "health": app.health(application),
            "detail": "was there already",
        }
    if check_mode:
        return True, {"active": active, "address": app.url_address(before)}
    app.wait_for_primary(application, after, p["system_identifier"], p["timeout_seconds"])
    app.point_at(application, after)
    app.systemctl("restart", application.unit, p["timeout_seconds"])
    health = app.wait_until_healthy(application, app.url_address(after), p["timeout_seconds"])
    seen = health["body"].get("system_identifier")
    if seen is not None and str(seen) != p["system_identifier"]:
        raise app.ApplicationError("the application answers from system %s, expected %s" % (seen, p["system_identifier"]))
    if not enabled:
        app.systemctl("enable", application.unit)
    detail = "%s now uses %s" % (application.unit, app.url_address(after))
    return True, {"active": True, "address": app.url_address(after), "health": health, "detail": detail}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "step": {"type": "str", "required": True, "choices": ["info", "stop", "cutover"]},
            "run_id": {"type": "str", "default": ""},
            "host": {"type": "str", "required": True},
            "unit": {"type": "str", "required": True},
            "environment_file": {"type": "path", "required": True},
            "url_variable": {"type": "str", "default": "DATABASE_URL"},
            "health_url": {"type": "str", "required": True},
            "databases": {"type": "list", "elements": "dict", "default": []},
            "address": {"type": "str", "default": ""},
            "port": {"type": "int", "default": 5432},
            "system_identifier": {"type": "str", "default": ""},
            "disable": {"type": "bool", "default": False},
            "timeout_seconds": {"type": "float", "default": 60},
            **letter.OPTIONS,
        },
        supports_check_mode=True,
    )
    try:
        p = letter.complete(module.params, module.params["run_id"])
    except letter.NoLetter as error:
        module.fail_json(msg="%s: %s" % (module.params["host"], error))
    application = app.Application(p["unit"], p["environment_file"], p["url_variable"], p["health_url"])
    if p["step"] == "info":
        try:
            module.exit_json(changed=False, application=info(application, p), host=host_facts())
        except app.ApplicationError as error:
            module.fail_json(msg="%s: %s" % (p["host"], error))
    name = PHASES[p["step"]]
    phase = Milestone(name, p["host"])
    act = {"stop": stop, "cutover": cutover}[p["step"]]
    try:
        if module.check_mode:
            changed, result = act(application, p, True)
            module.exit_json(changed=changed, application=result)
        with host_files.acting(p["run_id"]):
            host_files.extend_lock(p["run_id"], p["timeout_seconds"] + 60)
            host_files.write_journal(p["run_id"], name, "intent")
            changed, result = act(application, p, False)
            host_files.write_journal(p["run_id"], name, "result", outcome="ok")
    except (app.ApplicationError, host_files.LockError) as error:
        module.fail_json(msg="%s on %s: %s" % (name, p["host"], error), phase=phase.ended("failed", str(error)))
    module.exit_json(changed=changed, application=result, phase=phase.ended(detail=result["detail"]))


if __name__ == "__main__":
    main()
