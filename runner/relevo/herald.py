"""Word to people while a run that changes production goes on: that it begins, and that there is no way back. It never holds the run up."""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from relevo import wording
from relevo.notice import Notice, environment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from relevo.feed import Event

BEGUN, NO_RETURN = "BEGUN", "NO WAY BACK"
# The phase whose first good end brings the word.
_WORDS = {"LOCK": BEGUN, "PROMOTE": NO_RETURN, "REBUILD": NO_RETURN}
_LEADS = {
    "LOCK": "All gates have passed and the locks are held: from here on hosts are changed.",
    "PROMOTE": "{host} is the primary now. The old side does not come back by itself; what is next is said at the end of the run.",
    "REBUILD": "The data of {host} are of the new primary's lineage now. What only it had is sealed on it; the record says where.",
}
_LAST_WORDS_SECONDS = 15.0


@dataclass(frozen=True)
class About:
    """What every word names. inputs: {mode, scope, target_site, ...}, where given."""

    run_id: str
    runbook: str
    cluster: str | None
    operator: str
    inputs: Mapping[str, str]


class Listener(Protocol):
    """Somebody to tell."""

    def send(self, notice: Notice) -> str | None:
        """Send; the reason when it was not taken."""


@dataclass
class Herald:
    """Sends in a thread of its own; :meth:`close` says who has not heard."""

    about: About
    targets: Sequence[Listener]
    _said: set[str] = field(default_factory=set)
    _waiting: queue.Queue[Notice | None] = field(default_factory=queue.Queue)
    _problems: list[str] = field(default_factory=list)
    _thread: threading.Thread | None = None

    def take(self, event: Event) -> None:
        """See whether an event is one that people hear of; returns at once."""
        for phase in (phase for said in event.said for phase in said.get("phases") or []):
            word = _WORDS.get(str(phase.get("name")))
            if word and phase.get("outcome") == "ok" and word not in self._said:
                self._said.add(word)
                self._send(compose(self.about, word, _LEADS[str(phase["name"])].format(host=phase.get("host")), event.at))

    def close(self) -> list[str]:
        """Wait a little for what is still on its way; a sentence for each word that did not arrive."""
        if self._thread is None:
            return []
        self._waiting.put(None)
        self._thread.join(_LAST_WORDS_SECONDS)
        late = ["a word is still on its way"] if self._thread.is_alive() else []
        return [f"Not everybody heard of this run while it went on: {problem}." for problem in [*self._problems, *late]]

    def _send(self, notice: Notice) -> None:
        self._waiting.put(notice)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while (notice := self._waiting.get()) is not None:
            self._problems += [reason for target in self.targets if (reason := target.send(notice))]


def compose(about: About, word: str, lead: str, at: str) -> Notice:
    """One of the two words about a run. lead: what it means."""
    what = " ".join([about.runbook.replace("_", " "), *([f"of {about.cluster}"] if about.cluster else [])])
    mode = about.inputs.get("mode", "planned")
    view = {
        "word": word,
        "lead": lead,
        "facts": [
            ("What", f"{what} ({mode})"),
            ("To site", about.inputs.get("target_site")),
            ("Operator", about.operator),
            ("At", wording.moment(at)),
            ("Run", about.run_id),
        ],
    }
    templates = environment()
    return Notice(
        title=f"{word}: {what} to site {about.inputs.get('target_site')} ({mode})",
        page=templates.get_template("word.html.j2").render(view),
        text=templates.get_template("word.txt.j2").render(view).strip() + "\n",
        mood="doubt",
    )
