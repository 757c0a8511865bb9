#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: restic_repository
short_description: Make a host's repositories of files, or adopt those that are there
description:
  - Asks each store over verified TLS in bounded time, then whether the password opens what is there. What is there is never replaced.
  - A wrong password, a refused key pair, a missing bucket or a certificate that is not trusted is a refusal. So is that no store answers at all;
    a single silent one of several is told as a gate with the verdict C(unknown), for a site may be lost.
  - The action plugin of the same name reads the secrets on the controller; none is a variable or an argument of a command.
options:
  repositories: {description: The host's repositories as the filter C(relevo.dr.file_repositories) gives them., type: list, elements: dict, required: true}
  host_name: {description: Name of this host in sentences., type: str, required: true}
  answer_seconds: {description: Seconds for one answer of a store., type: float, default: 5}
  timeout: {description: Seconds for one command of restic., type: float, default: 45}
  secrets: {description: Filled by the action plugin., type: dict, default: {}}
  secrets_directory: {description: Where they are on the controller., type: str}
attributes:
  check_mode: {support: full, description: Asks the same and makes nothing.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Make the repositories, or adopt them
  relevo.dr.restic_repository:
    repositories: "{{ dr_files_repositories | relevo.dr.file_repositories(inventory_hostname) }}"
    host_name: "{{ inventory_hostname }}"
    secrets_directory: "{{ dr_secrets_directory }}"
"""

RETURN = r"""
changes: {description: "What was missing (item, current, wanted).", returned: always, type: list, elements: dict}
silent: {description: Places of repositories that did not answer., returned: always, type: list, elements: str}
"""

import json
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils import restic, store_answer
from ansible_collections.relevo.dr.plugins.module_utils.change import Change, shown
from ansible_collections.relevo.dr.plugins.module_utils.milestone import told
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal
from ansible_collections.relevo.dr.plugins.module_utils.secret_password import opened

CHECK = "FILESREPO"
# What the action plugin hands over for a secret that check mode must not generate.
NOT_YET = "not-generated-yet"


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "repositories": {"type": "list", "elements": "dict", "required": True},
            "host_name": {"type": "str", "required": True},
            "answer_seconds": {"type": "float", "default": 5},
            "timeout": {"type": "float", "default": 45},
            "secrets": {"type": "dict", "default": {}, "no_log": True},
            "secrets_directory": {"type": "str"},
        },
        supports_check_mode=True,
    )
    try:
        manage(module)
    except Refusal as refusal:
        module.fail_json(msg=str(refusal), **told(gates=[refusal.gate], refused=True))
    except restic.ResticError as error:
        module.fail_json(msg="%s: %s. Next: %s" % (module.params["host_name"], error.observed, error.next_action))


def manage(module: AnsibleModule) -> None:
    p = module.params
    version = ".".join(map(str, restic.version()))
    changes, silent, absent = [], [], []
    for repository in p["repositories"]:
        try:
            found = state(module, repository)
        except store_answer.StoreSilentError as error:
            silent.append(silent_gate(p["host_name"], repository, str(error)))
            continue
        if not found:
            absent.append(repository)
            changes.append(Change("files, %s" % repository["place"], "no repository", "an encrypted repository of this host"))
    if len(silent) == len(p["repositories"]):
        raise Refusal(
            CHECK, p["host_name"], "; ".join(gate["observed"] for gate in silent), silent[0]["expected"], silent[0]["next_action"]
        )
    for repository in absent if not module.check_mode else []:
        with opened(repository, p["secrets"], None, p["timeout"]) as command:
            command.run("init", "--repository-version=2")
    module.exit_json(
        changed=bool(changes),
        changes=shown(changes),
        silent=[gate["observed"] for gate in silent],
        **told(gates=silent, versions={"restic": version}),
    )


def state(module: AnsibleModule, repository: Mapping[str, Any]) -> dict[str, Any]:
    """The repository's own configuration; {} when there is none yet. Raises StoreSilentError or Refusal."""
    p = module.params
    try:
        store_answer.ask(repository["endpoint"], repository["port"], repository.get("ca_file"), p["answer_seconds"])
    except store_answer.StoreUntrustedError as error:
        raise refused(p["host_name"], repository, str(error), "check ca_file and endpoint; verification stays on") from None
    if NOT_YET in (p["secrets"][repository["key_id_secret"]], p["secrets"][repository["key_secret"]]):
        raise refused(
            p["host_name"],
            repository,
            "there is no key pair for it on the controller",
            "put the files %(key_id_secret)s and %(key_secret)s into dr_secrets_directory" % repository,
        )
    # Its answer takes a fraction of a second; what restic only tries again is explained from what it said meanwhile.
    try:
        with opened(repository, p["secrets"], None, min(p["timeout"], 20.0)) as command:
            found: dict[str, Any] = json.loads(command.run("cat", "config", "--no-lock"))
    except restic.ResticError as error:
        if error.kind == restic.ABSENT:
            return {}
        if error.kind == restic.SILENT:
            raise store_answer.StoreSilentError(error.observed) from None
        raise refused(p["host_name"], repository, error.observed, error.next_action) from None
    return found


def refused(host: str, repository: Mapping[str, Any], observed: str, next_action: str) -> Refusal:
    return Refusal(
        CHECK,
        host,
        "%s: %s" % (repository["place"], observed),
        "a repository of this host that its password opens, or none yet",
        next_action,
    )


def silent_gate(host: str, repository: Mapping[str, Any], observed: str) -> dict[str, Any]:
    return {
        "id": CHECK,
        "title": "Repository of files",
        "phase": "PREFLIGHT",
        "host": "%s, %s" % (host, repository["place"]),
        "observed": "%s: %s" % (repository["place"], observed),
        "expected": "an answer over verified TLS",
        "verdict": "unknown",
        "next_action": "bring the store back, then run this again; until then this host's files go into the other repositories only",
    }


if __name__ == "__main__":
    main()
