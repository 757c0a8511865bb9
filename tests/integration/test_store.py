"""The store under what happens to stores: killed writers, a full disk, a server that is away or silent, many writers, a long history."""

from __future__ import annotations

import os
import random
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import psycopg
import pytest
import sqlalchemy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relevo import (
    assessment,
    audit,
    closing,
    due,
    entries,
    findings,
    journal,
    keyring,
    overview,
    policy_file,
    recording,
    settlement,
    signature,
    tables,
)
from relevo.beside import Beside
from relevo.entries import Speaker
from relevo.errors import StoreError
from relevo.history import Summary
from relevo.paths import Place
from relevo.readiness import Readiness
from relevo.record import canonical
from relevo.store import Store
from relevo.stored_history import StoredHistory
from relevo.verdict import Ending
from tests.unit.runner.evidence import old_store, record
from tests.unit.runner.questions import MOMENTS, compared, runs

from .database_server import Server, serving

PROCESSES, THREADS = 10, 20
KILLS = 40
HISTORY = 100_000
# Of CPU, the server's among it: what the machine does besides is not ours.
LOOK_SECONDS = 1
OPENED = {
    "event": "runner_on_ok",
    "created": "2026-11-24T12:00:00+00:00",
    "event_data": {"host": "h", "task": "t", "res": {"relevo": {"run": {"cluster": "c"}}}},
}
STATS = {"event": "playbook_on_stats", "created": "2026-11-24T12:00:09+00:00", "event_data": {"ok": {"h": 1}}}

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as found:
        yield found


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty store of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/state/relevo.db"
    return request.getfixturevalue("server").database(f"{tmp_path.name}")


def run_one(place: Place) -> None:
    """One run from its opening to its delivery, by the way that every run goes."""
    request = recording.Request(place.state / "playbooks" / "toy.yml", place.state, (), "runner", {})
    recorder = recording.start(place, request, {})
    recorder.take(OPENED)
    recorder.take(STATS)
    recorder.close(Ending())


def say_one(place: Place) -> None:
    """One statement, by the way that every statement goes: who is told that the store is busy says it again."""
    key = signature.ready_key(place.keys)
    for attempt in range(4):
        speaker = Speaker("ana", place.state.name, datetime.now(UTC))
        entry = entries.make(speaker, findings.KIND, findings.new_id(), "noted", {})
        try:
            entries.append(Store(place), entry, key)
        except StoreError:
            if attempt == 3:
                raise
        else:
            return


def forked(work: Callable[[], object]) -> int:
    """A process that does something; it never comes back into pytest."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def opened_runs(place: Place) -> set[str]:
    """The runs whose opening reached the disk: a record of each of them is due."""
    found = set()
    for directory in place.runs.glob("*-*"):
        try:
            found.add(journal.read(directory)[0].run_id)
        except journal.JournalError:
            continue
    return found


def everything_holds(places: list[Place]) -> None:
    """Each run once, nothing waiting, and a chain that vouches for all of it."""
    for place in places:
        assert settlement.settle(place) == []
        assert list(place.runs.glob(f"*/{closing.PENDING}")) == []
    due = set().union(*map(opened_runs, places))
    store = Store(places[0])
    assert sorted(stored.run_id for stored in store.newest()) == sorted(due)
    assert {summary.run_id for summary in store.summaries()} == due
    own = keyring.merged(signer for place in places for signer in signature.believed(place.keys))
    judgement = audit.judge(audit.material(store, []), own)
    assert judgement.findings == ()
    said = [statement.entry_id for statement in store.statements()]
    assert len(set(said)) == len(said)
    # One chain, in which every record and every statement stands once.
    assert (set(judgement.links.members), set(judgement.links.statements)) == (due, set(said))


def test_two_hundred_writers_at_once_lose_nothing_and_double_nothing(url: str, tmp_path: Path) -> None:
    """With PostgreSQL every process is a controller with a key of its own, SQLite belongs to one."""
    names = ["state"] * PROCESSES if url.startswith("sqlite") else [f"controller{number}" for number in range(PROCESSES)]
    places = [Place(tmp_path / name, url) for name in names]

    def write(place: Place) -> None:
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(lambda number: say_one(place) if number % 4 == 0 else run_one(place), range(THREADS)))

    began = time.monotonic()
    children = [forked(lambda place=place: write(place)) for place in places]
    assert [ended(child) for child in children] == [0] * PROCESSES
    waiting = sum(len(list(place.runs.glob(f"*/{closing.PENDING}"))) for place in {place.state: place for place in places}.values())
    print(f"{PROCESSES * THREADS} writers: {time.monotonic() - began:.1f} s, {waiting} waited")  # noqa: T201 - the figures, with -s
    everything_holds(list({place.state: place for place in places}.values()))
    assert len(Store(places[0]).newest()) == PROCESSES * THREADS * 3 // 4
    assert len(Store(places[0]).statements()) == PROCESSES * THREADS // 4


def test_kill_at_any_moment_of_recording_loses_and_doubles_nothing(url: str, tmp_path: Path) -> None:
    place = Place(tmp_path / "state", url)
    began = time.monotonic()
    run_one(place)
    took = time.monotonic() - began
    moments = random.Random(5)  # noqa: S311 - moments, no secrets
    for number in range(KILLS):
        child = forked(lambda work=say_one if number % 4 == 0 else run_one: work(place))
        time.sleep(moments.uniform(0, took * 1.2))
        os.kill(child, signal.SIGKILL)
        ended(child)
    everything_holds([place])


def test_kill_at_any_moment_of_taking_an_old_store_over_leaves_it_old_or_new(tmp_path: Path) -> None:
    place = Place(tmp_path / "state", f"sqlite:///{tmp_path}/state/relevo.db")
    old_store(place, *range(60))
    moments = random.Random(5)  # noqa: S311 - moments, no secrets
    for _ in range(KILLS):
        child = forked(lambda: Store(place).summaries())
        time.sleep(moments.uniform(0, 0.3))
        os.kill(child, signal.SIGKILL)
        ended(child)
        assert len(Store(place).newest()) == 60
    assert len(Store(place).summaries()) == 60
    judgement = audit.judge(audit.material(Store(place), []), signature.believed(place.keys))
    assert judgement.findings == ()
    assert judgement.links.taken_over == 60


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of eight megabytes."""
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "relevo-test", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)


