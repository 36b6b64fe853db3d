//! Requests under a name: carried out once, answered again, and free again when nothing came of them.

use crate::{at, open};
use forebay_store::named::{ANSWER_BYTES_MAX, Begun, Claim, GivenAnswer, NamedRequests, RequestName};
use forebay_testkit::db::TestDb;

fn named(name: &str) -> RequestName {
    RequestName {
        tenant: "acme".parse().unwrap(),
        principal: "key 00ff".to_owned(),
        route: "POST /api/v1/keys".to_owned(),
        name: name.to_owned(),
    }
}

fn answer(body: &[u8]) -> GivenAnswer {
    GivenAnswer {
        status: 201,
        body: Some(("application/json".to_owned(), body.to_vec())),
    }
}

async fn first(requests: &NamedRequests, name: &str, ms: i64) -> Claim {
    match requests.begin(&named(name), [1; 32], at(ms)).await.unwrap() {
        Begun::First(claim) => claim,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_request_is_carried_out_once_and_answered_again() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let requests = opened.store.named_requests();
        let claim = first(&requests, "one", 1_000).await;
        let again = |hash, ms| {
            let requests = requests.clone();
            async move { requests.begin(&named("one"), hash, at(ms)).await.unwrap() }
        };
        assert_eq!(again([1; 32], 1_001).await, Begun::UnderWay, "{}", db.name());
        assert_eq!(again([2; 32], 1_001).await, Begun::Different);
        requests
            .answered(&claim, answer(b"{\"id\":\"\xc3\xa4\"}"))
            .await
            .unwrap();
        let given = again([1; 32], 2_000).await;
        assert_eq!(
            given,
            Begun::Answered(answer(b"{\"id\":\"\xc3\xa4\"}")),
            "{}",
            db.name()
        );
        assert_eq!(again([2; 32], 2_000).await, Begun::Different);
        for other in [
            RequestName {
                tenant: "other".parse().unwrap(),
                ..named("one")
            },
            RequestName {
                principal: "key 0100".to_owned(),
                ..named("one")
            },
            RequestName {
                route: "POST /api/v1/tools".to_owned(),
                ..named("one")
            },
        ] {
            let begun = requests.begin(&other, [1; 32], at(2_000)).await.unwrap();
            assert!(matches!(begun, Begun::First(_)), "{other:?} is somebody else's");
        }
        let day = 24 * 3_600_000;
        assert_eq!(
            again([1; 32], 999 + day).await,
            Begun::Answered(answer(b"{\"id\":\"\xc3\xa4\"}"))
        );
        assert!(
            matches!(again([2; 32], 1_000 + day).await, Begun::First(_)),
            "remembered for a day"
        );
        opened.close().await;
    }
}

#[tokio::test]
async fn of_many_who_send_it_at_once_one_carries_it_out() {
    for db in TestDb::both().await {
        let (one, two) = (open(&db).await, open(&db).await);
        let (a, b) = (one.store.named_requests(), two.store.named_requests());
        for round in 0..20 {
            let name = named(&format!("r{round}"));
            let sent = (0..8).map(|n| {
                let requests = if n % 2 == 0 { &a } else { &b };
                requests.begin(&name, [1; 32], at(1_000))
            });
            let begun = futures_util::future::join_all(sent).await;
            let firsts = begun
                .into_iter()
                .map(Result::unwrap)
                .filter(|one| matches!(one, Begun::First(_)));
            assert_eq!(firsts.count(), 1, "{}", db.name());
        }
        one.close().await;
        two.close().await;
    }
}

#[tokio::test]
async fn what_came_to_nothing_may_be_done_again_and_what_was_lost_may_not() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let requests = opened.store.named_requests();
        let claim = first(&requests, "failed", 1_000).await;
        requests.release(&claim).await.unwrap();
        first(&requests, "failed", 1_001).await;

        let lost = first(&requests, "lost", 1_000).await;
        let begin = async |hash, ms| requests.begin(&named("lost"), hash, at(ms)).await.unwrap();
        let minutes = |n: i64| 1_000 + n * 60_000;
        assert_eq!(begin([1; 32], minutes(2) - 1).await, Begun::UnderWay);
        // It is still at it.
        requests.renew(&lost, at(minutes(9))).await.unwrap();
        assert_eq!(begin([1; 32], minutes(11) - 1).await, Begun::UnderWay, "{}", db.name());
        // It is not heard of any more, and may have done what it was to do.
        assert_eq!(begin([1; 32], minutes(11)).await, Begun::Lost, "{}", db.name());
        assert_eq!(begin([2; 32], minutes(11)).await, Begun::Different);
        assert_eq!(begin([1; 32], minutes(24 * 60) - 1).await, Begun::Lost);
        // It was only slow.
        requests.answered(&lost, answer(b"late")).await.unwrap();
        assert_eq!(begin([1; 32], minutes(12)).await, Begun::Answered(answer(b"late")));

        first(&requests, "gone", 1_000).await;
        let day_after = first(&requests, "gone", minutes(24 * 60)).await;
        let other = first(&requests, "other", minutes(24 * 60)).await;
        requests.answered(&other, answer(b"right")).await.unwrap();
        requests.renew(&other, at(minutes(1))).await.unwrap();
        assert_ne!(day_after, other);
        opened.close().await;
    }
}

#[tokio::test]
async fn secrets_and_what_is_too_large_are_known_to_have_been_given_and_no_more() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let requests = opened.store.named_requests();
        for (name, body) in [
            ("secret", None),
            ("large", answer(&vec![b'x'; ANSWER_BYTES_MAX + 1]).body),
        ] {
            let claim = first(&requests, name, 1_000).await;
            requests
                .answered(&claim, GivenAnswer { status: 201, body })
                .await
                .unwrap();
            let given = requests.begin(&named(name), [1; 32], at(1_001)).await.unwrap();
            assert_eq!(
                given,
                Begun::Answered(GivenAnswer {
                    status: 201,
                    body: None
                })
            );
        }
        let day = 24 * 3_600_000;
        assert_eq!(requests.sweep(at(999 + day)).await.unwrap(), 0);
        assert_eq!(requests.sweep(at(1_000 + day)).await.unwrap(), 2, "{}", db.name());
        opened.close().await;
    }
}
