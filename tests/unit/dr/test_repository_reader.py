"""One object of a repository is what its manifest says, to the byte."""

from __future__ import annotations

import hashlib

import pytest
from ansible_collections.relevo.dr.plugins.module_utils import repository_reader
from ansible_collections.relevo.dr.plugins.module_utils.backup_manifest import Part
from ansible_collections.relevo.dr.plugins.module_utils.pgbackrest import Pgbackrest, PgbackrestError
from ansible_collections.relevo.dr.plugins.module_utils.repository_reader import RepositoryReader

BYTES = b"0123456789"
PART = Part("pg_data/a", 0, len(BYTES), hashlib.sha1(BYTES, usedforsecurity=False).hexdigest())
FILE, BUNDLE = "backup/shop/20261124-000000F/pg_data/a.zst", "backup/shop/20261124-000000F/bundle/1"


@pytest.fixture
def reader(tmp_path, monkeypatch) -> RepositoryReader:
    """Its repository holds one object."""
    (tmp_path / "object").write_bytes(BYTES)
    monkeypatch.setattr(Pgbackrest, "words", lambda *_words, **_more: ["cat", str(tmp_path / "object")])
    monkeypatch.setattr(Pgbackrest, "process", lambda _self: {})
    return RepositoryReader(Pgbackrest("/c", "shop"), 1)


@pytest.mark.parametrize("path", [FILE, BUNDLE])
def test_the_bytes_of_the_manifest_are_whole_and_fewer_are_not(reader, path):
    assert reader.wrong_part(path, 10, [PART]) == ""
    assert reader.wrong_part(path, 9, [PART]) == "9 bytes instead of 10"


def test_bytes_behind_the_end_of_a_file_are_seen_and_a_bundle_may_hold_more(reader):
    assert reader.wrong_part(FILE, 11, [PART]) == "11 bytes instead of 10"
    assert reader.wrong_part(BUNDLE, 11, [PART]) == ""


@pytest.mark.parametrize(
    ("said", "observed", "of_store"),
    [
        ("", "it is not found", False),
        ("ERROR: [029]: timeout after 5000ms", "the store does not answer", True),
        ("ERROR: [101]: HTTP request failed with 503 (Service Unavailable)", "503", True),
        ("ERROR: [028]: zst error: corrupted block", "corrupted block", False),
    ],
)
def test_a_segment_that_is_not_given_says_whether_the_store_is_the_matter(reader, monkeypatch, said, observed, of_store):
    monkeypatch.setattr(Pgbackrest, "succeeds", lambda *_words: (False, said))
    monkeypatch.setattr(repository_reader.os, "chown", lambda *_: None)
    monkeypatch.setattr(repository_reader.tempfile, "mkdtemp", lambda **_: "/nowhere")
    monkeypatch.setattr(repository_reader.shutil, "rmtree", lambda _: None)
    monkeypatch.setattr(repository_reader.pwd, "getpwnam", lambda _: type("Account", (), {"pw_uid": 0, "pw_gid": 0}))
    with pytest.raises(PgbackrestError, match=observed) as refused:
        reader.wrong_segment("000000010000000000000002", "a" * 40)
    assert refused.value.of_store is of_store
