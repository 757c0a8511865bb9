"""The dashboard in a real browser, served by the real command: on every screen, in the light and in the dark, with and without script, from a disk too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect

from relevo import wording
from relevo.dashboard import page_of_cluster
from relevo.paths import find_place
from relevo.store import Store
from tests import chromium
from tests.unit.runner import fleet

ROOT = Path(__file__).parents[2]
RELEVO = Path(sys.executable).with_name("relevo")
WIDTHS = (320, 768, 1600)
SHOP, HOSTILE, PAYROLL = (page_of_cluster(name) for name in ("minimarket", fleet.HOSTILE, "payroll"))


@dataclass(frozen=True)
class Site:
    """The command that serves, and what it wrote into a directory."""

    url: str
    directory: Path
    data: dict[str, Any]
    run: str

    @property
    def kinds(self) -> list[str]:
        return ["index.html", "calendar.html", SHOP, HOSTILE, PAYROLL, self.run]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    top = tmp_path_factory.mktemp("browser")
    (top / "policy.yml").write_text(fleet.POLICY)
    unset = {"RELEVO_INVENTORY", "RELEVO_PROJECT", "XDG_STATE_HOME"}
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment |= {"RELEVO_STORE": str(top / "state"), "RELEVO_POLICY": str(top / "policy.yml")}
    fleet.fill(Store(find_place(environment)), datetime.now(UTC))
    out = top / "a site" / "out"
    subprocess.run([RELEVO, "dashboard", "--out", out], cwd=ROOT, env=environment, check=True, capture_output=True, timeout=300)
    serving = subprocess.Popen(
        [RELEVO, "dashboard", "--serve", "--port", "0", "--json"], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    assert serving.stdout is not None
    try:
        url = json.loads("".join(serving.stdout.readline() for _ in range(3)))["url"]
        data = json.loads((out / "data.json").read_text())
        shop = next(cluster for cluster in data["clusters"] if cluster["cluster"] == "minimarket")
        yield Site(url, out, data, shop["runs"][0]["page"])
    finally:
        serving.terminate()
        serving.wait(30)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium.started() as found:
        yield found


@dataclass
class Watched:
    """A page, with all that it complained of and all that it asked for."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


