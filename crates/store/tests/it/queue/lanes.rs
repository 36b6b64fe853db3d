//! Tasks of one lane run one after another, the oldest first, whatever becomes of the one in front.

use super::{Timed, claim, claim_one, done, failed, work};
use crate::at;
use forebay_domain::{
    model::Priority,
    task::{Retry, State},
};
use forebay_store::{
    Queue,
    queue::{NewTask, Scope},
};
use forebay_testkit::db::TestDb;
use futures_util::future::join_all;
use std::time::Duration;

fn in_lane(lane: &str) -> NewTask {
    NewTask {
        lane: Some(lane.to_owned()),
        ..work("a")
    }
}

async fn front(queue: &Queue) -> Vec<String> {
    let claimed = claim(queue, "a", 9).await;
    claimed.iter().map(|one| one.task.id.to_string()).collect()
}

#[tokio::test]
async fn one_of_a_lane_at_a_time_and_the_oldest_first() {
    for db in TestDb::both().await {
        let timed = Timed::open(&db).await;
        let queue = timed.queue();
        let mut ids = Vec::new();
        for priority in [Priority::Low, Priority::Critical, Priority::Critical] {
            ids.push(
                queue
                    .submit(NewTask {
                        priority,
                        ..in_lane("x")
                    })
                    .await
                    .unwrap()
                    .id,
            );
        }
        let other = queue.submit(in_lane("y")).await.unwrap().id;
        let first = claim(&queue, "a", 9).await;
        let found: Vec<_> = first.iter().map(|one| one.task.id.clone()).collect();
        assert_eq!(found, [other, ids[0].clone()], "{}: by rank", db.name());
        assert!(front(&queue).await.is_empty());

        // One that is tried again keeps its place.
        queue.settle(&ids[0], first[1].fence, failed(true)).await.unwrap();
        assert!(front(&queue).await.is_empty());
        timed.clock.advance(Duration::from_secs(2));
        let again = claim_one(&queue, "a").await;
        assert_eq!(again.task.id, ids[0]);
        queue.cancel(&Scope::All, &ids[1]).await.unwrap();
        queue.settle(&ids[0], again.fence, done()).await.unwrap();
        let last = claim_one(&queue, "a").await;
        assert_eq!(last.task.id, ids[2], "who was cancelled keeps nobody waiting");
        timed.close().await;
    }
}

#[tokio::test]
async fn a_lane_goes_on_behind_what_died_and_takes_in_what_comes_back() {
    for db in TestDb::both().await {
        let timed = Timed::open(&db).await;
        let queue = timed.queue();
        let first = queue
            .submit(NewTask {
                retry: Retry::NEVER,
                ..in_lane("x")
            })
            .await
            .unwrap()
            .id;
        let ahead = NewTask {
            run_at: Some(at(timed.now_ms() + 1_000)),
            ..in_lane("x")
        };
        let later = queue.submit(ahead).await.unwrap().id;
        let second = queue.submit(in_lane("x")).await.unwrap().id;
        let one = claim_one(&queue, "a").await;
        assert_eq!(
            queue.settle(&first, one.fence, failed(true)).await.unwrap().state,
            State::Dead
        );
        let two = claim_one(&queue, "a").await;
        assert_eq!(two.task.id, second, "what is not due holds nobody up");
        timed.clock.advance(Duration::from_secs(1));
        assert!(front(&queue).await.is_empty(), "and waits for its turn once it is");
        assert_eq!(queue.requeue(&Scope::All, &first).await.unwrap(), State::Pending);
        queue.settle(&second, two.fence, done()).await.unwrap();
        let three = claim_one(&queue, "a").await;
        assert_eq!(three.task.id, first, "the oldest first");
        queue.settle(&first, three.fence, done()).await.unwrap();
        assert_eq!(claim_one(&queue, "a").await.task.id, later);
        timed.close().await;
    }
}

#[tokio::test]
async fn a_lane_that_many_use_at_once_never_stalls() {
    for db in TestDb::both().await {
        let both = [Timed::open(&db).await, Timed::open(&db).await];
        let queues = both.each_ref().map(Timed::queue);
        let lanes = queues.iter().flat_map(|queue| {
            (0..4).map(move |lane| async move {
                for _ in 0..10 {
                    queue.submit(in_lane(&format!("l{lane}"))).await.unwrap();
                    for one in claim(queue, "a", 2).await {
                        queue.settle(&one.task.id, one.fence, done()).await.unwrap();
                    }
                }
            })
        });
        join_all(lanes).await;
        let mut left = claim(&queues[0], "a", 9).await;
        while !left.is_empty() {
            for one in left {
                queues[0].settle(&one.task.id, one.fence, done()).await.unwrap();
            }
            left = claim(&queues[0], "a", 9).await;
        }
        let unfinished = "SELECT COUNT(*) FROM task WHERE stage <> 'completed'";
        assert_eq!(db.number(unfinished).await, 0, "{}", db.name());
        assert_eq!(db.number("SELECT COUNT(*) FROM task").await, 80);
        for one in both {
            one.close().await;
        }
    }
}

/// Whoever settles the one in front and whoever cancels one behind it want the same lane and the same rows.
#[tokio::test]
async fn nobody_waits_in_a_circle_for_a_lane() {
    for db in TestDb::both().await {
        let both = [Timed::open(&db).await, Timed::open(&db).await];
        let [worker, other] = both.each_ref().map(Timed::queue);
        for _ in 0..30 {
            let mut behind = Vec::new();
            worker.submit(in_lane("x")).await.unwrap();
            for _ in 0..3 {
                behind.push(worker.submit(in_lane("x")).await.unwrap().id);
            }
            let front = claim_one(&worker, "a").await;
            let settling = async {
                worker.settle(&front.task.id, front.fence, done()).await.unwrap();
                claim(&worker, "a", 1).await
            };
            let cancelling = join_all(behind.iter().map(|id| other.cancel(&Scope::All, id)));
            let (next, cancelled) = tokio::join!(settling, cancelling);
            for run in next {
                worker.settle(&run.task.id, run.fence, done()).await.unwrap();
            }
            assert!(cancelled.iter().all(Result::is_ok), "{cancelled:?}");
            while let Some(run) = claim(&worker, "a", 1).await.pop() {
                worker.settle(&run.task.id, run.fence, done()).await.unwrap();
            }
        }
        for one in both {
            one.close().await;
        }
        if db.is_postgres() {
            // Told when the connections have ended.
            let sql = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
            assert_eq!(db.number(sql).await, 0);
        }
        assert_eq!(
            db.number("SELECT COUNT(*) FROM task WHERE stage IN ('waiting', 'pending')")
                .await,
            0
        );
    }
}
