"""The site of the documentation, built as `make docs` builds it and read from a disk with the network shut: on a phone and a desk, light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Request, Route, expect

from docs.site import build
from tests import chromium
from tests.house.tree import ROOT

pytestmark = pytest.mark.full

KINDS = (
    "docs/README.html",
    "docs/tutorial.html",
    "docs/runbooks/failover.html",
    "docs/gates.html",
    "docs/reference/variables.html",
    "roles/dr_guard/README.html",
)
BEGIN = "docs/README.html"
PHONE, DESK = 360, 1400


@pytest.fixture(scope="module")
def site() -> Path:
    """Built once; any warning has ended it."""
    assert build.main() == 0
    return ROOT / "build/site"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium.started() as found:
        yield found


class Reader:
    """A page, with all that it complained of and all that it wanted from elsewhere."""

    def __init__(self, browser: Browser, width: int = DESK, scheme: Any = "light") -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.page: Page = self.context.new_page()
        self.complaints: list[str] = []
        self.wanted: list[str] = []
        self.context.route("**/*", self._let)
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _let(self, route: Route, request: Request) -> None:
        if urlsplit(request.url).scheme in {"file", "data", "blob"}:
            route.continue_()
        else:
            self.wanted.append(request.url)
            route.abort()

    def opens(self, path: Path) -> None:
        self.page.goto(path.as_uri())


def pages(site: Path) -> list[Path]:
    return sorted(site.rglob("*.html"))


def test_every_page_wants_nothing_from_elsewhere(site: Path, browser: Browser) -> None:
    reader = Reader(browser)
    for path in pages(site):
        reader.opens(path)
    reader.context.close()
    assert reader.wanted == []
    assert reader.complaints == []
    assert len(pages(site)) > 90


def test_nothing_of_the_site_names_a_font_a_script_or_an_image_elsewhere(site: Path) -> None:
    """Also what only some day would be loaded: by another screen, or when somebody clicks."""
    loading = (
        'src="http',
        "src='http",
        "url(http",
        "url('http",
        'url("http',
        "@import",
        'rel="stylesheet" href="http',
        'rel="preconnect"',
    )
    found = {
        f"{path.relative_to(site)}: {words}"
        for path in site.rglob("*")
        if path.suffix in {".html", ".css"}
        for words in loading
        if words in path.read_text(encoding="utf-8")
    }
    assert found == set()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_a_page_fits_and_is_readable(site: Path, browser: Browser, width: int, scheme: str) -> None:
    reader, axe = Reader(browser, width, scheme), Axe()
    for kind in KINDS:
        reader.opens(site / kind)
        reaches = reader.page.evaluate("document.documentElement.scrollWidth")
        assert reaches <= width, f"{kind} is {reaches} wide"
        dark = reader.page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0] < 128")
        assert dark is (scheme == "dark"), kind
        found = axe.run(
            reader.page, options={"runOnly": ["color-contrast", "image-alt", "link-name", "document-title", "html-has-lang"]}
        )
        assert found.violations_count == 0, f"{kind}: {found.generate_report()}"
    reader.context.close()


def test_it_opens_with_the_tutorial_in_reach(site: Path, browser: Browser) -> None:
    reader = Reader(browser, PHONE)
    reader.opens(site / "index.html")
    reader.page.wait_for_url("**/docs/README.html")
    reader.page.get_by_role("link", name="tutorial", exact=True).first.click()
    expect(reader.page.get_by_role("heading", level=1)).to_contain_text("Tutorial")
    reader.context.close()


def test_the_search_finds_a_gate_without_a_server(site: Path, browser: Browser) -> None:
    reader = Reader(browser)
    reader.opens(site / "search.html")
    reader.page.goto(f"{(site / 'search.html').as_uri()}?q=G26")
    expect(reader.page.locator("#search-results a", has_text="Gates").first).to_be_visible(timeout=30_000)
    assert reader.wanted == []
    reader.context.close()


def test_a_wrong_link_and_a_page_without_a_place_end_the_build(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    place = build.gather(tmp_path / "pages")
    assert build.built(place, tmp_path / "site", tmp_path / "trees") == 0
    for name, text, complaint in (
        ("docs/policy.md", "\n[gone](nowhere.md)\n", "nowhere.md"),
        ("docs/policy.md", "\n[gone](gates.md#no-such-heading)\n", "no-such-heading"),
        ("docs/forgotten.md", "# Forgotten\n", "isn't included in any toctree"),
    ):
        path = place / name
        before = path.read_text() if path.exists() else None
        path.write_text((before or "") + text)
        capfd.readouterr()
        assert build.built(place, tmp_path / "site", tmp_path / "trees") != 0
        assert complaint in capfd.readouterr().err
        if before is None:
            path.unlink()
        else:
            path.write_text(before)
