# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an application says of itself over HTTP. Never the last word: a page can be fine that no database stands behind."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils.app_provider import ApplicationError, Deadline


def health(url: str, timeout_seconds: float = 2.0) -> dict[str, Any]:
    """{ok, status, body, error}; an empty URL is fine and says nothing."""
    if not url:
        return {"ok": True, "status": None, "body": {}, "error": None}
    try:
        with urllib.request.urlopen(url, timeout=timeout_seconds) as answer:
            body = json.loads(answer.read() or b"{}")
            return {
                "ok": answer.status == 200,
                "status": answer.status,
                "body": body if isinstance(body, dict) else {},
                "error": None,
            }
    except urllib.error.HTTPError as error:
        return {"ok": False, "status": error.code, "body": {}, "error": "HTTP %d" % error.code}
    except (OSError, ValueError) as error:
        return {"ok": False, "status": None, "body": {}, "error": str(error)}


def wait_until_healthy(url: str, who: str, system_identifier: str, deadline: Deadline) -> dict[str, Any]:
    """Until it answers through a writable database; of this cluster, where it says which and one is expected. Raises ApplicationError."""
    answer: dict[str, Any] = {}

    def healthy() -> bool:
        answer.update(health(url))
        return bool(answer["ok"] and not answer["body"].get("in_recovery"))

    deadline.wait(healthy, lambda: "%s is not healthy after %g s: %s" % (who, deadline.seconds, answer["error"] or "in recovery"))
    seen = answer["body"].get("system_identifier")
    if system_identifier and seen is not None and str(seen) != system_identifier:
        raise ApplicationError("the application answers from system %s, expected %s" % (seen, system_identifier))
    return answer
