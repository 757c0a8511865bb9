# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What can be wrong with an escrow, each by a name of its own; a sentence says what was seen, and never shows a byte of a key."""

from __future__ import annotations

from ansible_collections.relevo.dr.plugins.module_utils.refusal import sentence

MISSING = "MISSING"
SILENT = "SILENT"
DENIED = "DENIED"
CORRUPT = "CORRUPT"
NO_IDENTITY = "NO_IDENTITY"
TOO_FEW_SHARES = "TOO_FEW_SHARES"
BAD_SHARE = "BAD_SHARE"
WRONG_GENERATION = "WRONG_GENERATION"
LINE_END = "LINE_END"
DIFFERENT = "DIFFERENT"
TOO_LARGE = "TOO_LARGE"
DECLARATION = "DECLARATION"


class EscrowFault(Exception):
    """kind: one of the names above. where: the path, the item or the share."""

    def __init__(self, kind: str, where: str, observed: str, expected: str, next_action: str) -> None:
        super().__init__(sentence(kind, where, observed, expected, next_action))
        self.kind, self.where, self.observed, self.expected, self.next_action = kind, where, observed, expected, next_action
