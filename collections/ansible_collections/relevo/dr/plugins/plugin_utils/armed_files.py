# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an armed run keeps in its directory: what it waits for, the word that came, and what was seen in each round of looks."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils import clock, inputs
from ansible_collections.relevo.dr.plugins.module_utils.armed import CANCEL, GO, GONE, Word, aged, read_word
from ansible_collections.relevo.dr.plugins.plugin_utils.control import Control, ControlError

# All of these are also the runner's to know: runner/relevo/armed.py.
STATE, ANSWER, END = "armed/state", "armed/answer", "armed/end"
# A file of its own for each, so that a run can be cancelled while a go waits for a gate.
WORDS = {GO: "armed/word", CANCEL: "armed/cancel"}
# With the time that a go may wait for a gate that is less than whoever says it waits: nobody counts on an older one.
_GO_SECONDS = 20.0
# What a look keeps; everything else in the directory is of the run, and not of a moment.
OBSERVED = ("database", "application", "witness", "observer", "fence", "restore", "dependencies")
_ROUNDS = "rounds"


def acted(control: Control, host: str) -> bool:
    """Whether this host has played its part already, when the word was said."""
    return control.exists("armed/acted/%s" % host)


def require_word(control: Control) -> None:
    """Raises ControlError for a run that was to wait for a word, and got none: nothing of it may act."""
    if not inputs.armed(control.read("landscape").get("given", {})):
        return
    if not control.exists(END) or control.read(END)["how"] != GONE:
        raise ControlError("this run is armed, and nobody has said go")


def all_hold(control: Control, holders: Sequence[str]) -> Optional[bool]:
    """Whether each of these hosts has given its part of the lock; None as long as that is open. One that has not decides it: the rest do not try then."""
    parts = control.read_all("lock")
    if any(host in parts and not parts[host]["held"] for host in holders):
        return False
    return True if all(host in parts for host in holders) else None


def take_word(control: Control, wanted: str) -> Optional[Word]:
    """The go, or the cancel, that lies there, if there is one. What is none is removed; a go that was said too long ago is refused."""
    if not control.exists(WORDS[wanted]):
        return None
    word = None
    with contextlib.suppress(ControlError, TypeError, ValueError):
        word = read_word(control.read(WORDS[wanted]))
    if word is None or word.word != wanted:
        _remove(control, wanted)
        return None
    age = clock.boottime_seconds() - word.boottime
    if wanted == GO and age > _GO_SECONDS:
        # Of a run that hung, or slept: whoever said it has long done something else.
        said = "GO on controller: observed a word that was said %.0f s ago; expected one of the last %g s. Nothing was started. Next: say it again"
        answer(control, word, [said % (age, _GO_SECONDS)], granted=False)
        return None
    return word


def answer(control: Control, word: Word, sentences: list[str], *, granted: bool) -> None:
    """What became of a word; the next one may come."""
    control.write(ANSWER, {"number": word.number, "granted": granted, "sentences": sentences, "at": clock.utc_now()})
    claim(control, word)


def lies(control: Control, word: Word) -> bool:
    """Whether this word is still said: whoever waits no longer for its answer takes it back."""
    with contextlib.suppress(ControlError, TypeError, ValueError):
        return read_word(control.read(WORDS[word.word])).number == word.number
    return False


def claim(control: Control, word: Word) -> bool:
    """Take it away; False where whoever said it was faster."""
    return lies(control, word) and _remove(control, word.word)


def _remove(control: Control, word: str) -> bool:
    try:
        os.unlink(os.path.join(control.directory, WORDS[word] + ".json"))
    except FileNotFoundError:
        return False
    return True


class Observed(Control):
    """The run's directory, in which what was observed is that of one round, and every age is as of now.

    number: of the round; 0 for what stands as the newest. instead: entries by name that are known better.
    """

    def __init__(self, control: Control, number: int = 0, instead: Optional[Mapping[str, Any]] = None) -> None:
        super().__init__(control.run_id, os.path.dirname(control.directory))
        self.number, self.instead = number, dict(instead or {})

    def read(self, name: str) -> Any:
        value = self.instead[name] if name in self.instead else super().read(name)
        if _kind(name) in OBSERVED and isinstance(value, dict) and value.get("facts") and value.get("observed"):
            return {**value, "facts": aged(value["facts"], age_seconds(value))}
        return value

    def _path(self, name: str) -> str:
        if self.number and _kind(name) in OBSERVED:
            return super()._path("%s/%d/%s" % (_ROUNDS, self.number, name))
        return super()._path(name)


def age_seconds(entry: Mapping[str, Any]) -> float:
    """Since a host was looked at, by the controller's boot clock."""
    return clock.boottime_seconds() - float(entry["observed"]["boottime"])


def ages(control: Control) -> dict[str, float]:
    """By host that answers, how long ago it was looked at."""
    found: dict[str, float] = {}
    for kind in ("database", "application", "witness", "observer"):
        for host, entry in control.read_all(kind).items():
            if entry["reachable"]:
                found[host] = max(age_seconds(entry), found.get(host, 0.0))
    return found


def begin_round(control: Control, number: int) -> None:
    """Every host looks as soon as it sees it."""
    os.makedirs(os.path.join(control.directory, _ROUNDS, str(number)), mode=0o700)


def newest_round(control: Control) -> int:
    """0 where none was begun."""
    try:
        return max((int(name) for name in os.listdir(os.path.join(control.directory, _ROUNDS)) if name.isdigit()), default=0)
    except FileNotFoundError:
        return 0


def looked(control: Control, number: int, host: str) -> None:
    """A host's part of a round is over."""
    control.write("%s/%d/looked/%s" % (_ROUNDS, number, host), {})


def round_is_over(control: Control, number: int, hosts: list[str]) -> bool:
    """Whether every host has looked."""
    return all(control.exists("%s/%d/looked/%s" % (_ROUNDS, number, host)) for host in hosts)


def adopt(control: Control, number: int) -> None:
    """From now on what was seen in this round is the newest."""
    below = os.path.join(control.directory, _ROUNDS, str(number))
    for kind in os.listdir(below):
        if kind.partition(".")[0] not in OBSERVED:
            continue
        if kind.endswith(".json"):
            os.replace(os.path.join(below, kind), os.path.join(control.directory, kind))
            continue
        os.makedirs(os.path.join(control.directory, kind), mode=0o700, exist_ok=True)
        for name in os.listdir(os.path.join(below, kind)):
            os.replace(os.path.join(below, kind, name), os.path.join(control.directory, kind, name))


def forget(control: Control, number: int) -> None:
    """The directory of a round that is over; the mark that it was begun stays until the next one has."""
    shutil.rmtree(os.path.join(control.directory, _ROUNDS, str(number)), ignore_errors=True)


def parts(control: Control, host: str) -> dict[str, dict[str, Any]]:
    """How each look at this host was asked for in the beginning, by what it looked at; the newest way to fence last."""
    known = control.read_all("asked/%s" % host)
    return {name: known[name]["args"] for name in sorted(known, key=lambda name: (name in ("fence", "dependencies"), name))}


def _kind(name: str) -> str:
    return name.partition("/")[0]
