# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an armed run makes of time: how old its evidence is, when it has waited for too long, and what has turned. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils.gates import Gate, verdict

GO, CANCEL = "go", "cancel"
# How such a run's waiting ends. GONE: it has become a run as any other.
GONE, CANCELLED, EXPIRED = "gone", "cancelled", "expired"
_AGE = "age_seconds"


@dataclass(frozen=True)
class Word:
    """What a person, or a watcher, says to an armed run. number: of the request, for the answer; confirm: as it was typed.

    boottime: of when it was said, by the controller's boot clock; 0 where nobody noted it.
    """

    word: str
    by: str
    at: str
    number: str
    confirm: str = ""
    reason: str = ""
    boottime: float = 0.0


@dataclass(frozen=True)
class Limits:
    """Seconds: armed at all; without the answer of a host that the plan needs; from a look to the word that rests on it."""

    armed_seconds: float
    unheard_seconds: float
    evidence_seconds: float


def read_word(value: Mapping[str, Any]) -> Word:
    """From the run's directory. Raises ValueError for what is no word."""
    if value.get("word") not in (GO, CANCEL):
        raise ValueError("neither %s nor %s" % (GO, CANCEL))
    said = {name: str(value.get(name) or "") for name in Word.__dataclass_fields__ if name != "boottime"}
    return Word(**said, boottime=float(value.get("boottime") or 0.0))


def aged(facts: Any, seconds: float) -> Any:
    """What was observed that long ago, as of now: every age in it is greater by that."""
    if isinstance(facts, dict):
        return {name: _older(value, seconds) if str(name).endswith(_AGE) else aged(value, seconds) for name, value in facts.items()}
    return [aged(value, seconds) for value in facts] if isinstance(facts, list) else facts


def _older(value: Any, seconds: float) -> Any:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) + max(0.0, seconds) if number else value


def evidence_gate(ages: Mapping[str, float], limits: Limits) -> Gate:
    """ages: seconds since each host that answers was looked at. What is older than the limit says nothing of now."""
    oldest = max(ages, key=lambda host: ages[host], default="")
    return Gate(
        "EVIDENCE",
        "what the word rests on was seen lately",
        "controller",
        "%s was looked at %.1f s ago" % (oldest, ages[oldest]) if ages else "no host was looked at",
        "every host that answers within the last %g s" % limits.evidence_seconds,
        verdict(bool(ages) and ages[oldest] <= limits.evidence_seconds),
        "wait for the next look, and say go again; if none comes, start the run unarmed",
    )


def expired(armed_seconds: float, unheard_seconds: float, limits: Limits) -> Optional[str]:
    """Why a run is armed no longer, as a sentence; None as long as it is. unheard_seconds: since the plan's own hosts answered last."""
    if armed_seconds > limits.armed_seconds:
        return "it has been armed for %.0f s; the limit is %g s (dr_armed_limit_seconds)" % (armed_seconds, limits.armed_seconds)
    if unheard_seconds > limits.unheard_seconds:
        return "its evidence is too old: for %.0f s not every host that it needs has answered; the limit is %g s" % (
            unheard_seconds,
            limits.unheard_seconds,
        )
    return None


def turned(before: Iterable[str], now: Iterable[str]) -> tuple[list[str], list[str]]:
    """Gates, by id and host, that have turned red since the last judgement, and those that have turned green."""
    red, past = list(dict.fromkeys(now)), list(dict.fromkeys(before))
    return [name for name in red if name not in past], [name for name in past if name not in red]
