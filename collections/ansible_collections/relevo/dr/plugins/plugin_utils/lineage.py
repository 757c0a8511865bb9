# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What earlier runs left on the hosts of this one."""

from __future__ import annotations

from collections.abc import Iterable

from ansible_collections.relevo.dr.plugins.plugin_utils.control import Control


def promoted_at(control: Control, hosts: Iterable[str]) -> str:
    """When the newest of these hosts was promoted itself, UTC; empty when none says so.

    What an old primary never had was lost, and accounted for, by the run that promoted it; this run does not answer for it again.
    """
    known = [control.read("database/%s" % host).get("facts", {}).get("host", {}).get("promoted_at") for host in hosts]
    return max((str(at) for at in known if at), default="")
