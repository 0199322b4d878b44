"""Name tables that translate in both directions.

A rule is a pair of prefixes, theirs and ours; ``#`` stands for a number that both sides share. The rest of a name
is unchanged.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from ska_vct.utils.errors import UnknownNameError

Rule = tuple[str, str]


@dataclass(frozen=True)
class Converted:
    """A state dict in our names.

    Attributes:
        state: our name -> tensor.
        unused: name in the file -> why it is not needed.
        rows: our name -> first row that the tensor's rows belong to, where the file has fewer rows than ours.
    """

    state: dict[str, Tensor]
    unused: dict[str, str] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)


class NameTable:
    """Renames by the longest rule that fits, in either direction."""

    def __init__(self, rules: Iterable[Rule]):
        rules = list(rules)
        self._to_ours = _compile(rules)
        self._to_theirs = _compile([(ours, theirs) for theirs, ours in rules])

    def to_ours(self, name: str) -> str | None:
        """Our name of one of their entries; None where no rule fits."""
        return _rename(self._to_ours, name)

    def to_theirs(self, name: str) -> str | None:
        """Their name of one of our entries; None where no rule fits."""
        return _rename(self._to_theirs, name)


def _compile(rules: Iterable[Rule]) -> list[tuple[re.Pattern, str]]:
    longest_first = sorted(rules, key=lambda rule: -len(rule[0]))
    return [(re.compile(re.escape(start).replace(r"\#", r"(\d+)")), other) for start, other in longest_first]


def _rename(rules: list[tuple[re.Pattern, str]], name: str) -> str | None:
    for pattern, other in rules:
        match = pattern.match(name)
        if match:
            start = other
            for number in match.groups():
                start = start.replace("#", number, 1)
            return start + name[match.end() :]
    return None


def reason_for(name: str, known: Mapping[str, str]) -> str | None:
    """Why an entry is not needed: the reason of the first pattern in ``known`` that fits its beginning."""
    return next((why for pattern, why in known.items() if re.match(pattern, name)), None)


def convert(
    state: Mapping[str, Tensor], rename: Callable[[str], str | None], known_unused: Mapping[str, str], *, what: str
) -> Converted:
    """Rename every entry; entries that are not needed are listed with the reason.

    Args:
        state: entries of the file.
        rename: their name -> ours, or None.
        known_unused: pattern of their names -> reason.
        what: kind of file, for the error.

    Raises:
        KeyError: listing the entries whose names are unknown.
    """
    ours: dict[str, Tensor] = {}
    unused: dict[str, str] = {}
    unknown = []
    for name, tensor in state.items():
        reason = reason_for(name, known_unused)
        if reason is not None:
            unused[name] = reason
            continue
        renamed = rename(name)
        if renamed is None:
            unknown.append(name)
        else:
            ours[renamed] = tensor
    if unknown:
        raise UnknownNameError(
            f"{len(unknown)} entries are not of a {what}: {', '.join(unknown[:8])}"
            f"{' …' if len(unknown) > 8 else ''}. Was it written by another program?"
        )
    return Converted(state=ours, unused=unused)


def below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Entries of ``state`` whose names start with ``prefix``, which is removed."""
    return {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}


def above(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """``state`` with ``prefix`` before every name."""
    return {prefix + name: value for name, value in state.items()}
