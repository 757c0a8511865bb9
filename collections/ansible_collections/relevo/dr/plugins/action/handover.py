# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Everything on the outage clock in one task over all hosts: quiesce, fence, drain, promote, cut over.

Each host plays its parts of the plan and waits for what the others have proven. Proofs, token and go-ahead pass through the run's directory.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils import app_components, clock, gates, promotion_token
from ansible_collections.relevo.dr.plugins.module_utils.app_components import Component
from ansible_collections.relevo.dr.plugins.module_utils.app_provider import ApplicationError
from ansible_collections.relevo.dr.plugins.module_utils.milestone import Milestone, told
from ansible_collections.relevo.dr.plugins.module_utils.plan import read_plan
from ansible_collections.relevo.dr.plugins.module_utils.probe import probe
from ansible_collections.relevo.dr.plugins.module_utils.server_stop import replay_target
from ansible_collections.relevo.dr.plugins.module_utils.way_out import RESTORE
from ansible_collections.relevo.dr.plugins.plugin_utils import armed_files
from ansible_collections.relevo.dr.plugins.plugin_utils.application_parts import MODULE, ApplicationParts
from ansible_collections.relevo.dr.plugins.plugin_utils.control import Aborted, ElsewhereFailed
from ansible_collections.relevo.dr.plugins.plugin_utils.fencing import Fencing, LockLost, NotFenced, fence
from ansible_collections.relevo.dr.plugins.plugin_utils.lineage import promoted_at
from ansible_collections.relevo.dr.plugins.plugin_utils.reopening import NotReopened, Reopening, claim_promotion
from ansible_collections.relevo.dr.plugins.plugin_utils.run_action import RunAction, went_wrong
from ansible_collections.relevo.dr.plugins.plugin_utils.staged_module import StagedModule

# A planned stop waits for the standby to have everything; a failover has no time for that.
PLANNED_STOP_SECONDS = 30.0
# After that stop it has everything, or does not get it any more; the service is down meanwhile.
PLANNED_DRAIN_SECONDS = 20.0
WEAKEST_FIRST = (*promotion_token.CLASSES_ACCEPTED_BY_NAME[::-1], *promotion_token.FENCING_CLASSES[::-1])

# A day at one a second.
_ENTRIES_OF_A_RESTORE = 100_000
# How long a module may take from its start until it waits for its letter.
_STAGING_SECONDS = 5.0
# What waits for another host's work. With a dead primary the rest waits only for a proof that is there at once: it is started then.
_STAGED_ON_THE_CLOCK = ("promote", "cutover")
# No module waits for hours: a restore, and what comes after it, is started when its time comes.
_AFTER_A_RESTORE = ("restore", "drain", "promote", "cutover")


class PartFailed(Exception):
    """A host's part failed; the message is a sentence. material: phases and loss for the record."""

    def __init__(self, message: str, **material: Any) -> None:
        super().__init__(message)
        self.material = material


