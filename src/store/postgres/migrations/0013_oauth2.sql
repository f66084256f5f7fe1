-- Webhooks that send a token of OAuth 2.0 along.

ALTER TABLE webhook ADD COLUMN oauth2 TEXT;
ALTER TABLE webhook ADD COLUMN oauth2_secret TEXT;

-- A view has the columns that there were when it was made.
DROP VIEW webhook_now;
CREATE VIEW webhook_now AS
    SELECT w.*, coalesce((SELECT d.increment_id FROM delivery d WHERE d.webhook_id = w.webhook_id
        ORDER BY d.increment_id DESC LIMIT 1), 0) AS last_increment_id
    FROM webhook w;
