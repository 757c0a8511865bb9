#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: postgresql_settings
short_description: Parameters of PostgreSQL in one managed file of conf.d
description:
  - Writes the file, takes away entries of ALTER SYSTEM that hide it, reloads, and waits until the server really uses the values.
  - A primary is restarted only when I(allow_restart) is true; otherwise the task refuses before anything is changed and names parameter, current and wanted.
    A standby serves nobody that writes and is restarted when a parameter needs it.
  - Works without a server too, and without a cluster; then the values hold from the first start on.
options:
  name: {description: File name below conf.d., type: str, required: true}
  settings:
    description: The parameters.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: Parameter., type: str, required: true}
      value: {description: Value., type: str, required: true}
      rule:
        description: >-
          C(exact): this value. C(minimum): at least this number. C(adopt): what is there stays when it matches I(accepts), is replaced when it matches
          I(replaces), and is refused otherwise.
        type: str
        choices: [exact, minimum, adopt]
        default: exact
      accepts: {description: Regular expressions for the whole value., type: list, elements: str, default: []}
      replaces: {description: Regular expressions for the whole value., type: list, elements: str, default: []}
      next_action: {description: What to do when the present value is refused., type: str, default: change it by hand}
  config_directory: {description: Directory of postgresql.conf., type: path, required: true}
  data_directory: {description: PGDATA., type: path, required: true}
  bin_directory: {description: Directory of psql., type: path, required: true}
  unit: {description: The systemd unit of the cluster., type: str, required: true}
  port: {description: Port of the server., type: int, default: 5432}
  owner: {description: Operating system user of the cluster., type: str, default: postgres}
  host_name: {description: Name of this host in sentences., type: str, required: true}
  allow_restart: {description: Whether a running primary may be restarted., type: bool, default: false}
  restart_timeout: {description: Seconds until the restarted server must answer., type: int, default: 120}