class ActionModule(RunAction):
    """Arguments: quiesce_wait_seconds, fence_seconds, restore_seconds, drain_seconds, promote_seconds, cutover_seconds, token_limit_seconds.

    secrets_directory: of what the controller does by itself.
    """

    # Of an armed run that was told to go: modules that were started before, by name; and hosts whose part of the lock is being taken meanwhile.
    waiting: Mapping[str, StagedModule] = {}
    holders: Sequence[str] = ()

    def act(self) -> dict[str, Any]:
        if armed_files.acted(self.control, self.host):
            return {"msg": "done, when the word was said"}
        armed_files.require_word(self.control)
        self._plan = plan = read_plan(self.control.read("plan"))
        self._parts_of_application = ApplicationParts(self.control, plan, self.host)
        self._changed = False
        self._material: dict[str, Any] = {"phases": []}
        self._seen: list[dict[str, Any]] = []
        self._refused = False
        self._prepared: dict[str, tuple[str, dict[str, Any]]] = {}
        self._staged: dict[str, StagedModule] = {}
        self._left_out: list[int] = []
        if plan.done or self._task.check_mode:
            return {"msg": "nothing to do: %s serves already" % plan.promote if plan.done else "check mode: nothing is done"}
        try:
            self._stage()
            for part in self._parts():
                part()
        except Exception as error:  # noqa: BLE001 - whatever it was, the others wait for this part, and the old side may have to be opened
            wrong = str(error)
            if not isinstance(error, (PartFailed, Aborted, promotion_token.TokenError)):
                unforeseen = "HANDOVER on %s: %s: %s. Next: mend that, see relevo status, then start this runbook again"
                wrong = unforeseen % (self.host, type(error).__name__, error)
            with contextlib.suppress(OSError):
                self.control.write(
                    "handover/failed/%s" % self.host, {"msg": wrong, "elsewhere": isinstance(error, ElsewhereFailed)}
                )
            for key, value in getattr(error, "material", {}).items():
                self._material[key] = self._material.get(key, []) + value if isinstance(value, list) else value
            said = wrong + self._way_back()
            return {"failed": True, "changed": self._changed, "msg": said, **told(**self._material)}
        finally:
            for staged in self._staged.values():
                staged.give_up("this host's part is over")
        return {"changed": self._changed, **told(**self._material)}

    def _parts(self) -> list[Callable[[], None]]:
        """In this order on one host: an application host that stays is stopped first and started last."""
        plan = self._plan
        parts = [
            (plan.quiesce, self._quiesce),
            (plan.fence, self._fence),
            (plan.witness, self._state_what_was_acknowledged),
            ((plan.promote,), self._drain_and_promote),
            (plan.cutover, self._cut_over),
            ((plan.promote,), self._cut_over_without_a_host),
            # Whoever was stopped stays until it is known that there is no way back.
            ((*plan.fence, *plan.quiesce) if plan.planned else (), self._promotion),
        ]
        return [part for hosts, part in parts if self.host in hosts]

    def _stage(self) -> None:
        """Start what this host will have to run, so that on the clock a letter is enough. With a dead primary the clock runs already: nobody waits."""
        dead, late = self._plan.primary is None, _AFTER_A_RESTORE if self._plan.restore is not None else ()
        self._prepared = self._later()
        for name, (module, arguments) in self._prepared.items():
            kind = name.partition("-")[0]
            if self._waits(name, module, arguments):
                continue
            if kind not in late and (not dead or kind in _STAGED_ON_THE_CLOCK):
                self._staged[name] = StagedModule(self, self.control.run_id, name, module, arguments, self._limit() + 120)
        if dead:
            return
        for staged in self._staged.values():
            staged.ready(_STAGING_SECONDS)
        self.control.write("handover/staged/%s" % self.host, {})
        if self.host in self._plan.quiesce:
            self.control.came(["handover/staged/%s" % host for host in self._plan.hosts()], 2 * _STAGING_SECONDS)

    def _waits(self, name: str, module: str, arguments: dict[str, Any]) -> bool:
        """Whether this very module was started before the word."""
        if name not in self.waiting or not self.waiting[name].fits(module, arguments):
            return False
        self._staged[name] = self.waiting[name]
        return True

    def _all_hold(self) -> None:
        """Before anything is stopped, switched off or promoted: every host has given its part of the lock. Raises PartFailed."""
        deadline = clock.boottime_seconds() + self._limit()
        while armed_files.all_hold(self.control, self.holders) is None and clock.boottime_seconds() < deadline:
            self.control.check_alive()
            time.sleep(0.003)
        if not armed_files.all_hold(self.control, self.holders):
            raise PartFailed("not every host gave its part of the lock, so %s does nothing" % self.host)

    def ahead(self) -> dict[str, tuple[str, dict[str, Any]]]:
        """What this host would run by the present plan, for who starts it long before."""
        self._plan = read_plan(self.control.read("plan"))
        self._parts_of_application = ApplicationParts(self.control, self._plan, self.host)
        if self._plan.done:
            return {}
        stops = {self._name_of_stop(number): self._stop_of(group) for number, group in self._groups_to_stop()}
        return {**self._later(), **stops}

    def _later(self) -> dict[str, tuple[str, dict[str, Any]]]:
        """Module and the arguments that are known before the clock, of each part of this host that answers, by name."""
        plan, later = self._plan, {}
        if self.host in plan.fence and self.control.read("database/%s" % self.host)["reachable"]:
            later["fence"] = ("relevo.dr.server_fence", self._fence_arguments())
        if self.host in plan.witness and self.control.read("witness/%s" % self.host)["reachable"]:
            later["witness"] = ("relevo.dr.witness_statement", self._statement_arguments())
        if self.host == plan.promote:
            if plan.restore is not None:
                later["restore"] = ("relevo.dr.standby_restore", self._restore_arguments(plan.restore))
            later["drain"] = ("relevo.dr.standby_promote", self._drain_arguments())
            later["promote"] = ("relevo.dr.standby_promote", self._promote_arguments())
        if self.host in plan.cutover:
            # Its own wait for the new primary is part of it.
            seconds = self._seconds("promote_seconds", 60) + self._seconds("cutover_seconds", 60)
            for number, group in self._parts_of_application.groups:
                arguments = self._parts_of_application.arguments(
                    group, "cutover", **self._parts_of_application.target(), timeout_seconds=seconds
                )
                later[self._parts_of_application.name("cutover", number)] = (MODULE, arguments)
        return later

    def _go(self, name: str, late: dict[str, Any], stop: Callable[[], Optional[str]] = lambda: None) -> dict[str, Any]:
        """The answer of a module that was prepared; late: what could not be known before."""
        if name in self._staged:
            return self._staged[name].go(late, stop)
        module, arguments = self._prepared[name]
        return self.ask(module, {**arguments, **late})

    def _promotion(self) -> None:
        self.control.wait(["handover/promoted"], self._limit() + self._seconds("promote_seconds", 60))

    def _way_back(self) -> str:
        """Open the old side again where this is a planned run and nothing was promoted; what came of it, as a sentence."""
        plan, host = self._plan, self.host
        if not plan.planned or self.control.exists("handover/promoted") or host in plan.witness:
            return ""
        # Before anything is opened: what waits for a letter here goes away.
        for staged in self._staged.values():
            staged.give_up("the old side is opened again")
        database: dict[str, Any] = {}
        application: list[dict[str, Any]] = []
        if host in plan.fence:
            # Where it is not known who served, no host may stay closed.
            required = plan.primary in (None, host)
            database = {**self._server(), "required": required, "timeout_seconds": self._seconds("promote_seconds", 60)}
        elif host == plan.promote:
            entry = self.control.read("database/%s" % host)["settings"]
            database = {name: entry[name] for name in ("data_directory", "bin_directory", "port", "database")}
            database.update(old_hosts=[], run_id=self.control.run_id, host=host)
        served = plan.resume
        if host in plan.quiesce:
            entry = self.control.read("application/%s" % host)
            # By what it was before: a stop that failed may have stopped it all the same.
            ran = {name for name, one in entry["facts"]["application"]["components"].items() if one["active"]}
            groups = [[one for one in group if plan.resume or one.name in ran] for _, group in self._parts_of_application.groups]
            application = [
                self._parts_of_application.arguments(group, "revert", timeout_seconds=self._seconds("cutover_seconds", 60))
                for group in groups
                if group
            ]
            served = served or bool(ran)
        seconds = self._limit() + self._seconds("cutover_seconds", 60)
        try:
            phases = Reopening(self.control, plan, host, self.ask, seconds).go(
                database, application, refused=self._refused, served=served
            )
        except (NotReopened, Aborted) as error:
            wrong = str(error)
        except Exception as error:  # noqa: BLE001 - only a side that is known to be open may be called so
            wrong = "%s: %s" % (type(error).__name__, error)
        else:
            for phase in phases:
                self._told(phase)
            self._changed = self._changed or bool(phases)
            return ". Nothing was promoted, and the old side serves again"
        return ". The old side is NOT open: %s. Next: relevo status, then start this runbook again" % wrong

    def _quiesce(self) -> None:
        """An application that cannot be stopped does not stop a failover: the fence of its database stands for it, and the record says so."""
        entry, parts = self.control.read("application/%s" % self.host), self._parts_of_application
        started = Milestone("QUIESCE", self.host)
        if not entry["reachable"]:
            phase = started.ended("skipped", "unreachable: the fence of the database stands for it")
            phase["required"] = False
            self._told(phase)
        # What stands in front stops first: nobody shall meet an application without its cache.
        for position, (number, group) in enumerate(reversed(parts.groups)):
            if entry["reachable"]:
                parts.stopped(number, wait_seconds=self._seconds("quiesce_wait_seconds", 20))
                self._told({**self._stop(number, group), "name": parts.phase("QUIESCE", position)})
            parts.has_stopped(number)
        self.control.write("handover/quiesced/%s" % self.host, {})

    def _groups_to_stop(self) -> list[tuple[int, list[Component]]]:
        stops = self.host in self._plan.quiesce and self.control.read("application/%s" % self.host)["reachable"]
        return [(number, list(group)) for number, group in self._parts_of_application.groups] if stops else []

    def _name_of_stop(self, number: int) -> str:
        return self._parts_of_application.name("quiesce", number)

    def _stop_of(self, group: list[Component]) -> tuple[str, dict[str, Any]]:
        leaves = self.host not in self._plan.cutover
        return MODULE, self._parts_of_application.arguments(group, "quiesce", leaves=leaves)

    def _stop(self, number: int, group: list[Component]) -> dict[str, Any]:
        """The phase of one group's stop. Raises PartFailed in a planned run."""
        started, (module, arguments), name = Milestone("QUIESCE", self.host), self._stop_of(group), self._name_of_stop(number)
        self._all_hold()
        answer = self._staged[name].go({}) if self._waits(name, module, arguments) else self.ask(module, arguments)
        wrong = went_wrong(answer)
        if wrong and self._plan.planned:
            raise PartFailed(wrong, phases=[started.ended("failed", wrong)])
        self._changed = self._changed or bool(answer.get("changed"))
        self._material.setdefault("gates", []).extend(background_gates(self.host, answer, "QUIESCE"))
        return started.ended("skipped", "not stopped: %s" % wrong) if wrong else answer["phase"]

    def _fence(self) -> None:
        entry, settings = self.control.read("database/%s" % self.host), self.control.read("fence/%s" % self.host)["settings"]
        inputs = self.control.read("inputs")
        if entry["reachable"]:
            self.control.wait(
                ["handover/quiesced/%s" % host for host in self._plan.quiesce], self._seconds("quiesce_wait_seconds", 20)
            )
        database = entry["settings"]
        if self._plan.planned:
            # By nothing but a clean stop: a host that is switched off leaves no message.
            settings = {**settings, "providers": ["service"]}
        fencing = Fencing(
            run_id=self.control.run_id,
            host=self.host,
            settings=settings,
            server_fence=self._stop_server,
            reachable=entry["reachable"],
            attested_by=inputs["attested_by"] if self.host in inputs["attest_dead"] else "",
            lease_left_seconds=self._lease_left_seconds,
        )
        proof = self._proven(fencing, database)
        self.control.write("handover/proof/%s" % self.host, proof)
        if self._plan.restore is not None:
            # A proof of hours ago is none: whoever came back meanwhile is stopped again, or nothing is promoted.
            self.control.wait(["handover/restored"], self._limit())
            proof = self._proven(replace(fencing, server_fence=self._fence_again), database, "FENCE 2")
            self.control.write("handover/proven_again/%s" % self.host, proof)
        # Beside the standby's drain: a silent host costs a probe its whole time-out, and the token needs one that is newer anyway.
        self._material["fence"] = shown_fence([proof], [probe("controller", self.host, database["address"], int(database["port"]))])
        self._count_what_is_missing(proof, database)

    def _stop_server(self) -> dict[str, Any]:
        self._all_hold()
        return self._go("fence", {})

    def _fence_again(self) -> dict[str, Any]:
        module, arguments = self._prepared["fence"]
        return self.ask(module, arguments)

    def _proven(self, fencing: Fencing, database: dict[str, Any], phase: str = "FENCE") -> dict[str, Any]:
        """The proof that this host is out of action. Raises PartFailed."""
        try:
            proof = fence(fencing)
        except LockLost as error:
            said = "FENCE on %s: %s. Nothing was promoted. Next: see who holds the lock now (relevo status), then start again" % (
                self.host,
                error,
            )
            raise PartFailed(said, phases=[Milestone(phase, self.host).ended("failed", said)]) from None
        except NotFenced as error:
            said = "FENCE on %s: no proof (%s). Nothing was promoted. Next: fence it by hand, then start again" % (
                self.host,
                error,
            )
            raise PartFailed(said, phases=[Milestone(phase, self.host).ended("failed", said)]) from None
        proof.update(address=database["address"], port=int(database["port"]))
        self._changed = self._changed or proof["changed"]
        self._told({**proof["phase"], "name": phase})
        return proof

    def _fence_arguments(self) -> dict[str, Any]:
        planned = {"handover": True, "fast_seconds": PLANNED_STOP_SECONDS} if self._plan.planned else {}
        return {**self._server(), **planned}

    def _count_what_is_missing(self, proof: dict[str, Any], database: dict[str, Any]) -> None:
        """Where the standby does not get as far as this host's clean shutdown: whether that lacks any commit."""
        if not proof.get("shutdown_lsn") or self._plan.planned:
            return
        [position] = self.control.wait(["handover/drained"], self._limit())
        if position["target_replayed"] is not False:
            return
        answer = self.ask(
            "relevo.dr.wal_tail_info",
            {
                **{name: database[name] for name in ("data_directory", "bin_directory")},
                "start_lsn": position["replay_lsn"],
                "timeline": proof["timeline"],
            },
        )
        self.control.write(
            "handover/tail/%s" % self.host, {"commits": answer.get("commits"), "said": went_wrong(answer) or answer.get("said")}
        )

    def _tails(self, position: dict[str, Any]) -> list[dict[str, Any]]:
        """What the stopped hosts say of their WAL behind the standby's position, where it lacks any."""
        if position["target_replayed"] is not False:
            return []
        hosts = [proof["host"] for proof in self._proofs() if proof.get("shutdown_lsn")]
        return self.control.wait(["handover/tail/%s" % host for host in hosts], self._seconds("fence_seconds", 60))

    def _lease_left_seconds(self) -> float:
        """By the boot clock, which goes on while this controller sleeps, and by the wall clock, which goes on while it is a stopped machine."""
        self._all_hold()
        taken = self.control.read("lock/%s" % self._plan.promote)
        passed = max(
            clock.boottime_seconds() - float(taken["began"]["boottime"]),
            (clock.parse_utc(clock.utc_now()) - clock.parse_utc(taken["began"]["at"])).total_seconds(),
        )
        return float(taken["lease_seconds"]) - passed

    def _state_what_was_acknowledged(self) -> None:
        """After the fence nothing can be acknowledged any more: now the ledger's tail is final, and this vantage point's probes count."""
        self._proofs(again=self._plan.restore is not None)
        statement: dict[str, Any] = {"ledger_tail": None, "probes": []}
        if "witness" in self._prepared:
            answer = self._go("witness", {"back_to": self._last_commit_of_the_standby()})
            if went_wrong(answer) is None:
                statement = {name: answer[name] for name in ("ledger_tail", "probes")}
        self.control.write("handover/witness/%s" % self.host, statement)

    def _last_commit_of_the_standby(self) -> str:
        """When it was made, UTC, as of the newest look; empty where none was seen."""
        cluster = self.control.read("database/%s" % self._plan.promote).get("facts", {}).get("cluster", {})
        return str((cluster.get("standby") or {}).get("last_replayed_at") or "")

    def _statement_arguments(self) -> dict[str, Any]:
        settings = self.control.read("witness/%s" % self.host)["settings"]
        about = {"witness": self.host, "targets": self._old_hosts(), "run_id": self.control.run_id}
        # A restore to a point may lack far more than a standby ever does.
        more = {"tail_entries": _ENTRIES_OF_A_RESTORE} if self._plan.restore is not None else {}
        return {**settings, **about, **more, "not_before": promoted_at(self.control, self._plan.fence)}

    def _old_hosts(self) -> list[dict[str, Any]]:
        """Every host that must be fenced: inventory name, address and port."""
        known = {host: self.control.read("database/%s" % host)["settings"] for host in self._plan.fence}
        return [{"host": host, "address": entry["address"], "port": int(entry["port"])} for host, entry in known.items()]

    def _drain_and_promote(self) -> None:
        proofs = self._proofs()
        inputs = self.control.read("inputs")
        if self._plan.restore is not None:
            self._restore()
            proofs = self._proofs(again=True)
        # While the standby drains: a silent host costs a probe its whole time-out.
        again = ThreadPoolExecutor().map(
            lambda old: probe("controller", old["host"], old["address"], old["port"]), self._old_hosts()
        )
        left_out = self.control.read("repositories")["leave_out"]
        if left_out:
            # That changes a file; the rest of a drain is of this host alone.
            self._all_hold()
        drained = self._execute("drain", "DRAIN", {"replay_target_lsn": replay_target(proofs) or "", "leave_out": left_out})
        self.control.write("handover/drained", drained["position"])
        handover = self._handed_over(proofs, drained) if self._plan.planned and drained["in_recovery"] else None
        if drained["in_recovery"] and not self._plan.planned:
            gate = archive_gate(self.host, drained["position"], self._tails(drained["position"]))
            self._material.setdefault("gates", []).append(gate.as_dict())
            bounds = {inputs[name] for name in ("accept_loss_seconds", "accept_loss_transactions")}
            by_name = self._plan.restore is not None and "LOSS" in inputs["accept_unknown"]
            if gate.verdict == gates.FAIL and bounds == {None} and not by_name:
                said = "DRAIN on %s: %s. Nothing was promoted. Next: %s" % (self.host, gate.observed, gate.next_action)
                raise PartFailed(said, phases=[Milestone("DRAIN", self.host).ended("failed", said)])
        statements = self.control.wait(
            ["handover/witness/%s" % host for host in self._plan.witness], self._seconds("fence_seconds", 60)
        )
        self._all_hold()
        token, signature = (
            self._authorise(
                proofs,
                [*again, *drained["probes"], *(found for statement in statements for found in statement["probes"])],
                drained,
                handover,
            )
            if drained["in_recovery"]
            else ("", "")
        )
        # From here the application hosts get ready: they wait for the new primary by themselves.
        if self._plan.planned:
            claim_promotion(self.control)
        self.control.write("handover/authorised", {"host": self.host})
        tail = next((statement["ledger_tail"] for statement in statements if statement["ledger_tail"] is not None), None)
        promoted = self._execute("promote", "PROMOTE", {"token": token, "signature": signature, "ledger_tail": tail})
        self._material["fence"] = shown_fence(proofs, self._seen + promoted["probes"])
        self._material["measures"] = {
            **self._material.get("measures", {}),
            **self._way(promoted.get("restore")),
            "loss_before_promotion": promoted["loss"],
            "promotion": promoted["promotion"],
            "replay_lsn": drained["position"]["replay_lsn"],
            "drain": {"replayed_bytes": drained["position"].get("replayed_bytes")},
            "archive_replayed": drained["position"].get("archive_replayed"),
            "repositories": {"left_out": [*self._left_out, *drained["left_out"]]},
        }
        self.control.write("handover/promoted", promoted["promotion"])

    def _restore(self) -> None:
        """What is promoted is made here first; from then on it is drained, counted and promoted like any standby."""
        restored = self._execute("restore", "RESTORE", {})
        self._left_out = restored["left_out"]
        self._material["measures"] = self._way(restored["restore"])
        self.control.write("handover/restored", restored["restore"])

    def _restore_arguments(self, goal: dict[str, Any]) -> dict[str, Any]:
        settings = self.control.read("database/%s" % self.host)["settings"]
        place = {name: settings[name] for name in ("unit", "data_directory", "bin_directory", "config_directory", "port", "stanza")}
        about = {"cluster_version": settings["version"], "cluster_name": os.path.basename(settings["config_directory"].rstrip("/"))}
        acting = {"run_id": self.control.run_id, "host_name": self.host, "restore_timeout": self._seconds("restore_seconds", 86400)}
        return {**place, **about, **acting, "goal": goal, "leave_out": self.control.read("repositories")["leave_out"]}

    def _way(self, restored: Optional[dict[str, Any]]) -> dict[str, Any]:
        """For the record: which way was taken, with what was measured of a restore, by this run or the one before it."""
        return {"path": RESTORE, "restore": restored} if restored else {"path": self._plan.path}

    def _standby_arguments(self, step: str) -> dict[str, Any]:
        entry = self.control.read("database/%s" % self.host)["settings"]
        about = {name: entry[name] for name in ("data_directory", "bin_directory", "port", "database")}
        acting = {"run_id": self.control.run_id, "host": self.host, "step": step, "old_hosts": self._old_hosts()}
        about["planned"] = self._plan.planned
        about["restored"] = self._plan.restore is not None
        return {**about, **acting, "timeout_seconds": self._seconds("%s_seconds" % step, 60)}

    def _drain_arguments(self) -> dict[str, Any]:
        stanza = self.control.read("database/%s" % self.host)["settings"]["stanza"]
        arguments = {**self._standby_arguments("drain"), "stanza": stanza}
        if self._plan.planned:
            arguments["timeout_seconds"] = min(arguments["timeout_seconds"], PLANNED_DRAIN_SECONDS)
        return arguments

    def _promote_arguments(self) -> dict[str, Any]:
        inputs = self.control.read("inputs")
        return {
            **self._standby_arguments("promote"),
            "token_limit_seconds": self._seconds("token_limit_seconds", 300),
            "ledger_present_sql": self.control.read("database/%s" % self.host)["settings"]["ledger_present_sql"],
            **{name: inputs[name] for name in ("accept_loss_seconds", "accept_loss_transactions")},
            "accept_unmeasured": "LOSS" in inputs["accept_unknown"],
            "accept_any_loss": self._plan.restore is not None and "LOSS" in inputs["accept_unknown"],
        }

    def _handed_over(self, proofs: list[dict[str, Any]], drained: dict[str, Any]) -> dict[str, Any]:
        """The old primary's message and shutdown, on the standby. Raises PartFailed when any of it is missing."""
        handover, gate = handover_gate(self.host, proofs, drained["position"])
        self._material.setdefault("gates", []).append(gate.as_dict())
        if handover is None or gate.verdict != gates.PASS:
            said = "DRAIN on %s: %s: %s. Nothing was promoted. Next: %s" % (self.host, gate.title, gate.observed, gate.next_action)
            raise PartFailed(said, phases=[Milestone("DRAIN", self.host).ended("failed", said)])
        self._material["measures"] = {"handover": handover}
        return handover

    def _authorise(
        self, proofs: list[dict[str, Any]], seen: list[dict[str, Any]], drained: dict[str, Any], handover: Optional[dict[str, Any]]
    ) -> tuple[str, str]:
        """Sign what is proven. seen: probes after the fence, from every vantage point. Raises PartFailed when anything still answers."""
        answering = ["%s as seen from %s" % (found["address"], found["vantage"]) for found in seen if found["result"] == "answers"]
        if answering:
            raise PartFailed(
                "PROMOTE on %s: %s still answers after the fence. Nothing was promoted. Next: find out what runs there"
                % (self.host, "; ".join(answering))
            )
        accepted = (
            *self.control.read("inputs")["accept_fence"],
            *(["attested"] if self.control.read("inputs")["attest_dead"] else []),
        )
        token = promotion_token.Token(
            run_id=self.control.run_id,
            nonce=drained["nonce"],
            system_identifier=drained["system_identifier"],
            promote_host=self.host,
            hosts=tuple(
                {**{name: proof[name] for name in ("host", "address", "port", "class")}, "probes": len(proof["probes"]) + len(seen)}
                for proof in proofs
            ),
            accepted_classes=accepted,
            handover=handover,
        )
        text = promotion_token.canonical(token)
        self._seen = seen
        return text, promotion_token.sign(text, os.environ["RELEVO_SIGNING_KEY"])

    def _cut_over(self) -> None:
        parts = self._parts_of_application
        for position, (number, group) in enumerate(parts.groups):
            parts.begin(number, group, self._limit() + position * self._seconds("cutover_seconds", 60))
            # It waits for the new primary, which may not come.
            answer = self._execute(parts.name("cutover", number), parts.phase("CUTOVER", position), {}, self.control.failed)
            seen = answer["application"]["components"]
            gates_of = [*background_gates(self.host, answer, "CUTOVER"), *session_gates(self.host, answer)]
            self._material.setdefault("gates", []).extend(gates_of)
            parts.serves(number, seen)
        self.control.wait(["handover/promoted"], self._limit() + self._seconds("promote_seconds", 60))

    def _cut_over_without_a_host(self) -> None:
        """What the controller does by itself, in its turn, when everybody else is at work."""
        parts = self._parts_of_application
        for number, component in app_components.of_controller(parts.components):
            parts.begin(number, [component], self._limit() + self._seconds("cutover_seconds", 60))
            started = Milestone("CUTOVER %s" % component.name, "controller")
            try:
                provider = controller_component(component, str(self._task.args.get("secrets_directory") or ""))
                done = provider.cutover(self._plan.target_site, self._seconds("cutover_seconds", 60))
            except ApplicationError as error:
                # The new primary serves all the same, and must be protected: the gate fails the run, but does not end it here.
                self._material["phases"].append(started.ended("failed", str(error)))
                fix = "mend that, or change the record by hand, then start this runbook again"
                gate = gates.Gate("DNS", component.name, "controller", str(error), "changed", gates.FAIL, fix, "CUTOVER")
                self._material.setdefault("gates", []).append(gate.as_dict())
                parts.serves(number, {"failed": str(error)})
                continue
            self._changed = self._changed or done.changed
            self._material["phases"].append(started.ended(detail=done.detail))
            gate = gates.Gate("DNS", component.name, "controller", done.detail, "changed", gates.PASS, "", "CUTOVER")
            self._material.setdefault("gates", []).append(gate.as_dict())
            self.control.write("names/%s" % component.name, dict(done.more))
            parts.serves(number, dict(done.more))

    def _proofs(self, *, again: bool = False) -> list[dict[str, Any]]:
        kept = "handover/proven_again/%s" if again else "handover/proof/%s"
        proofs: list[dict[str, Any]] = self.control.wait([kept % host for host in self._plan.fence], self._limit())
        return proofs

    def _server(self) -> dict[str, Any]:
        """What the modules that stop and start this host's server need to know."""
        settings = self.control.read("database/%s" % self.host)["settings"]
        about = {name: settings[name] for name in ("unit", "data_directory", "bin_directory", "port")}
        return {**about, "run_id": self.control.run_id, "host": self.host}

    def _execute(
        self, name: str, phase: str, late: dict[str, Any], stop: Callable[[], Optional[str]] = lambda: None
    ) -> dict[str, Any]:
        """Let a staged module go on, as this host's next milestone. PartFailed when it fails or the host stops answering."""
        started = Milestone(phase, self.host)
        answer = self._go(name, late, stop)
        wrong = went_wrong(answer)
        if wrong:
            # A promotion that says itself that it did not begin; one that fell silent may have.
            self._refused = answer.get("begun") is False
            raise PartFailed(wrong, phases=[answer.get("phase") or started.ended("failed", wrong)], loss=answer.get("loss"))
        self._changed = self._changed or bool(answer.get("changed"))
        self._told({**answer["phase"], "name": phase})
        return answer

    def _told(self, phase: dict[str, Any]) -> None:
        """A phase that a host timed carries that host's clock offset, as it was measured in preflight."""
        for kind in ("database", "application"):
            if self.control.exists("%s/%s" % (kind, self.host)):
                phase.setdefault("clock_offset_seconds", self.control.read("%s/%s" % (kind, self.host)).get("clock_offset_seconds"))
        self._material["phases"].append(phase)

    def _seconds(self, name: str, default: float) -> float:
        return float(self._task.args.get(name, default))

    def _limit(self) -> float:
        """How long the parts before this one may take together."""
        parts = [("quiesce_wait_seconds", 20.0), ("fence_seconds", 60.0), ("drain_seconds", 60.0)]
        if self._plan.restore is not None:
            # Its files and its replay; and its fence, again.
            parts += [("restore_seconds", 86400.0), ("restore_seconds", 86400.0), ("fence_seconds", 60.0)]
        return sum(self._seconds(name, default) for name, default in parts)


