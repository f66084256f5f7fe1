-- Events that are a part of a trace.

ALTER TABLE event ADD COLUMN traceparent TEXT;
