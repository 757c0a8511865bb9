"""Keeps what a watcher decides: on its own disk at once, as a signed statement in the store when that answers. And asks there for maintenance.

All in a thread of its own: neither a store that is gone nor a slow disk of it holds a decision up.
"""

from __future__ import annotations

import json
import os
import threading
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from relevo import clock, entries, identity, maintenance, signature
from relevo.errors import RelevoError
from relevo.journal import sync_directory
from relevo.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from relevo.paths import Place

KIND = "watch"
_LOOK_SECONDS = 1.0
# A store that is gone is asked less often.
_RETRY_SECONDS = 10.0


class Clerk:
    """Of one watcher. directory: its own, on this controller's disk."""

    def __init__(self, place: Place, cluster: str, directory: Path) -> None:
        self.problem: str | None = None
        self._place, self._cluster, self._spool = place, cluster, directory / "spool"
        self._spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._key = signature.ready_key(place.keys)
        self._found: tuple[maintenance.Maintenance, float] | None = None
        self._asked = False
        self._stopping, self._awake = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True, name="clerk")

    def start(self) -> None:
        """From now on deliver and ask."""
        self._thread.start()

    def stop(self) -> None:
        """Deliver what can be delivered now; the rest waits on the disk for the next watcher."""
        self._stopping.set()
        self._awake.set()
        self._thread.join(_RETRY_SECONDS)

    def note(self, event: str, said: dict[str, Any]) -> entries.Entry:
        """Keep a statement; it is on the disk when this returns. OSError when that is full."""
        speaker = entries.Speaker("relevo watch", identity.controller(), datetime.now(UTC))
        entry = entries.make(speaker, KIND, self._cluster, event, said)
        write_durably(self._spool / f"{entry.at} {entry.entry_id}.json", json.dumps(asdict(entry), ensure_ascii=False))
        self._awake.set()
        return entry

    def blind(self) -> str | None:
        """Why it is not known whether there is maintenance; None when the store has answered once."""
        return None if self._asked else "the store of results has not said yet whether there is maintenance"

    def maintenance(self, now: float) -> str | None:
        """The maintenance that is on, as a sentence. now: boot clock, so that nobody's setting of the other one makes it longer."""
        found = self._found
        return found[0].sentence() if found and now < found[1] else None

    def _work(self) -> None:
        store: Store | None = None
        while True:
            stopping = self._stopping.is_set()
            try:
                store = store or Store(self._place)
                self._deliver(store)
                self._ask(store)
                self.problem, pause = None, _LOOK_SECONDS
            except (RelevoError, OSError) as error:
                self.problem, pause = str(error), _RETRY_SECONDS
            if stopping:
                return
            self._awake.wait(pause)
            self._awake.clear()

    def _deliver(self, store: Store) -> None:
        # In the order in which they were said, also within a second.
        waiting = sorted(self._spool.glob("*.json"))
        known = {signed.entry_id for signed in store.statements(KIND)} if waiting else set()
        for path in waiting:
            entry = entries.Entry(**json.loads(path.read_text(encoding="utf-8")))
            if entry.entry_id not in known:
                entries.append(store, entry, self._key)
            path.unlink()

    def _ask(self, store: Store) -> None:
        said = [entries.parse(signed.document) for signed in store.statements(maintenance.KIND)]
        latest = maintenance.latest(said, self._cluster)
        if latest is None:
            self._found = None
        elif self._found is None or self._found[0] != latest:
            left = latest.left_seconds(datetime.now(UTC))
            self._found = (latest, clock.boottime_seconds() + left)
        self._asked = True


def write_durably(path: Path, text: str) -> None:
    """A file as a whole, which survives a power cut. OSError when it cannot be written."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as target:
            target.write(text)
            target.flush()
            os.fsync(target.fileno())
        draft.rename(path)
        sync_directory(path.parent)
    finally:
        with suppress(OSError):
            draft.unlink()
