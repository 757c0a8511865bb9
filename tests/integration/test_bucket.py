"""Buckets that shall keep what is deleted, tried on a real store with versions and object locks over TLS; only canaries are ever deleted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from io import BytesIO

import pytest
from ansible_collections.relevo.dr.plugins.action.bucket_canary import judged
from ansible_collections.relevo.dr.plugins.plugin_utils import bucket
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import BotoCoreError, ClientError

from .ministack import ROOT_KEY, serving_here

SECRETS = dict(zip(("id", "key"), ROOT_KEY, strict=True))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict]:
    """A repository's description, of a store that runs for these tests."""
    place = tmp_path_factory.mktemp("ministack")
    with serving_here(place) as here:
        yield ready(
            {
                "id": 1,
                "endpoint": "localhost",
                "port": here.port,
                "ca_file": str(here.certificate),
                "key_id_secret": "id",
                "key_secret": "key",
            }
        )


def client(store: dict):
    return bucket._client(store, SECRETS)


def ready(store: dict) -> dict:
    limit = time.monotonic() + 60
    while True:
        try:
            client(store).list_buckets()
        except (BotoCoreError, ClientError):
            assert time.monotonic() < limit, "the store did not come up"
            time.sleep(0.3)
        else:
            return store


def made(store: dict, name: str, **options: object) -> dict:
    """A bucket as the asked repository has it."""
    client(store).create_bucket(Bucket=name, **options)
    return {**store, "bucket": name, "versioning": True, "immutable": True}


def answered(monkeypatch: pytest.MonkeyPatch, store: dict, instead: Callable[[AWSPreparedRequest], AWSResponse | None]) -> None:
    """The same store, behind something that answers some requests itself."""
    behind = client(store)
    behind.meta.events.register("before-send.s3", lambda request, **_: instead(request))
    monkeypatch.setattr(bucket, "_client", lambda *_: behind)


def error(request: AWSPreparedRequest, status: int, code: str) -> AWSResponse:
    answer = AWSResponse(request.url, status, {}, BytesIO())
    answer._content = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
    return answer


def verdicts(repository: dict) -> dict[str, str]:
    return {gate.id: gate.verdict for gate in judged(repository, bucket.attempt(repository, SECRETS))}


@pytest.mark.full
def test_a_locked_bucket_refuses_and_what_was_there_is_untouched(store):
    repository = made(store, "locked", ObjectLockEnabledForBucket=True)
    rule = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 1}}}
    client(store).put_object_lock_configuration(Bucket="locked", ObjectLockConfiguration=rule)
    client(store).put_object(Bucket="locked", Key="backup/minimarket/backup.info", Body=b"precious")
    assert verdicts(repository) == {"VERSIONING": "pass", "IMMUTABLE": "pass"}
    assert client(store).get_object(Bucket="locked", Key="backup/minimarket/backup.info")["Body"].read() == b"precious"
    touched = client(store).list_object_versions(Bucket="locked", Prefix="backup/")
    assert len(touched["Versions"]) == 1
    assert "DeleteMarkers" not in touched


@pytest.mark.full
def test_a_locked_bucket_that_demands_a_checksum_takes_the_canary(store, monkeypatch):
    """As AWS and others do of a bucket with a default retention."""
    repository = made(store, "demanding", ObjectLockEnabledForBucket=True)
    rule = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 1}}}
    client(store).put_object_lock_configuration(Bucket="demanding", ObjectLockConfiguration=rule)

    def demand(request: AWSPreparedRequest) -> AWSResponse | None:
        bare = request.method == "PUT" and not {"Content-MD5", "x-amz-checksum-crc32"} & set(request.headers)
        return error(request, 400, "InvalidRequest") if bare else None

    answered(monkeypatch, store, demand)
    assert verdicts(repository) == {"VERSIONING": "pass", "IMMUTABLE": "pass"}


@pytest.mark.full
def test_a_store_that_is_busy_when_a_version_is_deleted_has_refused_nothing(store, monkeypatch):
    repository = made(store, "busy")
    client(store).put_bucket_versioning(Bucket="busy", VersioningConfiguration={"Status": "Enabled"})

    def busy(request: AWSPreparedRequest) -> AWSResponse | None:
        return error(request, 503, "SlowDown") if request.method == "DELETE" and "versionId=" in request.url else None

    answered(monkeypatch, store, busy)
    assert verdicts(repository) == {"VERSIONING": "pass", "IMMUTABLE": "unknown"}


@pytest.mark.full
def test_a_versioned_bucket_without_a_lock_keeps_but_does_not_refuse(store):
    repository = made(store, "versioned")
    client(store).put_bucket_versioning(Bucket="versioned", VersioningConfiguration={"Status": "Enabled"})
    assert verdicts(repository) == {"VERSIONING": "pass", "IMMUTABLE": "fail"}


@pytest.mark.full
def test_a_plain_bucket_does_neither_and_says_what_to_do(store):
    repository = made(store, "plain")
    assert verdicts(repository) == {"VERSIONING": "fail", "IMMUTABLE": "fail"}
    assert all(gate.next_action for gate in judged(repository, bucket.attempt(repository, SECRETS)))
    assert "Contents" not in client(store).list_objects_v2(Bucket="plain")


@pytest.mark.full
def test_a_store_that_does_not_answer_is_unknown_in_bounded_time():
    silent = {
        "id": 1,
        "endpoint": "localhost",
        "port": 9,
        "bucket": "b",
        "key_id_secret": "id",
        "key_secret": "key",
        "immutable": True,
    }
    began = time.monotonic()
    assert verdicts(silent) == {"IMMUTABLE": "unknown"}
    assert time.monotonic() - began < 30
