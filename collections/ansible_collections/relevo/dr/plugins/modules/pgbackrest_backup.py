#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pgbackrest_backup
short_description: Take a backup, and say how far it is
description:
  - O(step=start) starts the backup as a transient systemd unit, O(step=look) says how far it is and, once it is over, what came of it.
  - The action plugin of the same name does both, and shows a line every few seconds; use it without O(step).
  - Refused while another backup of the stanza is at work, for a repository that does not answer, and from a standby to which nobody set up a way.
options:
  step: {description: What to do; filled by the action plugin., type: str, choices: [start, look], default: start}
  config: {description: pgBackRest's configuration file., type: path, required: true}
  stanza: {description: The stanza., type: str, required: true}
  type: {description: Kind of backup., type: str, choices: [full, diff, incr], default: full}
  from: {description: From where the files are copied., type: str, choices: [primary, standby], default: primary}
  only_first: {description: Take one only when a repository holds none., type: bool, default: false}
  repositories: {description: See the role dr_pgbackrest., type: list, elements: dict, required: true}
  only: {description: Numbers of the repositories to back up into; all when empty., type: list, elements: int, default: []}
  run: {description: The run; filled by the action plugin., type: str, default: by-hand}
  owner: {description: Operating system user of the cluster., type: str, default: postgres}
  bin_directory: {description: "Directory of psql; with it O(only_first) also looks for WAL after the newest backup.", type: path}
  port: {description: Port of the server., type: int, default: 5432}
  host_name: {description: Name of this host in sentences., type: str, required: true}
  timeout: {description: Seconds that one backup may take; the action plugin stops waiting after it., type: float, default: 86400}
  poll_seconds: {description: How often the action plugin looks., type: float, default: 3}
attributes:
  check_mode: {support: full, description: Stops after the plan.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Take the first full backup
  relevo.dr.pgbackrest_backup:
    config: /etc/pgbackrest/pgbackrest.conf
    stanza: minimarket
    only_first: true
    repositories: "{{ dr_pgbackrest_repositories }}"
    host_name: "{{ inventory_hostname }}"
"""

RETURN = r"""
changes: {description: "What was missing (item, current, wanted).", returned: always, type: list, elements: dict}
wanted: {description: Repositories that get a backup., returned: "step is start", type: list, elements: int}
finished: {description: Whether it is over., returned: "step is look", type: bool}
progress: {description: "repository, bytes, total_bytes (both null until pgBackRest says them).", returned: "step is look, not finished", type: dict}
backups: {description: The backups that were taken., returned: "step is look, finished", type: list, elements: dict}
"""

import json
import os
import time
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils import backup_unit, pgbackrest_file, repositories, stanza, wal_archive
from ansible_collections.relevo.dr.plugins.module_utils.backup_outcome import gate, measure
from ansible_collections.relevo.dr.plugins.module_utils.change import Change, shown
from ansible_collections.relevo.dr.plugins.module_utils.clock import parse_utc
from ansible_collections.relevo.dr.plugins.module_utils.milestone import told
from ansible_collections.relevo.dr.plugins.module_utils.pgbackrest import Pgbackrest, PgbackrestError
from ansible_collections.relevo.dr.plugins.module_utils.postgresql import PostgresqlError, Psql
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal

NAME = "on-demand"
_LOOKS, _LOOK_SECONDS = 3, 2.0


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "step": {"type": "str", "choices": ["start", "look"], "default": "start"},
            "config": {"type": "path", "required": True},
            "stanza": {"type": "str", "required": True},
            "type": {"type": "str", "choices": ["full", "diff", "incr"], "default": "full"},
            "from": {"type": "str", "choices": ["primary", "standby"], "default": "primary"},
            "only_first": {"type": "bool", "default": False},
            "repositories": {"type": "list", "elements": "dict", "required": True},
            "only": {"type": "list", "elements": "int", "default": []},
            "run": {"type": "str", "default": "by-hand"},
            "owner": {"type": "str", "default": "postgres"},
            "bin_directory": {"type": "path"},
            "port": {"type": "int", "default": 5432},
            "host_name": {"type": "str", "required": True},
            "timeout": {"type": "float", "default": 86400},
            "poll_seconds": {"type": "float", "default": 3},
        },
        supports_check_mode=True,
    )
    try:
        begin(module) if module.params["step"] == "start" else look(module)
    except Refusal as refusal:
        module.fail_json(msg=str(refusal), **told(gates=[refusal.gate], refused=True))
    except backup_unit.UnitError as error:
        module.fail_json(
            msg="%s: the backup could not be started: %s. Next: run playbooks/protect.yml" % (module.params["host_name"], error)
        )


def begin(module: AnsibleModule) -> None:
    p = module.params
    known = {int(repository["id"]): repository for repository in p["repositories"]}
    unknown = sorted(set(p["only"]) - set(known))
    if unknown:
        raise _refusal(
            p["host_name"],
            "repository %s" % ", ".join(map(str, unknown)),
            "one of %s" % ", ".join(map(str, sorted(known))),
            "give -e dr_backup_repository=... with numbers of dr_pgbackrest_repositories",
        )
    # In check mode nobody has written what the program is to know.
    if p["from"] == "standby" and not (module.check_mode or backup_unit.knows_a_standby() or _way_by_hand(p)):
        raise _refusal(
            p["host_name"],
            "a backup from the standby is asked for, and this host was told of none",
            "a standby that pgBackRest on this host can reach",
            "give dr_pgbackrest_tls, and dr_backup_from: standby or an entry with from: standby, in the inventory; then run playbooks/protect.yml",
        )
    out = repositories.left_out(p["config"])
    named = sorted(str(key) for key in p["only"] if str(key) in out)
    if named:
        raise _refusal(
            p["host_name"],
            "repository %s is left out since %s" % (", ".join(named), out[named[0]].get("at")),
            "a repository that is in use",
            "run playbooks/protect.yml once its store is back",
        )
    # In check mode nobody has written the configuration by which it would be asked what is there.
    unread = module.check_mode and not os.path.exists(p["config"])
    wanted, changes = [], []
    for key in p["only"] or [key for key in sorted(known) if str(key) not in out]:
        info = {} if unread else _info(p, key)
        there = [backup for backup in stanza.current_backups(info) if backup["timestamp"]["start"] >= _whole_since(key)]
        found = "older ones" if there else "no backup that counts"
        if p["only_first"] and there and not _reaches_the_present(p, key, info, there[-1]):
            there, found = [], "WAL after the newest backup is missing"
        if not p["only_first"] or not there:
            wanted.append(key)
            changes.append(Change("%s backup in repository %d" % (p["type"], key), found, "taken"))
    if not wanted or module.check_mode:
        module.exit_json(changed=bool(wanted), changes=shown(changes), wanted=[])
    # A backup of this very run is ours: the run was cut off and goes on.
    if not backup_unit.active(_unit(p)):
        at_work = [backup_unit.holder() or "", *backup_unit.processes(p["stanza"])]
        if any(at_work):
            raise _refusal(
                p["host_name"],
                "another backup is at work: %s" % "; ".join(found for found in at_work if found),
                "no other backup of %s" % p["stanza"],
                "wait for it, then start again",
            )
        words = ["--name=%s" % NAME, "--type=%s" % p["type"], "--run=%s" % p["run"], "--wait=0"]
        words += ["--standby"] if p["from"] == "standby" else []
        backup_unit.start(_unit(p), p["owner"], [*words, *("--repository=%d" % key for key in wanted)])
    module.exit_json(changed=True, changes=shown(changes), wanted=wanted)


def look(module: AnsibleModule) -> None:
    p = module.params
    # In this order: what ends between the two questions has written its last line before.
    active = backup_unit.active(_unit(p))
    attempts = backup_unit.attempts(p["run"])
    if active:
        done = [attempt["repository"] for attempt in attempts]
        now = next((key for key in p["only"] if key not in done), None)
        module.exit_json(changed=True, finished=False, progress=_progress(p, now))
    backups, gates = [], []
    measures: dict[str, Any] = {}
    for key in p["only"]:
        attempt = next((attempt for attempt in attempts if attempt["repository"] == key), None)
        backup = _backup(p, key, attempt["label"]) if attempt and attempt["label"] else None
        gates.append(gate(p["host_name"], key, attempt, backup, _unit(p)))
        if attempt and backup:
            backups.append(backup)
            measures["repository_%d" % key] = {**measure(backup), "copied_from": attempt.get("copied_from")}
    wrong = [
        "%s: %s. Next: %s" % (found["host"], found["observed"], found["next_action"])
        for found in gates
        if found["verdict"] != "pass"
    ]
    material = told(gates=gates, measures={"backups": measures})
    if wrong:
        module.fail_json(msg="; ".join(wrong), finished=True, backups=backups, **material)
    module.exit_json(changed=True, finished=True, backups=backups, **material)


def _way_by_hand(p: dict[str, Any]) -> bool:
    """Whether pgBackRest's own file names another host of PostgreSQL."""
    try:
        with open(p["config"], encoding="utf-8") as source:
            return bool(pgbackrest_file.other_hosts(source.read(), p["stanza"]))
    except OSError:
        return False


def _whole_since(key: int) -> float:
    """A repository that was left out misses segments: what it held before leads nowhere any more. Seconds since 1970."""
    mark = repositories.read_mark().get(str(key))
    return parse_utc(str(mark["at"])).timestamp() if mark else 0.0


def _reaches_the_present(p: dict[str, Any], key: int, info: dict[str, Any], backup: dict[str, Any]) -> bool:
    """Whether WAL leads from a backup to the end of its archive. What was lost while an archive_command only pretended comes back by no repair.

    What cannot be listed is not judged here; verify_backup does that.
    """
    mine = [entry for entry in info.get("archive", []) if entry.get("database") == backup.get("database")]
    if not mine or not p["bin_directory"]:
        return True
    try:
        with Psql(p["bin_directory"], p["port"], owner=p["owner"]) as session:
            size = int(session.execute("select setting from pg_settings where name = 'wal_segment_size'"))
        command = Pgbackrest(p["config"], p["stanza"], p["owner"])
        place = "archive/%s/%s" % (p["stanza"], mine[0]["id"])
        span = wal_archive.of_backup(backup, size)
        for _ in range(_LOOKS):
            listed = json.loads(command.run("repo-ls", "--repo=%d" % key, "--recurse", "--output=json", place) or "{}")
            if not wal_archive.missing(wal_archive.read_archive(listed, size), [span] if span else [], {}, size):
                return True
            # Segments that are archived side by side do not arrive in their order.
            time.sleep(_LOOK_SECONDS)
    except (PgbackrestError, PostgresqlError):
        return True
    return False


def _unit(p: dict[str, Any]) -> str:
    return "relevo-backup-%s.service" % p["run"]


def _info(p: dict[str, Any], key: int) -> dict[str, Any]:
    """What one repository holds. Raises Refusal when it does not answer."""
    try:
        return stanza.read(Pgbackrest(p["config"], p["stanza"], p["owner"]), p["host_name"], p["repositories"], key)
    except Refusal as refusal:
        if len(p["repositories"]) > 1:
            gate = refusal.gate
            more = "%s; or back up into another one: -e dr_backup_repository=..." % gate["next_action"]
            raise _refusal(p["host_name"], gate["observed"], gate["expected"], more) from None
        raise


def _progress(p: dict[str, Any], key: Optional[int]) -> dict[str, Any]:
    """As far as pgBackRest (2.48 and newer) says it; unknown is no reason to stop waiting."""
    progress: dict[str, Any] = {"repository": key, "bytes": None, "total_bytes": None}
    if key is None:
        return progress
    try:
        info = Pgbackrest(p["config"], p["stanza"], p["owner"], timeout=15).info(key)
    except PgbackrestError:
        return progress
    held = info.get("status", {}).get("lock", {}).get("backup", {})
    return {**progress, "bytes": held.get("size-cplt"), "total_bytes": held.get("size")}


def _backup(p: dict[str, Any], key: int, label: str) -> Optional[dict[str, Any]]:
    """The backup as the repository lists it, asked more than once: it was just written."""
    for _ in range(3):
        try:
            info = Pgbackrest(p["config"], p["stanza"], p["owner"]).info(key)
        except PgbackrestError:
            time.sleep(1)
            continue
        return next((backup for backup in stanza.backups(info, key) if backup["label"] == label), None)
    return None


def _refusal(host: str, observed: str, expected: str, next_action: str) -> Refusal:
    return Refusal("BACKUP", host, observed, expected, next_action)


if __name__ == "__main__":
    main()
