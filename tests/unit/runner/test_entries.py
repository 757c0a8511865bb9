from __future__ import annotations

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql

from relevo import entries, signature
from relevo.errors import StoreError
from relevo.paths import Place
from relevo.record import canonical
from relevo.store import Store


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> signature.SigningKey:
    return signature.ready_key(tmp_path_factory.mktemp("keys"))


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
    assert entries.problem(signed, key.allowed_signers) is None


def test_an_edited_renamed_or_foreign_entry_is_found(key: signature.SigningKey, tmp_path: Path) -> None:
    signed = entries.sign(entry(severity="high"), key)
    edited = canonical({**json.loads(signed.document), "said": {"severity": "low"}})
    assert "verify failed" in str(entries.problem(replace(signed, document=edited), key.allowed_signers))
    assert "is of the entry" in str(entries.problem(replace(signed, entry_id="x"), key.allowed_signers))
    assert "no relevo-entry/1" in str(entries.problem(replace(signed, document=b"{}"), key.allowed_signers))
    other = signature.ready_key(tmp_path / "other")
    assert "verify failed" in str(entries.problem(signed, other.allowed_signers))


def test_a_record_is_no_entry_and_one_of_a_newer_schema_says_so(key: signature.SigningKey) -> None:
    tree = json.loads(entries.sign(entry(), key).document)
    with pytest.raises(StoreError, match="newer Relevo"):
        entries.parse(canonical({**tree, "schema": "relevo-entry/2"}))
    with pytest.raises(StoreError, match="no relevo-entry/1"):
        entries.parse(canonical({"schema": "dr-test/1", "signature": {}}))


def test_nothing_is_kept_when_what_belongs_to_it_fails(store: Store, key: signature.SigningKey) -> None:
    seen = []

    def link(connection: sql.Connection, signed: entries.Signed) -> None:
        seen.append(connection.execute(sql.text("select count(*) from entry")).scalar())
        if len(seen) == 2:
            raise StoreError(signed.entry_id)

    first = entries.append(store, entry(), key, link)
    with pytest.raises(StoreError):
        entries.append(store, entry(), key, link)
    assert entries.read(store) == [first]
    assert seen == [1, 2]


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
