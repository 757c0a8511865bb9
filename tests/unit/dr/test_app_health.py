"""What an application says of itself: a page that is fine is fine in whatever words, and what is no whole answer is none."""

from __future__ import annotations

import json

import pytest
from ansible_collections.relevo.dr.plugins.module_utils.app_health import health, wait_until_healthy
from ansible_collections.relevo.dr.plugins.module_utils.app_provider import ApplicationError, Deadline

from .raw_http import CUT_CHUNK, GARBAGE, SHORT_BODY, page, saying


def waited(said: bytes, system: str = "77") -> dict[str, object]:
    with saying(said) as url:
        return wait_until_healthy(url, "the shop", system, Deadline(0.3))


@pytest.mark.parametrize("body", [b"OK", b"", b"<h1>fine</h1>", b"[1]", b"\xff\xfe", b"[" * 100_000])
def test_a_page_in_plain_words_is_healthy_and_names_no_system(body):
    answer = waited(page(body))
    assert (answer["ok"], answer["status"], answer["body"], answer["error"]) == (True, 200, {}, None)
    assert answer["note"] == "; its health page names no system"
    assert waited(page(body), system="")["note"] == ""


def test_a_system_that_is_named_is_compared():
    assert waited(page(json.dumps({"system_identifier": "77"}).encode()))["note"] == ""
    with pytest.raises(ApplicationError, match="answers from system 78, expected 77"):
        waited(page(b'{"system_identifier": "78"}'))
    with pytest.raises(ApplicationError, match="in recovery"):
        waited(page(b'{"in_recovery": true}'))


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (GARBAGE, "no answer in HTTP"),
        (CUT_CHUNK, "ended before its end"),
        (SHORT_BODY, "ended before its end, after 2 bytes"),
        (b"", "closed connection"),
        (page(b"OK", "503 Service Unavailable"), "HTTP 503"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "HTTP 204"),
    ],
)
def test_what_is_no_whole_answer_is_waited_for_and_named(said, words):
    with saying(said) as url:
        seen = health(url)
    assert (seen["ok"], seen["body"]) == (False, {})
    with pytest.raises(ApplicationError, match=f"the shop is not healthy.*{words}"):
        waited(said)


def test_without_a_url_nothing_is_said():
    assert wait_until_healthy("", "the shop", "77", Deadline(1))["note"] == ""
