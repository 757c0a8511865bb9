#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: machine_check
short_description: Whether this machine can carry a laboratory
description:
  - Fails with one sentence when we are not root, when a network or a bridge of the laboratory belongs to something else, or when a
    laboratory of another release is there, or when the kernel would not let so many hosts watch their files.
  - Reports the Debian packages that the laboratory needs and this machine lacks.
options:
  state_directory:
    description: Where the laboratory keeps all its state.
    type: path
    default: /var/lib/relevo-lab
  networks:
    description: The network of each site, by the name of the site.
    type: dict
    required: true
  release:
    description: Debian release of the hosts.
    type: str
    required: true
  hosts:
    description: The names of all hosts that the laboratory will have.
    type: list
    elements: str
    default: []
attributes:
  check_mode: {support: full, description: Only reads.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Check the machine
  relevo.lab.machine_check:
    networks: {a: 198.51.100.64/26, b: 198.51.100.0/26}
    release: trixie
    hosts: [a-db1, b-db1]
  register: __lab_hosts_machine
"""

RETURN = r"""
missing_packages:
  description: Debian packages to install.
  returned: always
  type: list
  elements: str
"""

import socket
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.lab.plugins.module_utils import container, network, root_tree, watches
from ansible_collections.relevo.lab.plugins.module_utils.laboratory import Laboratory, LaboratoryError, installed, require_root
from ansible_collections.relevo.lab.plugins.module_utils.options import NETWORKS, STATE_DIRECTORY

PACKAGES = {
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "nft": "nftables",
    "ip": "iproute2",
    "ssh": "openssh-client",
    "mkfs.ext4": "e2fsprogs",
}
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def missing_packages() -> list[str]:
    missing = [package for command, package in PACKAGES.items() if not installed(command)]
    if not KEYRING.exists():
        missing.append("debian-archive-keyring")
    if missing and not installed("apt-get"):
        raise LaboratoryError(
            f"This machine lacks {', '.join(missing)} and has no apt-get. The laboratory needs Debian or Ubuntu, or these installed by hand."
        )
    return missing


def refuse_other_release(lab: Laboratory, release: str) -> None:
    """Before a tree is built for nothing."""
    present = lab.read().get("release", release)
    if present != release:
        raise LaboratoryError(
            f"The laboratory {lab.state} was made with {present}, now {release} is asked for. Run 'make lab-down' first, then repeat."
        )


def watched_addresses(release: str) -> dict[str, str]:
    """Addresses this machine depends on, which a route or an interface need not show."""
    watched = {}
    for line in Path("/etc/resolv.conf").read_text().splitlines() if Path("/etc/resolv.conf").exists() else []:
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver" and "." in words[1]:
            watched[words[1]] = "the name server of this machine"
    for name in root_tree.mirror_hosts(release):
        try:
            watched |= {str(found[4][0]): f"the package mirror {name}" for found in socket.getaddrinfo(name, None, socket.AF_INET)}
        except OSError:
            continue  # no network: a tree in the cache is enough
    return watched


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state_directory": STATE_DIRECTORY,
            "networks": NETWORKS,
            "release": {"type": "str", "required": True},
            "hosts": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    try:
        require_root()
        container.require_version_2_groups()
        missing = missing_packages()
        if "iproute2" not in missing:
            lab = Laboratory.at(module.params["state_directory"])
            refuse_other_release(lab, module.params["release"])
            on = {host.name for host in lab.hosts() if container.is_on(lab, host)}
            watches.refuse_shortage(len(set(module.params["hosts"]) - on))
            network.refuse_collisions(lab, module.params["networks"], watched_addresses(module.params["release"]))
    except LaboratoryError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, missing_packages=missing)


if __name__ == "__main__":
    main()
