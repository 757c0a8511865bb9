#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: restore_prove
short_description: Prove a restored copy, rung by rung
description:
  - >-
    Starts a server on the copy that archives nothing and follows nobody, waits until it is at its target, and climbs: starts and replays, target reached and
    nothing after it, pg_amcheck and page checksums, declared queries, a user who logs in to the application on the copy. Each rung is a gate with its evidence.
  - A rung that does not hold fails no task; M(relevo.dr.restore_clean) fails at the end. One that was not declared or was left out is C(unknown).
  - The action plugin of the same name reads the secrets that O(application) names; no secret is a variable.
options:
  test: {description: One element of what M(relevo.dr.restore_plan) returned., type: dict, required: true}
  copy: {description: What M(relevo.dr.restore_copy) returned for it., type: dict, required: true}
  before: {description: The tests before it in this run., type: list, elements: dict, default: []}
  directory: {description: Where copies go., type: path, required: true}
  owner: {description: Operating system user of the copies., type: str, default: postgres}
  bin_directory: {description: Directory of PostgreSQL's programs., type: path, required: true}
  port: {description: Port of the copy's socket., type: int, required: true}
  listen_addresses: {description: Where the copy listens; nowhere but its socket by default., type: str, choices: ["", "127.0.0.1"], default: ""}
  parameters: {description: More parameters of the copy's server., type: dict, default: {}}
  database: {description: The application's database., type: str, required: true}
  ledger_query:
    description: A query with one column C(reference) of all references of the ledger; empty when no witness writes one.
    type: str
    default: ""
  invariants: {description: "Queries (name, sql, expect) of the application.", type: list, elements: dict, default: []}
  application: {description: See the role dr_backup; empty when none is declared., type: dict, default: {}}
  secrets: {description: Filled by the action plugin., type: dict, default: {}}
  secrets_directory: {description: Where secrets are on the controller., type: str}
  skip: {description: Rungs to leave out., type: list, elements: str, default: []}
  page_checksums: {description: Whether the cluster is meant to have page checksums., type: bool, default: true}
  jobs: {description: Processes of pg_amcheck., type: int, default: 2}
  run_id: {description: The run; kept in the mark., type: str, required: true}
  host_name: {description: Name of this host in sentences., type: str, required: true}
  wait_timeout: {description: Seconds to wait for a task that a killed run left., type: float, default: 60}
  replay_timeout: {description: Seconds until the target must be reached., type: float, default: 86400}
  query_timeout: {description: Seconds for one declared query., type: float, default: 600}
  check_timeout: {description: Seconds for pg_amcheck and for the page checksums each., type: float, default: 86400}
attributes:
  check_mode: {support: full, description: Does nothing.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Prove it
  relevo.dr.restore_prove:
    test: "{{ __dr_backup_plan['tests'][0] }}"
    copy: "{{ __dr_backup_copy['copy'] }}"
    directory: /var/lib/postgresql/relevo-restore
    bin_directory: /usr/lib/postgresql/17/bin
    port: 5499
    database: minimarket
    run_id: 20261124T121530Z-restore_test-1f3a
    host_name: b-scratch
"""

RETURN = r"""
tests: {description: "I(before) and this test, as the record keeps them.", returned: success, type: list, elements: dict}
present: {description: "The ledger's numbers in the copy, as [prefix, first, last].", returned: success, type: list, elements: list}
point: {description: "Time of the last commit in the copy; empty when the ledger was not looked at.", returned: success, type: str}
"""

import os
import subprocess
from collections.abc import Mapping
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils import rehearsal, sandbox
from ansible_collections.relevo.dr.plugins.module_utils.milestone import Milestone, told
from ansible_collections.relevo.dr.plugins.module_utils.postgresql import PostgresqlError, controldata, owner_switch
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal
from ansible_collections.relevo.dr.plugins.module_utils.restore_ladder import (
    LEDGER,
    NOT_APPLICABLE,
    PROVE,
    Ladder,
    RungFailed,
    RungSkipped,
    arrived,
    predicted_rto,
    verdict,
)
from ansible_collections.relevo.dr.plugins.module_utils.restore_target import END
from ansible_collections.relevo.dr.plugins.module_utils.sandbox_application import Application, filled
from ansible_collections.relevo.dr.plugins.module_utils.sandbox_server import Server

START_SECONDS = 300
# References are prefix-number; neighbours are told as one range.
ISLANDS = """
select prefix, min(n) as first, max(n) as last
from (select prefix, n, n - dense_rank() over (partition by prefix order by n) as island
      from (select substring(reference from '^(.*)-[0-9]+$') as prefix, substring(reference from '-([0-9]+)$')::bigint as n
            from (%s) known where reference ~ '-[0-9]{1,15}$') numbered) neighbours
group by prefix, island order by prefix, first
"""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "test": {"type": "dict", "required": True},
            "copy": {"type": "dict", "required": True},
            "before": {"type": "list", "elements": "dict", "default": []},
            "directory": {"type": "path", "required": True},
            "owner": {"type": "str", "default": "postgres"},
            "bin_directory": {"type": "path", "required": True},
            "port": {"type": "int", "required": True},
            "listen_addresses": {"type": "str", "choices": ["", "127.0.0.1"], "default": ""},
            "parameters": {"type": "dict", "default": {}},
            "database": {"type": "str", "required": True},
            "ledger_query": {"type": "str", "default": ""},
            "invariants": {"type": "list", "elements": "dict", "default": []},
            "application": {"type": "dict", "default": {}},
            "secrets": {"type": "dict", "default": {}, "no_log": True},
            "secrets_directory": {"type": "str"},
            "skip": {"type": "list", "elements": "str", "default": []},
            "page_checksums": {"type": "bool", "default": True},
            "jobs": {"type": "int", "default": 2},
            "run_id": {"type": "str", "required": True},
            "host_name": {"type": "str", "required": True},
            "wait_timeout": {"type": "float", "default": 60},
            "replay_timeout": {"type": "float", "default": 86400},
            "query_timeout": {"type": "float", "default": 600},
            "check_timeout": {"type": "float", "default": 86400},
        },
        supports_check_mode=True,
    )
    p = module.params
    test = p["test"]
    number = int(test["number"])
    suffix = "" if number == 1 else " %d" % number
    milestone = Milestone(PROVE + suffix, p["host_name"])
    if module.check_mode:
        module.exit_json(
            changed=False, tests=[], present=[], point="", **told(phases=[milestone.ended("skipped", "check mode proves nothing")])
        )
    proof = Proof(p)
    try:
        with sandbox.held(proof.place, p["run_id"], p["wait_timeout"]):
            proof.climb()
    except Refusal as refusal:
        module.fail_json(msg=str(refusal), **told(gates=[refusal.gate]))
    except (OSError, PostgresqlError) as error:
        module.fail_json(
            msg="%s: proving %s failed: %s. Next: mend that, then run the test again" % (p["host_name"], test["label"], error)
        )
    what = "%s in repository %s to %s" % (test["label"], test["repository"], test["target"])
    outcome, detail = proof.ladder.outcome(PROVE)
    tests = [*p["before"], proof.told()]
    module.exit_json(
        changed=True,
        tests=tests,
        present=proof.present or [],
        point=proof.point() if proof.present is not None else "",
        **told(
            gates=proof.ladder.gates(p["host_name"], what, suffix, PROVE),
            phases=[milestone.ended(outcome, "%s: %s" % (what, detail))],
            measures={"restore_tests": tests},
            versions={"postgresql": proof.version} if proof.version else {},
        ),
    )


class Proof:
    """The rungs of one copy."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._p, self._test, self._copy = parameters, parameters["test"], parameters["copy"]
        self.place = sandbox.Place(parameters["directory"], parameters["owner"])
        self.ladder = Ladder(self._copy["rungs"], parameters["skip"])
        self._server = Server(self.place, parameters)
        self._position: dict[str, Any] = {}
        self._last_commit: Optional[str] = None
        self._replay_seconds: Optional[float] = None
        self.version = ""
        self.present: Optional[list[list[Any]]] = None

    def climb(self) -> None:
        """The rungs R4 to R8; the server is stopped in any case."""
        sandbox.write_mark(self.place, self._p["run_id"], "proving")
        sandbox.stop_servers(self.place)
        try:
            if self.ladder.climb("R4", self._starts):
                self._replay_seconds = self.ladder.rungs[-1].seconds
            self.ladder.climb("R5", self._target)
            self.ladder.climb("R6", self._pages)
            self.ladder.climb("R7", self._invariants)
            self.ladder.climb("R8", self._login)
            self.ladder.climb(LEDGER, self._ledger)
        finally:
            self._server.stop()
            sandbox.write_mark(self.place, self._p["run_id"], "proven" if not self.ladder.broken else "failed")

    def told(self) -> dict[str, Any]:
        """The test as the record keeps it."""
        test, copy = self._test, self._copy
        whole = copy["restored_bytes"] if not copy["delta"] else None
        seconds = copy["restore_seconds"] if not copy["delta"] else None
        return {
            "number": test["number"],
            "repository": test["repository"],
            "label": test["label"],
            "timeline": test["timeline"],
            "target_kind": test["kind"],
            "target": test["target"],
            "verdict": verdict(self.ladder.rungs),
            "proven_up_to": self.ladder.reached,
            "rungs": self.ladder.told(),
            "delta": copy["delta"],
            "restored_bytes": copy["restored_bytes"],
            "restore_seconds": copy["restore_seconds"],
            "restore_bytes_per_second": round(whole / seconds) if whole and seconds else None,
            "replay_seconds": self._replay_seconds,
            "replay_bytes": test.get("replay_bytes"),
            "replayed_to_lsn": self._position.get("replayed"),
            "last_commit_at": self._last_commit,
            "backup_stopped_at": test["backup_stopped_at"],
            "archive_end_commit_at": test["end_commit_at"],
            "rpo_seconds": rehearsal.proven_loss(test, self.ladder.told()),
            "live_bytes": test["live_bytes"],
            "predicted_rto_seconds": predicted_rto(test["live_bytes"], whole, seconds, self._replay_seconds),
        }

    def point(self) -> str:
        """The time up to which all that was committed is in the copy."""
        return str(self._last_commit or self._test["backup_stopped_at"])

    def _starts(self) -> str:
        control = controldata(self._p["bin_directory"], self.place.data, self.place.owner)
        if control.get("Database system identifier") != self._test["system_identifier"]:
            raise RungFailed(
                "the copy has system identifier %s" % control.get("Database system identifier"),
                "stop; this is another cluster's backup",
            )
        self._server.start(fresh=True)
        self._position = self._server.wait_at_rest(target=self._test["kind"] != END, seconds=self._p["replay_timeout"])
        self._last_commit = self._position["last_commit"]
        with self._server.session() as session:
            self.version = session.row("select current_setting('server_version') as version")["version"].split()[0]
        return "replayed to %s; %s" % (self._position["replayed"], self._server.check_harmless())

    def _target(self) -> str:
        arrival = self._server.arrival(self._position, self._p["database"])
        test = self._test
        return arrived(test["kind"], test["value"], arrival, test["end_lsn"], test["end_commit_at"])

    def _pages(self) -> str:
        self._server.promote(START_SECONDS)
        self._run(
            [
                "pg_amcheck",
                "--all",
                "--install-missing",
                "--heapallindexed",
                "--parent-check",
                "--jobs=%d" % self._p["jobs"],
                "--no-password",
                "--host=%s" % self.place.sockets,
                "--port=%d" % self._p["port"],
                "--username=%s" % self.place.owner,
            ],
            "pg_amcheck found damage",
        )
        # Page checksums are counted on a server that is stopped: tables, indexes of every kind, and what no query reads.
        self._server.stop()
        if controldata(self._p["bin_directory"], self.place.data, self.place.owner).get("Data page checksum version") == "0":
            self._server.start(fresh=False)
            self._server.ready(START_SECONDS)
            if self._p["page_checksums"]:
                raise RungSkipped(
                    "pg_amcheck found nothing, but the cluster has no page checksums",
                    "enable them (pg_checksums), or say dr_backup_prove_page_checksums: false",
                )
            return "pg_amcheck found nothing in any database; the cluster is declared to have no page checksums"
        said = self._run(["pg_checksums", "--check", "--pgdata=%s" % self.place.data], "page checksums do not match")
        counted = {label.strip(): value.strip() for label, _, value in (line.partition(":") for line in said.splitlines())}
        self._server.start(fresh=False)
        self._server.ready(START_SECONDS)
        return "pg_amcheck found nothing in any database; %s blocks, bad checksums: %s" % (
            counted.get("Blocks scanned", "?"),
            counted.get("Bad checksums", "?"),
        )

    def _run(self, command: list[str], meaning: str) -> str:
        words = [os.path.join(self._p["bin_directory"], command[0]), *command[1:]]
        try:
            done = subprocess.run(
                words,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                timeout=self._p["check_timeout"],
                cwd="/",
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
                **owner_switch(self.place.owner),
            )
        except subprocess.TimeoutExpired:
            raise RungFailed(
                "%s had no result within %g s" % (command[0], self._p["check_timeout"]),
                "raise dr_backup_prove_check_timeout_seconds",
            ) from None
        if done.returncode != 0:
            said = " ".join((done.stdout.strip() + " " + done.stderr.strip()).split())[:400]
            raise RungFailed(
                "%s: %s" % (meaning, said),
                "look at the same relation on the primary; restore it from an older backup if it is damaged there",
            )
        return str(done.stdout)

    def _invariants(self) -> str:
        if not self._p["invariants"]:
            raise RungSkipped("no query is declared", "declare dr_backup_prove_invariants in the inventory")
        self._server.promote(START_SECONDS)
        seen = []
        for invariant in self._p["invariants"]:
            name, expected = str(invariant["name"]), str(invariant["expect"])
            try:
                with self._server.session(self._p["database"], self._p["query_timeout"]) as session:
                    answer = session.execute(invariant["sql"])
            except PostgresqlError as error:
                raise RungFailed("%s: %s" % (name, error), "correct the query in dr_backup_prove_invariants") from None
            if answer != expected:
                raise RungFailed(
                    "%s: %s, not %s" % (name, answer[:200] or "nothing", expected),
                    "ask the application's people; compare with the primary",
                )
            seen.append("%s: %s" % (name, answer))
        return "; ".join(seen)

    def _login(self) -> str:
        declared = self._p["application"]
        if not declared:
            raise RungSkipped("no application is declared", "declare dr_backup_prove_application in the inventory")
        self._server.promote(START_SECONDS)
        words = {"port": str(self._p["port"]), "socket_directory": self.place.sockets, **self._p["secrets"]}
        application = Application(filled(declared, words), self.place.path("application.log"))
        try:
            application.start()
            return application.log_in()
        finally:
            application.stop()

    def _ledger(self) -> str:
        if not self._p["ledger_query"]:
            raise RungSkipped("no witness writes a ledger", "", NOT_APPLICABLE)
        try:
            with self._server.session(self._p["database"], self._p["query_timeout"]) as session:
                rows = session.query(ISLANDS % self._p["ledger_query"].rstrip("; \n"))
        except PostgresqlError as error:
            raise RungFailed("the ledger cannot be read in the copy: %s" % error, "correct dr_ledger_present_query") from None
        self.present = [[row["prefix"], row["first"], row["last"]] for row in rows]
        # Only the witness knows what it saw; it has the next word (ledger_restored).
        raise RungSkipped("the witness was not asked", "see why the witness does not answer")


if __name__ == "__main__":
    main()
