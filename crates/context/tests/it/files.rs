//! `files`: what stands in a folder is found, on both databases, and follows the folder.

use crate::world::{World, until};
use forebay_domain::context::Strategy;
use forebay_testkit::db::TestDb;
use serde_json::{Value, json};
use std::{fs, path::Path, sync::atomic::Ordering, time::Duration};
use tempfile::TempDir;

fn config(folder: &Path, more: &Value) -> Value {
    let mut source = json!({ "folder": folder, "scan_s": 1 });
    source
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    json!({ "providers": { "docs": { "type": "files", "config": source } } })
}

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::create_dir_all(folder.path().join(name).parent().unwrap()).unwrap();
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

#[tokio::test]
async fn what_stands_in_a_file_is_found_and_named() {
    for db in TestDb::both().await {
        let folder = folder(&[
            (
                "zubrowka.md",
                "# Geography\n\n## Capital\n\nThe capital of Zubrowka is Lutz.\n\n## Rivers\n\nNone.",
            ),
            ("notes/other.txt", "Nothing of interest stands here about the weather."),
        ]);
        let world = World::on(&db, config(folder.path(), &json!({}))).await;
        let found = world.find("docs", "What is the capital of Zubrowka?").await;
        let first = &found.items[0];
        assert!(first.text.contains("is Lutz"), "{}: {found:?}", db.name());
        assert_eq!(first.source, "zubrowka.md:3", "{}", db.name());
        assert_eq!(first.title.as_deref(), Some("Geography > Capital"));
        assert_eq!(first.provider, "docs");
        assert_eq!(found.reports[0].strategy, Strategy::Keyword, "no model, so by words");
        assert!(world.find("docs", "xylophone").await.items.is_empty());
    }
}

#[tokio::test]
async fn the_index_follows_the_folder() {
    for db in TestDb::both().await {
        let folder = folder(&[("a.md", "The gate is red."), ("b.md", "The tower is tall.")]);
        let world = World::on(&db, config(folder.path(), &json!({}))).await;
        assert_eq!(world.texts("docs", "gate").await, ["The gate is red."]);

        fs::write(folder.path().join("a.md"), "The gate is blue.").unwrap();
        fs::remove_file(folder.path().join("b.md")).unwrap();
        fs::write(folder.path().join("c.md"), "The moat is deep.").unwrap();
        // What was kept of the old text goes with it.
        until("the new text", || async {
            world.texts("docs", "gate").await == ["The gate is blue."]
        })
        .await;
        until("the new file", || async {
            world.texts("docs", "moat").await.len() == 1
        })
        .await;
        until("the removed file leaves", || async {
            world.texts("docs", "tower").await.is_empty()
        })
        .await;
    }
}

