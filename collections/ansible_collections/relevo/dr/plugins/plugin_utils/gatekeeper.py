# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whoever keeps the gate of an armed run: lets the hosts look again and again, judges what they saw, and answers the word that comes.

One worker of the waiting task does this beside its own part. A step never waits for a host; what may take time is done aside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils import armed, clock
from ansible_collections.relevo.dr.plugins.module_utils.inputs import confirmation
from ansible_collections.relevo.dr.plugins.module_utils.milestone import beginning
from ansible_collections.relevo.dr.plugins.module_utils.probe import probe
from ansible_collections.relevo.dr.plugins.plugin_utils import armed_files
from ansible_collections.relevo.dr.plugins.plugin_utils.armed_files import Observed
from ansible_collections.relevo.dr.plugins.plugin_utils.aside import Aside
from ansible_collections.relevo.dr.plugins.plugin_utils.control import Control
from ansible_collections.relevo.dr.plugins.plugin_utils.fencing import NotFenced, power

# How long a round may take until it is judged without those who have not looked: they are red then.
_ROUND_SECONDS = 30.0
# How long a word may wait for a gate to turn green, since a look may be older than what happened.
_WORD_SECONDS = 15.0
# What a run is to do, and what it may take over: another's words must be the same before they count for it.
_WISH, _ACCEPTS = ("dr_mode", "dr_scope", "dr_target_site", "dr_path", "dr_attested_by"), ("dr_accept_", "dr_attest_")
_POWER_SECONDS = 2.0


@dataclass(frozen=True)
class Judged:
    """What came of one judgement. plan: None where none could be made; red: a sentence by gate; gates: for the record."""

    plan: Optional[dict[str, Any]]
    red: Mapping[str, str]
    gates: list[dict[str, Any]]
    summary: str
    at: str = ""
    boottime: float = 0.0

    @property
    def heard(self) -> bool:
        """Whether every host that the plan needs has answered."""
        return self.plan is not None and not any(name.startswith("REACH ") for name in self.red)


Judge = Callable[[Observed], Judged]


