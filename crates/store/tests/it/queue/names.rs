//! Names of tasks: whose they are, and what sending the same again does.

use super::{Timed, claim, claim_one, done, failed, failed_of, principal, query, work};
use crate::{at, trace};
use bytes::Bytes;
use forebay_domain::{
    Code, Failure, Principal, Role,
    task::{Ended, Retry, State, TaskOwner},
};
use forebay_store::queue::{Body, NewTask, Scope, SubmitError, TaskError};
use forebay_testkit::db::TestDb;
use std::time::Duration;

fn named() -> NewTask {
    NewTask {
        idempotency_key: Some("k".to_owned()),
        ..work("a")
    }
}

fn of(principal: &Principal) -> NewTask {
    NewTask {
        owner: TaskOwner::of(principal),
        ..named()
    }
}

#[tokio::test]
async fn a_name_is_one_task() {
    for db in TestDb::both().await {
        let timed = Timed::open(&db).await;
        let queue = timed.queue();
        let (first, second) = tokio::join!(queue.submit(named()), queue.submit(named()));
        let (first, second) = (first.unwrap(), second.unwrap());
        assert_eq!(first.id, second.id);
        assert!(first.is_repeat != second.is_repeat, "one of them is new");
        let other = NewTask {
            input: Bytes::from_static(b"2"),
            ..named()
        };
        let refused = queue.submit(other).await.unwrap_err();
        assert!(matches!(refused, SubmitError::Reused), "{refused}");
        assert_eq!(Failure::from(refused).code, Code::IdempotencyKeyReused);
        assert_eq!(db.number("SELECT COUNT(*) FROM task").await, 1);
        timed.close().await;
    }
}

#[tokio::test]
async fn a_name_is_its_senders_own() {
    for db in TestDb::both().await {
        let timed = Timed::open(&db).await;
        let queue = timed.queue();
        let ann = principal("acme", "ann");
        let first = queue.submit(of(&ann)).await.unwrap();
        let others = [
            principal("zeta", "ann"),
            principal("acme", "bob"),
            Principal {
                project: Some("other".parse().unwrap()),
                ..ann.clone()
            },
            Principal {
                key: None,
                ..ann.clone()
            },
        ];
        for other in &others {
            let input = Bytes::from_static(b"2");
            let theirs = queue.submit(NewTask { input, ..of(other) }).await.unwrap();
            assert!(!theirs.is_repeat, "{}: {other:?}", db.name());
            assert_eq!(queue.named(&Scope::own(other), "k").await.unwrap(), Some(theirs.id));
        }
        // Another key of the same name is the same somebody.
        let renewed = Principal {
            key: Some("k2".parse().unwrap()),
            ..ann.clone()
        };
        let again = queue.submit(of(&renewed)).await.unwrap();
        assert_eq!((again.id, again.is_repeat), (first.id.clone(), true));
        assert_eq!(queue.named(&Scope::own(&ann), "k").await.unwrap(), Some(first.id));
        assert_eq!(queue.named(&Scope::own(&ann), "l").await.unwrap(), None);
        timed.close().await;
    }
}

