//! Whatever the provider does, nothing is taken for gone unless it says so to somebody whom it lets in.

use super::world::World;
use forebay_compute::market::{Market, MarketFault};
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Is {
    LockedOut,
    Limited,
    Broken,
    Unreachable,
}

fn kind(fault: &MarketFault) -> Option<Is> {
    match fault {
        MarketFault::LockedOut(_) => Some(Is::LockedOut),
        MarketFault::RateLimited { .. } => Some(Is::Limited),
        MarketFault::Broken(_) => Some(Is::Broken),
        MarketFault::Unreachable(_) => Some(Is::Unreachable),
        MarketFault::OfferGone(_)
        | MarketFault::NoCredit(_)
        | MarketFault::Refused(_)
        | MarketFault::Unsupported(_) => None,
    }
}

const FAULTS: [(&str, Is); 20] = [
    ("done-json-500", Is::Broken),
    ("auth-404", Is::LockedOut),
    ("auth-401", Is::LockedOut),
    ("auth-403", Is::LockedOut),
    ("429-text", Is::Limited),
    ("429-detail", Is::Limited),
    ("429-header", Is::Limited),
    ("429-body", Is::Limited),
    ("bare-404", Is::Broken),
    ("html-404", Is::Broken),
    ("empty", Is::Broken),
    ("garbage", Is::Broken),
    ("endless", Is::Broken),
    ("empty-500", Is::Broken),
    ("html-502", Is::Broken),
    ("empty-503", Is::Broken),
    ("drop-before", Is::Unreachable),
    ("drop-after", Is::Unreachable),
    ("truncated", Is::Unreachable),
    ("held", Is::Unreachable),
];

#[tokio::test(start_paused = true)]
async fn no_fault_of_a_list_or_a_look_up_is_an_absence() {
    for (fault, expected) in FAULTS {
        let world = World::new().await;
        let id = world.rented("fb:acme:1").await;
        // However often it is asked again.
        world.fault("list", fault, None);
        let failed = world.market.machines().await.unwrap_err();
        assert_eq!(kind(&failed), Some(expected), "list, {fault}: {failed:?}");
        assert!(failed.is_blind(), "list, {fault}: {failed:?}");
        world.fault("show", fault, None);
        let failed = world.market.machine(&id).await.unwrap_err();
        assert_eq!(kind(&failed), Some(expected), "show, {fault}: {failed:?}");
        assert!(failed.is_blind(), "show, {fault}: {failed:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_fault_of_a_destroy_is_its_success() {
    for (fault, _) in FAULTS {
        let world = World::new().await;
        let id = world.rented("fb:acme:1").await;
        world.fault("destroy", fault, None);
        let failed = world.market.destroy(&id).await.unwrap_err();
        assert!(failed.is_blind(), "{fault}: {failed:?}");
        assert_eq!(world.fake.seen_at("destroy").len(), 1, "{fault} was asked again");
    }
}

/// A key that was rotated elsewhere: 404 for everything, and not one machine is written off.
#[tokio::test(start_paused = true)]
async fn a_rotated_key_is_no_end_of_machines() {
    let world = World::new().await;
    let id = world.rented("fb:acme:1").await;
    world.fake.with(|vast| "another key".clone_into(&mut vast.key));
    tokio::time::advance(Duration::from_secs(10)).await;
    let locked_out =
        |fault: &MarketFault| matches!(fault, MarketFault::LockedOut(words) if words == "Invalid user key");
    assert!(world.market.machines().await.is_err_and(|fault| locked_out(&fault)));
    assert!(world.market.machine(&id).await.is_err_and(|fault| locked_out(&fault)));
    assert!(world.market.destroy(&id).await.is_err_and(|fault| locked_out(&fault)));
    assert_eq!(world.fake.live(), 1);
}

/// The first page came, a later one did not: that is no list.
#[tokio::test(start_paused = true)]
async fn part_of_a_list_is_none() {
    for fault in [
        "drop-after",
        "empty-503",
        "garbage",
        "auth-404",
        "short-page",
        "null-list",
        "truncated",
        "429-text",
    ] {
        let world = World::with(60).await;
        let now = world.fake.now();
        world
            .fake
            .with(|vast| (0..40).map(|_| vast.add_stranger("by-hand", now)).last());
        world.fault("list", "pass", Some(1));
        world.fault("list", fault, None);
        let failed = world.market.machines().await.unwrap_err();
        assert!(failed.is_blind(), "{fault}: {failed:?}");
        world.fake.no_more_faults();
        tokio::time::advance(Duration::from_mins(5)).await;
        assert_eq!(world.market.machines().await.unwrap().len(), 40, "{fault}");
    }
}

/// An instance went or came between two pages: the next reading is whole, and nobody has to wait for the next look.
#[tokio::test(start_paused = true)]
async fn a_list_that_changed_while_it_was_read_is_read_again_at_once() {
    let world = World::with(60).await;
    let now = world.fake.now();
    world
        .fake
        .with(|vast| (0..40).map(|_| vast.add_stranger("by-hand", now)).last());
    world.fault("list", "pass", Some(1));
    world.fault("list", "short-page", Some(1));
    assert_eq!(world.market.machines().await.unwrap().len(), 40);
    assert_eq!(world.fake.seen_at("list").len(), 4, "two pages, twice");
    tokio::time::advance(Duration::from_secs(10)).await;
    world.fault("list", "short-page", None);
    assert!(world.market.machines().await.unwrap_err().is_blind());
    assert_eq!(world.fake.seen_at("list").len(), 4 + 6, "and not for ever");
}

#[tokio::test(start_paused = true)]
async fn a_list_without_end_is_given_up() {
    let world = World::with(60).await;
    let now = world.fake.now();
    world
        .fake
        .with(|vast| (0..40).map(|_| vast.add_stranger("by-hand", now)).last());
    world.fault("list", "same-token", None);
    let failed = world.market.machines().await.unwrap_err();
    assert!(matches!(failed, MarketFault::Broken(_)), "{failed:?}");
    assert!(world.fake.seen_at("list").len() < 5);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_is_down_is_unreachable_and_comes_back() {
    let world = World::new().await;
    let id = world.rented("fb:acme:1").await;
    world.fake.set_down(true);
    let failed = world.market.machine(&id).await.unwrap_err();
    assert_eq!(kind(&failed), Some(Is::Unreachable));
    world.fake.set_down(false);
    assert!(world.market.machine(&id).await.unwrap().is_some());
}
