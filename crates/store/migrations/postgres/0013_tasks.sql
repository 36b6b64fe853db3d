-- Durable work: one row a task. `wake_at_ms` is when something happens to it by itself: it is due, its lease ends, or it is
-- forgotten. Whoever claims looks at what is pending and at nothing else; the smallest rank comes first.
CREATE TABLE task (
    id              TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    stage           TEXT COLLATE "C" NOT NULL,
    task_type       TEXT COLLATE "C" NOT NULL,
    priority        BIGINT NOT NULL,
    rank            BIGINT NOT NULL,
    run_at_ms       BIGINT NOT NULL,
    wake_at_ms      BIGINT,
    fence           BIGINT NOT NULL,
    attempts        BIGINT NOT NULL,
    worker          TEXT COLLATE "C",
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
    lane            TEXT COLLATE "C",
    wanted_by       TEXT COLLATE "C",
    wanted_until_ms BIGINT,
    needs           TEXT,
    needs_memory    BIGINT NOT NULL,
    tenant          TEXT COLLATE "C" NOT NULL,
    project         TEXT COLLATE "C",
    subject         TEXT COLLATE "C" NOT NULL,
    key_id          TEXT COLLATE "C",
    principal       TEXT NOT NULL,
    trace           TEXT COLLATE "C" NOT NULL,
    created_at_ms   BIGINT NOT NULL,
    idempotency_key TEXT COLLATE "C",
    request_hash    BYTEA,
    context_id      TEXT COLLATE "C",
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
    task  TEXT COLLATE "C" PRIMARY KEY NOT NULL REFERENCES task (id) ON DELETE CASCADE,
    input TEXT NOT NULL
);

-- Each task is written three times and removed: what that leaves behind is cleared away early, or claiming grows slow.
ALTER TABLE task SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000,
    autovacuum_analyze_scale_factor = 0.05);
