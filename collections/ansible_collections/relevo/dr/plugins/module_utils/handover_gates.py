# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a planned change of site demands beyond a failover: everybody is there, nothing would be waited for, nothing is taken on trust."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ansible_collections.relevo.dr.plugins.module_utils.gates import NOT_APPLICABLE, Gate, Limits, repositories_that_answer, verdict
from ansible_collections.relevo.dr.plugins.module_utils.plan import Landscape, Plan, follows, served


def demanded(found: list[Gate], plan: Plan, landscape: Landscape, limits: Limits) -> list[Gate]:
    """A failover's gates without its exceptions, and those of a planned run."""
    if plan.done:
        return found
    every = [replace(gate, required=True) for gate in found]
    for check in (_primary, _present, _last_word, _transactions, _same_runbook):
        every.extend(check(plan, landscape, limits))
    return every


def _primary(plan: Plan, landscape: Landscape, limits: Limits) -> Iterator[Gate]:
    title, expected = "a living primary hands over", "the old primary serves"
    if plan.resume:
        yield Gate("G24", title, plan.promote, "run %s is gone on with" % plan.parent_run_id, expected, NOT_APPLICABLE)
        return
    promoted = landscape.role(plan.promote) == "primary"
    if promoted:
        away = ", ".join(host for host in plan.follow if not follows(landscape, host))
        idle = ", ".join(host for host in plan.cutover if not served(landscape, host, plan.promote))
        observed, fix = (
            ("%s serves already, and %s does not follow it" % (plan.promote, away), "run playbooks/failback.yml")
            if away
            else (
                "%s is the primary already, and the application on %s does not use it" % (plan.promote, idle),
                "run playbooks/failover.yml with the same site: it takes the application there",
            )
        )
    else:
        observed = "%s serves" % plan.primary if plan.primary else "no primary answers"
        fix = "start it, or, if it is lost, run playbooks/failover.yml"
    yield Gate("G24", title, plan.primary or plan.promote, observed, expected, verdict(bool(plan.primary) and not promoted), fix)


def _present(plan: Plan, landscape: Landscape, limits: Limits) -> Iterator[Gate]:
    """Silence is an answer for a disaster only."""
    for hosts, kind in (
        (plan.follow, landscape.database),
        (plan.quiesce, landscape.application),
        (landscape.observer, landscape.observer),
    ):
        for host in hosts:
            entry = kind.get(host, {})
            observed = "answers" if entry.get("reachable") else str(entry.get("error") or "was not asked")
            yield Gate(
                "REACH",
                "everybody with a part in a planned change is there",
                host,
                observed,
                "answers",
                verdict(bool(entry.get("reachable"))),
                "bring %s back first; a site that is lost is left with playbooks/failover.yml" % host,
            )


def _last_word(plan: Plan, landscape: Landscape, limits: Limits) -> Iterator[Gate]:
    """What the old primary wrote last must reach the archive while nobody can write; its statistics tell of a dead store only after the next segment."""
    if plan.primary is None:
        return
    answering, silent = repositories_that_answer(landscape, plan.primary)
    wrong = ["repository %d: %s" % (key, found["error"]) for key, found in sorted(silent.items())]
    yield Gate(
        "G23",
        "every repository answers the old primary",
        plan.primary,
        "; ".join(wrong) or ("%d answer" % len(answering) if answering else "none seen"),
        "all of them",
        verdict(not silent if answering or silent else None),
        "bring it back, or the way to it from %s; pgBackRest archives nowhere while one of them is gone" % plan.primary,
    )


def _transactions(plan: Plan, landscape: Landscape, limits: Limits) -> Iterator[Gate]:
    """The clean stop would cut a long transaction off, and a prepared one would hold its locks on the other side, where nobody knows it."""
    if plan.primary is None:
        return
    facts = landscape.cluster(plan.primary).get("primary", {})
    prepared, longest = facts.get("prepared_transactions"), facts.get("longest_transaction_seconds")
    yield Gate(
        "G25",
        "no prepared transaction",
        plan.primary,
        "not seen" if prepared is None else "%d prepared" % prepared,
        "0 prepared",
        verdict(None if prepared is None else prepared == 0),
        "commit or roll them back: select * from pg_prepared_xacts",
    )
    yield Gate(
        "G25",
        "no long transaction",
        plan.primary,
        "not seen" if longest is None else "the longest runs for %.0f s" % longest,
        "at most %.0f s" % limits.transaction_age_seconds,
        verdict(None if longest is None else longest <= limits.transaction_age_seconds),
        "let it end, or end it: select pid, xact_start, query from pg_stat_activity order by xact_start",
    )


def _same_runbook(plan: Plan, landscape: Landscape, limits: Limits) -> Iterator[Gate]:
    if plan.parent_run_id is None:
        return
    yield Gate(
        "G10",
        "the unfinished run is of this runbook",
        plan.promote,
        "run %s is unfinished" % plan.parent_run_id,
        "a switchover, or none",
        verdict("-switchover-" in plan.parent_run_id),
        "start the runbook of that run again: it goes on from what it finds",
    )
