"""Whether a run fulfilled a test: each criterion over the measurements of its record. Pure.

What nobody measured is unknown, and unknown is never passed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from relevo import wording
from relevo.policy import Comparison, Criterion

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from relevo.history import Summary
    from relevo.policy import Policy, Run, Test

PASS, FAIL, UNKNOWN = "pass", "fail", "unknown"
PASSED, FAILED = "passed", "failed"
# Words of gates, rungs, phases and verdicts that neither prove nor disprove.
_UNDECIDED = frozenset({"unknown", "accepted", "not_applicable", "partial", "skipped", "refused", "interrupted", "cancelled"})
_COUNTED = ("acknowledged", "present", "lost", "indeterminate", "indeterminate_present", "failed")
_ORDERED = {
    Comparison.BELOW: lambda value, limit: value < limit,
    Comparison.AT_MOST: lambda value, limit: value <= limit,
    Comparison.ABOVE: lambda value, limit: value > limit,
    Comparison.AT_LEAST: lambda value, limit: value >= limit,
}


def _transactions(value: float) -> str:
    return wording.count(value, "transaction") if isinstance(value, int) else f"{value:g} transactions"


# What is timed, weighed or counted, by the last words of its name: in words, and the unit of the plain number.
_UNITS: Mapping[str, tuple[Callable[[Any], str], str]] = {
    "_seconds": (wording.seconds, "s"),
    "_bytes": (wording.size, "B"),
    **{f".ledger.{name}": (_transactions, "transactions") for name in _COUNTED},
}


@dataclass(frozen=True)
class Judgement:
    """One criterion as it came out. observed: the values that were found, None where nobody observed one."""

    name: str
    measurement: str
    observed: tuple[Any, ...]
    comparison: str
    threshold: Any
    verdict: str

    @property
    def sentence(self) -> str:
        """What was seen and what was wanted."""
        return f"{self.name}: {self.verdict}; {self.measurement} is {self.seen}, expected {self.wanted}"

    @property
    def seen(self) -> str:
        """The different values, in words."""
        return ", ".join(dict.fromkeys(self._shown(value) for value in self.observed))

    @property
    def wanted(self) -> str:
        """The threshold, in words."""
        how = "" if self.comparison == Comparison.EQUALS else f"{self.comparison.replace('_', ' ')} "
        return how + self._shown(self.threshold)

    def _shown(self, value: Any) -> str:
        """A value with the unit that its name tells."""
        if value is None:
            return wording.UNOBSERVED
        if isinstance(value, list):
            return ", ".join(map(self._shown, value)) or "none"
        words, unit = next((found for ending, found in _UNITS.items() if self.measurement.endswith(ending)), (None, ""))
        if words is None or not _is_number(value):
            return f"{value:g}" if isinstance(value, float) else str(value)
        # Rounded they would be one, and nobody would see why it failed.
        alike = value != self.threshold and words(value) == words(self.threshold)
        return f"{value:.12g} {unit}" if alike else words(value)


@dataclass(frozen=True)
class Outcome:
    """A run seen as a test: passed, failed or unknown. run_verdict: of the run itself."""

    verdict: str
    judgements: tuple[Judgement, ...]
    run_verdict: str

    @property
    def reasons(self) -> tuple[str, ...]:
        """What stands against passed, in words: of hundreds of runs that are judged people read a few."""
        own = [] if self.run_verdict == PASSED else [f"the run itself ended as {self.run_verdict}"]
        return (*own, *(one.sentence for one in self.judgements if one.verdict != PASS))


def counts(test: Test, run: Summary) -> bool:
    """Whether a run is an attempt at this test. A run in check mode did nothing."""
    return is_of(test.counts, run)


def is_of(kinds: Sequence[Run], run: Summary) -> bool:
    """Whether a run is of one of these kinds, and did something."""
    return not run.check_mode and any(
        run.runbook == one.runbook and one.mode in {None, run.mode} and one.scope in {None, run.scope} for one in kinds
    )


def judge_run(test: Test, document: Mapping[str, Any]) -> Outcome:
    """The verdict of a run as a test: all criteria pass, and the run itself passed."""
    judgements = tuple(judge(criterion, document) for criterion in (*test.criteria, _in_time(test.limit_seconds)))
    run_verdict = str(document.get("verdict"))
    if run_verdict == FAILED or any(one.verdict == FAIL for one in judgements):
        verdict = FAILED if run_verdict in {PASSED, FAILED, "partial"} else UNKNOWN
    elif run_verdict != PASSED or any(one.verdict != PASS for one in judgements):
        verdict = UNKNOWN
    else:
        verdict = PASSED
    return Outcome(verdict, judgements, run_verdict)


def of_run(policy: Policy, run: Summary, document: Mapping[str, Any]) -> dict[str, Outcome]:
    """What a run was as each test that it counts as, by the name of the test."""
    return {name: judge_run(test, document) for name, test in policy.tests.items() if counts(test, run)}


@cache
def _in_time(limit_seconds: float) -> Criterion:
    limit = {
        "name": "Within its time",
        "measurement": "duration_seconds",
        "is": Comparison.AT_MOST,
        "threshold": limit_seconds,
    }
    return Criterion.model_validate(limit)


def judge(criterion: Criterion, document: Mapping[str, Any]) -> Judgement:
    """One criterion; where a path stands for several values, each of them must hold."""
    observed = criterion.measurement.read(document)
    verdicts = {_compare(value, criterion.comparison, criterion.threshold) for value in observed}
    verdict = FAIL if FAIL in verdicts else UNKNOWN if UNKNOWN in verdicts else PASS
    return Judgement(
        criterion.name, str(criterion.measurement), tuple(observed), criterion.comparison.value, criterion.threshold, verdict
    )


def all_pass(criteria: Sequence[Criterion], document: Mapping[str, Any]) -> bool:
    """Whether each holds; true for none."""
    return all(judge(criterion, document).verdict == PASS for criterion in criteria)


def _compare(value: Any, comparison: Comparison, threshold: Any) -> str:
    if value is None:
        return UNKNOWN
    if comparison in _ORDERED:
        if not _is_number(value):
            return UNKNOWN
        return PASS if _ORDERED[comparison](value, threshold) else FAIL
    wanted = threshold if comparison is Comparison.ONE_OF else [threshold]
    if any(_same(value, one) for one in wanted):
        return PASS
    return UNKNOWN if isinstance(value, str) and value in _UNDECIDED else FAIL


def _same(value: Any, wanted: Any) -> bool:
    """Equal, and of the same kind: true is not 1."""
    return isinstance(value, bool) == isinstance(wanted, bool) and bool(value == wanted)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
