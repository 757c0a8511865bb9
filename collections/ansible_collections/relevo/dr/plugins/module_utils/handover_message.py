# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The hand-over of a planned change of site: the old primary's last word in the WAL, and how the standby knows that it has it.

A shutdown checkpoint alone proves nothing, for any reboot leaves one: the message names the run, and only a shutdown after it counts.
"""

from __future__ import annotations

import re
import secrets
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils import clock, waldump
from ansible_collections.relevo.dr.plugins.module_utils.postgresql import Psql, lsn_bytes

PREFIX = "relevo"
_RECORD = re.compile(r"^rmgr: (\S+) .* lsn: ([0-9A-F]+/[0-9A-F]+), .* desc: (.*)$")
_MESSAGE = re.compile(r'MESSAGE transactional, prefix "%s"; payload \(\d+ bytes\): ([0-9A-F ]+)' % PREFIX)


class HandoverError(Exception):
    """The hand-over is not proven; the message is a sentence."""


def content(run_id: str, nonce: str) -> str:
    """What the message says."""
    return "handover %s %s" % (run_id, nonce)


def write(session: Psql, run_id: str) -> dict[str, Any]:
    """Write this run's message and wait until it is on disk. Returns {run_id, nonce, from_lsn, message_lsn, at}; the message begins behind from_lsn."""
    nonce = secrets.token_hex(16)
    before = session.execute("select pg_current_wal_insert_lsn()")
    text = content(run_id, nonce).replace("'", "''")
    end = session.execute("select pg_logical_emit_message(true, '%s', '%s')" % (PREFIX, text))
    return {"run_id": run_id, "nonce": nonce, "from_lsn": before, "message_lsn": end, "at": clock.utc_now()}


def last_written(entries: Sequence[Mapping[str, Any]], run_id: str) -> Optional[dict[str, Any]]:
    """The newest message in a host's journal of this run, or of the dead ones for which it goes on; what was opened again since is over."""
    found: Optional[dict[str, Any]] = None
    runs = chain(entries, run_id)
    for entry in entries:
        # A standby may have been the primary of a change of site long ago.
        if entry.get("phase") == "HANDOVER" and entry.get("kind") == "result" and entry["handover"].get("run_id") in runs:
            found = entry["handover"]
        elif entry.get("phase") == "REOPEN":
            found = None
    return found


def chain(entries: Iterable[Mapping[str, Any]], run_id: str) -> list[str]:
    """This run and the dead ones for which it goes on, from the journal of the host that decides about the lock."""
    taken = {str(entry["run_id"]): str(entry["taken_over"]) for entry in entries if entry.get("taken_over")}
    runs = [run_id]
    while runs[-1] in taken and taken[runs[-1]] not in runs:
        runs.append(taken[runs[-1]])
    return runs


def judge(printed: str, handover: Mapping[str, Any]) -> None:
    """printed: WAL from the message on, by pg_waldump. Raises HandoverError unless it holds the message and then, as the first one, the shutdown."""
    wanted = content(str(handover["run_id"]), str(handover["nonce"])).encode()
    heard = False
    for line in printed.splitlines():
        record = _RECORD.match(line)
        if record is None:
            continue
        message = _MESSAGE.match(record.group(3)) if record.group(1) == "LogicalMessage" else None
        heard = heard or (message is not None and bytes.fromhex(message.group(1)) == wanted)
        if record.group(1) == "XLOG" and record.group(3).startswith("CHECKPOINT_SHUTDOWN"):
            if not heard:
                raise HandoverError("a shutdown comes before the message of run %s" % handover["run_id"])
            if lsn_bytes(record.group(2)) != lsn_bytes(str(handover["shutdown_lsn"])):
                raise HandoverError(
                    "the shutdown after the message is at %s and not at %s: the old primary was started in between"
                    % (record.group(2), handover["shutdown_lsn"])
                )
            return
    said = "no shutdown after the message" if heard else "not the message"
    raise HandoverError("the WAL behind %s holds %s of run %s" % (handover["from_lsn"], said, handover["run_id"]))


def read_wal(bin_directory: str, data_directory: str, timeline: int, handover: Mapping[str, Any], owner: str = "postgres") -> str:
    """What pg_waldump prints of a server's own WAL from the message on. Raises HandoverError."""
    server = {"bin_directory": bin_directory, "data_directory": data_directory, "owner": owner}
    try:
        done = waldump.behind(server, timeline, handover["from_lsn"], 20)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HandoverError("pg_waldump: %s" % error) from None
    printed: str = done.stdout
    if not printed:
        raise HandoverError("pg_waldump reads nothing behind %s: %s" % (handover["from_lsn"], done.stderr.strip()[:300]))
    return printed
