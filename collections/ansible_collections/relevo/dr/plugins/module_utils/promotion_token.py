# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The token without which nothing is promoted: what the controller signs, and how the promoting host believes it."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils.ssh_signature import verifies

NAMESPACE = "relevo-token"
PRINCIPAL = "relevo-controller"
FENCING_CLASSES = ("stopped", "powered_off", "isolated")
CLASSES_ACCEPTED_BY_NAME = ("lease_expired", "attested")


class TokenError(Exception):
    """The token does not prove that it is safe to promote; the message is a sentence."""


@dataclass(frozen=True)
class Token:
    """nonce: the promoting host's challenge. hosts: [{host, address, port, class, probes}] for every other database host.

    handover: of a planned run, the old primary's message and its shutdown, {run_id, nonce, from_lsn, message_lsn, shutdown_lsn, timeline}.
    """

    run_id: str
    nonce: str
    system_identifier: str
    promote_host: str
    hosts: tuple[dict[str, Any], ...]
    accepted_classes: tuple[str, ...]
    handover: Optional[dict[str, Any]] = None


def canonical(token: Token) -> str:
    """The bytes that are signed, as text."""
    return json.dumps(asdict(token), sort_keys=True, separators=(",", ":"))


def parse(text: str) -> Token:
    """The inverse of :func:`canonical`. Raises TokenError."""
    try:
        value = json.loads(text)
        value["hosts"] = tuple(value["hosts"])
        value["accepted_classes"] = tuple(value["accepted_classes"])
        return Token(**value)
    except (ValueError, KeyError, TypeError):
        raise TokenError("the token cannot be read") from None


def sign(text: str, key_path: str) -> str:
    """An OpenSSH signature over text. Raises TokenError."""
    done = subprocess.run(
        ["ssh-keygen", "-Y", "sign", "-q", "-n", NAMESPACE, "-f", key_path],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        timeout=10,
    )
    if done.returncode != 0:
        raise TokenError("the controller's key %s cannot sign: %s" % (key_path, done.stderr.strip()))
    return done.stdout


def verify_signature(text: str, signature: str, allowed_signers: str) -> None:
    """Raises TokenError unless a controller that this host knows signed text."""
    handle, path = tempfile.mkstemp(prefix="relevo-token-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as target:
            target.write(signature)
        holds = verifies(text, path, allowed_signers, PRINCIPAL, NAMESPACE)
    finally:
        os.unlink(path)
    if not holds:
        raise TokenError("the token's signature is not of a controller in %s" % allowed_signers)


def check(
    token: Token,
    run_id: str,
    host: str,
    system_identifier: str,
    challenge: dict[str, Any],
    age_seconds: float,
    limit_seconds: float,
) -> None:
    """Raises TokenError unless the token answers this host's own fresh challenge and every fence in it is one that may be believed.

    challenge: {nonce, run_id, old_hosts, handover_of (in a planned run: whose hand-over it may be)}, as this host wrote it;
    age_seconds: by this host's own CLOCK_BOOTTIME.
    """
    if token.run_id != run_id or challenge.get("run_id") != run_id:
        raise TokenError("the token is of run %s, this is run %s" % (token.run_id, run_id))
    if not token.nonce or token.nonce != challenge.get("nonce"):
        raise TokenError("the token does not answer this host's last challenge")
    if not 0 <= age_seconds <= limit_seconds:
        raise TokenError("the challenge is %.0f s old, at most %.0f s are allowed" % (age_seconds, limit_seconds))
    if token.promote_host != host:
        raise TokenError("the token is for %s, this is %s" % (token.promote_host, host))
    if token.system_identifier != system_identifier:
        raise TokenError("the token is for system %s, this is system %s" % (token.system_identifier, system_identifier))
    missing = set(challenge.get("old_hosts") or ()) - {str(fenced.get("host")) for fenced in token.hosts}
    if missing or not token.hosts:
        raise TokenError("the token proves no fence of %s" % (", ".join(sorted(missing)) or "any host"))
    if challenge.get("handover_of"):
        _check_handover(token, challenge["handover_of"])
    for fenced in token.hosts:
        believed = fenced.get("class") in FENCING_CLASSES
        by_name = fenced.get("class") in CLASSES_ACCEPTED_BY_NAME and fenced.get("class") in token.accepted_classes
        if not (believed or by_name):
            raise TokenError("the fence of %s is %r" % (fenced.get("host"), fenced.get("class")))


def _check_handover(token: Token, runs: list[str]) -> None:
    """In a planned run the old primary speaks for itself, and every other host is stopped."""
    if token.handover is None or token.handover.get("run_id") not in runs:
        raise TokenError("the token carries no hand-over of %s" % " or ".join(runs))
    if any(fenced.get("class") != "stopped" for fenced in token.hosts):
        raise TokenError("in a planned change every other host is stopped, and nothing less")
