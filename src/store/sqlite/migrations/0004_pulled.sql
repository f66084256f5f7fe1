-- What a pull has brought, and so may be acknowledged.

ALTER TABLE webhook ADD COLUMN pulled_through INTEGER NOT NULL DEFAULT 0;

-- Nobody knows what was pulled before.
UPDATE webhook SET pulled_through = last_increment_id;
