"""Where a receiver keeps which numbers are done."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from dataclasses import dataclass
from typing import Iterable, Protocol, Tuple

from ._numbers import Span


@dataclass(frozen=True)
class ReceiverState:
    """What a receiver has to remember."""

    through: int
    """All numbers above the floor and up to this one are done."""

    beyond: Tuple[Span, ...] = ()
    """What is done above that, from first to last each."""

    floor: int = 0
    """Where the receiver began: up to this one nothing is fetched."""

    below: Tuple[Span, ...] = ()
    """What is done up to the floor, as it was sent again; from first to last each."""

    store_id: str | None = None
    """The server's store whose numbers these are; `None` until a delivery tells."""

    events: Tuple[int, ...] = ()
    """The ids of the last events that were handled, if they are remembered."""


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
        store_id = state.get("store_id")
        return ReceiverState(
            int(state["through"]),
            _read_spans(state["beyond"]),
            int(state.get("floor", 0)),
            _read_spans(state.get("below", ())),
            None if store_id is None else str(store_id),
            tuple(map(int, state.get("events", ()))),
        )

    def save(self, state: ReceiverState) -> None:
        """Keeps this in place of what was saved before."""
        written = f"{self._path}.new"
        with open(written, "w", encoding="utf-8") as file:
            json.dump(vars(state), file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(written, self._path)
        _sync_folder(os.path.dirname(self._path) or os.curdir)


def _read_spans(spans: Iterable[Tuple[int, int]]) -> Tuple[Span, ...]:
    return tuple((int(first), int(last)) for first, last in spans)


def _sync_folder(path: str) -> None:
    """Keeps a renaming through a loss of power, where the platform can."""
    with contextlib.suppress(PermissionError):
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        finally:
            os.close(folder)
