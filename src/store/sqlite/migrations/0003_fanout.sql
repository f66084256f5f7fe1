-- Events that go far are numbered in shares.

-- Events that were accepted, and are numbered in shares; it goes on after a crash.
CREATE TABLE fanout (
    fanout_id   INTEGER PRIMARY KEY AUTOINCREMENT,
    merchant_id INTEGER NOT NULL REFERENCES merchant,
    events      TEXT    NOT NULL                      -- JSON, [[event_id, idempotency key or null, webhook_ids to come], …]
) STRICT;
