# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What came of every path: recovered, intact, decrypted, in time. Forgets what was recovered, whatever came of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils import clock, escrow_choice
from ansible_collections.relevo.dr.plugins.module_utils.escrow_fault import CORRUPT, SILENT
from ansible_collections.relevo.dr.plugins.module_utils.gates import FAIL, PASS, UNKNOWN
from ansible_collections.relevo.dr.plugins.plugin_utils.escrow_action import (
    CONTROLLER,
    DECRYPTED,
    RECOVERED,
    EscrowAction,
    passed,
    required,
)


class ActionModule(EscrowAction):
    """Arguments: expected (how many ways there are), lost_site (whose paths were not tried), limit_seconds, memory_directory."""

    _requires_connection = False
    phase = "JUDGE"

    def keep(self) -> dict[str, Any]:
        self.memory().remove()
        ways, decrypted = self.control.read_all(RECOVERED), self.control.read_all(DECRYPTED)
        began = self.control.read("landscape")["began"]
        seconds = round(clock.boottime_seconds() - float(began["boottime"]), 3)
        keys = {**verdicts(int(self._task.args["expected"]), ways.values(), decrypted.values()), "seconds": seconds}
        keys["lost_site"] = self._task.args["lost_site"] or None
        proven = escrow_choice.latest(way.get("shares_proven") or {} for way in ways.values())
        keys["paths"] = [{key: value for key, value in way.items() if key != "shares_proven"} for way in ways.values()]
        keys["shares_proven"] = {str(number): at for number, at in proven.items()} or None
        limit = float(self._task.args["limit_seconds"])
        within, title = "within %g s" % limit, "Keys are back in time"
        gates = [
            passed("KEYSTIME", title, CONTROLLER, "%g s" % seconds, within, self.phase)
            if seconds <= limit
            else required("KEYSTIME", title, CONTROLLER, "%g s" % seconds, within, "see the phases for what took long", self.phase)
        ]
        for name, said in (
            ("recovered", "Keys are recovered"),
            ("intact", "Keys are intact"),
            ("decrypted", "Columns are decrypted"),
        ):
            observed = "%s, by %d of %s ways" % (
                keys[name],
                sum(bool(way.get(name)) for way in ways.values()),
                self._task.args["expected"],
            )
            if name == "decrypted":
                observed = "%s, %d copies" % (keys[name], len(decrypted))
            gates.append(
                passed("KEYSTEST", said, CONTROLLER, observed, "pass, by every way", self.phase)
                if keys[name] == PASS
                else {
                    **required(
                        "KEYSTEST", said, CONTROLLER, observed, "pass, by every way", "the gates above say which", self.phase
                    ),
                    "verdict": keys[name],
                }
            )
        return self.judged(gates, "every way leads to the keys, %g s" % seconds, measures={"keys": keys})


def verdicts(expected: int, ways: Iterable[Mapping[str, Any]], decrypted: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """recovered, intact and decrypted, as the policy asks for them; what nobody saw is unknown."""
    tried, copies = list(ways), [str(copy["verdict"]) for copy in decrypted]
    missed = [way.get("fault") for way in tried if not way["recovered"]]
    # A path that does not answer was not seen to fail.
    seen_all = bool(tried) and len(tried) >= expected and not missed
    recovered = FAIL if any(fault != SILENT for fault in missed) else PASS if seen_all else UNKNOWN
    whole = [way for way in tried if way["recovered"]]
    damaged = CORRUPT in missed or any(not way["intact"] for way in whole)
    intact = FAIL if damaged else PASS if whole and recovered == PASS else UNKNOWN
    seen = bool(copies) and UNKNOWN not in copies and len(copies) >= expected
    # A way that led to the keys, but no further, has failed: the repository did not open, or the copy did not start.
    plain = FAIL if FAIL in copies or len(copies) < len(whole) else PASS if seen else UNKNOWN
    return {"recovered": recovered, "intact": intact, "decrypted": plain}
