//! Passages: found by words and never by syntax, replaced whole, kept with their vectors, bounded.

use crate::{open, try_open};
use forebay_domain::{Code, Failure};
use forebay_store::{
    Passages,
    passages::{
        DIMENSIONS_MAX, FILE_PASSAGES_MAX, Found, INDEX_PASSAGES_MAX, PASSAGE_BYTES_MAX, PATH_BYTES_MAX, Passage,
        Replaced, State,
    },
};
use forebay_testkit::db::TestDb;
use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

fn passage(ordinal: u32, heading: Option<&str>, text: &str) -> Passage {
    Passage {
        ordinal,
        text: text.to_owned(),
        heading: heading.map(ToOwned::to_owned),
        start_line: ordinal * 10 + 1,
    }
}

async fn put(passages: &Passages, index: &str, path: &str, texts: &[&str]) {
    let numbered = (0..).zip(texts);
    let all: Vec<Passage> = numbered.map(|(ordinal, text)| passage(ordinal, None, text)).collect();
    let kept = passages.replace_file(index, path, "f1", &all).await.unwrap();
    assert_eq!(kept, Replaced::Kept);
}

fn places(found: &[Found]) -> Vec<String> {
    let place = |one: &Found| format!("{}#{}", one.passage.path, one.passage.ordinal);
    found.iter().map(place).collect()
}

async fn ask(passages: &Passages, index: &str, question: &str) -> Vec<String> {
    places(&passages.search(index, question, 10).await.unwrap())
}

#[tokio::test]
async fn a_question_finds_its_answer() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let passages = opened.store.passages();
        let kept = [
            passage(
                0,
                Some("Doors"),
                "The green door of the Café in Basel opens with the brass key.",
            ),
            passage(1, None, "The red door opens with a code."),
            passage(2, Some("Élan"), "Nothing of interest."),
        ];
        passages.replace_file("docs", "a/doors.md", "f1", &kept).await.unwrap();
        put(&passages, "docs", "b.md", &["A key to a map.", "Unrelated: rain."]).await;

        let found = passages
            .search("docs", "which key opens the green door in BASEL?", 10)
            .await
            .unwrap();
        let best = &found.first().unwrap().passage;
        assert_eq!((best.path.as_str(), best.ordinal), ("a/doors.md", 0), "{}", db.name());
        assert_eq!((best.heading.as_deref(), best.start_line), (Some("Doors"), 1));
        assert_eq!(best.text, kept[0].text);
        assert!(found.is_sorted_by(|a, b| a.rank >= b.rank), "{found:?}");
        assert_eq!(passages.search("docs", "door key", 1).await.unwrap().len(), 1);

        for (question, expected) in [
            ("cafe", "a/doors.md#0"),
            ("CAFÉ", "a/doors.md#0"),
            ("elan", "a/doors.md#2"),
        ] {
            assert_eq!(
                ask(&passages, "docs", question).await,
                [expected],
                "{} {question}",
                db.name()
            );
        }
        for nothing in ["", "  ?! ", "snow", "\0"] {
            assert!(ask(&passages, "docs", nothing).await.is_empty(), "{nothing:?}");
        }
        assert!(ask(&passages, "other", "door").await.is_empty());
        assert!(passages.search("docs", "door", 0).await.unwrap().is_empty());
        opened.close().await;
    }
}

#[tokio::test]
async fn a_question_is_never_syntax() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let passages = opened.store.passages();
        put(&passages, "docs", "a", &["door", "not a window or near it"]).await;
        for question in [
            "door\"",
            "\"door",
            "door*",
            "-door",
            "^door",
            "door:A",
            "door & !",
            "(door | ) <->",
            "{heading} : door",
            "shelf : door",
            "door' \\",
            "door\0",
            "do\u{301}or",
            "door NEAR(",
            "+door -- ;",
            "''door\\''",
            "door हिन्दी ༄ ﷽ 🚪",
        ] {
            let found = ask(&passages, "docs", question).await;
            assert!(
                found.contains(&"a#0".to_owned()),
                "{} {question:?}: {found:?}",
                db.name()
            );
        }
        for word in ["NOT", "or", "NEAR", "AND OR"] {
            let found = ask(&passages, "docs", word).await;
            assert_eq!(found, ["a#1"], "{}: {word} is a word like any other", db.name());
        }
        let long = "lorem ipsum ".repeat(20_000) + "door";
        assert!(
            ask(&passages, "docs", &long).await.is_empty(),
            "what is past the bound is not looked at"
        );
        opened.close().await;
    }
}

