"""Makes calls, with a session that it opens and renews."""

from __future__ import annotations

import contextlib
import http.client
import json
import selectors
import socket
import ssl
import threading
import time
from typing import Any, Dict, List, Mapping, Set, Tuple, Type
from urllib.parse import urlsplit

from .errors import (
    CallCancelledError,
    CallTimeoutError,
    FaultError,
    ProtocolError,
    TallyhookError,
    TransportError,
)

_SESSION_EXPIRED = 5
# The first wait before a publish is repeated, in seconds; it doubles each time.
_RETRY_WAIT = 0.2
# The most connections that are kept for the next call.
_IDLE_MAX = 16
_READ_BYTES = 65536
# The longest that a socket is told to wait, in seconds; 31 bits of milliseconds hold it.
_WAIT_MAX = 2_000_000.0


class Cancellation:
    """Cancels calls from another thread.

    Give it to any number of calls. `cancel` breaks off those that are waiting for an answer, and
    refuses later ones: all raise `CallCancelledError`. A call that waits for the login of another
    thread raises it when that has ended.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sockets: Set[socket.socket] = set()
        self._cancelled = threading.Event()

    @property
    def is_cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Cancels, once and for all."""
        with self._lock:
            self._cancelled.set()
            for waiting in self._sockets:
                # It fails if it was closed at the other end.
                with contextlib.suppress(OSError):
                    waiting.shutdown(socket.SHUT_RDWR)

    def _check(self) -> None:
        if self.is_cancelled:
            raise CallCancelledError("the call was cancelled")

    def _watch(self, waiting: socket.socket) -> None:
        with self._lock:
            self._check()
            self._sockets.add(waiting)

    def _release(self, waiting: socket.socket) -> None:
        with self._lock:
            self._sockets.discard(waiting)

    def _pause(self, seconds: float) -> None:
        self._cancelled.wait(seconds)
        self._check()


