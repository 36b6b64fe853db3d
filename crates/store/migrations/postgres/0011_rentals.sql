-- Which installation of Forebay this is: the labels of its machines carry it, so that two that share an account at a
-- provider never touch one another's. One row, drawn once.
CREATE TABLE installation (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    tag BIGINT NOT NULL
);

-- Machines that were rented, or are about to be. The row is there before its provider is asked for anything. `version`
-- counts the changes: whoever writes names the one that it has read. `body` is what nobody searches by.
CREATE TABLE rental (
    id              TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    tenant          TEXT COLLATE "C" NOT NULL,
    project         TEXT COLLATE "C" NOT NULL,
    kind            TEXT COLLATE "C" NOT NULL,
    subject         TEXT COLLATE "C" NOT NULL,
    provider        TEXT COLLATE "C" NOT NULL,
    seat            TEXT COLLATE "C" NOT NULL,
    label           TEXT COLLATE "C" NOT NULL UNIQUE,
    offer           TEXT COLLATE "C" NOT NULL,
    machine         TEXT COLLATE "C",
    state           TEXT COLLATE "C" NOT NULL,
    desired         TEXT COLLATE "C" NOT NULL,
    open            BOOLEAN NOT NULL,
    token_hash      BYTEA UNIQUE,
    idempotency_key TEXT COLLATE "C",
    quote           TEXT COLLATE "C" UNIQUE,
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
    id            TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    tenant        TEXT COLLATE "C" NOT NULL,
    project       TEXT COLLATE "C" NOT NULL,
    kind          TEXT COLLATE "C" NOT NULL,
    subject       TEXT COLLATE "C" NOT NULL,
    expires_at_ms BIGINT NOT NULL,
    body          TEXT NOT NULL
);
CREATE INDEX rental_quote_by_expiry ON rental_quote (expires_at_ms);

-- Which replica looks after the machines of a seat: a provider, or the machine that a replica runs on.
CREATE TABLE rental_seat (
    seat     TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    holder   TEXT COLLATE "C" NOT NULL,
    until_ms BIGINT NOT NULL
);
