"""The writer itself, against small servers on the loopback: how each answer is judged, and that a silent endpoint delays nobody."""

from __future__ import annotations

import importlib.util
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ansible_collections.relevo.dr.plugins.module_utils import ledger, witness_log

SOURCE = Path(__file__).parents[3] / "roles/dr_ledger/files/relevo_ledger.py"


@pytest.fixture(scope="module")
def writer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("relevo_ledger", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["relevo_ledger"] = module
    spec.loader.exec_module(module)
    return module


@contextmanager
def serving(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that reads the request and then does with the connection what `answer` does."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.05)
    stopping = threading.Event()

    def run() -> None:
        while not stopping.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            threading.Thread(target=one, args=(connection,), daemon=True).start()

    def one(connection: socket.socket) -> None:
        with connection:
            connection.recv(65536)
            answer(connection)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        stopping.set()
        thread.join()
        listener.close()


def saying(status: str, **body: Any) -> Callable[[socket.socket], None]:
    text = json.dumps(body)
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n"
    return lambda connection: connection.sendall((head + text).encode())


def silent(_connection: socket.socket) -> None:
    time.sleep(2)


def resetting(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")


def request(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "token").write_text("secret\n")
    return {
        "method": "POST",
        "path": "/ledger",
        "body": {"reference": "{reference}"},
        "token_file": str(tmp_path / "token"),
        "acknowledged_statuses": [200, 201],
        "failed_statuses": [400, 401],
    }


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (saying("201 Created", server="a-db1"), "acknowledged"),
        (saying("409 Conflict", committed=True), "indeterminate"),
        (saying("401 Unauthorized"), "failed"),
        (saying("503 Service Unavailable", committed=False), "failed"),
        (saying("503 Service Unavailable", committed=None), "indeterminate"),
        (saying("502 Bad Gateway"), "indeterminate"),
        (silent, "indeterminate"),
        (resetting, "indeterminate"),
    ],
)
def test_only_what_is_certain_is_called_failed(
    writer: ModuleType, tmp_path: Path, answer: Callable[[socket.socket], None], outcome: str
) -> None:
    with serving(answer) as endpoint:
        began = time.monotonic()
        assert writer.Http(endpoint, request(tmp_path), 0.3).write("relevo-x-1").outcome == outcome
        assert time.monotonic() - began < 1


def test_a_refused_connection_surely_had_no_effect(writer: ModuleType, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(writer.NotSentError):
        writer.Http(f"http://127.0.0.1:{port}", request(tmp_path), 0.3).write("relevo-x-1")


def run(writer: ModuleType, tmp_path: Path, endpoints: list[str], seconds: float, pace: float = 0.02) -> list[ledger.Entry]:
    book = writer.Ledger(writer.Log(str(tmp_path), 4000, 50), writer.Pace(pace, str(tmp_path / "pace.json")))
    lanes = [
        threading.Thread(target=book.run_lane, args=(writer.Http(endpoint, request(tmp_path), 0.5),)) for endpoint in endpoints
    ]
    for lane in lanes:
        lane.start()
    time.sleep(seconds)
    book.stop()
    for lane in lanes:
        lane.join()
    return ledger.parse(witness_log.since(str(tmp_path / "ledger.jsonl"), ""))


def test_a_silent_endpoint_delays_no_other(writer: ModuleType, tmp_path: Path) -> None:
    with serving(silent) as dead, serving(saying("201 Created", server="b-db1")) as alive:
        entries = run(writer, tmp_path, [dead, alive], 0.8)
    good = [entry for entry in entries if entry.outcome == "acknowledged"]
    assert good[0].mono - entries[0].mono < 0.3
    assert {entry.endpoint for entry in entries[4:]} == {alive}
    assert len(good) > 15


def test_numbers_go_on_after_restart_rotation_and_a_torn_line(writer: ModuleType, tmp_path: Path) -> None:
    with serving(saying("201 Created")) as alive:
        first = run(writer, tmp_path, [alive], 0.4)
        with (tmp_path / "ledger.jsonl").open("a") as log:
            log.write('{"kind":"intent","n":99')
        both = run(writer, tmp_path, [alive], 0.4)
    assert (tmp_path / "ledger.jsonl.1").exists()
    numbers = [entry.number for entry in both]
    assert numbers == list(range(1, len(both) + 1))
    assert len(both) > len(first)
    assert {entry.reference.rpartition("-")[0] for entry in both} == {first[0].reference.rpartition("-")[0]}


def test_an_intent_is_on_disk_before_the_request_goes_out(writer: ModuleType, tmp_path: Path) -> None:
    seen: list[bool] = []

    def look(connection: socket.socket) -> None:
        lines = witness_log.since(str(tmp_path / "ledger.jsonl"), "")
        seen.append(lines[-1]["kind"] == "intent")
        saying("201 Created")(connection)

    with serving(look) as endpoint:
        run(writer, tmp_path, [endpoint], 0.2)
    assert seen
    assert all(seen)


def test_the_fast_pace_expires_by_itself(writer: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "pace.json"
    pace = writer.Pace(1.0, str(path))
    assert pace.seconds() == 1.0
    path.write_text(json.dumps({"ledger_interval_seconds": 0.05, "until": time.time() + 0.2}))
    assert pace.seconds() == 0.05
    time.sleep(0.25)
    assert pace.seconds() == 1.0
    path.write_text("not json")
    assert pace.seconds() == 1.0
