"""Reads requests of a tallyhook server: signature, numbers, events."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass
from typing import Iterable, List, Protocol, Sequence, Tuple, TypedDict

from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError

from ._message_id import read_message_id
from .errors import FormatError, SignatureError, UnreadableError
from .types import JsonObject

_HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")
_SECRET_PREFIX = "whsec_"
_PUBLIC_KEY_PREFIX = "whpk_"
_AGE_MAX_S = 300
"""How far the time of a request may lie from now: what the official library allows."""


class RequestHeaders(Protocol):
    """Headers of a request: a dict, or what `http.server` and most frameworks have."""

    def items(self) -> Iterable[Tuple[str, str]]:
        """Names and values."""
        ...


class ReceivedEvent(TypedDict):
    """An event as the webhook's receiver gets it."""

    webhook_id: int

    increment_id: int
    """The number of the delivery in the webhook: 1, 2, 3 … without a hole."""

    event_id: int
    """The event itself: the same under every number that it has, by `webhook.backfill` or in another
    webhook."""

    topic: str
    """What happened, such as `order:created`."""

    created_at: str
    """When it happened (RFC 3339)."""

    message: JsonObject
    """What its publisher says of it."""


@dataclass(frozen=True)
class VerifiedDelivery:
    """A delivery whose signature is right."""

    webhook_id: int
    """The webhook that it was sent to."""

    first_increment_id: int
    """Its number; of a batch, the first."""

    last_increment_id: int
    """Its number; of a batch, the last."""

    body: str
    """The body as it was signed."""

    store_id: str
    """The server's store that numbered it; a new store begins with number 1 again."""


def verify_delivery(
    secrets: str | Sequence[str], body: bytes | str, headers: RequestHeaders
) -> VerifiedDelivery:
    """Checks the signature of a request.

    By a secret with the official library of Standard Webhooks, by a public key with `cryptography`,
    which has to be there for it. Numbers are read from the signed `webhook-id`, so this works with every format of bodies.

    Args:
        secrets: The webhook's `secret_key`, or its `public_key`; or several of which one has to fit.
        body: The body as it came, before anything has parsed it.
        headers: Those of the request.

    Raises:
        SignatureError: It is not signed with any of them, or is too old or too new.
    """
    found = {name.lower(): value for name, value in headers.items()}
    signed = {name: found.get(name, "") for name in _HEADERS}
    try:
        text = body if isinstance(body, str) else body.decode()
    except UnicodeDecodeError as error:
        raise SignatureError("the body is no UTF-8") from error
    keys = [secrets] if isinstance(secrets, str) else secrets
    if not any(_is_signed_with(secret, text, signed) for secret in keys):
        raise SignatureError("the request is not signed with the secret, or too old or too new")
    message = read_message_id(signed["webhook-id"])
    if message is None:
        raise SignatureError("webhook-id is none of a tallyhook server")
    store, webhook, first, last = message
    return VerifiedDelivery(webhook, first, last, text, store)


def read_events(delivery: VerifiedDelivery) -> List[ReceivedEvent]:
    """Reads the events of a verified delivery: one, or those of a batch in their order.

    It reads the format `envelope`, which webhooks have unless they were given another.

    Raises:
        FormatError: It is in another format.
        UnreadableError: It has more levels than Python reads, or a number of more digits.
    """
    try:
        body = json.loads(delivery.body)
    except json.JSONDecodeError as error:
        raise FormatError("the body is no JSON") from error
    except (RecursionError, ValueError) as error:
        raise UnreadableError(f"the body is beyond what Python reads: {error}") from error
    batch = body.get("events") if isinstance(body, dict) else None
    events: List[object] = batch if isinstance(batch, list) else [body]
    first = delivery.first_increment_id
    if delivery.last_increment_id - first + 1 != len(events):
        raise FormatError("the body has other numbers than webhook-id")
    return [_read_event(event, delivery, first + place) for place, event in enumerate(events)]


def _read_event(event: object, delivery: VerifiedDelivery, expected: int) -> ReceivedEvent:
    if isinstance(event, dict) and event.get("increment_id") == expected:
        event_id, topic, created_at = map(event.get, ("event_id", "topic", "created_at"))
        message = event.get("message")
        if (
            isinstance(event_id, int)
            and isinstance(topic, str)
            and isinstance(created_at, str)
            and isinstance(message, dict)
        ):
            return {
                "webhook_id": delivery.webhook_id,
                "increment_id": expected,
                "event_id": event_id,
                "topic": topic,
                "created_at": created_at,
                "message": message,
            }
    what = "the body is not in the format envelope"
    raise FormatError(f"{what}; webhook.get says which format it is in")


def _is_signed_with(secret: str, text: str, signed: dict[str, str]) -> bool:
    if secret.startswith(_PUBLIC_KEY_PREFIX):
        return _is_signed_by_key(secret[len(_PUBLIC_KEY_PREFIX) :], text, signed)
    # A secret without the prefix is no base64: its own bytes are the key.
    key = secret if secret.startswith(_SECRET_PREFIX) else secret.encode()
    verifier = Verifier(key)
    try:
        verifier.verify(text, signed, json_parse=False)
    except (WebhookVerificationError, ValueError):
        # It raises ValueError for a signature that is no base64 or has no version.
        return False
    return True


def _is_signed_by_key(public_key: str, text: str, signed: dict[str, str]) -> bool:
    # Who signs with secrets alone needs not have it.
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key, validate=True))
    timestamp = signed["webhook-timestamp"]
    is_number = timestamp.isascii() and timestamp.isdigit()
    if not is_number or abs(time.time() - int(timestamp)) > _AGE_MAX_S:
        return False
    message = f"{signed['webhook-id']}.{timestamp}.{text}".encode()
    for item in signed["webhook-signature"].split():
        version, _, signature = item.partition(",")
        if version == "v1a":
            try:
                key.verify(base64.b64decode(signature, validate=True), message)
                return True
            except (InvalidSignature, ValueError):
                pass
    return False
