# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The kinds of components. Named one by one, since Ansible sends a host only what is imported by name."""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.relevo.dr.plugins.module_utils.app_provider import Option, Provider
from ansible_collections.relevo.dr.plugins.module_utils.provider_compose import Compose
from ansible_collections.relevo.dr.plugins.module_utils.provider_haproxy import Haproxy
from ansible_collections.relevo.dr.plugins.module_utils.provider_pgbouncer import Pgbouncer
from ansible_collections.relevo.dr.plugins.module_utils.provider_systemd import Systemd

ON_HOSTS: dict[str, type[Provider]] = {"systemd": Systemd, "compose": Compose, "haproxy": Haproxy, "pgbouncer": Pgbouncer}
# Needs a library that only the controller has: plugin_utils/route53.py.
ON_CONTROLLER: dict[str, Mapping[str, Option]] = {
    "route53": {
        "zone_id": Option(str, required=True),
        "record": Option(str, required=True),
        "type": Option(str, default="CNAME"),
        "values": Option(dict, required=True),
        "ttl_max_seconds": Option(int, default=300),
        "endpoint": Option(str, default=""),
        "region": Option(str, default="us-east-1"),
        "ca_file": Option(str, default=""),
        "key_id_secret": Option(str, default=""),
        "key_secret": Option(str, default=""),
    }
}
NAMES = (*ON_HOSTS, *ON_CONTROLLER)
OPTIONS: dict[str, Mapping[str, Option]] = {**{name: kind.OPTIONS for name, kind in ON_HOSTS.items()}, **ON_CONTROLLER}
