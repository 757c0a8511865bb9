# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""An armed run waits here for its word, on every host at once: what it will have to run is started, and the hosts are looked at again and again.

When the word comes and the primary is lost, lock and hand-over are played in this very task. Otherwise the tasks after it play them.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from itertools import zip_longest
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.action import dependencies, discover, fence_check, handover, lock, preflight
from ansible_collections.relevo.dr.plugins.module_utils import armed, gates, inputs, letter
from ansible_collections.relevo.dr.plugins.module_utils.milestone import Milestone, told
from ansible_collections.relevo.dr.plugins.module_utils.plan import Plan, read_plan
from ansible_collections.relevo.dr.plugins.plugin_utils import armed_files, controller
from ansible_collections.relevo.dr.plugins.plugin_utils.armed_files import Observed
from ansible_collections.relevo.dr.plugins.plugin_utils.aside import Aside
from ansible_collections.relevo.dr.plugins.plugin_utils.carrier import Carrier, command_to
from ansible_collections.relevo.dr.plugins.plugin_utils.control import Control
from ansible_collections.relevo.dr.plugins.plugin_utils.gatekeeper import Gatekeeper, Judged
from ansible_collections.relevo.dr.plugins.plugin_utils.run_action import RunAction
from ansible_collections.relevo.dr.plugins.plugin_utils.staged_module import StagedModule

_STEP_SECONDS = 0.005
# What waits on a host goes away when nobody has touched the beat of its run for that long.
_BEAT_SECONDS, _SILENCE_SECONDS = 5.0, 30.0
# A module that has waited for that long is started anew: what it looked up at its start is old.
_RESTART_SECONDS = 900.0
_READY_SECONDS = 15.0
# Nobody waits for a run that is armed no longer; a host that has just died does not answer at all.
_LOOK_ENDS_SECONDS = 5.0
_LONGEST_PROMOTION_SECONDS = 30.0
_LOOKS: dict[str, type[RunAction]] = {"fence": fence_check.ActionModule, "dependencies": dependencies.ActionModule}
_LOCK = "lock"


class Again(preflight.ActionModule):
    """The judgement of an armed run: every gate, by what was observed in one round, and how old that is."""

    limits: armed.Limits

    def blocking(self, found: list[gates.Gate]) -> list[gates.Gate]:
        return gates.blocking(found)

    def more_gates(self, plan: Plan) -> list[gates.Gate]:
        return [armed.evidence_gate(armed_files.ages(self.control), self.limits)]

    def _names(self, components: Any, plan: Plan) -> dict[str, dict[str, Any]]:
        # What somebody else keeps is asked in a round; when the word is said nobody waits for it.
        if isinstance(self.control, Observed) and not self.control.number:
            kept: dict[str, dict[str, Any]] = self.control.read("names_seen")
            return kept
        return super()._names(components, plan)

    def _judged(self, sentences: list[str], phase: dict[str, Any], **material: Any) -> dict[str, Any]:
        """No file, which another judgement could write in between: nobody but who plays this one wants its sentences."""
        return {"sentences": sentences, "summary": phase["detail"], **told(phases=[phase], **material)}


class Taking(lock.ActionModule):
    """This host's part of the lock, taken by a module that was started before the word."""

    staged: Optional[StagedModule] = None

    def ask(self, module: str, arguments: dict[str, Any]) -> dict[str, Any]:
        if self.staged is None or not self.staged.fits(module, arguments):
            return super().ask(module, arguments)
        return self.staged.go({})


