#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: root_tree
short_description: The file tree that all hosts of the laboratory share as their lowest layer
description:
  - Builds a Debian release with the given packages, from the mirror that this machine is configured for, and keeps it.
  - A tree whose build was killed is never used; one whose packages or recipe changed is built anew.
options:
  release:
    description: Debian release. Required to build.
    type: str
  packages:
    description: Packages of the tree. Required to build.
    type: list
    elements: str
    default: []
  cache_directory:
    description: Where trees are kept.
    type: path
    default: /var/cache/relevo-lab
  state:
    description: V(absent) removes all trees.
    type: str
    choices: [present, absent]
    default: present
attributes:
  check_mode: {support: full, description: Builds and removes nothing.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Build the tree
  relevo.lab.root_tree:
    release: trixie
    packages: [systemd-sysv, openssh-server, postgresql]
  register: __lab_hosts_tree
"""

RETURN = r"""
path:
  description: The tree.
  returned: when present
  type: str
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.lab.plugins.module_utils import root_tree
from ansible_collections.relevo.lab.plugins.module_utils.laboratory import Laboratory, LaboratoryError
from ansible_collections.relevo.lab.plugins.module_utils.options import CACHE_DIRECTORY


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "release": {"type": "str"},
            "packages": {"type": "list", "elements": "str", "default": []},
            "cache_directory": CACHE_DIRECTORY,
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        required_if=[("state", "present", ("release", "packages"))],
        supports_check_mode=True,
    )
    cache = Path(module.params["cache_directory"])
    try:
        with Laboratory(cache).locked():
            if module.params["state"] == "absent":
                changed = cache.is_dir() if module.check_mode else root_tree.purge(cache)
                module.exit_json(changed=changed)
            path = root_tree.place(cache, module.params["release"], module.params["packages"])
            changed = not path.is_dir()
            if changed and not module.check_mode:
                root_tree.build(cache, module.params["release"], module.params["packages"])
    except LaboratoryError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=changed, path=str(path))


if __name__ == "__main__":
    main()
