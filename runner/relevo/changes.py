"""What has changed since a test proved something about it: values of the proven run against those of the newest records. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

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
        proven = _newest(one, older, {})
        if proven is None:
            proven = _newest(one, reversed(newer), {})
        now = _newest(one, newer, present.observed)
        if proven is None or now is None:
            unobserved.append(one.what)
        elif _differ(one, proven, now) and present.same(str(one.measurements[0]), proven, now) is not True:
            changed.append(Changed(one.what, proven, now))
    return Comparison(tuple(changed), tuple(unobserved))


def _newest(change: Change, documents: Iterable[Mapping[str, Any]], observed: Mapping[str, Any]) -> Any:
    for path in change.measurements:
        if observed.get(str(path)) is not None:
            return observed[str(path)]
    for document in documents:
        for path in change.measurements:
            known = [value for value in path.read(document) if value is not None]
            if known:
                return max(known) if change.by_share is not None else known[0] if len(known) == 1 else sorted(map(str, known))
    return None


def _differ(change: Change, proven: Any, now: Any) -> bool:
    if change.by_share is None:
        return bool(proven != now)
    return abs(float(now) - float(proven)) > change.by_share * abs(float(proven))


def _shown(value: Any) -> str:
    text = str(value)
    return f"{text[:_SHORT]}…" if len(text) > _LONG_WORD else text
