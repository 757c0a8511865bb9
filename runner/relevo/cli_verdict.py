"""`relevo verdict`: one run seen as a test of the matrix."""

from __future__ import annotations

import json
from dataclasses import asdict

from rich.table import Table
from rich.text import Text

from relevo import criteria
from relevo.console import AsJson, PolicyFile, Run, commands, explained, load_policy, open_store, output, print_json
from relevo.errors import Exit
from relevo.history import summarize
from relevo.record import parse
from relevo.store import LATEST

_STYLES = {"passed": "bold green", "pass": "green", "failed": "bold red", "fail": "red", "unknown": "bold yellow"}


@commands.command("verdict")
@explained
def show_verdict(run_id: Run = LATEST, file: PolicyFile = None, as_json: AsJson = False) -> Exit:
    """Judge a run as the tests that it counts as, criterion by criterion.

    Exit codes: 0 passed (or no test), 1 failed, 5 something is unknown.
    """
    loaded, stored = load_policy(file), open_store().get(run_id)
    run, document = summarize(parse(stored.document)), json.loads(stored.document)
    judged = criteria.of_run(loaded.policy, run, document)
    if as_json:
        tests = [
            {
                "test": name,
                "verdict": outcome.verdict,
                "reasons": list(outcome.reasons),
                "criteria": [asdict(one) for one in outcome.judgements],
            }
            for name, outcome in judged.items()
        ]
        print_json({"run_id": run.run_id, "policy": loaded.document(), "tests": tests})
    else:
        for name, outcome in judged.items():
            output.print(Text.assemble((outcome.verdict.upper(), _STYLES[outcome.verdict]), f"  {loaded.policy.tests[name].title}"))
            if run.verdict != criteria.PASSED:
                output.print(Text(f"  {outcome.reasons[0]}"))
            output.print(_table(outcome))
        if not judged:
            output.print(f"Run {run.run_id} counts as no test of the matrix.", highlight=False)
    verdicts = {outcome.verdict for outcome in judged.values()}
    return Exit.FAILED if criteria.FAILED in verdicts else Exit.PARTIAL if criteria.UNKNOWN in verdicts else Exit.PASSED


def _table(outcome: criteria.Outcome) -> Table:
    table = Table(box=None, header_style="dim")
    for title in ("", "criterion", "measurement", "observed", "expected"):
        table.add_column(title, overflow="fold")
    for one in outcome.judgements:
        table.add_row(Text(one.verdict, _STYLES[one.verdict]), *map(Text, (one.name, one.measurement, one.seen, one.wanted)))
    return table
