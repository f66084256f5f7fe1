-- When deliveries really go out.

-- How often each was asked to be sent again: an attempt that began before the
-- last time leaves it due.
ALTER TABLE delivery ADD COLUMN resends_asked INTEGER NOT NULL DEFAULT 0;

-- Until when nothing is sent after the last attempt, and why.
ALTER TABLE webhook ADD COLUMN paused_until INTEGER;
ALTER TABLE webhook ADD COLUMN pause_reason TEXT;

-- Its owner has paused it: it is numbered, and nothing is sent.
ALTER TABLE webhook ADD COLUMN is_paused INTEGER NOT NULL DEFAULT 0;

-- Bulk work can be watched and called off, and stays for a while after its end.
ALTER TABLE job ADD COLUMN merchant_id INTEGER NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN is_of_all INTEGER NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN until INTEGER;
ALTER TABLE job ADD COLUMN state INTEGER;
ALTER TABLE job ADD COLUMN looked_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN queued INTEGER NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN unavailable INTEGER NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN unavailable_webhook_id INTEGER;
ALTER TABLE job ADD COLUMN unavailable_increment_id INTEGER;
ALTER TABLE job ADD COLUMN created_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN ended_at INTEGER;
ALTER TABLE job ADD COLUMN is_cancelled INTEGER NOT NULL DEFAULT 0;
UPDATE job SET merchant_id = (SELECT merchant_id FROM webhook WHERE webhook.webhook_id = job.webhook_id);
CREATE INDEX job_by_merchant ON job (merchant_id, job_id);
CREATE INDEX job_by_end ON job (ended_at) WHERE ended_at IS NOT NULL;
