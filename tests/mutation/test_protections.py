"""Every protection has a test that fails without it: each is taken out of a copy of the project, and its test must notice.

The traps are those of Ansible itself (a lost host, a hidden host, a killed controller, a rendered value ...), each measured before it was guarded against.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DR = "collections/ansible_collections/relevo/dr/plugins"
CONTRACT = "tests/integration/test_contract.py"
# A run without a record: what its plugins tell each other goes to this test's own store.
UNRECORDED = 'control = Control("none", __import__("os").environ["RELEVO_STORE"])'
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", ".relevo", "__pycache__", ".*_cache", ".hypothesis", "*.egg-info", ".ansible")


@dataclass(frozen=True)
class Protection:
    """old: what protects, as it stands in the file. new: the same without. test: the node that must fail then."""

    trap: str
    file: str
    old: str
    new: str
    test: str


FAST = [
    Protection(
        "a job is watched by the memory of another",
        "roles/dr_nightly/files/relevo_deadman.py",
        'return "%s@%s.json" % (job.runbook, job.cluster)',
        'return "%s.json" % job.cluster',
        "tests/unit/dr/test_deadman.py",
    ),
    Protection(
        "a job that nobody can tell of silences the others",
        "roles/dr_nightly/files/relevo_deadman.py",
        'max([look(job, Keeper(directories or [Path("/var/lib/relevo-deadman")], memory_of(job)), now) for job in jobs])',
        "max(look(job, Keeper(directories, memory_of(job)), now) for job in jobs[:1])",
        "tests/unit/dr/test_deadman.py",
    ),
    Protection(
        "the timer of an earlier version runs beside the new ones",
        "roles/dr_nightly/vars/main.yml",
        "^relevo-nightly(-[a-z0-9_]+)?@",
        "^relevo-nightly-[a-z0-9_]+@",
        "tests/unit/dr/test_nightly_units.py",
    ),
    Protection(
        "a restore test that passed long ago proves for ever",
        f"{DR}/module_utils/past_proofs.py",
        "elif past.proven is not None and past.age(past.proven) <= limit_seconds:",
        "elif past.proven is not None:",
        "tests/unit/dr/test_past_proofs.py",
    ),
    Protection(
        "a restore test that restored nothing is a proof",
        f"{DR}/module_utils/past_proofs.py",
        'if one["verdict"] == "passed" and _tests(one)',
        'if one["verdict"] == "passed"',
        "tests/unit/dr/test_past_proofs.py",
    ),
    Protection(
        "a record from the future proves for years",
        f"{DR}/module_utils/past_proofs.py",
        "return _ended(record) <= now + LEEWAY_SECONDS",
        "return True",
        "tests/unit/dr/test_past_proofs.py",
    ),
    Protection(
        "a failover waits for the store of results",
        f"{DR}/action/preflight.py",
        'if known["runbook"] != "check":',
        "if False:",
        "tests/unit/dr/test_past_proofs.py",
    ),
    Protection(
        "a bare shutdown checkpoint is taken for a hand-over",
        f"{DR}/module_utils/handover_message.py",
        "            if not heard:",
        "            if False:",
        "tests/unit/dr/test_handover_message.py",
    ),
    Protection(
        "the old primary was started between its message and its shutdown",
        f"{DR}/module_utils/handover_message.py",
        '            if lsn_bytes(record.group(2)) != lsn_bytes(str(handover["shutdown_lsn"])):',
        "            if False:",
        "tests/unit/dr/test_handover_message.py",
    ),
    Protection(
        "a planned promotion without the old primary's word",
        f"{DR}/module_utils/promotion_token.py",
        'if token.handover is None or token.handover.get("run_id") not in runs:',
        "if False:",
        "tests/unit/dr/test_promotion_token.py",
    ),
    Protection(
        "a promotion beside an old side that is opened again",
        f"{DR}/plugin_utils/reopening.py",
        'if turn["to"] != PROMOTE:',
        "if False:",
        "tests/unit/dr/test_reopening.py",
    ),
    Protection(
        "an old side that is opened beside a promotion which did not answer",
        f"{DR}/plugin_utils/reopening.py",
        "if asked and not refused:",
        "if False:",
        "tests/unit/dr/test_reopening.py",
    ),
    Protection(
        "a fence that is lifted by a run to which it does not belong",
        f"{DR}/modules/server_reopen.py",
        'if fence.get("run_id") not in ours:',
        "if False:",
        "tests/unit/dr/test_server_reopen.py",
    ),
    Protection(
        "contacts that hear of a run beside those whom the operator named",
        "runner/relevo/audience.py",
        "self._named or asked.contacts(self._recorder.directory)",
        "asked.contacts(self._recorder.directory) or self._named",
        "tests/unit/runner/test_audience.py",
    ),
    Protection(
        "a word to people that ends the run",
        "runner/relevo/audience.py",
        "except Exception as error:  # noqa: BLE001 - whatever",
        "except MemoryError as error:  # whatever",
        "tests/unit/runner/test_audience.py",
    ),
    Protection(
        "a change of site that waits for contacts",
        f"{DR}/module_utils/contacts.py",
        "        required=False,",
        "        required=True,",
        "tests/unit/dr/test_contacts.py",
    ),
    Protection(
        "a hand-over of long ago counts beside the one of this run",
        f"{DR}/module_utils/handover_message.py",
        ' and entry["handover"].get("run_id") in runs',
        "",
        "tests/unit/dr/test_handover_message.py",
    ),
    Protection(
        "an old side that stays closed after an error which nobody foresaw",
        f"{DR}/action/handover.py",
        "except Exception as error:  # noqa: BLE001 - whatever",
        "except PartFailed as error:  # whatever",
        "tests/unit/dr/test_planned_handover.py",
    ),
    Protection(
        "hosts that wait for a way back which ended in an error",
        f"{DR}/plugin_utils/reopening.py",
        "        except Exception as error:  # noqa: BLE001 - also what nobody foresaw is an answer, or the others wait out their limit",
        "        except MemoryError as error:",
        "tests/unit/dr/test_planned_handover.py",
    ),
    Protection(
        "a loss whose beginning nobody knows is held against a number",
        f"{DR}/action/account.py",
        "    if rpo_seconds is None:\n        return None",
        "    if rpo_seconds is None:\n        return accept_seconds is None",
        "tests/unit/dr/test_account.py",
    ),
    Protection(
        "a loss that goes on behind the end of the tail",
        f"{DR}/modules/standby_promote.py",
        'if loss.transactions == len(p["ledger_tail"]):',
        'if by_wish and loss.transactions == len(p["ledger_tail"]):',
        "tests/unit/dr/test_standby_promote.py",
    ),
    Protection(
        "data behind the fork follow without a word",
        f"{DR}/module_utils/follow_plan.py",
        "if end > parting.position or (inclusive and end == parting.position):",
        "if False:",
        "tests/unit/dr/test_follow_plan.py",
    ),
    Protection(
        "a half rewound directory is started",
        f"{DR}/module_utils/follow_plan.py",
        "    if found.half:",
        "    if False:",
        "tests/unit/dr/test_follow_plan.py",
    ),
    Protection(
        "a rewind on top of a rewind that did not end",
        f"{DR}/module_utils/rebuild_plan.py",
        "and not (way.method == REWIND and begun)",
        "",
        "tests/unit/dr/test_rebuild_plan.py",
    ),
    Protection(
        "the mark of an older rebuild speaks for what was written since",
        f"{DR}/module_utils/rebuild_plan.py",
        'if mark.get("restored") and not (followed and mark.get("run_id") in set(runs)) else mark',
        'if mark.get("restored") and not followed else mark',
        "tests/unit/dr/test_rebuild_plan.py",
    ),
    Protection(
        "the mark of a rebuild outlives the next fence",
        f"{DR}/module_utils/server_stop.py",
        "    _forget_rebuild(run_id)\n",
        "",
        "tests/unit/dr/test_salvage_keep.py",
    ),
    Protection(
        "the mark of a rebuild outlives the promotion",
        f"{DR}/modules/standby_promote.py",
        "    host_files.drop_build()\n",
        "",
        "tests/unit/dr/test_standby_promote.py",
    ),
    Protection(
        "the mark of a rebuild outlives its fence",
        f"{DR}/modules/standby_follow.py",
        "            host_files.drop_build()\n            host_files.lift_fence()\n",
        "            host_files.lift_fence()\n            host_files.drop_build()\n",
        "tests/unit/dr/test_standby_follow.py",
    ),
    Protection(
        "a timeline that was begun apart is taken for the primary's by its number",
        f"{DR}/module_utils/parting.py",
        "if (mine.timeline, mine.begin) != (other.timeline, other.begin) or len(born) > 1:",
        "if mine.timeline != other.timeline:",
        "tests/unit/dr/test_parting.py",
    ),
    Protection(
        "a primary is taken for a follower of its own timeline's number",
        f"{DR}/module_utils/salvage_keep.py",
        'left = (parting.part if parting.followed(control, p["data_directory"]) else parting.part_from_writer)(ours, theirs)',
        "left = parting.part(ours, theirs)",
        "tests/unit/dr/test_salvage_keep.py",
    ),
    Protection(
        "data of an own timeline follow the primary's of the same number",
        f"{DR}/module_utils/follow_plan.py",
        "    if ours.timeline != parting.timeline:",
        "    if False:",
        "tests/unit/dr/test_follow_plan.py",
    ),
    Protection(
        "pg_rewind is asked about two timelines of one number",
        f"{DR}/module_utils/rebuild_steps.py",
        "if newest(control) == self._theirs.timeline:",
        "if False:",
        "tests/unit/dr/test_rebuild_steps.py",
    ),
    Protection(
        "a dead run's seal stands for what was written after it",
        f"{DR}/module_utils/salvage_keep.py",
        "return kept if mark or covers(p, kept, found) else None",
        "return kept",
        "tests/unit/dr/test_salvage_keep.py",
    ),
    Protection(
        "the end of the salvage is missing",
        f"{DR}/module_utils/salvage.py",
        'if fork and wanted and lsn_bytes(wanted) >= lsn_bytes(fork) and lsn_bytes(reached or "0/0") < lsn_bytes(wanted):',
        "if False:",
        "tests/unit/dr/test_salvage.py",
    ),
    Protection(
        "nothing tells where the histories part, and nothing is kept",
        f"{DR}/module_utils/salvage.py",
        '    if kept.get("unknown"):',
        "    if False:",
        "tests/unit/dr/test_salvage.py",
    ),
    Protection(
        "the cut-off primary's own backup is restored",
        f"{DR}/module_utils/rebuild_plan.py",
        'and on_path(line.legs, timeline_of(entry), lsn_bytes(str(entry["lsn"]["stop"])))',
        "",
        "tests/unit/dr/test_rebuild_plan.py",
    ),
    Protection(
        "a failback buries a dead failover",
        f"{DR}/module_utils/failback_plan.py",
        'verdict("-failback-" in run)',
        "verdict(True)",
        "tests/unit/dr/test_failback_plan.py",
    ),
    Protection(
        "a failover is done while the application is down",
        f"{DR}/module_utils/plan.py",
        "        and all(served(landscape, host, target) for host in cutover),",
        "        and True,",
        "tests/unit/dr/test_plan.py",
    ),
    Protection(
        "a lock that is left on an application host alone is no trace of a run",
        f"{DR}/module_utils/plan.py",
        "for host in (target, *old, *follow, *there, *cutover)}",
        "for host in (target, *old, *follow)}",
        "tests/unit/dr/test_plan.py",
    ),
    Protection(
        "a lost transaction that is in no seal",
        f"{DR}/action/salvaged.py",
        "verdict(not away if ledgers else None)",
        "verdict(True)",
        "tests/unit/dr/test_salvage.py",
    ),
    Protection(
        "a planned run that accepts a loss",
        f"{DR}/module_utils/inputs.py",
        "    for name in _NOT_TAKEN.get(runbook, ()):",
        "    for name in ():",
        "tests/unit/dr/test_inputs.py",
    ),
    Protection(
        "a planned run in which somebody is only said to be there",
        f"{DR}/module_utils/gates.py",
        "return gates if plan.planned else [_accept(gate, inputs) for gate in gates]",
        "return [_accept(gate, inputs) for gate in gates]",
        "tests/unit/dr/test_handover_gates.py",
    ),
    Protection(
        "a half restored server is promoted",
        f"{DR}/module_utils/restored_standby.py",
        'if mark.get("state") not in (REACHED, PROMOTED):',
        "if False:",
        "tests/unit/dr/test_restored_standby.py",
    ),
    Protection(
        "a half restored server is taken for a standby",
        f"{DR}/module_utils/way_out.py",
        'return found if found and found.get("state") != PROMOTED',
        "return found if False",
        "tests/unit/dr/test_way_out.py",
    ),
    Protection(
        "a paused server is taken for one at its target",
        f"{DR}/module_utils/restored_standby.py",
        "        return arrived(",
        '        return "paused" if position["pause"] == "paused" else arrived(',
        "tests/unit/dr/test_restored_standby.py",
    ),
    Protection(
        "a restored server that lacks more than the ledger's tail tells of",
        f"{DR}/modules/standby_promote.py",
        'if loss.transactions == len(p["ledger_tail"]):',
        "if False:",
        "tests/unit/dr/test_restored_standby.py",
    ),
    Protection(
        "a loss by wish that nobody accepted",
        f"{DR}/module_utils/gates.py",
        "        judged = verdict(behind <= (",
        "        judged = verdict(True or behind <= (",
        "tests/unit/dr/test_way_out.py",
    ),
    Protection(
        "a silent standby is restored over",
        f"{DR}/module_utils/way_out.py",
        "        if unknown:",
        "        if False:",
        "tests/unit/dr/test_way_out.py",
    ),
    Protection(
        "a token that answers no challenge of this host",
        f"{DR}/module_utils/promotion_token.py",
        'if not token.nonce or token.nonce != challenge.get("nonce"):',
        "if False:",
        "tests/unit/dr/test_promotion_token.py",
    ),
    Protection(
        "a stale token",
        f"{DR}/module_utils/promotion_token.py",
        "if not 0 <= age_seconds <= limit_seconds:",
        "if False:",
        "tests/unit/dr/test_promotion_token.py",
    ),
    Protection(
        "a token without a proof of one old host",
        f"{DR}/module_utils/promotion_token.py",
        "if missing or not token.hosts:",
        "if False:",
        "tests/unit/dr/test_promotion_token.py",
    ),
    Protection(
        "a forged signature",
        f"{DR}/module_utils/promotion_token.py",
        "    if not holds:\n        raise TokenError(\"the token's signature",
        "    if False:\n        raise TokenError(\"the token's signature",
        "tests/unit/dr/test_promotion_token.py",
    ),
    Protection(
        "killing ansible-playbook does not kill the remote task",
        f"{DR}/module_utils/host_files.py",
        "fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "pass",
        "tests/unit/dr/test_host_files.py",
    ),
    Protection(
        "an actor that lost the lock",
        f"{DR}/module_utils/host_files.py",
        "if held is None or held.run_id != run_id:\n        raise LockError",
        "if False:\n        raise LockError",
        "tests/unit/dr/test_host_files.py",
    ),
    Protection(
        "-e beats set_fact and register",
        f"{DR}/module_utils/inputs.py",
        "if name not in SCHEMA:",
        "if False:",
        "tests/unit/dr/test_inputs.py",
    ),
    Protection(
        "a typo in a group is exit 0",
        f"{DR}/module_utils/plan.py",
        "        if not groups.get(name):",
        "        if False:",
        "tests/unit/dr/test_plan.py",
    ),
    Protection(
        "two primaries",
        f"{DR}/module_utils/plan.py",
        "if len(primaries) > 1:",
        "if False:",
        "tests/unit/dr/test_plan.py",
    ),
    Protection(
        "a primary that only the controller cannot see",
        f"{DR}/module_utils/gates.py",
        "        if still:",
        "        if False:",
        "tests/unit/dr/test_gates.py",
    ),
    Protection(
        "fewer forks than hosts",
        f"{DR}/module_utils/gates.py",
        "verdict(controller.forks >= need)",
        "verdict(True)",
        "tests/unit/dr/test_gates.py",
    ),
    Protection(
        "a silent host ends a playbook without a word",
        "playbooks/protect.yml",
        "  # Not any_errors_fatal:",
        "  any_errors_fatal: true\n  # Not any_errors_fatal:",
        "tests/house/test_playbooks.py",
    ),
    Protection(
        "the last repository is left out",
        f"{DR}/module_utils/repositories.py",
        "if not gone or len(gone) == len(there):",
        "if not gone:",
        "tests/unit/dr/test_repositories.py",
    ),
    Protection(
        "two backups at once",
        "roles/dr_pgbackrest/files/relevo_backup.py",
        "fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "pass",
        "tests/unit/dr/test_backup_program.py",
    ),
    Protection(
        "pgBackRest ends with 0 when it copied damaged pages",
        "roles/dr_pgbackrest/files/relevo_backup.py",
        "        if damaged:",
        "        if False:",
        "tests/unit/dr/test_backup_program.py",
    ),
    Protection(
        "who may copy one cluster's standby is let in for every other one",
        "roles/dr_pgbackrest/files/relevo_pgbackrest_server.py",
        '("--tls-server-auth=%s=%s" % (client, given.stanza)',
        '("--tls-server-auth=%s=*" % client',
        "tests/unit/dr/test_backup_server.py",
    ),
    Protection(
        "a promoted server goes on obeying whoever may copy a standby",
        "roles/dr_pgbackrest/files/relevo_pgbackrest_server.py",
        "reasons = [] if is_standby(given.data_directory) else",
        "reasons = [] if True else",
        "tests/unit/dr/test_backup_server.py",
    ),
    Protection(
        "a restore_command that waits for a store which is gone",
        "roles/dr_pgbackrest/files/relevo_archive_get.py",
        "if answers(place) and fetch(",
        "if fetch(",
        "tests/unit/dr/test_repositories.py",
    ),
    Protection(
        "AWX jobs cannot answer prompts",
        "playbooks/failover.yml",
        "    - name: Take the lock\n",
        "    - name: Wait for a person\n      ansible.builtin.pause:\n    - name: Take the lock\n",
        "tests/house/test_playbooks.py",
    ),
    Protection(
        "an entry point with an extension skips its argument spec",
        "playbooks/failover.yml",
        "tasks_from: lock",
        "tasks_from: lock.yml",
        "tests/house/test_playbooks.py",
    ),
    Protection(
        "a handler that was notified before a failure is lost",
        "roles/dr_run/tasks/lock.yml",
        "  relevo.dr.lock:\n",
        "  notify: Do it later\n  relevo.dr.lock:\n",
        "tests/house/test_playbooks.py",
    ),
    Protection(
        "a target on a timeline that was left",
        f"{DR}/module_utils/restore_target.py",
        "if not named:",
        "if False:",
        "tests/unit/dr/test_restore_target.py",
    ),
    Protection(
        "a backup that ended after the target",
        f"{DR}/module_utils/restore_target.py",
        "return backup.stopped + datetime.timedelta(seconds=1) <= target.moment",
        "return True",
        "tests/unit/dr/test_restore_target.py",
    ),
    Protection(
        "a backup that is not on the way to the target",
        f"{DR}/module_utils/restore_target.py",
        "if not on_path(legs, backup.timeline, backup.stop):\n        return False",
        "if False:\n        return False",
        "tests/unit/dr/test_restore_target.py",
    ),
    Protection(
        "a target after the archive's end",
        f"{DR}/module_utils/restore_target.py",
        "if end is None or target.moment >= end:",
        "if False:",
        "tests/unit/dr/test_restore_target.py",
    ),
    Protection(
        "two targets at once",
        f"{DR}/module_utils/restore_target.py",
        "if len(given) > 1:",
        "if False:",
        "tests/unit/dr/test_restore_target.py",
    ),
    Protection(
        "a sandbox that reaches production",
        f"{DR}/module_utils/sandbox.py",
        "if seen.answers:",
        "if False:",
        "tests/unit/dr/test_sandbox.py",
    ),
    Protection(
        "a sandbox with production's data",
        f"{DR}/module_utils/sandbox.py",
        "if seen.production_data:",
        "if False:",
        "tests/unit/dr/test_sandbox.py",
    ),
    Protection(
        "a sandbox on which a server runs",
        f"{DR}/module_utils/sandbox.py",
        "if others:",
        "if False:",
        "tests/unit/dr/test_sandbox.py",
    ),
    Protection(
        "a sandbox that is production under another name",
        f"{DR}/module_utils/sandbox.py",
        "if seen.local:",
        "if False:",
        "tests/unit/dr/test_sandbox.py",
    ),
    Protection(
        "restoring into a directory that is not ours",
        f"{DR}/module_utils/sandbox.py",
        'if seen.base == "foreign":',
        "if False:",
        "tests/unit/dr/test_sandbox.py",
    ),
    Protection(
        "removing what is not ours",
        f"{DR}/module_utils/sandbox.py",
        "if read_mark(place) is None:",
        "if False:",
        "tests/unit/dr/test_sandbox.py",
    ),
    Protection(
        "production's own settings in a copy",
        f"{DR}/module_utils/sandbox_server.py",
        "if _RECOVERY.match(line)]",
        "if line]",
        "tests/unit/dr/test_sandbox.py",
    ),
    Protection(
        "a transaction after the target",
        f"{DR}/module_utils/restore_ladder.py",
        "if arrival.last_commit is not None and arrival.last_commit > target:",
        "if False:",
        "tests/unit/dr/test_restore_ladder.py",
    ),
    Protection(
        "an acknowledged transaction that a copy lost",
        f"{DR}/module_utils/ledger_restored.py",
        "if not there(entry):",
        "if False:",
        "tests/unit/dr/test_ledger_restored.py",
    ),
    Protection(
        "going up a ladder whose rung broke",
        f"{DR}/module_utils/restore_ladder.py",
        "if self.broken:\n            self.rungs",
        "if False:\n            self.rungs",
        "tests/unit/dr/test_restore_ladder.py",
    ),
    Protection(
        "a frozen or killed postmaster leaves backends that may still acknowledge",
        f"{DR}/module_utils/server_stop.py",
        "    _end_what_is_left(server)\n",
        "",
        "tests/unit/dr/test_server_stop.py",
    ),
    Protection(
        "a proof beside backends that are still alive",
        f"{DR}/module_utils/server_stop.py",
        "    left = _processes(server)\n    if left:",
        "    left = _processes(server)\n    if False:",
        "tests/unit/dr/test_server_stop.py",
    ),
    Protection(
        "an old host that answers again after its fence",
        f"{DR}/modules/standby_promote.py",
        "        if answering:\n",
        "        if False:\n",
        "tests/unit/dr/test_standby_promote.py",
    ),
    Protection(
        "a loss that nobody accepted",
        f"{DR}/modules/standby_promote.py",
        "    if not within(loss,",
        "    if False and not within(loss,",
        "tests/unit/dr/test_standby_promote.py",
    ),
    Protection(
        "a letter that brings the bounds of an accepted loss",
        f"{DR}/module_utils/letter.py",
        "    if unexpected:",
        "    if False:",
        "tests/unit/dr/test_letter.py",
    ),
    Protection(
        "a module that goes on waiting for a dead run while another one acts",
        f"{DR}/module_utils/letter.py",
        "        if not os.path.exists(ready):",
        "        if False:",
        "tests/unit/dr/test_letter.py",
    ),
    Protection(
        "a receiver that says streaming on a dead link",
        f"{DR}/module_utils/gates.py",
        "if lag > 0 and (silent is None or silent > limits.message_age_seconds):",
        "if False:",
        "tests/unit/dr/test_gates.py",
    ),
    Protection(
        "a loss without a bound",
        f"{DR}/module_utils/loss.py",
        "    if accept_seconds is None and accept_transactions is None:\n        return False",
        "    if accept_seconds is None and accept_transactions is None:\n        return True",
        "tests/unit/dr/test_loss.py",
    ),
    Protection(
        "the lock of a living run",
        f"{DR}/modules/run_lock.py",
        "if not held.expired(now, clock.boot_id()):",
        "if False:",
        "tests/unit/dr/test_run_lock.py",
    ),
    Protection(
        "the lock of a living run whose lease has ended",
        f"{DR}/modules/run_lock.py",
        "if held.run_id == living_run_id:",
        "if False:",
        "tests/unit/dr/test_run_lock.py",
    ),
    Protection(
        "who takes the lock does not look whether its owner lives",
        f"{DR}/action/lock.py",
        '"living_run_id": lock.get("run_id", "") if alive and not dead else "",',
        '"living_run_id": "",',
        "tests/unit/dr/test_run_lock.py",
    ),
    Protection(
        "hosts are protected beside a living run whose lease has ended",
        f"{DR}/action/primary.py",
        'if not facts.get("lock_expired") or controller.owner_alive(facts.get("lock"))',
        'if not facts.get("lock_expired")',
        "tests/unit/dr/test_run_lock.py",
    ),
    Protection(
        "a run that is at work on another host is passed for dead",
        f"{DR}/module_utils/gates.py",
        'stale_lock.sign_of_life(lock["run_id"], everybody)',
        'stale_lock.sign_of_life(lock["run_id"], [(host, entry)])',
        "tests/unit/dr/test_gates.py",
    ),
    Protection(
        "a lock is taken over beside a task that is at work",
        f"{DR}/module_utils/host_files.py",
        "fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "pass",
        "tests/unit/dr/test_run_lock.py",
    ),
    Protection(
        "a living run in another container of the same machine",
        f"{DR}/plugin_utils/controller.py",
        "if not held.controller_pid_namespace or held.controller_pid_namespace != pid_namespace():",
        "if False:",
        "tests/unit/dr/test_controller.py",
    ),
    Protection(
        "a crash that leaves an empty lock",
        f"{DR}/module_utils/host_files.py",
        "            os.link(temporary, path)",
        "            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))\n            os.replace(temporary, path)",
        "tests/unit/dr/test_host_files.py",
    ),
    Protection(
        "an old primary that nobody answers starts writable",
        "roles/dr_guard/files/relevo_guard.py",
        "    if not heard:\n        return False",
        "    if not heard:\n        return True",
        "tests/unit/dr/test_guard.py",
    ),
    Protection(
        "an old primary that only its neighbour answers starts writable",
        "roles/dr_guard/files/relevo_guard.py",
        "return len(heard) == len(evidence.peers) or (",
        "return True or (",
        "tests/unit/dr/test_guard.py",
    ),
    Protection(
        "an old primary that only its own site answers starts writable",
        "roles/dr_guard/files/relevo_guard.py",
        "evidence.archive_timeline is not None and not evidence.archive_silent and",
        "evidence.archive_timeline is not None and",
        "tests/unit/dr/test_guard.py",
    ),
    Protection(
        "a fence proof that an accepted write refutes",
        f"{DR}/module_utils/observation.py",
        "standing = [proof for proof in proven if not _refuted(proof, observations)]",
        "standing = list(proven)",
        "tests/unit/dr/test_observation.py",
    ),
    Protection(
        "an event that nobody understands ends the recording",
        "runner/relevo/recording.py",
        "        except Exception as error:",
        "        except ZeroDivisionError as error:",
        "tests/unit/runner/test_recording.py",
    ),
    Protection(
        "ansible-runner takes the variables of an earlier run in the same directory",
        "runner/relevo/execute.py",
        '    private = Path(tempfile.mkdtemp(prefix=f"relevo-{run.name}-", dir=_MEMORY if os.access(_MEMORY, os.W_OK) else run))\n',
        '    private = run.parents[1] / "private"\n    private.mkdir(exist_ok=True)\n    return (yield private)\n',
        f"{CONTRACT}::test_a_second_run_does_not_take_the_variables_of_the_first",
    ),
    Protection(
        "a callback that raises leaves the play running",
        f"{DR}/action/open.py",
        "control = Control.of_this_run()",
        UNRECORDED,
        f"{CONTRACT}::test_without_the_recorder_nothing_runs",
    ),
    Protection(
        "a full disk: no record, and the play goes on",
        f"{DR}/action/open.py",
        "control = Control.of_this_run()",
        UNRECORDED,
        f"{CONTRACT}::test_with_a_full_disk_nothing_runs",
    ),
    Protection(
        "a disk that fills during the run leaves no room for the record",
        "runner/relevo/journal.py",
        "            _set_room_aside(directory / RESERVE)\n",
        "",
        f"{CONTRACT}::test_a_disk_that_fills_during_the_run_spoils_no_more_than_the_verdict",
    ),
    Protection(
        "a variable of an earlier run stands for a record",
        f"{DR}/callback/recorder.py",
        "        for name in VARIABLES:\n            os.environ.pop(name, None)\n        if MISSING:",
        "        if MISSING:",
        f"{CONTRACT}::test_a_variable_of_another_run_is_no_record",
    ),
    Protection(
        "a silent host at the target's own site may be a primary",
        f"{DR}/module_utils/plan.py",
        'if host != target and landscape.role(host) != "standby")',
        "if False)",
        "tests/unit/dr/test_plan.py",
    ),
    Protection(
        "a ledger that stopped hides every loss",
        f"{DR}/module_utils/gates.py",
        "working = age is not None and age <= limits.attempt_age_seconds",
        "working = True",
        "tests/unit/dr/test_gates.py",
    ),
    Protection(
        "a run that lost its lock reaches for the power switch",
        f"{DR}/plugin_utils/fencing.py",
        'if answer.get("lock_lost"):',
        "if False:",
        "tests/unit/dr/test_fencing.py",
    ),
    Protection(
        "a run whose lease is over switches hosts off",
        f"{DR}/plugin_utils/fencing.py",
        "if left <= 0:",
        "if False:",
        "tests/unit/dr/test_fencing.py",
    ),
    Protection(
        "commits that only the stopped primary has",
        f"{DR}/action/handover.py",
        "if commits and all(number == 0 for number in commits):",
        "if True:",
        "tests/unit/dr/test_drain.py",
    ),
    Protection(
        "a controller whose inventory lost a host proves too little",
        f"{DR}/modules/standby_promote.py",
        ", *host_files.read_peers()}",
        "}",
        "tests/unit/dr/test_drain.py",
    ),
    Protection(
        "a runbook that Ansible ended early",
        "runner/relevo/verdict.py",
        "if evidence.part and evidence.part[0] < evidence.part[1] and not reasons:",
        "if False:",
        "tests/unit/runner/test_verdict.py",
    ),
    Protection(
        "files of one host that are not proven, while the database's backups are",
        f"{DR}/action/refuse.py",
        "        if not sentences:",
        '        if not judgement["sentences"]:',
        "tests/unit/dr/test_findings.py",
    ),
    Protection(
        "a silent host that ends the run before the others were looked at",
        f"{DR}/plugin_utils/finding_action.py",
        'UNKNOWN if answer.get("unreachable") else FAIL',
        "FAIL",
        "tests/unit/dr/test_findings.py",
    ),
    Protection(
        "a hole in the WAL on no timeline of the restore's path",
        f"{DR}/module_utils/restore_path.py",
        "if not any(Segment(timeline, number) in archive.segments for timeline in here):",
        "if not any(Segment(timeline, number) in archive.segments for timeline in range(9)):",
        "tests/unit/dr/test_restore_path.py",
    ),
    Protection(
        "one write that waited through a freeze keeps a primary alive",
        "roles/dr_guard/files/relevo_guard.py",
        "if before <= count - 2)",
        "if before <= count - 1)",
        "tests/unit/dr/test_guard_lease.py",
    ),
    Protection(
        "an isolated primary outlives its lease",
        "roles/dr_guard/files/relevo_guard.py",
        "        if lease is not None and now >= lease.ends(settings.self_fence_seconds) - LEAD_SECONDS:",
        "        if lease is not None and now >= lease.ends(settings.self_fence_seconds) + LEAD_SECONDS:",
        "tests/unit/dr/test_guard_lease.py",
    ),
    Protection(
        "a watch that is killed again and again never stops anything",
        "roles/dr_guard/files/relevo_guard.py",
        "    lease = resumed(server_state(settings), settings.self_fence_seconds)\n",
        "    lease = None\n",
        "tests/unit/dr/test_guard_lease.py",
    ),
    Protection(
        "a watch that is ended by a signal prolongs the lease of an isolated primary",
        "roles/dr_guard/files/relevo_guard.py",
        'planned = kept.get("stopped") and (kept.get("told") or boottime() >= lease.ends(seconds))',
        'planned = kept.get("stopped")',
        "tests/unit/dr/test_guard_lease.py",
    ),
    Protection(
        "a watch that is ended late in a lease watches no more",
        "roles/dr_guard/files/relevo_guard.py",
        "give_up = min(give_up, now + LEAVING_SECONDS)",
        "give_up = now",
        "tests/unit/dr/test_guard_lease.py",
    ),
    Protection(
        "a watch that is started anew forgets what it gave",
        "roles/dr_guard/files/relevo_guard.py",
        "        given = read_running(GIVEN)\n",
        "        given: dict[str, Any] = {}\n",
        "tests/unit/dr/test_guard_lease.py",
    ),
    Protection(
        "a disk that hangs keeps an isolated primary alive",
        "roles/dr_guard/files/relevo_guard.py",
        "    marking.join(0.0 if now >= end else 0.5)\n",
        "    marking.join()\n",
        "tests/unit/dr/test_guard_lease.py",
    ),
    Protection(
        "a full disk leaves a stopped host without its mark",
        "roles/dr_guard/files/relevo_guard.py",
        "            use_reserve(mark)\n",
        "            pass\n",
        "tests/unit/dr/test_guard_lease.py",
    ),
    Protection(
        "a fence lifted beside a primary that took another way",
        "roles/dr_guard/files/relevo_guard.py",
        'return lineage.state == "shut down" and lineage.location < fork',
        "return True",
        "tests/unit/dr/test_guard_lift.py",
    ),
    Protection(
        "a fence lifted while nobody answers",
        "roles/dr_guard/files/relevo_guard.py",
        "    if seen.action == WRITABLE:\n        return seen\n",
        "    if seen.action in (WRITABLE, HOLD_READ_ONLY):\n        return replace(seen, action=WRITABLE)\n",
        "tests/unit/dr/test_guard_lift.py",
    ),
    Protection(
        "a timeline of one's own is taken for the primary's by its number",
        "roles/dr_guard/files/relevo_guard.py",
        "if lineage.own == shared and _followed(",
        "if _followed(",
        "tests/unit/dr/test_guard_lift.py",
    ),
    Protection(
        "a primary that forked at the same place is taken for a standby",
        "roles/dr_guard/files/relevo_guard.py",
        'return lineage.state in ("shut down in recovery", "in archive recovery")',
        "return True",
        "tests/unit/dr/test_guard_lift.py",
    ),
    Protection(
        "a standby that replayed beyond the fork follows",
        "roles/dr_guard/files/relevo_guard.py",
        'label = "Minimum recovery ending location" if state == "shut down in recovery" else "Latest checkpoint location"',
        'label = "Latest checkpoint location"',
        "tests/unit/dr/test_guard_lift.py",
    ),
    Protection(
        "a fence lifted by hand while a run is at work",
        "roles/dr_guard/files/relevo_guard.py",
        "    if locked is not None:\n        return False, locked\n",
        "",
        "tests/unit/dr/test_guard_lift.py",
    ),
    Protection(
        "a host started by hand while a run is at work",
        "roles/dr_guard/files/relevo_guard.py",
        "    if locked is not None:\n        say(",
        "    if False:\n        say(",
        "tests/unit/dr/test_guard_lift.py",
    ),
    Protection(
        "a host that answers is named as lost",
        "roles/dr_guard/files/relevo_guard.py",
        "        if wrong:\n",
        "        if False:\n",
        "tests/unit/dr/test_guard_lift.py",
    ),
    Protection(
        "a giver that cannot be asked kept the old primary alive",
        f"{DR}/module_utils/lease.py",
        "    if silent:\n",
        "    if False:\n",
        "tests/unit/dr/test_lease.py",
    ),
    Protection(
        "an inventory that lost a host proves that nobody heard the old primary",
        f"{DR}/module_utils/lease.py",
        'if last.get("heard_by") != digest(known):',
        "if False:",
        "tests/unit/dr/test_lease.py",
    ),
    Protection(
        "a self-fence that was not armed",
        f"{DR}/module_utils/lease.py",
        "if armed <= 0:",
        "if False:",
        "tests/unit/dr/test_lease.py",
    ),
    Protection(
        "a write without an answer renews a lease unseen",
        f"{DR}/module_utils/lease.py",
        'event.get("sent_mono", event["mono"])',
        'event["mono"] if event["outcome"] == "accepted" else None',
        "tests/unit/dr/test_lease.py",
    ),
    Protection(
        "the backup after a promotion begins before the first checkpoint",
        "roles/dr_pgbackrest/files/relevo_backup.py",
        "        settle(work.settings)\n",
        "",
        "tests/unit/dr/test_backup_program.py",
    ),
    Protection(
        "a standby is built from whatever backup pgBackRest takes by itself",
        f"{DR}/module_utils/standby_steps.py",
        '        chosen = ["--repo=%d" % backup[0], "--set=%s" % backup[1]]\n',
        "        chosen = []\n",
        "tests/unit/dr/test_standby_steps.py",
    ),
    Protection(
        "a living primary is left with more loss than was accepted",
        f"{DR}/module_utils/gates.py",
        "bound is not None and behind <= bound\n        yield",
        "bound is not None\n        yield",
        "tests/unit/dr/test_gates.py",
    ),
    Protection(
        "a weak fence that nobody accepted",
        f"{DR}/plugin_utils/fencing.py",
        'if not judged.get("accepted"):',
        "if False:",
        "tests/unit/dr/test_fencing.py",
    ),
    Protection(
        "a dead self-fence looks armed",
        f"{DR}/module_utils/guard_state.py",
        'if seconds and not watch.get("alive"):',
        "if False:",
        "tests/unit/dr/test_guard.py",
    ),
    Protection(
        "a standby takes itself for a primary, gives no lease and stops itself",
        "roles/dr_guard/files/relevo_guard.py",
        'return pid, "standby" if recovering and state == "ready" else state',
        "return pid, state",
        "tests/unit/dr/test_guard_lease.py",
    ),
    Protection(
        "a backup that does not lead to the present",
        f"{DR}/modules/pgbackrest_backup.py",
        "if not wal_archive.missing(",
        "if True or wal_archive.missing(",
        "tests/unit/dr/test_first_backup.py",
    ),
    Protection(
        "an operator approves their own run",
        f"{DR}/module_utils/approval.py",
        "if known[one.approver].account != operator]",
        "]",
        "tests/unit/dr/test_approval.py",
    ),
    Protection(
        "an approval of another plan",
        f"{DR}/module_utils/approval.py",
        "if one.digest == wanted and one.approver in known]",
        "if one.approver in known]",
        "tests/unit/dr/test_approval.py",
    ),
    Protection(
        "an approval that nobody signed",
        f"{DR}/plugin_utils/approvals.py",
        "return statement if verifies(",
        "return statement if True or verifies(",
        "tests/unit/dr/test_approval.py",
    ),
    Protection(
        "a host whose question failed is taken for a silent one",
        f"{DR}/action/preflight.py",
        'if not control.exists("%s/%s" % (kind, host)):',
        "if False:",
        "tests/unit/dr/test_looking.py",
    ),
    Protection(
        "the number of a living postmaster is forgotten, and a second one is started beside it",
        "roles/dr_guard/files/relevo_guard.py",
        "    if not server_processes(settings):\n        remove(",
        "    if True:\n        remove(",
        "tests/unit/dr/test_guard_lease.py",
    ),
    Protection(
        "a host that died before it said who it is is nobody",
        f"{DR}/modules/witness_info.py",
        'if newest["system_identifier"] is None:',
        "if False:",
        "tests/unit/dr/test_long_outage.py",
    ),
    Protection(
        "what expires while it is read is called damaged",
        f"{DR}/module_utils/backup_verification.py",
        "problems = {path: what for path, what in problems.items() if path in look.stored}",
        "pass",
        "tests/unit/dr/test_backup_verification.py",
    ),
    Protection(
        "a segment that arrives late is called a hole",
        f"{DR}/module_utils/backup_verification.py",
        "holes=tuple(segment for segment in again.holes if segment in look.holes),",
        "holes=again.holes,",
        "tests/unit/dr/test_backup_verification.py",
    ),
    Protection(
        "what expires between two questions is called missing",
        f"{DR}/module_utils/backup_verification.py",
        "        if look.whole:\n",
        "        if True:\n",
        "tests/unit/dr/test_backup_verification.py",
    ),
    Protection(
        "a manifest that is never read again",
        f"{DR}/module_utils/backup_verification.py",
        'return "" if _digest(reader.text(place)) == kept["digest"] else',
        'return "" if True else',
        "tests/unit/dr/test_backup_verification.py",
    ),
    Protection(
        "a full verification that trusts what it remembers",
        f"{DR}/module_utils/backup_verification.py",
        "{} if wish.full else memory.manifests",
        "memory.manifests",
        "tests/unit/dr/test_backup_verification.py",
    ),
    Protection(
        "a history that cannot be true is believed",
        f"{DR}/module_utils/backup_verification.py",
        "        if wal_archive.is_whole(text, timeline, histories):\n",
        "        if True:\n",
        "tests/unit/dr/test_backup_verification.py",
    ),
    Protection(
        "a history that does not repeat that of its parent",
        f"{DR}/module_utils/wal_archive.py",
        "return list(others.get(timelines[-1], forks[:-1])) == forks[:-1]",
        "return True",
        "tests/unit/dr/test_backup_verification.py",
    ),
    Protection(
        "a silent store is waited for at every object",
        f"{DR}/module_utils/backup_verification.py",
        "        if len(before) >= _SILENCES:\n",
        "        if False:\n",
        "tests/unit/dr/test_backup_verification.py",
    ),
    Protection(
        "a store that stammers is called a damaged object",
        f"{DR}/module_utils/backup_verification.py",
        "        problems.update(_read(reader, again, look, wish.workers))\n",
        "        problems.update({path: str(path) for path in again})\n",
        "tests/unit/dr/test_backup_verification.py",
    ),
    Protection(
        "a silent store is called a damaged object",
        f"{DR}/module_utils/backup_verification.py",
        "            if isinstance(what, PgbackrestError) and what.of_store:\n",
        "            if False:\n",
        "tests/unit/dr/test_backup_verification.py",
    ),
    Protection(
        "the end of the newest backup is not missed",
        f"{DR}/module_utils/wal_archive.py",
        "        last[stop.timeline] = max(stop.number, last.get(stop.timeline, stop.number))\n",
        "",
        "tests/unit/dr/test_wal_archive.py",
    ),
    Protection(
        "a promotion that was given up needs its first segment",
        f"{DR}/module_utils/wal_archive.py",
        "last.get(timeline, begin - 1)",
        "last.get(timeline, begin)",
        "tests/unit/dr/test_wal_archive.py",
    ),
    Protection(
        "a hole before a fork is not missed",
        f"{DR}/module_utils/wal_archive.py",
        "                last[fork.parent] = max(at - 1, last.get(fork.parent, at - 1))",
        "                pass",
        "tests/unit/dr/test_wal_archive.py",
    ),
    Protection(
        "bytes behind the end of a file",
        f"{DR}/module_utils/repository_reader.py",
        ' or (size > end and path.split("/")[3:4] != ["bundle"])',
        "",
        "tests/unit/dr/test_repository_reader.py",
    ),
    Protection(
        "old backups of another cluster pass for new ones",
        f"{DR}/module_utils/stanza.py",
        "    all_backups = current_backups(info)",
        "    all_backups = backups(info)",
        "tests/unit/dr/test_backup_gates.py",
    ),
    Protection(
        "the WAL of another cluster is asked for the old backups",
        f"{DR}/module_utils/backup_verification.py",
        "for entry in stanza.current_backups(info))",
        "for entry in stanza.backups(info))",
        "tests/unit/dr/test_backup_verification.py",
    ),
    Protection(
        "the window spans a hole",
        f"{DR}/module_utils/restorable.py",
        "    return {*findings.holes, *wal_archive.split(findings.archive), *wrong.segments}",
        "    return set()",
        "tests/unit/dr/test_backup_gates.py",
    ),
    Protection(
        "a backup without its own WAL covers its hour",
        f"{DR}/module_utils/restorable.py",
        "    return span is None or not any(",
        "    return True or not any(",
        "tests/unit/dr/test_backup_gates.py",
    ),
    Protection(
        "an abandoned timeline leads to the present",
        f"{DR}/module_utils/restorable.py",
        '"the end of timeline %d" % stop.timeline',
        '""',
        "tests/unit/dr/test_backup_gates.py",
    ),
    Protection(
        "a damaged backup covers its hour",
        f"{DR}/module_utils/restorable.py",
        'and not broken & {backup["label"], *(backup.get("reference") or ())}',
        "and True",
        "tests/unit/dr/test_backup_gates.py",
    ),
    Protection(
        "a hole in the WAL passes",
        f"{DR}/module_utils/backup_gates.py",
        "    if findings.holes:\n",
        "    if False:\n",
        "tests/unit/dr/test_backup_gates.py",
    ),
    Protection(
        "a window without a way to the present passes",
        f"{DR}/module_utils/backup_gates.py",
        "    if now is None:\n",
        "    if False:\n",
        "tests/unit/dr/test_backup_gates.py",
    ),
    Protection(
        "the work of a plan is quadratic",
        f"{DR}/module_utils/reading_plan.py",
        "if path not in unread)",
        "if path not in set(list(unread)))",
        "tests/unit/dr/test_reading_plan.py",
    ),
    Protection(
        "what is overdue is not read",
        f"{DR}/module_utils/reading_plan.py",
        "        if not overdue and taken",
        "        if taken",
        "tests/unit/dr/test_reading_plan.py",
    ),
    Protection(
        "a quiet primary that never archives",
        f"{DR}/module_utils/gates.py",
        "0 < seconds <= limits.archive_timeout_seconds",
        "seconds <= limits.archive_timeout_seconds",
        "tests/unit/dr/test_backup_verify.py",
    ),
    Protection(
        "a repository that is left out gets a proven end",
        f"{DR}/action/backup_verify.py",
        'for number in answer["read_back"]}',
        "for number in (1, 2)}",
        "tests/unit/dr/test_backup_verify.py",
    ),
    Protection(
        "a left out repository is no matter to the probe",
        f"{DR}/module_utils/archive_proof.py",
        "    if not unused:\n",
        "    if True:\n",
        "tests/unit/dr/test_backup_verify.py",
    ),
    Protection(
        "a trial run protects",
        "runner/relevo/store.py",
        'if not document["check_mode"]), None)',
        "), None)",
        "tests/unit/runner/test_store.py",
    ),
    Protection(
        "the window of a refusal spans a hole",
        f"{DR}/module_utils/restore_target.py",
        "            if cut is None or cut >= backup.stop:",
        "            if True:",
        "tests/unit/dr/test_restore_target.py",
    ),
    Protection(
        "repositories that restore to different points",
        f"{DR}/module_utils/restore_alike.py",
        'if len({test["replayed_to_lsn"] for test in tests}) == 1 and len(commits) <= 1:',
        "if True:",
        "tests/unit/dr/test_restore_alike.py",
    ),
    Protection(
        "an RPO of a restore that did not come to the end",
        f"{DR}/module_utils/rehearsal.py",
        'if test["kind"] != END or not any(rung["id"] == "R5" and rung["verdict"] == "pass" for rung in rungs):',
        "if False:",
        "tests/unit/dr/test_rehearsal.py",
    ),
    Protection(
        "a sandbox that is given the key which writes",
        f"{DR}/module_utils/pgbackrest_file.py",
        'if repository.get("read_" + key)},',
        "if False},",
        "tests/unit/dr/test_pgbackrest_file.py",
    ),
    Protection(
        "a busy store is taken for one that refuses to delete",
        f"{DR}/plugin_utils/bucket.py",
        "    if _refuses(error):",
        "    if True:",
        "tests/unit/dr/test_bucket.py",
    ),
    Protection(
        "a canary that a bucket with a default retention does not take",
        f"{DR}/plugin_utils/bucket.py",
        ", ContentMD5=digest",
        "",
        "tests/unit/dr/test_bucket.py",
    ),
    Protection(
        "a page on paper fetches what a host names",
        "runner/relevo/paper.py",
        "URLFetcher(allowed_protocols=())",
        "URLFetcher()",
        "tests/unit/runner/test_paper.py::test_nothing_is_fetched_for_a_page",
    ),
    Protection(
        "who takes no file hears nothing",
        "runner/relevo/targets.py",
        "return self._try(notice, None)",
        "return self._try(notice, attachment)",
        "tests/unit/runner/test_mail.py::test_a_server_that_takes_no_such_mail_takes_the_words",
    ),
    Protection(
        "what nobody saw is green in JUnit",
        "runner/relevo/junit.py",
        '"unknown": _FAILURE',
        '"unknown": None',
        "tests/unit/runner/test_junit.py",
    ),
    Protection(
        "a control character ends a report",
        "runner/relevo/wording.py",
        'return _UNSEEN.sub("", text)',
        "return text",
        "tests/unit/runner/test_junit.py",
    ),
    Protection(
        "a host writes Markdown",
        "runner/relevo/report.py",
        "return _MARKDOWN.sub(lambda found: _ESCAPED[found[0]], ",
        "return str(",
        "tests/unit/runner/test_report_forms.py::test_what_hosts_say_changes_no_page_and_gets_lost_nowhere",
    ),
]

ON_THE_LABORATORY = [
    Protection(
        "the old primary is unreachable: promoted without a fence",
        f"{DR}/module_utils/gates.py",
        'or "none is configured"),\n                expected,\n                FAIL,',
        'or "none is configured"),\n                expected,\n                PASS,',
        "tests/integration/test_refusals.py::test_a_dead_primary_that_nobody_can_fence",
    ),
    Protection(
        "an unreachable host ends the playbook, neither rescue nor always runs",
        f"{DR}/action/discover.py",
        '            return {"reachable": False, "denied": False, "error": silent}',
        "            raise AnsibleConnectionFailure(silent)",
        "tests/integration/test_failover.py::test_a_killed_primary_fails_over_under_load_and_the_record_accounts_for_everything",
    ),
    Protection(
        "--limit hides the fence",
        f"{DR}/plugin_utils/controller.py",
        'if options.get("subset"):',
        "if False:",
        "tests/integration/test_refusals.py::test_options_that_hide_hosts_or_tasks",
    ),
    Protection(
        "--start-at-task skips the gates",
        f"{DR}/plugin_utils/control.py",
        'raise ControlError("this run has no %s: an earlier step of the runbook did not run" % name) from None',
        "return {}",
        "tests/integration/test_refusals.py::test_a_start_in_the_middle_finds_no_opened_run",
    ),
    Protection(
        "a callback that raises leaves the play running",
        f"{DR}/plugin_utils/control.py",
        'raise ControlError("no recorder has opened a record for this run")',
        'return cls("none", os.environ["RELEVO_STORE"])',
        "tests/integration/test_refusals.py::test_without_a_record_nothing_is_changed",
    ),
    Protection(
        "a template in an extra-var is executed on the controller",
        f"{DR}/module_utils/inputs.py",
        "if _TEMPLATE.search(text):",
        "if False:",
        "tests/integration/test_refusals.py::test_words_that_are_missing_wrong_or_not_the_operators_to_say",
    ),
    Protection(
        "a fenced host that somebody starts with bare hands",
        f"{DR}/module_utils/server_stop.py",
        "    _write_standby_signal(server)\n    _forget_rebuild",
        "    _forget_rebuild",
        "tests/integration/test_failover.py::test_a_living_primary_is_stopped_cleanly_and_nothing_is_lost",
    ),
    Protection(
        "backends that outlive their postmaster",
        f"{DR}/module_utils/postgresql.py",
        "    found = []\n    for name in os.listdir",
        "    return []\n    for name in os.listdir",
        "tests/integration/test_failover.py::test_backends_that_outlive_their_postmaster_are_ended_too",
    ),
    Protection(
        "a crashed server whose number another process has by now does not start",
        "roles/dr_guard/files/relevo_guard.py",
        "    say(sentence(decision))\n    forget_dead_server(settings)\n",
        "    say(sentence(decision))\n",
        "tests/integration/test_guard.py::test_a_crashed_server_whose_number_another_process_has_now_starts",
    ),
    Protection(
        "two operators at once",
        f"{DR}/modules/run_lock.py",
        "if not held.expired(now, clock.boot_id()):",
        "if False:",
        "tests/integration/test_refusals.py::test_of_two_operators_at_once_exactly_one_goes_on",
    ),
]


def unmodified(tmp_path: Path) -> Path:
    """A copy of the project as it is."""
    copy = tmp_path / "project"
    shutil.copytree(ROOT, copy, ignore=LEFT_OUT, symlinks=True)
    (copy / ".venv").symlink_to(ROOT / ".venv")
    # Some house rules ask git which files there are.
    subprocess.run(["git", "init", "-q"], cwd=copy, check=True)
    subprocess.run(["git", "add", "-A"], cwd=copy, check=True)
    return copy


def without(protection: Protection, tmp_path: Path) -> Path:
    """A copy of the project without the protection."""
    copy = unmodified(tmp_path)
    path = copy / protection.file
    text = path.read_text()
    assert protection.old in text, (
        f"what protects against {protection.trap!r} no longer stands in {protection.file}: adjust this list"
    )
    path.write_text(text.replace(protection.old, protection.new, 1))
    subprocess.run(["git", "add", "-A"], cwd=copy, check=True)
    return copy


def outcome(copy: Path, test: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(copy / "runner"), "RELEVO_STORE": str(copy / ".relevo")}
    words = [ROOT / ".venv" / "bin" / "python", "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", test]
    return subprocess.run(words, cwd=copy, env=environment, capture_output=True, text=True, check=False, timeout=900)


def named(protection: Protection) -> str:
    return protection.trap.replace(" ", "-")


def nodes(protections: list[Protection]) -> list[str]:
    return sorted({protection.test for protection in protections})


def passes_with_it(test: str, tmp_path: Path) -> None:
    """A test that fails anyway, or is not found, would seem to notice everything."""
    done = outcome(unmodified(tmp_path), test)
    assert done.returncode == 0, f"{test} fails with every protection in place: {done.stdout[-2000:]}{done.stderr[-500:]}"


def notices(protection: Protection, tmp_path: Path) -> None:
    done = outcome(without(protection, tmp_path), protection.test)
    assert done.returncode == 1, f"{protection.test} did not notice: {done.stdout[-2000:]}{done.stderr[-500:]}"


@pytest.mark.parametrize("test", nodes(FAST))
def test_nothing_is_noticed_where_nothing_is_gone(test, tmp_path):
    passes_with_it(test, tmp_path)


@pytest.mark.parametrize("protection", FAST, ids=named)
def test_its_test_notices_that_a_protection_is_gone(protection, tmp_path):
    notices(protection, tmp_path)


@pytest.mark.full
@pytest.mark.parametrize("test", nodes(ON_THE_LABORATORY))
def test_nothing_is_noticed_on_the_laboratory_where_nothing_is_gone(test, tmp_path):
    passes_with_it(test, tmp_path)


@pytest.mark.full
@pytest.mark.parametrize("protection", ON_THE_LABORATORY, ids=named)
def test_its_scenario_notices_that_a_protection_is_gone(protection, tmp_path):
    notices(protection, tmp_path)
