-- Providers of context and tools that were declared at run time. `config` refers to secrets and holds none.
CREATE TABLE declared (
    sort          TEXT NOT NULL,
    name          TEXT NOT NULL,
    config        TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    created_by    TEXT NOT NULL,
    PRIMARY KEY (sort, name)
);

-- Answers of models that their owners want to come back to. `bytes` is the size of what is large in the row.
CREATE TABLE response (
    id            TEXT PRIMARY KEY NOT NULL,
    tenant        TEXT NOT NULL,
    subject       TEXT NOT NULL,
    key_id        TEXT,
    previous_id   TEXT,
    model         TEXT NOT NULL,
    status        TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    expires_at_ms BIGINT NOT NULL,
    bytes         BIGINT NOT NULL,
    input         TEXT NOT NULL,
    body          TEXT NOT NULL
);
CREATE INDEX response_of_owner ON response (tenant, subject, created_at_ms, id, bytes);
CREATE INDEX response_by_expiry ON response (expires_at_ms);
