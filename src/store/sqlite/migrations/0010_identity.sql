-- Webhooks that present a certificate to their receivers.

ALTER TABLE webhook ADD COLUMN client_certificate TEXT;
ALTER TABLE webhook ADD COLUMN client_key TEXT;