#[tokio::test]
async fn any_text_is_kept_as_it_is() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let passages = opened.store.passages();
        let text = "It's a \\ 'quoted':1A \"key\"\n\t🗝 ½ ǅ ß İ 漢字 e\u{301} 1e5 x.com/a?b=c";
        put(&passages, "docs", "it's/a path", &[text, "with\0nul", "", "…"]).await;
        for (question, place) in [
            ("quoted", 0),
            ("1E5", 0),
            ("STRASSE ß", 0),
            ("漢字", 0),
            ("b", 0),
            ("nul", 1),
        ] {
            let found = passages.search("docs", question, 10).await.unwrap();
            let ordinals: Vec<u32> = found.iter().map(|one| one.passage.ordinal).collect();
            assert_eq!(ordinals, [place], "{} {question}", db.name());
        }
        let found = passages.search("docs", "quoted nul", 10).await.unwrap();
        let ids: Vec<_> = found.iter().rev().map(|one| one.passage.id).collect();
        let kept = passages.get("docs", &ids).await.unwrap();
        assert!(
            kept.iter().map(|one| one.id).eq(ids.iter().copied()),
            "in the order asked for"
        );
        let texts: Vec<&str> = kept.iter().map(|one| one.text.as_str()).collect();
        assert!(texts.contains(&text) && texts.contains(&"with\u{fffd}nul"), "{texts:?}");
        assert!(passages.get("other", &ids).await.unwrap().is_empty());
        opened.close().await;
    }
}

#[tokio::test]
async fn a_file_is_replaced_whole_and_leaves_nothing_behind() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let passages = opened.store.passages();
        put(&passages, "docs", "a", &["old apple", "old pear"]).await;
        put(&passages, "docs", "b", &["plum"]).await;
        put(&passages, "more", "a", &["apple of another index"]).await;
        let before = passages.state("docs").await.unwrap();
        assert_eq!(before.passages, 3);
        passages
            .replace_file("docs", "a", "f2", &[passage(0, None, "new apple")])
            .await
            .unwrap();
        let after = passages.state("docs").await.unwrap();
        assert!(
            after.passages == 2 && after.changes > before.changes,
            "{}: {after:?}",
            db.name()
        );
        assert_eq!(ask(&passages, "docs", "apple pear old").await, ["a#0"]);
        let files = passages.files("docs").await.unwrap();
        let seen: Vec<_> = files
            .iter()
            .map(|file| (file.path.as_str(), file.fingerprint.as_str()))
            .collect();
        assert_eq!(seen, [("a", "f2"), ("b", "f1")]);

        let gone = passages
            .remove_files("docs", &["a".to_owned(), "none".to_owned()])
            .await
            .unwrap();
        assert_eq!(gone, 1);
        assert_eq!(passages.state("docs").await.unwrap().passages, 1);
        assert!(ask(&passages, "docs", "apple").await.is_empty());
        assert!(passages.remove_index("docs").await.unwrap());
        assert!(!passages.remove_index("docs").await.unwrap());
        assert_eq!(passages.state("docs").await.unwrap(), State::default());
        assert!(passages.files("docs").await.unwrap().is_empty());
        assert_eq!(ask(&passages, "more", "apple").await, ["a#0"]);
        assert_eq!(db.number("SELECT COUNT(*) FROM passage").await, 1);
        assert_eq!(
            db.number("SELECT COUNT(*) FROM passage_words").await,
            1,
            "{}",
            db.name()
        );
        opened.close().await;
    }
}

#[tokio::test]
async fn indexes_know_nothing_of_one_another() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let passages = opened.store.passages();
        let names = ["a", "b", "c"];
        for round in 0..3 {
            for name in names {
                put(&passages, name, &format!("{round}"), &["apple", name]).await;
            }
        }
        for name in names {
            let found = passages.search(name, "apple a b c", 10).await.unwrap();
            let texts: Vec<&str> = found.iter().map(|one| one.passage.text.as_str()).collect();
            let own = texts.iter().filter(|text| **text == name).count();
            assert_eq!((texts.len(), own), (6, 3), "{} {name}: {texts:?}", db.name());
        }
        opened.close().await;
    }
}

