"""Who hears of one run that changes production, whoever leads it: `relevo run`, or ansible-playbook and AWX by the callback.

Whom `relevo run --notify` names, or else the contacts of the inventory: never both, so that nobody hears twice. Nothing here holds a run up or ends it.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from relevo import asked
from relevo.herald import About, Herald
from relevo.request import CONFIRMED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from relevo.feed import Event
    from relevo.herald import Listener
    from relevo.recording import Recorder


class Audience:
    """Of one run. reader: makes listeners of a file of URLs; named: the file that the operator gave, whose request is kept already."""

    def __init__(self, recorder: Recorder, reader: Callable[[Path], Sequence[Listener]], named: Path | None = None) -> None:
        self._recorder, self._reader, self._named = recorder, reader, named
        opening = recorder.opening
        self._silent = opening.runbook not in CONFIRMED or opening.check_mode
        self._about = About(opening.run_id, opening.runbook, opening.cluster, opening.operator, opening.inputs)
        self._herald: Herald | None = None
        self._problem: str | None = None

    def take(self, event: Event) -> None:
        """See whether an event is one that people hear of; returns at once, and never raises."""
        if self._silent:
            return
        try:
            self._take(event)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a word, the failover goes on
            self._silent, self._problem = True, f"{type(error).__name__}: {error}"

    def close(self) -> list[str]:
        """Wait a little for what is still on its way; a sentence for each word that did not arrive."""
        found = [f"The contacts did not hear of this run while it went on: {self._problem.rstrip('.')}."] if self._problem else []
        return found + (self._herald.close() if self._herald else [])

    def _take(self, event: Event) -> None:
        for said in event.said:
            cluster = (said.get("run") or {}).get("cluster")
            self._about = replace(self._about, cluster=cluster) if cluster else self._about
        if self._herald is None:
            file = self._named or asked.contacts(self._recorder.directory)
            if file is None:
                return
            if self._named is None and not file.exists():
                self._silent = True  # the gate CONTACTS says it
                return
            self._herald = Herald(self._about, self._reader(file))
            if self._named is None:
                # From now on also a run that is killed is told of.
                asked.ask(self._recorder.directory, asked.Request(str(file), report=asked.wants_report(os.environ)))
        self._herald.about = self._about
        self._herald.take(event)
