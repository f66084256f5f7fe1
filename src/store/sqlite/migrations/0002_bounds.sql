-- Bounds of the logs of attempts and of the sessions of a user.

-- How large the logs of attempts are. What was sent and got goes, the lowest
-- numbers first, when they are larger than they may be.
CREATE TABLE log_size (
    webhook_id      INTEGER NOT NULL PRIMARY KEY REFERENCES webhook,
    bytes           INTEGER NOT NULL,                 -- of headers and bodies
    emptied_number  INTEGER NOT NULL,                 -- attempts up to this one were looked at
    emptied_attempt INTEGER NOT NULL
) STRICT;

INSERT INTO log_size (webhook_id, bytes, emptied_number, emptied_attempt)
    SELECT webhook_id, sum(octet_length(request_headers) + octet_length(response_headers) + octet_length(response_body)), 0, 0
        FROM attempt GROUP BY webhook_id;

CREATE INDEX session_by_user ON session (user_id, expires_at);
