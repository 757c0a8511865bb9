"""Whatever is asked of the database has the answer that a plain list gives."""

from __future__ import annotations

import tempfile
from datetime import datetime
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relevo.history import Summary
from relevo.paths import Place
from relevo.store import Store
from tests.unit.runner.questions import MOMENTS, compared, runs


def store_at(directory: Path) -> Store:
    return Store(Place(directory, f"sqlite:///{directory}/relevo.db"))


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(runs(), MOMENTS, st.integers(1, 12))
def test_the_database_says_what_a_list_says(found: list[Summary], at: datetime, limit: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        compared(store_at(Path(directory)), found, at, limit)
