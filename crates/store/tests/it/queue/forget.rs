//! Forgetting a task before its time: nobody finds it again, and a run of it comes to nothing.

use super::{LEASE, Timed, claim_one, done, failed, owner, principal, work};
use bytes::Bytes;
use forebay_domain::task::{BODY_BYTES_MAX, State};
use forebay_store::queue::{Body, NewTask, Scope, TaskError};
use forebay_testkit::db::TestDb;

#[tokio::test]
async fn a_task_that_is_forgotten_is_gone_with_what_was_asked() {
    for db in TestDb::both().await {
        let timed = Timed::open(&db).await;
        let (queue, own) = (timed.queue(), Scope::own(&principal("acme", "ann")));
        let text = "x".repeat(BODY_BYTES_MAX - 2);
        let waiting = NewTask {
            // Large enough to stand apart from its row.
            input: Bytes::from(format!("\"{text}\"")),
            ..work("waiting")
        };
        let waiting = queue.submit(waiting).await.unwrap().id;
        let ended = queue.submit(work("ended")).await.unwrap().id;
        let claimed = claim_one(&queue, "ended").await;
        queue.settle(&ended, claimed.fence, failed(false)).await.unwrap();
        for id in [&waiting, &ended] {
            let stranger = Scope::own(&principal("acme", "bob"));
            assert!(!queue.forget(&stranger, id).await.unwrap());
            assert!(queue.get(&own, id, Body::Both).await.unwrap().is_some());
            assert!(queue.forget(&own, id).await.unwrap());
            assert_eq!(queue.get(&Scope::All, id, Body::Both).await.unwrap(), None);
            assert!(!queue.forget(&own, id).await.unwrap(), "there is none any more");
        }
        timed.close().await;
    }
}

#[tokio::test]
async fn a_run_of_what_is_forgotten_hears_so_and_writes_nothing() {
    for db in TestDb::both().await {
        let timed = Timed::open(&db).await;
        let queue = timed.queue();
        let id = queue.submit(work("a")).await.unwrap().id;
        let claimed = claim_one(&queue, "a").await;
        assert!(queue.forget(&Scope::All, &id).await.unwrap());
        let beats = queue.heartbeat(&[(id.clone(), claimed.fence)], LEASE).await.unwrap();
        assert!(!beats[0].still_mine);
        let late = queue.settle(&id, claimed.fence, done()).await.unwrap_err();
        assert!(matches!(late, TaskError::Unknown), "{late:?}");
        assert_eq!(queue.get(&Scope::All, &id, Body::Output).await.unwrap(), None);
        timed.close().await;
    }
}

#[tokio::test]
async fn what_others_wait_behind_goes_once_it_has_ended() {
    for db in TestDb::both().await {
        let timed = Timed::open(&db).await;
        let queue = timed.queue();
        let in_lane = || NewTask {
            lane: Some("l".to_owned()),
            owner: owner("acme", "ann"),
            ..work("a")
        };
        let first = queue.submit(in_lane()).await.unwrap().id;
        let second = queue.submit(in_lane()).await.unwrap().id;
        let claimed = claim_one(&queue, "a").await;
        assert_eq!(claimed.task.id, first);
        for id in [&first, &second] {
            assert!(!queue.forget(&Scope::All, id).await.unwrap());
        }
        queue.settle(&first, claimed.fence, done()).await.unwrap();
        assert!(queue.forget(&Scope::All, &first).await.unwrap());
        let next = claim_one(&queue, "a").await;
        assert_eq!((&next.task.id, next.task.state), (&second, State::Running));
        timed.close().await;
    }
}
