-- What a list leaves out is found by number.

CREATE INDEX delivery_forgotten ON delivery (webhook_id, increment_id) WHERE event_id < 0;