def background_gates(host: str, answer: dict[str, Any], phase: str) -> list[dict[str, Any]]:
    """G14 of each component that declares background units: none runs after the stop, all of them after the cutover."""
    found = []
    for name, seen in answer.get("application", {}).get("components", {}).items():
        counted = seen.get("background") or {"declared": 0}
        if not counted["declared"]:
            continue
        wanted = 0 if phase == "QUIESCE" else counted["declared"]
        observed = "%d of %d run" % (len(counted["running"]), counted["declared"])
        if counted["running"] and not wanted:
            observed += " (%s)" % ", ".join(counted["running"])
        title, fix = "background units of %s" % name, "see systemctl status of them on %s" % host
        ok = len(counted["running"]) == wanted
        found.append(gates.Gate("G14", title, host, observed, "%d" % wanted, gates.verdict(ok), "" if ok else fix, phase).as_dict())
    return found


def session_gates(host: str, answer: dict[str, Any]) -> list[dict[str, Any]]:
    """No component holds a connection to a host that was left."""
    found = []
    for name, seen in answer.get("application", {}).get("components", {}).items():
        held = seen.get("sessions_on_old")
        observed = "not seen" if held is None else "%d connections" % held
        ok = None if held is None else held == 0
        fix = "" if ok else "restart %s on %s" % (name, host)
        title = "%s has left the old primary" % name
        found.append(gates.Gate("SESSIONS", title, host, observed, "none", gates.verdict(ok), fix, "CUTOVER").as_dict())
    return found


