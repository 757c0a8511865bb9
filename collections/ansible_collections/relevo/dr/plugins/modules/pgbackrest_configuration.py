#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pgbackrest_configuration
short_description: The configuration file of pgBackRest for one stanza
description:
  - >-
    A file that is not Relevo's, or that the present archive_command names, is adopted: its other options and stanzas are kept. A file that leads to another
    repository is refused, so that backups never silently go elsewhere.
  - A changed configuration is tried before it is installed. It is refused, and the old one stays, when a repository does not answer, refuses the keys, shows
    a certificate that is not trusted, cannot be decrypted, or holds this stanza for another cluster.
  - The action plugin of the same name reads the secrets that the repositories name; no secret is a variable.
options:
  path: {description: The file., type: path, default: /etc/pgbackrest/pgbackrest.conf}
  archive_command: {description: "The cluster's present archive_command; what its configuration file says is adopted.", type: str, default: ""}
  stanza: {description: The stanza., type: str, required: true}
  data_directory: {description: PGDATA., type: path, required: true}
  port: {description: Port of the server., type: int, default: 5432}
  repositories: {description: See the role dr_pgbackrest., type: list, elements: dict, required: true}
  options: {description: Options of the section global., type: dict, default: {}}
  stanza_options: {description: More options of the stanza's section., type: dict, default: {}}
  secrets: {description: Filled by the action plugin., type: dict, default: {}}
  secrets_directory: {description: Where secrets are on the controller., type: str}
  system_identifier: {description: The one of the cluster; empty when not known., type: str, default: ""}
  owner: {description: Operating system user of the cluster., type: str, default: postgres}
  host_name: {description: Name of this host in sentences., type: str, required: true}
  trial: {description: Try a changed configuration before it is installed; where nothing is written with it that can wait., type: bool, default: true}
  io_timeout: {description: Seconds for one answer of a store while the configuration is tried., type: float, default: 3}
  timeout: {description: Seconds for the whole trial., type: float, default: 30}
attributes:
  check_mode: {support: full, description: Tries the configuration and stops after the plan.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Configure pgBackRest
  relevo.dr.pgbackrest_configuration:
    stanza: minimarket
    data_directory: /var/lib/postgresql/17/main
    repositories: "{{ dr_pgbackrest_repositories }}"
    secrets_directory: "{{ dr_secrets_directory }}"
    host_name: "{{ inventory_hostname }}"
"""

RETURN = r"""
changes: {description: "What differed (item, current, wanted); never a secret.", returned: always, type: list, elements: dict}
version: {description: pgBackRest's version., returned: always, type: str}
"""

import os
import shlex
import tempfile
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils import pgbackrest, pgbackrest_file, stanza
from ansible_collections.relevo.dr.plugins.module_utils.change import shown
from ansible_collections.relevo.dr.plugins.module_utils.managed_file import WantedFile, apply, observe
from ansible_collections.relevo.dr.plugins.module_utils.managed_file import plan as plan_file
from ansible_collections.relevo.dr.plugins.module_utils.milestone import told
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal

# Where pgBackRest itself looks when there is no file at its usual place.
FALLBACK = "/etc/pgbackrest.conf"


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "default": "/etc/pgbackrest/pgbackrest.conf"},
            "archive_command": {"type": "str", "default": ""},
            "stanza": {"type": "str", "required": True},
            "data_directory": {"type": "path", "required": True},
            "port": {"type": "int", "default": 5432},
            "repositories": {"type": "list", "elements": "dict", "required": True},
            "options": {"type": "dict", "default": {}},
            "stanza_options": {"type": "dict", "default": {}},
            "secrets": {"type": "dict", "default": {}, "no_log": True},
            "secrets_directory": {"type": "str"},
            "system_identifier": {"type": "str", "default": ""},
            "owner": {"type": "str", "default": "postgres"},
            "host_name": {"type": "str", "required": True},
            "trial": {"type": "bool", "default": True},
            "io_timeout": {"type": "float", "default": 3},
            "timeout": {"type": "float", "default": 30},
        },
        supports_check_mode=True,
    )
    try:
        manage(module)
    except Refusal as refusal:
        module.fail_json(msg=str(refusal), **told(gates=[refusal.gate], refused=True))
    except pgbackrest.PgbackrestError as error:
        module.fail_json(msg="%s: %s. Next: %s" % (module.params["host_name"], error.observed, error.next_action))


def manage(module: AnsibleModule) -> None:
    parameters = module.params
    version = pgbackrest.version()
    path = parameters["path"]
    observed, theirs = observe(path), _theirs(parameters)
    source = theirs if theirs and observed.content is None else path
    wanted = _wanted(parameters, version)
    plan = pgbackrest_file.plan(observe(source).content or "", wanted, "file %s" % path)
    conflict = plan.conflict or (pgbackrest_file.plan(observe(theirs).content or "", wanted, "").conflict if theirs else "")
    if conflict:
        raise Refusal(
            "REPOSITORY",
            parameters["host_name"],
            "%s leads to another repository (%s)" % (theirs or path, conflict),
            "the repositories of dr_pgbackrest_repositories",
            "describe the repository that is in use in dr_pgbackrest_repositories, or move that file away if nobody needs it",
        )
    file = WantedFile(path, content=plan.text, owner=parameters["owner"], group=parameters["owner"], mode="0640", secret=True)
    changes = shown(plan.changes) or shown(plan_file(file, observed))
    if parameters["trial"] and plan.text != observed.content and not _waits_for_secrets(parameters):
        _try(parameters, plan.text)
    if changes and not module.check_mode:
        apply(file, observed)
    text = ".".join(str(part) for part in version)
    module.exit_json(changed=bool(changes), changes=changes, version=text, **told(versions={"pgbackrest": text}))


def _theirs(parameters: Mapping[str, Any]) -> str:
    """The file that the present archive_command of this stanza uses when it is not ours, or an empty text."""
    words = shlex.split(parameters["archive_command"]) if "pgbackrest" in parameters["archive_command"] else []
    if "--stanza=%s" % parameters["stanza"] not in words:
        return ""
    named = [word.partition("=")[2] for word in words if word.startswith("--config=")] or [FALLBACK]
    return named[0] if named[0] != parameters["path"] and os.path.exists(named[0]) else ""


def _wanted(parameters: Mapping[str, Any], version: tuple[int, ...]) -> dict[str, dict[str, str]]:
    options = {name: str(value) for name, value in parameters["options"].items() if value is not None}
    for repository in parameters["repositories"]:
        options.update(pgbackrest_file.repository_options(repository, parameters["secrets"], version))
    cluster = {
        "pg1-path": parameters["data_directory"],
        "pg1-port": str(parameters["port"]),
        "pg1-socket-path": "/var/run/postgresql",
        "pg1-user": parameters["owner"],
    }
    cluster.update({name: str(value) for name, value in parameters["stanza_options"].items()})
    return {"global": options, parameters["stanza"]: cluster}


def _waits_for_secrets(parameters: Mapping[str, Any]) -> bool:
    # Check mode must not generate secrets, so there is nothing to try with.
    return "not-generated-yet" in parameters["secrets"].values()


def _try(parameters: Mapping[str, Any], text: str) -> None:
    handle, temporary = tempfile.mkstemp(prefix="relevo-pgbackrest-", suffix=".conf")
    os.close(handle)
    try:
        apply(
            WantedFile(temporary, content=text, owner=parameters["owner"], group=parameters["owner"], mode="0600"),
            observe(temporary),
        )
        trial = pgbackrest.Pgbackrest(
            temporary, parameters["stanza"], parameters["owner"], io_timeout=parameters["io_timeout"], timeout=parameters["timeout"]
        )
        info = stanza.read(trial, parameters["host_name"], parameters["repositories"])
    finally:
        os.unlink(temporary)
    if parameters["system_identifier"] and info.get("db"):
        stanza.plan(
            info, parameters["stanza"], parameters["system_identifier"], str(info["db"][-1]["version"]), parameters["host_name"]
        )


if __name__ == "__main__":
    main()
