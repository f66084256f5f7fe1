"""Where a receiver keeps which numbers are done."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Protocol, Tuple

from ._numbers import Span


@dataclass(frozen=True)
class ReceiverState:
    """What a receiver has to remember."""

    through: int
    """All numbers up to this one are done."""

    beyond: Tuple[Span, ...] = ()
    """What is done above that, from first to last each."""


class Store(Protocol):
    """Where a receiver keeps its state. Your database is the best place for it."""

    def load(self) -> ReceiverState | None:
        """What was saved last; `None` if nothing was yet."""
        ...

    def save(self, state: ReceiverState) -> None:
        """Keeps this in place of what was saved before.

        The request is answered only after it has returned.
        """
        ...


class MemoryStore:
    """Forgets with the process."""

    def __init__(self) -> None:
        self._state: ReceiverState | None = None

    def load(self) -> ReceiverState | None:
        """What was saved last; `None` if nothing was yet."""
        return self._state

    def save(self, state: ReceiverState) -> None:
        """Keeps this in place of what was saved before."""
        self._state = state


class FileStore:
    """Keeps the state of one receiver in a file, which is whole at any time.

    For one process only.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)

    def load(self) -> ReceiverState | None:
        """What was saved last; `None` if there is no file."""
        try:
            with open(self._path, encoding="utf-8") as file:
                state = json.load(file)
        except FileNotFoundError:
            return None
        beyond = tuple((int(first), int(last)) for first, last in state["beyond"])
        return ReceiverState(int(state["through"]), beyond)

    def save(self, state: ReceiverState) -> None:
        """Keeps this in place of what was saved before."""
        written = f"{self._path}.new"
        with open(written, "w", encoding="utf-8") as file:
            json.dump({"through": state.through, "beyond": state.beyond}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(written, self._path)
