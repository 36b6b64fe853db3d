//! Who comes first: the more urgent, whoever has waited longer, and nobody never.

use super::{Timed, claim_of, claim_one, done, work};
use forebay_domain::{
    model::Priority,
    task::{AGEING_STEP_MS, rank},
};
use forebay_store::queue::{Body, NewTask, Scope};
use forebay_testkit::db::TestDb;
use sqlx::{Connection, PgConnection};
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

/// What another gateway's claim has locked is passed over, and what comes after it is found.
#[tokio::test]
async fn a_claim_goes_past_what_another_gateway_is_taking() {
    let db = TestDb::postgres().await;
    let timed = Timed::open(&db).await;
    let queue = timed.queue();
    let mut ids = Vec::new();
    for of in ["a", "a", "a", "b", "a", "a", "b"] {
        ids.push(queue.submit(work(of)).await.unwrap().id.to_string());
        timed.clock.advance(Duration::from_millis(1));
    }
    let mut other = PgConnection::connect(db.url()).await.unwrap();
    sqlx::raw_sql("BEGIN; SELECT id FROM task WHERE task_type = 'a' ORDER BY rank LIMIT 3 FOR UPDATE")
        .execute(&mut other)
        .await
        .unwrap();
    let claimed = async |types: &[(&str, u32)], at_most| {
        let claimed = queue.claim(claim_of("w", types, at_most)).await.unwrap();
        claimed
            .iter()
            .map(|one| one.task.id.to_string())
            .collect::<Vec<String>>()
    };
    // Of the two that it would have chosen one is free, and room for the other type is left.
    assert_eq!(claimed(&[("a", 1), ("b", 1)], 3).await, [&*ids[3], &*ids[4]]);
    // Nothing is, of what comes first.
    assert_eq!(claimed(&[("a", 1)], 1).await, [&*ids[5]]);
    assert_eq!(claimed(&[("a", 9), ("b", 9)], 9).await, [&*ids[6]]);
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    assert_eq!(claimed(&[("a", 9), ("b", 9)], 9).await, [&*ids[0], &*ids[1], &*ids[2]]);
    timed.close().await;
}

/// A lock is a write in PostgreSQL: where nobody is in the way, nothing is locked but what is taken.
#[tokio::test]
async fn a_claim_leaves_no_mark_on_what_it_does_not_take() {
    let db = TestDb::postgres().await;
    let timed = Timed::open(&db).await;
    let queue = timed.queue();
    let types = ["a", "b", "c", "d"];
    for of in types {
        queue.submit(work(of)).await.unwrap();
        queue.submit(work(of)).await.unwrap();
    }
    let room = types.map(|of| (of, 2));
    assert_eq!(queue.claim(claim_of("w", &room, 2)).await.unwrap().len(), 2);
    let marked = db.number("SELECT COUNT(*) FROM task WHERE stage = 'pending' AND xmax::text <> '0'");
    assert_eq!(marked.await, 0);
    timed.close().await;
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
