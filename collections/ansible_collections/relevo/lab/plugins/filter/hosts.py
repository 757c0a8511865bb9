# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: hosts
short_description: What the laboratory's modules need to know of hosts, taken from the inventory
description:
  - Reads C(ansible_host), C(dr_site) and, where a host has them, C(lab_host_volume), C(lab_host_volume_gigabytes) and C(lab_host_reaches).
options:
  _input: {description: Names of hosts., type: list, elements: str, required: true}
  hostvars: {description: The variable C(hostvars)., type: dict, required: true}
positional: hostvars
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- ansible.builtin.debug:
    msg: "{{ groups['lab'] | relevo.lab.hosts(hostvars) }}"
"""

RETURN = r"""
_value: {description: The option O(relevo.lab.hosts#module:hosts)., type: list, elements: dict}
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

OPTIONAL = {"volume": "lab_host_volume", "volume_gigabytes": "lab_host_volume_gigabytes", "reaches": "lab_host_reaches"}


def hosts(names: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "site": hostvars[name]["dr_site"],
            "address": hostvars[name]["ansible_host"],
            **{option: hostvars[name][variable] for option, variable in OPTIONAL.items() if variable in hostvars[name]},
        }
        for name in names
    ]


class FilterModule:
    """Filters of the laboratory."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"hosts": hosts}
