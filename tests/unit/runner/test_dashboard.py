"""The dashboard without a browser: its numbers are those of the other commands, its pages hold together, and nothing breaks out of them."""

from __future__ import annotations

import http.client
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevo import dashboard_directory, dashboard_server, due, forecast, overview, policy_file
from relevo.clock import utc
from relevo.dashboard import RUNS, Board, page_of_cluster, page_of_run
from relevo.dashboard_directory import MARKER
from relevo.dashboard_pages import Site
from relevo.errors import RelevoError, StoreError, UsageError
from relevo.paths import Place
from relevo.store import Store
from tests.unit.runner import fleet

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


def store_at(path: Path) -> Store:
    return Store(Place(path, f"sqlite:///{path}/relevo.db"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    filled = store_at(tmp_path_factory.mktemp("fleet"))
    fleet.fill(filled, NOW)
    return filled


@pytest.fixture(scope="module")
def board(store: Store) -> Board:
    return fleet.board(store, NOW)


@pytest.fixture(scope="module")
def pages(board: Board) -> dict[str, str]:
    site = Site(board)
    return {path: (site.read(path) or b"").decode() for path in site.paths}


class Page(HTMLParser):
    """What a reader and a browser see: links, headings, words outside of style and script, and elements that could act."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.ids: list[str] = []
        self._words: list[str] = []
        self._silent = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        self.links += [value or "" for name, value in attrs if name in {"href", "src"}]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self._silent += tag in {"style", "script"}

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in {"style", "script"}

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self._words.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self._words).split())


# -- the numbers --


def test_it_says_what_the_other_commands_say(store: Store, board: Board) -> None:
    policy = policy_file.parse(fleet.POLICY, "policy.yml")
    seen = overview.gather(store, policy, due.Now(NOW, {}, lambda *_: None))
    data = board.document()
    tests = [test for cluster in data["clusters"] for test in cluster["tests"]]
    assert sorted(tests, key=str) == sorted((entry.document() for entry in seen.calendar), key=str)
    by_name = {cluster["cluster"]: cluster for cluster in data["clusters"]}
    assert by_name["minimarket"]["predictions"] == [
        asdict(one) for one in forecast.look(store, "minimarket", ["failover", "rehearse"], utc(NOW))
    ]
    assert [finding["id"] for finding in by_name["minimarket"]["findings"]] == ["F-000000", "F-000001"]
    assert (by_name["minimarket"]["findings_open"], by_name["minimarket"]["findings_overdue"]) == (2, 1)
    assert (
        data["runs_total"]
        == store.count()
        == sum(c["runs_total"] for c in data["clusters"]) + data["without_cluster"]["runs_total"]
    )


def test_the_newest_measurement_stands_against_the_objective_of_its_tier(board: Board) -> None:
    by_name = {cluster["cluster"]: cluster for cluster in board.document()["clusters"]}
    shop = by_name["minimarket"]
    assert (shop["rto"]["newest"]["seconds"], shop["rto"]["target_seconds"], shop["rto"]["newest"]["met"]) == (20.0, 14400.0, True)
    assert (shop["rto"]["moved"], shop["rto"]["measured"], shop["rto"]["missed"]) == (9, 18, 1)
    assert shop["rto"]["rehearsed"] is None, "the failover is newer"
    assert (by_name["payroll"]["rto"]["newest"], by_name["payroll"]["rto"]["target_seconds"]) == (None, 86400.0)
    assert by_name["payroll"]["state"] == "NEVER PASSED"


def test_the_data_are_json_with_stable_names(pages: dict[str, str]) -> None:
    data = json.loads(pages["data.json"])
    assert set(data) == {"schema", "relevo", "at", "policy", "runs_total", "clusters", "without_cluster"}
    assert set(data["clusters"][0]) == {
        *("cluster", "page", "tier", "state", "tests_current", "tests_overdue", "next", "tests", "rto", "rpo", "predictions"),
        *("findings_open", "findings_overdue", "findings", "runbooks", "runs_total", "runs"),
    }
    assert data["at"] == "2026-11-28T12:00:00.000000Z"


def test_what_nobody_measured_is_no_zero(pages: dict[str, str]) -> None:
    words = Page(pages[page_of_cluster("payroll")]).words
    assert "Recovery time (RTO) not measured objective 1 d 0 h" in words
    assert "0 s" not in words.replace("All times", "")
    fleet_words = Page(pages["index.html"]).words
    assert "not measured objective 1 d 0 h" in fleet_words
    assert "2026-11-28 12:00:00 UTC" in fleet_words


# -- the pages --


def test_every_link_leads_to_a_page_of_the_site(pages: dict[str, str]) -> None:
    seen = set()
    for path, text in pages.items():
        if path.endswith(".html"):
            for link in Page(text).links:
                if link.startswith(("data:", "#")):
                    continue
                target = unquote(urljoin(f"/{path}", link)).removeprefix("/")
                assert target in pages, f"{path}: {link}"
                seen.add(target)
    # The run of which nothing says more than a list is on its cluster's page, too.
    assert seen == set(pages), "what nothing leads to"


def test_a_page_names_nothing_outside(pages: dict[str, str]) -> None:
    for path, text in pages.items():
        page = Page(text)
        assert not [link for link in page.links if "//" in link], path
        assert "url(" not in text and "@import" not in text, path


def test_pages_of_runs_lead_back(pages: dict[str, str], board: Board) -> None:
    for run_id, path in board.pages.items():
        links = Page(pages[path]).links
        assert "../index.html" in links and "../calendar.html" in links
        homes = [cluster for cluster in board.clusters if any(one.summary.run_id == run_id for one in cluster.runs)]
        assert all(f"../{cluster.page}" in links for cluster in homes)


def test_nothing_that_people_or_hosts_said_becomes_markup(pages: dict[str, str]) -> None:
    for path, text in pages.items():
        if path.endswith(".html"):
            page = Page(text)
            assert "img" not in page.elements and "b" not in page.elements, path
            assert page.elements.count("script") == (0 if path.startswith("runs/") else 1), path
            assert not [name for name, _ in page.attributes if name.startswith("on")], path
            assert "\u202e" not in text, path
    assert "<script>document.title" in Page(pages[page_of_cluster("minimarket")]).words


def test_the_policy_of_a_page_allows_its_own_style_and_script_and_nothing_else(pages: dict[str, str]) -> None:
    (policy,) = {value for name, value in Page(pages["index.html"]).attributes if name == "content" and "default-src" in value}
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy and "http" not in policy
    assert not [name for path in ("index.html", "calendar.html") for name, _ in Page(pages[path]).attributes if name == "style"]


def test_no_section_is_empty(pages: dict[str, str], tmp_path: Path) -> None:
    empty = Site(fleet.board(store_at(tmp_path), NOW))
    drawn = {**pages, **{f"empty/{path}": (empty.read(path) or b"").decode() for path in empty.paths}}
    for path, text in drawn.items():
        # A report has cells for what does not apply.
        if path.endswith(".html") and not path.startswith("runs/"):
            assert not re.search(r"<(tbody|ul|dl|figure|figcaption|p|td)[^>]*>\s*</\1>", text), path
            assert not re.search(r"</h2>\s*(<h2|</main|<footer)", text), path
    nothing = Page(drawn["empty/" + page_of_cluster("payroll")]).words
    assert "Over time" not in nothing and "How long" not in nothing and "Runs" not in nothing


def test_a_long_history_has_as_many_pages_as_a_short_one(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    fleet.fill(store, NOW, often=4)
    board = fleet.board(store, NOW, runs=3)
    shop = next(cluster for cluster in board.clusters if cluster.name == "minimarket")
    assert (len(shop.runs), shop.runs_total) == (3, 14)
    assert "The newest 3 of 14 runs." in Page((Site(board).read(shop.page) or b"").decode()).words
    named = {attempt.run_id for test in shop.tests for attempt in (test.passed, test.attempt) if attempt}
    assert named <= set(board.pages) and len(board.pages) < board.runs_total


@given(st.text(min_size=1), st.text(min_size=1))
def test_every_name_has_a_file_of_its_own_everywhere(one: str, other: str) -> None:
    for page_of, folder in ((page_of_cluster, "clusters"), (page_of_run, "runs")):
        assert re.fullmatch(rf"{folder}/[A-Za-z0-9_~-]+\.html", page_of(one))
        if one != other:
            assert page_of(one).lower() != page_of(other).lower()


def test_plain_names_stay_as_they_are() -> None:
    assert page_of_cluster("minimarket") == "clusters/minimarket.html"
    assert page_of_run("20261128T001500Z-restore_test-00f3") == "runs/20261128T001500Z-restore_test-00f3.html"
    assert page_of_cluster("Minimarket") != page_of_cluster("minimarket")
    assert page_of_cluster("../x").startswith("clusters/x~")


# -- in a directory --


def test_a_site_is_written_and_the_next_one_takes_its_place(store: Store, board: Board, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert dashboard_directory.write(out, Site(board)) == sum(
        p.stat().st_size for p in out.rglob("*") if p.is_file() and p.name != MARKER
    )
    assert set(Site(board).paths) == {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()} - {MARKER}
    out.chmod(0o750)
    smaller = Site(fleet.board(store, NOW, runs=1))
    assert len(smaller.paths) < len(Site(board).paths)
    dashboard_directory.write(out, smaller)
    assert set(smaller.paths) == {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()} - {MARKER}
    assert out.stat().st_mode & 0o777 == 0o750
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("earlier", [False, True], ids=["never ours", "ours before"])
def test_what_no_dashboard_wrote_is_never_removed(board: Board, tmp_path: Path, earlier: bool) -> None:  # noqa: FBT001
    out = tmp_path / "out"
    if earlier:
        dashboard_directory.write(out, Site(board))
    (out / "runs").mkdir(parents=True, exist_ok=True)
    (out / "runs" / "thesis.txt").write_text("mine")
    before = sorted(map(str, out.rglob("*")))
    with pytest.raises(UsageError, match=r"holds runs/thesis.txt, which no dashboard wrote .*Nothing was changed"):
        dashboard_directory.write(out, Site(board))
    assert sorted(map(str, out.rglob("*"))) == before
    (out / "runs" / "thesis.txt").unlink()
    dashboard_directory.write(out, Site(board))


class Torn(Site):
    """A site of which the last page cannot be made."""

    def read(self, path: str) -> bytes | None:
        if path == self.paths[-1]:
            message = "The store is away."
            raise StoreError(message)
        return super().read(path)


def test_a_site_that_cannot_be_finished_leaves_the_one_before(board: Board, tmp_path: Path) -> None:
    out = tmp_path / "out"
    dashboard_directory.write(out, Site(board))
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(StoreError, match="away"):
        dashboard_directory.write(out, Torn(board))
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_place_that_is_no_directory_is_refused(board: Board, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="is no directory"):
        dashboard_directory.write(tmp_path / "file", Site(board))
    with pytest.raises(RelevoError, match="cannot be written"):
        dashboard_directory.write(tmp_path / "file" / "below", Site(board))


def test_a_reader_never_sees_half_a_site(store: Store, tmp_path: Path) -> None:
    out, done = tmp_path / "out", threading.Event()
    sites = [Site(fleet.board(store, NOW + timedelta(seconds=number), runs=1)) for number in range(2)]
    dashboard_directory.write(out, sites[0])
    missing: list[str] = []

    def read() -> None:
        while not done.is_set():
            missing.extend(path for path in ("index.html", "data.json", MARKER) if not (out / path).is_file())

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(6):
        dashboard_directory.write(out, sites[number % 2])
    done.set()
    reader.join()
    assert missing == []


# -- on loopback --

Ask = Callable[..., tuple[int, dict[str, str], bytes]]


@contextmanager
def served(fresh: dashboard_server.Fresh) -> Iterator[Ask]:
    with dashboard_server.bind(fresh, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()

        def ask(path: str, method: str = "GET", host: str | None = None) -> tuple[int, dict[str, str], bytes]:
            connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
            connection.putrequest(method, path, skip_host=host is not None)
            if host is not None:
                connection.putheader("Host", host.replace("PORT", str(server.server_port)))
            connection.endheaders()
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()

        try:
            yield ask
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def ask(board: Board) -> Iterator[Ask]:
    with served(dashboard_server.Fresh(lambda: board)) as asking:
        yield asking


def test_pages_are_served_with_what_protects_them(ask: Ask, pages: dict[str, str]) -> None:
    for path, kind in (
        ("/", "text/html"),
        ("/calendar.html", "text/html"),
        ("/data.json", "application/json"),
        ("/calendar.ics", "text/calendar"),
    ):
        status, headers, body = ask(path)
        assert (status, headers["Content-Type"].partition(";")[0]) == (200, kind)
        assert body.decode() == pages[path.strip("/") or "index.html"]
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'") and "frame-ancestors 'none'" in policy and "http" not in policy
        assert (headers["X-Content-Type-Options"], headers["Cache-Control"]) == ("nosniff", "no-store")
    status, headers, body = ask("/", "HEAD")
    assert (status, body, int(headers["Content-Length"])) == (200, b"", len(pages["index.html"].encode()))


@pytest.mark.parametrize(
    "path",
    [
        "/runs/",
        "/clusters",
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/index.html/",
        "/.relevo-dashboard.json",
        "/%00",
    ],
)
def test_what_is_no_page_is_not_there(ask: Ask, path: str) -> None:
    status, headers, body = ask(path)
    assert status == 404 and b"no such page" in body
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT"])
def test_nothing_but_reading_is_answered(ask: Ask, method: str) -> None:
    status, headers, _ = ask("/", method)
    assert status == 501
    assert "Content-Security-Policy" in headers


@pytest.mark.parametrize(
    "host", ["evil.example.org", "evil.example.org:PORT", "127.0.0.1:1", "localhost.evil.example.org", "", "127.0.0.2:PORT"]
)
def test_another_name_that_leads_here_gets_nothing(ask: Ask, host: str) -> None:
    status, _, body = ask("/", host=host)
    assert (status, body) == (421, b"This dashboard answers to localhost only.\n")


@pytest.mark.parametrize("host", ["localhost:PORT", "LOCALHOST:PORT", "127.0.0.1:PORT", "localhost"])
def test_this_machines_own_names_are_answered(ask: Ask, host: str) -> None:
    assert ask("/", host=host)[0] == 200


def test_a_store_that_is_away_is_said_and_the_server_goes_on(board: Board) -> None:
    looks: list[str] = []

    def look() -> Board:
        looks.append("")
        if len(looks) == 1:
            message = "The store cannot be used: it is away."
            raise StoreError(message)
        return board

    with served(dashboard_server.Fresh(look)) as asking:
        assert asking("/")[::2] == (503, b"The store cannot be used: it is away.\n")
        assert asking("/")[0] == 200


def test_a_taken_port_is_said(board: Board) -> None:
    fresh = dashboard_server.Fresh(lambda: board)
    with (
        dashboard_server.bind(fresh, 0) as server,
        pytest.raises(UsageError, match=r"Port \d+ of 127.0.0.1 cannot be used: .*--port"),
    ):
        dashboard_server.bind(fresh, server.server_port)


def test_it_looks_again_on_each_page_unless_looking_takes_long(board: Board) -> None:
    now, cost = [0.0], [0.0]
    looks: list[float] = []

    def look() -> Board:
        looks.append(now[0])
        now[0] += cost[0]
        return board

    fresh = dashboard_server.Fresh(look, lambda: now[0])

    def at(moment: float) -> Any:
        now[0] = moment
        return fresh.read("data.json")

    for moment in (0.0, 0.5, 2.0, 4.0):
        at(moment)
    assert looks == [0.0, 2.0, 4.0]
    cost[0] = 3.0
    for moment in (10.0, 14.0, 42.0, 44.0):
        at(moment)
    assert looks == [0.0, 2.0, 4.0, 10.0, 44.0]


def test_so_many_runs_have_a_page_unless_asked_otherwise() -> None:
    assert RUNS == 25
