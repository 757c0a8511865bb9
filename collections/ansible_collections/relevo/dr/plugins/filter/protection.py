# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the roles of the runbook protect compute on the controller."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils import backup_server
from ansible_collections.relevo.dr.plugins.module_utils.access import access_rules, slot_name
from ansible_collections.relevo.dr.plugins.module_utils.managed_file import with_block
from ansible_collections.relevo.dr.plugins.module_utils.pgbackrest_file import passphrase_name, read_only
from ansible_collections.relevo.dr.plugins.module_utils.standby_build import conninfo


def with_first_block(text: str, block: str) -> str:
    """Text with our block, at its beginning when it is new: in pg_hba.conf the first match counts."""
    return with_block(text, block, first=True)


def server_name(variables: Mapping[str, Any]) -> str:
    """The name by which clients reach a host, as its certificate has it. variables: the host's."""
    return str(variables.get("dr_address") or variables["inventory_hostname"])


def client_address(variables: Mapping[str, Any]) -> str:
    """Where a host's connections come from: its address, for a rule by name needs a name server at every login."""
    address = str(variables.get("ansible_host") or "")
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return server_name(variables)


def peer(variables: Mapping[str, Any], port: int) -> dict[str, Any]:
    """A host as the guard of another one asks it."""
    return {"name": str(variables["inventory_hostname"]), "host": server_name(variables), "port": port}


def at_least(name: str, settings: Mapping[str, Any]) -> dict[str, str]:
    """A parameter that may not be lower than the primary's."""
    return {"name": name, "value": str(settings[name]), "rule": "minimum"}


def repository_passphrases(repositories: Sequence[Mapping[str, Any]]) -> list[str]:
    """The secrets that Relevo may generate: the repositories' own passphrases, never another's keys."""
    return [passphrase_name(repository) for repository in repositories if repository.get("cipher", "aes-256-cbc") != "none"]


def own_site_first(repositories: Sequence[Mapping[str, Any]], site: str, sites: Mapping[str, str]) -> list[dict[str, Any]]:
    """Where the repositories are, those of a site before all others: what is near is asked first. sites: of the hosts of the inventory."""
    found = []
    for repository in repositories:
        host = repository.get("endpoint")
        place = {"id": int(repository["id"]), "host": host, "port": int(repository.get("port", 443))}
        found.append((str(repository.get("site") or sites.get(str(host), "")) != site, place["id"], place))
    return [place for _, _, place in sorted(found, key=lambda entry: entry[:2])]


def backup_client(variables: Mapping[str, Any]) -> str:
    """The common name by which pgBackRest's server knows a host that asks it."""
    return str(_tls(variables).get("common_name") or server_name(variables))


def backup_standby(variables: Mapping[str, Any], tls: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """How pgBackRest reaches a host that may be a standby. variables: that host's; tls: dr_pgbackrest_tls of the one that asks."""
    cluster = {"data_directory": variables["dr_cluster_data_directory"], "port": variables["dr_cluster_port"]}
    port = int(_tls(variables).get("port") or backup_server.PORT)
    return backup_server.standby_options(server_name(variables), port, tls, cluster, owner)


def _tls(variables: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = variables.get("dr_pgbackrest_tls") or {}
    return found


def change_line(change: Mapping[str, str]) -> str:
    """One difference on one line."""
    return "%s: %s -> %s" % (change["item"], change["current"], change["wanted"])


class FilterModule:
    """Pure functions as filters."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters by name."""
        return {
            "access_rules": access_rules,
            "at_least": at_least,
            "backup_client": backup_client,
            "backup_standby": backup_standby,
            "change_line": change_line,
            "client_address": client_address,
            "conninfo": conninfo,
            "own_site_first": own_site_first,
            "peer": peer,
            "read_only": read_only,
            "repository_passphrases": repository_passphrases,
            "server_name": server_name,
            "slot_name": slot_name,
            "with_first_block": with_first_block,
        }
