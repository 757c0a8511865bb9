"""Every question about a history, of runs at random, put to a database and to a plain list."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from relevo import tables
from relevo.clock import utc
from relevo.history import History, Summary
from relevo.policy import Run
from relevo.store import Store
from relevo.stored_history import StoredHistory
from relevo.verdict import Verdict
from tests.unit.runner.plain_history import PlainHistory

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
CLUSTERS, RUNBOOKS = ("minimarket", "archive", "unknown", None), ("failover", "switchover", "rehearse", "backup")
PEOPLE = ("ana", "bruno", "root")
# Few different moments, so that many runs share one.
MOMENTS = st.integers(0, 8).map(lambda hours: NOON + timedelta(hours=hours))
SECONDS = st.none() | st.sampled_from([0.0, 10.0, 20.5, 30.0])


@st.composite
def runs(draw: st.DrawFn) -> list[Summary]:
    def one(number: int) -> Summary:
        began = draw(MOMENTS)
        return Summary(
            f"run{number}",
            draw(st.sampled_from(RUNBOOKS)),
            draw(st.sampled_from(CLUSTERS)),
            draw(st.sampled_from(["drill", "disaster", None])),
            draw(st.sampled_from(["site", "database", None])),
            draw(st.sampled_from(list(Verdict))).value,
            None,
            draw(st.sampled_from([False, False, False, True])),
            utc(began),
            utc(began + draw(st.sampled_from([timedelta(seconds=-1), timedelta(), timedelta(hours=2)]))),
            1.0,
            draw(st.sampled_from(PEOPLE)),
            draw(SECONDS),
            draw(SECONDS),
            None,
            None,
        )

    return [one(number) for number in range(draw(st.integers(0, 25)))]


def answers(history: History, at: datetime, limit: int) -> Iterator[tuple[str, Any]]:
    """Every question, as of a moment."""
    kinds = [Run(runbook="failover", mode="drill"), Run(runbook="failover"), Run(runbook="rehearse", scope="site")]
    yield "clusters", history.clusters()
    yield "tallies", sorted(map(repr, history.tallies()))
    yield "measured", sorted(map(repr, history.measured()))
    yield "named", history.named(["run0", "run3", "nobody"])
    people = history.leaders(["minimarket", "archive"], kinds, (at - timedelta(hours=4), at), ["root"])
    yield "leaders", people
    for cluster in CLUSTERS:
        yield "runs", history.runs(cluster, limit)
        yield "runs that ran", history.runs(cluster, limit, ran_only=True)
        if cluster is None:
            continue
        yield "ended", history.ended(cluster, at)
        yield "up to", [history.up_to(run, limit) for run in history.runs(cluster, 25)]
        yield "attempts", history.attempts(cluster, kinds, at, limit)
        yield "measured attempts", history.attempts(cluster, kinds, at, limit, "rpo_seconds")
        for measure in ("rto_seconds", "rpo_seconds"):
            yield "trend", history.trend(cluster, measure, 20.0)
            yield "trend of some", history.trend(cluster, measure, None, ("failover", "switchover"))


def compared(store: Store, found: list[Summary], at: datetime, limit: int) -> None:
    """The database's answers against those of a list, now and as it was."""
    with store._writing() as connection:
        connection.execute(tables.summary.delete())
        if found:
            connection.execute(tables.summary.insert(), [run._asdict() for run in found])
    stored, plain = StoredHistory(store), PlainHistory(found)
    for (question, one), (_, other) in zip(answers(stored, at, limit), answers(plain, at, limit), strict=True):
        assert one == other, question
    then = at - timedelta(hours=2)
    for (question, one), (_, other) in zip(
        answers(stored.before(then), at, limit), answers(plain.before(then), at, limit), strict=True
    ):
        assert one == other, f"{question}, before"
