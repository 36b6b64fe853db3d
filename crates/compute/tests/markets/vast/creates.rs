//! Renting: each way in which it can end, and that it is asked once.

use super::world::{World, order};
use forebay_compute::market::{Created, Market, MarketFault, Order};
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Is {
    Gone,
    NoCredit,
    Refused,
    LockedOut,
    Limited,
    Ambiguous,
    /// And its id is known.
    Named,
}

fn kind(created: &Created) -> Option<Is> {
    Some(match created {
        Created::Confirmed { .. } => return None,
        Created::Refused(MarketFault::OfferGone(_)) => Is::Gone,
        Created::Refused(MarketFault::NoCredit(_)) => Is::NoCredit,
        Created::Refused(MarketFault::LockedOut(_)) => Is::LockedOut,
        Created::Refused(MarketFault::RateLimited { .. }) => Is::Limited,
        Created::Refused(_) => Is::Refused,
        Created::Ambiguous { id: None, .. } => Is::Ambiguous,
        Created::Ambiguous { id: Some(_), .. } => Is::Named,
    })
}

#[tokio::test(start_paused = true)]
async fn a_machine_is_rented_as_it_was_ordered() {
    let world = World::new().await;
    let id = world.rented("fb:acme:01JD3ZK7XW5Q").await;
    let seen = world.fake.seen_at("create");
    assert_eq!(seen.len(), 1);
    assert_eq!(
        (seen[0].method.as_str(), seen[0].path.as_str()),
        ("PUT", "/api/v0/asks/21874411/")
    );
    let body = seen[0].json();
    assert!(body.get("price").is_none(), "a price would make it interruptible");
    assert_eq!(body["cancel_unavail"], true);
    let machine = world.market.machine(&id).await.unwrap().expect("it is there");
    assert_eq!(machine.label, "fb:acme:01JD3ZK7XW5Q");
    assert_eq!((world.fake.created(), world.fake.live()), (1, 1));
}

/// Every fault of a create. Whatever it is called, the truth is with the fake: what was made is never taken for refused.
#[tokio::test(start_paused = true)]
async fn each_fault_of_a_create_means_one_thing_and_is_asked_once() {
    for (fault, expected) in [
        ("gone-400", Is::Gone),
        ("gone-404", Is::Gone),
        ("gone-410", Is::Gone),
        ("no-credit", Is::NoCredit),
        ("success-false", Is::Refused),
        ("auth-401", Is::LockedOut),
        ("auth-403", Is::LockedOut),
        ("auth-404", Is::LockedOut),
        ("429-text", Is::Limited),
        ("429-detail", Is::Limited),
        ("429-header", Is::Limited),
        ("429-body", Is::Limited),
        ("bare-404", Is::Refused),
        ("error-with-contract", Is::Named),
        ("without-id", Is::Ambiguous),
        ("drop-before", Is::Ambiguous),
        ("drop-after", Is::Ambiguous),
        ("truncated", Is::Ambiguous),
        ("empty", Is::Ambiguous),
        ("garbage", Is::Ambiguous),
        ("endless", Is::Ambiguous),
        ("empty-500", Is::Ambiguous),
        ("html-502", Is::Ambiguous),
        ("empty-503", Is::Ambiguous),
        ("html-404", Is::Ambiguous),
        ("done-500", Is::Ambiguous),
        ("done-json-500", Is::Ambiguous),
        ("done-504", Is::Ambiguous),
        ("held", Is::Ambiguous),
        ("held-after", Is::Ambiguous),
    ] {
        let world = World::new().await;
        world.fault("create", fault, Some(1));
        let created = world.rent("fb:acme:1").await;
        assert_eq!(kind(&created), Some(expected), "{fault}: {created:?}");
        assert_eq!(world.fake.seen_at("create").len(), 1, "{fault} was asked again");
        let is_refused = matches!(created, Created::Refused(_));
        assert!(
            !(is_refused && world.fake.created() > 0),
            "{fault} was made and taken for refused"
        );
        if let Created::Ambiguous { id: Some(id), .. } = &created {
            assert_eq!(
                world
                    .fake
                    .with(|vast| vast.newest().map(|made| made.id.to_string()))
                    .as_ref(),
                Some(id)
            );
        }
        // What is open is found by its label.
        tokio::time::advance(Duration::from_mins(10)).await;
        let found = world.market.machines().await.unwrap();
        assert_eq!(found.len(), world.fake.live(), "{fault}");
        assert!(found.iter().all(|machine| machine.label == "fb:acme:1"), "{fault}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slot_is_rented_once() {
    for status in [410, 400, 404] {
        let world = World::new().await;
        world.fake.with(|vast| vast.gone_status = status);
        world.rented("fb:acme:1").await;
        let second = world.rent("fb:acme:2").await;
        assert_eq!(kind(&second), Some(Is::Gone), "{status}: {second:?}");
        assert_eq!(world.fake.created(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn where_nobody_listens_nothing_was_sent() {
    let world = World::new().await;
    let url = world.fake.url();
    drop(world);
    let market = super::world::client(&url, "key");
    // The listener goes with its task; until then connections end without an answer.
    loop {
        match market.create(&order("fb:acme:1")).await {
            Created::Refused(MarketFault::Unreachable(_)) => return,
            Created::Ambiguous { .. } => tokio::task::yield_now().await,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_order_that_cannot_be_is_not_sent() {
    let world = World::new().await;
    for order in [
        Order {
            offer: "../users".to_owned(),
            ..order("a")
        },
        Order {
            label: "l".repeat(300),
            ..order("a")
        },
        Order {
            on_start: Some("x".repeat(5_000)),
            ..order("a")
        },
        Order {
            env: [("-v /:/host".to_owned(), "1".to_owned())].into(),
            ..order("a")
        },
    ] {
        let created = world.market.create(&order).await;
        assert_eq!(kind(&created), Some(Is::Refused), "{created:?}");
    }
    assert!(world.fake.seen().is_empty());
}
