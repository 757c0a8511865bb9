# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The end of the ledger's log, as far back as it takes: after a long outage the last acknowledgement is a long way up."""

from __future__ import annotations

from ansible_collections.relevo.dr.plugins.module_utils import ledger, witness_log

_LINE_BYTES = 512


def newest(path: str, acknowledged: int) -> list[ledger.Entry]:
    """Entries from the end of the log with at least that many acknowledged ones, or all of it."""
    limit = _LINE_BYTES * max(64, acknowledged)
    while True:
        entries = ledger.parse(witness_log.tail(path, limit))
        if len(ledger.acknowledged(entries)) >= acknowledged or not witness_log.reaches_further(path, limit):
            return entries
        limit *= 8
