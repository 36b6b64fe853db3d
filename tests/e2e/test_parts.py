"""The real parts are what they are taken for: vectors mean something, and Chroma finds by them."""

from __future__ import annotations

import pytest

from parts import DIMENSIONS, Chroma, Database, Embeddings, cosine


def test_vectors_are_those_of_the_model(embeddings: Embeddings) -> None:
    cat, kitten, dog, car = embeddings.of("cat", "kitten", "dog", "car")
    assert len(cat) == DIMENSIONS
    # Reckoned from the weights without the engine; a wrong conversion or another pooling gives others.
    assert cosine(cat, kitten) == pytest.approx(0.788, abs=0.005)
    assert cosine(cat, dog) == pytest.approx(0.661, abs=0.005)
    assert cosine(cat, car) == pytest.approx(0.463, abs=0.005)


def test_words_are_cut_into_pieces_as_the_model_learnt_it(embeddings: Embeddings) -> None:
    """Case and accents mean nothing to this model, and no word is too rare for it."""
    plain, shouted, rare, other = embeddings.of("cafe", "CAFÉ", "the zyxquorbin", "the qwertyplonk")
    assert cosine(plain, shouted) == pytest.approx(1, abs=1e-4)
    assert cosine(rare, other) < 0.9, "two unknown words differ, since they are made of known pieces"


def test_chroma_finds_a_text_by_its_meaning(chroma: Chroma, embeddings: Embeddings) -> None:
    texts = {
        "pets": "A kitten sleeps on the sofa.",
        "cars": "The lorry needs new tyres.",
        "food": "Bread is baked here.",
    }
    name = chroma.collection(texts, embeddings)
    assert chroma.nearest(name, embeddings.of("a young cat")[0]) == "pets"
    assert chroma.nearest(name, embeddings.of("vehicle maintenance")[0]) == "cars"


def test_a_database_of_its_own_holds_rows(database: Database) -> None:
    database.sql("CREATE TABLE fact (id int PRIMARY KEY, text text); INSERT INTO fact VALUES (1, 'one'), (2, 'two')")
    assert database.sql("SELECT text FROM fact ORDER BY id DESC") == "two\none"
