"""A receiver that has each number once."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import Callable, Dict, List, Literal, Sequence, Tuple, TypeVar

from ._client import Client
from ._message_id import read_message_id
from ._numbers import Numbers
from .errors import (
    FormatError,
    OtherStoreError,
    SignatureError,
    TallyhookError,
    UnreadableError,
)
from .store import MemoryStore, ReceiverState, Store
from .types import DeliveryState, PulledDelivery
from .verify import (
    ReceivedEvent,
    RequestHeaders,
    VerifiedDelivery,
    read_events,
    verify_delivery,
)

# The most numbers asked for at once.
_PAGE = 100
# The most spans of numbers above a gap that are remembered; as many of those below the start.
_SPANS_MAX = 10_000
# A look ends after so many numbers that fail, with none between that does not.
_FAILURES_MAX = 100

_T = TypeVar("_T")

_log = logging.getLogger("tallyhook")


@dataclass(frozen=True)
class Tombstone:
    """A number that no event will come under."""

    increment_id: int

    state: DeliveryState
    """`cancelled`; or what became of it, if the event has been pruned since, or can't be read."""

    event: ReceivedEvent | None
    """The event, if the server still has it and Python can read it."""


class _TooManyGapsError(TallyhookError):
    """Numbers above so many gaps would take too much memory to remember."""


