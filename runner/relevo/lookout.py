"""The slow events: what `relevo status` finds, asked every few minutes, and the alarms of the dead-man's switch. Judged by their gates, not anew."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relevo.decision import Action, Decision, Event

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from relevo.sight import Feed

_LIMIT_SECONDS = 300.0
# Which gate of a check is which event when it does not hold.
GATES: Mapping[str, Event] = {
    "G03": Event.ARCHIVE_STALLED,
    "G05": Event.BACKUP_MISSING,
    "G08": Event.RPO_AT_RISK,
}


def from_gates(gates: Iterable[Mapping[str, Any]], before: Iterable[Decision] = ()) -> list[Decision]:
    """One decision for each event, with every gate that says so. before: what was found last; it stays where its gate cannot be judged now."""
    found: dict[Event, list[Mapping[str, Any]]] = {}
    unknown: set[Event] = set()
    for gate in gates:
        event = GATES.get(str(gate.get("id")))
        if event is not None and gate.get("verdict") == "fail":
            found.setdefault(event, []).append(gate)
        elif event is not None and gate.get("verdict") == "unknown":
            unknown.add(event)
    return [
        *(Decision(event, Action.NONE, _sentence(failed), {"gates": failed}) for event, failed in found.items()),
        *(decision for decision in before if decision.event in unknown and decision.event not in found),
    ]


def from_alarms(feeds: Iterable[Feed], now: float) -> list[Decision]:
    """What the dead-man's switch of a witness speaks of."""
    said = [(feed.name, alarm) for feed in feeds if feed.doubt(now) is None for alarm in feed.alarms]
    if not said:
        return []
    text = "; ".join(f"{name} misses {alarm}" for name, alarm in said)
    return [
        Decision(
            Event.CHECK_MISSING, Action.NONE, f"{text}. Its own alarm says what to do.", {"alarms": [alarm for _, alarm in said]}
        )
    ]


def _sentence(failed: Sequence[Mapping[str, Any]]) -> str:
    one = failed[0]
    return f"{one.get('title')} on {one.get('host')}: {one.get('observed')}; expected {one.get('expected')}. Next: {one.get('next_action')}."


class Lookout:
    """Asks `relevo status` in a thread of its own. inventory: as the watcher has it; project: where it is asked from."""

    def __init__(self, cluster: str, inventory: Sequence[str], project: Path, every_seconds: float) -> None:
        self._command = [str(Path(sys.executable).with_name("relevo")), "status", cluster, "--json"]
        self._command += [word for source in inventory for word in ("-i", source)]
        self._project, self._every_seconds = project, every_seconds
        self._found: list[Decision] = []
        self._stopping = threading.Event()
        self.wanted = False
        self._thread = threading.Thread(target=self._work, daemon=True, name="lookout")

    def start(self) -> None:
        """From now on look, whenever it is wanted."""
        self._thread.start()

    def stop(self) -> None:
        """No further look."""
        self._stopping.set()

    def found(self) -> list[Decision]:
        """What the newest look found."""
        return self._found

    def _work(self) -> None:
        while not self._stopping.wait(self._every_seconds):
            if self.wanted:
                self._look()

    def _look(self) -> None:
        try:
            done = subprocess.run(
                self._command,
                capture_output=True,
                text=True,
                timeout=_LIMIT_SECONDS,
                check=False,
                cwd=self._project,
                stdin=subprocess.DEVNULL,
            )
            self._found = from_gates(json.loads(done.stdout)["gates"], self._found)
        except (OSError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError):
            # A look that failed says nothing: what was found stays.
            return
