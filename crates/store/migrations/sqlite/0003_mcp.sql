-- Upstream MCP servers that were registered at run time. `config` refers to secrets and holds none.
CREATE TABLE upstream (
    name          TEXT PRIMARY KEY NOT NULL,
    tenant        TEXT,
    config        TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    created_by    TEXT,
    updated_at_ms BIGINT NOT NULL
);

-- What is known about each definition of an upstream: the approved one, which is offered, and beside it the newer one
-- that waits for somebody to decide. Either may be missing, but not both.
CREATE TABLE tool_pin (
    server               TEXT NOT NULL,
    kind                 TEXT NOT NULL,
    name                 TEXT NOT NULL,
    approved_fingerprint TEXT,
    approved_definition  TEXT,
    approved_flags       TEXT,
    approved_bytes       BIGINT,
    held_fingerprint     TEXT,
    held_definition      TEXT,
    held_flags           TEXT,
    held_bytes           BIGINT,
    held_why             TEXT,
    held_at_ms           BIGINT,
    first_seen_at_ms     BIGINT NOT NULL,
    seen_at_ms           BIGINT NOT NULL,
    decided_at_ms        BIGINT,
    decided_by           TEXT,
    PRIMARY KEY (server, kind, name),
    CHECK (approved_fingerprint IS NOT NULL OR held_fingerprint IS NOT NULL)
);

-- Sessions of the MCP versions that have them. The id is a credential, so only its SHA-256 stands here.
CREATE TABLE mcp_session (
    id_hash       BLOB PRIMARY KEY NOT NULL,
    tenant        TEXT NOT NULL,
    subject       TEXT NOT NULL,
    key_id        TEXT,
    version       TEXT NOT NULL,
    scope         TEXT NOT NULL,
    caps          TEXT NOT NULL,
    client_info   TEXT,
    log_level     TEXT,
    subscriptions TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    touched_at_ms BIGINT NOT NULL,
    expires_at_ms BIGINT NOT NULL
);
CREATE INDEX mcp_session_by_expiry ON mcp_session (expires_at_ms);
CREATE INDEX mcp_session_by_key ON mcp_session (key_id) WHERE key_id IS NOT NULL;

-- Messages of a session's streams, for a client that comes back with Last-Event-ID.
CREATE TABLE mcp_stream_event (
    session_hash  BLOB NOT NULL REFERENCES mcp_session (id_hash) ON DELETE CASCADE,
    stream        TEXT NOT NULL,
    seq           BIGINT NOT NULL,
    message       BLOB NOT NULL,
    bytes         BIGINT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    PRIMARY KEY (session_hash, stream, seq)
);
CREATE INDEX mcp_stream_event_by_age ON mcp_stream_event (created_at_ms);

-- Secrets that replicas sign with and verify by.
CREATE TABLE signing_key (
    purpose       TEXT NOT NULL,
    id            TEXT NOT NULL,
    secret        BLOB NOT NULL,
    created_at_ms BIGINT NOT NULL,
    sign_until_ms BIGINT NOT NULL,
    retire_at_ms  BIGINT NOT NULL,
    PRIMARY KEY (purpose, id)
);
