"""The forms of a report as people and machines meet them: whole, with units and zones, without markup or secrets of hosts."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from relevo import notify, particulars, recording, report, story, wording
from relevo.junit import Criterion
from relevo.paths import Place
from relevo.record import Record
from relevo.report import Form, render
from relevo.verdict import Ending
from tests.unit.runner import examples
from tests.unit.runner.sheets import paper_text
from tests.unit.runner.streams import build, failed, read, said, stats

RECORDS = examples.every()
TEXTS = [Form.HTML, Form.PDF, Form.JUNIT, Form.MARKDOWN, Form.JSON]
EVERY = pytest.mark.parametrize("name", list(RECORDS))
CLOCK = re.compile(r"\b\d{1,2}:\d\d:\d\d(?:\.\d+)?")
VOID = {"meta", "br", "input", "hr"}


class Page(HTMLParser):
    """Tags in order, and the cells of each table with their column."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002 - the parser asks for it
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in {"td", "th"}:
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)
            if "td" in self.open or "th" in self.open:
                self.tables[-1][-1][-1] += data


@EVERY
@pytest.mark.parametrize("form", TEXTS)
def test_every_kind_of_run_has_every_form(name: str, form: Form) -> None:
    """Without a word of Python; what hosts said in the recorded runs is theirs."""
    text = render(RECORDS[name], form)
    assert name in {"drill", "failed"} or not re.search(r"None(?! of)|{{|{'|undefined", text)


@EVERY
def test_no_section_is_empty_and_every_table_is_even(name: str) -> None:
    page = Page(render(RECORDS[name], Form.HTML))
    assert page.open == []
    for table in page.tables:
        assert table and all(any(cell.strip() for cell in row) for row in table)
        widths = {len(row) for row in table}
        assert len(widths) == 1
    assert 'class="cards">\n  </div>' not in render(RECORDS[name], Form.HTML)


@EVERY
def test_every_time_has_its_zone(name: str) -> None:
    """In the words around it, or above its column; what a host said stays as it was said."""
    for table in Page(render(RECORDS[name], Form.HTML)).tables:
        titles = table[0]
        for row in table[1:] if "Verdict" not in titles else ():
            for title, cell in zip(titles, row, strict=True):
                zoned = re.findall(CLOCK.pattern + r"(?: UTC|Z|\+00)", cell)
                assert "(UTC)" in title or len(zoned) == len(CLOCK.findall(cell)), (title, cell)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("restore_test", ["9.6 MiB a second", "Proven up to", "a user logs in", "4.7 s for the live database of 33.2 MiB", "What can be restored"]),
        ("restore_test", ["timeline 5 from 2026-11-28 00:20:04 UTC", "2026-11-28 00:22:56 UTC", "exists 0.02 s, restores 3.4 s"]),
        ("restore_test_two", ["only what had changed in an older copy", "repository 2"]),
        ("protect", ["20261128-002001F", "32.2 MiB", "4.0 MiB", "standby b-db1", "configuration", "206"]),
        ("verify_backup", ["24 of 24 hours", "92 objects, 6.0 MiB of 1 290 objects, 86.0 MiB", "share 3 of 14", "configuration 1 h 00 min"]),
        ("verify_backup", ["from 2026-11-21 00:20:04 UTC until 2026-11-28 00:26:29 UTC", "nothing"]),
        ("restore_files", ["412", "1 d 0 h", "1 file"]),
        ("failback", ["1 765", "64.2 MiB", "shop.ledger_entries: 1 433 inserted", "by rewind in 1.2 s", "full impossible: no room", "17 min 04 s"]),
        ("switchover", ["timeline 2 forks from 1 at 0/7092560", "replayed to its end", "1 transaction, 39.3 s"]),
        ("check", ["wit1", "witness", "last acknowledgement 0.0 s ago", "fenced by r1"]),
        ("partial", ["a loss of at most 5 min 00 s", "1 697 transactions", "unseen: G05", "declared dead: a-db1", "site a burns"]),
        ("rehearse", ["31.2 s", "8.4 s", "Restore test"]),
    ],
)  # fmt: skip
def test_each_runbook_shows_what_it_measured(name: str, words: list[str]) -> None:
    for form in (Form.HTML, Form.MARKDOWN):
        text = render(RECORDS[name], form)
        for word in words:
            assert word in text, (form, word)


