-- What a request was settled at, on its own row, in millionths of a dollar. Rows that are older tell nothing.
ALTER TABLE event ADD COLUMN cost_micros BIGINT;
