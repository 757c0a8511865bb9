from __future__ import annotations

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from relevo import audit, chain, entries, keyring, signature, tables
from relevo.errors import RecordNotFoundError, StoreError
from relevo.history import summarize
from relevo.paths import Place
from relevo.record import Record, canonical
from relevo.store import Store
from tests.unit.runner.evidence import insert, old_store
from tests.unit.runner.streams import build, read

FORM_2 = Path(__file__).resolve().parents[2] / "fixtures" / "stores"
TABLES = ("record", "summary", "chain", "entry")


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


def test_another_store_of_the_same_process_drops_no_lock(store: Store, tmp_path: Path) -> None:
    """POSIX locks of a process end when it closes any descriptor of the file: two writers would be in at once, and one is lost."""
    add(store, record("r1"))
    place = Place(tmp_path / "state", f"sqlite:///{tmp_path}/state/relevo.db")
    other = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None).execute('BEGIN IMMEDIATE')"
    with tables.Database(place).write():
        Store(place)
        words = [sys.executable, "-c", other, tmp_path / "state" / "relevo.db"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert "database is locked" in done.stderr
    assert subprocess.run(words, check=False).returncode == 0


def chained(store: Store) -> list[chain.Entry]:
    return [chain.parse(entry.document) for entry in store.entries()]


def chained_end(store: Store) -> chain.Entry:
    return chain.parse(store.entries()[-1].document)


def test_each_record_has_its_entry_in_the_order_in_which_they_came(store: Store) -> None:
    add(store, record("r2"), record("r1"), record("r2"))
    begun, *entries = chained(store)
    assert (begun.kind, begun.sequence, begun.records) == ("begin", 1, 0)
    assert [entry.members[0].name for entry in entries] == ["r2", "r1"]
    assert [entry.records for entry in entries] == [1, 2]
    assert entries[0].members[0].sha256 == chain.digest(store.get("r2").document)


def test_a_store_from_before_the_chain_is_taken_over_and_says_so(tmp_path: Path) -> None:
    place = Place(tmp_path / "state", f"sqlite:///{tmp_path}/state/relevo.db")
    old_store(place, 0, 1)
    with sqlite3.connect(tmp_path / "state" / "relevo.db") as database:
        insert(
            database, b'{"run_id": "odd", "runbook": "x", "cluster": null, "mode": null, "verdict": "x", "opened_at": "2020"}', ""
        )
        insert(database, canonical(record("r1").document()), "", "../../odd")
    store = Store(place)
    before = [(stored.document, stored.signature) for stored in store.newest()]
    assert [summary.run_id for summary in store.summaries()] == ["run1", "run0", "../../odd"]
    _, taken = chained(store)
    assert taken.kind == "takeover"
    assert [member.name for member in taken.members] == ["odd", "run0", "run1"]
    assert [(stored.document, stored.signature) for stored in store.newest()] == before
    add(store, record("r2"))
    assert chained(Store(place))[-1].records == 4


def indices(database: sqlite3.Connection) -> dict[str, str]:
    return dict(database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"))


def test_a_store_from_before_statements_were_in_the_chain_is_brought_up_once_and_stays_what_it_was(tmp_path: Path) -> None:
    """Of the form 2, as a Relevo of that time wrote it."""
    place = Place(tmp_path / "state", f"sqlite:///{tmp_path}/state/relevo.db")
    place.state.mkdir()
    with sqlite3.connect(tmp_path / "state" / "relevo.db") as database:
        database.executescript((FORM_2 / "form-2.sql").read_text())
        before = {table: database.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES}  # noqa: S608 - names of ours
    assert [entries.parse(one.document).event for one in entries.read(Store(place))] == ["opened", "signed", "closed"]
    *_, taken = chained(Store(place))
    assert (taken.kind, taken.sequence, taken.records, taken.statements) == ("takeover", 4, 2, 3)
    assert [member.name for member in taken.members] == [one.entry_id for one in Store(place).statements()]
    with sqlite3.connect(tmp_path / "state" / "relevo.db") as database:
        after = {table: database.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES}  # noqa: S608 - names of ours
        assert database.execute("SELECT version FROM layout").fetchall() == [(2,), (4,)]
        brought_up = indices(database)
    fresh = Place(tmp_path / "fresh", f"sqlite:///{tmp_path}/fresh/relevo.db")
    add(Store(fresh), record("r1"))
    with sqlite3.connect(tmp_path / "fresh" / "relevo.db") as database:
        assert brought_up == indices(database)
    assert after.pop("chain")[:3] == before.pop("chain")
    assert after == before
    believed = [*signature.believed(place.keys), *keyring.read((FORM_2 / "allowed_signers").read_text())]
    judgement = audit.judge(audit.material(Store(place), []), believed)
    assert judgement.findings == ()
    assert (judgement.records, judgement.statements, judgement.links.statements_taken_over) == (2, 3, 3)


def test_a_store_that_cannot_be_brought_up_stays_of_its_form(tmp_path: Path) -> None:
    place = Place(tmp_path / "state", f"sqlite:///{tmp_path}/state/relevo.db")
    place.state.mkdir()
    with sqlite3.connect(tmp_path / "state" / "relevo.db") as database:
        database.executescript((FORM_2 / "form-2.sql").read_text())
        database.execute("CREATE TRIGGER full BEFORE INSERT ON layout BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    with pytest.raises(StoreError, match="disk full"):
        Store(place).summaries()
    with sqlite3.connect(tmp_path / "state" / "relevo.db") as database:
        assert database.execute("SELECT max(sequence) FROM chain").fetchone() == (3,)
        assert database.execute("SELECT max(version) FROM layout").fetchone() == (2,)


def test_what_was_said_before_any_run_is_found(store: Store, tmp_path: Path) -> None:
    """By an earlier Relevo, which made no other table for it."""
    (tmp_path / "state").mkdir(exist_ok=True)
    with sqlite3.connect(tmp_path / "state" / "relevo.db") as database:
        text = (FORM_2 / "form-2.sql").read_text()
        table = text[text.index("CREATE TABLE entry") : text.index("CREATE TABLE layout")]
        database.executescript(table)
    assert len(store.statements()) == 3
    assert [entry.kind for entry in chained(store)] == ["begin", "takeover"]


def test_a_broken_end_of_the_chain_keeps_nobody_from_recording(store: Store, tmp_path: Path) -> None:
    add(store, record("r1"))
    with sqlite3.connect(tmp_path / "state" / "relevo.db") as database:
        database.execute("UPDATE chain SET document = 'x' WHERE sequence = 2")
    add(store, record("r2"))
    assert store.entries()[-1].sequence == 3
    assert chained_end(store).previous == chain.digest(b"x")
    with sqlite3.connect(tmp_path / "state" / "relevo.db") as database:
        database.execute("UPDATE chain SET document = 'x'")
    add(store, record("r4"))
    assert (chained_end(store).sequence, chained_end(store).kind) == (4, "record")
    with sqlite3.connect(tmp_path / "state" / "relevo.db") as database:
        database.execute("DELETE FROM chain")
    add(store, record("r3"))
    assert [entry.kind for entry in chained(store)] == ["begin", "record"]


def test_a_store_of_a_newer_form_is_left_alone(store: Store, tmp_path: Path) -> None:
    add(store, record("r1"))
    with sqlite3.connect(tmp_path / "state" / "relevo.db") as database:
        database.execute("INSERT INTO layout VALUES (9, 'x')")
    with pytest.raises(StoreError, match="newer Relevo"):
        add(Store(Place(tmp_path / "state", f"sqlite:///{tmp_path}/state/relevo.db")), record("r2"))


def test_summaries_are_those_of_the_documents(store: Store) -> None:
    made = [record("r1"), record("r2", "2026-11-24T13:00:00.000000Z", "other"), record("r3", "2026-11-24T14:00:00.000000Z")]
    add(store, *made)
    assert store.summaries() == [summarize(one) for one in reversed(made)]
    assert [summary.run_id for summary in store.summaries(cluster="minimarket")] == ["r3", "r1"]
    assert [summary.run_id for summary in store.summaries(limit=1)] == ["r3"]
    assert (store.count(), store.count(cluster="other"), store.count(runbook="protect")) == (3, 1, 0)


def test_nothing_is_made_by_looking_at_an_empty_store(store: Store) -> None:
    assert (store.summaries(), store.entries(), store.count(), store.last_entry()) == ([], [], 0, None)
    assert store.first("c", "protect", ["passed"]) is None
