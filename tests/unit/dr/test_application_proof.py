"""The proof of a cutover, over real HTTP: what an application must show of itself, and the pages that are fine and prove nothing."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from ansible_collections.relevo.dr.plugins.action import application_judge
from ansible_collections.relevo.dr.plugins.module_utils import application_proof
from ansible_collections.relevo.dr.plugins.module_utils.request_mix import Request, User, run
from ansible_collections.relevo.dr.plugins.modules import application_proof as module
from ansible_collections.relevo.dr.plugins.plugin_utils.control import Control
from hypothesis import given
from hypothesis import strategies as st

from .raw_http import CUT_CHUNK, GARBAGE, SHORT_BODY, SHORT_REFUSAL, page, saying

PASSWORD = "".join(map(chr, range(32, 127)))
IDENTITY = {"system_identifier": "77", "timeline": 2, "in_recovery": False, "version": "1.4.2"}
EXPECTED = {"promote": "b-db1", "system_identifier": "77", "timeline": 2}
DECLARED = {
    "ca_file": "",
    "identity": {"path": "/health"},
    "login": {"path": "/login", "method": "POST", "body": {"login": "ana", "password": "{password}"}},
    "mix": [
        {"name": "products", "path": "/products"},
        {"name": "order", "path": "/orders", "method": "POST", "body": {"n": 1}, "statuses": [201]},
    ],
    "nonce": {"path": "/ledger", "method": "POST", "body": {"reference": "{reference}"}, "statuses": [201]},
    "reference": "relevo-nonce-1",
    "version_name": "version",
    "window_seconds": 0.25,
    "requests_per_second": 160,
    "names": [],
    "secrets": {"password": PASSWORD},
}


class Shop:
    """An application of ours. wrong: what it answers instead, by path; seen: what it was told."""

    def __init__(self):
        self.wrong, self.seen, self.delay = {}, [], 0.0
        shop = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, said = shop.answer(self.path, json.loads(body or b"{}"), self.headers)
                time.sleep(shop.delay)
                content = json.dumps(said).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                if self.path == "/login" and status == 200:
                    self.send_header("Set-Cookie", "session=s1; HttpOnly")
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                return

        Handler.do_GET = Handler.do_POST = Handler.answer
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def answer(self, path, body, headers):
        self.seen.append((path, body))
        if path in self.wrong:
            return self.wrong[path]
        if path == "/login":
            return (200 if body == {"login": "ana", "password": PASSWORD} else 401), {}
        if path == "/orders":
            return (201 if "session=s1" in headers.get("Cookie", "") else 401), {}
        return {"/health": (200, IDENTITY), "/ledger": (201, {}), "/products": (200, {})}.get(path, (404, {}))

    def close(self):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def shop():
    found = Shop()
    yield found
    found.close()


def proved(*endpoints, **changed):
    return module.prove({**DECLARED, "endpoints": list(endpoints), **changed})


def judged(proof, *, found=True, before=None):
    return {gate.id: gate for gate in application_proof.judge(EXPECTED, before, proof, found, 0.5)}


def test_an_application_that_works_shows_it(shop):
    proof = proved("http://127.0.0.1:1", shop.endpoint)
    assert (proof["endpoint"], proof["login"], proof["version"]) == (shop.endpoint, True, "1.4.2")
    assert proof["nonce"] == {"reference": "relevo-nonce-1", "acknowledged": True, "said": None}
    assert (proof["window"]["requests"], proof["window"]["failed"]) == (40, 0)
    assert {gate.verdict for gate in judged(proof).values() if gate.required} == {"pass"}
    measured = application_proof.measures({"p95_seconds": 0.01}, proof, nonce_found=True)
    assert measured["p95_seconds"] > 0
    assert (measured["login"], measured["nonce"], measured["p95_before_seconds"]) == ("pass", "pass", 0.01)
    assert PASSWORD not in json.dumps(proof)


@pytest.mark.parametrize(
    ("path", "answer", "gate", "words"),
    [
        ("/health", (200, {"status": "ok"}), "IDENTITY", "no server is named"),
        ("/health", (200, {**IDENTITY, "timeline": 1}), "IDENTITY", "timeline 1"),
        ("/health", (200, {**IDENTITY, "system_identifier": "78"}), "IDENTITY", "system 78"),
        ("/health", (200, {**IDENTITY, "in_recovery": True}), "IDENTITY", "read-only"),
        ("/health", (503, {}), "IDENTITY", "no endpoint answers"),
        ("/login", (401, {}), "LOGIN", "status 401"),
        ("/ledger", (503, {}), "NONCE", "not acknowledged: status 503"),
        ("/orders", (503, {"sqlstate": "25006"}), "READONLY", "20 of 40"),
    ],
)
def test_what_does_not_work_fails_its_gate(shop, path, answer, gate, words):
    shop.wrong[path] = answer
    found = judged(proved(shop.endpoint))[gate]
    assert (found.verdict, found.required) == ("fail", True)
    assert words in found.observed
    assert found.next_action


def test_a_page_that_is_fine_without_a_database_proves_nothing(shop):
    """It answers 200 to everything, and acknowledges what it never wrote."""
    shop.answer = lambda *_: (200, {"status": "ok"})
    gates = judged(proved(shop.endpoint, nonce={**DECLARED["nonce"], "statuses": [200]}), found=False)
    assert (gates["NONCE"].verdict, gates["NONCE"].observed) == ("fail", "acknowledged, and NOT found")
    assert gates["IDENTITY"].verdict == "fail"


def test_what_was_not_looked_at_is_unknown_and_never_passes(shop):
    assert judged(proved(shop.endpoint), found=None)["NONCE"].verdict == "unknown"
    assert judged({"error": "the witness did not answer", "identities": {}})["IDENTITY"].verdict == "unknown"
    few = judged(proved(shop.endpoint, window_seconds=0.1))
    assert (few["P95"].verdict, few["P95"].observed.partition(";")[0]) == ("unknown", "not measured")


def test_nobody_answers():
    proof = proved("http://127.0.0.1:1")
    assert proof["endpoint"] is None
    gates = judged(proof, found=None)
    assert (gates["IDENTITY"].verdict, gates["READONLY"].verdict) == ("fail", "unknown")


def test_a_slow_service_is_shown_beside_what_it_was_and_stops_nobody(shop):
    shop.delay = 0.55
    gate = judged(proved(shop.endpoint, window_seconds=1, requests_per_second=20), before={"p95_seconds": 0.02})["P95"]
    assert (gate.verdict, gate.required) == ("fail", False)
    assert "before: 0.020 s" in gate.observed


def test_requests_that_fail_are_shown_by_kind_and_stop_nobody(shop):
    shop.wrong["/products"] = (500, {})
    gate = judged(proved(shop.endpoint))["REQUESTS"]
    assert (gate.verdict, gate.required, gate.observed) == ("fail", False, "20 of 40 failed: products: 500 (20)")


@pytest.mark.parametrize(("status", "failed"), [((500, {}), 40), ((200, {}), 0)])
def test_answers_that_fail_quickly_are_not_fast(shop, status, failed):
    for path in ("/products", "/orders"):
        shop.wrong[path] = status if path == "/products" or failed else (201, {})
    proof = proved(shop.endpoint)
    gate, measured = judged(proof)["P95"], application_proof.measures(None, proof, nonce_found=True)
    assert (proof["window"]["failed"], gate.verdict) == (failed, "fail" if failed else "pass")
    assert (measured["p95_seconds"] is None) == bool(failed)
    assert not failed or gate.observed == "40 of 40 requests failed; before: not measured"
    json.dumps(proof, allow_nan=False)


def answers(good, bad):
    return [application_proof.Answer("x", number >= bad, 0.01, 200, {}) for number in range(good + bad)]


def test_one_in_twenty_may_fail_and_is_told_and_one_more_leaves_no_p95():
    served, worse = application_proof.summed(answers(38, 2)), application_proof.summed(answers(37, 3))
    assert (served["p95_seconds"], worse["p95_seconds"]) == (0.01, None)
    after = {"window": served, "identities": {}}
    gate = judged(after, before=worse)["P95"]
    assert (gate.verdict, gate.observed) == ("pass", "0.010 s over 40 requests, of which 2 failed; before: 3 of 40 requests failed")
    assert application_proof.measures(worse, after, nonce_found=None)["p95_before_seconds"] is None
    few = judged({"window": application_proof.summed(answers(0, 19)), "identities": {}})["P95"]
    assert (few.verdict, few.observed) == ("unknown", "not measured; before: not measured")


@pytest.mark.parametrize(
    ("said", "status", "words"),
    [
        (GARBAGE, None, "no answer in HTTP"),
        (CUT_CHUNK, 200, "ended before its end"),
        (SHORT_BODY, 200, "ended before its end, after 2 bytes"),
        (SHORT_REFUSAL, 503, "ended before its end, after 2 bytes"),
        (b"", None, "closed connection"),
    ],
)
def test_what_is_no_whole_answer_is_one_that_failed_and_none_is_lost(said, status, words, capfd):
    with saying(said) as endpoint:
        user = User(endpoint, limit_seconds=2)
        answer = user.send(Request("x", "/", statuses=(200, 503)))
        found = run(user, [Request("x", "/", statuses=(200, 503))], 0.1, 200)
    assert (answer.ok, answer.status) == (False, status)
    assert words in answer.error
    summed = application_proof.summed(found)
    assert (summed["requests"], summed["failed"], summed["p95_seconds"]) == (20, 20, None)
    assert all(words in failure for failure in summed["failures"])
    assert "Traceback" not in capfd.readouterr().err


def test_a_page_in_plain_words_is_an_answer_that_names_no_server():
    with saying(page(b"OK")) as endpoint:
        gate = judged(proved(endpoint, mix=[]))["IDENTITY"]
    assert (gate.verdict, gate.observed) == ("fail", "no server is named in the answer")
    assert "dr_app_proof_identity" in gate.next_action


def test_a_side_that_is_left_and_says_so_is_no_side_that_serves(shop):
    left = Shop()
    left.wrong["/health"] = (503, {"status": "unavailable", "server": "a-db1"})
    try:
        proof = proved(left.endpoint, shop.endpoint)
    finally:
        left.close()
    assert (proof["endpoint"], list(proof["identities"])) == (shop.endpoint, [shop.endpoint])
    assert judged(proof)["IDENTITY"].verdict == "pass"


def test_a_redirect_takes_no_cookie_elsewhere(shop):
    shop.wrong["/products"] = (302, {})
    answer = User(shop.endpoint).send(module.request({"path": "/products"}))
    assert (answer.status, answer.ok) == (302, False)
    with pytest.raises(ValueError, match="http://"):
        User("file:///etc/passwd")


@pytest.mark.parametrize(("heals", "found"), [(True, True), (False, False)])
def test_a_resolver_that_keeps_the_old_answer_is_waited_for_and_named(monkeypatch, heals, found):
    answers = {"shop.example.org": ["192.0.2.10"], "192.0.2.20": ["192.0.2.20"]}
    monkeypatch.setattr(module, "resolve", lambda name: answers[name])

    def pause(_seconds):
        if heals:
            answers["shop.example.org"] = ["192.0.2.20"]

    monkeypatch.setattr(module.time, "sleep", pause)
    [seen] = module.wait_for([{"record": "shop.example.org", "values": ["192.0.2.20"], "wait_seconds": 0.05}]).values()
    assert seen["found"] is found
    gate = application_judge._resolved("shop.example.org", seen)
    assert (gate.verdict, bool(gate.next_action)) == (("pass", False) if found else ("fail", True))


@given(st.lists(st.floats(0, 100), min_size=20, max_size=60))
def test_95_of_100_are_not_above_p95_and_it_is_one_of_them(values):
    p95 = application_proof.percentile(values, 0.95)
    assert p95 in values
    assert sum(value <= p95 for value in values) >= 0.95 * len(values)
    assert sum(value < p95 for value in values) < 0.95 * len(values)


def judge(tmp_path, after, present):
    control = Control("run", str(tmp_path))
    control.write("plan", {"promote": "b-db1", "system_identifier": "77"})
    control.write("handover/promoted", {"timeline": 2})
    control.write("proof/before", {"window": {"p95_seconds": 0.01}})
    if after is not None:
        control.write("proof/after", after)
    action = application_judge.ActionModule.__new__(application_judge.ActionModule)
    action.control, action._task = control, type("Task", (), {"args": {"present": present, "p95_max_seconds": 0.5}})
    return action.act()


def test_the_judgement_says_measures_and_version(tmp_path, shop):
    result = judge(tmp_path, proved(shop.endpoint), {"present": [[1, 1]], "in_recovery": False})
    said = result["ansible_stats"]["data"]["relevo"]
    assert not result["failed"], result["msg"]
    assert said["versions"] == {"application": "1.4.2"}
    assert (said["measures"]["application"]["login"], said["measures"]["application"]["p95_before_seconds"]) == ("pass", 0.01)


def test_a_nonce_on_a_standby_is_on_no_primary(tmp_path, shop):
    result = judge(tmp_path, proved(shop.endpoint), {"present": [[1, 1]], "in_recovery": True})
    assert result["failed"]
    assert "NOT found" in result["msg"]


def test_a_witness_that_did_nothing_is_unknown(tmp_path):
    result = judge(tmp_path, None, {})
    assert [gate["verdict"] for gate in result["ansible_stats"]["data"]["relevo"]["gates"]] == ["unknown"]
