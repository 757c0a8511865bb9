# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A refusal: nothing was changed, and a sentence says why and what to do."""

from __future__ import annotations


class Refusal(Exception):
    """Host, check, what was observed, what was expected, what to do next."""

    def __init__(self, check: str, host: str, observed: str, expected: str, next_action: str) -> None:
        super().__init__(sentence(check, host, observed, expected, next_action))
        self.gate = {
            "id": check,
            "title": check,
            "phase": "PREFLIGHT",
            "host": host,
            "observed": observed,
            "expected": expected,
            "verdict": "fail",
            "next_action": next_action,
        }


def sentence(check: str, host: str, observed: str, expected: str, next_action: str) -> str:
    """The one form in which operators read why something was not done."""
    return "%s on %s: observed %s; expected %s. Next: %s" % (check, host, observed, expected, next_action)