class Gatekeeper:
    """judge: looks at nothing but what was observed; say: to whoever sits at the terminal; addresses: of every host's ssh, None where it has none."""

    def __init__(
        self,
        control: Control,
        limits: armed.Limits,
        look_seconds: float,
        judge: Judge,
        say: Callable[[str], None],
        addresses: Mapping[str, Optional[tuple[str, int]]],
    ) -> None:
        self._control, self._limits, self._look_seconds, self._judge, self._say = control, limits, look_seconds, judge, say
        self._addresses, self._hosts = addresses, sorted(addresses)
        self._known = control.read("landscape")
        self._armed = beginning()
        self._number, self._began = 0, float("-inf")
        self._running = False
        self._judging: Optional[Aside] = None
        self._newest: Optional[Judged] = None
        self._heard = self._armed["boottime"]
        self._red: list[str] = []
        self._word: Optional[armed.Word] = None
        self._word_since = 0.0
        self._announced = False
        self.looks = 0

    def step(self) -> None:
        """One look at everything that may have come. Once the waiting has ended nothing that comes changes how."""
        parts: tuple[Callable[[], object], ...] = (self._cancelled, self._words, self._rounds, self._expires)
        for part in parts:
            if self._control.exists(armed_files.END):
                return
            part()

    def _expires(self) -> None:
        waited = armed.expired(self._since(self._armed["boottime"]), self._since(self._heard), self._limits)
        if waited:
            self._end(armed.EXPIRED, "the run is armed no longer: %s" % waited)

    def announce(self) -> None:
        """Once every host has started what it will have to run."""
        self._announced = True
        self._keep_state()
        self._say(
            "Armed: run %s waits for a word. Go: relevo go %s. Cancel: relevo cancel %s, or Ctrl-C where it was started."
            % (self._control.run_id, self._control.run_id, self._control.run_id)
        )

    def close(self) -> None:
        """Nobody waits for a judgement any more."""
        if self._judging is not None:
            self._judging.drop()

    # Rounds of looks, and what is made of them.

    def _rounds(self) -> None:
        if self._judging is not None:
            if self._judging.came(0):
                self._judged(self._judging.answer())
            return
        if self._running:
            late = self._since(self._began) > _ROUND_SECONDS
            if late or armed_files.round_is_over(self._control, self._number, self._hosts):
                self._running = False
                number = self._number
                self._judging = Aside(lambda: vars(self._judge(Observed(self._control, number))))
            return
        if self._since(self._began) >= self._look_seconds:
            self._look()

    def _look(self) -> None:
        self._number += 1
        self._began, self._running = clock.boottime_seconds(), True
        armed_files.begin_round(self._control, self._number)
        armed_files.forget(self._control, self._number - 1)

    def _judged(self, answer: Optional[dict[str, Any]]) -> None:
        self._judging = None
        self.looks += 1
        armed_files.adopt(self._control, self._number)
        if answer is None or "gates" not in answer:
            said = (answer or {}).get("msg") or "it ended without an answer"
            answer = vars(Judged(None, {"JUDGE controller": "the judgement went wrong: %s" % said}, [], ""))
        self._take(Judged(**{**answer, "at": clock.utc_now(), "boottime": clock.boottime_seconds()}))
        if self._word is not None:
            self._try(self._word)

    def _take(self, judged: Judged) -> None:
        self._newest = judged
        if judged.heard:
            self._heard = judged.boottime
        red, green = armed.turned(self._red, judged.red)
        for name in red:
            self._say("In the way of go: %s" % judged.red[name])
        if green:
            self._say("No longer in the way: %s%s" % (", ".join(green), "" if judged.red else ". Every gate is green"))
        self._red = list(judged.red)
        self._keep_state()

    def _keep_state(self) -> None:
        newest = self._newest
        self._control.write(
            armed_files.STATE,
            {
                "run_id": self._control.run_id,
                "cluster": self._known["cluster"],
                "ready": self._announced,
                "armed_at": self._armed["at"],
                "armed_boottime": self._armed["boottime"],
                "limit_seconds": self._limits.armed_seconds,
                "looks": self.looks,
                "judged_at": newest.at if newest else None,
                "summary": newest.summary if newest else "",
                "red": list(newest.red.values()) if newest else [],
                "confirm": self._words_of_confirmation(),
                "wish": {name: value for name, value in self._known["given"].items() if name in _WISH or name.startswith(_ACCEPTS)},
            },
        )

    # Words.

    def _cancelled(self) -> bool:
        """Whether somebody cancels; a go that waits for a gate is over then."""
        word = armed_files.take_word(self._control, armed.CANCEL)
        if word is None:
            return False
        armed_files.answer(self._control, word, [], granted=True)
        self._end(armed.CANCELLED, "cancelled by %s%s" % (word.by, ": %s" % word.reason if word.reason else ""), word)
        return True

    def _words(self) -> None:
        if self._word is not None and not armed_files.lies(self._control, self._word):
            self._taken_back(self._word)
        if self._word is not None:
            if self._since(self._word_since) > _WORD_SECONDS:
                self._refuse(self._word, list(self._newest.red.values()) if self._newest else [])
            return
        word = armed_files.take_word(self._control, armed.GO)
        if word is None:
            return
        wanted = self._words_of_confirmation()
        if word.confirm != wanted:
            said = "CONFIRM on controller: observed %r; expected the words %r. Nothing was started" % (word.confirm[:200], wanted)
            self._refuse(word, [said])
            return
        self._word, self._word_since = word, clock.boottime_seconds()
        self._try(word)

    def _words_of_confirmation(self) -> str:
        given = self._known["given"]
        return confirmation(given["dr_mode"], self._known["cluster"], given["dr_target_site"])

    def _refuse(self, word: armed.Word, sentences: list[str]) -> None:
        self._word = None
        armed_files.answer(self._control, word, sentences, granted=False)
        self._say("%s said go, and the run does not: %s" % (word.by, "; ".join(sentences) or "it was not judged yet"))

    def _taken_back(self, word: armed.Word) -> None:
        self._word = None
        self._say("%s said go, and has taken it back" % word.by)

    def _try(self, word: armed.Word) -> None:
        """Judge once more, by what is known of this very moment; where a gate is red the hosts look again at once."""
        began = beginning()
        if self._judging is not None:
            # Both would write the plan, and the older one last. What its round saw is the newest all the same.
            self._judging.drop()
            self._judging = None
            armed_files.adopt(self._control, self._number)
        present = Observed(self._control, instead=self._present())
        judged = self._judge(present)
        if judged.red or judged.plan is None:
            self._take(Judged(**{**vars(judged), "at": clock.utc_now(), "boottime": clock.boottime_seconds()}))
            if not self._running:
                self._look()
            return
        if self._cancelled():
            return
        if not armed_files.claim(self._control, word):
            self._taken_back(word)
            return
        self._word = None
        for name, entry in present.instead.items():
            self._control.write(name, entry)
        # From here it is a run as any other: it began now.
        self._control.write("landscape", {**self._known, "began": began})
        armed_files.answer(self._control, word, [judged.summary], granted=True)
        self._end(armed.GONE, judged.summary, word, judged, armed_files.ages(self._control))

    def _end(
        self,
        how: str,
        said: str,
        word: Optional[armed.Word] = None,
        judged: Optional[Judged] = None,
        ages: Optional[Mapping[str, float]] = None,
    ) -> None:
        """The waiting is over, for every host."""
        self._control.write(
            armed_files.END,
            {
                "how": how,
                "said": said,
                "gates": judged.gates if judged else [],
                "armed": {
                    "armed_at": self._armed["at"],
                    "ended_at": clock.utc_now(),
                    "ended": how,
                    "go_at": word.at if word and how == armed.GONE else None,
                    "by": word.by if word else None,
                    "reason": (word.reason if word else "") or None,
                    "looks": self.looks,
                    "evidence_age_seconds": {host: round(age, 3) for host, age in (ages or {}).items()},
                },
            },
        )

    # This very moment.

    def _present(self) -> dict[str, Any]:
        """By name what is known better than by the newest look: who is silent now, and whether the power of a silent host to be fenced is off."""
        fences = (self._newest.plan if self._newest and self._newest.plan else self._control.read("plan"))["fence"]
        with ThreadPoolExecutor(max_workers=2 * len(self._hosts)) as pool:
            off = {host: pool.submit(self._power, host) for host in fences}
            asked = {host: pool.submit(self._answers, host) for host in self._hosts if host not in fences}
            powered = {host: one.result() for host, one in off.items()}
            # Who has no power answers nobody: nobody needs to wait for that.
            asked.update({host: pool.submit(self._answers, host) for host in fences if powered[host] != "off"})
            silent = [host for host in fences if powered[host] == "off"] + [host for host, one in asked.items() if not one.result()]
        instead: dict[str, Any] = {}
        for kind in ("database", "application", "witness", "observer"):
            for host, entry in self._control.read_all(kind).items():
                if host in silent and entry["reachable"]:
                    instead["%s/%s" % (kind, host)] = _silent(entry, "it did not answer when the word was said")
        for host, state in powered.items():
            if state is not None:
                instead["fence/%s" % host] = {**self._control.read("fence/%s" % host), "power": state, "error": None}
        return instead

    def _answers(self, host: str) -> bool:
        place = self._addresses[host]
        if place is None:
            return True
        address, port = place
        return bool(probe("controller", host, address, port)["result"] == "answers")

    def _power(self, host: str) -> Optional[str]:
        settings = self._control.read("fence/%s" % host)["settings"]
        if "command" not in settings["providers"] or not settings["command_status"]:
            return None
        try:
            return power(settings["command_status"], {**settings, "command_timeout_seconds": _POWER_SECONDS})
        except NotFenced:
            return None

    def _since(self, boottime: float) -> float:
        return clock.boottime_seconds() - boottime


def _silent(entry: Mapping[str, Any], said: str) -> dict[str, Any]:
    """As a look keeps a host that does not answer."""
    gone = {"reachable": False, "denied": False, "error": said, "lock_owner_dead": False, "lock_owner_alive": False}
    return {**{name: value for name, value in entry.items() if name not in ("facts", "clock_offset_seconds")}, **gone}
