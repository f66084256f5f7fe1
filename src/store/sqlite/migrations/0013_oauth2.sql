-- Webhooks that send a token of OAuth 2.0 along.

ALTER TABLE webhook ADD COLUMN oauth2 TEXT;
ALTER TABLE webhook ADD COLUMN oauth2_secret TEXT;
