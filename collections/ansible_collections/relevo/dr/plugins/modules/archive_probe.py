#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: archive_probe
short_description: Prove that WAL written now is in every repository, readable
description:
  - >-
    Writes a marker into the WAL (C(pg_logical_emit_message), no table needed), switches the segment, and waits until that very segment can be read back from
    each repository with the marker in it (G03). An archive_command that is C(true) or leads elsewhere is seen by this and by nothing less.
  - Needs the primary. In check mode nothing is written and the verdict is C(unknown).
options:
  config: {description: pgBackRest's configuration file., type: path, required: true}
  stanza: {description: The stanza., type: str, required: true}
  repositories: {description: See the role dr_pgbackrest., type: list, elements: dict, default: []}
  bin_directory: {description: Directory of psql., type: path, required: true}
  port: {description: Port of the server., type: int, default: 5432}
  owner: {description: Operating system user of the cluster., type: str, default: postgres}
  host_name: {description: Name of this host in sentences., type: str, required: true}
  timeout: {description: Seconds until the segment must be in every repository., type: float, default: 60}
  required: {description: Fail the task when the proof fails., type: bool, default: true}
attributes:
  check_mode: {support: full, description: Writes nothing and proves nothing.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Prove the archive
  relevo.dr.archive_probe:
    config: /etc/pgbackrest/pgbackrest.conf
    stanza: minimarket
    bin_directory: /usr/lib/postgresql/17/bin
    host_name: "{{ inventory_hostname }}"
"""

RETURN = r"""
segment: {description: The segment that holds the marker., returned: always, type: str}
switched_at: {description: "Everything committed before this moment (UTC) is in that segment or before it.", returned: always, type: str}
tried: {description: Numbers of the repositories that are in use on this host., returned: always, type: list, elements: int}
read_back: {description: Numbers of the repositories that gave the segment back., returned: always, type: list, elements: int}
missing: {description: "The places, such as C(repository 1), from which it could not be read back.", returned: always, type: list, elements: str}
seconds: {description: From the switch to the last repository., returned: always, type: float}
proven: {description: Whether every repository gave the segment back., returned: always, type: bool}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils.archive_proof import Archive, gate, prove
from ansible_collections.relevo.dr.plugins.module_utils.milestone import told
from ansible_collections.relevo.dr.plugins.module_utils.refusal import sentence
from ansible_collections.relevo.dr.plugins.module_utils.repositories import in_use


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "config": {"type": "path", "required": True},
            "stanza": {"type": "str", "required": True},
            "repositories": {"type": "list", "elements": "dict", "default": []},
            "bin_directory": {"type": "path", "required": True},
            "port": {"type": "int", "default": 5432},
            "owner": {"type": "str", "default": "postgres"},
            "host_name": {"type": "str", "required": True},
            "timeout": {"type": "float", "default": 60},
            "required": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    proof = None
    tried = tuple(int(repository["id"]) for repository in in_use(parameters["repositories"], parameters["config"])) or (1,)
    if not module.check_mode:
        archive = Archive(
            parameters["config"],
            parameters["stanza"],
            tried,
            parameters["bin_directory"],
            parameters["port"],
            parameters["owner"],
        )
        proof = prove(archive, parameters["timeout"])
    judged = gate(proof, parameters["host_name"])
    outcome = {
        "changed": False,
        "segment": proof.segment if proof else "",
        "seconds": proof.seconds if proof else 0.0,
        "switched_at": proof.switched_at if proof else "",
        "tried": list(tried),
        "read_back": list(proof.read_back) if proof else [],
        "missing": list(proof.missing) if proof else [],
        "proven": proof is not None and proof.proven,
        "msg": sentence("G03", judged["host"], judged["observed"], judged["expected"], judged["next_action"] or "nothing"),
        **told(gates=[judged]),
    }
    if judged["verdict"] == "fail" and parameters["required"]:
        module.fail_json(**outcome)
    module.exit_json(**outcome)


if __name__ == "__main__":
    main()
