"""Whole records of a store, each read once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from relevo.due import Records
    from relevo.store import Store


def of(store: Store) -> Records:
    """Reads records as JSON trees, and keeps them: a document never changes."""
    kept: dict[str, Mapping[str, Any]] = {}

    def read(run_ids: Sequence[str], /) -> list[Mapping[str, Any]]:
        wanted = [run_id for run_id in run_ids if run_id not in kept]
        kept.update({run_id: json.loads(document) for run_id, document in store.documents(wanted).items()})
        return [kept[run_id] for run_id in run_ids]

    return read
