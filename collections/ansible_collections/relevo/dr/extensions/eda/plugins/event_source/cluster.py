# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The decisions of C(relevo watch) as events of ansible-rulebook: one event each, with its evidence under the key C(relevo)."""

from __future__ import annotations

DOCUMENTATION = r"""
short_description: What a watcher decides about a cluster
description:
  - Runs C(relevo watch) as long as the rulebook runs, and hands on each of its decisions.
  - A line that is no decision is left out. When the watcher ends, this source ends with its last sentence as the error.
options:
  cluster: {description: "The cluster's name, C(dr_cluster) in the inventory.", type: str, required: true}
  inventory: {description: "Path of the inventory; without it the watcher looks below C(inventories/).", type: str}
  project: {description: "The directory of the runbooks; without it the working directory and its parents are searched.", type: str}
  command: {description: "The command C(relevo) of the environment that Relevo is installed in.", type: str, default: relevo}
  hand_over:
    description: With C(true) the watcher marks that a run was started and leaves the start to a rule; otherwise it starts the run itself.
    type: bool
    default: false
"""

EXAMPLES = r"""
- relevo.dr.cluster:
    cluster: minimarket
    inventory: inventories/production
    hand_over: true
"""

import asyncio
import json
import os
from typing import Any, Optional

# Of one line: evidence of many vantage points and gates.
_LONGEST_LINE_BYTES = 1 << 20
_END_SECONDS = 20


def words(args: dict[str, Any]) -> list[str]:
    """The command line. ValueError with what is missing."""
    if not args.get("cluster"):
        raise ValueError("relevo.dr.cluster needs the name of a cluster: cluster, which is dr_cluster in the inventory")
    found = [str(args.get("command") or "relevo"), "watch", str(args["cluster"]), "--json"]
    if args.get("inventory"):
        found += ["-i", str(args["inventory"])]
    return found + (["--hand-over"] if args.get("hand_over") in (True, "true", "True", "yes") else [])


def event(line: bytes) -> Optional[dict[str, Any]]:
    """A line of the watcher as an event; None when it is none."""
    try:
        said = json.loads(line)
    except ValueError:
        return None
    return {"relevo": said} if isinstance(said, dict) and "event" in said else None


async def main(queue: asyncio.Queue[dict[str, Any]], args: dict[str, Any]) -> None:
    """What ansible-rulebook calls. RuntimeError when the watcher ended by itself."""
    environment = {**os.environ, **({"RELEVO_PROJECT": str(args["project"])} if args.get("project") else {})}
    process = await asyncio.create_subprocess_exec(
        *words(args),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
        limit=_LONGEST_LINE_BYTES,
    )
    complaints = asyncio.ensure_future(process.stderr.read()) if process.stderr else None
    try:
        while process.stdout is not None and (line := await process.stdout.readline()):
            said = event(line)
            if said is not None:
                await queue.put(said)
        last = (await complaints).decode(errors="replace").strip().splitlines() if complaints else []
        raise RuntimeError("relevo watch ended with %s: %s" % (await process.wait(), last[-1] if last else "it said nothing"))
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), _END_SECONDS)
            except TimeoutError:
                process.kill()
