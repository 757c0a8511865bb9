"""The head of the chain in a bucket with object lock, on a real store over TLS: it finds a tail that was cut off, and cannot be taken back."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from typer.testing import CliRunner

from relevo import anchor
from relevo.cli import commands
from relevo.errors import AnchorError
from tests.unit.runner.evidence import add, place_at

from .ministack import ROOT_KEY, serving_here

pytestmark = pytest.mark.full


@dataclass(frozen=True)
class Bucket:
    """A store that runs for these tests: the options of an anchor's URL, and a client for whoever attacks it."""

    options: str
    client: Any


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    place = tmp_path_factory.mktemp("ministack")
    for name, value in zip(("id", "secret"), ROOT_KEY, strict=True):
        (place / name).write_text(f"{value}\n")
    with serving_here(place) as here:
        options = (
            f"endpoint=https://localhost:{here.port}&ca_file={here.certificate}&key_id_file={place}/id&secret_file={place}/secret"
        )
        client = anchor.find(f"s3://none?{options}")._client()
        limit = time.monotonic() + 120
        while True:
            try:
                client.list_buckets()
                break
            except (BotoCoreError, ClientError):
                assert time.monotonic() < limit, "the store did not come up"
                time.sleep(0.5)
        yield Bucket(options, client)
        client.close()  # the store waits for its guests before it ends


@pytest.fixture
def past(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state of a controller with three records."""
    monkeypatch.setenv("RELEVO_STORE", str(tmp_path / "state"))
    for number in (1, 2, 3):
        add(place_at(tmp_path / "state"), number)
    return tmp_path / "state"


def relevo(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(commands, words)
    return done.exit_code, done.output


def cut(state: Path) -> None:
    """By somebody who also has what the controller remembers."""
    shutil.rmtree(state / "heads")
    with sqlite3.connect(state / "relevo.db") as database:
        for table, column, value in (("record", "run_id", "run3"), ("summary", "run_id", "run3"), ("chain", "sequence", "4")):
            assert database.execute(f"DELETE FROM {table} WHERE {column} = ?", (value,)).rowcount == 1  # noqa: S608 - of this test


def test_a_cut_tail_is_found_by_the_locked_head_that_nobody_can_remove(bucket: Bucket, past: Path) -> None:
    bucket.client.create_bucket(Bucket="locked", ObjectLockEnabledForBucket=True)
    url = f"s3://locked/heads?{bucket.options}&days=30"
    code, said = relevo("results", "anchor", "--anchor", url)
    assert (code, "locked (compliance) until" in said) == (0, True), said
    assert relevo("results", "verify", "--anchor", url)[0] == 0
    cut(past)
    assert relevo("results", "verify")[0] == 0, "without the anchor nothing shows it"
    code, said = relevo("results", "verify", "--anchor", url)
    assert code == 1
    assert "cut off: at" in said and "4 entries and 3 records; now it ends with entry 3" in said
    (version,) = bucket.client.list_object_versions(Bucket="locked")["Versions"]
    with pytest.raises(ClientError):
        bucket.client.delete_object(Bucket="locked", Key=version["Key"], VersionId=version["VersionId"])
    # What can be done: hide it, and write another one over it.
    bucket.client.delete_object(Bucket="locked", Key=version["Key"])
    code, said = relevo("results", "verify", "--anchor", url)
    assert (code, "cut off" in said) == (1, True), said
    bucket.client.put_object(Bucket="locked", Key=version["Key"], Body=b"nothing")
    code, said = relevo("results", "verify", "--anchor", url)
    assert (code, "cut off" in said, "no head of the form" in said) == (1, True, True), said


@pytest.mark.usefixtures("past")
def test_a_bucket_that_does_not_lock_is_no_anchor(bucket: Bucket) -> None:
    bucket.client.create_bucket(Bucket="open")
    bucket.client.put_bucket_versioning(Bucket="open", VersioningConfiguration={"Status": "Enabled"})
    code, said = relevo("results", "anchor", "--anchor", f"s3://open/?{bucket.options}&days=30")
    assert code == 1
    assert "s3://open/" in said


@pytest.mark.usefixtures("past")
def test_what_is_not_there_and_who_is_not_who_they_say(bucket: Bucket, tmp_path: Path) -> None:
    bucket.client.create_bucket(Bucket="empty", ObjectLockEnabledForBucket=True)
    with pytest.raises(AnchorError, match="holds no head"):
        anchor.find(f"s3://empty?{bucket.options}").newest()
    code, said = relevo("results", "anchor", "--anchor", f"s3://empty?{bucket.options}")
    assert (code, "days=400" in said) == (4, True), said
    # Not signed by a believed authority.
    stranger = bucket.options.replace("ca_file=", "days=30&region=us-east-1&ca_file=/etc/ssl/certs/ca-certificates.crt#")
    code, said = relevo("results", "anchor", "--anchor", f"s3://empty?{stranger.split('#')[0]}&{bucket.options.split('&', 2)[2]}")
    assert (code, "cannot be used" in said) == (1, True), said
    (tmp_path / "wrong").write_text("wrong\n")
    wrong = bucket.options.split("&secret_file=")[0] + f"&secret_file={tmp_path}/missing"
    code, said = relevo("results", "anchor", "--anchor", f"s3://empty?{wrong}&days=30")
    assert (code, "secret in" in said) == (1, True), said
