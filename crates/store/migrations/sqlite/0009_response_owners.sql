-- Whose an answer is: a name means somebody within a project, and only among its keys or among the tokens.
ALTER TABLE response ADD COLUMN project TEXT NOT NULL DEFAULT '';
ALTER TABLE response ADD COLUMN kind TEXT NOT NULL DEFAULT 'token';
UPDATE response SET kind = 'key',
    project = COALESCE((SELECT k.project FROM api_key AS k WHERE k.id = response.key_id), '')
    WHERE key_id IS NOT NULL;
DROP INDEX response_of_owner;
CREATE INDEX response_of_owner ON response (tenant, project, kind, subject, created_at_ms, id, bytes);

-- Calls that were agreed to and are about to run, each of them once, by the request for approval.
CREATE TABLE approval_claim (
    tenant        TEXT NOT NULL,
    project       TEXT NOT NULL,
    kind          TEXT NOT NULL,
    subject       TEXT NOT NULL,
    request       TEXT NOT NULL,
    expires_at_ms BIGINT NOT NULL,
    PRIMARY KEY (tenant, project, kind, subject, request)
);
CREATE INDEX approval_claim_by_expiry ON approval_claim (expires_at_ms);
