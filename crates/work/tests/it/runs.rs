//! What comes in is run, within its bounds, as who submitted it.

use crate::{PATIENCE, Rig, Stage, config};
use forebay_domain::{
    Code,
    model::Priority,
    task::{State, TaskId},
};
use forebay_runtime::Clock;
use forebay_store::queue::Scope;
use forebay_testkit::db::TestDb;
use forebay_work::{Delta, TasksConfig};
use serde_json::json;
use std::{num::NonZeroU32, time::Duration};

#[tokio::test]
async fn what_comes_in_is_done_and_whoever_waits_hears_of_it() {
    for db in TestDb::both().await {
        let (rig, stage) = (Rig::open(&db).await, Stage::new());
        let process = rig.process(&stage, config());
        let ann = rig.key("ann", &[]).await;
        let id = process.submit(process.draft(&ann, &json!({"do": "it"}))).await;
        let task = process.done(&id).await;
        assert_eq!(task.state, State::Completed, "{}", db.name());
        assert_eq!(task.output.as_deref(), Some(&br#"{"did":"it"}"#[..]));
        assert_eq!(task.attempts, 1);
        // What ran is counted by the time at which everything has ended.
        process.tasks.shut_down(PATIENCE).await;
        assert_eq!(process.runs("completed"), "1");
        assert_eq!(process.metric(r#"forebay_tasks_running{type="stage"}"#), "0");
        assert_eq!(
            process.metric(r#"forebay_task_wait_seconds_count{priority="medium"}"#),
            "1"
        );
        rig.close([process]).await;
    }
}

#[tokio::test]
async fn what_is_put_off_begins_by_itself_when_its_time_comes() {
    for db in TestDb::both().await {
        let clock = Clock::manual("2026-11-22T08:00:00Z".parse().unwrap());
        let (rig, stage) = (Rig::open_with(&db, clock.clone()).await, Stage::new());
        let process = rig.process(&stage, config());
        let ann = rig.key("ann", &[]).await;
        let mut ahead = process.draft(&ann, &json!({"do": "it"}));
        let due = clock.now() + Duration::from_secs(2);
        ahead.run_at = Some(due);
        let ahead = process.submit(ahead).await;
        for step in [Duration::ZERO, Duration::from_millis(1_999)] {
            clock.advance(step);
            // A worker that claims this looks at all that is due.
            let now = process.submit(process.draft(&ann, &json!({"do": "it"}))).await;
            assert_eq!(process.done(&now).await.state, State::Completed);
            let watch = process.pool.watch();
            let seen = watch.wait(&Scope::All, &ahead, Duration::ZERO).await.unwrap().unwrap();
            assert_eq!((seen.state, seen.run_at), (State::Scheduled, due), "{}", db.name());
        }
        clock.advance(Duration::from_millis(1));
        let task = process.done(&ahead).await;
        assert_eq!((task.state, task.attempts), (State::Completed, 1), "{}", db.name());
        assert_eq!(task.started_at, Some(due));
        assert_eq!(stage.notes().runs[ahead.as_str()], 1);
        rig.close([process]).await;
    }
}

#[tokio::test]
async fn no_more_run_at_once_than_may() {
    for db in TestDb::both().await {
        let (rig, stage) = (Rig::open(&db).await, Stage::new());
        let mut config = TasksConfig { workers: 4, ..config() };
        let process = rig.process(&stage, config.clone());
        let ann = rig.key("ann", &[]).await;
        let mut ids: Vec<TaskId> = Vec::new();
        for _ in 0..9 {
            ids.push(process.submit(process.draft(&ann, &json!({"do": "wait"}))).await);
        }
        stage.until("all places are taken", |notes| notes.at_once == 4).await;
        // The type's own bound counts from now on.
        config.types.entry("stage".to_owned()).or_default().concurrency = NonZeroU32::new(2);
        process.pool.reconfigure(&config);
        stage.notes().most_at_once = 0;
        stage.open_gate();
        for id in &ids {
            assert_eq!(process.done(id).await.state, State::Completed);
        }
        assert!(stage.notes().most_at_once <= 2, "{}", db.name());
        assert!(stage.notes().runs.values().all(|runs| *runs == 1));
        rig.close([process]).await;
    }
}

#[tokio::test]
async fn the_most_urgent_comes_first_and_nobody_works_where_there_are_no_workers() {
    for db in TestDb::both().await {
        let (rig, stage) = (Rig::open(&db).await, Stage::new());
        let idle = TasksConfig { workers: 0, ..config() };
        let process = rig.process(&stage, idle);
        let ann = rig.key("ann", &[]).await;
        let mut ids = Vec::new();
        for priority in [Priority::Low, Priority::Critical, Priority::Medium] {
            let mut new = process.draft(&ann, &json!({"do": "it"}));
            new.priority = priority;
            ids.push(process.submit(new).await);
        }
        assert!(!process.pool.works());
        let watch = process.pool.watch();
        let waited = watch.wait(&Scope::All, &ids[0], Duration::from_millis(200));
        assert_eq!(waited.await.unwrap().unwrap().state, State::Pending);
        process.pool.reconfigure(&TasksConfig { workers: 1, ..config() });
        let mut began = Vec::new();
        for (name, id) in ["low", "critical", "medium"].into_iter().zip(&ids) {
            began.push((process.done(id).await.started_at.unwrap(), name));
        }
        began.sort();
        let order: Vec<&str> = began.into_iter().map(|(_, name)| name).collect();
        assert_eq!(order, ["critical", "medium", "low"], "{}", db.name());
        rig.close([process]).await;
    }
}

#[tokio::test]
async fn a_key_counts_as_it_is_when_the_task_runs() {
    for db in TestDb::both().await {
        let (rig, stage) = (Rig::open(&db).await, Stage::new());
        let idle = TasksConfig { workers: 0, ..config() };
        let process = rig.process(&stage, idle);
        let (kept, gone) = (rig.key("kept", &["tool:web_*"]).await, rig.key("gone", &[]).await);
        let mut elsewhere = process.draft(&kept, &json!({"do": "it"}));
        // What the snapshot says of the grants does not count.
        elsewhere.owner.snapshot = elsewhere.owner.snapshot.replace("tool:web_*", "*");
        let kept = process.submit(elsewhere).await;
        let lost = process.submit(process.draft(&gone, &json!({"do": "it"}))).await;
        rig.store
            .keys()
            .revoke(gone.key.as_ref().unwrap(), rig.clock.now())
            .await
            .unwrap();
        process.pool.reconfigure(&config());
        assert_eq!(process.done(&kept).await.state, State::Completed);
        let lost = process.done(&lost).await;
        assert_eq!((lost.state, lost.attempts), (State::Failed, 1), "{}", db.name());
        assert_eq!(lost.error.unwrap().code, Code::RevokedKey.as_str());
        assert_eq!(stage.notes().grants, ["tool:web_*"]);
        assert_eq!(
            stage.notes().runs.len(),
            1,
            "nothing runs as somebody who is not there any more"
        );
        rig.close([process]).await;
    }
}

#[tokio::test]
async fn what_a_run_tells_is_heard_by_those_who_come_late_too() {
    let db = TestDb::sqlite();
    let (rig, stage) = (Rig::open(&db).await, Stage::new());
    let process = rig.process(&stage, config());
    let ann = rig.key("ann", &[]).await;
    let id = process.submit(process.draft(&ann, &json!({"do": "tell"}))).await;
    let mut early = process.pool.watch().deltas(&id);
    let said = |delta: Option<Delta>| match delta {
        Some(Delta::Piece { attempt: 1, bytes }) => String::from_utf8(bytes.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    };
    assert_eq!(said(early.next().await), "one");
    let mut late = process.pool.watch().deltas(&id);
    stage.open_gate();
    assert_eq!([said(late.next().await), said(late.next().await)], ["one", "two"]);
    let end = tokio::time::timeout(PATIENCE, late.next()).await;
    assert_eq!(end.unwrap(), None);
    assert_eq!(process.done(&id).await.state, State::Completed);
    rig.close([process]).await;
}

#[tokio::test]
async fn nonsense_is_refused_before_it_is_queued() {
    let db = TestDb::sqlite();
    let (rig, stage) = (Rig::open(&db).await, Stage::new());
    let process = rig.process(&stage, config());
    let ann = rig.key("ann", &[]).await;
    let code = |kind: &str, input: &[u8]| process.pool.accept(kind, &ann, input).unwrap_err().code;
    assert_eq!(code("nobody knows it", b"{}"), Code::UnknownTaskType);
    assert_eq!(code("stage", b"{}"), Code::InvalidRequest);
    assert!(process.pool.accept("stage", &ann, br#"{"do": "it"}"#).is_ok());
    rig.close([process]).await;
}
