#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: restic_verify
short_description: Whether the snapshots of this host's files are young, of a likely size and whole, in every repository
description:
  - Judges for each repository and set the newest snapshot's age (C(FILESAGE)) and its size beside those before it (C(FILESSIZE)).
  - >-
    Checks the structure of each repository and reads a share of its packs (C(FILESDATA)): what is due, so that each pack is read again within
    I(within) when runs go on as before; all of them where this host never read it. When each share was last read and found whole is kept in
    C(/var/lib/relevo/files-verified.json); nothing else is written, in the repository neither.
  - A repository whose store does not answer is C(unknown) (C(FILESREPO)); one whose password, keys or certificate are wrong fails.
options:
  host_name: {description: Name of this host in sentences., type: str, required: true}
  read_all: {description: Read every pack now., type: bool, default: false}
  within: {description: Seconds in which every pack is read again., type: float, default: 604800}
  shares: {description: How many shares the packs are read in., type: int, default: 14}
  shrink_ratio: {description: The least size of a snapshot beside the median of those before it., type: float, default: 0.5}
  answer_seconds: {description: Seconds for one answer of a store., type: float, default: 5}
  timeout: {description: Seconds for one command that lists., type: float, default: 60}
  read_timeout: {description: Seconds for reading what is due of one repository., type: float, default: 14400}
attributes:
  check_mode: {support: full, description: Reads and judges the same; keeps nothing.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Verify this host's files
  relevo.dr.restic_verify:
    host_name: "{{ inventory_hostname }}"
"""

RETURN = r"""
gates: {description: The gates of all repositories., returned: always, type: list, elements: dict}
sentences: {description: A sentence for each gate that fails., returned: always, type: list, elements: str}
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils import file_record, file_snapshots, restic, store_answer
from ansible_collections.relevo.dr.plugins.module_utils.file_snapshots import FAIL, Size, Snapshot
from ansible_collections.relevo.dr.plugins.module_utils.host_files import write_atomically
from ansible_collections.relevo.dr.plugins.module_utils.milestone import told
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal

Gates = list[dict[str, Any]]
# A timer's run waits for a verification; a verification does not wait for a whole system's snapshot.
LOCK_SECONDS = 600


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "host_name": {"type": "str", "required": True},
            "read_all": {"type": "bool", "default": False},
            "within": {"type": "float", "default": 604800},
            "shares": {"type": "int", "default": 14},
            "shrink_ratio": {"type": "float", "default": 0.5},
            "answer_seconds": {"type": "float", "default": 5},
            "timeout": {"type": "float", "default": 60},
            "read_timeout": {"type": "float", "default": 14400},
        },
        supports_check_mode=True,
    )
    host = module.params["host_name"]
    try:
        settings = file_record.read_settings(host)
        with at_rest(host, settings):
            gates, measures = verify(module, settings)
    except Refusal as refusal:
        module.fail_json(msg=str(refusal), **told(gates=[{**refusal.gate, "phase": file_snapshots.PHASE}]))
    module.exit_json(changed=False, **told(gates=gates, measures={"files": {host: measures}}))


@contextmanager
def at_rest(host: str, settings: Mapping[str, Any]) -> Iterator[None]:
    """While no snapshot of this host is being taken or forgotten: what is read holds still, and restic needs no lock in the store."""
    limit = time.monotonic() + LOCK_SECONDS
    with open(settings["lock_file"], "w", encoding="ascii") as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > limit:
                    raise Refusal(
                        "FILESREPO",
                        host,
                        "a snapshot of this host has been at work for %d s" % LOCK_SECONDS,
                        "a host at rest",
                        "wait until relevo-files@*.service has ended, then run again",
                    ) from None
                time.sleep(0.5)
        yield


def verify(module: AnsibleModule, settings: Mapping[str, Any]) -> tuple[Gates, dict[str, Any]]:
    """All repositories, one after the other; a silent one is left behind quickly."""
    host, now = module.params["host_name"], time.time()
    memory = Memory(settings)
    gates: Gates = []
    measures: dict[str, Any] = {}
    for repository in settings["repositories"]:
        try:
            store_answer.ask(repository["endpoint"], repository["port"], repository.get("ca_file"), module.params["answer_seconds"])
            found, measured = judged(module, settings, repository, memory, now)
        except store_answer.StoreSilentError as error:
            gates.append(
                file_snapshots.unreadable(
                    host, repository["place"], str(error), "bring the store back; the other repositories hold the files"
                )
            )
            continue
        except store_answer.StoreUntrustedError as error:
            gates.append(
                file_snapshots.unreadable(host, repository["place"], str(error), "renew the certificate, or correct ca_file", FAIL)
            )
            continue
        except restic.ResticError as error:
            verdict = file_snapshots.UNKNOWN if error.kind in (restic.SILENT, restic.LOCKED) else FAIL
            gates.append(file_snapshots.unreadable(host, repository["place"], error.observed, error.next_action, verdict))
            continue
        gates += found
        measures[str(repository["id"])] = measured
    if not module.check_mode:
        memory.save()
    return gates, measures


