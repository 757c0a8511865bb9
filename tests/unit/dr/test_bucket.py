"""The canary's bucket: only a refusal counts as one, and a bucket with a default retention takes the canary."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import pytest
from ansible_collections.relevo.dr.plugins.action.bucket_canary import judged
from ansible_collections.relevo.dr.plugins.plugin_utils import bucket
from botocore.awsrequest import AWSPreparedRequest, AWSResponse

REPOSITORY = {
    "id": 1,
    "endpoint": "store.example",
    "bucket": "backups",
    "key_id_secret": "id",
    "key_secret": "key",
    "versioning": True,
    "immutable": True,
}


class Store:
    """What a versioned bucket answers to the canary, on the wire: refusal is the answer to the deletion of a version."""

    def __init__(self, refusal: tuple[int, str, str] | None, *, keeps: bool = True, demands_checksum: bool = False) -> None:
        self.refusal, self.keeps, self.demands_checksum = refusal, keeps, demands_checksum

    def answer(self, request: AWSPreparedRequest, **_event: object) -> AWSResponse:
        status, body, headers = self._answered(request)
        response = AWSResponse(request.url, status, headers, BytesIO(body))
        response._content = body
        return response

    def _answered(self, request: AWSPreparedRequest) -> tuple[int, bytes, dict[str, str]]:
        of_a_version = "versionId=" in request.url
        if request.method == "PUT":
            if self.demands_checksum and "Content-MD5" not in request.headers:
                return error(
                    400, "InvalidRequest", "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests"
                )
            return 200, b"", {"x-amz-version-id": "v1"}
        if request.method == "DELETE":
            return error(*self.refusal) if of_a_version and self.refusal else (204, b"", {})
        return (200 if self.keeps else 404), b"", {}


def error(status: int, code: str, message: str) -> tuple[int, bytes, dict[str, str]]:
    return status, b"" if not code else f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode(), {}


@contextmanager
def tried(monkeypatch: pytest.MonkeyPatch, store: Store) -> Iterator[dict[str, dict[str, str]]]:
    """The gates of a trial of that store."""
    client = bucket._client(REPOSITORY, {"id": "id", "key": "key"})
    client.meta.events.register("before-send.s3", store.answer)
    with monkeypatch.context() as patched:
        patched.setattr(bucket, "_client", lambda *_: client)
        # A store that is busy is asked twice; not a second later, here.
        patched.setattr("botocore.endpoint.time.sleep", lambda _: None)
        yield {gate.id: gate.as_dict() for gate in judged(REPOSITORY, bucket.attempt(REPOSITORY, {}))}


@pytest.mark.parametrize(
    "refusal",
    [
        (403, "AccessDenied", "Access Denied because object protected by object lock."),
        (400, "InvalidRequest", "Object is WORM protected and cannot be overwritten"),
        (409, "ObjectLocked", "The object is locked"),
        (403, "", ""),
    ],
)
def test_missing_rights_and_a_lock_are_a_refusal(monkeypatch, refusal):
    with tried(monkeypatch, Store(refusal)) as gates:
        assert {name: gate["verdict"] for name, gate in gates.items()} == {"VERSIONING": "pass", "IMMUTABLE": "pass"}
        assert f"{refusal[0]} {refusal[1]}".strip() in gates["IMMUTABLE"]["observed"]


@pytest.mark.parametrize(
    "refusal",
    [
        (503, "SlowDown", "Please reduce your request rate."),
        (501, "NotImplemented", "A header you provided implies functionality that is not implemented."),
        (400, "InvalidRequest", "Something about this request."),
        (403, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large."),
        (403, "SignatureDoesNotMatch", "The request signature does not match."),
    ],
)
def test_an_error_that_is_no_refusal_leaves_the_lock_unknown_and_what_is_kept_is_known(monkeypatch, refusal):
    with tried(monkeypatch, Store(refusal)) as gates:
        assert {name: gate["verdict"] for name, gate in gates.items()} == {"VERSIONING": "pass", "IMMUTABLE": "unknown"}
        assert f"{refusal[0]} {refusal[1]}" in gates["IMMUTABLE"]["observed"]
        assert gates["IMMUTABLE"]["next_action"]
        assert gates["VERSIONING"]["observed"] == "a deleted object is kept as a version"


def test_a_version_that_is_gone_was_deleted_whatever_was_answered(monkeypatch):
    store = Store((503, "SlowDown", "busy"))
    heads = iter([200, 404])
    monkeypatch.setattr(
        store,
        "_answered",
        lambda request, true=store._answered: (next(heads), b"", {}) if request.method == "HEAD" else true(request),
    )
    with tried(monkeypatch, store) as gates:
        assert gates["IMMUTABLE"]["verdict"] == "fail"
        assert gates["IMMUTABLE"]["observed"] == "its version was deleted"


def test_a_bucket_that_takes_nothing_without_a_checksum_takes_the_canary(monkeypatch):
    with tried(monkeypatch, Store((403, "AccessDenied", "locked"), demands_checksum=True)) as gates:
        assert {gate["verdict"] for gate in gates.values()} == {"pass"}


def test_a_store_that_keeps_nothing_fails_both(monkeypatch):
    with tried(monkeypatch, Store(None, keeps=False)) as gates:
        assert {gate["verdict"] for gate in gates.values()} == {"fail"}