class ActionModule(RunAction):
    """Arguments: armed_seconds, unheard_seconds, evidence_seconds (see armed.Limits), look_seconds; lock, handover: those of the actions of that name."""

    def act(self) -> dict[str, Any]:
        known = self.control.read("landscape")
        if not inputs.armed(known["given"]):
            return {"msg": "not armed: goes on at once"}
        hosts = list(dict.fromkeys(host for group in known["groups"].values() for host in group))
        # The same one for as long as the run lasts; it has little to do when its own site is lost.
        keeps = self.host == known["groups"]["dr_database"][0]
        if controller.forks() < len(hosts):
            said = "FORKS on controller: forks %d; an armed run needs at least %d. Next: start again with --forks %d or more"
            said %= (controller.forks(), len(hosts), len(hosts))
            return {"failed": True, "msg": said, **told(refused=True)} if keeps else {"msg": said}
        names = ("armed_seconds", "unheard_seconds", "evidence_seconds")
        self._limits = armed.Limits(*(float(self._task.args[name]) for name in names))
        self._hosts, self._number, self._count = hosts, 0, 0
        self._staged: dict[str, StagedModule] = {}
        self._looking: Optional[Aside] = None
        self._asides: list[Aside] = []
        self._carrier = Carrier(None)
        self._beaten, self._ready = float("-inf"), False
        try:
            gatekeeper = self._gatekeeper() if keeps else None
            ended = self._wait(gatekeeper)
            if gatekeeper is not None:
                gatekeeper.close()
            return self._ended(ended, keeps=keeps)
        except Exception as error:
            if keeps and not self.control.exists(armed_files.END):
                # Whoever else waits must not wait for a word that nobody hears.
                said = "the run is armed no longer: %s: %s" % (type(error).__name__, error)
                self.control.write(armed_files.END, {"how": armed.EXPIRED, "said": said, "gates": [], "armed": {}})
            raise
        finally:
            self._drop_asides()
            for staged in self._staged.values():
                staged.drop()
            self._carrier.close()

    def _wait(self, gatekeeper: Optional[Gatekeeper]) -> dict[str, Any]:
        """Until the waiting is over; how it ended."""
        announced = gatekeeper is None
        while not self.control.exists(armed_files.END):
            self.control.check_alive()
            self._look()
            self._keep_staged()
            self._asides = [aside for aside in self._asides if not self._over(aside)]
            if gatekeeper is not None:
                gatekeeper.step()
                if not announced and all(self.control.exists("armed/ready/%s" % host) for host in self._hosts):
                    announced = True
                    gatekeeper.announce()
            time.sleep(_STEP_SECONDS)
        ended: dict[str, Any] = self.control.read(armed_files.END)
        return ended

    # Looking.

    def _look(self) -> None:
        if self._looking is not None:
            if self._looking.came(0):
                self._looking.answer()
                self._looking = None
                armed_files.looked(self.control, self._number, self.host)
            return
        newest = armed_files.newest_round(self.control)
        if newest > self._number:
            self._number = newest
            self._looking = Aside(self._looked)

    def _looked(self) -> dict[str, Any]:
        """In a process aside: each look that was taken at this host in the beginning, once more."""
        seen = Observed(Control.of_this_run(), self._number)
        for name, arguments in armed_files.parts(self.control, self.host).items():
            self.played(_LOOKS.get(name, discover.ActionModule), arguments, seen).act()
        return {}

    # What is started ahead of the word.

    def _keep_staged(self) -> None:
        """What this host would have to run by the present plan waits there; whatever else waited goes away."""
        now = time.monotonic()
        if now - self._beaten > _BEAT_SECONDS:
            self._beaten = now
            wanted = self._ahead()
            for name, staged in list(self._staged.items()):
                fits = name in wanted and staged.fits(*wanted[name])
                if not fits or staged.ended() or staged.age_seconds > _RESTART_SECONDS:
                    self._leave(staged)
                    del self._staged[name]
            for name, (module, arguments) in wanted.items():
                if name not in self._staged:
                    self._staged[name] = self._start(name, module, arguments)
            if not self._carrier.works() and self._reachable():
                python = str(self.variables.get("ansible_python_interpreter") or "/usr/bin/python3")
                self._carrier = Carrier(command_to(self._connection, python if python.startswith("/") else "/usr/bin/python3"))
            if not self._carrier.beat(self.control.run_id):
                self._aside(lambda: {"said": self._say("[ ! -d {0} ] || touch {0}/%s" % letter.BEAT)})
        if not self._ready:
            self._ready = True
            waiting = list(self._staged.values())
            self._aside(lambda: self._all_wait(waiting))

    def _ahead(self) -> dict[str, tuple[str, dict[str, Any]]]:
        limits = self._task.args
        wanted = self.played(handover.ActionModule, limits["handover"], self.control).ahead()
        plan, known = read_plan(self.control.read("plan")), lock.entry_of(self.control, self.host)
        if known.get("reachable") and self.host in plan.hosts() and self.host not in plan.witness and not plan.done:
            wanted[_LOCK] = ("relevo.dr.run_lock", lock.held_by(self.control, known, limits["lock"]))
        return wanted if self._reachable() else {}

    def _reachable(self) -> bool:
        """By the newest look."""
        kinds = [kind for kind in ("database", "application", "witness") if self.control.exists("%s/%s" % (kind, self.host))]
        return bool(kinds) and all(self.control.read("%s/%s" % (kind, self.host))["reachable"] for kind in kinds)

    def _start(self, name: str, module: str, arguments: dict[str, Any]) -> StagedModule:
        """Under a name of its own: one that is sent away, and the one after it, never wait for the same letter."""
        self._count += 1
        named = "%s.%d" % (name, self._count)
        seconds = self._limits.armed_seconds + _RESTART_SECONDS
        return StagedModule(self, self.control.run_id, named, module, arguments, seconds, _SILENCE_SECONDS, self._put)

    def _put(self, place: str, content: dict[str, Any]) -> Optional[bool]:
        return self._carrier.put(place, content)

    def _leave(self, staged: StagedModule) -> None:
        staged.drop()
        if not self._carrier.leave(staged.waits_at):
            self._aside(lambda: {"said": self._say("rm -f %s" % shlex.quote(staged.waits_at))})

    def _all_wait(self, waiting: list[StagedModule]) -> dict[str, Any]:
        """In a process aside: until all of them wait."""
        self.control = Control.of_this_run()
        for staged in waiting:
            staged.ready(_READY_SECONDS)
        self.control.write("armed/ready/%s" % self.host, {})
        return {}

    def _say(self, command: str) -> bool:
        """In a process aside: a short command about this run's box on the host."""
        self.control = Control.of_this_run()
        return self.say(command.format(shlex.quote(letter.box(self.control.run_id))), "")

    def _aside(self, work: Callable[[], dict[str, Any]]) -> None:
        self._asides.append(Aside(work))

    def _let_look_end(self) -> None:
        """Where there is time. Killed in its middle, it would leave sudo waiting on the host for a password that nobody sends."""
        if self._looking is not None:
            self._looking.came(_LOOK_ENDS_SECONDS)

    def _drop_asides(self) -> None:
        """Nobody waits for a look any more."""
        for aside in [*self._asides, *([self._looking] if self._looking else [])]:
            aside.drop()
        self._asides, self._looking = [], None

    def _over(self, aside: Aside) -> bool:
        if not aside.came(0):
            return False
        aside.answer()
        return True

    # The end of the waiting.

    def _ended(self, ended: dict[str, Any], *, keeps: bool) -> dict[str, Any]:
        how, said = ended["how"], ended["said"]
        about: dict[str, Any] = {"run": {"armed": ended["armed"]}} if keeps else {}
        if how != armed.GONE:
            self._let_look_end()
            self._clear()
            return {"failed": True, "msg": said, **told(cancelled=True, **about)} if keeps else {"msg": said}
        plan = read_plan(self.control.read("plan"))
        why = self._why_not_here(plan)
        if keeps:
            began = self.control.read("landscape")["began"]
            about["gates"] = ended["gates"]
            about["phases"] = [Milestone("PREFLIGHT", "controller", began).ended(detail=said)]
            about["run"]["armed"]["played"] = "anew: %s" % why if why else "at once"
            if why:
                self._display.display("The word was said; %s: the run goes on as one that was not armed." % why)
        if why:
            self._let_look_end()
            self._clear()
            return {"msg": why, **told(**about)}
        return self._with(about, self._act(plan))

    def _why_not_here(self, plan: Plan) -> Optional[str]:
        """Why lock and hand-over are left to the tasks after this one; None where every second counts and nothing else speaks for them."""
        if plan.done:
            return "%s serves already" % plan.promote
        if plan.primary is not None:
            return "%s still serves, so that there is time" % plan.primary
        if plan.resume:
            return "an earlier run has left its lock"
        return None

    def _act(self, plan: Plan) -> dict[str, Any]:
        """The part of this host in the lock, and then in the hand-over, in which nobody acts before every host has given its part of the lock."""
        self._drop_asides()
        holders = [host for host in plan.hosts() if host not in plan.witness and lock.entry_of(self.control, host).get("reachable")]
        taking = self.played(Taking, {**self._task.args["lock"], "state": "held"}, self.control)
        taking.staged = self._staged.get(_LOCK)
        taken = taking.act()
        if taken.get("failed") or armed_files.all_hold(self.control, holders) is False:
            self._clear()
            return dict(taken)
        handing = self.played(handover.ActionModule, self._task.args["handover"], self.control)
        handing.waiting, handing.holders = self._staged, holders
        result = handing.act()
        self._let_promote(plan)
        self._clear()
        if self.host not in holders and not self._all_hold(holders):
            # What was only looked at, such as the power of a lost host, is no phase of a run that did not begin.
            return {"msg": "not every host gave its part of the lock"}
        result = self._with(_said(taken), result)
        if not result.get("failed"):
            self.control.write("armed/acted/%s" % self.host, {})
        return result

    def _let_promote(self, plan: Plan) -> None:
        """Who is done early leaves the processors to the host that is promoted: what becomes of a result costs more than the part itself."""
        limit = time.monotonic() + _LONGEST_PROMOTION_SECONDS
        while self.host != plan.promote and time.monotonic() < limit:
            refused = armed_files.all_hold(self.control, list(self.control.read_all("lock"))) is False
            if refused or self.control.exists("handover/promoted") or self.control.failed():
                return
            self.control.check_alive()
            time.sleep(0.05)

    def _all_hold(self, holders: list[str]) -> bool:
        """The same, when it is decided."""
        limit = time.monotonic() + float(self._task.args["lock"]["orphan_wait_seconds"]) + 60
        while armed_files.all_hold(self.control, holders) is None and time.monotonic() < limit:
            self.control.check_alive()
            time.sleep(0.01)
        return armed_files.all_hold(self.control, holders) is True

    def _with(self, about: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
        """A result that says what was to be said before it, too."""
        said = _said(result)
        lists = {name: [*about.get(name, []), *said.get(name, [])] for name in ("phases", "gates")}
        return {**result, **told(**{**about, **said, **lists})}

    def _clear(self) -> None:
        """Nothing of this run waits on the host any more; one that does not answer does that by itself, when it hears no beat."""
        for staged in self._staged.values():
            staged.drop()
        self._staged = {}
        if self._reachable() and not self._carrier.clear(self.control.run_id):
            clearing = Aside(lambda: {"said": self._say("rm -rf {0}")})
            if clearing.came(10.0):
                clearing.answer()
            clearing.drop()

    # The gate.

    def _gatekeeper(self) -> Gatekeeper:
        hostvars = self.variables["hostvars"]
        addresses = {host: _ssh(hostvars[host], host) for host in self._hosts}
        look_seconds = float(self._task.args["look_seconds"])
        return Gatekeeper(self.control, self._limits, look_seconds, self._judge, self._display.display, addresses)

    def _judge(self, seen: Observed) -> Judged:
        arguments = self.control.read("asked/judge")["args"]
        judging = self.played(Again, arguments, seen)
        judging.limits = self._limits
        judged = judging.act()
        answer = _said(judged)
        blocking = [
            gate for gate in answer["gates"] if gate.get("required", True) and gate["verdict"] in (gates.FAIL, gates.UNKNOWN)
        ]
        names = ["%s on %s: %s" % (gate["id"], gate["host"], gate.get("title", "")) for gate in blocking]
        # Red where either says so.
        red = {name or sentence: sentence or name for name, sentence in zip_longest(names, judged["sentences"])}
        return Judged(answer.get("plan"), red, answer["gates"], judged["summary"])


def _ssh(known: Any, host: str) -> Optional[tuple[str, int]]:
    """Where ssh finds a host; None where it is reached in another way."""
    if not str(known.get("ansible_connection") or "ssh").endswith(("ssh", "smart")):
        return None
    return str(known.get("ansible_host") or host), int(known.get("ansible_port") or 22)


def _said(result: dict[str, Any]) -> dict[str, Any]:
    """What a result tells the record."""
    relevo: dict[str, Any] = result.get("ansible_stats", {}).get("data", {}).get("relevo", {})
    return relevo