def test_a_run_that_moves_nothing_is_not_asked_for_its_recovery_time() -> None:
    for name in ("failback", "switchover_done", "restore_test", "check"):
        assert "not observed" not in {card.value for card in story.cards(RECORDS[name])}, name
    assert "nothing had to be changed" in story.sentences(RECORDS["switchover_done"])[0]
    assert "not observed" in {card.value for card in story.cards(RECORDS["interrupted"])}


def test_criteria_stand_in_the_report() -> None:
    criterion = Criterion("Outage of clients", "57.1 s", "at most 60 s", "pass")
    for form in (Form.HTML, Form.MARKDOWN):
        assert "Outage of clients" in render(RECORDS["drill"], form, [criterion])
        assert "Criteria" not in render(RECORDS["drill"], form)


def test_what_users_felt_is_told_on_both_sides_of_the_outage() -> None:
    proof = {"p95_seconds": 0.007698, "p95_before_seconds": None, "login": "pass", "nonce": "pass", "requests": 20}
    proof |= {"failed_requests": 0, "window_seconds": 1.0, "endpoints": ["http://b-app1:8080"]}
    writes = {"p95_before_seconds": 0.0121, "p95_after_seconds": 0.25, "before": 100, "after": 30}
    page = render(examples.of("failover", application=proof, writes=writes), Form.MARKDOWN)
    for words in (
        "http://b-app1:8080",
        "20 in 1.0 s, 0 failed",
        "7.7 ms",
        "before the outage | 0.01 s",
        "The same, after it | 0.25 s",
    ):
        assert words in page, page
    assert "Answered before" not in page


@pytest.mark.parametrize("p95", [None, 0.008])
def test_a_p95_of_failed_answers_is_shown_as_none(p95: float | None) -> None:
    """Also of a record of before, which has one."""
    proof = {"p95_seconds": p95, "p95_before_seconds": 0.25, "requests": 30, "failed_requests": 2, "window_seconds": 1.0}
    page = render(examples.of("failover", application=proof), Form.MARKDOWN)
    assert "Answered, 95 of 100 within | no time: 2 of 30 failed" in page
    assert "Answered before, 95 of 100 within | 0.25 s" in page
    assert "8 ms" not in page
    served = render(examples.of("failover", application={**proof, "p95_seconds": 0.008, "failed_requests": 1}), Form.MARKDOWN)
    assert "Answered, 95 of 100 within | 8 ms" in served


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
TOLD = [
    "restore_tests",
    "restore_window",
    "backups",
    "backup_verification",
    "files",
    "promotion",
    "handover",
    "loss_before_promotion",
    "repositories",
    "archive_replayed",
    "application",
    "writes",
    "salvage",
    "rebuild",
    "reprotected_at",
    "time_to_reprotect_seconds",
]


def scrambled(value: Any, junk: list[Any]) -> Any:
    """The same tree with what stands in it replaced here and there."""
    if not junk:
        return value
    if isinstance(value, dict) and len(junk) % 3:
        return {key: scrambled(item, junk[number % len(junk) :]) for number, (key, item) in enumerate(value.items())}
    return [scrambled(item, junk[1:]) for item in value] if isinstance(value, list) and len(junk) % 2 else junk[0]


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(TOLD), JSON), st.lists(JSON, max_size=9))
def test_a_measure_of_another_shape_spoils_no_report(measures: dict[str, Any], junk: list[Any]) -> None:
    whole = {**examples.PROMOTION, "restore_tests": [examples.RESTORE_TEST], "salvage": {"a": examples.SALVAGE}}
    whole |= {
        "rebuild": {"a": examples.REBUILD},
        "backups": {"r": examples.BACKUP},
        "backup_verification": {"1": examples.VERIFIED},
    }
    record = examples.of("failback", **(scrambled(whole, junk) if isinstance(scrambled(whole, junk), dict) else {}) | measures)
    for form in TEXTS:
        render(record, form)


HOSTILE = st.text(min_size=1, max_size=60) | st.sampled_from(
    [
        "</td></tr></table><script>alert(1)</script>",
        "<!-- ",
        "]]>",
        "| a | b |\n|---|---|\n# head",
        "[x](javascript:alert(1)) ![y](http://192.0.2.1/z.png) `c` **b** <b>",
        "\x00\x1b[31mred\x07\u202egnihton",
        "W" * 5000,
        "&lt;script&gt; &amp;",
    ]
)


