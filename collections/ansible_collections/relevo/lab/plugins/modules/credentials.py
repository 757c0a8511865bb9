#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: credentials
short_description: Secrets, ssh keys and certificates of the laboratory
description:
  - Makes what is missing below the state directory, and never replaces what is there.
  - C(secrets/NAME) for each named secret, C(ssh/operator) and a pinned C(ssh/known_hosts), C(tls/ca.pem) and a certificate per host for its name and
    address.
  - Needs the Python library cryptography.
options:
  state_directory:
    description: Where the laboratory keeps all its state.
    type: path
    default: /var/lib/relevo-lab
  networks:
    description: The network of each site, by the name of the site.
    type: dict
    required: true
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
  secret_names:
    description: Random secrets to make.
    type: list
    elements: str
    default: []
attributes:
  check_mode: {support: full, description: Makes nothing.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Make what is missing
  relevo.lab.credentials:
    networks: {a: 198.51.100.64/26}
    hosts: [{name: a-db1, site: a, address: 198.51.100.71}]
    secret_names: [become_password]
"""

RETURN = r"""
actions:
  description: What was missing and was made.
  returned: always
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.lab.plugins.module_utils import credentials
from ansible_collections.relevo.lab.plugins.module_utils.laboratory import Laboratory, LaboratoryError
from ansible_collections.relevo.lab.plugins.module_utils.options import HOSTS, NETWORKS, STATE_DIRECTORY, hosts_from


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state_directory": STATE_DIRECTORY,
            "networks": NETWORKS,
            "hosts": HOSTS,
            "secret_names": {"type": "list", "elements": "str", "default": [], "no_log": False},
        },
        supports_check_mode=True,
    )
    lab = Laboratory.at(module.params["state_directory"])
    hosts = hosts_from(module.params["hosts"], module.params["networks"])
    try:
        with lab.locked():
            actions = credentials.plan(lab, hosts, module.params["secret_names"])
            if actions and not module.check_mode:
                credentials.make(lab, hosts, module.params["secret_names"])
    except LaboratoryError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(actions), actions=actions)


if __name__ == "__main__":
    main()
