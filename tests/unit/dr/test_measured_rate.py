"""The time of a restore is told from the newest one that was measured whole, and is called assumed where there is none."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible_collections.relevo.dr.plugins.action import preflight
from ansible_collections.relevo.dr.plugins.module_utils.way_out import ASSUMED_BYTES_PER_SECOND


class GoneError(Exception):
    """The store does not answer."""


def record(run_id, *rates):
    return {"run_id": run_id, "measures": {"restore_tests": [{"restore_bytes_per_second": rate} for rate in rates]}}


@pytest.fixture
def past(monkeypatch):
    def says(records):
        def settled(_cluster, _runbook):
            if records is None:
                raise GoneError
            return records

        monkeypatch.setattr(preflight.importlib, "import_module", lambda _: SimpleNamespace(settled=settled, RelevoError=GoneError))
        return preflight.measured_rate("shop")

    return says


def test_the_newest_restore_of_a_whole_backup_counts(past):
    found = past([record("r3", None), record("r2", None, 5e7), record("r1", 9e7)])
    assert (found.bytes_per_second, found.said) == (5e7, "measured by r2")


@pytest.mark.parametrize("records", [[], [{"run_id": "r1", "measures": {"restore_tests": None}}], None])
def test_without_one_it_is_assumed_and_says_so(past, records):
    found = past(records)
    assert found.bytes_per_second == ASSUMED_BYTES_PER_SECOND
    assert found.said.startswith("assumed")
