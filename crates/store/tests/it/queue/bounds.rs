//! What is not taken in: nonsense, and more than a tenant may have.

use super::{Timed, claim, claim_one, failed_of, owner, work};
use crate::at;
use bytes::Bytes;
use forebay_domain::{
    Code, Failure,
    task::{Ended, Retry, State},
};
use forebay_store::queue::{NewTask, Scope, SubmitError};
use forebay_testkit::db::TestDb;
use futures_util::future::join_all;
use std::time::Duration;

const COUNTED: &str = "SELECT CAST(COALESCE(SUM(number), 0) AS BIGINT) FROM task_unfinished WHERE tenant = 'acme'";

#[tokio::test]
async fn nonsense_is_not_kept() {
    let timed = Timed::open(&TestDb::sqlite()).await;
    let queue = timed.queue();
    let never = Retry {
        attempts_max: 0,
        ..Retry::default()
    };
    let nonsense = [
        NewTask {
            input: Bytes::from_static(b"{"),
            ..work("a")
        },
        NewTask {
            input: Bytes::from(vec![b'1'; (1 << 20) + 1]),
            ..work("a")
        },
        NewTask {
            idempotency_key: Some(String::new()),
            ..work("a")
        },
        NewTask {
            lane: Some("a\0".to_owned()),
            ..work("a")
        },
        NewTask {
            retry: never,
            ..work("a")
        },
        NewTask {
            result_ttl: Duration::MAX,
            ..work("a")
        },
    ];
    for new in nonsense {
        queue.submit(new).await.unwrap_err();
    }
    let year_ms = 366 * 24 * 3_600_000;
    let at_ms = |ahead_ms| NewTask {
        run_at: Some(at(timed.now_ms() + ahead_ms)),
        ..work("b")
    };
    queue.submit(at_ms(year_ms)).await.unwrap();
    let refused = Failure::from(queue.submit(at_ms(year_ms + 1)).await.unwrap_err());
    assert_eq!(refused.code, Code::InvalidRequest);
    assert!(refused.hint.unwrap().contains("366 days"));
    queue.submit(work("a")).await.unwrap();
    let one = claim_one(&queue, "a").await;
    let refused = queue
        .settle(&one.task.id, one.fence, Ended::Done(Bytes::from_static(b"{")))
        .await;
    assert!(refused.is_err());
    timed.close().await;
}

#[tokio::test]
async fn a_tenant_has_so_many_unfinished_tasks_and_no_more() {
    for db in TestDb::both().await {
        let timed = Timed::open(&db).await;
        let queue = timed.queue();
        queue.bound(3);
        let named = NewTask {
            idempotency_key: Some("k".to_owned()),
            retry: Retry::NEVER,
            ..work("a")
        };
        let first = queue.submit(named.clone()).await.unwrap();
        // Whatever comes at once.
        let all = join_all((0..4).map(|_| queue.submit(work("a")))).await;
        let refused: Vec<_> = all.into_iter().filter_map(Result::err).collect();
        assert_eq!(refused.len(), 2, "{}", db.name());
        for refused in refused {
            assert!(matches!(refused, SubmitError::Full { queued_max: 3 }), "{refused}");
            let failure = Failure::from(refused);
            assert_eq!(failure.code, Code::QueueFull);
            assert!(failure.retry_after.is_some());
        }
        assert_eq!(db.number(COUNTED).await, 3);
        let again = queue.submit(named.clone()).await.unwrap();
        assert!(again.is_repeat, "who asks what became of theirs is told");
        let other = NewTask {
            owner: owner("zeta", "ann"),
            ..work("a")
        };
        queue.submit(other).await.unwrap();

        // Room is made by whatever ends, and by that alone.
        let run = claim_one(&queue, "a").await;
        queue.submit(work("a")).await.unwrap_err();
        queue.settle(&run.task.id, run.fence, Ended::Unbegun).await.unwrap();
        queue.submit(work("a")).await.unwrap_err();
        queue.cancel(&Scope::All, &first.id).await.unwrap();
        queue.submit(work("a")).await.unwrap();
        queue.submit(work("a")).await.unwrap_err();
        assert_eq!(db.number(COUNTED).await, 3);
        timed.close().await;
    }
}

#[tokio::test]
async fn what_ends_and_what_begins_anew_is_counted() {
    for db in TestDb::both().await {
        let timed = Timed::open(&db).await;
        let queue = timed.queue();
        let new = |number: u32| NewTask {
            idempotency_key: Some(number.to_string()),
            retry: Retry::NEVER,
            ..work("a")
        };
        let mut ids = Vec::new();
        for number in 0..5 {
            ids.push(queue.submit(new(number)).await.unwrap().id);
        }
        queue.cancel(&Scope::All, &ids[0]).await.unwrap();
        let runs = claim(&queue, "a", 3).await;
        for run in &runs {
            let ended = failed_of("overloaded", true);
            queue.settle(&run.task.id, run.fence, ended).await.unwrap();
        }
        assert_eq!(db.number(COUNTED).await, 1, "{}", db.name());
        assert_eq!(
            queue.requeue(&Scope::All, &runs[0].task.id).await.unwrap(),
            State::Pending
        );
        let number = ids.iter().position(|id| *id == runs[1].task.id).unwrap();
        let again = queue.submit(new(u32::try_from(number).unwrap())).await.unwrap();
        assert!(!again.is_repeat);
        assert_eq!(db.number(COUNTED).await, 3);
        claim(&queue, "a", 9).await;
        timed.clock.advance(Duration::from_secs(30));
        assert_eq!(queue.lapse().await.unwrap(), 3);
        assert_eq!(db.number(COUNTED).await, 0);
        timed.clock.advance(Duration::from_hours(24 * 7));
        queue.prune().await.unwrap();
        assert_eq!(db.number(COUNTED).await, 0);

        // Somebody has changed rows by hand.
        queue.submit(work("a")).await.unwrap();
        db.execute("UPDATE task_unfinished SET number = number + 1000").await;
        queue.recount().await.unwrap();
        assert_eq!(db.number(COUNTED).await, 1);
        timed.close().await;
    }
}
