from __future__ import annotations

import json
import sqlite3
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from relevo import chain, entries, signature
from relevo.errors import StoreError
from relevo.paths import Place
from relevo.record import canonical
from relevo.store import Store


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> signature.SigningKey:
    return signature.ready_key(tmp_path_factory.mktemp("keys"))


def problems(signed: entries.Signed, key: signature.SigningKey) -> list[str]:
    return entries.problems(signed, signature.Checker(signature.believed(key.path.parent)))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(Place(tmp_path / "state", f"sqlite:///{tmp_path}/state/relevo.db"))


def entry(subject: str = "F-000001", kind: str = "finding", **said: Any) -> entries.Entry:
    # A key is believed from the second on in which it was made.
    speaker = entries.Speaker("ana", "ctl1", datetime.now(UTC) + timedelta(seconds=1))
    return entries.make(speaker, kind, subject, "opened", said)


def test_what_was_said_comes_back_in_its_order(store: Store, key: signature.SigningKey) -> None:
    assert entries.read(store) == []
    said = [entry(deficiency="niño"), entry("ana", "contact"), entry()]
    for one in said:
        entries.append(store, one, key)
    assert [entries.parse(signed.document) for signed in entries.read(store)] == said
    assert [entries.parse(signed.document) for signed in entries.read(store, "contact")] == [said[1]]


def test_an_entry_is_verified_by_standard_tools(store: Store, key: signature.SigningKey, tmp_path: Path) -> None:
    entries.append(store, entry(), key)
    (signed,) = entries.read(store)
    (tmp_path / "e.sig").write_text(signed.signature)
    when = f"-Overify-time={datetime.now(UTC) + timedelta(seconds=2):%Y%m%d%H%M%SZ}"
    command = ["ssh-keygen", "-Y", "verify", when, "-f", key.allowed_signers, "-I", "relevo-controller", "-n", "dr-test", "-s"]
    done = subprocess.run([*command, tmp_path / "e.sig"], input=signed.document, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert problems(signed, key) == []


def test_an_edited_renamed_or_foreign_entry_is_found(key: signature.SigningKey, tmp_path: Path) -> None:
    signed = entries.sign(entry(severity="high"), key)
    edited = canonical({**json.loads(signed.document), "said": {"severity": "low"}})
    assert "signature does not hold" in str(problems(replace(signed, document=edited), key))
    assert "is of the statement" in str(problems(replace(signed, entry_id="x"), key))
    assert "no relevo-entry/1" in str(problems(replace(signed, document=b"{}"), key))
    assert "no relevo-entry/1" in str(
        problems(replace(signed, document=canonical({**json.loads(signed.document), "said": 1})), key)
    )
    assert "signature does not hold" in str(problems(signed, signature.ready_key(tmp_path / "other")))


def test_a_record_is_no_entry_and_one_of_a_newer_schema_says_so(key: signature.SigningKey) -> None:
    tree = json.loads(entries.sign(entry(), key).document)
    with pytest.raises(StoreError, match="newer Relevo"):
        entries.parse(canonical({**tree, "schema": "relevo-entry/2"}))
    with pytest.raises(StoreError, match="no relevo-entry/1"):
        entries.parse(canonical({"schema": "dr-test/1", "signature": {}}))


def test_a_statement_is_kept_with_its_place_in_the_chain_or_not_at_all(
    store: Store, key: signature.SigningKey, tmp_path: Path
) -> None:
    first = entries.append(store, entry(), key)
    with sqlite3.connect(tmp_path / "state" / "relevo.db") as database:
        database.execute("CREATE TRIGGER full BEFORE INSERT ON chain BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    with pytest.raises(StoreError, match="disk full"):
        entries.append(store, entry(), key)
    assert entries.read(store) == [first]
    with sqlite3.connect(tmp_path / "state" / "relevo.db") as database:
        database.execute("DROP TRIGGER full")
        database.execute("CREATE TRIGGER full BEFORE INSERT ON entry BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    with pytest.raises(StoreError, match="disk full"):
        entries.append(store, entry(), key)
    assert [chain.parse(linked.document).kind for linked in store.entries()] == ["begin", "statement"]


def test_the_chain_vouches_for_each_in_its_order(store: Store, key: signature.SigningKey) -> None:
    said = [entries.append(store, entry(), key), entries.append(store, entry("ana", "contact"), key)]
    begun, *linked = (chain.parse(one.document) for one in store.entries())
    assert (begun.kind, begun.statements) == ("begin", 0)
    assert [one.members for one in linked] == [
        (chain.Member(chain.digest(one.document), one.entry_id, chain.What.STATEMENT),) for one in said
    ]
    assert [(one.kind, one.statements, one.records) for one in linked] == [("statement", 1, 0), ("statement", 2, 0)]


def test_what_was_said_about_a_run_is_found_with_what_became_of_it(store: Store, key: signature.SigningKey) -> None:
    shown, other = entry(run_id="run1"), entry("F-000002", run_id="run2")
    closed, signed = replace(entry(), event="closed"), entry("run1", "sign_off")
    for one in (shown, other, closed, signed):
        entries.append(store, one, key)
    found = entries.about(entries.read(store), {"run1"})
    assert [entries.parse(one.document) for one in found] == [shown, closed, signed]
    odd = replace(found[0], document=b"{}")
    assert entries.about([odd], {"run1"}) == [odd]


def test_many_first_writers_at_once_lose_nothing(tmp_path: Path, key: signature.SigningKey) -> None:
    place = Place(tmp_path / "state", f"sqlite:///{tmp_path}/state/relevo.db")
    with ThreadPoolExecutor(8) as pool:
        written = list(pool.map(lambda number: entries.append(Store(place), entry(f"F-{number}"), key), range(8)))
    assert {one.entry_id for one in entries.read(Store(place))} == {one.entry_id for one in written}


def test_a_store_that_is_away_keeps_nothing_and_says_so(tmp_path: Path, key: signature.SigningKey) -> None:
    away = Store(Place(tmp_path, "postgresql://relevo:hunter2@127.0.0.1:1/relevo"))
    with pytest.raises(StoreError, match="cannot be used") as error:
        entries.append(away, entry(), key)
    assert "hunter2" not in str(error.value)
    with pytest.raises(StoreError, match="cannot be used"):
        entries.read(away)
