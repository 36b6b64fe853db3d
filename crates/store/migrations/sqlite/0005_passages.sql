-- Texts cut into passages, to be found by their words. `changes` grows with whatever is done to an index.
CREATE TABLE passage_index (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    name     TEXT NOT NULL UNIQUE,
    passages BIGINT NOT NULL,
    changes  BIGINT NOT NULL
);

CREATE TABLE passage_file (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    index_id    BIGINT NOT NULL REFERENCES passage_index (id) ON DELETE CASCADE,
    path        TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    UNIQUE (index_id, path)
);

CREATE TABLE passage (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    index_id   BIGINT NOT NULL,
    file_id    BIGINT NOT NULL REFERENCES passage_file (id) ON DELETE CASCADE,
    ordinal    BIGINT NOT NULL,
    start_line BIGINT NOT NULL,
    heading    TEXT,
    text       TEXT NOT NULL,
    UNIQUE (file_id, ordinal)
);
CREATE INDEX passage_by_index ON passage (index_id, id);
-- Every 16th, for finding out which words are common.
CREATE INDEX passage_sampled ON passage (index_id, id) WHERE id % 16 = 0;

-- The folded words of each passage under its id. `shelf` is the number of its index, so that the engine itself leaves
-- other indexes out. Whoever writes a passage writes its words; what is deleted takes them along.
CREATE VIRTUAL TABLE passage_words USING fts5 (
    shelf, heading, words,
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
