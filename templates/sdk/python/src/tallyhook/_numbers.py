"""Positive numbers of which most are known."""

from __future__ import annotations

from typing import Iterable, List, Sequence, Tuple

Span = Tuple[int, int]
"""Numbers from one to another, both included."""


class Numbers:
    """Above a floor all up to one and spans beyond it; below the floor, spans."""

    def __init__(
        self, through: int, beyond: Iterable[Span], floor: int = 0, below: Iterable[Span] = ()
    ) -> None:
        self.through = through
        """All above the floor and up to this one are known."""
        self.beyond: List[Span] = list(beyond)
        """What is known above that, in order."""
        self.floor = floor
        """What is not known up to this one is not missing either."""
        self.below: List[Span] = list(below)
        """What is known up to the floor, in order."""

    @property
    def highest(self) -> int:
        """The highest that is known, or the floor."""
        return self.beyond[-1][1] if self.beyond else self.through

    def __contains__(self, number: int) -> bool:
        if number <= self.floor:
            return _is_within(self.below, number)
        return number <= self.through or _is_within(self.beyond, number)

    def has_room(self, number: int, spans_max: int) -> bool:
        """Whether adding it leaves so many spans at most, on its side of the floor."""
        spans = self.below if number <= self.floor else self.beyond
        return len(spans) < spans_max or number - 1 in self or number + 1 in self

    def add(self, number: int) -> None:
        """Makes a number known."""
        if number in self:
            return
        if number <= self.floor:
            self.below = _joined(self.below, number)
            return
        self.beyond = _joined(self.beyond, number)
        first, last = self.beyond[0]
        if first == self.through + 1:
            self.through = last
            del self.beyond[0]

    def begin_anew(self, floor: int) -> None:
        """Makes nothing known, and nothing up to the floor missing."""
        self.through = self.floor = floor
        self.beyond = []
        self.below = []

    def missing(self, through: int, after: int = 0) -> List[Span]:
        """What is not known after one number and up to another, in order."""
        missing: List[Span] = []
        start = max(self.through, after) + 1
        for first, last in self.beyond:
            if start > through:
                break
            if start < first:
                missing.append((start, min(first - 1, through)))
            start = max(start, last + 1)
        if start <= through:
            missing.append((start, through))
        return missing


def _is_within(spans: Sequence[Span], number: int) -> bool:
    return any(first <= number <= last for first, last in spans)


def _joined(spans: Sequence[Span], number: int) -> List[Span]:
    """These spans and the number, which is in none of them."""
    first = last = number
    apart: List[Span] = []
    for span in spans:
        if span[1] + 1 == first:
            first = span[0]
        elif span[0] - 1 == last:
            last = span[1]
        else:
            apart.append(span)
    return sorted([*apart, (first, last)])
