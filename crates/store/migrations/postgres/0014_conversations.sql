-- Conversations that the gateway keeps: the API calls one a context. One belongs to a subject of a project, whichever of its
-- keys made it; no project is the empty text. `version` counts its changes. `bytes` is what its nodes weigh. One that never
-- expires has the largest number there.
CREATE TABLE conversation (
    id            TEXT COLLATE "C" PRIMARY KEY,
    tenant        TEXT COLLATE "C" NOT NULL,
    project       TEXT COLLATE "C" NOT NULL,
    kind          TEXT COLLATE "C" NOT NULL,
    subject       TEXT COLLATE "C" NOT NULL,
    key_id        TEXT COLLATE "C",
    user_label    TEXT,
    model         TEXT NOT NULL,
    metadata      TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    updated_at_ms BIGINT NOT NULL,
    used_at_ms    BIGINT NOT NULL,
    expires_at_ms BIGINT NOT NULL,
    version       BIGINT NOT NULL,
    next_place    BIGINT NOT NULL,
    nodes         BIGINT NOT NULL,
    bytes         BIGINT NOT NULL
);
CREATE INDEX conversation_by_owner ON conversation (tenant, project, kind, subject, created_at_ms, id);
-- How many a tenant has, and which of them was not used for longest.
CREATE INDEX conversation_by_use ON conversation (tenant, used_at_ms, id, expires_at_ms);
CREATE INDEX conversation_by_expiry ON conversation (expires_at_ms);

-- The nodes of a conversation, in order of their places. `task` is what made one: it is not made twice.
CREATE TABLE conversation_node (
    conversation     TEXT COLLATE "C" NOT NULL REFERENCES conversation (id) ON DELETE CASCADE,
    place            BIGINT NOT NULL,
    id               TEXT COLLATE "C" NOT NULL,
    parent           TEXT COLLATE "C",
    role             TEXT NOT NULL,
    kind             TEXT NOT NULL,
    content          TEXT NOT NULL,
    metadata         TEXT NOT NULL,
    input_tokens     BIGINT,
    output_tokens    BIGINT,
    tokens_estimated BOOLEAN,
    task             TEXT COLLATE "C" NOT NULL,
    created_at_ms    BIGINT NOT NULL,
    PRIMARY KEY (conversation, place)
);
CREATE UNIQUE INDEX conversation_node_by_id ON conversation_node (conversation, id);
