# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether a systemd timer will really run its service, from what systemd says of both. Pure."""

from __future__ import annotations

from collections.abc import Mapping

_NEVER = ("", "n/a", "infinity", "0")
# A service that could not be started has one of these; a program that ended with a code of its own has exit-code.
_NOT_STARTED = ("exec-condition", "resources", "timeout", "watchdog", "start-limit-hit", "oom-kill")
_EXEC_FAILED = range(200, 244)


def judge(timer: Mapping[str, str], service: Mapping[str, str], succeeds: bool, installed: bool = True) -> tuple[str, str]:
    """(verdict, what was observed). installed: whether it must be; one whose file is there must run in any case."""
    if not timer or not service:
        return "unknown", "systemd does not answer"
    if not installed and timer.get("LoadState") == "not-found":
        return "not_applicable", "it is not installed"
    next_times = (timer.get("NextElapseUSecRealtime", ""), timer.get("NextElapseUSecMonotonic", ""))
    # A timer that counts from the end of its service has no next time while that is at work.
    runs_now = service.get("ActiveState") in ("activating", "active", "deactivating")
    wrong = (
        ({timer.get("LoadState"), service.get("LoadState")} != {"loaded"}, "it is not installed"),
        (timer.get("NeedDaemonReload") == "yes", "its file changed and systemd has not read it"),
        (timer.get("ActiveState") != "active", "it is %s" % timer.get("ActiveState", "unknown")),
        (
            timer.get("UnitFileState") != "enabled",
            "it is %s: a boot does not bring it back" % timer.get("UnitFileState", "unknown"),
        ),
        (not runs_now and all(time in _NEVER for time in next_times), "it has no next time"),
    )
    said = [sentence for holds, sentence in wrong if holds]
    return ("fail", said[0]) if said else _service(service, succeeds)


def _service(service: Mapping[str, str], succeeds: bool) -> tuple[str, str]:
    result, ended = service.get("Result", ""), service.get("ExecMainExitTimestamp", "")
    if result not in ("success", "") and (
        succeeds or result in _NOT_STARTED or int(service.get("ExecMainStatus") or 0) in _EXEC_FAILED
    ):
        return "fail", "it waits for its next time, but its service ended as %s (%s)" % (result, service.get("ExecMainStatus", "?"))
    return "pass", "it waits for its next time; its service last ended: %s" % (ended or "never")
