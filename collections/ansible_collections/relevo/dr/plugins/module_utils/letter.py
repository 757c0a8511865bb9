# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A module that is started ahead of time waits here for its last parameters.

On the outage clock a letter costs a fifth of a module's start. The directory is root's and in memory; what a letter may decide is what the same
parameter in the module's own arguments could: the token in it is verified, and the lock is looked at after it came.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from typing import Any, Optional

BOX = "/run/relevo/letters"
OPTIONS: dict[str, dict[str, Any]] = {
    "letter": {"type": "str", "default": ""},
    "letter_seconds": {"type": "float", "default": 300},
    "letter_silence_seconds": {"type": "float", "default": 0},
}
# Touched by whoever leads an armed run; without it nobody waits for hours.
BEAT = "beat"
WITHDRAWN = "withdrawn"
TAKEN_OVER = "another run has taken over"
# Beside a letter's place: somebody waits for it; somebody has it, and is at work.
_READY, _TAKEN = ".ready", ".taken"


class NoLetter(Exception):
    """The letter did not come, or said that nothing is to be done; the message is a sentence."""


def box(run_id: str) -> str:
    """Where the letters of a run lie on a host."""
    return os.path.join(BOX, run_id)


def path(run_id: str, name: str) -> str:
    """Where one letter is put; beside it, ``.ready`` says that somebody waits for it, and ``.taken`` that somebody has got it."""
    return os.path.join(box(run_id), name + ".json")


def complete(parameters: Mapping[str, Any], run_id: str, late: Iterable[str] = ()) -> dict[str, Any]:
    """The parameters with those that the letter brings; at once where no letter is to come. late: the names it may bring. Raises NoLetter."""
    if not parameters["letter"]:
        return dict(parameters)
    silence = float(parameters.get("letter_silence_seconds") or 0.0)
    content = _wait(path(run_id, parameters["letter"]), float(parameters["letter_seconds"]), silence)
    if WITHDRAWN in content:
        raise NoLetter("nothing is to be done: %s" % content[WITHDRAWN])
    unexpected = sorted(set(content) - set(late))
    if unexpected:
        raise NoLetter("a letter brought %s, which is not its to bring" % ", ".join(unexpected))
    return {**parameters, **content}


def withdrawn(parameters: Mapping[str, Any], run_id: str) -> Optional[str]:
    """Why a module that has gone on already, and waits for something else now, is to stop; None as long as it is not."""
    if not parameters["letter"]:
        return None
    if not os.path.isdir(box(run_id)):
        return TAKEN_OVER
    try:
        with open(path(run_id, parameters["letter"]), encoding="utf-8") as source:
            return str(json.load(source)[WITHDRAWN])
    except FileNotFoundError:
        return None


def beat(run_id: str) -> str:
    """The file that a run which leads others to wait for long touches again and again."""
    return os.path.join(box(run_id), BEAT)


def remove_boxes(run_id: Optional[str] = None, *, but: str = "") -> None:
    """Remove the box of one run, or those of all but one; whoever still waits in it, or for its run's go-ahead, goes away."""
    if run_id:
        shutil.rmtree(box(run_id), ignore_errors=True)
        return
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(BOX):
            if name != but:
                shutil.rmtree(box(name), ignore_errors=True)


def _wait(place: str, seconds: float, silence_seconds: float) -> dict[str, Any]:
    os.makedirs(os.path.dirname(place), mode=0o700, exist_ok=True)
    ready = place + _READY
    with open(ready, "w", encoding="utf-8"):
        pass
    deadline = time.monotonic() + seconds
    leader = _Leader(os.path.dirname(place), silence_seconds)
    # Whoever may wait for hours looks less often.
    pause = 0.01 if silence_seconds else 0.004
    while not os.path.exists(place):
        if not os.path.exists(ready):
            raise NoLetter(TAKEN_OVER)
        if time.monotonic() > deadline:
            raise NoLetter("no word came within %g s" % seconds)
        if leader.silent():
            _leave(ready)
            raise NoLetter("nobody has led the run for %g s" % silence_seconds)
        time.sleep(pause)
    with open(place, encoding="utf-8") as source:
        content: dict[str, Any] = json.load(source)
    os.unlink(place)
    try:
        os.replace(ready, place + _TAKEN)
    except FileNotFoundError:
        raise NoLetter(TAKEN_OVER) from None
    return content


class _Leader:
    """Whether somebody still touches the beat of a run, by this process's own clock; with a limit of 0 nobody has to."""

    def __init__(self, directory: str, limit_seconds: float) -> None:
        self._path, self._limit = os.path.join(directory, BEAT), limit_seconds
        self._beat, self._heard = self._look(), time.monotonic()

    def silent(self) -> bool:
        if not self._limit:
            return False
        beat = self._look()
        if beat != self._beat:
            self._beat, self._heard = beat, time.monotonic()
        return time.monotonic() - self._heard > self._limit

    def _look(self) -> Optional[int]:
        try:
            return os.stat(self._path).st_mtime_ns
        except FileNotFoundError:
            return None


def _leave(ready: str) -> None:
    """Nobody is told: the last one who waits in a box takes it away, unless somebody has got a letter in it.

    To whoever is at work a box that is gone says that another run has taken over. A run whose letters were taken has the lock of this host, too:
    whoever frees that lock, or takes it over, removes the box.
    """
    directory = os.path.dirname(ready)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(ready)
        if not [name for name in os.listdir(directory) if name.endswith((_READY, _TAKEN))]:
            shutil.rmtree(directory, ignore_errors=True)