#[tokio::test]
async fn what_failed_in_passing_is_tried_again_when_it_is_sent_again() {
    for db in TestDb::both().await {
        let timed = Timed::open(&db).await;
        let queue = timed.queue();
        let once = NewTask {
            retry: Retry::NEVER,
            input: Bytes::from(format!(r#""{}""#, "x".repeat(5_000))),
            lane: Some("l".to_owned()),
            ..named()
        };
        let first = queue.submit(once.clone()).await.unwrap();
        for (code, retryable) in [
            ("context_limit", false),
            ("overloaded", true),
            ("spending_limit_exceeded", false),
        ] {
            let run = claim_one(&queue, "a").await;
            queue
                .settle(&first.id, run.fence, failed_of(code, retryable))
                .await
                .unwrap();
            let mut changes = queue.changes();
            let again = queue.submit(once.clone()).await.unwrap();
            assert_eq!(
                (again.id.clone(), again.state, again.is_repeat),
                (first.id.clone(), State::Pending, false),
                "{}: {code}",
                db.name()
            );
            assert_eq!(
                changes.recv().await.unwrap().state,
                State::Pending,
                "whoever waits is told"
            );
            let task = queue.get(&Scope::All, &first.id, Body::Both).await.unwrap().unwrap();
            assert_eq!((task.attempts, task.error, task.completed_at), (0, None, None));
            assert_eq!(task.input.unwrap().len(), 5_002);
            let repeat = queue.submit(once.clone()).await.unwrap();
            assert!(repeat.is_repeat, "it is under way");
        }
        // It runs as whoever sent it last, and at the time that they want.
        let run = claim_one(&queue, "a").await;
        queue
            .settle(&first.id, run.fence, failed_of("overloaded", true))
            .await
            .unwrap();
        let demoted = Principal {
            key: Some("k2".parse().unwrap()),
            role: Role::Viewer,
            ..principal("acme", "ann")
        };
        let later = NewTask {
            owner: TaskOwner::of(&demoted),
            run_at: Some(at(timed.now_ms() + 1_000)),
            trace: trace(2),
            ..once.clone()
        };
        let again = queue.submit(later.clone()).await.unwrap();
        assert_eq!((again.state, again.is_repeat), (State::Scheduled, false));
        assert!(claim(&queue, "a", 1).await.is_empty());
        timed.clock.advance(Duration::from_secs(1));
        let run = claim_one(&queue, "a").await;
        assert_eq!((run.task.owner, run.task.trace), (later.owner, trace(2)));
        assert_eq!(run.input.len(), 5_002);
        queue.settle(&first.id, run.fence, done()).await.unwrap();
        assert_eq!(queue.submit(once).await.unwrap().state, State::Completed);
        assert_eq!(db.number("SELECT COUNT(*) FROM task").await, 1);
        timed.close().await;
    }
}

#[tokio::test]
async fn what_failed_for_good_is_told_when_it_is_sent_again() {
    for db in TestDb::both().await {
        let timed = Timed::open(&db).await;
        let queue = timed.queue();
        let endings = [
            (Retry::default(), failed(false), State::Failed),
            (Retry::NEVER, failed(true), State::Dead),
            (Retry::NEVER, Ended::GivenBack, State::Dead),
            (Retry::default(), Ended::Cancelled, State::Cancelled),
            (Retry::default(), done(), State::Completed),
        ];
        for (number, (retry, ended, state)) in endings.into_iter().enumerate() {
            let new = NewTask {
                idempotency_key: Some(number.to_string()),
                retry,
                ..work("a")
            };
            let first = queue.submit(new.clone()).await.unwrap();
            let run = claim_one(&queue, "a").await;
            assert_eq!(queue.settle(&first.id, run.fence, ended).await.unwrap().state, state);
            let again = queue.submit(new).await.unwrap();
            assert_eq!((again.id, again.state, again.is_repeat), (first.id, state, true));
        }
        assert!(claim(&queue, "a", 9).await.is_empty(), "{}", db.name());
        timed.close().await;
    }
}

#[tokio::test]
async fn a_subject_of_that_name_in_another_project_or_of_a_token_is_somebody_else() {
    for db in TestDb::both().await {
        let timed = Timed::open(&db).await;
        let queue = timed.queue();
        let ann = principal("acme", "ann");
        let id = queue.submit(work("a")).await.unwrap().id;
        let strangers = [
            Principal {
                project: Some("other".parse().unwrap()),
                ..ann.clone()
            },
            Principal {
                key: None,
                ..ann.clone()
            },
            principal("acme", "bob"),
            principal("zeta", "ann"),
        ];
        for stranger in strangers {
            let theirs = Scope::own(&stranger);
            let found = queue.get(&theirs, &id, Body::Both).await.unwrap();
            assert_eq!(found, None, "{stranger:?}");
            assert!(queue.list(&query(theirs.clone())).await.unwrap().tasks.is_empty());
            let refused = queue.cancel(&theirs, &id).await.unwrap_err();
            assert!(matches!(refused, TaskError::Unknown), "{refused:?}");
        }
        let own = Scope::own(&ann);
        assert!(queue.get(&own, &id, Body::Both).await.unwrap().is_some());
        assert_eq!(queue.list(&query(own.clone())).await.unwrap().tasks.len(), 1);
        assert_eq!(queue.cancel(&own, &id).await.unwrap(), State::Cancelled);
        timed.close().await;
    }
}
