"""`relevo watch`: listens to the vantage points, decides several times a second, keeps and tells what it decides, and starts what it may."""

from __future__ import annotations

import fcntl
import queue
import shlex
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from relevo import armed, attention, clock, lookout, targets, trigger, wording
from relevo.clerk import Clerk
from relevo.clock import parse_utc, utc
from relevo.decision import Action, Decision, Event, Past, Sight, decide
from relevo.errors import RelevoError, UsageError
from relevo.notice import Notice, environment
from relevo.paths import make_private_directory
from relevo.sight import Feed
from relevo.streams import PROGRAM, Stream, Told

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from relevo.automatic import Cluster
    from relevo.paths import Place

_DECIDE_SECONDS = 0.1
_RUNS_SECONDS = 1.0
_LATE_LETTERS_SECONDS = 15.0
_MOODS = {Event.RETURNED: "good", Event.HEALTHY: "good", Event.MOVED: "doubt"}
_MOODS |= dict.fromkeys((Event.OUTAGE, Event.TWO_PRIMARIES, Event.SUSPECTED), "bad")


@dataclass(frozen=True)
class Watch:
    """What is asked of one watcher.

    hand_over: whoever reads the decisions starts the run; contacts: who hears, a file of URLs; told: what the hosts tell of.
    """

    place: Place
    project: Path
    inventory: tuple[str, ...]
    cluster: Cluster
    contacts: Path | None
    hand_over: bool
    told: Told


