-- Which tools lists show to a key: a JSON array of patterns, all tools where it is empty.
ALTER TABLE api_key ADD COLUMN shown TEXT NOT NULL DEFAULT '[]';
