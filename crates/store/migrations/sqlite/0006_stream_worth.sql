-- What is let go first where a session has said more than is kept: reports of progress.
ALTER TABLE mcp_stream_event ADD COLUMN passing BOOLEAN NOT NULL DEFAULT FALSE;

-- How much a session keeps is asked with every message.
CREATE INDEX mcp_stream_event_by_size ON mcp_stream_event (session_hash, bytes);
