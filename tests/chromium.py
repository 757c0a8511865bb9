"""A real browser, as `bin/bootstrap browser` installs it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@contextmanager
def started() -> Iterator[Browser]:
    """Without a window, and without anything of its own to ask for."""
    path = next(filter(None, map(shutil.which, _NAMES)), None)
    assert path, (
        f"None of {', '.join(_NAMES)} is here; expected a browser. Next: bin/bootstrap browser, or apt-get install chromium."
    )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_FLAGS)
        yield browser
        browser.close()
