#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: hosts
short_description: The hosts of the laboratory, all up or all gone
description:
  - Being present means made, whole and answering on ssh. Hosts that are off are started, stopped PostgreSQL processes continue, filled volumes are freed.
  - Finds what a killed laboratory left behind by its control group, its processes and its mounts, whatever checkout made it.
options:
  state_directory:
    description: Where the laboratory keeps all its state.
    type: path
    default: /var/lib/relevo-lab
  networks:
    description: The network of each site, by the name of the site. Required to be present.
    type: dict
    default: {}
  release:
    description: Debian release of the tree. Required to be present.
    type: str
  tree:
    description: Path of the tree (M(relevo.lab.root_tree)). Required to be present.
    type: path
  hosts:
    description: The hosts.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: Name of the host., type: str, required: true}
      site: {description: Its site., type: str, required: true}
      address: {description: Its address., type: str, required: true}
      volume: {description: Path of a file system of limited size., type: str, default: ''}
      volume_gigabytes: {description: Its size., type: int, default: 8}
      reaches: {description: The only hosts that it may exchange packets with; all when not given., type: list, elements: str}
  state:
    description: V(absent) kills all hosts and removes the state directory with every secret in it.
    type: str
    choices: [present, absent]
    default: present
attributes:
  check_mode: {support: full, description: Changes nothing.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Bring all hosts up
  relevo.lab.hosts:
    networks: {a: 198.51.100.64/26}
    release: trixie
    tree: /var/cache/relevo-lab/trixie/0123456789ab
    hosts: [{name: a-db1, site: a, address: 198.51.100.71, volume: /var/lib/postgresql}]
"""

RETURN = r"""
actions:
  description: What was done to which host.
  returned: always
  type: list
  elements: str
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.lab.plugins.module_utils import fleet
from ansible_collections.relevo.lab.plugins.module_utils.laboratory import Laboratory, LaboratoryError, require_root
from ansible_collections.relevo.lab.plugins.module_utils.options import HOSTS, STATE_DIRECTORY, hosts_from


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state_directory": STATE_DIRECTORY,
            "networks": {"type": "dict", "default": {}},
            "release": {"type": "str"},
            "tree": {"type": "path"},
            "hosts": HOSTS,
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        required_if=[("state", "present", ("networks", "release", "tree", "hosts"))],
        supports_check_mode=True,
    )
    parameters = module.params
    lab = Laboratory.at(parameters["state_directory"])
    try:
        require_root()
        with lab.locked():
            if parameters["state"] == "absent":
                actions = fleet.plan_absence(lab)
                if actions and not module.check_mode:
                    fleet.make_absent(lab)
            else:
                wanted = fleet.Fleet(
                    parameters["release"], Path(parameters["tree"]), hosts_from(parameters["hosts"], parameters["networks"])
                )
                actions = fleet.plan_presence(lab, wanted)
                if not module.check_mode:
                    fleet.make_present(lab, wanted)
    except LaboratoryError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(actions), actions=actions)


if __name__ == "__main__":
    main()
