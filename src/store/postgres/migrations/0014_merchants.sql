-- Merchants that are paused, and how much each may have.

ALTER TABLE merchant ADD COLUMN paused_at BIGINT;
ALTER TABLE merchant ADD COLUMN webhooks_max BIGINT;
ALTER TABLE merchant ADD COLUMN pending_deliveries_max BIGINT;
ALTER TABLE merchant ADD COLUMN events_per_day_max BIGINT;
ALTER TABLE merchant ADD COLUMN calls_per_second_max BIGINT;
ALTER TABLE merchant ADD COLUMN event_day BIGINT;
ALTER TABLE merchant ADD COLUMN event_day_events BIGINT;

CREATE INDEX merchant_paused ON merchant (merchant_id) WHERE paused_at IS NOT NULL;