def controller_component(component: Component, secrets_directory: str) -> Any:
    """Its provider; imported here, since its library is slow to import and few need it."""
    route53 = importlib.import_module("ansible_collections.relevo.dr.plugins.plugin_utils.route53")
    return route53.of(component, secrets_directory)


def archive_gate(host: str, position: dict[str, Any], tails: list[dict[str, Any]]) -> gates.Gate:
    """Whether the standby has all that the archive has; the old primary's own shutdown, replayed, is even more.

    tails: of the stopped hosts, the commits behind the standby's position, where it did not get as far as their shutdown.
    """
    if position.get("restored") and position.get("target_replayed") is None and not position.get("archive_replayed"):
        title, expected = "the restored server is at the point that was asked for", "paused there, by its own log"
        return gates.Gate("G08", title, host, position["restored"], expected, gates.PASS, "", "DRAIN")
    title, expected = "the standby has everything that was committed", "nothing committed behind the replayed position"
    if position.get("target_replayed") is False:
        commits = [tail["commits"] for tail in tails]
        if commits and all(number == 0 for number in commits):
            observed = "replayed to %s; the old primary's WAL behind it holds its shutdown and no commit" % position["replay_lsn"]
            return gates.Gate("G08", title, host, observed, expected, gates.PASS, "", "DRAIN")
        known = "%d commits" % sum(commits) if commits and None not in commits else "commits that could not be counted"
        return gates.Gate(
            "G08",
            title,
            host,
            "replayed to %s; the old primary's WAL behind it holds %s" % (position["replay_lsn"], known),
            expected,
            gates.FAIL,
            "bring that WAL from the old primary's pg_wal into the archive and start again, or start again with dr_accept_loss_seconds or"
            " dr_accept_loss_transactions",
            "DRAIN",
        )
    title, expected = "the archive is replayed to its end", "nothing behind the replayed position"
    if position.get("target_replayed"):
        observed = "replayed beyond the old primary's shutdown, to %s" % position["replay_lsn"]
    elif position.get("archive_replayed"):
        observed = "replayed to %s; the archive holds nothing behind it" % position["replay_lsn"]
    else:
        observed = "replayed to %s; the archive did not say whether it holds more" % position["replay_lsn"]
    complete = bool(position.get("target_replayed") or position.get("archive_replayed"))
    return gates.Gate(
        "G08",
        title,
        host,
        observed,
        expected,
        gates.PASS if complete else gates.UNKNOWN,
        "" if complete else "look into the repository for later segments; if there are, they are lost work that can be salvaged",
        "DRAIN",
    )


