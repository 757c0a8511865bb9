"""Live progress of a run: phases, the current task, gates that fail. Plain lines where there is no terminal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from types import TracebackType

    from relevo.feed import Event

MARKS = {"ok": ("✓", "green"), "failed": ("✗", "red"), "skipped": ("–", "yellow")}
GATE_MARKS = {
    "pass": ("✓", "green"),
    "fail": ("✗", "red"),
    "unknown": ("?", "yellow"),
    "accepted": ("!", "yellow"),
    "not_applicable": ("·", "dim"),
}


class Progress:
    """A context in which events are shown as they come. Always on the standard error: results go to the other stream.

    In a terminal it vanishes at the end, when the summary says it better. lasting: whether plain lines are printed at all.
    """

    def __init__(self, console: Console, title: str, *, lasting: bool = True) -> None:
        self._console, self._title, self._lasting = console, title, lasting
        self._began = time.monotonic()
        self._play = self._task = ""
        self._phases: dict[tuple[str, str], dict[str, Any]] = {}
        self._gates: dict[tuple[str, str], dict[str, Any]] = {}
        self._failures: list[str] = []
        self._note = ""
        self._spinner = Spinner("dots")
        self._live = Live(get_renderable=self._render, console=console, transient=True) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        else:
            self._plain(f"{self._title}: started")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def take(self, event: Event) -> None:
        """Show one event."""
        if event.event == "playbook_on_play_start":
            self._play = event.play or ""
            self._plain(f"{self._play}")
        elif event.event == "playbook_on_task_start":
            self._task, self._note = event.task or "", ""
        elif event.event in {"runner_on_failed", "runner_on_unreachable"}:
            known = " (tolerated)" if event.ignored else ""
            what = "no answer: " if event.event == "runner_on_unreachable" else ""
            self._failures.append(f"{event.host}: {event.task}: {what}{event.message}{known}")
            self._plain(f"  {self._failures[-1]}")
        for said in event.said:
            self._take_said(said)

    def expect(self, line: str) -> None:
        """How long it will take; it stays where it was said."""
        if self._live is None:
            self._plain(line)
        else:
            self._console.print(Text(line, "dim"))

    def note(self, text: str) -> None:
        """A line that a long task says while it is at work."""
        for line in text.splitlines():
            if line.strip() and not line.startswith("["):
                self._note = line.strip()
                self._plain(f"  {self._note}")

    def _take_said(self, said: dict[str, Any]) -> None:
        for phase in said.get("phases") or []:
            self._phases[(str(phase.get("name")), str(phase.get("host")))] = phase
            self._plain(f"  {phase.get('name')} on {phase.get('host')}: {phase.get('outcome')} {_seconds(phase)}".rstrip())
        for gate in said.get("gates") or []:
            self._gates[(str(gate.get("id")), str(gate.get("host")))] = gate
            if gate.get("verdict") not in {"pass", "not_applicable"}:
                self._plain(f"  gate {_gate_line(gate)}")

    def _plain(self, line: str) -> None:
        if self._live is None and self._lasting:
            took = time.monotonic() - self._began
            self._console.print(f"[{took:7.1f} s] {line}", markup=False, highlight=False, soft_wrap=True)

    def _render(self) -> RenderableType:
        head = Text.assemble((self._title, "bold"), f"   {_clock(time.monotonic() - self._began)}")
        rows = Table.grid(padding=(0, 2))
        for phase in self._phases.values():
            mark, style = MARKS.get(str(phase.get("outcome")), ("?", "yellow"))
            cells = (str(phase.get("name")), str(phase.get("host")), _seconds(phase), str(phase.get("detail") or ""))
            rows.add_row(Text(f"  {mark}", style), *(Text(cell) for cell in cells))
        parts: list[RenderableType] = [head, rows]
        gates = [gate for gate in self._gates.values() if gate.get("verdict") not in {"pass", "not_applicable"}]
        parts += [Text(f"  gate {_gate_line(gate)}", GATE_MARKS.get(str(gate.get("verdict")), ("", "red"))[1]) for gate in gates]
        parts += [Text(f"  {failure}", "red") for failure in self._failures[-3:]]
        self._spinner.update(text=Text(f"{self._play}  ·  {self._task}" if self._task else self._play or "starting"))
        parts += [Text(f"  {self._note}", "dim")] if self._note else []
        parts.append(self._spinner)
        return Group(*parts)


def _gate_line(gate: dict[str, Any]) -> str:
    line = f"{gate.get('id')} on {gate.get('host')}: {gate.get('verdict')}; observed {gate.get('observed')}"
    return f"{line}; expected {gate.get('expected')}. {gate.get('next_action') or ''}".rstrip()


def _seconds(phase: dict[str, Any]) -> str:
    duration = phase.get("duration_seconds")
    return f"{float(duration):.1f} s" if isinstance(duration, (int, float)) else ""


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"
