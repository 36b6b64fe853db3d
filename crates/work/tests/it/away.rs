//! A database that does not answer, and what was done there all the same.

use crate::{PATIENCE, Rig, Stage, config};
use forebay_domain::{Code, task::State};
use forebay_runtime::Clock;
use forebay_testkit::db::TestDb;
use forebay_work::TasksConfig;
use serde_json::json;
use std::time::Duration;

/// Less than the next beat is away, and enough on a busy machine.
const SOON: Duration = Duration::from_secs(6);

#[tokio::test]
async fn what_a_claim_gave_out_whose_answer_was_lost_is_begun_all_the_same() {
    let db = TestDb::sqlite();
    let (rig, stage) = (Rig::open(&db).await, Stage::with(1));
    let process = rig.process(&stage, TasksConfig { workers: 0, ..config() });
    let ann = rig.key("ann", &[]).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(process.submit(process.draft(&ann, &json!({"do": "it"}))).await);
    }
    let lock = db.lock().await;
    process.pool.reconfigure(&config());
    // The claim gets as far as the file that is locked: everything up to there only changes hands.
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    // Nobody has so much patience, and the claim is done as soon as it can be.
    tokio::time::pause();
    tokio::time::advance(PATIENCE).await;
    tokio::time::resume();
    lock.release().await;
    for id in &ids {
        let task = process.done(id).await;
        assert_eq!((task.state, task.attempts), (State::Completed, 1), "{task:?}");
    }
    assert!(stage.notes().runs.values().all(|runs| *runs == 1));
    rig.close([process]).await;
}

#[tokio::test]
async fn a_run_whose_lease_is_over_ends_although_a_beat_gets_no_answer() {
    let db = TestDb::sqlite();
    let clock = Clock::manual("2026-11-22T09:00:00Z".parse().unwrap());
    let (rig, stage) = (Rig::open_with(&db, clock).await, Stage::with(2));
    let process = rig.process(&stage, config());
    let ann = rig.key("ann", &[]).await;
    process.submit(process.draft(&ann, &json!({"do": "wait"}))).await;
    stage.until("it runs", |notes| notes.at_once == 1).await;
    let lock = db.lock().await;
    // The next beat is due in ten seconds, and would then wait for as long.
    rig.clock.advance(config().lease() + Duration::from_secs(1));
    let given_up = stage.until("it is given up", |notes| notes.at_once == 0);
    tokio::time::timeout(SOON, given_up).await.unwrap();
    lock.release().await;
    rig.close([process]).await;
}

#[tokio::test]
async fn a_key_that_is_revoked_ends_what_runs_for_it() {
    for db in TestDb::both().await {
        let (rig, stage) = (Rig::open(&db).await, Stage::with(5));
        let process = rig.process(&stage, TasksConfig { lease_s: 3, ..config() });
        let (kept, gone) = (rig.key("kept", &[]).await, rig.key("gone", &[]).await);
        let mut ids = Vec::new();
        for key in [&kept, &gone] {
            ids.push(process.submit(process.draft(key, &json!({"do": "wait"}))).await);
        }
        stage.until("both run", |notes| notes.at_once == 2).await;
        let key = gone.key.as_ref().unwrap();
        rig.store.keys().revoke(key, rig.clock.now()).await.unwrap();
        let ended = process.done(&ids[1]).await;
        assert_eq!((ended.state, ended.attempts), (State::Failed, 1), "{}", db.name());
        assert_eq!(ended.error.unwrap().code, Code::RevokedKey.as_str());
        stage.until("it really ended", |notes| notes.at_once == 1).await;
        stage.open_gate();
        assert_eq!(process.done(&ids[0]).await.state, State::Completed);
        rig.close([process]).await;
    }
}

#[tokio::test]
async fn a_clock_that_is_set_forward_costs_no_run_its_lease() {
    for db in TestDb::both().await {
        let clock = Clock::manual("2026-11-22T09:00:00Z".parse().unwrap());
        let (rig, stage) = (Rig::open_with(&db, clock).await, Stage::with(1));
        let process = rig.process(&stage, config());
        let ann = rig.key("ann", &[]).await;
        let id = process.submit(process.draft(&ann, &json!({"do": "wait"}))).await;
        stage.until("it runs", |notes| notes.at_once == 1).await;
        rig.clock.set_by(3_600_000);
        // Whoever looks for leases that have ended may do so before the beat.
        rig.store.queue().lapse().await.unwrap();
        let now_ms = rig.clock.now().as_millisecond();
        let renewed = async { while db.number("SELECT wake_at_ms FROM task").await < now_ms {} };
        tokio::time::timeout(SOON, renewed).await.unwrap();
        stage.open_gate();
        let task = process.done(&id).await;
        assert_eq!((task.state, task.attempts), (State::Completed, 1), "{}", db.name());
        rig.close([process]).await;
    }
}
