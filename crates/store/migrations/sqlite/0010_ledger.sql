-- What happened to money: one row a movement, and its entries, which sum to zero. Neither is ever changed or removed.
CREATE TABLE ledger_txn (
    tenant       TEXT NOT NULL,
    id           TEXT NOT NULL,
    at_ms        BIGINT NOT NULL,
    kind         TEXT NOT NULL,
    hold_id      TEXT,
    project      TEXT,
    key_id       TEXT,
    session      TEXT,
    subject      TEXT,
    purpose_kind TEXT NOT NULL,
    purpose      TEXT NOT NULL,
    trace        TEXT NOT NULL,
    held         BIGINT NOT NULL,
    posted       BIGINT NOT NULL,
    rate         BIGINT NOT NULL,
    estimated    BOOLEAN NOT NULL,
    above_hold   BOOLEAN NOT NULL,
    lapsed       BOOLEAN NOT NULL,
    once_key     TEXT,
    PRIMARY KEY (tenant, id)
) WITHOUT ROWID;
-- What is done under an idempotency key is done once.
CREATE UNIQUE INDEX ledger_txn_once ON ledger_txn (once_key) WHERE once_key IS NOT NULL;
-- What a hold has posted, when.
CREATE INDEX ledger_txn_posts ON ledger_txn (hold_id, at_ms) WHERE posted > 0;
-- What somebody has done, the newest first.
CREATE INDEX ledger_txn_by_subject ON ledger_txn (tenant, subject, id);

CREATE TABLE ledger_entry (
    txn     TEXT NOT NULL,
    line    BIGINT NOT NULL,
    account TEXT NOT NULL,
    amount  BIGINT NOT NULL,
    PRIMARY KEY (txn, line)
) WITHOUT ROWID;
CREATE TRIGGER ledger_entry_stays BEFORE DELETE ON ledger_entry
    BEGIN SELECT RAISE(ABORT, 'the ledger is only added to'); END;
CREATE TRIGGER ledger_entry_is_final BEFORE UPDATE ON ledger_entry
    BEGIN SELECT RAISE(ABORT, 'the ledger is only added to'); END;
CREATE TRIGGER ledger_txn_stays BEFORE DELETE ON ledger_txn
    BEGIN SELECT RAISE(ABORT, 'the ledger is only added to'); END;
CREATE TRIGGER ledger_txn_is_final BEFORE UPDATE ON ledger_txn
    BEGIN SELECT RAISE(ABORT, 'the ledger is only added to'); END;

-- What is set aside, and what became of it.
CREATE TABLE ledger_hold (
    id           TEXT PRIMARY KEY NOT NULL,
    state        TEXT NOT NULL,
    tenant       TEXT NOT NULL,
    project      TEXT,
    key_id       TEXT,
    session      TEXT,
    subject      TEXT,
    purpose_kind TEXT NOT NULL,
    purpose      TEXT NOT NULL,
    trace        TEXT NOT NULL,
    amount       BIGINT NOT NULL,
    rate         BIGINT NOT NULL,
    posted       BIGINT NOT NULL,
    started_at_ms BIGINT NOT NULL,
    lapses_at_ms BIGINT NOT NULL
) WITHOUT ROWID;
CREATE INDEX ledger_hold_open ON ledger_hold (lapses_at_ms, rate) WHERE state = 'open';

-- What limits count: a tenant, or a project, key or session of it, as it stands.
CREATE TABLE purse (
    name       TEXT PRIMARY KEY NOT NULL,
    held       BIGINT NOT NULL,
    burn       BIGINT NOT NULL,
    posted     BIGINT NOT NULL,
    last_at_ms BIGINT NOT NULL
) WITHOUT ROWID;
-- What had been posted to it in all by a time. What was posted since is the difference of two rows.
CREATE TABLE purse_posted (
    purse      TEXT NOT NULL,
    at_ms      BIGINT NOT NULL,
    cumulative BIGINT NOT NULL,
    PRIMARY KEY (purse, at_ms)
) WITHOUT ROWID;
-- What was given back counts no longer at the time at which it was posted.
CREATE TABLE purse_refund (
    purse          TEXT NOT NULL,
    original_at_ms BIGINT NOT NULL,
    id             TEXT NOT NULL,
    hold_id        TEXT NOT NULL,
    amount         BIGINT NOT NULL,
    PRIMARY KEY (purse, original_at_ms, id)
) WITHOUT ROWID;
CREATE INDEX purse_refund_of_hold ON purse_refund (hold_id);

-- Limits that were set at run time. An empty id is each project, key or session of the tenant.
CREATE TABLE budget (
    tenant      TEXT NOT NULL,
    scope       TEXT NOT NULL,
    id          TEXT NOT NULL,
    minutes     BIGINT NOT NULL,
    limit_usd   BIGINT NOT NULL,
    enforcement TEXT NOT NULL,
    PRIMARY KEY (tenant, scope, id, minutes)
) WITHOUT ROWID;
