//! Submitting, claiming, settling, cancelling, queueing again and forgetting, one at a time.

use super::{LEASE, Timed, claim, claim_of, claim_one, done, failed, owner, query, scope, work};
use crate::at;
use bytes::Bytes;
use forebay_domain::{
    Code, Failure,
    model::Priority,
    task::{DEAD_KEPT_MS, Ended, Needs, Offer, Refusal, Retry, State},
};
use forebay_store::queue::{Body, NewTask, Scope, TaskError, TaskQuery};
use forebay_testkit::db::TestDb;
use std::time::Duration;

#[tokio::test]
async fn a_task_is_run_once_and_keeps_its_result() {
    for db in TestDb::both().await {
        let timed = Timed::open(&db).await;
        let queue = timed.queue();
        let (mut changes, ready) = (queue.changes(), queue.ready());
        let large = format!(r#"{{"text":"{}"}}"#, "é".repeat(200_000));
        let new = NewTask {
            input: Bytes::from(large.clone()),
            context_id: Some("c1".to_owned()),
            ..work("a")
        };
        let submitted = queue.submit(new).await.unwrap();
        assert_eq!((submitted.state, submitted.is_repeat), (State::Pending, false));
        assert!(ready.has_changed().unwrap(), "whoever waits for work is told");
        assert_eq!(changes.recv().await.unwrap().state, State::Pending);

        let one = claim_one(&queue, "a").await;
        assert_eq!(
            (one.task.id.clone(), &one.input[..]),
            (submitted.id.clone(), large.as_bytes())
        );
        assert_eq!((one.task.attempts, one.task.state), (1, State::Running));
        assert_eq!(one.task.owner, owner("acme", "ann"));
        assert!(claim(&queue, "a", 9).await.is_empty(), "it is somebody's");

        let settled = queue.settle(&submitted.id, one.fence, done()).await.unwrap();
        assert_eq!((settled.state, settled.is_repeat), (State::Completed, false));
        let again = queue.settle(&submitted.id, one.fence, failed(false)).await.unwrap();
        assert_eq!((again.state, again.is_repeat), (State::Completed, true));

        let task = queue
            .get(&scope("acme"), &submitted.id, Body::Both)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(task.output.as_deref(), Some(&br#"{"ok":true}"#[..]));
        assert_eq!(task.input.as_deref(), Some(large.as_bytes()));
        assert_eq!(task.expires_at, Some(at(timed.now_ms() + 24 * 3_600_000)));
        assert_eq!(task.context_id.as_deref(), Some("c1"));
        assert!(
            queue
                .get(&scope("zeta"), &submitted.id, Body::Output)
                .await
                .unwrap()
                .is_none()
        );

        timed.clock.advance(Duration::from_hours(24));
        assert_eq!(queue.prune().await.unwrap(), 1);
        assert_eq!(db.number("SELECT COUNT(*) FROM task_input").await, 0, "{}", db.name());
        timed.close().await;
    }
}

#[tokio::test]
async fn what_fails_too_often_is_dead_until_somebody_wants_it_back() {
    for db in TestDb::both().await {
        let timed = Timed::open(&db).await;
        let queue = timed.queue();
        let retry = Retry {
            attempts_max: 2,
            ..Retry::default()
        };
        let id = queue.submit(NewTask { retry, ..work("a") }).await.unwrap().id;
        let one = claim_one(&queue, "a").await;
        assert_eq!(
            queue.settle(&id, one.fence, failed(true)).await.unwrap().state,
            State::Scheduled
        );
        let early = queue.requeue(&scope("acme"), &id).await.unwrap_err();
        assert!(matches!(early, TaskError::Refused(Refusal::Unfinished)));
        timed.clock.advance(Duration::from_secs(1));
        let two = claim_one(&queue, "a").await;
        assert_eq!(
            queue.settle(&id, two.fence, failed(true)).await.unwrap().state,
            State::Dead
        );
        let dead = queue.get(&Scope::All, &id, Body::Output).await.unwrap().unwrap();
        assert_eq!(dead.error.unwrap().code, "upstream_failed");
        assert_eq!(
            dead.expires_at,
            Some(at(timed.now_ms() + DEAD_KEPT_MS)),
            "longer than results"
        );

        let other = queue.requeue(&scope("zeta"), &id).await.unwrap_err();
        assert_eq!(Failure::from(other).code, Code::UnknownTask);
        assert_eq!(queue.requeue(&scope("acme"), &id).await.unwrap(), State::Pending);
        let three = claim_one(&queue, "a").await;
        assert_eq!(three.task.attempts, 1);
        assert_eq!(
            queue.settle(&id, three.fence, failed(false)).await.unwrap().state,
            State::Failed
        );
        assert_eq!(queue.requeue(&Scope::All, &id).await.unwrap(), State::Pending);
        timed.close().await;
    }
}

#[tokio::test]
async fn cancelling_ends_what_waits_and_tells_who_runs() {
    for db in TestDb::both().await {
        let timed = Timed::open(&db).await;
        let queue = timed.queue();
        let ahead = NewTask {
            run_at: Some(at(timed.now_ms() + 60_000)),
            ..work("a")
        };
        let later = queue.submit(ahead).await.unwrap();
        assert_eq!(later.state, State::Scheduled);
        let id = queue.submit(work("a")).await.unwrap().id;
        let one = claim_one(&queue, "a").await;
        assert_eq!(queue.cancel(&scope("acme"), &later.id).await.unwrap(), State::Cancelled);
        assert_eq!(queue.cancel(&scope("acme"), &later.id).await.unwrap(), State::Cancelled);
        assert_eq!(queue.cancel(&scope("acme"), &id).await.unwrap(), State::Running);
        let beat = &queue.heartbeat(&[(id.clone(), one.fence)], LEASE).await.unwrap()[0];
        assert!(beat.still_mine && beat.cancel_wanted);
        assert_eq!(
            queue.settle(&id, one.fence, failed(true)).await.unwrap().state,
            State::Cancelled,
            "it is not tried again"
        );

        let id = queue.submit(work("a")).await.unwrap().id;
        let one = claim_one(&queue, "a").await;
        queue.cancel(&Scope::All, &id).await.unwrap();
        assert_eq!(
            queue.settle(&id, one.fence, done()).await.unwrap().state,
            State::Completed,
            "it was too late"
        );
        let late = queue.cancel(&Scope::All, &id).await.unwrap_err();
        assert!(matches!(late, TaskError::Refused(Refusal::Finished)));
        timed.clock.advance(Duration::from_mins(2));
        assert!(claim(&queue, "a", 9).await.is_empty(), "{}", db.name());
        timed.close().await;
    }
}

#[tokio::test]
async fn what_is_given_back_is_somebody_elses_at_once() {
    for db in TestDb::both().await {
        let timed = Timed::open(&db).await;
        let queue = timed.queue();
        let retry = Retry {
            attempts_max: 2,
            ..Retry::default()
        };
        let id = queue.submit(NewTask { retry, ..work("a") }).await.unwrap().id;
        for (ended, attempts) in [(Ended::Unbegun, 1), (Ended::Unbegun, 1), (Ended::GivenBack, 1)] {
            let one = claim_one(&queue, "a").await;
            assert_eq!(one.task.attempts, attempts);
            assert_eq!(queue.settle(&id, one.fence, ended).await.unwrap().state, State::Pending);
        }
        let last = claim_one(&queue, "a").await;
        assert_eq!(last.task.attempts, 2);
        assert_eq!(
            queue.settle(&id, last.fence, Ended::GivenBack).await.unwrap().state,
            State::Dead
        );
        timed.close().await;
    }
}

#[tokio::test]
async fn only_who_has_what_it_needs_gets_it() {
    for db in TestDb::both().await {
        let timed = Timed::open(&db).await;
        let queue = timed.queue();
        let needs = |words: &[&str], memory_mib| Needs {
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            memory_mib,
        };
        let all = [
            needs(&[], 0),
            needs(&["gpu"], 0),
            needs(&["gpu", "linux"], 100),
            needs(&[], 4_000),
            needs(&["a\"b"], 0),
        ];
        let mut ids = Vec::new();
        for needs in &all {
            let needs = needs.clone();
            ids.push(queue.submit(NewTask { needs, ..work("a") }).await.unwrap().id);
        }
        for (words, memory_mib) in [
            (&[][..], 0),
            (&["gpu"], 99),
            (&["linux", "gpu"], 100),
            (&["a\"b"], 5_000),
        ] {
            let has = needs(words, memory_mib);
            let offer = Offer {
                words: has.words,
                memory_mib,
            };
            let claim = forebay_store::queue::Claim {
                offer: offer.clone(),
                ..claim_of("w", &[("a", 9)], 9)
            };
            let claimed = queue.claim(claim).await.unwrap();
            let fitting = ids.iter().zip(&all).filter(|(_, needs)| needs.fit(&offer));
            let mut expected: Vec<_> = fitting.map(|(id, _)| id.clone()).collect();
            let mut found: Vec<_> = claimed.iter().map(|one| one.task.id.clone()).collect();
            expected.sort();
            found.sort();
            assert_eq!(found, expected, "{}: {words:?}", db.name());
            for one in claimed {
                queue.settle(&one.task.id, one.fence, Ended::Unbegun).await.unwrap();
            }
        }
        timed.close().await;
    }
}

#[tokio::test]
async fn what_somebody_waits_for_is_theirs_for_a_while() {
    for db in TestDb::both().await {
        let timed = Timed::open(&db).await;
        let queue = timed.queue();
        let wanted = NewTask {
            wanted_by: Some(("me".parse().unwrap(), at(timed.now_ms() + 5_000))),
            ..work("a")
        };
        queue.submit(wanted.clone()).await.unwrap();
        assert!(queue.claim(claim_of("you", &[("a", 1)], 1)).await.unwrap().is_empty());
        assert_eq!(queue.claim(claim_of("me", &[("a", 1)], 1)).await.unwrap().len(), 1);
        queue.submit(wanted).await.unwrap();
        timed.clock.advance(Duration::from_secs(5));
        assert_eq!(
            queue.claim(claim_of("you", &[("a", 1)], 1)).await.unwrap().len(),
            1,
            "{}",
            db.name()
        );
        timed.close().await;
    }
}

#[tokio::test]
async fn a_list_shows_the_newest_first_and_what_waits_is_counted() {
    for db in TestDb::both().await {
        let timed = Timed::open(&db).await;
        let queue = timed.queue();
        let mut ids = Vec::new();
        for number in 0..5 {
            let new = NewTask {
                priority: if number == 0 { Priority::Low } else { Priority::High },
                ..work(if number < 3 { "a" } else { "b" })
            };
            ids.push(queue.submit(new).await.unwrap().id);
            timed.clock.advance(Duration::from_secs(1));
        }
        queue
            .submit(NewTask {
                owner: owner("zeta", "zoe"),
                ..work("a")
            })
            .await
            .unwrap();
        claim(&queue, "b", 1).await;

        let mut page = queue
            .list(&TaskQuery {
                limit: 2,
                ..query(scope("acme"))
            })
            .await
            .unwrap();
        let mut seen: Vec<_> = page.tasks.into_iter().map(|task| task.id).collect();
        while let Some(after) = page.next {
            let next = TaskQuery {
                limit: 2,
                after: Some(after),
                ..query(scope("acme"))
            };
            page = queue.list(&next).await.unwrap();
            seen.extend(page.tasks.into_iter().map(|task| task.id));
        }
        ids.reverse();
        assert_eq!(seen, ids);
        let running = TaskQuery {
            state: Some(State::Running),
            task_type: Some("b".parse().unwrap()),
            ..query(scope("acme"))
        };
        assert_eq!(queue.list(&running).await.unwrap().tasks.len(), 1);

        let counts: Vec<String> = queue
            .counts()
            .await
            .unwrap()
            .iter()
            .map(|one| {
                let age = timed.now_ms() - one.oldest.as_millisecond();
                let (of, priority) = (one.task_type.as_str(), one.priority.as_str());
                format!("{of} {priority} {} {} {age}", one.state.as_str(), one.count)
            })
            .collect();
        assert_eq!(
            counts,
            [
                "a low pending 1 5000",
                "a medium pending 1 0",
                "a high pending 2 4000",
                "b high pending 1 1000",
                "b high running 1 2000"
            ]
        );
        timed.close().await;
    }
}

#[tokio::test]
async fn gateways_on_one_postgres_hear_of_each_others_work() {
    let db = TestDb::postgres().await;
    let both = [Timed::open(&db).await, Timed::open(&db).await];
    let mut ready = both[1].queue().ready();
    // Listening begins a moment after the store is open, which counts as news too.
    ready.changed().await.unwrap();
    let submitted = both[0].queue().submit(work("a")).await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), ready.changed())
        .await
        .expect("the other gateway tells")
        .unwrap();
    assert_eq!(claim_one(&both[1].queue(), "a").await.task.id, submitted.id);
    for one in both {
        one.close().await;
    }
}
