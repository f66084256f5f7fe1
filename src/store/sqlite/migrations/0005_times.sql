-- When deliveries really go out.

-- How often each was asked to be sent again: an attempt that began before the
-- last time leaves it due.
ALTER TABLE delivery ADD COLUMN resends_asked INTEGER NOT NULL DEFAULT 0;
