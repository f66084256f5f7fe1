-- Webhooks that present a certificate to their receivers.

ALTER TABLE webhook ADD COLUMN client_certificate TEXT;
ALTER TABLE webhook ADD COLUMN client_key TEXT;

-- A view has the columns that there were when it was made.
DROP VIEW webhook_now;
CREATE VIEW webhook_now AS
    SELECT w.*, coalesce((SELECT d.increment_id FROM delivery d WHERE d.webhook_id = w.webhook_id
        ORDER BY d.increment_id DESC LIMIT 1), 0) AS last_increment_id
    FROM webhook w;