#[tokio::test]
async fn an_id_is_never_given_away_again() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let passages = opened.store.passages();
        let mut seen = HashSet::new();
        for round in 0..8 {
            put(&passages, "docs", "a", &["apple"; 16]).await;
            for one in passages.without_vectors("docs", "m", None, 1_000).await.unwrap() {
                assert!(seen.insert(one.id), "{}: {}", db.name(), one.id);
            }
            let sampled = db.number("SELECT COUNT(*) FROM passage WHERE id % 16 = 0").await;
            assert_eq!(sampled, 1, "{}: one of sixteen", db.name());
            if round % 4 == 3 {
                assert!(passages.remove_index("docs").await.unwrap());
            }
        }
        assert_eq!(seen.len(), 8 * 16);
        opened.close().await;
    }
}

#[tokio::test]
async fn changing_an_index_uses_up_no_numbers_of_others() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let passages = opened.store.passages();
        for round in 0..20 {
            put(&passages, "docs", &format!("{round}"), &["apple"]).await;
        }
        put(&passages, "more", "a", &["apple"]).await;
        let number = db.number("SELECT MAX(id) FROM passage_index").await;
        assert_eq!(number, 2, "{}: there is room for half a million", db.name());
        opened.close().await;
    }
}

#[tokio::test]
async fn a_large_index_is_listed_and_removed_whole() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let passages = opened.store.passages();
        put(&passages, "docs", "0000", &["one"]).await;
        let paths: Vec<String> = (0..1_100).map(|n| format!("{n:04}")).collect();
        let rows = paths.iter().skip(1);
        let rows: Vec<String> = rows
            .map(|path| format!("('{path}', 'f1', (SELECT id FROM passage_index))"))
            .collect();
        let rows = rows.join(", ");
        db.execute(&format!(
            "INSERT INTO passage_file (path, fingerprint, index_id) VALUES {rows}"
        ))
        .await;
        let files = passages.files("docs").await.unwrap();
        assert!(files.iter().map(|file| &file.path).eq(&paths), "{}", db.name());
        assert!(passages.remove_index("docs").await.unwrap(), "in portions");
        assert_eq!(db.number("SELECT COUNT(*) FROM passage_file").await, 0);
        opened.close().await;
    }
}

#[tokio::test]
async fn all_indexes_are_told_by_name() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let passages = opened.store.passages();
        assert!(passages.names().await.unwrap().is_empty());
        let rows: Vec<String> = (0..1_100).map(|n| format!("('index-{n:04}', 0, 1)")).collect();
        let rows = rows.join(", ");
        db.execute(&format!(
            "INSERT INTO passage_index (name, passages, changes) VALUES {rows}"
        ))
        .await;
        let names = passages.names().await.unwrap();
        assert_eq!(names.len(), 1_100, "{}", db.name());
        assert!(names.is_sorted(), "{}", db.name());
        opened.close().await;
    }
}

#[tokio::test]
async fn replicas_that_index_the_same_file_agree() {
    for db in TestDb::both().await {
        let (one, two) = (open(&db).await, open(&db).await);
        let (a, b) = (one.store.passages(), two.store.passages());
        for _ in 0..10 {
            tokio::join!(
                put(&a, "docs", "a", &["apple", "pear"]),
                put(&b, "docs", "a", &["apple", "pear", "plum"]),
                put(&b, "docs", "b", &["apple"]),
            );
        }
        let state = a.state("docs").await.unwrap();
        let held = db.number("SELECT COUNT(*) FROM passage").await;
        assert_eq!(i64::try_from(state.passages).unwrap(), held, "{}", db.name());
        assert_eq!(db.number("SELECT COUNT(*) FROM passage_words").await, held);
        one.close().await;
        two.close().await;
    }
}

#[tokio::test]
async fn what_everybody_says_does_not_hide_the_answer() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let passages = opened.store.passages();
        let noise = "what is the name of the house and what is the name of the street of the house";
        let texts: Vec<String> = (0..1_000).map(|n| format!("{noise} {}", n % 50)).collect();
        let mut texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        texts[700] = "Among many other things that a long text like this one says at length, Fridolin named his boat Heron, \
             and went out to the lake in all weathers, in spring and summer, as long as anybody could remember.";
        put(&passages, "docs", "a", &texts).await;
        let found = passages
            .search("docs", "What is the name of the boat of Fridolin?", 3)
            .await
            .unwrap();
        assert_eq!(places(&found), ["a#700"], "{}", db.name());
        let found = passages.search("docs", "what is the", 3).await.unwrap();
        assert_eq!(found.len(), 3, "a question of common words is still asked");
        opened.close().await;
    }
}

