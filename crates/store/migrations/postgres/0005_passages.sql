-- Texts cut into passages, to be found by their words. `changes` grows with whatever is done to an index.
CREATE TABLE passage_index (
    id       BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name     TEXT COLLATE "C" NOT NULL UNIQUE,
    passages BIGINT NOT NULL,
    changes  BIGINT NOT NULL
);

CREATE TABLE passage_file (
    id          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    index_id    BIGINT NOT NULL REFERENCES passage_index (id) ON DELETE CASCADE,
    path        TEXT COLLATE "C" NOT NULL,
    fingerprint TEXT COLLATE "C" NOT NULL,
    UNIQUE (index_id, path)
);

CREATE TABLE passage (
    id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
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

-- The folded words of each passage under its id; what is deleted takes them along. Apart from the texts, so that
-- ranking reads words alone. Without a pending list: a search right after an indexing would have to read all of it.
CREATE TABLE passage_words (
    passage_id BIGINT PRIMARY KEY REFERENCES passage (id) ON DELETE CASCADE,
    index_id   BIGINT NOT NULL,
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
