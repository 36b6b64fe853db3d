-- Which tasks took a conversation or a node away, and when: one that runs again finds here that it was done.
CREATE TABLE conversation_removal (
    task  TEXT PRIMARY KEY NOT NULL,
    at_ms BIGINT NOT NULL
);
CREATE INDEX conversation_removal_by_time ON conversation_removal (at_ms);