#[tokio::test]
async fn vectors_stay_with_their_passages() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let passages = opened.store.passages();
        put(&passages, "docs", "a", &["apple", "pear"]).await;
        put(&passages, "more", "a", &["apple"]).await;
        let missing = passages.without_vectors("docs", "m", None, 10).await.unwrap();
        let texts: Vec<&str> = missing.iter().map(|one| one.text.as_str()).collect();
        assert_eq!(texts, ["apple", "pear"]);
        let strange = passages.without_vectors("more", "m", None, 10).await.unwrap()[0].id;
        let (apple, pear) = (missing[0].id, missing[1].id);

        let before = passages.state("docs").await.unwrap().changes;
        let given = vec![(pear, vec![0.5, -1.0, f32::MIN_POSITIVE]), (strange, vec![1.0])];
        assert_eq!(
            passages.set_vectors("docs", given, "m").await.unwrap(),
            1,
            "{}",
            db.name()
        );
        passages
            .set_vectors("docs", vec![(apple, vec![1.0])], "other")
            .await
            .unwrap();
        assert!(passages.state("docs").await.unwrap().changes > before);
        let vectors = passages.vectors("docs", "m").await.unwrap();
        assert_eq!(vectors, [(pear, vec![0.5, -1.0, f32::MIN_POSITIVE])]);
        let missing = passages.without_vectors("docs", "m", None, 10).await.unwrap();
        assert_eq!(missing.len(), 1);
        assert_eq!(missing[0].id, apple);
        let again = vec![(pear, vec![2.0]), (apple, vec![3.0])];
        assert_eq!(passages.set_vectors("docs", again, "m").await.unwrap(), 2);
        let vectors = passages.vectors("docs", "m").await.unwrap();
        assert_eq!(vectors, [(apple, vec![3.0]), (pear, vec![2.0])]);

        put(&passages, "docs", "a", &["apple", "pear"]).await;
        assert!(
            passages.vectors("docs", "m").await.unwrap().is_empty(),
            "they were of other passages"
        );
        assert_eq!(
            passages
                .set_vectors("docs", vec![(pear, vec![2.0])], "m")
                .await
                .unwrap(),
            0
        );
        assert_eq!(db.number("SELECT COUNT(*) FROM passage_vector").await, 0);
        opened.close().await;
    }
}

#[tokio::test]
async fn more_vectors_than_one_page_are_read_in_order() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let passages = opened.store.passages();
        put(&passages, "docs", "a", &vec!["x"; 2_100]).await;
        let mut all = Vec::new();
        loop {
            let missing = passages.without_vectors("docs", "m", None, 700).await.unwrap();
            if missing.is_empty() {
                break;
            }
            let some: Vec<_> = missing.iter().map(|one| (one.id, vec![1.5, 2.5])).collect();
            all.extend(some.clone());
            passages.set_vectors("docs", some, "m").await.unwrap();
        }
        assert_eq!(all.len(), 2_100);
        assert_eq!(passages.vectors("docs", "m").await.unwrap(), all, "{}", db.name());
        opened.close().await;
    }
}

#[tokio::test]
async fn everything_is_bounded() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let passages = opened.store.passages();
        let large = "x".repeat(PASSAGE_BYTES_MAX + 1);
        let many: Vec<Passage> = (0..66).map(|n| passage(n, None, &large[1..])).collect();
        for (path, passages_of) in [
            ("a".to_owned(), vec![passage(0, None, &large)]),
            ("a".to_owned(), vec![passage(0, Some(&large), "")]),
            ("a".to_owned(), many),
            ("x".repeat(PATH_BYTES_MAX + 1), Vec::new()),
        ] {
            let refused = passages
                .replace_file("docs", &path, "f", &passages_of)
                .await
                .unwrap_err();
            assert_eq!(Failure::from(refused).code, Code::BodyTooLarge, "{}", db.name());
        }
        let many: Vec<Passage> = (0..=4_000).map(|n| passage(n, None, "x")).collect();
        assert_eq!(many.len(), FILE_PASSAGES_MAX + 1);
        let full = passages.replace_file("docs", "a", "f", &many).await.unwrap();
        assert_eq!(full, Replaced::Full);

        put(&passages, "docs", "a", &["apple"]).await;
        db.execute(&format!("UPDATE passage_index SET passages = {INDEX_PASSAGES_MAX}"))
            .await;
        let full = passages
            .replace_file("docs", "b", "f", &[passage(0, None, "x")])
            .await
            .unwrap();
        assert_eq!(full, Replaced::Full);
        assert_eq!(passages.files("docs").await.unwrap().len(), 1, "nothing was changed");
        put(&passages, "docs", "a", &["pear"]).await;

        let id = passages.without_vectors("docs", "m", None, 1).await.unwrap()[0].id;
        let long = vec![(id, vec![0.0; DIMENSIONS_MAX + 1])];
        let refused = passages.set_vectors("docs", long, "m").await.unwrap_err();
        assert_eq!(Failure::from(refused).code, Code::BodyTooLarge);
        opened.close().await;
    }
}

