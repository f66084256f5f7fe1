-- Webhooks whose deliveries a private key signs.

ALTER TABLE webhook ADD COLUMN signing_key TEXT;
