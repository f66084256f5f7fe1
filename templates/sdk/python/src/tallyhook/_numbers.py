"""Positive numbers of which most are known from 1 on."""

from __future__ import annotations

from typing import Iterable, List, Tuple

Span = Tuple[int, int]
"""Numbers from one to another, both included."""


class Numbers:
    """All up to one, and spans above it."""

    def __init__(self, through: int, beyond: Iterable[Span]) -> None:
        self.through = through
        """All up to this one are known."""
        self.beyond: List[Span] = list(beyond)
        """What is known above that, in order."""

    @property
    def highest(self) -> int:
        """The highest that is known."""
        return self.beyond[-1][1] if self.beyond else self.through

    def __contains__(self, number: int) -> bool:
        return number <= self.through or any(a <= number <= b for a, b in self.beyond)

    def add(self, number: int) -> None:
        """Makes a number known."""
        if number in self:
            return
        first = last = number
        apart: List[Span] = []
        for span in self.beyond:
            if span[1] + 1 == first:
                first = span[0]
            elif span[0] - 1 == last:
                last = span[1]
            else:
                apart.append(span)
        if first == self.through + 1:
            self.through = last
        else:
            apart.append((first, last))
        self.beyond = sorted(apart)

    def missing(self, through: int) -> List[Span]:
        """What is not known up to this number, in order."""
        missing: List[Span] = []
        start = self.through + 1
        for first, last in self.beyond:
            if start > through:
                break
            missing.append((start, min(first - 1, through)))
            start = last + 1
        if start <= through:
            missing.append((start, through))
        return missing
