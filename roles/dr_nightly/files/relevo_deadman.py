#!/usr/bin/python3
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""relevo-deadman: raises an alarm on the witness when a job of the controller falls silent.

  relevo-deadman SETTINGS      asked every few minutes by systemd; exit 1 when somebody must look at it itself

Each job tells the witness of its end (its beat), and has its own limits. This program depends on nothing of the controller: it also speaks when that is
lost. One message for each job at once, then one every `repeat_seconds`, and one when it is over. It needs Python, and apprise to speak.
"""

from __future__ import annotations

import datetime
import json
import logging
import os
import re
import socket
import ssl
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Optional
from urllib.parse import unquote, urlsplit

SOCKET_SECONDS = 20
SHORTEST_SECRET = 6
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


# -- deciding: pure --


@dataclass(frozen=True)
class Settings:
    """What is watched. Seconds: how long it may be silent, how long without a passed one, between messages, clocks' difference."""

    cluster: str
    runbook: str
    beat: str
    urls: str
    silence_seconds: float
    unproven_seconds: float
    repeat_seconds: float
    clock_seconds: float
    action: str


@dataclass(frozen=True)
class Now:
    """This moment by the two clocks: the one that can be set, and the one that cannot."""

    wall: float
    boottime: float
    boot_id: str


@dataclass(frozen=True)
class Beat:
    """The newest finished run. Epoch seconds: its end by the controller's clock, when this witness heard, the last passed one's end."""

    run_id: str
    verdict: str
    at: float
    heard_at: float
    heard_boottime: float
    heard_boot_id: str
    passed_at: Optional[float] = None

    def moved(self, now: Now) -> float:
        """How far this witness's clock was set since it heard; 0 when it was started anew since then."""
        if now.boot_id != self.heard_boot_id:
            return 0.0
        return (now.wall - self.heard_at) - (now.boottime - self.heard_boottime)


@dataclass(frozen=True)
class Alarm:
    """What is wrong. kind: silence | unproven | clock | unreadable."""

    kind: str
    title: str
    text: str


@dataclass
class Memory:
    """What this program knows of itself: since when it watches, and when it spoke of which kind of alarm."""

    watching_since: float
    told: dict[str, float] = field(default_factory=dict)


def judge(settings: Settings, beat: Optional[Beat], watching_since: float, now: Now) -> Optional[Alarm]:
    """What is wrong now; a wrong clock comes first, because no age can be trusted then."""
    what = "%s of %s" % (settings.runbook.replace("_", " "), settings.cluster)
    if watching_since > now.wall + settings.clock_seconds:
        return _clock(what, "this witness's clock went back behind %s, when it began to watch" % shown(watching_since))
    if beat is None:
        age = now.wall - watching_since
        if age <= settings.silence_seconds:
            return None
        said = "This witness has watched for %s and never heard of a finished run; it should hear within %s." % (
            words(age),
            words(settings.silence_seconds),
        )
        return _silence(settings, what, age, said)
    wrong = _wrong_clock(settings, beat, now)
    if wrong:
        return _clock(what, wrong)
    return _too_long(settings, what, beat, watching_since, now)


def _too_long(settings: Settings, what: str, beat: Beat, watching_since: float, now: Now) -> Optional[Alarm]:
    age = now.wall - min(beat.at, beat.heard_at)
    last = "run %s, which ended as %s at %s" % (beat.run_id, beat.verdict, shown(beat.at))
    if age > settings.silence_seconds:
        said = "No run has finished for %s; one should within %s. The last one was %s." % (
            words(age),
            words(settings.silence_seconds),
            last,
        )
        return _silence(settings, what, age, said)
    since = beat.passed_at if beat.passed_at is not None else watching_since
    if beat.verdict != "passed" and now.wall - since > settings.unproven_seconds:
        passed = "The last one that passed ended at %s" % shown(since) if beat.passed_at is not None else "None ever passed"
        return Alarm(
            "unproven",
            "UNPROVEN: %s has not passed for %s" % (what, words(now.wall - since)),
            "It runs, and it does not pass: the newest is %s. %s; one should within %s.\nDo: on the controller, relevo results show %s, "
            "and what each gate there says to do." % (last, passed, words(settings.unproven_seconds), beat.run_id),
        )
    return None


def _wrong_clock(settings: Settings, beat: Beat, now: Now) -> Optional[str]:
    if beat.at > beat.heard_at + settings.clock_seconds:
        ahead = words(beat.at - beat.heard_at)
        return "run %s ended at %s by the controller's clock, %s after this witness heard of it" % (
            beat.run_id,
            shown(beat.at),
            ahead,
        )
    if beat.heard_at > now.wall + settings.clock_seconds:
        return "this witness heard of run %s at %s, which is still to come by its own clock" % (beat.run_id, shown(beat.heard_at))
    if abs(beat.moved(now)) > settings.clock_seconds:
        return "this witness's clock was moved by %s since it heard of run %s" % (words(beat.moved(now)), beat.run_id)
    return None