class _Deadline:
    """When a call has to have ended."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """How many seconds to wait, of those that are left. Raises if none are."""
        left = self._end - time.monotonic()
        # Not of a NaN either.
        if not left > 0:
            raise self.error()
        return min(left, _WAIT_MAX)

    def error(self) -> CallTimeoutError:
        """What to raise when it has passed."""
        return CallTimeoutError(f"no answer within {self._seconds:g} s")


class Transport:
    """What all methods call through. Threads may share it."""

    def __init__(
        self,
        url: str,
        username: str,
        api_key: str,
        timeout: float,
        retries: int,
        tls: ssl.SSLContext | None,
        faults: Mapping[int, Type[FaultError]],
    ) -> None:
        self._connections = _Connections(url, tls)
        self._username = username
        self._api_key = api_key
        self._timeout = timeout
        self._retries = retries
        self._faults = faults
        # Held while logging in, so that calls that come meanwhile wait for the same session.
        self._session_lock = threading.Lock()
        self._session: str | None = None

    def call(
        self,
        method: str,
        params: Mapping[str, object],
        timeout: float | None,
        cancellation: Cancellation | None,
    ) -> Any:
        """Calls a method by name, in a session. What it returns is what the document promises."""
        call = cancellation or Cancellation()
        seconds = self._timeout if timeout is None else timeout
        wait_ms = params.get("wait_ms")
        if isinstance(wait_ms, int):
            seconds += wait_ms / 1000
        retries = self._retries if _is_repeatable(params) else 0
        attempt = 0
        while True:
            try:
                return self._call_in_session(method, params, _Deadline(seconds), call)
            except TransportError:
                if attempt >= retries:
                    raise
            call._pause(_RETRY_WAIT * 2**attempt)
            attempt += 1

    def close(self) -> None:
        """Ends the session, if there is one, and closes what is idle."""
        with self._session_lock:
            session, self._session = self._session, None
        try:
            if session is not None:
                deadline = _Deadline(self._timeout)
                self._exchange("endSession", {"session": session}, deadline, Cancellation())
        finally:
            self._connections.close()

    def _call_in_session(
        self,
        method: str,
        params: Mapping[str, object],
        deadline: _Deadline,
        cancellation: Cancellation,
    ) -> Any:
        session = self._login(deadline, cancellation)
        try:
            return self._exchange(method, {"session": session, **params}, deadline, cancellation)
        except FaultError as fault:
            if fault.number != _SESSION_EXPIRED:
                raise
        # The session has expired, so nothing was done. Whoever learns it first logs in for all.
        session = self._login(deadline, cancellation, unlike=session)
        return self._exchange(method, {"session": session, **params}, deadline, cancellation)

    def _login(
        self, deadline: _Deadline, cancellation: Cancellation, unlike: str | None = None
    ) -> str:
        """The session; a new one if there is none, or only the one that has expired."""
        if not self._session_lock.acquire(timeout=deadline.left()):
            raise deadline.error()
        try:
            if self._session is None or self._session == unlike:
                self._session = None
                params = {"username": self._username, "api_key": self._api_key}
                self._session = str(self._exchange("login", params, deadline, cancellation))
            return self._session
        finally:
            self._session_lock.release()

    def _exchange(
        self,
        method: str,
        params: Mapping[str, object],
        deadline: _Deadline,
        cancellation: Cancellation,
    ) -> Any:
        """One request and its answer."""
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        try:
            body = json.dumps(request, ensure_ascii=False, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise TallyhookError(f"{method}: can't be said in JSON: {error}") from error
        try:
            status, text = self._connections.post(body, deadline, cancellation)
        except (OSError, http.client.HTTPException, ValueError) as error:
            # Breaking off a connection makes its reader fail in one way or another.
            cancellation._check()
            if isinstance(error, CallTimeoutError):
                raise
            if isinstance(error, TimeoutError):
                raise deadline.error() from error
            raise TransportError(f"{method}: {error or type(error).__name__}") from error
        return self._outcome(status, text)

    def _outcome(self, status: int, text: bytes) -> Any:
        if 300 <= status < 400:
            what = f"the server redirects (HTTP status {status}), and the API key is not sent there"
            raise TransportError(f"{what}; is the URL right?")
        try:
            answer = json.loads(text)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            what = f"the answer (HTTP status {status}) is no JSON object"
            raise TransportError(f"{what}; is this a tallyhook server?")
        error = answer.get("error")
        if isinstance(error, dict):
            code, message = int(error.get("code", 0)), str(error.get("message", ""))
            if code < 0:
                raise ProtocolError(code, message, status)
            data = error.get("data")
            fault = self._faults.get(code, FaultError)
            raise fault(code, message, data if isinstance(data, dict) else {})
        if "result" not in answer:
            raise TransportError(f"the answer (HTTP status {status}) is none to a call")
        return answer["result"]


class _Connections:
    """Connections to one server, kept open between calls."""

    def __init__(self, url: str, tls: ssl.SSLContext | None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or parts.hostname is None:
            raise ValueError(f"{url!r} is no URL such as https://hooks.example.com/")
        self._is_tls = parts.scheme == "https"
        self._tls = tls
        self._host, self._port = parts.hostname, parts.port
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._lock = threading.Lock()
        self._idle: List[http.client.HTTPConnection] = []

    def post(
        self, body: bytes, deadline: _Deadline, cancellation: Cancellation
    ) -> Tuple[int, bytes]:
        """The status and the body of the answer."""
        cancellation._check()
        connection = self._take()
        is_reusable = False
        try:
            if connection.sock is None:
                connection.timeout = deadline.left()
                connection.connect()
            sock = connection.sock
            assert sock is not None, "it is connected"
            cancellation._watch(sock)
            try:
                sock.settimeout(deadline.left())
                headers = {"content-type": "application/json"}
                connection.request("POST", self._path, body, headers)
                sock.settimeout(deadline.left())
                response = connection.getresponse()
                text = bytearray()
                while chunk := response.read1(_READ_BYTES):
                    text += chunk
                    sock.settimeout(deadline.left())
                # All has been read, and now the response knows it too.
                response.read()
            finally:
                cancellation._release(sock)
            is_reusable = connection.sock is not None and not cancellation.is_cancelled
            return response.status, bytes(text)
        finally:
            self._give_back(connection, is_reusable)

    def close(self) -> None:
        """Closes what is idle."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _take(self) -> http.client.HTTPConnection:
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                if self._is_tls:
                    return http.client.HTTPSConnection(self._host, self._port, context=self._tls)
                return http.client.HTTPConnection(self._host, self._port)
            if not _is_readable(connection.sock):
                return connection
            # Nothing was asked, so what there is to read is the end.
            connection.close()

    def _give_back(self, connection: http.client.HTTPConnection, is_reusable: bool) -> None:
        with self._lock:
            if is_reusable and len(self._idle) < _IDLE_MAX:
                self._idle.append(connection)
                return
        connection.close()


def _is_readable(sock: socket.socket) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_READ)
        return bool(selector.select(0))


def _is_repeatable(params: Mapping[str, object]) -> bool:
    """True of a publish whose repetition is the same publish."""

    def has_key(options: object) -> bool:
        return isinstance(options, Mapping) and isinstance(options.get("idempotency_key"), str)

    events = params.get("events")
    if not isinstance(events, (list, tuple)):
        return has_key(params.get("options"))
    return bool(events) and all(
        isinstance(e, Mapping) and has_key(e.get("options")) for e in events
    )


def present(members: Mapping[str, object]) -> Dict[str, object]:
    """Without those that are `None`: what is left out."""
    return {name: value for name, value in members.items() if value is not None}
