# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The one host on which backups are tried, and what it must not be: judged from the inventory, before that host is asked anything."""

from __future__ import annotations

from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils.milestone import told
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal
from ansible_collections.relevo.dr.plugins.plugin_utils.run_action import RunAction

PRODUCTION = ("dr_database", "dr_application")
OTHERS = (*PRODUCTION, "dr_witness", "dr_observer")


class ActionModule(RunAction):
    """No arguments. Returns the hosts of production (name, address), for the sandbox to look for."""

    _requires_connection = False

    def act(self) -> dict[str, Any]:
        groups, hostvars = self.variables["groups"], self.variables["hostvars"]
        production = []
        for host in sorted({host for group in PRODUCTION for host in groups.get(group, [])}):
            addresses = {str(hostvars[host].get(name) or host) for name in ("ansible_host", "dr_address")}
            production += [{"name": host, "address": address} for address in sorted(addresses)]
        try:
            sandbox = self._sandbox(groups)
            address = str(hostvars[sandbox].get("ansible_host") or sandbox)
            same = [entry["name"] for entry in production if address in (entry["address"], entry["name"])]
            if same:
                raise self._refusal(
                    "%s and %s are one host, %s" % (sandbox, same[0], address),
                    "a host of its own",
                    "correct ansible_host in the inventory",
                )
        except Refusal as refusal:
            return {"failed": True, "msg": str(refusal), **told(refused=True, gates=[refusal.gate])}
        return {"production": production, "sandbox": sandbox}

    def _sandbox(self, groups: Any) -> str:
        members = list(groups.get("dr_sandbox", []))
        if len(members) != 1:
            raise self._refusal(
                "dr_sandbox holds %s" % (", ".join(members) or "nobody"),
                "one host in dr_sandbox",
                "name the host on which backups are tried",
            )
        also = [group for group in OTHERS if members[0] in groups.get(group, [])]
        if also:
            raise self._refusal(
                "%s is in %s too" % (members[0], ", ".join(also)),
                "a host that is no host of production",
                "name another host in dr_sandbox",
            )
        return str(members[0])

    def _refusal(self, observed: str, expected: str, next_action: str) -> Refusal:
        return Refusal("SANDBOX", "controller", observed, expected, next_action)
