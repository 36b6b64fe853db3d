-- Passages whose own id says which index they belong to. What is in an index is made anew out of its files.
DROP TABLE passage_vector;
DROP TABLE passage_words;
DROP TABLE passage;
DELETE FROM passage_file;
DELETE FROM passage_index;
ALTER TABLE passage_index ALTER COLUMN id RESTART;

-- The number of its index stands in the upper bits of `id`, so that an engine which knows nothing but this number can
-- keep to one index. What comes below it is never given away again.
CREATE TABLE passage (
    id         BIGINT PRIMARY KEY NOT NULL,
    index_id   BIGINT NOT NULL,
    file_id    BIGINT NOT NULL REFERENCES passage_file (id) ON DELETE CASCADE,
    ordinal    BIGINT NOT NULL,
    start_line BIGINT NOT NULL,
    heading    TEXT,
    text       TEXT NOT NULL,
    UNIQUE (file_id, ordinal)
);
CREATE INDEX passage_by_index ON passage (index_id, id);
-- One of sixteen, for finding out which words are common.
CREATE INDEX passage_sampled ON passage (index_id, id) WHERE id % 16 = 0;

-- The folded words of each passage under its id; what is deleted takes them along. Apart from the texts, so that
-- ranking reads words alone. Without a pending list: a search right after an indexing would have to read all of it.
CREATE TABLE passage_words (
    passage_id BIGINT PRIMARY KEY REFERENCES passage (id) ON DELETE CASCADE,
    words      TSVECTOR NOT NULL
);
CREATE INDEX passage_words_found ON passage_words USING GIN (words) WITH (fastupdate = off);

-- What passages mean, as little-endian f32, by the model that said so.
CREATE TABLE passage_vector (
    passage_id BIGINT NOT NULL REFERENCES passage (id) ON DELETE CASCADE,
    model      TEXT COLLATE "C" NOT NULL,
    vector     BYTEA NOT NULL,
    PRIMARY KEY (passage_id, model)
);
