"""What this checkout and the inventory are at this moment, before a run says it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relevo import digest, due, inventory, paths
from relevo.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime


def look(sources: Sequence[str] | None, at: datetime) -> due.Now:
    """What a test may have proved something else about. sources: inventories, else that of RELEVO_INVENTORY, else none."""
    try:
        project = paths.find_project(Path.cwd(), os.environ)
    except UsageError:
        return due.Now(at, {}, lambda *_: None)
    from_environment = os.environ.get("RELEVO_INVENTORY")
    named = inventory.absolute(sources or ([from_environment] if from_environment else []))
    observed: Mapping[str, Any] = {"digests.inventory": digest.inventory_digest(named)}
    clusters = inventory.clusters(project, named) if named else ()
    return due.Now(at, dict.fromkeys(clusters, observed), _same(project))


def _same(project: Path) -> Callable[[str, Any, Any], bool | None]:
    def same(measurement: str, one: Any, other: Any) -> bool | None:
        return digest.same_code(project, str(one), str(other)) if measurement == "digests.commit" else None

    return same