#[tokio::test]
async fn what_is_no_text_or_too_large_is_left_out_and_counted() {
    let large = "large words ".repeat(100);
    let folder = folder(&[
        ("a.md", "small words"),
        ("b.md", &large),
        ("c.bin", "bad\0words"),
        (".hidden.md", "hidden words"),
    ]);
    let world = World::new(config(folder.path(), &json!({ "file_bytes_max": 500 }))).await;
    assert_eq!(world.texts("docs", "words").await, ["small words"]);
    let status = &world.providers.list()[0];
    assert_eq!(status.note.as_deref(), Some("1 files, 1 too large, 1 no text"));
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_a_failure_that_says_so() {
    let folder = folder(&[]);
    let gone = folder.path().join("gone");
    let world = World::new(config(&gone, &json!({}))).await;
    let (_, message) = world.failure("docs", "anything").await;
    assert_eq!(message, "The folder of `docs` cannot be read.");
    fs::create_dir(&gone).unwrap();
    fs::write(gone.join("a.md"), "anything goes").unwrap();
    until("it is there", || async {
        world.texts("docs", "anything").await.len() == 1
    })
    .await;
}

#[tokio::test]
async fn meaning_is_found_where_no_word_is_the_same() {
    for db in TestDb::both().await {
        let folder = folder(&[
            ("a.md", "A kitten sleeps on the mat."),
            ("b.md", "The automobile is in the garage."),
            ("c.md", "The word feline is Latin, the mat is not."),
        ]);
        let world = World::on(&db, config(folder.path(), &json!({ "embedding_model": "minilm" }))).await;
        until("vectors", || async {
            world.providers.list()[0].note.as_deref() == Some("3 files, 3 vectors")
        })
        .await;

        let found = world.look("docs", "vehicle", Strategy::SemanticSearch).await;
        assert_eq!(found.items[0].text, "The automobile is in the garage.", "{}", db.name());
        assert_eq!(found.reports[0].strategy, Strategy::SemanticSearch);
        assert!(world.look("docs", "vehicle", Strategy::Keyword).await.items.is_empty());
        // Both ways know the kitten on the mat, one way each the others.
        let found = world.look("docs", "cat mat kitten", Strategy::Hybrid).await;
        assert_eq!(found.items[0].text, "A kitten sleeps on the mat.");
        assert_eq!(found.reports[0].strategy, Strategy::Hybrid);

        // A change costs the vectors of what changed, and no others.
        let before = world.engine.texts.load(Ordering::SeqCst);
        fs::write(folder.path().join("b.md"), "The ocean is wide.").unwrap();
        until("the sea", || async {
            let found = world.look("docs", "sea", Strategy::SemanticSearch).await;
            found
                .items
                .first()
                .is_some_and(|item| item.text == "The ocean is wide.")
        })
        .await;
        let questions = world
            .engine
            .asked_by
            .lock()
            .unwrap()
            .iter()
            .filter(|who| who.subject.as_str() == "u")
            .count();
        let gateway = world.engine.texts.load(Ordering::SeqCst) - questions;
        assert!(before > 0 && gateway == 4, "{gateway} passages were embedded");
    }
}

#[tokio::test]
async fn a_passage_that_the_model_cannot_take_keeps_no_other_from_its_vector() {
    let names: Vec<String> = (0..70).map(|number| format!("{number:02}.md")).collect();
    let files: Vec<(&str, &str)> = names
        .iter()
        .map(|name| {
            let text = if ["03.md", "04.md", "40.md"].contains(&name.as_str()) {
                "An endless string."
            } else {
                "A kitten sleeps."
            };
            (name.as_str(), text)
        })
        .collect();
    let folder = folder(&files);
    let world = World::new(config(folder.path(), &json!({}))).await;
    *world.engine.hates.lock().unwrap() = Some("endless");
    let with_model = config(folder.path(), &json!({ "embedding_model": "minilm" }));
    world.providers.reconfigure(&crate::world::section(with_model)).unwrap();
    let note = || world.providers.list()[0].note.clone().unwrap_or_default();
    let told = "70 files, 67 vectors; 3 passages have no vectors: The input is too long.";
    until("all the others have theirs", || async { note() == told }).await;
    *world.engine.hates.lock().unwrap() = None;
    until("they are tried again", || async { note() == "70 files, 70 vectors" }).await;
}

#[tokio::test]
async fn many_passages_that_the_model_cannot_take_hold_up_nobody_for_ever() {
    let names: Vec<String> = (0..150).map(|number| format!("{number:03}.md")).collect();
    let text = |name: &str| {
        if name < "120.md" {
            "An endless string."
        } else {
            "A kitten sleeps."
        }
    };
    let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), text(name))).collect();
    let folder = folder(&files);
    let world = World::new(config(folder.path(), &json!({}))).await;
    *world.engine.hates.lock().unwrap() = Some("endless");
    let with_model = config(folder.path(), &json!({ "embedding_model": "minilm" }));
    world.providers.reconfigure(&crate::world::section(with_model)).unwrap();
    let note = || world.providers.list()[0].note.clone().unwrap_or_default();
    until("those behind them have theirs", || async {
        note().starts_with("150 files, 30 vectors; ")
    })
    .await;
}

#[tokio::test]
async fn without_the_engine_words_serve_and_the_report_says_so() {
    let folder = folder(&[("a.md", "A kitten sleeps.")]);
    let world = World::new(config(folder.path(), &json!({ "embedding_model": "minilm" }))).await;
    world.engine.is_broken.store(true, Ordering::SeqCst);
    let found = world.look("docs", "kitten", Strategy::Hybrid).await;
    assert_eq!((found.items.len(), found.reports[0].strategy), (1, Strategy::Keyword));
    let found = world.look("docs", "kitten", Strategy::SemanticSearch).await;
    assert_eq!(
        found.reports[0].failure.as_ref().unwrap().message,
        "The engine is away."
    );
    // It is back, and half a finding was not kept.
    world.engine.is_broken.store(false, Ordering::SeqCst);
    until("both again", || async {
        world.look("docs", "kitten", Strategy::Hybrid).await.reports[0].strategy == Strategy::Hybrid
    })
    .await;
}

