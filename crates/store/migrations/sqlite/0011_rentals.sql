-- Which installation of Forebay this is: the labels of its machines carry it, so that two that share an account at a
-- provider never touch one another's. One row, drawn once.
CREATE TABLE installation (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    tag BIGINT NOT NULL
);

-- Machines that were rented, or are about to be. The row is there before its provider is asked for anything. `version`
-- counts the changes: whoever writes names the one that it has read. `body` is what nobody searches by.
CREATE TABLE rental (
    id              TEXT PRIMARY KEY NOT NULL,
    tenant          TEXT NOT NULL,
    project         TEXT NOT NULL,
    kind            TEXT NOT NULL,
    subject         TEXT NOT NULL,
    provider        TEXT NOT NULL,
    seat            TEXT NOT NULL,
    label           TEXT NOT NULL UNIQUE,
    offer           TEXT NOT NULL,
    machine         TEXT,
    state           TEXT NOT NULL,
    desired         TEXT NOT NULL,
    open            BOOLEAN NOT NULL,
    token_hash      BLOB UNIQUE,
    idempotency_key TEXT,
    quote           TEXT UNIQUE,
    created_at_ms   BIGINT NOT NULL,
    version         BIGINT NOT NULL,
    body            TEXT NOT NULL
);
CREATE INDEX rental_open ON rental (seat, id) WHERE open;
CREATE INDEX rental_of_tenant ON rental (tenant, created_at_ms, id);
CREATE UNIQUE INDEX rental_once ON rental (tenant, project, kind, subject, idempotency_key)
    WHERE idempotency_key IS NOT NULL;

-- Offers as they were promised to somebody, for a while.
CREATE TABLE rental_quote (
    id            TEXT PRIMARY KEY NOT NULL,
    tenant        TEXT NOT NULL,
    project       TEXT NOT NULL,
    kind          TEXT NOT NULL,
    subject       TEXT NOT NULL,
    expires_at_ms BIGINT NOT NULL,
    body          TEXT NOT NULL
);
CREATE INDEX rental_quote_by_expiry ON rental_quote (expires_at_ms);

-- Which replica looks after the machines of a seat: a provider, or the machine that a replica runs on.
CREATE TABLE rental_seat (
    seat     TEXT PRIMARY KEY NOT NULL,
    holder   TEXT NOT NULL,
    until_ms BIGINT NOT NULL
);
