-- A name that somebody gives a task is theirs: within a project, and only among its keys or among the tokens.
DROP INDEX task_once;
CREATE UNIQUE INDEX task_once ON task (tenant, idempotency_key, subject, COALESCE(project, ''), (key_id IS NULL))
    WHERE idempotency_key IS NOT NULL;

-- Who lists their own reads no others'; and what is dead is found among whatever else there is.
CREATE INDEX task_of_subject ON task (tenant, subject, id);
CREATE INDEX task_dead ON task (tenant, id) WHERE stage = 'dead';
-- What comes to a lane later.
CREATE INDEX task_lane_ahead ON task (lane) WHERE lane IS NOT NULL AND stage = 'scheduled';

-- What an output says of itself, so that lists need not read it.
ALTER TABLE task ADD COLUMN is_error BOOLEAN NOT NULL DEFAULT FALSE;
UPDATE task SET is_error = TRUE
    WHERE task_type = 'tools/call' AND stage = 'completed' AND output LIKE '%"isError":true%';
ALTER TABLE task ADD COLUMN error_details TEXT;
-- Whether what stood in the way may be gone when the task is sent again.
ALTER TABLE task ADD COLUMN error_passing BOOLEAN;

-- How many tasks of a tenant have not ended: the sum over the slots. Each writer counts in one of them, so that two that
-- commit at once do not wait for one another; a single slot may well be below zero.
CREATE TABLE task_unfinished (
    tenant TEXT NOT NULL,
    slot   BIGINT NOT NULL,
    number BIGINT NOT NULL,
    PRIMARY KEY (tenant, slot)
);
INSERT INTO task_unfinished (tenant, slot, number)
    SELECT tenant, 0, COUNT(*) FROM task WHERE stage IN ('scheduled', 'waiting', 'pending', 'running', 'retrying')
    GROUP BY tenant;