def _silence(settings: Settings, what: str, age: float, said: str) -> Alarm:
    return Alarm(
        "silence",
        "SILENT: nothing heard of %s for %s" % (what, words(age)),
        "%s Whether this cluster can be restored is not known since then.\nDo: %s" % (said, settings.action),
    )


def _clock(what: str, said: str) -> Alarm:
    return Alarm(
        "clock",
        "CLOCK: the watch over %s cannot tell the time" % what,
        "Observed: %s. A silence could be missed, or be no silence.\nDo: set the clocks of the controller and of this witness right "
        "(timedatectl, chronyc tracking), then run the check once." % said,
    )


def unreadable(settings: Settings, reason: str) -> Alarm:
    """The beat is there and says nothing."""
    return Alarm(
        "unreadable",
        "SILENT: the beat of %s of %s cannot be read" % (settings.runbook.replace("_", " "), settings.cluster),
        "%s: %s.\nDo: look at the disk of this witness, then run the check once; it writes the file anew."
        % (settings.beat, reason),
    )


def over(settings: Settings, beat: Optional[Beat]) -> Alarm:
    """The all-clear; without it nobody knows whether the alarm still holds."""
    what = "%s of %s" % (settings.runbook.replace("_", " "), settings.cluster)
    said = (
        "The newest is run %s, which ended as %s at %s." % (beat.run_id, beat.verdict, shown(beat.at))
        if beat
        else "Nothing is due yet."
    )
    return Alarm("over", "OVER: %s is heard of again" % what, said)


def due(memory: Memory, alarm: Alarm, now: Now, repeat_seconds: float) -> bool:
    """Whether to speak: at once, then at a bounded rate; a clock that went back is no reason to be silent."""
    told = memory.told.get(alarm.kind)
    return told is None or not 0 <= now.wall - told < repeat_seconds