def with_words(word: str) -> Record:
    """A record in which hosts say one word everywhere."""
    opening, events = read("failover_disaster")
    gate = {
        **dict.fromkeys(("id", "title", "host", "observed", "expected", "next_action"), word),
        "verdict": "fail",
        "phase": "PREFLIGHT",
    }
    phase = {
        "name": "PROMOTE",
        "host": word,
        "detail": word,
        "outcome": "ok",
        "started_at": "2026-11-24T12:15:38Z",
        "ended_at": "2026-11-24T12:15:39Z",
        "duration_seconds": 1.0,
    }
    measures = {
        "restore_tests": [{**examples.RESTORE_TEST, "target": word}],
        "restore_window": [f"repository 1: {word.replace(';', '')}"],
    }
    status = {"hosts": {"b-db1": {"state": word, "role": word}}}
    spoken = said(
        run={"reason": word},
        gates=[gate],
        phases=[phase],
        measures=measures,
        status=status,
        fence={"probes": [{"host": word, "result": word}]},
    )
    return build(opening, [*events, spoken, failed(f"no: {word}", host="b-db1"), stats(failures=("b-db1",))])


def outline(text: str) -> list[tuple[str, int]]:
    """What a reader of Markdown makes of it: the blocks, and how many links, pictures and tags stand in them."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    inner = [child.type for token in tokens for child in token.children or ()]
    return [(token.type, token.level) for token in tokens] + [
        (kind, inner.count(kind)) for kind in ("link_open", "image", "html_inline", "strong_open", "code_inline")
    ]


@settings(max_examples=40, deadline=None)
@given(HOSTILE)
def test_what_hosts_say_changes_no_page_and_gets_lost_nowhere(word: str) -> None:
    word = f"a{word}z"
    record, plain = with_words(word), with_words("word")
    page = Page(render(record, Form.HTML))
    assert page.tags == Page(render(plain, Form.HTML)).tags
    assert wording.visible(word).replace("\r\n", "\n").replace("\r", "\n") in "".join(page.words).replace("\r\n", "\n").replace(
        "\r", "\n"
    )
    assert outline(render(record, Form.MARKDOWN)) == outline(render(plain, Form.MARKDOWN))
    for form in (Form.HTML, Form.MARKDOWN, Form.JUNIT):
        assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", render(record, form))


def test_a_large_run_is_reported_at_once() -> None:
    """2 000 gates and 2 000 phases: in seconds of this process, whatever else the machine does."""
    opening, events = read("failover_disaster")
    gates = [{**examples.GATE, "id": f"G{number}"} for number in range(2000)]
    phase = {"started_at": "2026-11-24T12:15:31Z", "ended_at": "2026-11-24T12:15:34Z", "duration_seconds": 3.0, "outcome": "ok"}
    phases = [{"name": f"PHASE {number % 70}", "host": f"h{number}", **phase} for number in range(2000)]
    record = build(opening, [*events, said(gates=gates, phases=phases), stats()])
    for form in (Form.HTML, Form.JUNIT, Form.MARKDOWN, Form.JSON):
        began = time.process_time()
        text = render(record, form)
        assert time.process_time() - began < 3
        assert "G1999" in text and "h1999" in text
    page = render(record, Form.HTML)
    assert "Not every phase is drawn" in page
    assert len(render(record, Form.PDF)) < len(page) / 4
    assert "more gates: relevo report" in render(record, Form.PDF)


# Each known to the recorder in another way, and each without a part in common with another.
CANARIES = {
    "a file of the secrets directory": "kq7Vr2mZ4xT9dLpW",
    "the end of a line in one": "hN3sYb8cJ6fRg1Ua",
    "the environment": "eD5wQz0oXi7tKvMy",
    "a URL": "uB4nGj9aCl2pHsFe",
    "a word before it": "wP8xTr6yVk1mZdQo",
    "an age key": "AGE-SECRET-KEY-1QQPZRY9X8GF2TVDW0S3JN54KHCE",
    "a private key": "pMC4CAQAwBQYDK2VwBCIEIJ7y",
    "a key's name": "nS2gLw9bXe5rYjUc",
}


def recorded(tmp_path: Path) -> tuple[Record, Place]:
    """A run in which hosts and tasks say every secret wherever they can, recorded as any other."""
    secrets = tmp_path / "inventory" / "secrets"
    secrets.mkdir(parents=True)
    (secrets / "app").write_text(CANARIES["a file of the secrets directory"] + "\n")
    (secrets / "pgpass").write_text(f"b-db1:5432:*:app:{CANARIES['the end of a line in one']}\n")
    place = Place(tmp_path / "state", f"sqlite:///{tmp_path}/state/relevo.db")
    request = recording.Request(tmp_path / "playbooks" / "failover.yml", tmp_path, (str(tmp_path / "inventory"),), "runner", {})
    recorder = recording.start(place, request, {"SUDO_USER": "ana", "APP_PASSWORD": CANARIES["the environment"]})
    bare = [
        CANARIES[name] for name in ("a file of the secrets directory", "the end of a line in one", "the environment", "an age key")
    ]
    said = (
        f"{' '.join(bare)} postgresql://app:{CANARIES['a URL']}@b-db1/shop password={CANARIES['a word before it']} "
        f"-----BEGIN PRIVATE KEY-----\n{CANARIES['a private key']}\n-----END PRIVATE KEY-----"
    )
    relevo = {
        "run": {"cluster": "minimarket", "reason": said, "accepted": {"unknown": [said]}, "target_site": said},
        "gates": [
            {
                **examples.GATE,
                "title": said,
                "observed": said,
                "next_action": said,
                "expected": {"db_password": CANARIES["a key's name"]},
            }
        ],
        "phases": [{"name": "LOCK", "host": "b-db1", "detail": said, "outcome": "failed"}],
        "measures": {
            "restore_tests": [{**examples.RESTORE_TEST, "target": said}],
            "restore_window": [said],
            "salvage": {"a-db1": {**examples.SALVAGE, "directory": said, "relations": {said: {"inserted": 1}}}},
        },
        "fence": {"class": "stopped", "probes": [{"host": "a-db1", "result": said}]},
        "status": {"hosts": {"b-db1": {"state": said}}},
    }
    about = {"host": "b-db1", "task": "t", "play": "Failover 1/1: Do"}
    for kind, result in (("runner_on_ok", {"relevo": relevo}), ("runner_on_failed", {"msg": said})):
        recorder.take({"event": kind, "created": "2026-11-24T12:00:00+00:00", "event_data": {**about, "res": result}})
    recorder.take({"event": "playbook_on_stats", "created": "2026-11-24T12:00:09+00:00", "event_data": {"failures": {"b-db1": 1}}})
    finished = recorder.close(Ending(reason=None))
    assert finished is not None
    return finished.record, place


def test_no_form_of_a_report_and_no_message_tells_a_secret(tmp_path: Path) -> None:
    record, place = recorded(tmp_path)
    letter = notify.write(record, notify.history(place, record), with_report=True)
    assert letter.attachment is not None
    shown = {str(form): render(record, form) for form in TEXTS}
    shown |= {
        "paper": paper_text(letter.attachment.contents),
        "mail": letter.notice.title + letter.notice.text + letter.notice.page,
    }
    for form, text in shown.items():
        assert [name for name, secret in CANARIES.items() if secret in re.sub(r"\s+", "", text)] == [], form
        assert "redacted" in text, form


def test_tables_without_rows_are_left_out() -> None:
    assert particulars.tables(RECORDS["bare"]) == []
    assert all(table.rows for record in RECORDS.values() for table in particulars.tables(record))


def test_a_failure_that_is_the_reason_is_told_once() -> None:
    opening, _ = read("failover_disaster")
    record = build(replace(opening, runbook="check"), [said(run={}), failed("no disk left"), stats(failures=("b-db1",))])
    assert report.contents(record, Form.HTML).count(b"no disk left") == 1
    phase = {"name": "LOCK", "host": "b-db1", "outcome": "failed", "detail": "no disk left"}
    record = build(opening, [said(run={}, phases=[phase]), failed("no disk left"), stats(failures=("b-db1",))])
    head, _, phases = render(record, Form.HTML).partition("<h2>Phases</h2>")
    assert (head.count("no disk left"), phases.count("no disk left")) == (1, 1)
