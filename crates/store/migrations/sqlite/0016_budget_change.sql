-- Whose limits changed, and as which change that was; the row of nobody counts them. Whoever knows all limits up to a number
-- reads those of the tenants that come after it.
CREATE TABLE budget_change (
    tenant TEXT PRIMARY KEY NOT NULL,
    number BIGINT NOT NULL
) WITHOUT ROWID;
CREATE INDEX budget_change_by_number ON budget_change (number);
INSERT INTO budget_change (tenant, number) VALUES ('', 0);

CREATE TRIGGER budget_is_set AFTER INSERT ON budget BEGIN
    UPDATE budget_change SET number = number + 1 WHERE tenant = '';
    INSERT INTO budget_change (tenant, number) SELECT new.tenant, number FROM budget_change WHERE tenant = ''
        ON CONFLICT (tenant) DO UPDATE SET number = excluded.number;
END;
CREATE TRIGGER budget_is_changed AFTER UPDATE ON budget BEGIN
    UPDATE budget_change SET number = number + 1 WHERE tenant = '';
    INSERT INTO budget_change (tenant, number) SELECT new.tenant, number FROM budget_change WHERE tenant = ''
        ON CONFLICT (tenant) DO UPDATE SET number = excluded.number;
END;
CREATE TRIGGER budget_is_removed AFTER DELETE ON budget BEGIN
    UPDATE budget_change SET number = number + 1 WHERE tenant = '';
    INSERT INTO budget_change (tenant, number) SELECT old.tenant, number FROM budget_change WHERE tenant = ''
        ON CONFLICT (tenant) DO UPDATE SET number = excluded.number;
END;
