"""A report on paper: every sheet says whose it is, nothing leaves the sheet, nothing is lost between two."""

from __future__ import annotations

import os
import pty
import socketserver
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from relevo import paper, report
from relevo.errors import RelevoError
from relevo.record import Record
from relevo.report import Form
from tests.unit.runner import examples
from tests.unit.runner.sheets import BOTTOM, HEIGHT, SIDE, WIDTH, Sheet, sheets
from tests.unit.runner.streams import build, read, said, stats
from tests.unit.runner.test_report_forms import with_words

RECORDS = examples.every()
RUNNER = Path(report.__file__).parents[1]


def printed(record: Record) -> list[Sheet]:
    return sheets(report.contents(record, Form.PDF))


def one_line(text: str) -> str:
    return " ".join(text.split())


def inside(found: list[Sheet]) -> bool:
    return all(
        sheet.left >= SIDE - 1 and sheet.right <= WIDTH - SIDE + 1 and sheet.bottom >= BOTTOM and sheet.top <= HEIGHT - BOTTOM
        for sheet in found
    )


@pytest.mark.parametrize("name", ["failed", "protect", "failback", "refused_inputs"])
def test_every_sheet_says_whose_it_is_and_nothing_leaves_it(name: str) -> None:
    record = RECORDS[name]
    found = printed(record)
    for number, sheet in enumerate(found, 1):
        text = one_line(sheet.text)
        assert (
            f"{record.cluster or 'no cluster'} · {record.runbook.replace('_', ' ')} · run {record.run_id} · {record.verdict}"
            in text
        )
        assert f"Page {number} of {len(found)}" in text
        assert "All times are UTC" in text
    assert inside(found)


def test_every_gate_of_a_long_table_is_whole_and_under_a_heading() -> None:
    opening, events = read("failover_disaster")
    gates = [
        {
            **examples.GATE,
            "id": f"G{number:03}",
            "verdict": "pass",
            "observed": f"begins{number:03} {'and goes on ' * 20}ends{number:03}",
        }
        for number in range(30)
    ]
    found = printed(build(opening, [*events, said(gates=gates), stats()]))
    for number in range(30):
        (sheet,) = [sheet for sheet in found if f"begins{number:03}" in sheet.text]
        text = one_line(sheet.text)
        assert f"ends{number:03}" in text
        assert "Verdict Gate Host Observed Expected" in text[: text.index(f"begins{number:03}")]
    assert inside(found)


@pytest.mark.parametrize("word", ["W" * 1500, "word " * 300])
def test_whatever_hosts_say_stays_on_the_sheet(word: str) -> None:
    found = printed(with_words(word))
    assert inside(found)
    assert "What this rests on" in one_line(" ".join(sheet.text for sheet in found))


def test_nothing_is_fetched_for_a_page() -> None:
    asked: list[bytes] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            asked.append(self.rfile.readline())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = f"http://127.0.0.1:{server.server_address[1]}"
        secret = Path(__file__).as_uri()
        page = f"<link rel=stylesheet href='{place}/a.css'><p>words<img src='{place}/b.png'><img src='{secret}'><style>@import '{place}/c.css';</style>"
        assert paper.print_page(page).startswith(b"%PDF-")
        server.shutdown()
    assert asked == []


def test_a_large_run_is_printed_in_bearable_time() -> None:
    opening, events = read("failover_disaster")
    gates = [{**examples.GATE, "id": f"G{number}"} for number in range(2000)]
    record = build(opening, [*events, said(gates=gates), stats()])
    began = time.process_time()
    found = printed(record)
    assert time.process_time() - began < 30
    text = one_line(" ".join(sheet.text for sheet in found))
    assert f"more gates: relevo report {record.run_id} --format html shows all." in text
    assert "more reasons: relevo report" in text


def test_a_machine_without_what_draws_text_hears_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "weasyprint", None)
    with pytest.raises(
        RelevoError, match=r"No PDF can be made here: .* Next: apt-get install libpango-1.0-0 .* or take --format html"
    ):
        report.contents(RECORDS["drill"], Form.PDF)


def command(tmp_path: Path, *words: str, output: int) -> subprocess.CompletedProcess[bytes]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(RUNNER),
        "XDG_STATE_HOME": str(tmp_path),
        "RELEVO_STORE": f"sqlite:///{tmp_path}/r.db",
    }
    line = [sys.executable, "-c", "from relevo.cli import app; app()", "report", "latest", *words]
    return subprocess.run(line, env=environment, stdout=output, stderr=subprocess.PIPE, check=False, timeout=120)


def test_a_terminal_is_no_place_for_a_pdf(tmp_path: Path) -> None:
    main, terminal = pty.openpty()
    try:
        refused = command(tmp_path, "--format", "pdf", output=terminal)
        assert refused.returncode == 4
        assert b"A PDF is nothing that a terminal can show: give a file with -o" in refused.stderr
        elsewhere = command(tmp_path, "--format", "pdf", output=subprocess.PIPE)
        assert b"terminal" not in elsewhere.stderr
    finally:
        os.close(main)
        os.close(terminal)
