"""A prediction for a run that is about to start: made beside it, kept in its directory, and never waited for by it."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

from relevo import clock, documents
from relevo.expectation import line
from relevo.prediction import Past, Prediction, predict
from relevo.record import Record, from_document
from relevo.store import Store

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from relevo.due import Records
    from relevo.feed import Event
    from relevo.paths import Place

KEPT = "predicted.json"
# Older runs ran on other machines and other roles; and a long history stays quick to read.
NEWEST = 50
_RESTORES = ("restore_test", "rehearse")


def look(
    store: Store, cluster: str, runbooks: Sequence[str], at: str | None = None, records: Records | None = None
) -> list[Prediction]:
    """A prediction of each runbook from what the store holds of a cluster, as of now or of a time. StoreError when it is away.

    records: whole ones, where somebody reads them anyway.
    """
    whole, parsed = records or documents.of(store), dict[str, Record]()

    @cache
    def read(runbook: str | None) -> list[Record]:
        names = [run.run_id for run in store.summaries(cluster=cluster, runbook=runbook, limit=NEWEST)]
        new = [name for name in names if name not in parsed]
        parsed.update((name, from_document(tree)) for name, tree in zip(new, whole(new), strict=True))
        return [parsed[name] for name in names]

    def past(runbook: str) -> Past:
        restores = [record for name in _RESTORES for record in read(name)] if runbook == "failover" else []
        return Past(cluster, runbook, read(runbook), restores, read(None))

    return [predict(past(runbook), at or clock.utc_now()) for runbook in runbooks]


class Forecast:
    """The prediction of one run. A store that is slow or away costs it nothing: then there is no prediction."""

    def __init__(self, place: Place, runbook: str) -> None:
        self._place, self._runbook = place, runbook
        self._thread: threading.Thread | None = None
        self._made: Prediction | None = None
        self._shown = self._kept = False

    def begin(self, cluster: str) -> None:
        """Look into the past of a cluster, in the background."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._look, args=(cluster,), daemon=True)
            self._thread.start()

    def take(self, event: Event) -> None:
        """The opening task names the cluster; for the runbooks that move production it was known before."""
        named = (run.get("cluster") for said in event.said if isinstance(run := said.get("run"), dict))
        for cluster in filter(None, named):
            self.begin(str(cluster))

    def line(self, wait_seconds: float = 0.0) -> str | None:
        """The line for people, once, as soon as it is there."""
        if self._thread is None or self._shown:
            return None
        self._thread.join(wait_seconds)
        self._shown = self._made is not None
        return line(self._made) if self._made is not None else None

    def keep(self, directory: Path) -> None:
        """For the record of this run, also when it is killed; as soon as it is there."""
        if self._made is not None and not self._kept:
            self._kept = True
            draft = directory / f".{KEPT}"
            with suppress(OSError):  # a full disk says so elsewhere
                draft.write_text(json.dumps(self._made.kept()), encoding="utf-8")
                draft.rename(directory / KEPT)

    def _look(self, cluster: str) -> None:
        # A store that is away, or whatever an old record holds: nobody starts a failover later for it.
        with suppress(Exception):
            (self._made,) = look(Store(self._place), cluster, [self._runbook])


def kept(directory: Path) -> dict[str, Any] | None:
    """What was predicted for the run of this directory; None when nothing was."""
    try:
        tree = json.loads((directory / KEPT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return tree if isinstance(tree, dict) else None
