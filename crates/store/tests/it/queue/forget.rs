//! Forgetting a task before its time: nobody finds it again, and a run of it comes to nothing.

use super::{LEASE, Timed, claim_one, done, failed, owner, principal, work};
use bytes::Bytes;
use forebay_domain::task::{BODY_BYTES_MAX, State};
use forebay_store::queue::{Body, NewTask, Scope, TaskError};
use forebay_testkit::db::TestDb;
use std::time::Duration;

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
async fn what_is_forgotten_is_counted_no_more_and_its_name_is_free() {
    const UNFINISHED: &str = "SELECT CAST(COALESCE(SUM(number), 0) AS BIGINT) FROM task_unfinished";
    for db in TestDb::both().await {
        let timed = Timed::open(&db).await;
        let queue = timed.queue();
        let named = |name: &str| NewTask {
            idempotency_key: Some(name.to_owned()),
            ..work("a")
        };
        queue.bound(2);
        let [ended, waiting] = ["ended", "waiting"].map(named);
        let ended = queue.submit(ended).await.unwrap().id;
        let run = claim_one(&queue, "a").await;
        queue.settle(&ended, run.fence, done()).await.unwrap();
        let waiting_id = queue.submit(waiting.clone()).await.unwrap().id;
        let running = queue.submit(work("b")).await.unwrap().id;
        claim_one(&queue, "b").await;
        assert_eq!(db.number(UNFINISHED).await, 2, "{}", db.name());
        assert!(queue.submit(work("a")).await.is_err(), "there are as many as may be");
        for (id, left) in [(&ended, 2), (&waiting_id, 1), (&running, 0)] {
            assert!(queue.forget(&Scope::All, id).await.unwrap());
            assert_eq!(db.number(UNFINISHED).await, left, "{}", db.name());
        }
        let again = queue.submit(waiting).await.unwrap();
        assert!(!again.is_repeat && again.id != waiting_id);
        timed.close().await;
    }
}

#[tokio::test]
async fn a_name_that_is_just_forgotten_by_time_is_one_task_all_the_same() {
    for db in TestDb::both().await {
        let timed = Timed::open(&db).await;
        let queue = timed.queue();
        let named = || NewTask {
            idempotency_key: Some("n".to_owned()),
            result_ttl: Duration::from_secs(1),
            ..work("a")
        };
        for round in 0..20 {
            let first = queue.submit(named()).await.unwrap();
            assert!(!first.is_repeat, "{} in round {round}", db.name());
            let run = claim_one(&queue, "a").await;
            assert_eq!(run.task.id, first.id);
            queue.settle(&first.id, run.fence, done()).await.unwrap();
            timed.clock.advance(Duration::from_secs(1));
            let (pruned, again, too) = tokio::join!(queue.prune(), queue.submit(named()), queue.submit(named()));
            // Whoever came in time was told of the old one, and all others of one that is new to the first of them.
            let (old, new): (Vec<_>, Vec<_>) = [again.unwrap(), too.unwrap()]
                .into_iter()
                .partition(|one| one.id == first.id);
            assert!(old.iter().all(|one| one.is_repeat));
            let begun = new.iter().filter(|one| !one.is_repeat).count();
            assert_eq!(begun, new.len().min(1), "{} in round {round}: {new:?}", db.name());
            assert!(new.iter().all(|one| one.id == new[0].id));
            assert!(new.is_empty() || pruned.unwrap() == 1);
            queue.prune().await.unwrap();
            for one in new {
                queue.forget(&Scope::All, &one.id).await.unwrap();
            }
            assert_eq!(db.number("SELECT COUNT(*) FROM task").await, 0, "{}", db.name());
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