class Watcher:
    """Until :meth:`stop`. say: takes each decision that is said, as a JSON tree."""

    def __init__(self, watch: Watch, say: Callable[[Mapping[str, Any]], None]) -> None:
        self._watch, self._say = watch, say
        self._directory = own_directory(watch.place, watch.cluster.name)
        self._lines: queue.Queue[tuple[str, Mapping[str, Any], float]] = queue.Queue()
        listened = [host for host in watch.cluster.hosts if host.observes or host.database]
        self._feeds = {host.name: Feed(host.name, host.site) for host in listened}
        self._observers = {host.name for host in listened if host.observes}
        self._databases = {host.name for host in listened if host.database}
        program = (watch.project / PROGRAM).read_text(encoding="utf-8")
        self._streams = [Stream(host, program, lambda *line: self._lines.put(line), watch.told) for host in listened]
        self._clerk = Clerk(watch.place, watch.cluster.name, self._directory)
        self._trigger = trigger.Trigger(self._directory, watch.project)
        self._lookout = lookout.Lookout(watch.cluster.name, watch.inventory, watch.project, watch.cluster.check_seconds)
        self._attention = attention.Attention()
        self._slow: set[Event] = set()
        self._acted: Decision | None = None
        self._run: tuple[float, str | None] = (float("-inf"), None)
        self._closed: set[str] = set()
        self._letters: list[threading.Thread] = []
        self._stopping = threading.Event()

    def stop(self) -> None:
        """End at the next look."""
        self._stopping.set()

    def run(self) -> None:
        """Watch. UsageError when another watcher of this controller does already."""
        with (self._directory / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                message = f"Another relevo watch of {self._watch.cluster.name} is at work on this controller; one is enough."
                raise UsageError(message) from None
            self._clerk.start()
            self._lookout.start()
            for stream in self._streams:
                stream.start()
            try:
                while not self._stopping.is_set():
                    self._hear()
                    self._look()
            finally:
                for stream in self._streams:
                    stream.stop()
                self._trigger.finish()
                self._hear_trigger(clock.boottime_seconds())
                self._lookout.stop()
                self._clerk.stop()
                for letter in self._letters:
                    letter.join(_LATE_LETTERS_SECONDS)

    def _hear(self) -> None:
        """Whatever has come, and a little time for it to come."""
        try:
            line = self._lines.get(timeout=_DECIDE_SECONDS)
            while True:
                self._take(*line)
                line = self._lines.get_nowait()
        except queue.Empty:
            return

    def _take(self, name: str, line: Mapping[str, Any], arrived: float) -> None:
        try:
            self._feeds[name] = self._feeds[name].take(line, arrived)
        except (KeyError, TypeError, ValueError):
            return  # no line of the program: it is not heard, and so says nothing

    def _look(self) -> None:
        now = clock.boottime_seconds()
        observers = [self._feeds[name] for name in sorted(self._observers)]
        sight, policy = Sight(observers, [self._feeds[name] for name in sorted(self._databases)], now), self._watch.cluster.policy
        decision = decide(sight, policy, self._past(now))
        if decision.action is Action.ACT:
            # Looked at once more, and not from memory, by whoever is about to act.
            self._run = (float("-inf"), None)
            decision = decide(sight, policy, self._past(now))
        self._attention, said = self._attention.hear(decision, now)
        if said is not None:
            self._raise(said, now)
        quiet = decision.event is Event.HEALTHY and self._run[1] is None and not self._trigger.running
        self._lookout.wanted = quiet
        if quiet:
            self._raise_slow([*self._lookout.found(), *lookout.from_alarms(self._feeds.values(), now)], now)
        self._hear_trigger(now)

    def _past(self, now: float) -> Past:
        if now - self._run[0] > _RUNS_SECONDS:
            self._run = (now, trigger.at_work(self._watch.place, self._watch.cluster.name, self._closed))
        return Past(
            event=self._attention.event,
            primary=self._attention.primary,
            acted=self._trigger.spent(),
            returns=self._attention.returns,
            maintenance=self._clerk.maintenance(now),
            run=self._run[1],
            blind=self._clerk.blind(),
        )

    def _raise(self, said: Decision, now: float) -> None:
        variables, command = self._plan(said)
        if said.action is Action.ACT:
            self._acted = said
            if (failed := self._start(said, variables, command)) is not None:
                self._propose(failed, now)
                return
        self._announce(said, variables, command, now)

    def _start(self, said: Decision, variables: Mapping[str, str], command: list[str]) -> str | None:
        """The one run. Why there is none, a sentence."""
        place, cluster = self._watch.place, self._watch.cluster.name
        waiting = None
        # Before the mark: what goes wrong after it may cost the run.
        with suppress(Exception):
            waiting = None if self._watch.hand_over else armed.fitting(place, cluster, variables)
        try:
            self._trigger.spend(said.because)
            if not self._watch.hand_over:
                self._trigger.fire(command, waiting, partial(trigger.at_work, place, cluster))
        except RelevoError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 - the mark is spent: whoever is started after this one would keep still
            return f"The run could not be started: {error}."
        return None

    def _propose(self, failed: str, now: float) -> None:
        """What was to be started by itself is a person's now."""
        if self._acted is None:
            return
        said = Decision(self._acted.event, Action.PROPOSE, f"{self._acted.because} {failed}", self._acted.evidence)
        self._announce(said, *self._plan(said), now)

    def _announce(self, said: Decision, variables: Mapping[str, str], command: list[str], now: float) -> None:
        unheard = {stream.host.name: stream.said for stream in self._streams if self._feeds[stream.host.name].doubt(now)}
        said = replace(said, evidence={**said.evidence, "connections": unheard})
        # After it was started: what is kept and told holds nothing up.
        shown = shlex.join(command) if command else None
        self._keep(said.event.value, {**said.document(), "command": shown, "variables": variables}, now)
        if self._clerk.maintenance(now) is None and (
            said.action is not Action.NONE or said.event not in {Event.HEALTHY, Event.WATCHING}
        ):
            self._tell(said, shown)

    def _hear_trigger(self, now: float) -> None:
        """What became of the run, and before of the word to an armed one."""
        while (told := self._trigger.told()) is not None:
            if told.failed:
                self._propose(told.because, now)
            else:
                self._keep("armed_run", {"run_id": told.run_id, "because": told.because}, now)
        if (ended := self._trigger.ended()) is not None:
            self._keep("run_ended", {"exit_code": ended.code, "run_id": ended.run_id, "verdict": ended.verdict}, now)

    def _raise_slow(self, found: list[Decision], now: float) -> None:
        """Each once, and again after it was gone. Who is not heard now has not said that it is gone."""
        new = [decision for decision in found if decision.event not in self._slow]
        unheard = any(feed.alarms and feed.doubt(now) for feed in self._feeds.values())
        self._slow = {decision.event for decision in found} | (self._slow & {Event.CHECK_MISSING} if unheard else set())
        for decision in new:
            self._keep(decision.event.value, decision.document(), now)
            if self._clerk.maintenance(now) is None:
                self._tell(decision, None)

    def _plan(self, said: Decision) -> tuple[dict[str, str], list[str]]:
        """Variables and command of what is to be done; empty where nothing is."""
        variables = self._variables(said)
        return variables, self._watch.cluster.command(self._watch.inventory, variables) if variables else []

    def _variables(self, said: Decision) -> dict[str, str]:
        if said.action is Action.NONE:
            return {}
        failed = sorted(word["first_failed_at"] for word in said.evidence["vantage_points"] if word["first_failed_at"])
        reason = f"{'automatic' if said.action is Action.ACT else 'proposed by relevo watch'}: {said.evidence['primary']} is lost"
        return self._watch.cluster.variables(reason, failed[0] if failed else None)

    def _keep(self, event: str, said: dict[str, Any], now: float) -> None:
        at = clock.utc_now()
        # The moment of the decision, where keeping it took a while.
        decided = utc(parse_utc(at) - timedelta(seconds=clock.boottime_seconds() - now))
        document = {"decided_at": decided, **said}
        try:
            entry_id = self._clerk.note(event, document).entry_id
        except OSError as error:
            entry_id = None
            document |= {"unkept": f"the decision could not be kept: {error.strerror}"}
        self._say({"cluster": self._watch.cluster.name, "event": event, "entry_id": entry_id, **document})

    def _tell(self, said: Decision, command: str | None) -> None:
        if self._watch.contacts is None:
            return
        letter = compose(self._watch.cluster, said, command)
        thread = threading.Thread(target=_send, args=(self._watch.contacts, letter), daemon=True)
        try:
            thread.start()
        except RuntimeError:
            # No room for a thread: people hear it all the same, and the next look waits for that.
            _send(self._watch.contacts, letter)
            return
        self._letters = [one for one in self._letters if one.is_alive()] + [thread]


def own_directory(place: Place, cluster: str) -> Path:
    """Where a watcher of a cluster keeps what it must not forget."""
    return make_private_directory(place.state / "watch" / cluster)


def _send(contacts: Path, letter: Notice) -> None:
    try:
        for target in targets.read(contacts):
            target.send(letter)
    except RelevoError:
        return  # who watches goes on; relevo watch has said at its start that nobody can be told


def compose(cluster: Cluster, said: Decision, command: str | None) -> Notice:
    """What people hear of a decision; with a proposal the plan, and the one command."""
    word = {Action.ACT: "FAILOVER STARTED", Action.PROPOSE: "DECIDE"}.get(said.action, said.event.value.replace("_", " ").upper())
    facts = [("Cluster", cluster.name)]
    for seen in said.evidence.get("vantage_points", []):
        doubt = f"; does not count: {seen['doubt']}" if seen["doubt"] else ""
        text = f"{seen['outcome'] or 'nothing seen'}, failing for {wording.seconds(seen['failing_seconds'])}{doubt}"
        facts.append((f"{seen['vantage_point']} (site {seen['site']})", text))
    if command:
        policy = cluster.policy
        facts += [
            (
                "Plan",
                f"leave site {said.evidence['site']}, promote at site {policy.target_site}; scope {cluster.inputs['dr_scope']}",
            ),
            ("Accepted", ", ".join(f"{name}={value}" for name, value in cluster.inputs.items() if "accept" in name) or "no loss"),
            ("Command", command),
        ]
    view = {"word": word, "lead": said.because, "facts": facts}
    templates = environment()
    return Notice(
        title=f"{word}: {cluster.name} - {said.because}"[:150],
        page=templates.get_template("word.html.j2").render(view),
        text=templates.get_template("word.txt.j2").render(view).strip() + "\n",
        mood=_MOODS.get(said.event, "doubt"),
    )
