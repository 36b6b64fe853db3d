//! Processes that go, politely or not: their tasks are done all the same, and end once.

use crate::{PATIENCE, Rig, Stage, config};
use forebay_domain::task::State;
use forebay_store::queue::Scope;
use forebay_testkit::db::TestDb;
use forebay_work::TasksConfig;
use serde_json::json;

fn short_lease() -> TasksConfig {
    TasksConfig { lease_s: 1, ..config() }
}

#[tokio::test]
async fn what_is_not_done_when_the_process_ends_is_given_back_at_once() {
    for db in TestDb::both().await {
        let (rig, stage) = (Rig::open(&db).await, Stage::with(2));
        let leaving = rig.process(&stage, config());
        let ann = rig.key("ann", &[]).await;
        let id = leaving.submit(leaving.draft(&ann, &json!({"do": "wait"}))).await;
        stage.until("it runs", |notes| notes.at_once == 1).await;
        assert!(leaving.tasks.shut_down(PATIENCE).await, "nothing keeps it");
        assert_eq!(leaving.runs("given_back"), "1");
        let left = rig
            .store
            .queue()
            .get(&Scope::All, &id, forebay_store::queue::Body::Output)
            .await;
        assert_eq!(left.unwrap().unwrap().state, State::Pending, "{}", db.name());
        assert_eq!(stage.notes().at_once, 0);

        stage.open_gate();
        let next = rig.process(&stage, config());
        let task = next.done(&id).await;
        assert_eq!((task.state, task.attempts), (State::Completed, 2), "{}", db.name());
        rig.close([next]).await;
    }
}

#[tokio::test]
async fn what_a_dead_process_held_is_done_by_another_once_its_lease_is_over() {
    for db in TestDb::both().await {
        let (rig, stage) = (Rig::open(&db).await, Stage::with(2));
        let dying = rig.process(&stage, short_lease());
        let ann = rig.key("ann", &[]).await;
        let id = dying.submit(dying.draft(&ann, &json!({"do": "wait"}))).await;
        stage.until("it runs", |notes| notes.at_once == 1).await;
        // Everything of it ends where it stands, and nothing is given back.
        dying.tasks.stop().end();
        dying.tasks.finished().await;
        stage.open_gate();
        let other = rig.process(&stage, short_lease());
        let task = other.done(&id).await;
        assert_eq!((task.state, task.attempts), (State::Completed, 2), "{}", db.name());
        rig.close([other]).await;
    }
}

#[tokio::test]
async fn a_long_run_keeps_its_lease() {
    for db in TestDb::both().await {
        let (rig, stage) = (Rig::open(&db).await, Stage::with(2));
        let (process, rival) = (rig.process(&stage, short_lease()), rig.process(&stage, short_lease()));
        let ann = rig.key("ann", &[]).await;
        let id = process.submit(process.draft(&ann, &json!({"do": "wait"}))).await;
        stage.until("it runs", |notes| notes.at_once == 1).await;
        // Three leases long nobody else may take it.
        let long = std::time::Duration::from_secs(3);
        let still = process
            .pool
            .watch()
            .wait(&Scope::All, &id, long)
            .await
            .unwrap()
            .unwrap();
        assert_eq!((still.state, still.attempts), (State::Running, 1), "{}", db.name());
        stage.open_gate();
        let task = process.done(&id).await;
        assert_eq!((task.state, task.attempts), (State::Completed, 1));
        assert_eq!(stage.notes().runs[id.as_str()], 1);
        rig.close([process, rival]).await;
    }
}
