//! However a run ends, the task comes to the end that it deserves.

use crate::{PATIENCE, Rig, Stage, config};
use forebay_domain::{Code, task::State};
use forebay_store::queue::Scope;
use forebay_testkit::db::TestDb;
use serde_json::json;
use std::time::Duration;

#[tokio::test]
async fn each_failure_has_its_own_end() {
    for db in TestDb::both().await {
        let (rig, stage) = (Rig::open(&db).await, Stage::with(2));
        let process = rig.process(&stage, config());
        let ann = rig.key("ann", &[]).await;
        for (what, state, attempts, code) in [
            ("fail once", State::Completed, 2, None),
            ("fail", State::Failed, 1, Some(Code::UpstreamFailed)),
            ("panic", State::Dead, 2, Some(Code::InternalError)),
            ("mumble", State::Failed, 1, Some(Code::InternalError)),
        ] {
            let id = process.submit(process.draft(&ann, &json!({"do": what}))).await;
            let task = process.done(&id).await;
            let told = task.error.map(|error| error.code);
            assert_eq!(
                (task.state, task.attempts, told.as_deref()),
                (state, attempts, code.map(Code::as_str)),
                "{what} on {}",
                db.name()
            );
        }
        assert_eq!(stage.notes().at_once, 0);
        process.tasks.shut_down(PATIENCE).await;
        for (outcome, runs) in [("completed", "1"), ("failed", "3"), ("retried", "2")] {
            assert_eq!(process.runs(outcome), runs, "{outcome}");
        }
        rig.close([process]).await;
    }
}

/// An end of the process right after a task's own end loses nothing of what it cost.
#[tokio::test]
async fn what_a_task_cost_is_written_before_it_is_over() {
    let db = TestDb::postgres().await;
    let (rig, stage) = (Rig::open(&db).await, Stage::new());
    db.execute(
        "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.5); RETURN NEW; END'; \
         CREATE TRIGGER slowly BEFORE INSERT ON ledger_txn FOR EACH ROW EXECUTE FUNCTION slowly()",
    )
    .await;
    stage.spends_from(rig.store.ledger());
    let process = rig.process(&stage, config());
    let ann = rig.key("ann", &[]).await;
    let id = process.submit(process.draft(&ann, &json!({"do": "spend"}))).await;
    assert_eq!(process.done(&id).await.state, State::Completed);
    assert_eq!(db.number("SELECT COUNT(*) FROM ledger_txn").await, 1);
    rig.close([process]).await;
}

#[tokio::test]
async fn what_takes_too_long_is_ended_and_tried_again() {
    let db = TestDb::sqlite();
    let (rig, stage) = (Rig::open(&db).await, Stage::with(2));
    let process = rig.process(&stage, config());
    let ann = rig.key("ann", &[]).await;
    let mut new = process.draft(&ann, &json!({"do": "hang"}));
    new.timeout = Duration::from_millis(30);
    let id = process.submit(new).await;
    let task = process.done(&id).await;
    assert_eq!((task.state, task.attempts), (State::Dead, 2));
    assert_eq!(task.error.unwrap().code, Code::TaskTimedOut.as_str());
    // Somebody has mended what was wrong, and wants it done after all.
    let again = process.pool.requeue(&Scope::All, &id).await.unwrap();
    assert!(!again.state.is_final(), "{again:?}");
    assert_eq!(process.done(&id).await.state, State::Dead);
    assert_eq!(stage.notes().runs[id.as_str()], 4);
    rig.close([process]).await;
}

#[tokio::test]
async fn what_is_cancelled_does_not_begin_or_is_asked_to_end() {
    for db in TestDb::both().await {
        let (rig, stage) = (Rig::open(&db).await, Stage::new());
        let process = rig.process(&stage, config());
        let ann = rig.key("ann", &[]).await;
        let mut ahead = process.draft(&ann, &json!({"do": "it"}));
        ahead.run_at = Some(rig.clock.now() + Duration::from_hours(1));
        let ahead = process.submit(ahead).await;
        let cancelled = process.pool.cancel(&Scope::All, &ahead).await.unwrap();
        assert_eq!(cancelled.state, State::Cancelled);

        let running = process.submit(process.draft(&ann, &json!({"do": "heed"}))).await;
        stage.until("it runs", |notes| notes.at_once == 1).await;
        let asked = process.pool.cancel(&Scope::All, &running).await.unwrap();
        assert_eq!(asked.state, State::Running, "it ends when it has ended");
        let ended = process.done(&running).await;
        assert_eq!((ended.state, ended.attempts), (State::Cancelled, 1), "{}", db.name());
        assert_eq!(stage.notes().runs.len(), 1);
        process.tasks.shut_down(PATIENCE).await;
        assert_eq!(process.runs("cancelled"), "1", "of what never began there was no run");
        rig.close([process]).await;
    }
}

#[tokio::test]
async fn a_run_that_is_deaf_is_dropped_after_a_while() {
    let db = TestDb::sqlite();
    let (rig, stage) = (Rig::open(&db).await, Stage::new());
    let process = rig.process(&stage, config());
    let ann = rig.key("ann", &[]).await;
    let id = process.submit(process.draft(&ann, &json!({"do": "hang"}))).await;
    stage.until("it runs", |notes| notes.at_once == 1).await;
    process.pool.cancel(&Scope::All, &id).await.unwrap();
    assert_eq!(process.done(&id).await.state, State::Cancelled);
    assert_eq!(stage.notes().at_once, 0, "it really ended");
    rig.close([process]).await;
}
