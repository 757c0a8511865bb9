# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ways to put a database host out of action, tried in the order that the inventory gives.

A provider is a function of this module's ``PROVIDERS``: it returns a proof ``{host, class, at, probes, ...}`` or raises :class:`NotFenced`.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils import clock
from ansible_collections.relevo.dr.plugins.module_utils.milestone import Milestone


class NotFenced(Exception):
    """This provider has no proof; the message is a sentence."""


class LockLost(Exception):
    """This run may no longer act: no further provider is tried. The message is a sentence."""


@dataclass(frozen=True)
class Fencing:
    """One host to fence.

    settings: the provider's part of the inventory. server_fence: runs the module on the host. lease_left_seconds: how long this run may surely
    act, by this controller's clocks.
    """

    run_id: str
    host: str
    settings: Mapping[str, Any]
    server_fence: Callable[[], dict[str, Any]]
    reachable: bool
    attested_by: str
    lease_left_seconds: Callable[[], float]


def service(fencing: Fencing) -> dict[str, Any]:
    """Stop and mask on the host itself; class ``stopped``."""
    if not fencing.reachable:
        raise NotFenced("the host does not answer")
    answer = fencing.server_fence()
    if answer.get("lock_lost"):
        raise LockLost(str(answer.get("msg")))
    if answer.get("failed") or answer.get("unreachable"):
        raise NotFenced(str(answer.get("msg") or "the host stopped answering"))
    return {**answer["proof"], "changed": answer.get("changed", False), "phase": answer["phase"]}


def command(fencing: Fencing) -> dict[str, Any]:
    """Power off by a command on the controller, proven by another that prints ``off``; class ``powered_off``."""
    phase = Milestone("FENCE", fencing.host)
    off, status = fencing.settings.get("command_off") or [], fencing.settings.get("command_status") or []
    if not off or not status:
        raise NotFenced("no power command is configured")
    was = power(status, fencing.settings)
    if was != "off":
        # A silent host cannot be asked for its lock. Within the lease nobody else may have taken it.
        left = fencing.lease_left_seconds()
        if left <= 0:
            raise LockLost("the lease of this run ended %.0f s ago, so %s is not switched off" % (-left, fencing.host))
        _run(off, fencing.settings)
    seen = power(status, fencing.settings)
    if seen != "off":
        raise NotFenced("power is %r after the command to switch it off" % seen)
    probe = {
        "vantage": "controller",
        "host": fencing.host,
        "address": " ".join([os.path.basename(status[0]), *status[1:]]),
        "method": "power",
        "at": clock.utc_now(),
        "result": "off",
    }
    return {
        "host": fencing.host,
        "class": "powered_off",
        "at": clock.utc_now(),
        "probes": [probe],
        "changed": was != "off",
        "phase": phase.ended(detail="power is off"),
    }


def lease(fencing: Fencing) -> dict[str, Any]:
    """The armed self-fence of a silent host, whose time has passed by what every one who could renew it observed; class ``lease_expired``."""
    phase = Milestone("FENCE", fencing.host)
    judged = fencing.settings.get("lease") or {}
    if not judged.get("expired"):
        raise NotFenced(str(judged.get("said") or "the host answers, or its lease was not judged"))
    if not judged.get("accepted"):
        raise NotFenced("its lease has ended (%s), which nobody accepted by name" % judged["said"])
    probe = {
        "vantage": "witness",
        "host": fencing.host,
        "address": fencing.host,
        "method": "lease",
        "at": clock.utc_now(),
        "result": str(judged["said"]),
    }
    return {
        "host": fencing.host,
        "class": "lease_expired",
        "at": clock.utc_now(),
        "probes": [probe],
        "changed": False,
        "phase": phase.ended(detail="its lease has ended"),
    }


def attest(fencing: Fencing) -> dict[str, Any]:
    """A person's word, given at the start of the run; class ``attested``, which never passes without being accepted by name."""
    phase = Milestone("FENCE", fencing.host)
    if not fencing.attested_by:
        raise NotFenced("nobody attested that the host is dead")
    probe = {
        "vantage": fencing.attested_by,
        "host": fencing.host,
        "address": fencing.host,
        "method": "word",
        "at": clock.utc_now(),
        "result": "dead",
    }
    return {
        "host": fencing.host,
        "class": "attested",
        "at": clock.utc_now(),
        "probes": [probe],
        "changed": False,
        "phase": phase.ended(detail="attested"),
    }


PROVIDERS: dict[str, Callable[[Fencing], dict[str, Any]]] = {"service": service, "command": command, "lease": lease}


def fence(fencing: Fencing) -> dict[str, Any]:
    """The first proof that a provider gives. Raises NotFenced with what each of them said."""
    said = []
    for name in [*fencing.settings.get("providers", ["service"]), "attest"]:
        try:
            return {**PROVIDERS.get(name, attest)(fencing), "provider": name}
        except NotFenced as error:
            said.append("%s: %s" % (name, error))
    raise NotFenced("; ".join(said))


def power(argv: list[str], settings: Mapping[str, Any]) -> str:
    """What the status command prints: on, off, or something that proves nothing. Raises NotFenced."""
    return _run(argv, settings).strip()


def _run(argv: list[str], settings: Mapping[str, Any]) -> str:
    seconds = float(settings.get("command_timeout_seconds") or 20)
    try:
        done = subprocess.run(
            [str(word) for word in argv], capture_output=True, text=True, check=False, timeout=seconds, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotFenced("%s: %s" % (argv[0], error)) from None
    if done.returncode != 0:
        raise NotFenced("%s ended with %d: %s" % (argv[0], done.returncode, done.stderr.strip()[:200]))
    return done.stdout
