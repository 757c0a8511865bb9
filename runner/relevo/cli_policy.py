"""`relevo policy`: which policy holds, and whether it is valid."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from relevo import policy_schema, wording
from relevo.console import AsJson, PolicyFile, commands, explained, load_policy, output, print_json
from relevo.errors import Exit


@commands.command("policy")
@explained
def show_policy(
    file: PolicyFile = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of such a file, for editors.")] = False,
    as_json: AsJson = False,
) -> Exit:
    """Show the policy that holds: objectives, tests, contacts. A mistake in the file is named with its line."""
    if schema:
        print_json(policy_schema.build())
        return Exit.PASSED
    loaded = load_policy(file)
    policy = loaded.policy
    if as_json:
        print_json({"read_from": loaded.document(), "policy": policy.document()})
        return Exit.PASSED
    output.print(Text(f"Policy: {loaded.source}{f', sha256 {loaded.digest}' if loaded.digest else ''}", "bold"))
    for name, tier in policy.tiers.items():
        output.print(Text(f"  RTO {name}: {wording.seconds(tier.rto_seconds)}"))
    for name, seconds in policy.rpo.model_dump().items():
        output.print(Text(f"  RPO {name.removesuffix('_seconds')}: {'not asked' if seconds is None else wording.seconds(seconds)}"))
    tests = Table(box=None, header_style="dim")
    for title in ("test", "every", "limit", "counts", "criteria"):
        tests.add_column(title, justify="right" if title == "criteria" else "left")
    for name, test in policy.tests.items():
        counts = ", ".join(" ".join(filter(None, (run.runbook, run.mode, run.scope))) for run in test.counts)
        tests.add_row(*map(Text, (name, str(test.every), wording.seconds(test.limit_seconds), counts, str(len(test.criteria)))))
    output.print(tests)
    output.print(
        Text(f"  {wording.count(len(policy.contacts), 'contact')}, {wording.count(len(policy.checklist), 'checklist line')}")
    )
    return Exit.PASSED
