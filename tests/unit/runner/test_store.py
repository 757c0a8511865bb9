from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from relevo.errors import RecordNotFoundError, StoreError
from relevo.paths import Place
from relevo.record import Record, canonical
from relevo.store import Store
from tests.unit.runner.streams import build, read


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(Place(tmp_path / "state", f"sqlite:///{tmp_path}/state/relevo.db"))


def record(run_id: str, opened_at: str = "2026-11-24T12:15:30.000000Z", cluster: str = "minimarket") -> Record:
    opening, events = read("failover_disaster")
    built = build(replace(opening, run_id=run_id, opened_at=opened_at), events)
    return built.model_copy(update={"cluster": cluster})


def add(store: Store, *records: Record) -> None:
    for one in records:
        store.add(one, canonical(one.document()), "signature")


def test_exact_bytes_come_back(store: Store) -> None:
    add(store, record("r1"))
    assert store.get("r1").document == canonical(record("r1").document())
    assert store.get("r1").signature == "signature"


def test_newest_first_and_latest(store: Store) -> None:
    add(store, record("r2", "2026-11-24T13:00:00.000000Z"), record("r1"), record("r3", "2026-11-24T13:00:00.000000Z", "other"))
    assert [stored.run_id for stored in store.newest()] == ["r3", "r2", "r1"]
    assert [stored.run_id for stored in store.newest(1)] == ["r3"]
    assert [stored.run_id for stored in store.newest(cluster="minimarket", runbook="failover")] == ["r2", "r1"]
    assert store.get("latest").run_id == "r3"


def test_the_same_record_twice_is_one_and_another_one_is_an_error(store: Store) -> None:
    add(store, record("r1"), record("r1"))
    assert len(store.newest()) == 1
    with pytest.raises(StoreError, match="already holds another record of the run r1"):
        add(store, record("r1", cluster="other"))
    assert store.get("r1").document == canonical(record("r1").document())


def test_an_empty_store_says_so(store: Store) -> None:
    assert store.newest() == []
    with pytest.raises(RecordNotFoundError, match="no results yet"):
        store.get("latest")
    with pytest.raises(RecordNotFoundError, match="'r9'"):
        store.get("r9")


def test_a_store_that_is_away_is_named_without_its_password(tmp_path: Path) -> None:
    away = Store(Place(tmp_path, "postgresql://relevo:hunter2@127.0.0.1:1/relevo"))
    with pytest.raises(StoreError, match="cannot be used") as error:
        away.newest()
    assert "hunter2" not in str(error.value)


def test_only_its_owner_reads_the_file(store: Store, tmp_path: Path) -> None:
    add(store, record("r1"))
    assert (tmp_path / "state" / "relevo.db").stat().st_mode & 0o777 == 0o600


def test_many_first_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    place = Place(tmp_path / "state", f"sqlite:///{tmp_path}/state/relevo.db")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: add(Store(place), record(f"r{number}")), range(8)))
    assert len(Store(place).newest()) == 8


def test_the_first_run_of_a_runbook_that_ended_well(store: Store) -> None:
    add(store, record("r2", "2026-11-24T13:00:00.000000Z"), record("r1"), record("r0", "2026-11-23T13:00:00.000000Z", "other"))
    verdict = record("r1").verdict.value
    assert store.first("minimarket", "failover", [verdict]) == "2026-11-24T12:15:30.000000Z"
    assert store.first("minimarket", "failover", ["refused"]) is None
    assert store.first("minimarket", "protect", [verdict]) is None


def test_a_run_in_check_mode_is_not_the_first_one(store: Store) -> None:
    tried = record("r0", "2026-11-23T13:00:00.000000Z").model_copy(update={"check_mode": True})
    verdict = record("r1").verdict.value
    add(store, tried)
    assert store.first("minimarket", "failover", [verdict]) is None
    add(store, record("r1"))
    assert store.first("minimarket", "failover", [verdict]) == "2026-11-24T12:15:30.000000Z"
