"""What the header `webhook-id` says."""

from __future__ import annotations

import re
from typing import NamedTuple

# msg_<store>_<webhook>_<number>, or <first>-<last> in place of the number.
_PATTERN = re.compile(r"msg_(\w+)_([0-9]+)_([0-9]+)(?:-([0-9]+))?", re.ASCII)


class MessageId(NamedTuple):
    """Names what is sent, the same over every retry."""

    store_id: str
    webhook_id: int
    first: int
    last: int


def read_message_id(text: str) -> MessageId | None:
    """Reads the header; `None` if it is none of a tallyhook server."""
    match = _PATTERN.fullmatch(text)
    if match is None:
        return None
    store, webhook, first, last = match.groups()
    return MessageId(store, int(webhook), int(first), int(last or first))
