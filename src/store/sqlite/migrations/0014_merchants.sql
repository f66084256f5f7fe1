-- Merchants that are paused, and how much each may have.

ALTER TABLE merchant ADD COLUMN paused_at INTEGER;
ALTER TABLE merchant ADD COLUMN webhooks_max INTEGER;
ALTER TABLE merchant ADD COLUMN pending_deliveries_max INTEGER;
ALTER TABLE merchant ADD COLUMN events_per_day_max INTEGER;
ALTER TABLE merchant ADD COLUMN calls_per_second_max INTEGER;
ALTER TABLE merchant ADD COLUMN event_day INTEGER;
ALTER TABLE merchant ADD COLUMN event_day_events INTEGER;

CREATE INDEX merchant_paused ON merchant (merchant_id) WHERE paused_at IS NOT NULL;