def watch(context: BrowserContext) -> Watched:
    found = Watched(context.new_page())
    found.page.on("console", lambda message: found.complaints.append(message.text))
    found.page.on("pageerror", lambda error: found.complaints.append(str(error)))
    found.page.on("requestfailed", lambda request: found.complaints.append(f"{request.url}: {request.failure}"))
    found.page.on("request", lambda request: found.asked.append(request.url))
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_every_kind_of_page_fits_is_readable_and_asks_for_nothing_else(
    site: Site, browser: Browser, width: int, scheme: Any
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    seen, axe = watch(context), Axe()
    for kind in site.kinds:
        seen.page.goto(site.url + kind)
        reaches = seen.page.evaluate("document.documentElement.scrollWidth")
        assert reaches <= width, f"{kind} is {reaches} wide"
        dark = seen.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"
        assert dark is (scheme == "dark"), kind
        # Each rule at both ends; between them only the layout is another.
        if width != WIDTHS[1]:
            found = axe.run(seen.page)
            assert found.violations_count == 0, f"{kind}: {found.generate_report()}"
    assert seen.complaints == []
    assert all(url.startswith((site.url, "data:")) for url in seen.asked), seen.asked
    context.close()


def test_every_link_leads_to_a_page_with_a_heading(site: Site, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=True)
    seen = watch(context)
    done: set[str] = set()
    waiting = [site.url]
    while waiting:
        url = waiting.pop().partition("#")[0]
        if url in done:
            continue
        done.add(url)
        if not url.endswith((".html", "/")):
            assert context.request.get(url).status == 200, url
            continue
        answer = seen.page.goto(url)
        assert answer is not None and answer.status == 200, url
        assert seen.page.locator("h1").count() == 1, url
        waiting += [
            urljoin(url, link) for link in seen.page.eval_on_selector_all("a", "all => all.map(one => one.getAttribute('href'))")
        ]
    assert all(url.startswith(site.url) for url in done)
    served = {unquote(urlsplit(url).path).removeprefix("/") or "index.html" for url in done}
    written = {
        str(path.relative_to(site.directory)) for path in site.directory.rglob("*") if path.is_file() and path.name[0] != "."
    }
    assert served == written
    assert seen.complaints == []
    context.close()


def test_the_numbers_on_the_pages_are_those_of_the_data(site: Site, browser: Browser) -> None:
    page = browser.new_page()
    page.goto(site.url)
    for cluster in site.data["clusters"]:
        row = (
            page.get_by_role("row").filter(has=page.get_by_role("link", name=wording.visible(cluster["cluster"]), exact=True)).first
        )
        cells = [" ".join(cell.split()) for cell in row.get_by_role("cell").all_inner_texts()]
        assert cells[0].lower().startswith((cluster["state"] or "no test").lower())
        assert cells[1].startswith(f"{cluster['tests_current']} of {len(cluster['tests'])}")
        for cell, measure in ((cells[2], cluster["rto"]), (cells[3], cluster["rpo"])):
            newest = measure["newest"]
            assert cell.startswith(wording.seconds(newest["seconds"]) if newest else "not measured")
            assert f"objective {wording.seconds(measure['target_seconds'])}" in cell
        assert cells[4].split()[0] == str(cluster["findings_open"])
        assert cells[5].startswith(cluster["next"]["due_at"][:10] if cluster["next"] else "none to come")
    shop = next(cluster for cluster in site.data["clusters"] if cluster["cluster"] == "minimarket")
    page.goto(site.url + SHOP)
    told = " ".join(page.locator("main").inner_text().split())
    assert f"The newest {len(shop['runs'])} of {shop['runs_total']} runs" in told or f"{shop['runs_total']} runs." in told
    assert page.get_by_role("region", name="Runs").get_by_role("row").count() == len(shop["runs"]) + 1
    for test in shop["tests"]:
        row = page.get_by_role("region", name="Tests").get_by_role("row").filter(has_text=test["title"])
        expect(row).to_contain_text(wording.moment(test["last_passed"]["at"]) if test["last_passed"] else "never")
        expect(row).to_contain_text(test["due_at"][:10] if test["due_at"] else "now")
        expect(row.locator(".badge")).to_have_text(test["state"])
    for point in shop["rto"]["points"]:
        assert page.locator("figure").first.locator(".wide title", has_text=wording.moment(point["at"])).count() == 1
    page.close()


def test_a_run_leads_back_to_where_one_came_from(site: Site, browser: Browser) -> None:
    page = browser.new_page()
    page.goto(site.url)
    page.get_by_role("link", name="minimarket", exact=True).click()
    page.get_by_role("region", name="Runs").get_by_role("link").first.click()
    assert page.url == site.url + site.run
    expect(page.get_by_role("img", name="Phases of the run over time")).to_be_visible()
    page.get_by_role("navigation").get_by_role("link", name="minimarket").click()
    assert page.url == site.url + SHOP
    page.get_by_role("link", name="Calendar").click()
    page.get_by_role("link", name="Fleet").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Fleet")
    page.close()


def test_without_script_all_can_be_read_and_nothing_that_needs_it_is_shown(site: Site, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(site.url + SHOP)
    expect(page.get_by_role("region", name="Runs").get_by_role("row").first).to_be_visible()
    expect(page.get_by_role("searchbox")).to_have_count(0)
    expect(page.get_by_role("button")).to_have_count(0)
    page.get_by_text("RTO as a table").click()
    expect(page.get_by_role("region", name="Recovery time as a table")).to_be_visible()
    context.close()


def test_tables_are_filtered_and_sorted_by_keyboard(site: Site, browser: Browser) -> None:
    page = browser.new_page()
    page.goto(site.url + SHOP)
    region = page.get_by_role("region", name="Runs")
    every = region.get_by_role("row").count()
    page.get_by_label("Only runs with").press_sequentially("rehearse")
    shown = region.get_by_role("row").count()
    assert 1 < shown < every
    expect(page.locator("#runs-filter").get_by_role("status")).to_have_text(f"{shown - 1} of {every - 1} shown")
    page.get_by_label("Only runs with").fill("")
    button = region.get_by_role("button", name="Took")
    button.focus()
    for order, lower in (("ascending", True), ("descending", False)):
        page.keyboard.press("Enter")
        assert region.get_by_role("columnheader", name="Took").get_attribute("aria-sort") == order
        values = [
            float(value or 0)
            for value in region.locator("td[data-name=Took]").evaluate_all("all => all.map(one => one.dataset.value)")
        ]
        assert values == sorted(values, reverse=not lower)
    region.get_by_role("button", name="RTO").click()
    known = region.locator("td[data-name=RTO]").evaluate_all("all => all.map(one => one.dataset.value !== '')")
    assert known == sorted(known, reverse=True), "what was not measured stands last"
    page.close()


def test_whoever_uses_the_keyboard_sees_where_they_are(site: Site, browser: Browser) -> None:
    page = browser.new_page()
    page.goto(site.url)
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="To the content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    for _ in range(2):
        page.keyboard.press("Tab")
        style = page.evaluate(
            "(() => { const s = getComputedStyle(document.activeElement); return s.outlineStyle + ' ' + s.outlineWidth })()"
        )
        assert style == "solid 2px"
    page.close()


def test_it_works_from_a_disk(site: Site, browser: Browser) -> None:
    context = browser.new_context(color_scheme="dark")
    seen = watch(context)
    seen.page.goto((site.directory / "index.html").as_uri())
    assert seen.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"
    expect(seen.page.get_by_label("Only clusters with")).to_be_visible()
    for name in ("minimarket", wording.visible(fleet.HOSTILE)):
        seen.page.get_by_role("link", name=name, exact=True).click()
        expect(seen.page.get_by_role("heading", level=1)).to_have_text(name)
        seen.page.get_by_role("region", name="Runs").get_by_role("link").first.click()
        seen.page.get_by_role("navigation").get_by_role("link", name="Fleet").click()
    assert all(url.startswith(("file:", "data:")) for url in seen.asked)
    assert seen.complaints == []
    context.close()


def test_what_people_said_ran_nowhere(site: Site, browser: Browser) -> None:
    page = browser.new_page()
    page.on("dialog", lambda _: pytest.fail("a script of somebody ran"))
    for kind in site.kinds:
        page.goto(site.url + kind)
        assert page.title() != "taken"
    page.close()
