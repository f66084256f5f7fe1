-- Keys that were replaced count for a while yet, and so do the sessions that they opened.

ALTER TABLE user ADD COLUMN old_key_hash BLOB;
ALTER TABLE user ADD COLUMN old_key_until INTEGER;
CREATE UNIQUE INDEX user_by_old_key ON user (old_key_hash) WHERE old_key_hash IS NOT NULL;

ALTER TABLE session ADD COLUMN ends_at INTEGER;
