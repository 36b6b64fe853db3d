-- Identifiers are compared byte by byte (COLLATE "C"), so that both databases order them alike whatever the cluster's locale.

-- Keys. They are revoked, never deleted: the log names them for as long as it is kept.
CREATE TABLE api_key (
    id            TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    hash          BYTEA NOT NULL,
    tenant        TEXT COLLATE "C" NOT NULL,
    project       TEXT COLLATE "C",
    subject       TEXT COLLATE "C" NOT NULL,
    role          TEXT NOT NULL,
    grants        TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    created_by    TEXT COLLATE "C",
    expires_at_ms BIGINT,
    revoked_at_ms BIGINT
);
CREATE INDEX api_key_by_age ON api_key (created_at_ms, id);
CREATE INDEX api_key_by_tenant ON api_key (tenant, created_at_ms, id);
CREATE INDEX api_key_by_revocation ON api_key (revoked_at_ms, id) WHERE revoked_at_ms IS NOT NULL;

-- One row a fact. `xid` is the transaction that wrote it: sequence numbers are handed out before the commit, so a reader
-- orders by (xid, seq) and stops before the oldest transaction that is still under way.
CREATE TABLE event (
    seq              BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    xid              BIGINT NOT NULL DEFAULT (pg_current_xact_id()::text::bigint),
    at_ms            BIGINT NOT NULL,
    class            TEXT NOT NULL,
    surface          TEXT NOT NULL,
    trace            TEXT COLLATE "C" NOT NULL,
    tenant           TEXT COLLATE "C",
    project          TEXT COLLATE "C",
    subject          TEXT COLLATE "C",
    key_id           TEXT COLLATE "C",
    session          TEXT COLLATE "C",
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
    chain_id         TEXT COLLATE "C",
    chain_seq        BIGINT,
    prev_hash        BYTEA,
    hash             BYTEA
);
CREATE INDEX event_by_position ON event (xid, seq);
CREATE INDEX event_by_tenant ON event (tenant, xid, seq);
CREATE INDEX event_by_trace ON event (trace);
CREATE UNIQUE INDEX event_by_chain ON event (chain_id, chain_seq) WHERE chain_id IS NOT NULL;

-- The head of each audit chain: what a truncated tail is found out by.
CREATE TABLE audit_chain (
    chain_id      TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    length        BIGINT NOT NULL,
    head_hash     BYTEA NOT NULL,
    started_at_ms BIGINT NOT NULL
);
