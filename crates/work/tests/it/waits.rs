//! Those who wait for a task: while the database is away, and while the process ends.

use crate::{PATIENCE, Rig, Stage, config};
use forebay_domain::{ErrorKind, task::State};
use forebay_store::queue::Scope;
use forebay_testkit::db::TestDb;
use forebay_work::TasksConfig;
use serde_json::json;
use std::time::Duration;
use tokio::time::timeout;

/// Far less than anybody here has patience for, and enough on a busy machine.
const SOON: Duration = Duration::from_secs(10);
const A_MOMENT: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_database_that_is_away_for_a_while_ends_no_wait() {
    let db = TestDb::postgres().await;
    let (rig, stage) = (Rig::open(&db).await, Stage::with(2));
    let process = rig.process(&stage, config());
    let ann = rig.key("ann", &[]).await;
    let id = process.submit(process.draft(&ann, &json!({"do": "wait"}))).await;
    stage.until("it runs", |notes| notes.at_once == 1).await;
    let watch = process.pool.watch();
    let away = async {
        db.refuse_connections().await;
        // Whoever begins to wait now cannot see it at all, and is told so only when they have waited.
        let unseen = watch.wait(&Scope::All, &id, A_MOMENT).await;
        assert_eq!(unseen.unwrap_err().kind(), ErrorKind::Unavailable);
        db.accept_connections().await;
        stage.open_gate();
    };
    let (waited, followed, ()) = tokio::join!(
        watch.wait(&Scope::All, &id, PATIENCE),
        watch.follow(&Scope::All, &id, PATIENCE),
        away
    );
    for found in [waited, followed] {
        let task = found.unwrap().unwrap();
        assert_eq!((task.state, task.attempts), (State::Completed, 1));
    }
    rig.close([process]).await;
}

#[tokio::test]
async fn what_was_seen_before_the_database_went_is_told_when_patience_ends() {
    let db = TestDb::postgres().await;
    let (rig, stage) = (Rig::open(&db).await, Stage::new());
    let idle = TasksConfig { workers: 0, ..config() };
    let process = rig.process(&stage, idle);
    let ann = rig.key("ann", &[]).await;
    let id = process.submit(process.draft(&ann, &json!({"do": "it"}))).await;
    let watch = process.pool.watch();
    let seen = watch.wait(&Scope::All, &id, Duration::ZERO).await.unwrap().unwrap();
    assert_eq!(seen.state, State::Pending);
    let mut waiting = Box::pin(watch.wait(&Scope::All, &id, PATIENCE));
    let mut following = Box::pin(watch.follow(&Scope::All, &id, A_MOMENT));
    // Both have looked once.
    assert!(timeout(A_MOMENT, &mut waiting).await.is_err());
    assert!(timeout(A_MOMENT, &mut following).await.is_err());
    db.refuse_connections().await;
    let lost = timeout(PATIENCE, following).await.unwrap();
    assert_eq!(
        lost.unwrap_err().kind(),
        ErrorKind::Unavailable,
        "whoever follows is told that nothing is seen"
    );
    process.tasks.stop().drain();
    let seen = timeout(SOON, waiting).await.unwrap();
    assert_eq!(seen.unwrap().unwrap().state, State::Pending);
    db.accept_connections().await;
    rig.close([process]).await;
}

#[tokio::test]
async fn a_process_that_ends_tells_those_who_wait_at_once() {
    for db in TestDb::both().await {
        let (rig, stage) = (Rig::open(&db).await, Stage::new());
        let process = rig.process(&stage, config());
        let ann = rig.key("ann", &[]).await;
        let mut ahead = process.draft(&ann, &json!({"do": "it"}));
        ahead.run_at = Some(rig.clock.now() + Duration::from_hours(1));
        let ahead = process.submit(ahead).await;
        let running = process.submit(process.draft(&ann, &json!({"do": "wait"}))).await;
        stage.until("it runs", |notes| notes.at_once == 1).await;
        let watch = process.pool.watch();
        let waiting = async {
            tokio::join!(
                watch.wait(&Scope::All, &ahead, PATIENCE),
                watch.wait(&Scope::All, &running, PATIENCE),
                watch.follow(&Scope::All, &ahead, PATIENCE),
                // Its run is given back at once, since this process has no patience.
                watch.follow(&Scope::All, &running, PATIENCE),
            )
        };
        let ending = async {
            // Both have begun to wait by then.
            tokio::task::yield_now().await;
            process.tasks.stop().drain();
        };
        let all = Box::pin(async { tokio::join!(waiting, ending).0 });
        let told = timeout(SOON, all).await;
        let told = told.unwrap_or_else(|_| panic!("held up on {}", db.name()));
        let (ahead, running, ahead_followed, given_back) = told;
        for ahead in [ahead, ahead_followed] {
            assert_eq!(ahead.unwrap().unwrap().state, State::Scheduled);
        }
        assert!(!running.unwrap().unwrap().state.is_final());
        assert_eq!(given_back.unwrap().unwrap().state, State::Pending, "{}", db.name());
        rig.close([process]).await;
    }
}
