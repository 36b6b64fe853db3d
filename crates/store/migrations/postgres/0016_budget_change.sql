-- Whose limits changed, and as which change that was; the row of nobody counts them, and is locked by each change until that
-- is committed, so that numbers appear in their order. Whoever knows all limits up to a number reads those of the tenants
-- that come after it.
CREATE TABLE budget_change (
    tenant TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    number BIGINT NOT NULL
);
CREATE INDEX budget_change_by_number ON budget_change (number);
INSERT INTO budget_change (tenant, number) VALUES ('', 0);

CREATE FUNCTION budget_changes() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    changed TEXT;
BEGIN
    IF TG_OP = 'DELETE' THEN changed := OLD.tenant; ELSE changed := NEW.tenant; END IF;
    UPDATE budget_change SET number = number + 1 WHERE tenant = '';
    INSERT INTO budget_change (tenant, number) SELECT changed, number FROM budget_change WHERE tenant = ''
        ON CONFLICT (tenant) DO UPDATE SET number = excluded.number;
    RETURN NULL;
END $$;
CREATE TRIGGER budget_is_changed AFTER INSERT OR UPDATE OR DELETE ON budget
    FOR EACH ROW EXECUTE FUNCTION budget_changes();
