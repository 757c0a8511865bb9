#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: network
short_description: The laboratory's bridges, router and packet filter
description:
  - One bridge per site with this machine as router between them, and the tables in which hosts are cut off from each other.
  - Being present means whole, so cuts that a test left behind are healed. Being absent restores what forwarding was before.
options:
  state_directory:
    description: Where the laboratory keeps all its state.
    type: path
    default: /var/lib/relevo-lab
  networks:
    description: The network of each site, by the name of the site. Required to be present.
    type: dict
    default: {}
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
    description: Whether the network is there.
    type: str
    choices: [present, absent]
    default: present
attributes:
  check_mode: {support: full, description: Changes nothing.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Connect the sites
  relevo.lab.network:
    networks: {a: 198.51.100.64/26, b: 198.51.100.0/26}
    hosts: [{name: a-db1, site: a, address: 198.51.100.71}]
"""

RETURN = r"""
actions:
  description: What was missing and was made, or what was there and was removed.
  returned: always
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.lab.plugins.module_utils import network
from ansible_collections.relevo.lab.plugins.module_utils.laboratory import Laboratory, LaboratoryError, require_root
from ansible_collections.relevo.lab.plugins.module_utils.options import HOSTS, STATE_DIRECTORY, hosts_from


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state_directory": STATE_DIRECTORY,
            "networks": {"type": "dict", "default": {}},
            "hosts": HOSTS,
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        required_if=[("state", "present", ("networks",))],
        supports_check_mode=True,
    )
    lab = Laboratory.at(module.params["state_directory"])
    networks = module.params["networks"]
    hosts = hosts_from(module.params["hosts"], networks)
    try:
        require_root()
        with lab.locked():
            if module.params["state"] == "absent":
                actions = network.plan_absence(lab)
                if actions and not module.check_mode:
                    network.make_absent(lab)
            else:
                actions = network.plan_presence(lab, networks, hosts)
                if actions and not module.check_mode:
                    network.make_present(lab, networks, hosts)
    except LaboratoryError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(actions), actions=actions)


if __name__ == "__main__":
    main()
