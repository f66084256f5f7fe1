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
    kind        TEXT    NOT NULL,           -- webhook, delivery, job, topic, merchant, user
    subject     TEXT    NOT NULL,           -- which one
    before      TEXT    NOT NULL,           -- JSON: what was changed, as it was; secrets as fingerprints
    after       TEXT    NOT NULL,           -- and as it is since
    is_cut      INTEGER NOT NULL            -- 1: some of that was too long
) STRICT;

CREATE INDEX audit_by_merchant ON audit (merchant_id);
CREATE INDEX audit_by_time ON audit (at);

CREATE INDEX user_by_merchant ON user (merchant_id, user_id);
