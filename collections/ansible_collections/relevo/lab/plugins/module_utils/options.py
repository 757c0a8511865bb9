# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Options that several modules of the laboratory share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible_collections.relevo.lab.plugins.module_utils.laboratory import ALL, DEFAULT_STATE_DIRECTORY, Host

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

STATE_DIRECTORY: dict[str, Any] = {"type": "path", "default": DEFAULT_STATE_DIRECTORY}
CACHE_DIRECTORY: dict[str, Any] = {"type": "path", "default": "/var/cache/relevo-lab"}
NETWORKS: dict[str, Any] = {"type": "dict", "required": True}
HOSTS: dict[str, Any] = {
    "type": "list",
    "elements": "dict",
    "default": [],
    "options": {
        "name": {"type": "str", "required": True},
        "site": {"type": "str", "required": True},
        "address": {"type": "str", "required": True},
        "volume": {"type": "str", "default": ""},
        "volume_gigabytes": {"type": "int", "default": 8},
        "reaches": {"type": "list", "elements": "str"},
    },
}


def hosts_from(parameters: Sequence[dict[str, Any]], networks: dict[str, str]) -> list[Host]:
    return [
        Host(**parameter, network=networks[parameter["site"]], reaches=_reaches(reaches))
        for parameter, reaches in _parted(parameters)
    ]


def _parted(parameters: Sequence[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], list[str] | None]]:
    for parameter in parameters:
        yield {name: value for name, value in parameter.items() if name != "reaches"}, parameter.get("reaches")


def _reaches(names: list[str] | None) -> str:
    return ALL if names is None else ",".join(names)
