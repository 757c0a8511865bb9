"""What has changed since a test proved something about it: values of the proven run against those of the newest records. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from relevo.measurement import Measurement
    from relevo.policy import Change

_SHORT = 12
_LONG_WORD = 32
# Whether two values, which differ, mean the same all the same: two commits with the same playbooks. None: nobody can tell.
Same = Callable[[str, Any, Any], bool | None]


@dataclass(frozen=True)
class Changed:
    """One reason to verify again."""

    what: str
    proven: Any
    now: Any

    @property
    def sentence(self) -> str:
        """The reason in words."""
        return f"{self.what}: proven with {_shown(self.proven)}, now {_shown(self.now)}"


@dataclass(frozen=True)
class Comparison:
    """changed: reasons to verify again; unobserved: what no record tells of, so that nobody can say."""

    changed: tuple[Changed, ...]
    unobserved: tuple[str, ...]


@dataclass(frozen=True)
class Present:
    """observed: by measurement what was just seen, before any record says it; same: see Same."""

    observed: Mapping[str, Any]
    same: Same


def compare(
    watched: Sequence[Change],
    before: Iterable[Mapping[str, Any]],
    after: Iterable[Mapping[str, Any]],
    present: Present,
) -> Comparison:
    """Hold the proven state against that of now.

    before: the documents up to the proven run, newest first, so that what that run did not say is taken from what was known then, or else
    from the first that said it afterwards; after: those of the same cluster up to now, newest first.
    """
    older, newer = list(before), list(after)
    changed, unobserved = [], []
    for one in watched:
        pair = next((pair for path in one.measurements if (pair := _pair(one, path, older, newer, present)) is not None), None)
        if pair is None:
            unobserved.append(one.what)
        elif _differ(one, *pair) and present.same(str(one.measurements[0]), *pair) is not True:
            changed.append(Changed(one.what, *pair))
    return Comparison(tuple(changed), tuple(unobserved))


def _pair(
    change: Change,
    path: Measurement,
    older: Sequence[Mapping[str, Any]],
    newer: Sequence[Mapping[str, Any]],
    present: Present,
) -> tuple[Any, Any] | None:
    """The proven value and that of now, by the same path: two ways to measure a size are not two sizes. None unless both are known."""
    proven = _newest(change, path, older)
    if proven is None:
        proven = _newest(change, path, reversed(newer))
    now = present.observed.get(str(path))
    if now is None:
        now = _newest(change, path, newer)
    return None if proven is None or now is None else (proven, now)


def _newest(change: Change, path: Measurement, documents: Iterable[Mapping[str, Any]]) -> Any:
    for document in documents:
        known = [value for value in path.read(document) if value is not None and (change.by_share is None or _is_number(value))]
        if known:
            return max(known) if change.by_share is not None else known[0] if len(known) == 1 else sorted(map(str, known))
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _differ(change: Change, proven: Any, now: Any) -> bool:
    if change.by_share is None:
        return bool(proven != now)
    return abs(float(now) - float(proven)) > change.by_share * abs(float(proven))


def _shown(value: Any) -> str:
    text = str(value)
    return f"{text[:_SHORT]}…" if len(text) > _LONG_WORD else text