#[tokio::test]
async fn a_database_of_the_version_before_is_brought_up_to_date() {
    for db in TestDb::both().await {
        open(&db).await.close().await;
        let tables = [
            "declared",
            "response",
            "approval_claim",
            "passage_vector",
            "passage_words",
            "passage",
            "passage_file",
            "passage_index",
        ];
        let drops: Vec<String> = tables.iter().map(|table| format!("DROP TABLE {table};")).collect();
        db.execute(&drops.join(" ")).await;
        db.execute("DELETE FROM _sqlx_migrations WHERE version IN (5, 7, 8, 9)")
            .await;
        let opened = try_open(db.url()).await.unwrap();
        put(&opened.store.passages(), "docs", "a", &["apple"]).await;
        assert_eq!(
            ask(&opened.store.passages(), "docs", "apple").await,
            ["a#0"],
            "{}",
            db.name()
        );
        opened.close().await;
    }
}

#[tokio::test]
async fn what_an_older_version_indexed_is_made_anew() {
    for db in TestDb::both().await {
        open(&db).await.close().await;
        db.execute("DROP TABLE passage_vector; DROP TABLE passage_words; DROP TABLE passage;")
            .await;
        db.execute("DROP TABLE passage_file; DROP TABLE passage_index;").await;
        db.execute(if db.url().starts_with("postgres") {
            include_str!("../../migrations/postgres/0005_passages.sql")
        } else {
            include_str!("../../migrations/sqlite/0005_passages.sql")
        })
        .await;
        for row in [
            "INSERT INTO passage_index (name, passages, changes) VALUES ('docs', 1, 1)",
            "INSERT INTO passage_file (index_id, path, fingerprint) VALUES (1, 'a', 'f1')",
            "INSERT INTO passage (index_id, file_id, ordinal, start_line, text) VALUES (1, 1, 0, 1, 'apple')",
            "DELETE FROM _sqlx_migrations WHERE version = 8",
        ] {
            db.execute(row).await;
        }
        let opened = try_open(db.url()).await.unwrap();
        let passages = opened.store.passages();
        assert!(passages.names().await.unwrap().is_empty(), "{}", db.name());
        assert!(passages.files("docs").await.unwrap().is_empty(), "{}", db.name());
        put(&passages, "docs", "a", &["apple"]).await;
        assert_eq!(ask(&passages, "docs", "apple").await, ["a#0"], "{}", db.name());
        opened.close().await;
    }
}

/// How long a question takes among 10,000 passages; run it with `--release --run-ignored all --no-capture`.
#[tokio::test]
#[ignore = "a measurement"]
#[expect(clippy::print_stdout, reason = "it is what a measurement is for")]
async fn measure_search() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let passages = opened.store.passages();
        let mut state = 1_u64;
        let begun = Instant::now();
        for file in 0..1_000 {
            let texts: Vec<String> = (0..10).map(|_| prose(&mut state)).collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            put(&passages, "docs", &format!("{file}.md"), &texts).await;
        }
        let indexing = begun.elapsed();
        let mut took: Vec<Duration> = Vec::new();
        for _ in 0..500 {
            let words: Vec<String> = (0..8).map(|_| word(&mut state)).collect();
            let begun = Instant::now();
            let found = passages.search("docs", &words.join(" "), 20).await.unwrap();
            took.push(begun.elapsed());
            assert!(!found.is_empty());
        }
        took.sort();
        println!(
            "{}: 10,000 passages indexed in {indexing:?}; a question of 8 words: p50 {:?}, p95 {:?}, p99 {:?}",
            db.name(),
            took[250],
            took[475],
            took[495]
        );
        opened.close().await;
    }
}

/// Some 160 words, as common and as rare as Zipf says.
fn prose(state: &mut u64) -> String {
    let words: Vec<String> = (0..160).map(|_| word(state)).collect();
    words.join(" ")
}

fn word(state: &mut u64) -> String {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    let share = f64::from(u32::try_from(*state >> 32).unwrap()) / f64::from(u32::MAX);
    // The inverse of a distribution in which the n-th word comes 1/n as often as the first, among 20,000.
    format!("w{:.0}", (share * 20_000_f64.ln()).exp())
}