attributes:
  check_mode: {support: full, description: Stops after the plan.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Archive every segment
  relevo.dr.postgresql_settings:
    name: 60-relevo-pgbackrest.conf
    config_directory: /etc/postgresql/17/main
    data_directory: /var/lib/postgresql/17/main
    bin_directory: /usr/lib/postgresql/17/bin
    unit: postgresql@17-main.service
    host_name: "{{ inventory_hostname }}"
    settings:
      - {name: archive_mode, value: "on"}
"""

RETURN = r"""
changes: {description: "What differed (item, current, wanted).", returned: always, type: list, elements: dict}
restart: {description: Parameters that needed a restart., returned: always, type: list, elements: str}
restarted: {description: Whether the server was restarted., returned: always, type: bool}
"""

import os
from collections.abc import Mapping
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils import settings_file
from ansible_collections.relevo.dr.plugins.module_utils.change import Change, shown
from ansible_collections.relevo.dr.plugins.module_utils.managed_file import ObservedFile, WantedFile, apply, observe
from ansible_collections.relevo.dr.plugins.module_utils.managed_file import plan as plan_file
from ansible_collections.relevo.dr.plugins.module_utils.milestone import told
from ansible_collections.relevo.dr.plugins.module_utils.postgresql import PostgresqlError, Psql, postmaster_pid
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal
from ansible_collections.relevo.dr.plugins.module_utils.server_settings import RunningServer
from ansible_collections.relevo.dr.plugins.module_utils.settings_file import Setting, SettingsPlan

HEADER = "Managed by Relevo: changes are lost."
RELOAD_SECONDS = 10.0


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "settings": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "value": {"type": "str", "required": True},
                    "rule": {"type": "str", "choices": ["exact", "minimum", "adopt"], "default": "exact"},
                    "accepts": {"type": "list", "elements": "str", "default": []},
                    "replaces": {"type": "list", "elements": "str", "default": []},
                    "next_action": {"type": "str", "default": "change it by hand"},
                },
            },
            "config_directory": {"type": "path", "required": True},
            "data_directory": {"type": "path", "required": True},
            "bin_directory": {"type": "path", "required": True},
            "unit": {"type": "str", "required": True},
            "port": {"type": "int", "default": 5432},
            "owner": {"type": "str", "default": "postgres"},
            "host_name": {"type": "str", "required": True},
            "allow_restart": {"type": "bool", "default": False},
            "restart_timeout": {"type": "int", "default": 120},
        },
        supports_check_mode=True,
    )
    try:
        manage(module)
    except Refusal as refusal:
        module.fail_json(msg=str(refusal), **told(gates=[refusal.gate], refused=True))
    except PostgresqlError as error:
        module.fail_json(msg="PostgreSQL on %s: %s" % (module.params["host_name"], error))


def manage(module: AnsibleModule) -> None:
    parameters = module.params
    next_actions = {entry["name"]: entry.pop("next_action") for entry in parameters["settings"]}
    wanted = [
        Setting(**{**entry, "accepts": tuple(entry["accepts"]), "replaces": tuple(entry["replaces"])})
        for entry in parameters["settings"]
    ]
    path = os.path.join(parameters["config_directory"], "conf.d", parameters["name"])
    observed = observe(path)
    server = _server(parameters)
    plan = settings_file.plan(
        wanted,
        settings_file.parse(observed.content or ""),
        path,
        server.configured() if server else {},
        server.running() if server else {},
    )
    _refuse(parameters, plan, server is not None and not server.in_recovery(), next_actions)
    file = WantedFile(path, content=settings_file.render(HEADER, plan.lines), owner=parameters["owner"], group=parameters["owner"])
    include = _include(parameters)
    stale = server.stale(_files(parameters)) if server else []
    changes = plan.changes or plan_file(file, observed)
    changes += [Change("file %s" % include.path, "does not include ours", "includes it")] if include else []
    changes += [Change("server", "has not read %s" % name, "reads it") for name in stale] if not changes else []
    if changes and not module.check_mode:
        apply(file, observed)
        if include:
            apply(include, observe(include.path))
        if server:
            _take_effect(parameters, server, plan, file, observed)
    module.exit_json(
        changed=bool(changes),
        changes=shown(changes),
        restart=list(plan.restart),
        restarted=bool(changes and plan.restart and server and not module.check_mode),
        diff={"before_header": path, "after_header": path, "before": observed.content or "", "after": file.content},
    )


def _server(parameters: Mapping[str, Any]) -> Optional[RunningServer]:
    if postmaster_pid(parameters["data_directory"]) is None:
        return None
    return RunningServer(Psql(parameters["bin_directory"], parameters["port"], "postgres", parameters["owner"]))


def _files(parameters: Mapping[str, Any]) -> list[str]:
    """What a reload reads and a role of ours changes."""
    return [os.path.join(parameters["config_directory"], name) for name in ("pg_hba.conf", "conf.d/" + parameters["name"])]


def _include(parameters: Mapping[str, Any]) -> Optional[WantedFile]:
    """postgresql.conf as it has to become so that it reads our file, or None."""
    path = os.path.join(parameters["config_directory"], "postgresql.conf")
    found = observe(path)
    if found.content is None:
        return None
    text = settings_file.with_include(found.content, "conf.d", parameters["name"])
    return WantedFile(path, content=text, owner=found.owner, group=found.group, mode=found.mode) if text != found.content else None


def _refuse(parameters: Mapping[str, Any], plan: SettingsPlan, primary: bool, next_actions: Mapping[str, str]) -> None:
    for refusal in plan.refusals:
        observed = "%s = %s" % (refusal.item, refusal.current)
        raise Refusal("SETTINGS", parameters["host_name"], observed, refusal.wanted, next_actions[refusal.item.split()[-1]])
    if plan.restart and primary and not parameters["allow_restart"]:
        named = [change for change in plan.changes if change.item.split()[-1] in plan.restart]
        raise Refusal(
            "RESTART",
            parameters["host_name"],
            "%s on the running primary" % ", ".join("%s = %s" % (change.item, change.current) for change in named),
            "%s, which holds only after a restart"
            % ", ".join("%s = %s" % (change.item.split()[-1], change.wanted) for change in named),
            "choose a moment when the application may be interrupted for some seconds, then run again with -e dr_allow_restart=true",
        )


def _take_effect(
    parameters: Mapping[str, Any], server: RunningServer, plan: SettingsPlan, file: WantedFile, observed: ObservedFile
) -> None:
    try:
        server.check_parameters()
    except PostgresqlError as error:
        # A file that the server cannot read would stop the next start.
        if observed.content is None:
            os.unlink(file.path)
        else:
            apply(WantedFile(file.path, content=observed.content, owner=file.owner, group=file.group), observed)
        raise PostgresqlError("%s; %s was put back" % (error, file.path)) from None
    server.reset(plan.resets)
    if plan.restart:
        server.restart(parameters["unit"])
    else:
        server.reload()
    server.wait_for(plan.lines, _files(parameters), float(parameters["restart_timeout"]) if plan.restart else RELOAD_SECONDS)
    server.check_access_rules()


if __name__ == "__main__":
    main()
