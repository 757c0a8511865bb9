"""`relevo metrics`: the results for Prometheus, as a file that a textfile collector reads."""

from __future__ import annotations

import os
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relevo import metrics, overview, present, trend
from relevo.clock import utc
from relevo.console import AsJson, PolicyFile, commands, explained, load_policy, open_store, output, print_json
from relevo.errors import Exit, RelevoError
from relevo.record import from_document
from relevo.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from relevo.overview import Overview
    from relevo.record import Record

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
    store, loaded = open_store(), load_policy(policy)
    with store.one_view():
        facts = read(overview.gather(store, loaded.policy, present.look(None, datetime.now(UTC))))
    if as_json:
        print_json([{"name": name, "labels": list(labels), "value": value} for name, labels, value in metrics.samples(facts)])
        return Exit.PASSED
    text = metrics.exposition(facts)
    if file is None:
        sys.stdout.write(text.decode())
        return Exit.PASSED
    write(file, text)
    output.print(f"Written to {file}.", highlight=False)
    return Exit.PASSED


def read(seen: Overview) -> metrics.Facts:
    """What an overview says, as metrics want it."""

    def records(run_ids: Iterable[str]) -> list[Record]:
        return [from_document(document) for document in seen.records(list(run_ids))]

    def newest(runbook: str, verdicts: Iterable[str]) -> list[Record]:
        found = [
            seen.newest(cluster, runbook, verdicts)
            for cluster in sorted({one.cluster for one in seen.series})
            if cluster != trend.NO_CLUSTER
        ]
        return records(run.run_id for run in found if run)

    measured = [one.measured.run_id for one in seen.series if one.measured is not None]
    return metrics.Facts(
        utc(seen.at),
        seen.series,
        dict(zip(measured, records(measured), strict=True)),
        backups=newest("backup", _FINISHED),
        verifications=newest("verify_backup", _FINISHED),
        restore_tests=newest("restore_test", [Verdict.PASSED]),
        overdue=[metrics.Overdue(entry.cluster, entry.test, entry.overdue) for entry in seen.calendar],
        predictions=[found for predictions in seen.predictions.values() for found in predictions],
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