def fill(path: Path) -> None:
    with path.open("ab", buffering=0) as target:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while target.write(b"x" * size) == size:
                    pass
            except OSError:
                continue


def test_a_disk_that_fills_during_a_run_keeps_its_record_for_later(small_disk: Path) -> None:
    place = Place(small_disk / "state", f"sqlite:///{small_disk}/state/relevo.db")
    run_one(place)
    request = recording.Request(place.state / "playbooks" / "toy.yml", place.state, (), "runner", {})
    recorder = recording.start(place, request, {})
    recorder.take(OPENED)
    fill(small_disk / "other")
    for _ in range(50):
        recorder.take(OPENED)
    recorder.take(STATS)
    finished = recorder.close(Ending())
    assert finished is not None
    assert finished.record.journal["missed_events"] > 0
    (small_disk / "other").unlink()
    everything_holds([place])
    assert len(Store(place).newest()) == 2


def test_a_store_on_a_full_disk_says_so_and_the_record_waits(small_disk: Path, tmp_path: Path) -> None:
    """The store lies on the full disk, the state of the controller does not."""
    place = Place(tmp_path / "state", f"sqlite:///{small_disk}/relevo.db")
    run_one(place)
    fill(small_disk / "other")
    run_one(place)
    assert len(list(place.runs.glob(f"*/{closing.PENDING}"))) == 1
    (small_disk / "other").unlink()
    everything_holds([place])
    assert len(Store(place).newest()) == 2


def test_a_server_that_is_away_gets_everything_later_and_once(server: Server, tmp_path: Path) -> None:
    place = Place(tmp_path / "state", server.database("away"))
    run_one(place)
    server.control("stop", "-m", "immediate")
    began = time.monotonic()
    run_one(place)
    run_one(place)
    assert time.monotonic() - began < 60
    assert len(list(place.runs.glob(f"*/{closing.PENDING}"))) == 2
    server.control("start")
    everything_holds([place])
    everything_holds([place])
    assert len(Store(place).newest()) == 3