class Receiver:
    """Receives the deliveries of one webhook, each number once.

    It verifies the signature, drops duplicates, notices gaps and fetches what is missing. Threads
    may share it.

    What it handles and then can't note (the process dies in between) comes again. To exclude that,
    keep the number in the transaction that handles the event.
    """

    def __init__(
        self,
        secrets: str | Sequence[str],
        client: Client,
        webhook_id: int,
        handle: Callable[[ReceivedEvent], object],
        *,
        on_tombstone: Callable[[Tombstone], object] | None = None,
        on_error: Callable[[Exception], object] | None = None,
        store: Store | None = None,
        start: Literal["settled", "beginning"] | int = "settled",
        in_order: bool = False,
        events_remembered: int = 0,
        patience: float = 10.0,
        look_every: float = 60.0,
    ) -> None:
        """Prepares; nothing is asked of the server yet.

        Args:
            secrets: The webhook's `secret_key`, or its `public_key`; or several of which one has to
                fit.
            client: Fetches what is missing; its user needs the permission `webhook_read`.
            webhook_id: The webhook.
            handle: Takes an event. It is called for one event at a time. If it raises, the number
                stays open, the request is answered with 500, and the event comes again. It can't
                call `heal`, `start` or `receive`.
            on_tombstone: Learns of a number that was cancelled or pruned, or is of an event that
                Python can't read, of which `on_error` is told why. If it raises, it is told again
                later.
            on_error: Learns of what went wrong: an exception of `handle`, a bad signature, a server
                that is away. By default it is logged. What it raises itself is logged only.
            store: Where to keep which numbers are done. In memory by default, where a restart
                forgets it.
            start: Where to begin when the store is empty. `settled`: after the numbers that have
                ended, delivered or not, so nothing that is still to come is lost. `beginning`: with
                number 1, which handles everything that the server still has. A number: after that
                one. What lies before is not fetched, but handled if it is sent again.
            in_order: Handles events in the order of their numbers, and not of their arrival. One
                that comes early makes the receiver fetch those before it at once.
            events_remembered: How many of the last events are remembered, to drop one that comes
                again under another number, as after `webhook.backfill`. By default such a one is
                handled again. They are saved with the state, 10 bytes each or so.
            patience: How long a number may stay missing until it is fetched, in seconds.
            look_every: How often to look for numbers after the last one that came, in seconds.
        """
        self._secrets = secrets
        self._client = client
        self._webhook_id = webhook_id
        self._handle = handle
        self._on_tombstone = on_tombstone
        self._on_error = on_error
        self._store: Store = MemoryStore() if store is None else store
        self._start = start
        self._in_order = in_order
        self._events_remembered = events_remembered
        self._patience = patience
        self._look_every = look_every
        # One event at a time, whichever thread it comes on.
        self._turn = threading.RLock()
        self._numbers: Numbers | None = None
        # The last events that were handled, in that order.
        self._events: Dict[int, None] = {}
        self._store_id: str | None = None
        self._is_telling = False
        # Where the last look gave up; the next one goes on after it.
        self._passed = 0
        self._is_saved = True
        self._watch: threading.Thread | None = None
        self._stopped = threading.Event()

    def receive(self, body: bytes | str, headers: RequestHeaders) -> int:
        """Takes a request, and returns the HTTP status to answer it with. Raises nothing.

        204: done, now or before. 401: not signed. 400: signed, but for another webhook, or not in
        the format `envelope`. 500: an exception. 503: too many numbers are missing. The server
        sends again what is not answered with 204.

        Args:
            body: The body as it came, before anything has parsed it.
            headers: Those of the request.
        """
        try:
            delivery = self._verify(body, headers)
            events = read_events(delivery)
            with self._turn:
                numbers = self._load()
                self._check_store(numbers, delivery.store_id)
                try:
                    for event in events:
                        if self._in_order:
                            self._fetch(numbers, event["increment_id"] - 1)
                        self._take(numbers, event)
                finally:
                    self._save(numbers)
        except Exception as error:
            self._report(error)
            if isinstance(error, SignatureError):
                return 401
            if isinstance(error, FormatError):
                return 400
            return 503 if isinstance(error, _TooManyGapsError) else 500
        return 204

    def heal(self) -> int:
        """Fetches now what is missing, and returns how many numbers that were.

        That is what is missing below the highest number that has come, and what has ended without
        coming; of a webhook with the `delivery_mode` `pull`, all there is. Unless `in_order`, a
        number that fails is told to `on_error` and left for the next time.
        """
        with self._turn:
            numbers = self._load()
            overdue = numbers.highest
        return self._heal(numbers, overdue)

    def start(self) -> None:
        """Begins to watch for gaps in a thread, and to fetch what is missing, until `stop`."""
        if self._watch is not None:
            raise RuntimeError("the receiver has been started")
        with self._turn:
            numbers = self._load()
        self._stopped.clear()
        self._watch = threading.Thread(target=self._run, args=(numbers,), daemon=True)
        self._watch.start()

    def stop(self) -> None:
        """Ends the watch, and waits for what it is doing. Requests may still be received."""
        self._stopped.set()
        if self._watch is not None:
            self._watch.join()
            self._watch = None

    def _run(self, numbers: Numbers) -> None:
        looks = max(1, round(self._look_every / self._patience))
        # What is missing below it has been missing since the last tick, at least.
        overdue = numbers.through
        ticks = 0
        while True:
            with self._turn:
                highest = numbers.highest
                # The numbers may have begun anew.
                overdue = min(overdue, highest)
                is_gap = bool(numbers.missing(overdue))
            if is_gap or ticks % looks == 0:
                try:
                    self._heal(numbers, overdue)
                except Exception as error:
                    self._report(error)
            overdue = highest
            ticks += 1
            if self._stopped.wait(self._patience):
                return

    def _verify(self, body: bytes | str, headers: RequestHeaders) -> VerifiedDelivery:
        delivery = verify_delivery(self._secrets, body, headers)
        if delivery.webhook_id != self._webhook_id:
            what = f"this is for webhook {delivery.webhook_id}, not {self._webhook_id}"
            raise FormatError(what)
        return delivery

    def _load(self) -> Numbers:
        if self._is_telling:
            raise TallyhookError("handle and on_tombstone can't call the receiver they are of")
        if self._numbers is None:
            state = self._store.load()
            if state is None:
                beginning = self._beginning()
                state = ReceiverState(beginning, floor=beginning)
            self._numbers = Numbers(state.through, state.beyond, state.floor, state.below)
            self._events = dict.fromkeys(state.events)
            self._store_id = state.store_id
        return self._numbers

    def _check_store(self, numbers: Numbers, store_id: str) -> None:
        """Begins anew with another store; the first number to come tells which one it is."""
        if self._store_id is None:
            self._store_id = store_id
            self._is_saved = False
        elif self._store_id != store_id:
            what = f"the server's store is {store_id}, and was {self._store_id}"
            self._begin_anew(numbers, what, store_id)

    def _begin_anew(self, numbers: Numbers, what: str, store_id: str | None = None) -> None:
        """Takes numbers for those of other events.

        What had ended in the other store, too, is not fetched. What is sent again is handled again,
        for a number that is done may stand for another event now.
        """
        settled = self._client.webhook.get(self._webhook_id)["settled_through"]
        numbers.begin_anew(min(numbers.through, settled))
        self._store_id = store_id
        self._passed = 0
        self._is_saved = False
        self._report(OtherStoreError(f"{what}; the receiver begins anew after {numbers.floor}"))

    def _beginning(self) -> int:
        if isinstance(self._start, int):
            return self._start
        if self._start == "beginning":
            return 0
        return self._client.webhook.get(self._webhook_id)["settled_through"]

    def _save(self, numbers: Numbers) -> None:
        if not self._is_saved:
            state = ReceiverState(
                numbers.through,
                tuple(numbers.beyond),
                numbers.floor,
                tuple(numbers.below),
                self._store_id,
                tuple(self._events),
            )
            self._store.save(state)
            self._is_saved = True

    def _done(self, numbers: Numbers, number: int) -> None:
        numbers.add(number)
        self._is_saved = False

    def _take(self, numbers: Numbers, event: ReceivedEvent) -> None:
        """Handles an event, unless its number is done, or it is one of those remembered."""
        number = event["increment_id"]
        if number in numbers:
            return
        if not numbers.has_room(number, _SPANS_MAX):
            start = 0 if number <= numbers.floor else numbers.through
            raise _TooManyGapsError(f"{_SPANS_MAX} gaps are open above number {start}")
        event_id = event["event_id"]
        if event_id not in self._events:
            self._tell(self._handle, event)
            self._remember(event_id)
        self._done(numbers, number)

    def _remember(self, event_id: int) -> None:
        if self._events_remembered > 0:
            self._events[event_id] = None
        while len(self._events) > self._events_remembered:
            del self._events[next(iter(self._events))]

    def _tell(self, learn: Callable[[_T], object], what: _T) -> None:
        self._is_telling = True
        try:
            learn(what)
        finally:
            self._is_telling = False

    def _heal(self, numbers: Numbers, overdue: int) -> int:
        """Fetches what is missing through `overdue`, and through what has ended."""
        webhook = self._client.webhook.get(self._webhook_id)
        if webhook["increment_id"] < overdue:
            what = f"the webhook has numbers up to {webhook['increment_id']}, and had {overdue}"
            with self._turn:
                self._begin_anew(numbers, what)
                self._save(numbers)
                overdue = numbers.highest
        if webhook["delivery_mode"] == "pull":
            return self._fetch(numbers, webhook["increment_id"], is_pull=True)
        return self._fetch(numbers, max(overdue, webhook["settled_through"]))

    def _fetch(self, numbers: Numbers, through: int, *, is_pull: bool = False) -> int:
        """Fetches and takes what is missing through a number, in order. Each page is saved."""
        count = failures = 0
        passed = 0 if is_pull else self._passed
        while True:
            with self._turn:
                missing = numbers.missing(through, passed)
            if not missing:
                self._passed = 0
                return count
            first, last = missing[0]
            # In the mode `pull`, to ask after a number says that all up to it are done. So what has
            # failed is asked for again together with what comes after it.
            limit = _PAGE if is_pull else min(last - first + 1, _PAGE)
            pulled = self._client.delivery.pull(
                self._webhook_id, after_increment_id=first - 1, limit=limit
            )
            if not pulled or pulled[0]["increment_id"] != first:
                what = f"webhook {self._webhook_id} has not given out number {first}"
                raise TallyhookError(what)
            with self._turn:
                taken, errors = self._take_page(numbers, pulled)
            for error in errors:
                self._report(error)
            count += taken
            failures = len(errors) if taken else failures + len(errors)
            if is_pull and errors:
                return count
            passed = pulled[-1]["increment_id"]
            if failures >= _FAILURES_MAX:
                self._passed = passed
                return count

    def _take_page(
        self, numbers: Numbers, pulled: Sequence[PulledDelivery]
    ) -> Tuple[int, List[Exception]]:
        """How many were missing and no longer are, and what went wrong with others."""
        count = 0
        errors: List[Exception] = []
        try:
            for item in pulled:
                message = read_message_id(item["webhook_id_header"])
                if message is not None:
                    self._check_store(numbers, message.store_id)
                try:
                    count += self._take_pulled(numbers, item)
                except _TooManyGapsError:
                    raise
                except Exception as error:
                    if self._in_order:
                        raise
                    errors.append(error)
        finally:
            self._save(numbers)
        return count, errors

    def _take_pulled(self, numbers: Numbers, item: PulledDelivery) -> bool:
        """True if it was missing."""
        number, state, body = item["increment_id"], item["state"], item["body"]
        if number in numbers:
            return False
        event = None
        if body is not None:
            try:
                event = self._read_pulled(item, body)
            except UnreadableError as error:
                # It would be no better next time, and hold up what comes after it.
                self._tell(self._report, error)
        if event is not None and state != "cancelled":
            self._take(numbers, event)
            return True
        if self._on_tombstone is not None:
            self._tell(self._on_tombstone, Tombstone(number, state, event))
        self._done(numbers, number)
        return True

    def _read_pulled(self, item: PulledDelivery, body: str) -> ReceivedEvent:
        """It is signed like any other."""
        headers = {
            "webhook-id": item["webhook_id_header"],
            "webhook-timestamp": str(item["timestamp"]),
            "webhook-signature": item["signature"] or "",
        }
        event = read_events(self._verify(body, headers))[0]
        if event["increment_id"] != item["increment_id"]:
            what = f"what was pulled under {item['increment_id']} has another number inside"
            raise FormatError(what)
        return event

    def _report(self, error: Exception) -> None:
        if self._on_error is None:
            _log.error("a tallyhook receiver: %s", error, exc_info=error)
            return
        try:
            self._on_error(error)
        except Exception:
            _log.exception("on_error of a tallyhook receiver has raised")
