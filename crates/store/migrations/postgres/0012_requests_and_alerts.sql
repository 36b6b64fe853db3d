-- Requests that their senders named, so that each is carried out once. `claim` says who carries it out; `status` is there
-- once it is answered, and the answer with it unless it may not be kept.
CREATE TABLE named_request (
    tenant        TEXT COLLATE "C" NOT NULL,
    principal     TEXT COLLATE "C" NOT NULL,
    route         TEXT COLLATE "C" NOT NULL,
    name          TEXT COLLATE "C" NOT NULL,
    request_hash  BYTEA NOT NULL,
    claim         TEXT COLLATE "C" NOT NULL,
    begun_at_ms   BIGINT NOT NULL,
    expires_at_ms BIGINT NOT NULL,
    status        BIGINT,
    content_type  TEXT,
    body          BYTEA,
    PRIMARY KEY (tenant, principal, route, name)
);
CREATE INDEX named_request_by_expiry ON named_request (expires_at_ms);

-- What was told when, so that it is not told again at once. No tenant is the empty text.
CREATE TABLE alert_told (
    tenant     TEXT COLLATE "C" NOT NULL,
    kind       TEXT COLLATE "C" NOT NULL,
    thing      TEXT COLLATE "C" NOT NULL,
    told_at_ms BIGINT NOT NULL,
    PRIMARY KEY (tenant, kind, thing)
);
CREATE INDEX alert_told_by_time ON alert_told (told_at_ms);

-- Alerts on their way to webhooks, until these have taken them.
CREATE TABLE alert_delivery (
    id            TEXT COLLATE "C" NOT NULL,
    webhook       TEXT COLLATE "C" NOT NULL,
    body          TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    due_at_ms     BIGINT NOT NULL,
    attempts      BIGINT NOT NULL,
    PRIMARY KEY (id, webhook)
);
CREATE INDEX alert_delivery_by_webhook ON alert_delivery (webhook);
CREATE INDEX alert_delivery_by_time ON alert_delivery (due_at_ms);
