-- When deliveries really go out.

-- How often each was asked to be sent again: an attempt that began before the
-- last time leaves it due.
ALTER TABLE delivery ADD COLUMN resends_asked INTEGER NOT NULL DEFAULT 0;

-- Until when nothing is sent after the last attempt, and why.
ALTER TABLE webhook ADD COLUMN paused_until INTEGER;
ALTER TABLE webhook ADD COLUMN pause_reason TEXT;
