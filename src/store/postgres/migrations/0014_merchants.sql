-- Merchants that are paused, and how much each may have.

ALTER TABLE merchant ADD COLUMN paused_at BIGINT;
ALTER TABLE merchant ADD COLUMN webhooks_max BIGINT;
ALTER TABLE merchant ADD COLUMN calls_per_second_max BIGINT;

CREATE INDEX merchant_paused ON merchant (merchant_id) WHERE paused_at IS NOT NULL;
