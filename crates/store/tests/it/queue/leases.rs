//! Who has a task, and for how long that is believed: whatever becomes of workers, of answers and of the clock.

use super::{LEASE, Timed, claim, claim_of, claim_one, done, failed, principal, work};
use crate::until;
use bytes::Bytes;
use forebay_domain::{
    Code, Failure,
    task::{Ended, Refusal, Retry, State, TaskError as Kept},
};
use forebay_store::queue::{Body, NewTask, Scope, TaskError};
use forebay_testkit::db::TestDb;
use serde_json::json;
use std::time::Duration;

#[tokio::test]
async fn whoever_was_given_up_for_lost_settles_nothing() {
    for db in TestDb::both().await {
        let timed = Timed::open(&db).await;
        let queue = timed.queue();
        let id = queue.submit(work("a")).await.unwrap().id;
        let lost = claim_one(&queue, "a").await;
        timed.clock.advance(LEASE.saturating_sub(Duration::from_millis(1)));
        assert_eq!(queue.lapse().await.unwrap(), 0);
        let beat = &queue.heartbeat(&[(id.clone(), lost.fence)], LEASE).await.unwrap()[0];
        assert!(beat.still_mine && !beat.cancel_wanted);
        timed.clock.advance(LEASE);
        queue.lapse().await.unwrap();
        // It waits a moment before it is tried again.
        timed.clock.advance(Duration::from_secs(1));
        let found = claim_one(&queue, "a").await;
        assert_eq!((found.task.id.clone(), found.task.attempts), (id.clone(), 2));
        assert!(found.fence > lost.fence);

        let stale = queue.settle(&id, lost.fence, done()).await.unwrap_err();
        assert!(matches!(stale, TaskError::Refused(Refusal::Stale)), "{stale}");
        let beat = &queue.heartbeat(&[(id.clone(), lost.fence)], LEASE).await.unwrap()[0];
        assert!(!beat.still_mine);
        let task = queue.get(&Scope::All, &id, Body::Output).await.unwrap().unwrap();
        assert_eq!((task.state, task.output), (State::Running, None), "{}", db.name());
        assert_eq!(
            queue.settle(&id, found.fence, done()).await.unwrap().state,
            State::Completed
        );
        timed.close().await;
    }
}

#[tokio::test]
async fn what_nobody_took_is_somebody_elses_at_once() {
    for db in TestDb::both().await {
        let timed = Timed::open(&db).await;
        let queue = timed.queue();
        queue.submit(work("a")).await.unwrap();
        let gone = tokio::time::timeout(Duration::ZERO, claim(&queue, "a", 1)).await;
        assert!(gone.is_err(), "nobody waited for it");
        until("somebody else has it", || async {
            let claimed = claim(&queue, "a", 1).await;
            claimed.first().is_some_and(|one| one.task.attempts == 1)
        })
        .await;
        timed.close().await;
    }
}

#[tokio::test]
async fn what_a_worker_was_given_and_never_heard_of_is_found() {
    for db in TestDb::both().await {
        let timed = Timed::open(&db).await;
        let queue = timed.queue();
        let once = NewTask {
            retry: Retry::NEVER,
            ..work("a")
        };
        for _ in 0..3 {
            queue.submit(once.clone()).await.unwrap();
        }
        let mine = queue.claim(claim_of("me", &[("a", 2)], 2)).await.unwrap();
        queue.claim(claim_of("you", &[("a", 1)], 1)).await.unwrap();
        let me = "me".parse().unwrap();
        // The answer about the second of them was lost on its way.
        let left = queue.left_behind(&me, &[mine[0].task.id.clone()]).await.unwrap();
        assert_eq!(left, [(mine[1].task.id.clone(), mine[1].fence)], "{}", db.name());
        for (id, fence) in left {
            assert_eq!(
                queue.settle(&id, fence, Ended::Unbegun).await.unwrap().state,
                State::Pending
            );
        }
        let again = claim_one(&queue, "a").await;
        assert_eq!((&again.task.id, again.task.attempts), (&mine[1].task.id, 1));
        timed.close().await;
    }
}

