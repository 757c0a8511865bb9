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
import subprocess
import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.relevo.dr.plugins.module_utils import settings_file
from ansible_collections.relevo.dr.plugins.module_utils.change import Change, shown
from ansible_collections.relevo.dr.plugins.module_utils.managed_file import WantedFile, apply, observe
from ansible_collections.relevo.dr.plugins.module_utils.managed_file import plan as plan_file
from ansible_collections.relevo.dr.plugins.module_utils.milestone import told
from ansible_collections.relevo.dr.plugins.module_utils.postgresql import PostgresqlError, Psql, postmaster_pid
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal
from ansible_collections.relevo.dr.plugins.module_utils.settings_file import Configured, Running, Setting

HEADER = "Managed by Relevo: changes are lost."


class Server:
    """The running server's view of its parameters."""

    def __init__(self, parameters):
        self._session = Psql(parameters["bin_directory"], parameters["port"], "postgres", parameters["owner"])

    def in_recovery(self):
        return self._session.row("select pg_is_in_recovery() as answer")["answer"]

    def running(self):
        rows = self._session.query("select name, setting, vartype, unit, context from pg_settings")
        return {row.pop("name"): Running(**row) for row in rows}

    def configured(self):
        rows = self._session.query("select name, setting, sourcefile, error, applied from pg_file_settings where name is not null order by seqno")
        return {row["name"]: Configured(row["setting"] or "", row["sourcefile"]) for row in rows}

    def errors(self):
        rows = self._session.query("select sourcefile, sourceline, name, error from pg_file_settings where error is not null")
        # "cannot be changed without restarting" is what the restart is for.
        return ["%(sourcefile)s line %(sourceline)s: %(name)s: %(error)s" % row for row in rows if "without restarting" not in row["error"]]

    def reset(self, names):
        for name in names:
            self._session.execute('alter system reset "%s"' % name)

    def reload(self):
        self._session.execute("select pg_reload_conf()")

    def close(self):
        self._session.close()


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


def manage(module) -> None:
    parameters = module.params
    path = os.path.join(parameters["config_directory"], "conf.d", parameters["name"])
    next_actions = {entry["name"]: entry.pop("next_action") for entry in parameters["settings"]}
    wanted = [Setting(**{**entry, "accepts": tuple(entry["accepts"]), "replaces": tuple(entry["replaces"])}) for entry in parameters["settings"]]
    observed = observe(path)
    server = Server(parameters) if postmaster_pid(parameters["data_directory"]) else None
    plan = settings_file.plan(
        wanted,
        settings_file.parse(observed.content or ""),
        path,
        server.configured() if server else {},
        server.running() if server else {},
    )
    primary = bool(server) and not server.in_recovery()
    _refuse(parameters, plan, primary, next_actions)
    text = settings_file.render(HEADER, plan.lines)
    file = WantedFile(path, content=text, owner=parameters["owner"], group=parameters["owner"])
    include = _include(parameters)
    changes = shown([*(plan.changes or plan_file(file, observed)), *([Change("file %s" % include.path, "does not include ours", "includes it")] if include else [])])
    result = {
        "changed": bool(changes),
        "changes": changes,
        "restart": list(plan.restart),
        "restarted": False,
        "diff": {"before_header": path, "after_header": path, "before": observed.content or "", "after": text},
    }
    if changes and not module.check_mode:
        apply(file, observed)
        if include:
            apply(include, observe(include.path))
        if server:
            _check_errors(server, file, observed)
            server.reset(plan.resets)
            result["restarted"] = _take_effect(module, server, plan)
    module.exit_json(**result)


def _include(parameters):
    """postgresql.conf as it has to become so that it reads our file, or None."""
    path = os.path.join(parameters["config_directory"], "postgresql.conf")
    found = observe(path)
    if found.content is None:
        return None
    text = settings_file.with_include(found.content, "conf.d", parameters["name"])
    return WantedFile(path, content=text, owner=found.owner, group=found.group, mode=found.mode) if text != found.content else None


def _refuse(parameters, plan, primary, next_actions) -> None:
    for refusal in plan.refusals:
        raise Refusal("SETTINGS", parameters["host_name"], "%s = %s" % (refusal.item, refusal.current), refusal.wanted, next_actions[refusal.item.split()[-1]])
    if plan.restart and primary and not parameters["allow_restart"]:
        named = [change for change in plan.changes if change.item.split()[-1] in plan.restart]
        raise Refusal(
            "RESTART",
            parameters["host_name"],
            "%s on the running primary" % ", ".join("%s = %s" % (change.item, change.current) for change in named),
            "%s, which holds only after a restart" % ", ".join("%s = %s" % (change.item.split()[-1], change.wanted) for change in named),
            "choose a moment when the application may be interrupted for some seconds, then run again with -e dr_allow_restart=true",
        )


def _check_errors(server, file, observed) -> None:
    """A file that the server cannot read is taken back: it would stop the next start."""
    errors = server.errors()
    if not errors:
        return
    if observed.content is None:
        os.unlink(file.path)
    else:
        apply(WantedFile(file.path, content=observed.content, owner=file.owner, group=file.group), observed)
    raise PostgresqlError("%s; the file was put back" % "; ".join(errors))


def _take_effect(module, server, plan) -> bool:
    parameters = module.params
    if plan.restart:
        server.close()
        # systemd_service cannot say that a unit must be restarted only when a plan needs it.
        done = subprocess.run(["systemctl", "restart", parameters["unit"]], capture_output=True, text=True, check=False, timeout=3600)
        if done.returncode != 0:
            module.fail_json(msg="%s did not restart on %s: %s" % (parameters["unit"], parameters["host_name"], done.stderr.strip()))
    else:
        server.reload()
    deadline = time.monotonic() + (parameters["restart_timeout"] if plan.restart else 10)
    while True:
        pending = _pending(server, plan.lines)
        if not pending:
            server.close()
            return bool(plan.restart)
        if time.monotonic() > deadline:
            raise PostgresqlError("the server does not use the new values: %s" % pending)
        time.sleep(0.2)


def _pending(server, lines) -> str:
    try:
        running = server.running()
    except PostgresqlError as error:
        return str(error)
    differing = [name for name, value in lines.items() if name in running and settings_file.canonical(value, running[name]) != running[name].setting]
    return ", ".join(differing)


if __name__ == "__main__":
    main()
