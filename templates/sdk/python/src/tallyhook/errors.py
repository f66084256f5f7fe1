"""What goes wrong with calls and with requests."""

from __future__ import annotations

from typing import Mapping


class TallyhookError(Exception):
    """Whatever goes wrong."""


class FaultError(TallyhookError):
    """The server refused the call or failed at it.

    There is a subclass for each number in `tallyhook.faults`.
    """

    def __init__(self, number: int, message: str, data: Mapping[str, object]) -> None:
        super().__init__(message)
        self.number = number
        """The number of the fault, such as 103."""
        self.message = message
        """Its words."""
        field, index, wait_ms = data.get("field"), data.get("index"), data.get("retry_after_ms")
        self.field = field if isinstance(field, str) else None
        """The member of the input that was wrong."""
        self.index = index if isinstance(index, int) else None
        """Which item of a list was wrong, from 0."""
        problem, nearest = data.get("problem"), data.get("nearest")
        self.problem = problem if isinstance(problem, str) else None
        """What was wrong, where the message is always the same."""
        self.nearest = nearest if isinstance(nearest, str) else None
        """The name that was probably meant."""
        self.retry_after_ms = wait_ms if isinstance(wait_ms, int) else None
        """When trying again makes sense, in milliseconds from now."""

    def __str__(self) -> str:
        return f"{self.message} (fault {self.number})"


class ProtocolError(TallyhookError):
    """The call was none that the server takes, so it was not run."""

    def __init__(self, code: int, message: str, status: int) -> None:
        super().__init__(message)
        self.code = code
        """A number of JSON-RPC, such as -32602."""
        self.message = message
        """Its words."""
        self.status = status
        """The HTTP status of the answer."""


class TransportError(TallyhookError):
    """No answer came, or none of a tallyhook server. Whether the call was run is not known."""


class CallTimeoutError(TransportError, TimeoutError):
    """No answer came in time. Whether the call was run is not known."""


class CallCancelledError(TallyhookError):
    """The call was cancelled by its `Cancellation`. Whether it was run is not known."""


class SignatureError(TallyhookError):
    """The request is not signed with any of the secrets, or more than five minutes old."""


class OtherStoreError(TallyhookError):
    """The server has another store than the one whose numbers the receiver's state knows.

    A backup was put back, or another store is in its place: a number that is done may stand for
    another event now. The receiver has told `on_error`, and begins anew by itself.
    """


class FormatError(TallyhookError):
    """The request is signed, but its body is none that this package reads."""


class UnreadableError(FormatError):
    """The body is JSON, but beyond what Python reads: too many levels, or a number too long."""
