"""`relevo metrics`: the results for Prometheus, as a file that a textfile collector reads."""

from __future__ import annotations

import os
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relevo import clock, due, forecast, metrics, trend
from relevo.console import AsJson, PolicyFile, commands, documents, explained, load_policy, open_store, output, print_json
from relevo.errors import Exit, RelevoError
from relevo.record import parse
from relevo.trend import NO_CLUSTER
from relevo.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from relevo.history import Summary
    from relevo.policy import Policy
    from relevo.record import Record
    from relevo.store import Store

# Those whose time people plan with.
_PREDICTED = frozenset({"failover", "switchover", "failback", "rehearse", "restore_test"})
_FINISHED = frozenset({Verdict.PASSED, Verdict.PARTIAL, Verdict.FAILED})


@commands.command("metrics")
@explained
def write_metrics(
    file: Annotated[
        Path | None, typer.Option("--textfile", help="Write it there as a whole; without it the metrics are printed.")
    ] = None,
    policy: PolicyFile = None,
    as_json: AsJson = False,
) -> Exit:
    """Write the results as Prometheus metrics (OpenMetrics), for a textfile collector."""
    now = clock.utc_now()
    facts = read(open_store(), load_policy(policy).policy)
    if as_json:
        print_json([{"name": name, "labels": list(labels), "value": value} for name, labels, value in metrics.samples(facts, now)])
        return Exit.PASSED
    text = metrics.exposition(facts, now)
    if file is None:
        sys.stdout.write(text.decode())
        return Exit.PASSED
    write(file, text)
    output.print(f"Written to {file}.", highlight=False)
    return Exit.PASSED


def read(store: Store, policy: Policy) -> metrics.Facts:
    """The facts that the store holds, and what the policy makes of them. StoreError when it is away."""
    summaries = store.summaries()
    calendar = due.entries(policy, summaries, documents(store), due.Now(datetime.now(UTC), {}, lambda *_: None))
    series = trend.series(summaries)

    def records(found: Mapping[str, Summary]) -> list[Record]:
        return [parse(store.get(found[cluster].run_id).document) for cluster in sorted(found)]

    measured = [one.measured.run_id for one in series if one.measured is not None]
    planned: dict[str, list[str]] = {}
    for one in series:
        if one.runbook in _PREDICTED and one.cluster != NO_CLUSTER:
            planned.setdefault(one.cluster, []).append(one.runbook)
    return metrics.Facts(
        series,
        {run_id: parse(store.get(run_id).document) for run_id in measured},
        backups=records(trend.newest(summaries, ["backup"], _FINISHED)),
        verifications=records(trend.newest(summaries, ["verify_backup"], _FINISHED)),
        restore_tests=records(trend.newest(summaries, ["restore_test"], [Verdict.PASSED])),
        overdue=[metrics.Overdue(entry.cluster, entry.test, entry.overdue) for entry in calendar],
        predictions=[found for cluster, runbooks in planned.items() for found in forecast.look(store, cluster, runbooks)],
    )


def write(path: Path, data: bytes) -> None:
    """As a whole, and readable by the collector's own account. RelevoError with the reason when it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not *.prom yet: a collector must not read half of it.
        descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        message = f"{path} cannot be written: {error.strerror}."
        raise RelevoError(message) from error
    try:
        with os.fdopen(descriptor, "wb") as target:
            os.fchmod(descriptor, 0o644)
            target.write(data)
            target.flush()
            os.fsync(descriptor)
        Path(draft).replace(path)
    except OSError as error:
        Path(draft).unlink(missing_ok=True)
        message = f"{path} cannot be written: {error.strerror}. What was there is still there."
        raise RelevoError(message) from error
