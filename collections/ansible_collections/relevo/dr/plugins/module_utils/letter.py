# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A module that is started ahead of time waits here for its last parameters.

On the outage clock a letter costs a fifth of a module's start. The directory is root's and in memory; what a letter may decide is what the same
parameter in the module's own arguments could: the token in it is verified, and the lock is looked at after it came.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from typing import Any, Optional

BOX = "/run/relevo/letters"
OPTIONS: dict[str, dict[str, Any]] = {"letter": {"type": "str", "default": ""}, "letter_seconds": {"type": "float", "default": 300}}
WITHDRAWN = "withdrawn"
TAKEN_OVER = "another run has taken over"


class NoLetter(Exception):
    """The letter did not come, or said that nothing is to be done; the message is a sentence."""


def box(run_id: str) -> str:
    """Where the letters of a run lie on a host."""
    return os.path.join(BOX, run_id)


def path(run_id: str, name: str) -> str:
    """Where one letter is put; beside it, ``.ready`` says that somebody waits for it."""
    return os.path.join(box(run_id), name + ".json")


def complete(parameters: Mapping[str, Any], run_id: str, late: Iterable[str] = ()) -> dict[str, Any]:
    """The parameters with those that the letter brings; at once where no letter is to come. late: the names it may bring. Raises NoLetter."""
    if not parameters["letter"]:
        return dict(parameters)
    content = _wait(path(run_id, parameters["letter"]), float(parameters["letter_seconds"]))
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


def remove_boxes(run_id: Optional[str] = None) -> None:
    """Remove the box of one run, or those of all; whoever still waits in it, or for its run's go-ahead, goes away."""
    shutil.rmtree(box(run_id) if run_id else BOX, ignore_errors=True)


def _wait(place: str, seconds: float) -> dict[str, Any]:
    os.makedirs(os.path.dirname(place), mode=0o700, exist_ok=True)
    ready = place + ".ready"
    with open(ready, "w", encoding="utf-8"):
        pass
    deadline = time.monotonic() + seconds
    while not os.path.exists(place):
        if not os.path.exists(ready):
            raise NoLetter(TAKEN_OVER)
        if time.monotonic() > deadline:
            raise NoLetter("no word came within %g s" % seconds)
        time.sleep(0.004)
    with open(place, encoding="utf-8") as source:
        content: dict[str, Any] = json.load(source)
    os.unlink(place)
    os.unlink(ready)
    return content