#[tokio::test]
async fn a_clock_that_is_set_forward_takes_nothing_from_who_was_just_heard_of() {
    for db in TestDb::both().await {
        let timed = Timed::open(&db).await;
        let queue = timed.queue();
        for _ in 0..2 {
            queue.submit(work("a")).await.unwrap();
        }
        let runs = claim(&queue, "a", 2).await;
        timed.clock.advance(LEASE / 2);
        let beating = (runs[0].task.id.clone(), runs[0].fence);
        queue.heartbeat(std::slice::from_ref(&beating), LEASE).await.unwrap();
        timed.clock.set_by(3_600_000);
        assert_eq!(queue.lapse().await.unwrap(), 0, "{}", db.name());
        // Whoever was not heard of since is lost when its own lease ends, whatever the wall clock says.
        timed.clock.advance(LEASE / 2);
        assert_eq!(queue.lapse().await.unwrap(), 1);
        let beat = queue.heartbeat(std::slice::from_ref(&beating), LEASE).await.unwrap();
        assert!(beat[0].still_mine);
        assert_eq!(
            queue.settle(&beating.0, beating.1, done()).await.unwrap().state,
            State::Completed
        );
        timed.close().await;
    }
}

#[tokio::test]
async fn a_clock_that_is_set_back_keeps_nothing_from_being_tried_again() {
    for db in TestDb::both().await {
        let timed = Timed::open(&db).await;
        let queue = timed.queue();
        let in_lane = || NewTask {
            lane: Some("l".to_owned()),
            ..work("a")
        };
        timed.clock.set_by(3_600_000);
        let id = queue.submit(in_lane()).await.unwrap().id;
        let run = claim_one(&queue, "a").await;
        queue.settle(&id, run.fence, failed(true)).await.unwrap();
        timed.clock.set_by(-3_600_000);
        queue.submit(in_lane()).await.unwrap();
        // The store does this by itself, and may have done it already.
        let early = claim(&queue, "a", 9).await;
        assert!(
            queue.catch_up().await.unwrap() <= u64::from(early.is_empty()),
            "{}",
            db.name()
        );
        let again = early.into_iter().chain(claim(&queue, "a", 9).await);
        let again: Vec<_> = again.map(|one| (one.task.id, one.task.attempts)).collect();
        assert_eq!(again, [(id, 2)], "its turn is kept");
        assert_eq!(queue.catch_up().await.unwrap(), 0);
        timed.close().await;
    }
}

#[tokio::test]
async fn a_row_that_cannot_be_read_takes_no_other_lease_with_it() {
    for db in TestDb::both().await {
        let timed = Timed::open(&db).await;
        let queue = timed.queue();
        for _ in 0..3 {
            queue.submit(work("a")).await.unwrap();
        }
        let runs = claim(&queue, "a", 3).await;
        let held: Vec<_> = runs.iter().map(|run| (run.task.id.clone(), run.fence)).collect();
        let sql = format!("UPDATE task SET priority = 9 WHERE id = '{}'", held[1].0);
        db.execute(&sql).await;
        let beats = queue.heartbeat(&held, LEASE).await.unwrap();
        let mine: Vec<bool> = beats.iter().map(|beat| beat.still_mine).collect();
        assert_eq!(mine, [true, false, true], "{}", db.name());
        timed.close().await;
    }
}

#[tokio::test]
async fn what_came_of_a_run_is_told_without_its_output() {
    for db in TestDb::both().await {
        let timed = Timed::open(&db).await;
        let queue = timed.queue();
        for (output, is_error) in [
            (r#"{"content":[],"isError":true}"#, true),
            (r#"{"content":[],"isError":false}"#, false),
            (r#"{"inner":{"isError":true}}"#, false),
            ("[1]", false),
        ] {
            let id = queue.submit(work("a")).await.unwrap().id;
            let run = claim_one(&queue, "a").await;
            let ended = Ended::Done(Bytes::from_static(output.as_bytes()));
            queue.settle(&id, run.fence, ended).await.unwrap();
            let page = queue
                .list(&super::query(Scope::own(&principal("acme", "ann"))))
                .await
                .unwrap();
            assert_eq!(
                (page.tasks[0].is_error, &page.tasks[0].output),
                (is_error, &None),
                "{output}"
            );
        }
        let id = queue.submit(work("a")).await.unwrap().id;
        let run = claim_one(&queue, "a").await;
        let failure = Failure::new(Code::ContextLimit, "…").details(json!({"limit": 3}));
        let error = Kept::from(&failure);
        let ended = Ended::Failed {
            error: error.clone(),
            retryable: false,
        };
        queue.settle(&id, run.fence, ended).await.unwrap();
        let task = queue.get(&Scope::All, &id, Body::Output).await.unwrap().unwrap();
        assert_eq!(task.error, Some(error), "{}", db.name());
        timed.close().await;
    }
}
