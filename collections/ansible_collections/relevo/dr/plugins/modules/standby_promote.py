#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: standby_promote
short_description: Drain a standby and, with a token that proves the fence, promote it
description:
  - >-
    O(step=drain) waits until everything received and archived is replayed, probes every old database host meanwhile, and writes the challenge that a token
    must answer.
  - >-
    O(step=promote) verifies the token's signature, its answer to this host's challenge and the age of the challenge, probes every old database host again,
    compares the ledger's newest acknowledged references with this database, and only then promotes. A server that is a primary already is left as it is.
  - >-
    A server that was restored here is drained and promoted only where its mark, its position and its log say that it is at its goal, paused there where that
    is a point; its recovery parameters go away with the promotion. With O(restored) there must be such a mark.
  - With O(planned) nothing is promoted but on the old primary's hand-over, which the token names and this host's own replayed WAL holds.
  - O(step=withdraw) makes the challenge void, so that no token can answer it any more, and says whether this server is still a standby.
  - Acts only while this host's lock is held by the run.
options:
  step: {description: What to do., type: str, required: true, choices: [drain, promote, withdraw]}
  run_id: {description: The run., type: str, required: true}
  host: {description: Inventory name of this host., type: str, required: true}
  data_directory: {description: PGDATA., type: path, required: true}
  bin_directory: {description: Directory of psql., type: path, required: true}
  port: {description: Port of the server., type: int, default: 5432}
  database: {description: Database of the application., type: str, required: true}
  stanza: {description: pgBackRest stanza; empty when there is no archive., type: str, default: ''}
  pgbackrest_config: {description: pgBackRest's configuration file., type: path, default: /etc/pgbackrest/pgbackrest.conf}
  leave_out:
    description: Numbers of repositories that do not answer; they are taken out of this host's configuration before the drain, never the last one.
    type: list
    elements: int
    default: []
  old_hosts: {description: "Every other database host: host, address, port.", type: list, elements: dict, required: true}
  replay_target_lsn: {description: Shutdown checkpoint of the old primary, when it was stopped cleanly., type: str, default: ''}
  timeout_seconds: {description: Limit of this step., type: float, default: 60}
  token: {description: The token's canonical text., type: str, default: '', no_log: false}
  signature: {description: Its OpenSSH signature., type: str, default: ''}
  token_limit_seconds: {description: Greatest age of the challenge., type: float, default: 300, no_log: false}
  ledger_tail: {description: "Newest acknowledged ledger entries, oldest first: n, reference, at; null when there is no ledger.", type: list, elements: dict}
  ledger_present_sql: {description: A query with one column C(reference) of the references that are present., type: str, default: ''}
  accept_loss_seconds: {description: Accepted loss in seconds., type: float}
  accept_loss_transactions: {description: Accepted loss in ledger transactions., type: int}
  accept_unmeasured: {description: Whether a loss that cannot be measured was accepted by name., type: bool, default: false}
  accept_any_loss: {description: Whether any measured loss of a restored server was accepted by name., type: bool, default: false}
  restored: {description: Whether this server was restored by M(relevo.dr.standby_restore)., type: bool, default: false}
  planned: {description: Whether a hand-over by the old primary is demanded., type: bool, default: false}
  allowed_signers: {description: Controllers that this host believes., type: path, default: /etc/relevo/allowed_signers}
  letter: {description: "Wait for a letter of this name before anything is done; see C(module_utils/letter.py).", type: str, default: ''}
  letter_seconds: {description: How long to wait for it., type: float, default: 300}
  letter_silence_seconds: {description: How long the beat of the run may be missing meanwhile; 0 when there is none., type: float, default: 0}
attributes:
  check_mode: {support: none, description: Preflight and C(playbooks/check.yml) are the safe way to ask.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Drain this standby
  relevo.dr.standby_promote:
    step: drain
    run_id: 20261124T121530Z-failover-1f3a
    host: b-db1
    data_directory: /var/lib/postgresql/17/main
    bin_directory: /usr/lib/postgresql/17/bin
    database: minimarket
    old_hosts: [{host: a-db1, address: 192.0.2.11, port: 5432}]
"""

RETURN = r"""
position: {description: Replay position after the drain., returned: step is drain, type: dict}
nonce: {description: The challenge., returned: step is drain, type: str}
probes:
  description: "Of every old host, as seen from here: vantage, host, address, method, at, result (answers, refused, silent)."
  returned: step is drain or promote
  type: list
  elements: dict
promotion:
  description: "already, promotion_began_at, promoted_at, timeline, parent, fork_lsn, history (timeline, lsn), system_identifier."
  returned: step is promote
  type: dict
restore: {description: "What was restored here before; null when nothing was.", returned: step is promote, type: dict}
loss: {description: "What the ledger's tail shows as missing: transactions, seconds, numbers; null when not measured.", returned: step is promote, type: dict}
"""

import secrets
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils import (
    clock,
    handover_message,
    host_files,
    letter,
    promotion_token,
    repositories,
    restored_standby,
    standby,
)
from ansible_collections.relevo.dr.plugins.module_utils.loss import Loss, measure, within
from ansible_collections.relevo.dr.plugins.module_utils.milestone import Milestone
from ansible_collections.relevo.dr.plugins.module_utils.postgresql import PostgresqlError, Psql, lsn_bytes
from ansible_collections.relevo.dr.plugins.module_utils.probe import PATIENCE_SECONDS, probe
from ansible_collections.relevo.dr.plugins.module_utils.restore_target import END

_SERVER = """
select pg_is_in_recovery() as in_recovery, (select system_identifier::text from pg_control_system()) as system_identifier,
       (select timeline_id from pg_control_checkpoint()) as timeline, (select setting::bigint from pg_settings where name = 'wal_segment_size') as segment_bytes
"""


# How long a probe of this host waits that comes after a silent one, and for how long that one counts.
_AGAIN_SECONDS = 0.1
_MOMENT_SECONDS = 5.0
# What is only known when the old primary is fenced, or when it is lost, and so may come by letter.
LATE = {"drain": ("replay_target_lsn", "leave_out"), "promote": ("token", "signature", "ledger_tail"), "withdraw": ()}


class Stop(Exception):
    """Not promoted; the message is a sentence. loss: what was measured, when that is the reason."""

    def __init__(self, message: str, loss: Optional[Loss] = None) -> None:
        super().__init__(message)
        self.loss = loss


def drain(p: dict[str, Any], session: Psql) -> dict[str, Any]:
    # Before anything waits for them: the archive of the new primary must not hang on a store that is gone.
    left_out = repositories.leave_out(p["pgbackrest_config"], p["leave_out"], p["run_id"], "did not answer when the site was left")
    with ThreadPoolExecutor(max_workers=1) as pool:
        # A silent host costs a probe its whole time-out. A drain may take far longer than that.
        probed, probing = clock.boottime_seconds(), pool.submit(probe_old_hosts, p)
        server = session.row(_SERVER)
        mark = restored(p) if server["in_recovery"] else None
        position = at_its_goal(p, session, server, mark) if mark else replayed(p, session, server)
        probes = probing.result()
    nonce = secrets.token_hex(16)
    challenge = {
        "nonce": nonce,
        "run_id": p["run_id"],
        "boottime": clock.boottime_seconds(),
        "boot_id": clock.boot_id(),
        "probes": probes,
        "probed_boottime": probed,
        # What this host was told when it was protected counts as well: a controller's shorter list must not make the fence smaller.
        "old_hosts": sorted({*(old["host"] for old in p["old_hosts"]), *host_files.read_peers()}),
    }
    if p.get("planned"):
        challenge["handover_of"] = handover_message.chain(host_files.read_journal(1 << 20), p["run_id"])
    host_files.write_challenge(challenge)
    return {
        "position": position,
        "nonce": nonce,
        "probes": probes,
        "system_identifier": server["system_identifier"],
        "in_recovery": server["in_recovery"],
        "left_out": left_out,
    }


def restored(p: dict[str, Any]) -> Optional[dict[str, Any]]:
    """The mark of a restore on this host, which must be at its goal. Raises NotReached, or Stop where one is expected and there is none."""
    mark = restored_standby.unfinished()
    if mark is None and p.get("restored"):
        raise Stop(
            "nothing was restored on this host, and a restore was wanted. Next: start the failover again; nothing was promoted"
        )
    if mark is not None:
        restored_standby.check_reached(mark)
    return mark


def at_its_goal(p: dict[str, Any], session: Psql, server: dict[str, Any], mark: dict[str, Any]) -> dict[str, Any]:
    """The position of a restored server, with what proves it. Raises NotReached."""
    goal, position = mark["goal"], {"archive_replayed": None, "target_replayed": None}
    if goal["kind"] == END:
        archive = standby.Archive(p["pgbackrest_config"], p["stanza"], server["segment_bytes"], int(goal["timeline"]), 2.0)
        position = standby.drain(session, archive, p["replay_target_lsn"] or None, p["timeout_seconds"])
    seen = session.row(restored_standby.POSITION)
    more = False if position["archive_replayed"] or position["target_replayed"] else None
    evidence = restored_standby.reached(goal, seen, restored_standby.server_log(mark, seen), more)
    return {**position, **{name: seen[name] for name in ("in_recovery", "replay_lsn", "last_replayed_at")}, "restored": evidence}


def replayed(p: dict[str, Any], session: Psql, server: dict[str, Any]) -> dict[str, Any]:
    """The position of a standby that has everything that was received and archived."""
    archive = None
    # The shutdown of a planned run comes by replication or not at all: it ends no segment, so no archive gets it in time.
    if p["stanza"] and server["in_recovery"] and not p.get("planned"):
        receiver = session.query("select received_tli from pg_stat_wal_receiver")
        timeline = receiver[0]["received_tli"] if receiver else server["timeline"]
        archive = standby.Archive(p["pgbackrest_config"], p["stanza"], server["segment_bytes"], timeline, 2.0)
    return standby.drain(session, archive, p["replay_target_lsn"] or None, p["timeout_seconds"])


def check_token(p: dict[str, Any], system_identifier: str) -> promotion_token.Token:
    """The token, when it may be believed. Raises TokenError; the challenge's age is judged by this host's own clock within one boot."""
    challenge = host_files.read_challenge()
    if challenge is None or challenge.get("boot_id") != clock.boot_id():
        raise promotion_token.TokenError("this host made no challenge since it was started")
    promotion_token.verify_signature(p["token"], p["signature"], p["allowed_signers"])
    token = promotion_token.parse(p["token"])
    age_seconds = clock.boottime_seconds() - float(challenge["boottime"])
    promotion_token.check(token, p["run_id"], p["host"], system_identifier, challenge, age_seconds, p["token_limit_seconds"])
    return token


def check_handover(p: dict[str, Any], session: Psql, handover: dict[str, Any]) -> None:
    """Raises Stop unless this server has replayed the old primary's message and its shutdown after it."""
    replayed = session.row("select pg_last_wal_replay_lsn()::text as lsn")["lsn"]
    if not lsn_bytes(replayed) > lsn_bytes(handover["shutdown_lsn"]) > lsn_bytes(handover["from_lsn"]):
        raise Stop(
            "this standby has replayed up to %s and not the old primary's shutdown at %s. Next: see why it does not follow; nothing was promoted"
            % (replayed, handover["shutdown_lsn"])
        )
    printed = handover_message.read_wal(p["bin_directory"], p["data_directory"], handover["timeline"], handover)
    handover_message.judge(printed, handover)


def withdraw(p: dict[str, Any], session: Psql) -> dict[str, Any]:
    """After this no token can be answered: what was not promoted by now is not promoted by this run."""
    host_files.drop_challenge()
    return {"in_recovery": session.row(_SERVER)["in_recovery"]}


def probe_old_hosts(p: dict[str, Any], silent: Collection[str] = ()) -> list[dict[str, Any]]:
    """One probe of each. silent: hosts that a whole probe of this host found so a moment ago; who has come back since then answers at once."""

    def asked(old: dict[str, Any]) -> dict[str, Any]:
        patience_seconds = _AGAIN_SECONDS if old["host"] in silent else PATIENCE_SECONDS
        return probe(p["host"], old["host"], old["address"], int(old["port"]), patience_seconds)

    with ThreadPoolExecutor(max_workers=max(1, len(p["old_hosts"]))) as pool:
        return list(pool.map(asked, p["old_hosts"]))


def silent_a_moment_ago(run_id: str) -> set[str]:
    """The old hosts that did not answer this run's drain, where that is no longer ago than a moment."""
    challenge = host_files.read_challenge() or {}
    if (challenge.get("run_id"), challenge.get("boot_id")) != (run_id, clock.boot_id()):
        return set()
    if not 0 <= clock.boottime_seconds() - challenge["probed_boottime"] < _MOMENT_SECONDS:
        return set()
    return {found["host"] for found in challenge["probes"] if found["result"] == "silent"}


def check_loss(p: dict[str, Any], session: Psql, *, by_wish: bool = False) -> Optional[Loss]:
    """Raises Stop when more is missing than was accepted, or when the loss could not be measured and that was not accepted by name.

    by_wish: of a restored server, of which any loss can be accepted by name.
    """
    if not p["ledger_tail"] or not p["ledger_present_sql"]:
        if p["accept_unmeasured"]:
            return None
        raise Stop(
            "the loss cannot be measured: the ledger of the witness was not read, or was not at work. Next: bring the witness back, or start again with"
            " -e dr_accept_unknown=LOSS and -e dr_reason=..."
        )
    references = ", ".join("'%s'" % entry["reference"].replace("'", "''") for entry in p["ledger_tail"])
    rows = session.query("select reference from (%s) ledger where reference in (%s)" % (p["ledger_present_sql"], references))
    loss = measure(p["ledger_tail"], {row["reference"] for row in rows})
    if by_wish and p["accept_any_loss"]:
        return loss
    if loss.transactions == len(p["ledger_tail"]):
        # A bound says nothing here: the tail has an end, and the loss may go on behind it.
        if p["accept_unmeasured"]:
            return loss
        raise Stop(
            "none of the newest %d acknowledged ledger transactions is on this server, so that more may be missing than the %.3f s that they span."
            " Next: bring the old primary's WAL here, or start again with -e dr_accept_unknown=LOSS and -e dr_reason=..."
            % (loss.transactions, loss.seconds),
            loss,
        )
    if not within(loss, p["accept_loss_seconds"], p["accept_loss_transactions"]):
        raise Stop(
            "%d acknowledged ledger transactions (%.3f s) are missing on this standby, more than was accepted. Next: bring the old primary's WAL here, or"
            " start again with -e dr_accept_loss_transactions=%d -e dr_accept_loss_seconds=%.3f"
            % (loss.transactions, loss.seconds, loss.transactions, loss.seconds),
            loss,
        )
    return loss


def promote(p: dict[str, Any], session: Psql) -> dict[str, Any]:
    server = session.row(_SERVER)
    already = not server["in_recovery"]
    loss = None
    began_at = None
    probes: list[dict[str, Any]] = []
    if not already:
        with ThreadPoolExecutor(max_workers=1) as pool:
            # A silent host costs a probe its whole time-out.
            probing = pool.submit(probe_old_hosts, p, silent_a_moment_ago(p["run_id"]))
            token = check_token(p, server["system_identifier"])
            if p.get("planned"):
                check_handover(p, session, token.handover or {})
            mark = restored(p)
            loss = check_loss(p, session, by_wish=mark is not None)
            probes = probing.result()
        answering = [found["address"] for found in probes if found["result"] == "answers"]
        if answering:
            raise Stop(
                "%s still answers from here although it was fenced. Next: find out what runs there; nothing was promoted"
                % ", ".join(answering)
            )
        p["begun"] = True
        host_files.write_journal(p["run_id"], "PROMOTE", "intent", token=p["token"], signature=p["signature"])
        began_at = clock.utc_now()
        standby.promote(session, p["timeout_seconds"])
        # The first write: proves that a commit is possible, and leaves the run's id in the WAL.
        session.execute("select pg_logical_emit_message(true, 'relevo', 'promoted by %s')" % p["run_id"].replace("'", "''"))
    # Also the one that a run made which met a primary already: nobody is to answer it.
    host_files.drop_challenge()
    # Also where a run before this one died right after the promotion.
    settled = restored_standby.settle(session, p["run_id"])
    host_files.drop_build()
    promotion = {
        "already": already,
        "promotion_began_at": began_at,
        "promoted_at": clock.utc_now(),
        "system_identifier": server["system_identifier"],
        **standby.fork(p["data_directory"]),
    }
    host_files.write_journal(p["run_id"], "PROMOTE", "result", outcome="ok", promotion=promotion)
    return {
        "promotion": promotion,
        "loss": loss.as_dict() if loss else None,
        "probes": probes,
        "restore": restored_standby.shown(settled) if settled else None,
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "step": {"type": "str", "required": True, "choices": ["drain", "promote", "withdraw"]},
            "run_id": {"type": "str", "required": True},
            "host": {"type": "str", "required": True},
            "data_directory": {"type": "path", "required": True},
            "bin_directory": {"type": "path", "required": True},
            "port": {"type": "int", "default": 5432},
            "database": {"type": "str", "required": True},
            "stanza": {"type": "str", "default": ""},
            "pgbackrest_config": {"type": "path", "default": "/etc/pgbackrest/pgbackrest.conf"},
            "leave_out": {"type": "list", "elements": "int", "default": []},
            "old_hosts": {"type": "list", "elements": "dict", "required": True},
            "replay_target_lsn": {"type": "str", "default": ""},
            "timeout_seconds": {"type": "float", "default": 60},
            "token": {"type": "str", "default": "", "no_log": False},
            "signature": {"type": "str", "default": ""},
            "token_limit_seconds": {"type": "float", "default": 300, "no_log": False},
            "ledger_tail": {"type": "list", "elements": "dict"},
            "ledger_present_sql": {"type": "str", "default": ""},
            "accept_loss_seconds": {"type": "float"},
            "accept_loss_transactions": {"type": "int"},
            "accept_unmeasured": {"type": "bool", "default": False},
            "accept_any_loss": {"type": "bool", "default": False},
            "restored": {"type": "bool", "default": False},
            "planned": {"type": "bool", "default": False},
            "allowed_signers": {"type": "path", "default": "/etc/relevo/allowed_signers"},
            **letter.OPTIONS,
        },
        supports_check_mode=False,
    )
    name = module.params["step"].upper()
    try:
        p = letter.complete(module.params, module.params["run_id"], LATE[module.params["step"]])
    except letter.NoLetter as error:
        module.fail_json(msg="%s on %s: %s" % (name, module.params["host"], error))
    phase = Milestone(name, p["host"])
    try:
        with host_files.acting(p["run_id"]), Psql(p["bin_directory"], p["port"], p["database"]) as session:
            host_files.extend_lock(p["run_id"], p["timeout_seconds"] + 60)
            if p["step"] == "drain":
                host_files.write_journal(p["run_id"], name, "intent")
                result = drain(p, session)
                host_files.write_journal(p["run_id"], name, "result", outcome="ok", position=result["position"])
                detail = "replayed to %s" % result["position"]["replay_lsn"] if result["in_recovery"] else "is primary already"
            elif p["step"] == "withdraw":
                result = withdraw(p, session)
                host_files.write_journal(p["run_id"], name, "result", outcome="ok")
                detail = "no token is believed any more"
            else:
                result = promote(p, session)
                detail = (
                    "was primary already" if result["promotion"]["already"] else "timeline %d" % result["promotion"]["timeline"]
                )
    except (
        PostgresqlError,
        standby.DrainError,
        promotion_token.TokenError,
        handover_message.HandoverError,
        host_files.LockError,
        restored_standby.NotReached,
        Stop,
    ) as error:
        loss = getattr(error, "loss", None)
        module.fail_json(
            msg="%s on %s: %s" % (name, p["host"], error),
            phase=phase.ended("failed", str(error)),
            loss=loss.as_dict() if loss else None,
            begun=bool(p.get("begun")),
        )
    changed = p["step"] == "promote" and not result["promotion"]["already"]
    module.exit_json(changed=changed, phase=phase.ended(detail=detail), **result)


if __name__ == "__main__":
    main()
