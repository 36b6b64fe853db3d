//! Who comes first: the more urgent, whoever has waited longer, and nobody never.

use super::{Timed, claim_of, claim_one, done, work};
use forebay_domain::{
    model::Priority,
    task::{AGEING_STEP_MS, rank},
};
use forebay_store::queue::{Body, NewTask, Scope};
use forebay_testkit::db::TestDb;
use std::time::Duration;

#[tokio::test]
async fn claims_come_in_the_order_of_the_rule() {
    for db in TestDb::both().await {
        let timed = Timed::open(&db).await;
        let queue = timed.queue();
        let mut ranks = Vec::new();
        for number in 0..40_u32 {
            let priority = Priority::ALL[usize::try_from(number * 7 % 4).unwrap()];
            queue
                .submit(NewTask {
                    priority,
                    ..work(["a", "b"][usize::try_from(number % 2).unwrap()])
                })
                .await
                .unwrap();
            ranks.push(rank(priority, timed.now_ms()));
            timed
                .clock
                .advance(Duration::from_millis(u64::from(number * 1_733 % 20_011)));
        }
        ranks.sort_unstable();
        let mut found = Vec::new();
        loop {
            let claimed = queue.claim(claim_of("w", &[("a", 9), ("b", 9)], 7)).await.unwrap();
            if claimed.is_empty() {
                break;
            }
            found.extend(
                claimed
                    .iter()
                    .map(|one| rank(one.task.priority, one.task.run_at.as_millisecond())),
            );
        }
        assert_eq!(found, ranks, "{}", db.name());
        timed.close().await;
    }
}

#[tokio::test]
async fn a_type_without_room_keeps_no_other_from_running() {
    for db in TestDb::both().await {
        let timed = Timed::open(&db).await;
        let queue = timed.queue();
        for _ in 0..5 {
            queue
                .submit(NewTask {
                    priority: Priority::Critical,
                    ..work("a")
                })
                .await
                .unwrap();
        }
        queue.submit(work("b")).await.unwrap();
        let claimed = queue
            .claim(claim_of("w", &[("a", 2), ("b", 2), ("c", 2)], 9))
            .await
            .unwrap();
        let types: Vec<_> = claimed.iter().map(|one| one.task.task_type.as_str()).collect();
        assert_eq!(types, ["a", "a", "b"], "{}", db.name());
        assert!(
            queue
                .claim(claim_of("w", &[("a", 0), ("b", 2)], 9))
                .await
                .unwrap()
                .is_empty()
        );
        assert!(queue.claim(claim_of("w", &[], 9)).await.unwrap().is_empty());
        timed.close().await;
    }
}

#[tokio::test]
async fn the_least_urgent_is_never_starved() {
    for db in TestDb::both().await {
        let timed = Timed::open(&db).await;
        let queue = timed.queue();
        let low = queue
            .submit(NewTask {
                priority: Priority::Low,
                ..work("a")
            })
            .await
            .unwrap()
            .id;
        let begun = timed.now_ms();
        // More comes than anybody can do, and all of it more urgent.
        let waited_ms = loop {
            for _ in 0..2 {
                queue
                    .submit(NewTask {
                        priority: Priority::Critical,
                        ..work("a")
                    })
                    .await
                    .unwrap();
            }
            let one = claim_one(&queue, "a").await;
            if one.task.id == low {
                break timed.now_ms() - begun;
            }
            queue.settle(&one.task.id, one.fence, done()).await.unwrap();
            timed.clock.advance(Duration::from_secs(10));
        };
        // Everything that came within three steps after it goes before it, at one in ten seconds of two.
        let steps_ms = 3 * AGEING_STEP_MS;
        assert!(
            (steps_ms..=2 * steps_ms + 20_000).contains(&waited_ms),
            "{}: {waited_ms}",
            db.name()
        );
        let task = queue.get(&Scope::All, &low, Body::Output).await.unwrap().unwrap();
        assert_eq!(task.attempts, 1);
        timed.close().await;
    }
}
