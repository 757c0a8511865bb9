"""A page on paper: PDF from the same HTML that a browser shows. The only module that knows WeasyPrint."""

from __future__ import annotations

import logging

from relevo.errors import RelevoError

_NEEDED = "apt-get install libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0 fonts-dejavu-core"


def print_page(page: str) -> bytes:
    """The page as a PDF. RelevoError where this machine lacks what draws text."""
    try:
        # Its libraries are loaded when it is imported, and it is slow to load: no other command waits for it.
        from weasyprint import HTML  # noqa: PLC0415
        from weasyprint.urls import URLFetcher  # noqa: PLC0415
    except (ImportError, OSError) as error:
        message = f"No PDF can be made here: {error}. Expected WeasyPrint and Pango. Next: {_NEEDED}; or take --format html."
        raise RelevoError(message) from error
    logging.getLogger("weasyprint").setLevel(logging.ERROR)
    # The page holds all that it needs; whatever a host put into it, nothing is fetched for it.
    return bytes(HTML(string=page, url_fetcher=URLFetcher(allowed_protocols=())).write_pdf())
