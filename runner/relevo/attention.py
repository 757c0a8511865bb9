"""Which of a watcher's decisions are said aloud: each once, the small ones only when they last. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from relevo.decision import FLAPS_SECONDS, Action, Decision, Event

if TYPE_CHECKING:
    from collections.abc import Mapping

# What an event has to last before it is one; an outage has had its window.
_SETTLE_SECONDS: Mapping[Event, float] = {
    Event.PARTITION: 2.0,
    Event.SUSPECTED: 2.0,
    Event.RETURNED: 2.0,
    Event.MOVED: 2.0,
    Event.HEALTHY: 2.0,
    Event.WATCHING: 60.0,
}
# After these a healthy primary is no news.
_GOOD = frozenset({Event.HEALTHY, Event.RETURNED, Event.MOVED})


@dataclass(frozen=True)
class Attention:
    """last: what was said last; waiting: what may be said when it lasts, since when by the watcher's clock; returns: when a primary came back."""

    last: Decision | None = None
    waiting: str = ""
    since: float = 0.0
    returns: tuple[float, ...] = ()

    @property
    def event(self) -> Event:
        """What is the matter, as it was said last."""
        return self.last.event if self.last else Event.WATCHING

    @property
    def primary(self) -> str | None:
        """The primary, as it was said last."""
        return self.last.evidence.get("primary") if self.last else None

    def hear(self, decision: Decision, now: float) -> tuple[Attention, Decision | None]:
        """The same after one more decision, and that decision when it is to be said."""
        if self.last is not None and (
            _key(decision) == _key(self.last) or (decision.event is Event.HEALTHY and self.event in _GOOD)
        ):
            return replace(self, waiting=""), None
        if decision.event is Event.WATCHING and self.last is not None and self.event is Event.WATCHING:
            return replace(self, waiting=""), None
        key, heard = _key(decision), self
        if key != self.waiting:
            heard = replace(self, waiting=key, since=now)
        if now - heard.since < _SETTLE_SECONDS.get(decision.event, 0.0):
            return heard, None
        returns = tuple(at for at in self.returns if now - at <= FLAPS_SECONDS)
        returns = (*returns, now) if decision.event is Event.RETURNED else returns
        return Attention(decision, returns=returns), decision


def _key(decision: Decision) -> str:
    """What makes two decisions the same: numbers in its words grow by themselves. What is to be done is said again for each outage, not for each look."""
    words = "" if decision.action is not Action.NONE else re.sub(r"[\d.:]+", "#", decision.because)
    return f"{decision.event} {decision.action} {decision.evidence.get('primary')} {words}"
