//! Who gets the places of a process.

use crate::{PATIENCE, Rig, Stage, config};
use forebay_domain::task::{Share, State};
use forebay_store::queue::Scope;
use forebay_testkit::db::TestDb;
use forebay_work::TasksConfig;
use serde_json::json;
use std::{num::NonZeroU32, time::Duration};

#[tokio::test]
async fn however_much_waits_for_others_something_else_begins_at_once() {
    for db in TestDb::both().await {
        let rig = Rig::open(&db).await;
        let waiting = [("asks", Share::Half), ("calls", Share::Half), ("prompts", Share::Most)]
            .map(|(name, share)| Stage::named(name, share, 2));
        let quick = Stage::new();
        let stages = waiting.iter().cloned().chain([quick.clone()]);
        let process = rig.process_of(stages, TasksConfig { workers: 8, ..config() });
        let ann = rig.key("ann", &[]).await;
        let mut ids = Vec::new();
        for kind in ["asks", "calls", "prompts"] {
            for _ in 0..16 {
                let new = process.draft_of(kind, &ann, &json!({"do": "wait"}));
                ids.push(process.submit(new).await);
            }
        }
        let at_once = || waiting.each_ref().map(|stage| stage.notes().at_once);
        let full = async {
            while at_once().iter().sum::<u32>() < 6 {
                let longest = Duration::from_millis(20);
                process.pool.watch().wait(&Scope::All, &ids[0], longest).await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, full).await.unwrap();
        for _ in 0..3 {
            let id = process.submit(process.draft(&ann, &json!({"do": "it"}))).await;
            assert_eq!(process.done(&id).await.state, State::Completed, "{}", db.name());
        }
        let [asks, calls, _] = at_once();
        assert_eq!(at_once().iter().sum::<u32>(), 6, "two of eight are for the others");
        assert!(asks <= 4 && calls <= 4, "{:?}", at_once());
        waiting.iter().for_each(Stage::open_gate);
        for id in &ids {
            assert_eq!(process.done(id).await.state, State::Completed);
        }
        rig.close([process]).await;
    }
}

#[tokio::test]
async fn what_is_written_counts_before_a_types_own_share() {
    let db = TestDb::sqlite();
    let rig = Rig::open(&db).await;
    let asks = Stage::named("asks", Share::Half, 2);
    let mut config = TasksConfig { workers: 4, ..config() };
    config.types.entry("asks".to_owned()).or_default().concurrency = NonZeroU32::new(9);
    let process = rig.process(&asks, config);
    let ann = rig.key("ann", &[]).await;
    let mut ids = Vec::new();
    for _ in 0..6 {
        ids.push(
            process
                .submit(process.draft_of("asks", &ann, &json!({"do": "wait"})))
                .await,
        );
    }
    asks.until("three of four places are taken", |notes| notes.at_once == 3)
        .await;
    asks.open_gate();
    for id in &ids {
        assert_eq!(process.done(id).await.state, State::Completed);
    }
    assert_eq!(asks.notes().most_at_once, 3, "one is kept for what takes a moment");
    rig.close([process]).await;
}
