-- The current SQLite schema of tallyhook, embedded in the binary and applied
-- to a new store. Older stores are brought here by src/store/sqlite/migrations.
--
-- Times are milliseconds since 1970-01-01T00:00:00Z. Keys are stored as their
-- SHA-256 only. A number that has ended stays as a row, its tombstone, when its
-- event and its attempts are pruned.

-- Facts about the store itself: store_id.
CREATE TABLE meta (
    key   TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE merchant (
    merchant_id INTEGER PRIMARY KEY AUTOINCREMENT,
    code        TEXT    NOT NULL UNIQUE,
    event_type  INTEGER NOT NULL DEFAULT 0, -- the highest number that one of its topics ever had
    created_at  INTEGER NOT NULL,
    paused_at   INTEGER,                    -- NULL: it is not paused
    -- How much it may have; NULL: as much as the server lets anybody.
    webhooks_max           INTEGER,
    pending_deliveries_max INTEGER,         -- that are to be sent
    events_per_day_max     INTEGER,
    calls_per_second_max   INTEGER,
    -- How many events were published in a day of UTC, as far as there is a quota of them.
    event_day              INTEGER,         -- the number of the day, from 1970 on
    event_day_events       INTEGER          -- with those that servers have taken ahead
) STRICT;

CREATE INDEX merchant_paused ON merchant (merchant_id) WHERE paused_at IS NOT NULL;

CREATE TABLE user (
    user_id     INTEGER PRIMARY KEY AUTOINCREMENT,
    merchant_id INTEGER NOT NULL REFERENCES merchant,
    name        TEXT    NOT NULL UNIQUE,
    key_hash    BLOB    NOT NULL UNIQUE,
    permissions INTEGER NOT NULL,           -- bits: 1 webhook_read, 2 webhook_write, 4 event_write, 8 admin, 16 operator
    is_demo     INTEGER NOT NULL DEFAULT 0, -- 1: only a server in dev mode lets it in
    created_at  INTEGER NOT NULL,
    disabled_at INTEGER,                    -- NULL: it is let in
    revoked_at  INTEGER,
    -- Its profile: what its application is, for people.
    application_name        TEXT,
    application_description TEXT,
    application_logo_url    TEXT,
    developer_name          TEXT,
    developer_website       TEXT,
    old_key_hash            BLOB,           -- the key before, which was replaced
    old_key_until           INTEGER         -- and counts until then
) STRICT;

CREATE UNIQUE INDEX user_by_old_key ON user (old_key_hash) WHERE old_key_hash IS NOT NULL;
CREATE INDEX user_by_merchant ON user (merchant_id, user_id);

CREATE TABLE session (
    key_hash   BLOB    NOT NULL PRIMARY KEY,
    user_id    INTEGER NOT NULL REFERENCES user,
    expires_at INTEGER NOT NULL,
    ends_at    INTEGER                      -- however much it is used; NULL: as long as it is
) STRICT, WITHOUT ROWID;

CREATE INDEX session_by_expiry ON session (expires_at);
CREATE INDEX session_by_user ON session (user_id, expires_at);

-- Keys with fewer rights than whoever made them. One that is revoked, or has ended, goes.
CREATE TABLE token (
    token_id    INTEGER PRIMARY KEY AUTOINCREMENT,
    merchant_id INTEGER NOT NULL REFERENCES merchant,
    user_id     INTEGER NOT NULL REFERENCES user, -- who made it, and for whom it acts
    name        TEXT    NOT NULL,                 -- for people
    key_hash    BLOB    NOT NULL UNIQUE,
    permissions INTEGER NOT NULL,                 -- as a user's
    confinement TEXT,                             -- JSON: {"webhooks":[1,2]} or {"label":{"customer":"42"}}; NULL: none
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER                           -- NULL: once it is revoked
) STRICT;

CREATE INDEX token_by_merchant ON token (merchant_id, token_id);
CREATE INDEX token_by_expiry ON token (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE webhook (
    webhook_id           INTEGER PRIMARY KEY AUTOINCREMENT,
    merchant_id          INTEGER NOT NULL REFERENCES merchant,
    user_id              INTEGER NOT NULL REFERENCES user,  -- who made it
    name                 TEXT    NOT NULL,            -- for people, like the description
    description          TEXT    NOT NULL,
    is_active            INTEGER NOT NULL,
    topics               TEXT    NOT NULL,            -- as its owner wrote them; empty: none
    url                  TEXT,                        -- NULL: its receiver pulls
    extra_headers        TEXT    NOT NULL,
    secret_key           TEXT    NOT NULL,
    old_secrets          TEXT    NOT NULL,            -- those it replaced that still sign: JSON, [[expiry, secret], [expiry, private key, ed25519], …]
    format               TEXT    NOT NULL,
    retry                TEXT    NOT NULL,
    delivery_mode        TEXT    NOT NULL,
    max_concurrency      INTEGER,
    rate_per_second      INTEGER,
    rate_burst           INTEGER,
    connect_timeout_ms   INTEGER,
    timeout_ms           INTEGER,
    basic_username       TEXT,
    basic_password       TEXT,
    batch_events         INTEGER,                     -- NULL: one event in a request
    batch_bytes          INTEGER,
    batch_wait_ms        INTEGER,
    expansions           TEXT    NOT NULL,            -- which parts of messages go out: JSON, {topic: names}
    last_increment_id    INTEGER NOT NULL DEFAULT 0,  -- the last number given out
    settled_through      INTEGER NOT NULL DEFAULT 0,  -- all numbers up to this one have ended
    acknowledged_through INTEGER NOT NULL DEFAULT 0,  -- the receiver pulled what lies beyond
    consecutive_failures INTEGER NOT NULL DEFAULT 0,
    failing_since        INTEGER,
    disabled_reason      TEXT,                        -- why the server paused it
    is_recovering        INTEGER NOT NULL DEFAULT 0,  -- 1: enabled again, and without a success since
    created_at           INTEGER NOT NULL,
    updated_at           INTEGER NOT NULL,
    deleted_at           INTEGER,
    pulled_through       INTEGER NOT NULL DEFAULT 0,  -- the highest number that a pull has brought, and may be acknowledged
    paused_until         INTEGER,                     -- until when nothing was to be sent after the last attempt
    pause_reason         TEXT,                        -- and why: retry_after, failures
    is_paused            INTEGER NOT NULL DEFAULT 0,  -- 1: its owner has paused it
    signing_key          TEXT,                        -- the private key that signs; NULL: secret_key does
    client_certificate   TEXT,                        -- what is presented to a receiver that wants it: PEM
    client_key           TEXT,                        -- and its key
    labels               TEXT    NOT NULL DEFAULT '{}', -- for whom it is: JSON, {name: value}
    oauth2               TEXT,                        -- JSON: who fetches a token that is sent along; NULL: nobody
    oauth2_secret        TEXT                         -- and its secret
) STRICT;

CREATE INDEX webhook_by_merchant ON webhook (merchant_id, webhook_id) WHERE deleted_at IS NULL;

CREATE TABLE event (
    event_id     INTEGER PRIMARY KEY AUTOINCREMENT,
    merchant_id  INTEGER NOT NULL REFERENCES merchant,
    topic        TEXT    NOT NULL,
    message      TEXT    NOT NULL,                    -- the publisher's object, byte for byte
    created_at   INTEGER NOT NULL,                    -- when it happened, in the publisher's words
    published_at INTEGER NOT NULL,                    -- when it was accepted
    traceparent  TEXT,                                -- of which trace it is a part; NULL: of none
    labels       TEXT                                 -- for whom it is: JSON, {name: value}; NULL: for whoever subscribes
) STRICT;

CREATE INDEX event_by_merchant ON event (merchant_id);

-- The catalogues: what merchants say of their topics.
CREATE TABLE topic (
    topic_id        INTEGER PRIMARY KEY AUTOINCREMENT,
    merchant_id     INTEGER NOT NULL REFERENCES merchant,
    topic           TEXT    NOT NULL,
    category        TEXT    NOT NULL,
    name            TEXT    NOT NULL,                 -- for people
    description     TEXT    NOT NULL,
    event_type      INTEGER NOT NULL,                 -- the next one is beyond all that there ever were
    message_schema  TEXT,                             -- a JSON Schema
    validation      TEXT    NOT NULL,                 -- off, warn, reject: what becomes of messages that do not fit it
    is_deprecated   INTEGER NOT NULL,
    is_discontinued INTEGER NOT NULL,                 -- 1: can't be published any more
    version         INTEGER NOT NULL DEFAULT 1,       -- goes up with every change
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    UNIQUE (merchant_id, topic),
    UNIQUE (merchant_id, event_type)
) STRICT;

CREATE TABLE idempotency (
    merchant_id  INTEGER NOT NULL REFERENCES merchant,
    key          TEXT    NOT NULL,
    content_hash BLOB    NOT NULL,                    -- SHA-256 of topic and raw message
    event_id     INTEGER NOT NULL,
    receipt      TEXT    NOT NULL,                    -- webhook:number pairs of the first answer
    expires_at   INTEGER NOT NULL,
    PRIMARY KEY (merchant_id, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_by_expiry ON idempotency (expires_at);

CREATE TABLE delivery (
    webhook_id      INTEGER NOT NULL REFERENCES webhook,
    increment_id    INTEGER NOT NULL,                 -- 1, 2, 3 … within the webhook, without holes
    event_id        INTEGER NOT NULL,                 -- the event may be pruned once all its deliveries have ended;
                                                      -- negative: the owner had this delivery forget it
    state           INTEGER NOT NULL DEFAULT 0,       -- 0 pending, 1 delivered, 2 abandoned, 3 cancelled
    attempts        INTEGER NOT NULL DEFAULT 0,
    policy_start    INTEGER NOT NULL DEFAULT 0,       -- attempts when the retry policy last began anew
    format          INTEGER NOT NULL,                 -- pinned: 0 envelope, 1 shipstream, 2 3dcart in JSON, 3 in XML, 4 ultracart, 5 in gzip
    expansion       TEXT,                             -- pinned: which parts of the message go out; NULL: all
    created_at      INTEGER NOT NULL,
    next_attempt_at INTEGER,                          -- when it is sent again, whatever its state; NULL: not again, or never sent yet
    ended_at        INTEGER,
    reason          TEXT,                             -- why it ended undelivered
    batch_first     INTEGER,                          -- the batch it goes out with, from before its first attempt on;
    batch_last      INTEGER,                          -- attempts at it are logged under its first number
    resends_asked   INTEGER NOT NULL DEFAULT 0,       -- how often it was asked to be sent again: an attempt that began before the last time leaves it due
    PRIMARY KEY (webhook_id, increment_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX delivery_by_event ON delivery (event_id);
CREATE INDEX delivery_due ON delivery (webhook_id, next_attempt_at) WHERE next_attempt_at IS NOT NULL;
CREATE INDEX delivery_again ON delivery (webhook_id, increment_id) WHERE next_attempt_at IS NOT NULL;
CREATE INDEX delivery_forgotten ON delivery (webhook_id, increment_id) WHERE event_id < 0;

-- In the order of their ends, so that the oldest can be pruned from the front.
CREATE TABLE attempt (
    attempt_id       INTEGER PRIMARY KEY,
    webhook_id       INTEGER NOT NULL,
    increment_id     INTEGER NOT NULL,
    attempt          INTEGER NOT NULL,                -- from 1
    started_at       INTEGER NOT NULL,
    queue_delay_ms   INTEGER NOT NULL,                -- from when it was due
    duration_us      INTEGER NOT NULL,
    address          TEXT,                            -- what was connected to
    status_code      INTEGER,
    error_class      TEXT,                            -- NULL for a success
    error_detail     TEXT,
    request_headers  TEXT    NOT NULL,                -- one "name: value" a line, credentials redacted
    response_headers TEXT    NOT NULL,
    response_body    BLOB    NOT NULL,
    is_compressed    INTEGER NOT NULL,                -- 1: the body is in zlib's format (RFC 1950)
    FOREIGN KEY (webhook_id, increment_id) REFERENCES delivery
) STRICT;

CREATE UNIQUE INDEX attempt_by_number ON attempt (webhook_id, increment_id, attempt);

-- How large the logs of attempts are. What was sent and got goes, the lowest
-- numbers first, when they are larger than they may be.
CREATE TABLE log_size (
    webhook_id      INTEGER NOT NULL PRIMARY KEY REFERENCES webhook,
    bytes           INTEGER NOT NULL,                 -- of headers and bodies
    emptied_number  INTEGER NOT NULL,                 -- attempts up to this one were looked at
    emptied_attempt INTEGER NOT NULL
) STRICT;

-- Events that were accepted, and are numbered in shares; it goes on after a crash.
CREATE TABLE fanout (
    fanout_id   INTEGER PRIMARY KEY AUTOINCREMENT,
    merchant_id INTEGER NOT NULL REFERENCES merchant,
    events      TEXT    NOT NULL                      -- JSON, [[event_id, idempotency key or null, webhook_ids to come], …]
) STRICT;

-- Bulk work that is done in small steps, and goes on after a crash. What has
-- ended stays for a day.
CREATE TABLE job (
    job_id     INTEGER PRIMARY KEY AUTOINCREMENT,
    webhook_id INTEGER NOT NULL REFERENCES webhook,
    kind       TEXT    NOT NULL,                      -- replay, retry_many, backfill
    next_id    INTEGER NOT NULL,                      -- the event (backfill) or number to go on with
    last_id    INTEGER NOT NULL,                      -- and the last one
    since      INTEGER NOT NULL,                      -- only what was numbered, or published, from then on
    topics     TEXT    NOT NULL,                      -- which events; empty: all
    merchant_id INTEGER NOT NULL DEFAULT 0,
    is_of_all INTEGER NOT NULL DEFAULT 0,             -- 1: after this webhook it goes on with the merchant's next one
    until INTEGER,                                    -- only what was numbered, or published, before then
    state INTEGER,                                    -- only deliveries in this state; NULL: all but cancelled ones
    looked_at INTEGER NOT NULL DEFAULT 0,             -- numbers, or events
    queued INTEGER NOT NULL DEFAULT 0,                -- those that are sent
    unavailable INTEGER NOT NULL DEFAULT 0,           -- those that can't be, and the first of them
    unavailable_webhook_id INTEGER,
    unavailable_increment_id INTEGER,
    created_at INTEGER NOT NULL DEFAULT 0,
    ended_at INTEGER,                                 -- NULL: it goes on
    is_cancelled INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX job_by_merchant ON job (merchant_id, job_id);
CREATE INDEX job_by_end ON job (ended_at) WHERE ended_at IS NOT NULL;

-- Operational events that gather for a minute before they are published.
CREATE TABLE notice (
    webhook_id         INTEGER NOT NULL REFERENCES webhook,
    kind               TEXT    NOT NULL,              -- delivery_abandoned
    count              INTEGER NOT NULL,
    first_increment_id INTEGER NOT NULL,
    last_increment_id  INTEGER NOT NULL,
    due_at             INTEGER NOT NULL,
    PRIMARY KEY (webhook_id, kind)
) STRICT, WITHOUT ROWID;

-- The audit log: who has changed what. A row is written in the transaction of its
-- change, and goes when it is old.
CREATE TABLE audit (
    audit_id    INTEGER PRIMARY KEY AUTOINCREMENT,
    merchant_id INTEGER NOT NULL REFERENCES merchant,
    at          INTEGER NOT NULL,
    user_id     INTEGER REFERENCES user,    -- NULL: an operator, at the command line
    peer        TEXT,                       -- the address that called
    request_id  TEXT,                       -- what the call was named
    action      TEXT    NOT NULL,           -- webhook.update
    kind        TEXT    NOT NULL,           -- webhook, delivery, job, topic, merchant, user, token
    subject     TEXT    NOT NULL,           -- which one
    before      TEXT    NOT NULL,           -- JSON: what was changed, as it was; secrets as fingerprints
    after       TEXT    NOT NULL,           -- and as it is since
    is_cut      INTEGER NOT NULL,           -- 1: some of that was too long
    token_id    INTEGER                     -- by which token, if by one
) STRICT;

CREATE INDEX audit_by_merchant ON audit (merchant_id);
CREATE INDEX audit_by_time ON audit (at);
