# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an application says of itself over HTTP. Never the last word: a page can be fine that no database stands behind."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils import http_answer
from ansible_collections.relevo.dr.plugins.module_utils.app_provider import ApplicationError, Deadline


def health(url: str, timeout_seconds: float = 2.0) -> dict[str, Any]:
    """{ok, status, body, error}; an empty URL is fine and says nothing. body: what a JSON object says, empty for any other page. ok: a whole 200."""
    if not url:
        return {"ok": True, "status": None, "body": {}, "error": None}
    try:
        with urllib.request.urlopen(url, timeout=timeout_seconds) as answer:
            body, ok = http_answer.said(http_answer.body(answer)), answer.status == 200
            return {"ok": ok, "status": answer.status, "body": body, "error": None if ok else "HTTP %d" % answer.status}
    except urllib.error.HTTPError as error:
        error.close()
        return {"ok": False, "status": error.code, "body": {}, "error": "HTTP %d" % error.code}
    except http_answer.FAULTS as error:
        return {"ok": False, "status": None, "body": {}, "error": http_answer.why(error)}


def wait_until_healthy(url: str, who: str, system_identifier: str, deadline: Deadline) -> dict[str, Any]:
    """Until it answers through a writable database; of this cluster, where it says which and one is expected. Raises ApplicationError.

    note: what a sentence about the cutover must add, where the page names no system and so was not compared.
    """
    answer: dict[str, Any] = {}

    def healthy() -> bool:
        answer.update(health(url))
        return bool(answer["ok"] and not answer["body"].get("in_recovery"))

    deadline.wait(healthy, lambda: "%s is not healthy after %g s: %s" % (who, deadline.seconds, answer["error"] or "in recovery"))
    seen = answer["body"].get("system_identifier")
    if system_identifier and seen is not None and str(seen) != system_identifier:
        raise ApplicationError("the application answers from system %s, expected %s" % (seen, system_identifier))
    answer["note"] = "; its health page names no system" if url and system_identifier and seen is None else ""
    return answer
