"""Client of a tallyhook webhook server, and a receiver that misses nothing."""

from . import faults, types
from ._client import Client
from ._transport import Cancellation
from .errors import (
    CallCancelledError,
    CallTimeoutError,
    FaultError,
    FormatError,
    OtherStoreError,
    ProtocolError,
    SignatureError,
    TallyhookError,
    TransportError,
    UnreadableError,
)
from .faults import *  # noqa: F403
from .receiver import Receiver, Tombstone
from .store import FileStore, MemoryStore, ReceiverState, Store
from .verify import ReceivedEvent, RequestHeaders, VerifiedDelivery, read_events, verify_delivery

__all__ = [
    "CallCancelledError",
    "CallTimeoutError",
    "Cancellation",
    "Client",
    "FaultError",
    "FileStore",
    "FormatError",
    "MemoryStore",
    "OtherStoreError",
    "ProtocolError",
    "ReceivedEvent",
    "Receiver",
    "ReceiverState",
    "RequestHeaders",
    "SignatureError",
    "Store",
    "TallyhookError",
    "Tombstone",
    "TransportError",
    "UnreadableError",
    "VerifiedDelivery",
    "read_events",
    "types",
    "verify_delivery",
]
__all__ += faults.__all__
