-- Durable work: one row a task. `wake_at_ms` is when something happens to it by itself: it is due, its lease ends, or it is
-- forgotten. Whoever claims looks at what is pending and at nothing else; the smallest rank comes first.
CREATE TABLE task (
    id              TEXT PRIMARY KEY NOT NULL,
    stage           TEXT NOT NULL,
    task_type       TEXT NOT NULL,
    priority        BIGINT NOT NULL,
    rank            BIGINT NOT NULL,
    run_at_ms       BIGINT NOT NULL,
    wake_at_ms      BIGINT,
    fence           BIGINT NOT NULL,
    attempts        BIGINT NOT NULL,
    worker          TEXT,
    cancel_wanted   BOOLEAN NOT NULL,
    started_at_ms   BIGINT,
    completed_at_ms BIGINT,
    error_code      TEXT,
    error_message   TEXT,
    error_hint      TEXT,
    attempts_max    BIGINT NOT NULL,
    retry_first_ms  BIGINT NOT NULL,
    retry_max_ms    BIGINT NOT NULL,
    timeout_ms      BIGINT NOT NULL,
    result_ttl_ms   BIGINT NOT NULL,
    lane            TEXT,
    wanted_by       TEXT,
    wanted_until_ms BIGINT,
    needs           TEXT,
    needs_memory    BIGINT NOT NULL,
    tenant          TEXT NOT NULL,
    project         TEXT,
    subject         TEXT NOT NULL,
    key_id          TEXT,
    principal       TEXT NOT NULL,
    trace           TEXT NOT NULL,
    created_at_ms   BIGINT NOT NULL,
    idempotency_key TEXT,
    request_hash    BLOB,
    context_id      TEXT,
    input           TEXT,
    output          TEXT
);
-- What is pending is counted in it too, without a look at the rows.
CREATE INDEX task_ready ON task (task_type, rank, priority, stage) WHERE stage = 'pending';
CREATE INDEX task_wake ON task (stage, wake_at_ms) WHERE wake_at_ms IS NOT NULL;
-- One of a lane at a time.
CREATE UNIQUE INDEX task_lane_head ON task (lane) WHERE lane IS NOT NULL AND stage IN ('pending', 'running', 'retrying');
CREATE INDEX task_lane_rest ON task (lane, id) WHERE stage = 'waiting';
CREATE INDEX task_of_tenant ON task (tenant, id);
CREATE UNIQUE INDEX task_once ON task (tenant, idempotency_key) WHERE idempotency_key IS NOT NULL;

-- Inputs that are large stand apart, so that a task that changes its stage does not carry them along.
CREATE TABLE task_input (
    task  TEXT PRIMARY KEY NOT NULL REFERENCES task (id) ON DELETE CASCADE,
    input TEXT NOT NULL
);