def judged(
    module: AnsibleModule, settings: Mapping[str, Any], repository: Mapping[str, Any], memory: Memory, now: float
) -> tuple[Gates, dict[str, Any]]:
    """One repository that answers. Raises ResticError."""
    p, place, began = module.params, repository["place"], time.monotonic()
    command = file_record.client(settings, repository, p["timeout"])
    snapshots = file_snapshots.read(json.loads(command.run("snapshots", "--json", "--no-lock")) or [])
    gates: Gates = []
    ages: dict[str, Any] = {}
    for name, wanted in settings["sets"].items():
        mine = file_snapshots.of_set(snapshots, settings["host"], wanted["tag"])
        newest = file_snapshots.chosen(mine, None)
        since = None if newest else made_at(command)
        gates.append(file_snapshots.age_gate(p["host_name"], place, name, newest, now, wanted["max_age_seconds"], since))
        ages[name] = round(now - newest.at, 3) if newest else None
        if newest:
            sizes = sizes_of(command, mine[-1 - file_snapshots.COMPARED :], memory)
            gates.append(file_snapshots.size_gate(p["host_name"], place, name, sizes[-1], sizes[:-1], p["shrink_ratio"]))
    gate, share = content(module, settings, repository, memory, now)
    measured = {"age_seconds": ages, "snapshots": len(snapshots), "read": share, "seconds": round(time.monotonic() - began, 3)}
    return [*gates, gate], measured


def made_at(command: restic.Restic) -> Optional[float]:
    """When the repository was made, by its oldest key."""
    keys = json.loads(command.run("key", "list", "--json", "--no-lock")) or []
    try:
        # In local time without an offset, as restic prints it.
        return min(time.mktime(time.strptime(str(key["created"])[:19], "%Y-%m-%d %H:%M:%S")) for key in keys)
    except (KeyError, ValueError):
        return None


def sizes_of(command: restic.Restic, snapshots: list[Snapshot], memory: Memory) -> list[Size]:
    """Of each, in the same way for all: what restic noted when it took them, else by walking their trees, once for each snapshot."""
    if all(snapshot.files is not None and snapshot.size is not None for snapshot in snapshots):
        return [Size(int(snapshot.files or 0), int(snapshot.size or 0)) for snapshot in snapshots]
    found = []
    for snapshot in snapshots:
        if snapshot.id not in memory.sizes:
            about = json.loads(
                command.run("stats", "--json", "--no-lock", "--mode=restore-size", snapshot.id, timeout=command.timeout * 10)
            )
            memory.sizes[snapshot.id] = [int(about["total_file_count"]), int(about["total_size"])]
        found.append(Size(*memory.sizes[snapshot.id]))
    return found


def content(
    module: AnsibleModule, settings: Mapping[str, Any], repository: Mapping[str, Any], memory: Memory, now: float
) -> tuple[dict[str, Any], str]:
    """The gate FILESDATA, and what was read."""
    p, key = module.params, str(repository["id"])
    shares = max(1, min(p["shares"], file_snapshots.MOST_SHARES))
    read_at = memory.read_at(repository["url"], shares)
    cadence = min(max(0.0, now - memory.last_run_at), p["within"]) if memory.last_run_at else 86400.0
    due = list(range(1, shares + 1)) if p["read_all"] else file_snapshots.shares_due(read_at, shares, now, p["within"], cadence)
    # Without a cache: a damaged pack of the store must not hide behind a good copy of it on this host.
    command = file_record.client(settings, repository, p["read_timeout"], cached=False)
    whole = len(due) == shares
    said = "all packs" if whole else "share %s of %d" % (", ".join(map(str, due)), shares)
    output = ""
    for options in [["--read-data"]] if whole else [["--read-data-subset=%d/%d" % (share, shares)] for share in due]:
        json_output = ["--json"] if restic.version() >= restic.JSON_CHECK_SINCE else []
        code, stdout, stderr = command.attempt("check", "--no-lock", *json_output, *options)
        text = "%s\n%s" % (stdout, stderr)
        if code != 0 and restic.explained(text).kind == restic.SILENT:
            raise restic.explained(text)
        output += text if code != 0 else ""
    damaged = restic.damaged_packs(output)
    wrong = (restic.damages(output) or [restic.explained(output).observed]) if output else []
    # A share with damage is due until it is whole again; damage without a pack's name may be in any of them.
    sick = {file_snapshots.share_of(pack, shares) for pack in damaged} or (set(due) if output else set())
    memory.remember(repository["url"], shares, [share for share in due if share not in sick], sick, now)
    # The names of packs say it already.
    rest = [line for line in wrong if not any(pack in line for pack in damaged)]
    return file_snapshots.data_gate(
        p["host_name"], repository["place"], damaged, rest[:4], "%s of repository %s" % (said, key)
    ), said


class Memory:
    """What earlier verifications on this host read and counted; a saving, never a proof: without it everything is read again."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._path = os.path.join(settings["state_directory"], "files-verified.json")
        try:
            with open(self._path, encoding="utf-8") as source:
                kept = json.load(source)
            self.last_run_at, self.sizes, self._read = float(kept["last_run_at"]), dict(kept["sizes"]), dict(kept["read"])
        except (OSError, ValueError, KeyError, TypeError):
            self.last_run_at, self.sizes, self._read = 0.0, {}, {}

    def read_at(self, url: str, shares: int) -> dict[int, float]:
        """When each share was last read; nothing when the shares were cut otherwise."""
        kept = self._read.get(url) or {}
        return {int(share): float(at) for share, at in kept.get("at", {}).items()} if kept.get("shares") == shares else {}

    def remember(self, url: str, shares: int, whole: list[int], sick: set[int], now: float) -> None:
        """Which shares were read now and found whole, and which are to be read again at once."""
        at = {**self.read_at(url, shares), **dict.fromkeys(whole, now)}
        at = {share: moment for share, moment in at.items() if share not in sick}
        self._read[url] = {"shares": shares, "at": {str(share): moment for share, moment in at.items()}}

    def save(self) -> None:
        """Whole or not at all. Sizes of snapshots beyond a few hundred are counted again."""
        sizes = dict(list(self.sizes.items())[-500:])
        write_atomically(self._path, json.dumps({"last_run_at": time.time(), "sizes": sizes, "read": self._read}))


if __name__ == "__main__":
    main()
