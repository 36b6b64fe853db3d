-- Passages whose own id says which index they belong to. A word that all passages of an index had in common did that before,
-- and each search counted where it stands. What is in an index is made anew out of its files.
DROP TABLE passage_vector;
DROP TABLE passage_words;
DROP TABLE passage;
DELETE FROM passage_file;
DELETE FROM passage_index;

-- The number of its index stands in the upper bits of `id`, so that an engine which knows nothing but this number can
-- keep to one index. What comes below it is never given away again.
CREATE TABLE passage (
    id         INTEGER PRIMARY KEY NOT NULL,
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

-- The folded words of each passage under its id. Whoever writes a passage writes its words; what is deleted takes them
-- along.
CREATE VIRTUAL TABLE passage_words USING fts5 (
    heading, words,
    content = '', contentless_delete = 1, tokenize = 'unicode61 remove_diacritics 2'
);
CREATE TRIGGER passage_gone AFTER DELETE ON passage BEGIN
    DELETE FROM passage_words WHERE rowid = old.id;
END;

-- What passages mean, as little-endian f32, by the model that said so.
CREATE TABLE passage_vector (
    passage_id BIGINT NOT NULL REFERENCES passage (id) ON DELETE CASCADE,
    model      TEXT NOT NULL,
    vector     BLOB NOT NULL,
    PRIMARY KEY (passage_id, model)
);
