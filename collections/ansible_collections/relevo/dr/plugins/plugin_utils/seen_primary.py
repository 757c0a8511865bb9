# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The primary among what the database hosts said of themselves, with the locks that this controller can judge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils.protection import find_primary
from ansible_collections.relevo.dr.plugins.plugin_utils import controller


def find(seen: Mapping[str, Mapping[str, Any]], *, every_host: bool) -> str:
    """The host. seen: by host the result of ``cluster_info``, which may be that of an unreachable host. Raises Refusal, as :func:`find_primary` says."""
    clusters = {host: answer.get("cluster") or {} for host, answer in seen.items()}
    host_facts = {host: answer.get("host") or {} for host, answer in seen.items()}
    locks = {
        host: facts.get("lock")
        for host, facts in host_facts.items()
        if not facts.get("lock_expired") or controller.owner_alive(facts.get("lock"))
    }
    return find_primary(clusters, locks, every_host=every_host)
