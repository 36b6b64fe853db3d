-- Keys. They are revoked, never deleted: the log names them for as long as it is kept.
CREATE TABLE api_key (
    id            TEXT PRIMARY KEY NOT NULL,
    hash          BLOB NOT NULL,
    tenant        TEXT NOT NULL,
    project       TEXT,
    subject       TEXT NOT NULL,
    role          TEXT NOT NULL,
    grants        TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    created_by    TEXT,
    expires_at_ms BIGINT,
    revoked_at_ms BIGINT
);
CREATE INDEX api_key_by_age ON api_key (created_at_ms, id);
CREATE INDEX api_key_by_tenant ON api_key (tenant, created_at_ms, id);
CREATE INDEX api_key_by_revocation ON api_key (revoked_at_ms, id) WHERE revoked_at_ms IS NOT NULL;

-- One row a fact. AUTOINCREMENT, because a sequence number must not come back after the newest rows were pruned.
CREATE TABLE event (
    seq              INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms            BIGINT NOT NULL,
    class            TEXT NOT NULL,
    surface          TEXT NOT NULL,
    trace            TEXT NOT NULL,
    tenant           TEXT,
    project          TEXT,
    subject          TEXT,
    key_id           TEXT,
    session          TEXT,
    action           TEXT NOT NULL,
    outcome          TEXT NOT NULL,
    reason           TEXT,
    duration_us      BIGINT NOT NULL,
    bytes_in         BIGINT NOT NULL,
    bytes_out        BIGINT NOT NULL,
    input_tokens     BIGINT,
    output_tokens    BIGINT,
    tokens_estimated BOOLEAN,
    count            BIGINT NOT NULL,
    chain_id         TEXT,
    chain_seq        BIGINT,
    prev_hash        BLOB,
    hash             BLOB
);
CREATE INDEX event_by_tenant ON event (tenant, seq);
CREATE INDEX event_by_trace ON event (trace);
CREATE UNIQUE INDEX event_by_chain ON event (chain_id, chain_seq) WHERE chain_id IS NOT NULL;

-- The head of each audit chain: what a truncated tail is found out by.
CREATE TABLE audit_chain (
    chain_id      TEXT PRIMARY KEY NOT NULL,
    length        BIGINT NOT NULL,
    head_hash     BLOB NOT NULL,
    started_at_ms BIGINT NOT NULL
);
