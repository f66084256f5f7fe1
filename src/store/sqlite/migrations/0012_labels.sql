-- Labels, and tokens that may be confined to them.

ALTER TABLE webhook ADD COLUMN labels TEXT NOT NULL DEFAULT '{}';
ALTER TABLE event ADD COLUMN labels TEXT;
ALTER TABLE audit ADD COLUMN token_id INTEGER;

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