def handover_gate(host: str, proofs: list[dict[str, Any]], position: dict[str, Any]) -> tuple[Optional[dict[str, Any]], gates.Gate]:
    """The old primary's hand-over, and whether the standby has it. What the archive lacks then would be missing in it for ever."""
    handovers = [proof["handover"] for proof in proofs if proof.get("handover")]
    unarchived = [segment for proof in proofs for segment in proof.get("unarchived") or []]
    fix = "the old side is opened again; "
    if len(handovers) != 1 or not handovers[0]["shutdown_lsn"]:
        observed = "the old primary did not shut down cleanly" if handovers else "no message of the old primary"
        fix += "see its log, then start again"
    elif unarchived:
        observed = "%d segments of the old primary are in no archive (%s)" % (len(unarchived), ", ".join(unarchived[:3]))
        fix += "bring the archive back, then start again"
    elif not position.get("target_replayed"):
        observed = "replayed to %s; the shutdown is at %s" % (position["replay_lsn"], handovers[0]["shutdown_lsn"])
        fix += "see why %s does not follow, then start again" % host
    else:
        # The shutdown ends no segment, so that no archive has it yet: the new primary archives that segment as .partial.
        observed = "message before %s and shutdown at %s are replayed; every segment before it is archived" % (
            handovers[0]["message_lsn"],
            handovers[0]["shutdown_lsn"],
        )
        fix = ""
    title, expected = "the old primary's last word is on the standby", "message and shutdown replayed, nothing unarchived"
    return (handovers[0] if handovers else None), gates.Gate(
        "G26", title, host, observed, expected, gates.FAIL if fix else gates.PASS, fix, "DRAIN"
    )


def shown_fence(proofs: list[dict[str, Any]], probes: list[dict[str, Any]]) -> dict[str, Any]:
    """The fence as the record keeps it: each host with its class and every probe of it, from all vantage points."""
    hosts = []
    for proof in proofs:
        seen = [*proof["probes"], *(found for found in probes if found["host"] == proof["host"])]
        hosts.append({**{name: proof[name] for name in ("host", "class", "at", "provider")}, "probes": seen})
    weakest = min((proof["class"] for proof in proofs), key=WEAKEST_FIRST.index, default=None)
    return {"class": weakest, "hosts": hosts}