def test_an_answer_that_is_lost_after_the_commit_doubles_nothing(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(tmp_path / "state", url)
    run_one(place)

    def committed_and_lost(self: Store, *arguments: object) -> None:
        add(self, *arguments)
        message = "The store cannot be used: server closed the connection unexpectedly."
        raise StoreError(message)

    add: Callable[..., None] = Store.add
    with monkeypatch.context() as patched:
        patched.setattr(Store, "add", committed_and_lost)
        run_one(place)
    assert len(list(place.runs.glob(f"*/{closing.PENDING}"))) == 1
    everything_holds([place])
    assert len(Store(place).newest()) == 2


def test_a_server_that_never_answers_is_left_after_a_while(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(tmp_path / "state", server.database("silent"))
    monkeypatch.setattr(tables, "_SILENT_SECONDS", 4)
    began = time.monotonic()
    with pytest.raises(StoreError, match="cannot be used"), tables.Database(place).write() as connection:
        connection.execute(sqlalchemy.text("select pg_sleep(600)"))
    assert time.monotonic() - began < 60
    # Long work is no silence; elsewhere, because the server of the first goes on sleeping with its lock.
    with tables.Database(replace(place, store_url=server.database("lasting"))).write() as connection:
        for _ in range(8):
            connection.execute(sqlalchemy.text("select pg_sleep(0.6)"))


def test_a_server_whose_processes_are_frozen_holds_no_run_up(server: Server, tmp_path: Path) -> None:
    place = Place(tmp_path / "state", server.database("frozen"))
    run_one(place)
    postmaster = int((server.directory / "data" / "postmaster.pid").read_text().splitlines()[0])
    os.kill(postmaster, signal.SIGSTOP)
    try:
        began = time.monotonic()
        run_one(place)
        assert time.monotonic() - began < 60
    finally:
        os.kill(postmaster, signal.SIGCONT)
    assert len(list(place.runs.glob(f"*/{closing.PENDING}"))) == 1
    everything_holds([place])


@dataclass(frozen=True)
class Took:
    """cpu_seconds: of this process and of the server; wall_seconds: with whatever else the machine did."""

    cpu_seconds: float
    wall_seconds: float

    def __str__(self) -> str:
        return f"{self.cpu_seconds:.3f} s of CPU ({self.wall_seconds:.3f} s)"


def timed(work: Callable[[], object], server: Server | None) -> Took:
    """The best of three: a machine that is busy makes CPU dearer too."""

    def cpu() -> float:
        return time.process_time() + (server.cpu_seconds() if server else 0.0)

    best = []
    for _ in range(3):
        used, began = cpu(), time.monotonic()
        work()
        wall = time.monotonic() - began
        best.append(Took(cpu() - used, wall))
    return Took(min(one.cpu_seconds for one in best), min(one.wall_seconds for one in best))


def test_a_hundred_thousand_results_are_listed_and_trended_in_under_a_second(
    url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """An old store of that size is taken over first; of ten clusters, each with its own trend."""
    place = Place(tmp_path / "state", url)
    template = record(0)
    rows = []
    for number in range(HISTORY):
        opened_at = f"20{16 + number // 10000:02d}-{1 + number % 12:02d}-{1 + number % 28:02d}T00:00:{number % 60:02d}.{number % 1000000:06d}Z"
        made = template.model_copy(
            update={"run_id": f"run{number:06d}", "cluster": f"cluster{number % 10}", "opened_at": opened_at, "gates": []}
        )
        rows.append((made.run_id, "failover", made.cluster, made.mode, "passed", opened_at, canonical(made.document()), "none"))
    if url.startswith("sqlite"):
        import sqlite3  # noqa: PLC0415 - of one of the two

        old_store(place)
        with sqlite3.connect(place.state / "relevo.db") as database:
            database.executemany("INSERT INTO record VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
    else:
        Store(place).summaries()
        with psycopg.connect(url) as connection:
            tables.record.metadata.create_all(
                sqlalchemy.create_engine(url.replace("postgresql:", "postgresql+psycopg:")), tables=[tables.record]
            )
            with connection.cursor().copy("COPY record FROM STDIN WITH (FORMAT binary)") as copy:
                copy.set_types(["varchar", "varchar", "varchar", "varchar", "varchar", "varchar", "bytea", "text"])
                for row in rows:
                    copy.write_row(row)
    store, server = Store(place), None if url.startswith("sqlite") else request.getfixturevalue("server")
    began = time.monotonic()
    assert len(store.summaries(limit=1)) == 1
    taken_over = time.monotonic() - began
    if server:  # what it does by itself in time, and not while somebody counts its seconds
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")
    # What all reports are made of, in one view as each command asks, and readiness as a whole: of one cluster, and of all ten at once.
    policy, now = policy_file.parse(None, "the policy as shipped"), due.Now(datetime.now(UTC), {}, lambda *_: None)

    def look() -> overview.Overview:
        with store.one_view():
            return overview.gather(store, policy, now)

    def ready(only: str | None) -> list[Readiness]:
        with store.one_view():
            seen = overview.gather(store, policy, now, only)
            return [assessment.report(seen, Beside(), cluster, now.at - timedelta(days=7)) for cluster in seen.clusters]

    works: dict[str, Callable[[], object]] = {
        "the newest 100": lambda: store.summaries(limit=100),
        "all": store.summaries,
        "a trend": lambda: StoredHistory(store).trend("cluster3", "rto_seconds", 14400.0),
        "the first": lambda: store.first("cluster3", "failover", ["passed"]),
        "a whole look": look,
        "readiness": partial(ready, "cluster3"),
    }
    took = {name: timed(work, server) for name, work in works.items()}
    said = "; ".join(f"{name} {one}" for name, one in {**took, "readiness of ten": timed(partial(ready, None), server)}.items())
    print(f"taken over in {taken_over:.1f} s; {said}")  # noqa: T201 - the figures, with -s
    assert len(store.summaries()) == HISTORY
    assert len(overview.gather(store, policy, now).clusters) == 10
    assert {name: one for name, one in took.items() if one.cpu_seconds >= LOOK_SECONDS} == {}


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(found=runs(), at=MOMENTS, limit=st.integers(1, 12))
def test_postgresql_says_what_a_list_says(server: Server, found: list[Summary], at: datetime, limit: int) -> None:
    compared(Store(Place(server.directory / "state", server.database(secrets.token_hex(8)))), found, at, limit)


def test_the_lists_agree_with_the_documents(url: str, tmp_path: Path) -> None:
    place = Place(tmp_path / "state", url)
    for number in range(3):
        document = canonical(record(number).document())
        Store(place).add(record(number), document, "none")
    short = Store(place).summaries()
    assert [summary.run_id for summary in short] == ["run2", "run1", "run0"]
    assert short[0] == short[1]._replace(run_id="run2", opened_at=short[0].opened_at, closed_at=short[0].closed_at)