#[tokio::test]
async fn an_index_outlives_the_process_and_goes_with_its_provider() {
    let db = TestDb::sqlite();
    let folder = folder(&[("a.md", "The gate is red.")]);
    let config = config(folder.path(), &json!({}));
    let world = World::on(&db, config.clone()).await;
    assert_eq!(world.texts("docs", "gate").await.len(), 1);
    let before = world.store.passages().state("docs").await.unwrap();
    drop(world);

    let world = World::on(&db, config).await;
    until("a look at the folder", || async {
        world.providers.list()[0].note.as_deref() == Some("1 files")
    })
    .await;
    let after = world.store.passages().state("docs").await.unwrap();
    assert_eq!(after, before, "what is there already is not written again");

    world.providers.reconfigure(&crate::world::section(json!({}))).unwrap();
    until("the index goes", || async {
        world.store.passages().state("docs").await.unwrap().passages == 0
    })
    .await;
}

#[tokio::test]
async fn an_index_whose_provider_left_while_nobody_ran_is_swept() {
    for db in TestDb::both().await {
        let folder = folder(&[("a.md", "The gate is red.")]);
        let mut section = config(folder.path(), &json!({}));
        section["providers"]["old"] = section["providers"]["docs"].clone();
        let world = World::on(&db, section.clone()).await;
        assert_eq!(world.texts("docs", "gate").await.len(), 1);
        assert_eq!(world.texts("old", "gate").await.len(), 1);
        drop(world);

        section["providers"].as_object_mut().unwrap().remove("old");
        section["providers"]["docs"]["enabled"] = json!(false);
        let world = World::on(&db, section).await;
        let passages = world.store.passages();
        until("the index of the provider that is gone leaves", || async {
            passages.names().await.unwrap() == ["docs"]
        })
        .await;
        let kept = passages.state("docs").await.unwrap().passages;
        assert_eq!(kept, 1, "{}: one that is only disabled keeps its index", db.name());
    }
}

/// Run by hand in a release build: `cargo test -p forebay-context --release -- --ignored ten_thousand --nocapture`.
#[tokio::test]
#[ignore = "a measurement"]
#[expect(clippy::print_stderr, reason = "a measurement for whoever runs it")]
async fn ten_thousand_passages() {
    let folder = tempfile::tempdir().unwrap();
    let words = [
        "gate", "tower", "river", "harbour", "bridge", "market", "castle", "forest", "island", "valley",
    ];
    for file in 0..1000_usize {
        let section = |n: usize| {
            let filler: Vec<String> = (0..60)
                .map(|w| format!("{}{}", words[(file * 7 + n * 3 + w) % 10], (file + w * n) % 97))
                .collect();
            let filler = filler.join(" ");
            format!(
                "# Section {n}\n\nThe code of case{file}x{n} is {}. {filler}\n\n",
                file * 10 + n
            )
        };
        let text: String = (0..10).map(section).collect();
        fs::write(folder.path().join(format!("f{file}.md")), text).unwrap();
    }
    let off = json!({ "providers": { "docs": { "type": "files", "config": { "folder": folder.path() } } }, "context": { "cache_enabled": false } });
    for db in TestDb::both().await {
        let world = World::on(&db, off.clone()).await;
        let begun = std::time::Instant::now();
        while world.providers.list()[0].note.as_deref() != Some("1000 files") {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let state = world.store.passages().state("docs").await.unwrap();
        let indexed = begun.elapsed();
        let mut took = Vec::new();
        for n in 0..300_usize {
            let question = format!("What is the code of case{}x{} near the gate?", (n * 37) % 1000, n % 10);
            let begun = std::time::Instant::now();
            let found = world.find("docs", &question).await;
            took.push(begun.elapsed());
            assert!(
                found.items[0]
                    .text
                    .contains(&format!("case{}x{} ", (n * 37) % 1000, n % 10))
            );
        }
        took.sort();
        eprintln!(
            "{}: {} passages in {indexed:?}; p50 {:?}, p99 {:?}",
            db.name(),
            state.passages,
            took[150],
            took[297]
        );
    }
}