def shown(moment: float) -> str:
    """A time for people."""
    return datetime.datetime.fromtimestamp(moment, datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def words(seconds: float) -> str:
    """A duration for people."""
    size = abs(round(seconds))
    sign = "-" if seconds < 0 else ""
    if size < 120:
        return "%s%d s" % (sign, size)
    if size < 7200:
        return "%s%d min" % (sign, size // 60)
    return "%s%d h" % (sign, size // 3600) if size < 172800 else "%s%d d %d h" % (sign, size // 86400, size % 86400 // 3600)


# -- files --


def read_settings(path: Path) -> list[Settings]:
    """The settings of each job; OSError, ValueError or TypeError when there are none."""
    said = json.loads(path.read_text(encoding="utf-8"))
    jobs = said.pop("jobs", [])
    if not jobs:
        raise ValueError("they name no job")
    return [Settings(**said, **job) for job in jobs]


def read_beat(path: Path) -> Optional[Beat]:
    """The newest beat, None when there never was one. ValueError when the file says nothing."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ValueError(error.strerror) from None
    try:
        passed_at = said.get("passed_at")
        return Beat(
            run_id=str(said["run_id"]),
            verdict=str(said["verdict"]),
            at=epoch(said["at"]),
            heard_at=epoch(said["heard_at"]),
            heard_boottime=float(said["heard_boottime"]),
            heard_boot_id=str(said["heard_boot_id"]),
            passed_at=epoch(passed_at) if passed_at else None,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("it lacks %s" % error) from None


def epoch(text: str) -> float:
    """An ISO 8601 UTC time, as records have it, in seconds."""
    return datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%f%z").timestamp()


class Keeper:
    """The memory on disk; where the disk is full, in the runtime directory, so that the rate stays bounded."""

    def __init__(self, directories: list[Path], name: str) -> None:
        self._paths = [directory / name for directory in directories]

    def read(self, now: Now) -> Memory:
        """The newest memory; a new one when none can be read, which begins to watch now."""
        found = []
        for path in self._paths:
            try:
                said = json.loads(path.read_text(encoding="utf-8"))
                told = {str(kind): float(at) for kind, at in said["told"].items()}
                found.append((path.stat().st_mtime_ns, Memory(float(said["watching_since"]), told)))
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                continue
        if found:
            return max(found, key=lambda entry: entry[0])[1]
        memory = Memory(now.wall)
        self.write(memory)
        return memory

    def write(self, memory: Memory) -> bool:
        """Whether anything keeps it."""
        for path in self._paths:
            try:
                write_atomically(path, json.dumps(asdict(memory)) + "\n")
            except OSError as error:
                complain("%s cannot be written: %s" % (path, error.strerror))
            else:
                return True
        return False


def memory_of(job: Settings) -> str:
    """Each job has a memory of its own: one that is new is not late because another was watched before."""
    return "%s@%s.json" % (job.runbook, job.cluster)


def write_atomically(path: Path, content: str) -> None:
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=".relevo-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as target:
            target.write(content)
            target.flush()
            os.fsync(target.fileno())
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise


# -- speaking --


class Said(logging.Handler):
    """What apprise says while it sends: warnings, and the exceptions that it tells only as details."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.levelno >= logging.WARNING or "Exception" in text:
            self.lines.append(text.strip().rstrip("."))


def speak(path: Path, alarm: Alarm) -> bool:
    """Send to every URL in the file; whether at least one took it. No URL is ever shown."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        complain("%s cannot be read: %s" % (path, error.strerror))
        return False
    urls = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip() and not line.strip().startswith("#")]
    taken = [send(url, "line %d of %s (%s)" % (number, path.name, url.partition("://")[0][:20]), alarm) for number, url in urls]
    if not urls:
        complain("%s names nobody" % path)
    return any(taken)


def send(url: str, name: str, alarm: Alarm) -> bool:
    said = Said()
    try:
        import apprise

        verify_mail_servers()
        logger = logging.getLogger("apprise")
        logger.handlers, logger.propagate = [said], False
        logger.setLevel(logging.DEBUG)
        socket.setdefaulttimeout(SOCKET_SECONDS)
        service = apprise.Apprise.instantiate(url)
        mood = apprise.NotifyType.SUCCESS if alarm.kind == "over" else apprise.NotifyType.FAILURE
        body = "%s\n\nSaid by the witness %s." % (alarm.text, socket.gethostname())
        taken = bool(service and service.notify(body, title=alarm.title, notify_type=mood, body_format=apprise.NotifyFormat.TEXT))
    except Exception as error:  # noqa: BLE001 - one broken service must not silence the others
        said.lines.append("%s: %s" % (type(error).__name__, error))
        taken = False
    if not taken:
        complain("%s did not take it: %s" % (name, hidden("; ".join(dict.fromkeys(said.lines)) or "no reason given", url)))
    return taken


def verify_mail_servers() -> None:
    """Debian's apprise 1.2 and 1.9 hand mail to whoever answers: smtplib verifies no certificate unless it is told to."""
    ssl._create_stdlib_context = lambda *_, **__: ssl.create_default_context()  # noqa: SLF001 - the one place that smtplib asks


def hidden(text: str, url: str) -> str:
    """A reason without anything of the URL that may be a secret."""
    parts = urlsplit(url)
    found = {url, parts.password or "", *re.split(r"[/&;=,?]", "%s&%s&%s" % (parts.path, parts.query, parts.fragment))}
    secrets = {word for word in found if len(word) >= SHORTEST_SECRET}
    for secret in sorted(secrets | {unquote(word) for word in secrets}, key=len, reverse=True):
        text = text.replace(secret, "[redacted]")
    return text


def complain(sentence: str) -> None:
    print("relevo-deadman: %s." % sentence, file=sys.stderr)


# -- one look --


def look(settings: Settings, keeper: Keeper, now: Now, say: Any = speak) -> int:
    """Judge and speak. The memory is kept before anything is sent, so that a full disk or a crash repeats nothing at once."""
    memory = keeper.read(now)
    beat: Optional[Beat] = None
    try:
        beat = read_beat(Path(settings.beat))
        alarm = judge(settings, beat, memory.watching_since, now)
    except ValueError as error:
        alarm = unreadable(settings, str(error))
    before = dict(memory.told)
    if alarm is None and not before:
        return 0
    if alarm is None:
        alarm = over(settings, beat)
        memory.told = {}
    elif due(memory, alarm, now, settings.repeat_seconds):
        memory.told = {**before, alarm.kind: now.wall}
    else:
        return 0
    print("relevo-deadman: %s. %s" % (alarm.title, alarm.text.replace("\n", " ")))
    kept = keeper.write(memory)
    if say(Path(settings.urls), alarm):
        return 0 if kept else 1
    memory.told = before
    keeper.write(memory)
    return 1


def main(arguments: list[str]) -> int:
    try:
        jobs = read_settings(Path(arguments[0]))
    except (IndexError, OSError, ValueError, TypeError) as error:
        complain("the settings cannot be read: %s" % error)
        return 1
    directories = [Path(path) for name in ("STATE_DIRECTORY", "RUNTIME_DIRECTORY") for path in [os.environ.get(name, "")] if path]
    now = Now(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME), BOOT_ID.read_text(encoding="ascii").strip())
    return max([look(job, Keeper(directories or [Path("/var/lib/relevo-deadman")], memory_of(job)), now) for job in jobs])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
